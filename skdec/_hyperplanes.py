"""Neighbours by what the data around two rows leaves of their difference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._batching import row_blocks
from ._threads import Workers, scikit_learn_alone

# The hyperplane of a row goes through so many of its nearest rows. With more of them it leaves
# small classes.
_SPANNING = 5

# Ridge of the regression on the differences to these, in units of their mean square.
_RIDGE = 0.3

# Neighbours are chosen from so many of the nearest rows, or from twice as many as are wanted.
_LEAST_CANDIDATES = 30


class _Hyperplanes(NamedTuple):
    """Of each row: the rows that span its hyperplane, the inverse of the products of the
    differences to these with the ridge added, and the ridge.
    """

    spanning: np.ndarray
    inverse: np.ndarray
    ridge: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, spanning: np.ndarray) -> _Hyperplanes:
        n_rows, n_spanning = spanning.shape
        inverse = np.empty((n_rows, n_spanning, n_spanning), dtype=X.dtype)
        ridge, identity = np.empty(n_rows, dtype=X.dtype), np.eye(n_spanning, dtype=X.dtype)
        for rows in row_blocks(n_rows, n_spanning * X.shape[1]):
            differences = X[spanning[rows]] - X[rows, None]
            products = differences @ differences.swapaxes(1, 2)
            mean_square = np.trace(products, axis1=1, axis2=2) / n_spanning
            ridge[rows] = np.maximum(_RIDGE * mean_square, np.finfo(X.dtype).tiny ** 0.5)
            inverse[rows] = np.linalg.inv(products + ridge[rows, None, None] * identity)
        return cls(spanning, inverse, ridge)

    def left_over(self, X: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Squared lengths of what the hyperplanes of `rows` leave of the differences to `others`.

        A row that spans the hyperplane is left out of it, by the formula of Sherman and Morrison.
        """
        across, spanning = X[others] - X[rows], self.spanning[rows]
        along = X[spanning] - X[rows][..., None, :]
        products = (along @ across[..., None])[..., 0]
        explained = (products[..., None, :] @ self.inverse[rows])[..., 0, :] * products
        left = np.square(across).sum(axis=-1) - explained.sum(axis=-1)
        spans, ridge = (spanning == others[..., None]).any(axis=-1), self.ridge[rows]
        return np.divide(left * ridge, ridge - left, out=left, where=spans)


def n_candidates(n_neighbors: int) -> int:
    """From how many of the nearest rows so many neighbours are chosen."""
    return max(_LEAST_CANDIDATES, 2 * n_neighbors)


def nearest_by_hyperplanes(
    X: np.ndarray, candidates: np.ndarray, n_neighbors: int, workers: Workers
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
    chosen = np.empty((n_rows, min(n_neighbors, n_found)), dtype=np.int64)

    def choose(rows: slice) -> None:
        others = candidates[rows]
        own = np.broadcast_to(np.arange(n_rows)[rows, None], others.shape)
        there, back = planes.left_over(X, own, others), planes.left_over(X, others, own)
        order = np.argsort(np.maximum(there, back), axis=1, kind="stable")
        chosen[rows] = np.take_along_axis(others, order[:, : chosen.shape[1]], axis=1)

    with scikit_learn_alone():
        planes = _Hyperplanes.of(X, candidates[:, :n_spanning])
        blocks = list(row_blocks(n_rows, 8 * n_found * n_spanning * X.shape[1]))
        workers.map(choose, blocks)
    return chosen
