"""Where neighbours are sought, and how many: of wide rows what two halves of the features say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from ._backend import CPU
from ._batching import row_blocks
from ._components import Components, leading_components
from ._hyperplanes import n_candidates, nearest_by_hyperplanes
from ._neighbors import nearest_neighbors
from ._threads import Workers, scikit_learn_alone
from ._ties import dequantized, ties

# Rows of so many features or fewer are compared as they are, with their lengths, but for ties.
MOST_FEATURES = 100

# Of wider ones leading components are: the fewest of these numbers in which two halves of the
# features agree nearly as well as in the best one.
_N_COMPONENTS, _NEARLY = (50, 100, 200, 400, 800), 0.97

# More components than the least are not held of so many rows that they have more values (256 MB).
_MOST_VALUES = 2**26

# So many rows are enough to tell, and of so many features a random choice: they are all held.
_MOST_ROWS, _MOST_TOLD = 1_000, 2**14

# A neighbour is one of the few nearest rows by one half of the features. It is confirmed if it is
# among the many nearest by the other half.
_FEW, _MANY = 5, 20

# What n neighbours say of a row stands out from noise by the share that is confirmed times the root
# of n. Rows are trained with so many neighbours that it comes to this.
_SIGNAL_TO_NOISE, _LEAST_NEIGHBORS, _MOST_NEIGHBORS = 1.6, 5, 20


class Neighborhoods(NamedTuple):
    """In how many leading components neighbours are sought, if in any, and how many of them.

    With `by_hyperplanes` they are chosen from more of the nearest rows, by the directions to the
    very nearest. These have to be reliable for that. Components are those of `axes`, around `mean`;
    there may be more of these, for training.
    """

    n_components: int | None
    n_neighbors: int
    by_hyperplanes: bool = False
    mean: np.ndarray | None = None
    axes: np.ndarray | None = None

    def with_axes(
        self, x: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, seed: int
    ) -> Neighborhoods:
        """The same with the axes of the `rows`, at least 100 if there are so many rows.

        Narrow rows have none. `x` gives the rows with the given numbers.
        """
        if self.n_components is None:
            return self
        n_axes = max(MOST_FEATURES, self.n_components)
        if len(rows) <= n_axes:
            n_axes = self.n_components
        leading = leading_components(x, rows, seed, n_axes)
        return self._replace(mean=leading.mean, axes=leading.axes)

    def components(self, x: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Leading components of the `rows`, float32, or narrow rows as they are."""
        if self.axes is None:
            return Components(x, np.zeros(x(rows[:1]).shape[1]), None).of(rows)
        return Components(x, self.mean, self.axes[: self.n_components]).of(rows)

    def places(self, components: np.ndarray, seed: int) -> np.ndarray:
        """The rows with these `components` as they are compared; in their place.

        Of narrow rows values that several share are spread at random: gaps between the values of a
        feature are no gaps between clusters. Of wide ones it is the direction of their components.
        Their length is little where a row is mostly in other components, as a text of rare words
        is: such rows would be neighbours of all others.
        """
        narrow = self.n_components is None
        return dequantized(components, seed) if narrow else _directions(components)

    def untied(self, components: np.ndarray) -> np.ndarray:
        """The same `components`, scaled as they are compared for training; in their place.

        Squares of differences in a feature of narrow rows count by the share of pairs that differ
        in it: else the nearest rows are those that agree in every yes and no, whatever they mean,
        and not those of a cluster.
        """
        if self.n_components is None:
            components *= np.sqrt(1.0 - ties(components)).astype(components.dtype)
        return components

    def n_sought(self, n_neighbors: int) -> int:
        """Of how many of the nearest rows so many neighbours are chosen."""
        return n_candidates(n_neighbors) if self.by_hyperplanes else n_neighbors

    def chosen(
        self,
        places: np.ndarray,
        nearest: np.ndarray,
        n_neighbors: int,
        workers: Workers,
        device: torch.device = CPU,
    ) -> np.ndarray:
        """So many neighbours of each row, given its place and those `nearest` to it, in order.

        The first of these, or the nearest by hyperplanes, found on the `device`.
        """
        if not self.by_hyperplanes:
            return nearest[:, :n_neighbors]
        candidates = nearest[:, : self.n_sought(n_neighbors)]
        return nearest_by_hyperplanes(places, candidates, n_neighbors, workers, device)


# Those of narrow rows.
PLAIN = Neighborhoods(None, _LEAST_NEIGHBORS)


