"""Leading principal components: the input as neighbours and k-means see it; no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from ._batching import row_blocks
from ._threads import scikit_learn_alone

# Of wider inputs the leading principal components stand for the rows: k-means and neighbours there
# are much the same, less noisy, and found sooner.
_MOST_COMPONENTS = 50

# Rows of so many values in all (128 MB) are not held in memory at once for that: the components
# are found over blocks of them, by so many iterations with so many directions to spare.
_MOST_VALUES, _SUBSPACE_ITERATIONS, _SPARE_COMPONENTS = 2**25, 7, 10

# Of more components than these it matters less which are the last ones, and an iteration takes
# longer: so many do.
_MANY_COMPONENTS, _FEW_ITERATIONS = 100, 2


class Components(NamedTuple):
    """What gives components of rows: `x` gives the rows with the given numbers, float32.

    `axes`, of shape (n_components, n_features), are None where the rows themselves will do.
    """

    x: Callable[[np.ndarray], np.ndarray]
    mean: np.ndarray
    axes: np.ndarray | None

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The components of the rows with these numbers, of shape (len(rows), n_components)."""
        n_components = len(self.mean) if self.axes is None else len(self.axes)
        found = np.empty((len(rows), n_components), dtype=np.float32)
        for block, x in self._centered(rows):
            found[block] = x if self.axes is None else x @ self.axes.T
        return found

    def split(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same, and the mean square of what they leave of each row's features."""
        found = np.empty((len(rows), len(self.axes)), dtype=np.float32)
        left = np.empty(len(rows), dtype=np.float32)
        for block, x in self._centered(rows):
            found[block] = x @ self.axes.T
            x -= found[block] @ self.axes
            left[block] = np.square(x, out=x).mean(axis=1)
        return found, left

    def _centered(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Where in `rows` some of them are, and these less the mean."""
        with scikit_learn_alone():
            for block in row_blocks(len(rows), len(self.mean)):
                yield block, self.x(rows[block]) - self.mean


def leading_components(
    x: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    seed: int,
    n_components: int = _MOST_COMPONENTS,
) -> Components:
    """The components of the rows with these numbers, of which `x` gives some."""
    n_features = x(rows[:1]).shape[1]
    if min(len(rows), n_features) <= n_components:
        return Components(x, np.zeros(n_features, dtype=np.float32), None)
    many = n_components > _MANY_COMPONENTS
    with scikit_learn_alone():
        if len(rows) * n_features > _MOST_VALUES:
            blocks = [rows[block] for block in row_blocks(len(rows), n_features)]
            n_iterations = _FEW_ITERATIONS if many else _SUBSPACE_ITERATIONS
            found = _by_blocks(x, blocks, n_features, seed, n_components, n_iterations)
            return Components(x, *found)
        pca = PCA(
            n_components,
            svd_solver="randomized",
            iterated_power=_FEW_ITERATIONS if many else "auto",
            random_state=seed % 2**32,
        ).fit(x(rows))
        return Components(x, pca.mean_, pca.components_)


def _by_blocks(
    x: Callable[[np.ndarray], np.ndarray],
    blocks: list[np.ndarray],
    n_features: int,
    seed: int,
    n_components: int,
    n_iterations: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and axes of rows of which only a block is in memory at once.

    Subspace iteration as in scikit-learn's randomized PCA, which takes its rows as one array.
    """
    mean = sum(x(block).sum(axis=0, dtype=np.float64) for block in blocks)
    mean = (mean / sum(map(len, blocks))).astype(np.float32)
    n_directions = n_components + _SPARE_COMPONENTS
    directions = np.random.default_rng(seed).standard_normal((n_features, n_directions))
    directions = directions.astype(np.float32)
    for _ in range(n_iterations):
        centered = (x(block) - mean for block in blocks)
        directions, _ = np.linalg.qr(sum(rows.T @ (rows @ directions) for rows in centered))
    projected = np.concatenate([(x(block) - mean) @ directions for block in blocks])
    _, _, axes = np.linalg.svd(projected, full_matrices=False)
    return mean, axes[:n_components] @ directions.T
