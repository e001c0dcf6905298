"""Neighbours by what the data around two rows leaves of their difference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding  # rows by numbers, in a quarter of indexing's time

from ._backend import CPU
from ._batching import row_blocks
from ._threads import Workers

# The hyperplane of a row goes through so many of its nearest rows. With more of them it leaves
# small classes.
_SPANNING = 5

# Ridge of the regression on the differences to these, in units of their mean square.
RIDGE = 0.3

# Neighbours are chosen from so many of the nearest rows, or from twice as many as are wanted.
_LEAST_CANDIDATES = 30


def n_candidates(n_neighbors: int) -> int:
    """From how many of the nearest rows so many neighbours are chosen."""
    return max(_LEAST_CANDIDATES, 2 * n_neighbors)


def nearest_by_hyperplanes(
    X: np.ndarray,
    candidates: np.ndarray,
    n_neighbors: int,
    workers: Workers,
    device: torch.device = CPU,
) -> np.ndarray:
    """Of each row's `candidates`, nearest first, the nearest by hyperplanes.

    Images of one digit differ by slant and width, as their neighbours do; those of two digits by
    something else. The distance of two rows is what ridge regression on the differences of one of
    them to its nearest rows leaves of their difference, or the same of the other if that is more:
    the distance to a local hyperplane [1]_, here without classes and both ways.

    References
    ----------
    .. [1] Vincent, Bengio. "K-Local Hyperplane and Convex Distance Nearest Neighbor Algorithms".
       NIPS 2001.
    """
    n_rows, n_found = candidates.shape
    n_spanning = min(_SPANNING, n_found)
    x, found = (torch.from_numpy(array).to(device) for array in (X, candidates))
    chosen = np.empty((n_rows, min(n_neighbors, n_found)), dtype=np.int64)
    planes = _Hyperplanes.of(x, found[:, :n_spanning].long())

    def choose(rows: slice) -> None:
        others = found[rows].long()
        order = planes.distances(rows, others).argsort(dim=1, stable=True)
        chosen[rows] = others.gather(1, order[:, : chosen.shape[1]]).cpu().numpy()

    blocks = list(row_blocks(n_rows, 2 * n_found * n_spanning * X.shape[1]))
    workers.map_on(device, choose, blocks)
    return chosen


class _Hyperplanes(NamedTuple):
    """Of each row of `x`: the rows that span its hyperplane, the inverse of the products of the
    differences to these with the ridge added, and the ridge.
    """

    x: Tensor
    spanning: Tensor
    inverse: Tensor
    ridge: Tensor

    @classmethod
    def of(cls, x: Tensor, spanning: Tensor) -> _Hyperplanes:
        n_rows, n_spanning = spanning.shape
        inverse, ridge = x.new_empty(n_rows, n_spanning, n_spanning), x.new_empty(n_rows)
        identity, least = torch.eye(n_spanning).to(x), torch.finfo(x.dtype).tiny ** 0.5
        for rows in row_blocks(n_rows, n_spanning * x.shape[1]):
            differences = embedding(spanning[rows], x) - x[rows, None]
            products = differences @ differences.mT
            mean_square = products.diagonal(dim1=1, dim2=2).mean(dim=1)
            ridge[rows] = (RIDGE * mean_square).clamp_min(least)
            inverse[rows] = torch.linalg.inv(products + ridge[rows, None, None] * identity)
        return cls(x, spanning, inverse, ridge)

    def distances(self, rows: slice, others: Tensor) -> Tensor:
        """Between `rows` and so many `others` of each, squared, of shape (n_rows, n_others).

        What the hyperplanes of the ones leave of the differences, or those of the others if that
        is more.
        """
        ends, starts = embedding(others, self.x), self.x[rows, None]
        across = ends - starts
        of_rows, of_others = self.spanning[rows, None], embedding(others, self.spanning)
        # A row's hyperplane is the same for all that it is compared with: one product does.
        products = across @ (embedding(self.spanning[rows], self.x) - starts).mT
        explained = (products @ self.inverse[rows] * products).sum(dim=2)
        there = _left_over(
            across, explained, (of_rows == others[:, :, None]).any(dim=2), self.ridge[rows, None]
        )
        along = embedding(of_others, self.x).sub_(ends[:, :, None])
        products = (along @ across[..., None])[..., 0]
        explained = ((products[..., None, :] @ self.inverse[others])[..., 0, :] * products).sum(2)
        numbers = torch.arange(rows.start, rows.start + len(others), device=others.device)
        back = _left_over(
            across, explained, (of_others == numbers[:, None, None]).any(dim=2), self.ridge[others]
        )
        return torch.maximum(there, back)


def _left_over(across: Tensor, explained: Tensor, spans: Tensor, ridge: Tensor) -> Tensor:
    """Squared lengths of what is left of the differences `across`.

    A row that spans the hyperplane is left out of it, by the formula of Sherman and Morrison.
    """
    left = across.square().sum(dim=2) - explained
    return torch.where(spans, left * ridge / (ridge - left), left)