def neighborhoods(
    x: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    n_rows: int,
    seed: int,
    workers: Workers,
) -> Neighborhoods:
    """Number of components and neighbours for `n_rows` rows, by some with the numbers `rows`.

    The features are dealt into two halves. What both say about who is close to whom is of the rows,
    the rest is noise. Similarities of all pairs tell in how many components to look: rows that
    have little in the leading ones, as most texts, are wrongly alike there, and alike in their
    errors, which no training evens out. The nearest tell how many neighbours a row needs: the more,
    the fewer of those by one half are confirmed by the other. Images have most confirmed, texts and
    counts of single cells few. Where so many are confirmed that the least number is enough,
    neighbours are chosen by hyperplanes.
    """
    least = _N_COMPONENTS[0]
    n_features = x(rows[:1]).shape[1]
    if len(rows) <= least or n_features <= MOST_FEATURES:
        return PLAIN
    halves = _halves(x, rows, n_features, seed)
    n_varying = sum(half.shape[1] for half in halves)
    if n_varying <= least:
        return Neighborhoods(least, _LEAST_NEIGHBORS)
    most = min(len(halves[0]) - 1, n_varying // 2)
    wider = [c for c in _N_COMPONENTS[1:] if c <= most and c * n_rows <= _MOST_VALUES]
    numbers = [min(least, most), *wider]
    with scikit_learn_alone():
        spaces = workers.map(lambda half: _components(half, numbers[-1]), halves)
        agreements = [_agreement([z[:, :c] for z in spaces]) for c in numbers]
    enough = max(agreements) - (1.0 - _NEARLY) * abs(max(agreements))
    n_components = next(c for c, a in zip(numbers, agreements, strict=True) if a >= enough)
    share = _confirmed([z[:, :n_components] for z in spaces], workers)
    least_share = _SIGNAL_TO_NOISE / math.sqrt(_MOST_NEIGHBORS)
    wanted = round((_SIGNAL_TO_NOISE / max(share, least_share)) ** 2)
    n_neighbors = max(_LEAST_NEIGHBORS, wanted)
    return Neighborhoods(max(least, n_components), n_neighbors, wanted <= _LEAST_NEIGHBORS)


def _halves(
    x: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, n_features: int, seed: int
) -> list[np.ndarray]:
    """Some of the rows by either half of the features, of those that vary; float64."""
    random = np.random.default_rng(seed)
    if len(rows) > _MOST_ROWS:
        rows = np.sort(random.choice(rows, _MOST_ROWS, replace=False))
    told = random.permutation(n_features)[:_MOST_TOLD]
    X = np.concatenate([x(rows[block])[:, told] for block in row_blocks(len(rows), n_features)])
    X = X[:, np.ptp(X, axis=0) > 0].astype(np.float64)
    return np.array_split(X / np.abs(X).max(initial=np.finfo(np.float64).tiny), 2, axis=1)


def _components(half: np.ndarray, n_components: int) -> np.ndarray:
    """Leading principal components of few rows, by their products with each other."""
    centered = half - half.mean(axis=0)
    variances, directions = np.linalg.eigh(centered @ centered.T)  # the largest come last
    leading = slice(None, -n_components - 1, -1)
    return directions[:, leading] * np.sqrt(np.maximum(variances[leading], 0.0))


def _agreement(spaces: list[np.ndarray]) -> float:
    """Correlation of the similarities (cosines) of all pairs of rows in two spaces."""
    pairs = np.triu_indices(len(spaces[0]), 1)
    directions = [_directions(z.copy()) for z in spaces]
    one, other = (cosines - cosines.mean() for cosines in ((z @ z.T)[pairs] for z in directions))
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / lengths) if lengths > 0 else 0.0


def _confirmed(spaces: list[np.ndarray], workers: Workers) -> float:
    """The share of neighbours by one of two spaces that are confirmed by the other."""
    found = [nearest_neighbors(_directions(z.copy()), _MANY, workers) for z in spaces]
    pairs = [len(rows) * np.arange(len(rows))[:, None] + rows for rows in found]
    return float(np.mean([np.isin(a[:, :_FEW], b).mean() for a, b in (pairs, pairs[::-1])]))


def _directions(z: np.ndarray) -> np.ndarray:
    """The rows at length 1, in their place."""
    lengths = np.linalg.norm(z, axis=1, keepdims=True)
    return np.divide(z, lengths, out=z, where=lengths > 0)
