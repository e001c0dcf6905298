"""Rows before the network sees them: distinct rows with weights, centred on one scale."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array, csr_matrix

from ._batching import as_float64, row_blocks
from ._distributed import ALONE, Alone

# Far outside the training data float32 products would overflow; a row that many standard
# deviations away is moved to this distance, feature by feature.
FARTHEST = 1e12


class Rows(NamedTuple):
    """Rows `index` of `X`, of shape (n_samples, n_features), each with a positive weight.

    `X` is as it was given, in whatever dtype and wherever it lies, and no more than a block of its
    rows is ever copied.
    """

    X: np.ndarray | csr_array | csr_matrix
    index: np.ndarray
    weight: np.ndarray

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The rows in float64, some at a time, with their positions."""
        for rows in row_blocks(len(self.index), self.X.shape[1]):
            yield rows, as_float64(self.X[self.index[rows]])

    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value of each feature."""
        in_order = self._replace(index=np.sort(self.index))  # quicker to read
        found = [(block.min(axis=0), block.max(axis=0)) for _, block in in_order.blocks()]
        lowest, highest = zip(*found, strict=True)
        return np.min(lowest, axis=0), np.max(highest, axis=0)

    def digest(self) -> str:
        """A word for the values and weights, in whatever form and order they were given."""
        digest = blake2b(digest_size=16)
        for _, block in self.blocks():
            digest.update(block + 0.0)  # + 0.0: one zero, not two
        digest.update(as_float64(self.weight))
        return digest.hexdigest()


def distinct_rows(X: np.ndarray, sample_weight: np.ndarray, group: Alone = ALONE) -> Rows:
    """Every distinct row of `X` of positive weight, once, with its summed weight.

    Weights have mean 1 over the rows of all ranks; rows of different ranks are not merged.

    The order depends on the rows' values alone. Whatever follows therefore cannot tell a
    weight of two from a row given twice, nor one order of the rows from another.
    """
    # Only proportions matter; in units of about the largest, sums neither overflow nor vanish.
    # A power of two, because dividing by it is exact.
    sample_weight = np.ldexp(sample_weight, -np.frexp(group.max(sample_weight.max()))[1])
    kept = np.flatnonzero(sample_weight > 0)  # and not vanished beside the largest
    hashes = _hash_rows(X)[kept]
    # Weights take part in the order so that their sum does not depend on the rows' order.
    order = kept[np.lexsort((sample_weight[kept], hashes))]
    hashes = np.sort(hashes)
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])
    colliding = np.isin(hashes, _colliding(X, order, hashes))
    if colliding.any():
        rank = np.zeros(len(order), dtype=np.int64)
        _, among = np.unique(as_float64(X[order[colliding]]), axis=0, return_inverse=True)
        rank[colliding] = among.reshape(-1)
        by_rank = np.lexsort((sample_weight[order], rank, hashes))
        order, rank = order[by_rank], rank[by_rank]
        starts = np.flatnonzero(np.r_[True, (hashes[1:] != hashes[:-1]) | (rank[1:] != rank[:-1])])
    weight = np.add.reduceat(sample_weight[order], starts)
    mean = group.sum(weight.sum()) / group.sum(len(weight))
    return Rows(X, order[starts], weight / mean)


def _hash_rows(X) -> np.ndarray:
    """A 64-bit hash of each row's float64 values, the same in every process."""
    random = np.random.default_rng(0)
    multipliers = random.integers(2**64, size=X.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(X.shape[0], dtype=np.uint64)
    for rows in row_blocks(*X.shape):
        bits = (as_float64(X[rows]) + 0.0).view(np.uint64)  # + 0.0: one zero, not two
        bits ^= bits >> np.uint64(32)
        bits *= multipliers
        bits ^= bits >> np.uint64(29)
        hashes[rows] = bits.sum(axis=1)
    return hashes


def _colliding(X, order: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """The hashes, sorted as the rows `order` are by them, that rows of different values share."""
    repeats = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
    found = [np.empty(0, dtype=hashes.dtype)]
    for rows in row_blocks(len(repeats), X.shape[1]):
        here = repeats[rows]
        differ = as_float64(X[order[here]]) != as_float64(X[order[here - 1]])
        found.append(hashes[here[differ.any(axis=1)]])
    return np.concatenate(found)


class Scaling(NamedTuple):
    """x -> (x - offset) / scale: one offset a feature, one scale for all of them.

    Features keep their relative units, as in KMeans: a feature with a larger spread weighs
    more in the Euclidean distance.
    """

    offset: np.ndarray
    scale: float

    def apply(self, X) -> np.ndarray:
        """Rows, dense or sparse, on the network's scale, float32."""
        with np.errstate(over="ignore"):
            scaled = torch.from_numpy(as_float64(X) - self.offset)
        return scaled.div_(self.scale).clamp_(-FARTHEST, FARTHEST).float().numpy()

    def invert(self, scaled: np.ndarray) -> np.ndarray:
        """`scaled` on the scale of the input, float64."""
        inverted = as_float64(scaled) * self.scale
        inverted += self.offset
        return inverted


def fit_scaling(rows: Rows, scaling: str | None, group: Alone = ALONE) -> Scaling:
    """The scaling that the parameter `scaling` names, from the weighted rows of all ranks.

    "center": mean 0 for each feature and ||x||^2 / n_features = 1 on average; "norm": the
    latter without centring, as published; "range": all values in [0, 1]; None: as they are.
    """
    nothing = np.zeros(rows.X.shape[1])
    if scaling is None:
        return Scaling(nothing, 1.0)
    lowest, highest = rows.extremes()
    lowest, highest = group.min(lowest), group.max(highest)
    if scaling == "range":
        return Scaling(nothing + lowest.min(), float(highest.max() - lowest.min()) or 1.0)
    # Squares of 1e200 overflow and those of 1e-200 vanish: in units of the largest, neither.
    unit = max(np.abs(lowest).max(), np.abs(highest).max()) or 1.0
    share = rows.weight / group.sum(rows.weight.sum())
    offset = nothing
    if scaling == "center":
        sums = sum(_weighted_sum(share[at], block, unit) for at, block in rows.blocks())
        mean = group.sum(sums) * unit
        # Rounding must not move the mean of a constant feature away from its value.
        offset = np.clip(mean, lowest, highest)
    deviations = (
        _weighted_sum(share[at], block, unit, offset).mean() for at, block in rows.blocks()
    )
    return Scaling(offset, float(unit * np.sqrt(group.sum(sum(deviations)))) or 1.0)


def _weighted_sum(
    weight: np.ndarray, block: np.ndarray, unit: float, offset: np.ndarray | None = None
) -> np.ndarray:
    """Sums of the features in this unit, or of the squares of their deviations from an offset.

    The block is written over: to work in its place takes half of the time.
    """
    if offset is not None:
        block -= offset
    block /= unit
    if offset is not None:
        np.square(block, out=block)
    # Not `weight @ block`: BLAS rounds differently with another number of threads.
    return np.einsum("i,ij->j", weight, block)
