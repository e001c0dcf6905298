"""Rows before the network sees them: distinct rows with weights, centred on one scale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ._batching import as_float64, row_blocks

# Far outside the training data float32 products would overflow; a row that many standard
# deviations away is moved to this distance, feature by feature.
FARTHEST = 1e12


class Rows(NamedTuple):
    """Rows `index` of `X`, of shape (n_samples, n_features), each with a positive weight."""

    X: np.ndarray
    index: np.ndarray
    weight: np.ndarray

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The rows in float64, some at a time, with their positions."""
        for rows in row_blocks(len(self.index), self.X.shape[1]):
            yield rows, as_float64(self.X[self.index[rows]])


def distinct_rows(X: np.ndarray, sample_weight: np.ndarray) -> Rows:
    """Every distinct row of `X` of positive weight, once, with its summed weight (mean 1).

    The order depends on the rows' values alone. Whatever follows therefore cannot tell a
    weight of two from a row given twice, nor one order of the rows from another.
    """
    kept = np.flatnonzero(sample_weight > 0)
    # Only proportions matter; in units of about the largest, sums neither overflow nor vanish.
    # A power of two, because dividing by it is exact.
    sample_weight = np.ldexp(sample_weight, -np.frexp(sample_weight.max())[1])
    hashes = _hash_rows(X)[kept]
    # Weights take part in the order so that their sum does not depend on the rows' order.
    order = kept[np.lexsort((sample_weight[kept], hashes))]
    hashes = np.sort(hashes)
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])
    if not _equal_within_groups(X, order, starts):
        _, group = np.unique(as_float64(X[kept]), axis=0, return_inverse=True)
        by_group = np.lexsort((sample_weight[kept], group.reshape(-1)))
        order, group = kept[by_group], group.reshape(-1)[by_group]
        starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    weight = np.add.reduceat(sample_weight[order], starts)
    return Rows(X, order[starts], weight / weight.mean())


def _hash_rows(X: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row's float64 values, the same in every process."""
    random = np.random.default_rng(0)
    multipliers = random.integers(2**64, size=X.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(X), dtype=np.uint64)
    for rows in row_blocks(*X.shape):
        bits = (as_float64(X[rows]) + 0.0).view(np.uint64)  # + 0.0: one zero, not two
        bits ^= bits >> np.uint64(32)
        bits *= multipliers
        bits ^= bits >> np.uint64(29)
        hashes[rows] = bits.sum(axis=1)
    return hashes


def _equal_within_groups(X: np.ndarray, order: np.ndarray, starts: np.ndarray) -> bool:
    """Whether rows of one hash are one row, as they are unless two hashes collide."""
    is_repeat = np.ones(len(order), dtype=bool)
    is_repeat[starts] = False
    repeats = np.flatnonzero(is_repeat)
    return all(
        np.array_equal(X[order[repeats[rows]]], X[order[repeats[rows] - 1]])
        for rows in row_blocks(len(repeats), X.shape[1])
    )


class Scaling(NamedTuple):
    """x -> (x - offset) / scale: one offset a feature, one scale for all of them.

    Features keep their relative units, as in KMeans: a feature with a larger spread weighs
    more in the Euclidean distance.
    """

    offset: np.ndarray
    scale: float

    def apply(self, X: np.ndarray) -> np.ndarray:
        """`X` on the network's scale, float32."""
        with np.errstate(over="ignore"):
            scaled = (as_float64(X) - self.offset) / self.scale
        return np.clip(scaled, -FARTHEST, FARTHEST).astype(np.float32)

    def apply_to_rows(self, rows: Rows) -> np.ndarray:
        """All rows on the network's scale, float32, of shape (n_rows, n_features)."""
        scaled = np.empty((len(rows.index), rows.X.shape[1]), dtype=np.float32)
        for where, block in rows.blocks():
            scaled[where] = self.apply(block)
        return scaled

    def invert(self, scaled: np.ndarray) -> np.ndarray:
        """`scaled` on the scale of the input, float64."""
        return as_float64(scaled) * self.scale + self.offset


def fit_scaling(rows: Rows, scaling: str | None) -> Scaling:
    """The scaling that the parameter `scaling` names, from weighted rows.

    "center": mean 0 for each feature and ||x||^2 / n_features = 1 on average; "norm": the
    latter without centring, as published; "range": all values in [0, 1]; None: as they are.
    """
    nothing = np.zeros(rows.X.shape[1])
    if scaling is None:
        return Scaling(nothing, 1.0)
    lowest = np.min([block.min(axis=0) for _, block in rows.blocks()], axis=0)
    highest = np.max([block.max(axis=0) for _, block in rows.blocks()], axis=0)
    if scaling == "range":
        return Scaling(nothing + lowest.min(), float(highest.max() - lowest.min()) or 1.0)
    # Squares of 1e200 overflow and those of 1e-200 vanish: in units of the largest, neither.
    unit = max(np.abs(lowest).max(), np.abs(highest).max()) or 1.0
    share = rows.weight / rows.weight.sum()
    offset = nothing
    if scaling == "center":
        mean = sum(_weighted_sum(share[at], block / unit) for at, block in rows.blocks()) * unit
        # Rounding must not move the mean of a constant feature away from its value.
        offset = np.clip(mean, lowest, highest)
    deviations = (
        _weighted_sum(share[at], np.square((block - offset) / unit)).mean()
        for at, block in rows.blocks()
    )
    return Scaling(offset, float(unit * np.sqrt(sum(deviations))) or 1.0)


def _weighted_sum(weight: np.ndarray, block: np.ndarray) -> np.ndarray:
    # Not `weight @ block`: BLAS rounds differently with another number of threads.
    return np.einsum("i,ij->j", weight, block)
