"""Many rows in cells of rows that are close to each other: near rows are in near cells."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from ._batching import row_blocks
from ._threads import Workers

# Very many rows are first cut into parts of about so many, and these into cells: the time grows in
# proportion to the rows.
_PART_ROWS = 2**14

# Cells are those of k-means of so many rows to a centre, after a few iterations: any centres that
# are amid the rows do.
_ROWS_TO_A_CENTER, _ITERATIONS = 20, 5


def cells(X: np.ndarray, size: int, seed: int, workers: Workers) -> list[np.ndarray]:
    """Numbers of the rows of each cell, in rising order; every row is in one.

    A cell has about `size` rows or less, and never more than twice as many. For callers that have
    scikit-learn alone.
    """
    random, unit = np.random.default_rng(seed), max(X.max(), -X.min()) or 1.0

    def places(rows: np.ndarray) -> np.ndarray:
        return X[rows].astype(np.float64) / unit

    small, large = [], [np.arange(len(X))]
    while large:
        rows = large.pop()
        part_rows = _PART_ROWS if len(rows) > 2 * _PART_ROWS else size
        if len(rows) > 2 * size:
            n_parts = math.ceil(len(rows) / part_rows)
            large += _parts(places, rows, X.shape[1], n_parts, random, workers)
        else:
            small.append(rows)
    return small


def _parts(
    places: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    n_features: int,
    n_parts: int,
    random: np.random.Generator,
    workers: Workers,
) -> list[np.ndarray]:
    """The rows in at most so many parts, and more than one, by the nearest of k-means' centres."""
    n_some = min(len(rows), _ROWS_TO_A_CENTER * n_parts)
    some = np.sort(random.choice(rows, n_some, replace=False))
    how = {"n_init": 1, "max_iter": _ITERATIONS, "random_state": int(random.integers(2**31))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # some rows coincide
        kmeans = KMeans(n_parts, init="random", **how).fit(places(some))
    blocks = [rows[block] for block in row_blocks(len(rows), n_features + n_parts)]
    part_of = np.concatenate(workers.map(lambda block: kmeans.predict(places(block)), blocks))
    sizes = np.bincount(part_of)
    if sizes.max() == len(rows):  # they coincide
        return np.array_split(rows, n_parts)
    parts = np.split(rows[np.argsort(part_of, kind="stable")], np.cumsum(sizes[:-1]))
    return [part for part in parts if len(part)]


def means(X: np.ndarray, rows_of: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the rows of each cell, in float64."""
    return np.array([X[rows].mean(axis=0, dtype=np.float64) for rows in rows_of])


def enough(parts: Sequence[np.ndarray], order: Sequence[int], n_rows: int) -> np.ndarray:
    """The rows of the first cells in some order, so many at least if there are; in rising order."""
    n_found = np.cumsum([len(parts[k]) for k in order])
    n_parts = int(np.searchsorted(n_found, n_rows)) + 1
    return np.sort(np.concatenate([parts[k] for k in order[:n_parts]]))
