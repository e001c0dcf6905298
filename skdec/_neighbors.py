"""The graph of nearest neighbours, and how well a partition keeps to it."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.spatial import KDTree
from sklearn.neighbors import NearestNeighbors

from ._backend import CPU
from ._batching import row_blocks
from ._cells import cells, enough, means
from ._threads import Workers, scikit_learn_alone

# From this dimension on a tree visits nearly all rows, and brute force is quicker.
_TREE_DIMENSIONS = 16

# Rows of a block, at most. A tree of ten dimensions takes a time that grows faster than they do.
_BLOCK_ROWS = 2**17

# Wide rows of which all pairs are looked at wherever neighbours are sought. Of more, the rows of a
# cell of about so many are compared with the rows of the cells nearest to it, so many at least.
ALL_PAIRS_ROWS, _CELL_ROWS, _COMPARED_ROWS = 2**14, 2**7, 2**13

# Rows whose neighbours one thread finds at once by brute force.
_QUERIES = 2048

# The same of an accelerator, and distances that it holds at once (512 MB).
_ON_DEVICE, _DEVICE_VALUES = (2**17, 2**10, 2**15), 2**26

# Where neighbours are only drawn from. All but one in 500 of those found with this slack are the
# right ones (MNIST), at half of the cost.
_SLACK = 0.3

# A cluster's conductance is estimated as if so many pairs more of its rows were joined, by chance.
# With fewer, a few rows that are cut off make a good cluster; with more, small clusters do not.
_PRIOR_PAIRS = 10


def nearest_neighbors(X, n_neighbors: int, workers: Workers) -> np.ndarray:
    """The nearest other rows of each row, int64 of shape (n_rows, n_neighbors), nearest first.

    In few dimensions by a tree, in a time that grows little faster than the number of rows; in
    many, and for sparse rows, by brute force, in its square. `n_neighbors` is cut to the number of
    rows less one.
    """
    n_neighbors = min(n_neighbors, X.shape[0] - 1)
    if not (issparse(X) or X.shape[1] >= _TREE_DIMENSIONS):
        return _by_tree(X, n_neighbors, 0.0, workers)
    with scikit_learn_alone():
        return _by_brute_force(X, n_neighbors, workers)


def _by_brute_force(X, n_neighbors: int, workers: Workers) -> np.ndarray:
    """The same by all distances, for callers that have scikit-learn alone."""
    X = _in_units_of_its_spread(X)
    return _of_rows(np.arange(X.shape[0]), X, n_neighbors, workers)


def _of_rows(rows: np.ndarray, X, n_neighbors: int, workers: Workers) -> np.ndarray:
    """The same of the rows with these numbers, which are shared among the threads."""
    # With several threads for one block equally distant rows might come in another order.
    search = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(X)
    found = workers.map(
        lambda start: search.kneighbors(X[rows[start : start + _QUERIES]], return_distance=False),
        range(0, len(rows), _QUERIES),
    )
    return _others(np.concatenate(found), rows)


def _by_tree(X: np.ndarray, n_neighbors: int, slack: float, workers: Workers) -> np.ndarray:
    """The same; with a `slack` rows may be further away by this share than those they stand for."""
    X = _in_units_of_its_spread(X)
    tree = KDTree(X)
    # In the order of the leaves what one row needs of the tree is in the cache for the next one.
    order, found = tree.indices, np.empty((len(X), n_neighbors + 1), dtype=np.int64)
    _, found[order] = tree.query(X[order], n_neighbors + 1, eps=slack, workers=workers.n_workers)
    return _others(found, np.arange(len(X)))


def _others(found: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of the rows found for each of the `rows` those that are not the row itself, one less."""
    # A row is usually the first of its own neighbours, but not among rows that coincide with it.
    is_self = found == rows[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    return found[~is_self].reshape(len(found), -1)


def roughly_nearest_neighbors(
    X: np.ndarray,
    n_neighbors: int,
    seed: int,
    workers: Workers,
    device: torch.device = CPU,
) -> np.ndarray:
    """As `nearest_neighbors`, but a few are not the nearest, in a time in proportion to the rows.

    The numbers are int32, which take half of the memory.

    In few dimensions they are sought in random blocks of rows, all of up to 131,072, with some
    slack. In many, of more than 16,384 rows, in the cells of k-means that are near to a row's own
    [1]_; on another `device` than the CPU of more than 131,072, in larger cells.

    References
    ----------
    .. [1] Sivic, Zisserman. "Video Google: A Text Retrieval Approach to Object Matching in Videos".
       ICCV 2003.
    """
    n_neighbors = min(n_neighbors, len(X) - 1)
    if X.shape[1] < _TREE_DIMENSIONS:
        return _in_blocks(X, n_neighbors, seed, workers)
    if device != CPU:
        with suppress(torch.cuda.OutOfMemoryError):  # the CPU has more
            return _in_cells(X, n_neighbors, seed, _OnDevice(device, *_ON_DEVICE), workers)
    search = _OnProcessor(workers, ALL_PAIRS_ROWS, _CELL_ROWS, _COMPARED_ROWS)
    return _in_cells(X, n_neighbors, seed, search, workers)


def _in_blocks(X: np.ndarray, n_neighbors: int, seed: int, workers: Workers) -> np.ndarray:
    """The nearest, with some slack, of those in the same random block."""
    random = np.random.default_rng(seed)
    blocks = np.array_split(random.permutation(len(X)), -(-len(X) // _BLOCK_ROWS))
    found = np.empty((len(X), min(n_neighbors, len(blocks[-1]) - 1)), dtype=np.int32)
    for block in map(np.sort, blocks):
        found[block] = block[_by_tree(X[block], found.shape[1], _SLACK, workers)]
    return found


class _Cell(NamedTuple):
    """Rows whose nearest are sought among others, which they are of; numbers in rising order."""

    rows: np.ndarray
    among: np.ndarray

    @property
    def places(self) -> np.ndarray:
        """Which of those among which they are sought the rows are."""
        return np.searchsorted(self.among, self.rows)


class _OnProcessor(NamedTuple):
    """Search by all distances of the rows of a cell to those among which they are sought."""

    workers: Workers
    all_pairs_rows: int
    cell_rows: int
    compared_rows: int
    device: torch.device = CPU

    def among_all(self, X: np.ndarray, n_neighbors: int) -> np.ndarray:
        """The nearest of all rows, for each."""
        return _by_brute_force(X, n_neighbors, self.workers)

    def within(self, cell: _Cell, X: np.ndarray, n_neighbors: int) -> np.ndarray:
        """The nearest rows of each row of a cell, by their places."""
        # scikit-learn finds distances in float64, also of float32.
        return _of_rows(cell.places, X[cell.among], n_neighbors, Workers(1))


class _OnDevice(NamedTuple):
    """The same on an accelerator that has float64, where more distances take little time."""

    device: torch.device
    all_pairs_rows: int
    cell_rows: int
    compared_rows: int

    def among_all(self, X: np.ndarray, n_neighbors: int) -> np.ndarray:
        """The nearest of all rows, for each."""
        everything = np.arange(len(X))
        return self.within(_Cell(everything, everything), X, n_neighbors)

    def within(self, cell: _Cell, X: np.ndarray, n_neighbors: int) -> np.ndarray:
        """The nearest rows of each row of a cell, by their places."""
        x = torch.from_numpy(_in_units_of_its_spread(X[cell.among])).to(self.device)
        squares, found = x.square().sum(dim=1), []
        rows = torch.from_numpy(cell.places).to(self.device)
        for some in rows.split(-(-_DEVICE_VALUES // len(x))):
            # Squared, less the row's own square, which is the same for all.
            distances = torch.addmm(squares, x[some], x.mT, alpha=-2.0)
            distances.scatter_(1, some[:, None], torch.inf)
            found.append(distances.topk(n_neighbors, largest=False).indices)
        return torch.cat(found).cpu().numpy()


def _in_cells(
    X: np.ndarray,
    n_neighbors: int,
    seed: int,
    search: _OnProcessor | _OnDevice,
    workers: Workers,
) -> np.ndarray:
    """The nearest of all, or of the rows in the cells that are near to a row's own."""
    with scikit_learn_alone():
        if len(X) <= search.all_pairs_rows:
            return search.among_all(X, n_neighbors).astype(np.int32)
        parts = cells(X, search.cell_rows, seed, workers)
        n_compared = max(search.compared_rows, 4 * (n_neighbors + 1))
        # Each has a row at least, so that there are as many as are wanted.
        n_near = min(2 * n_compared // search.cell_rows + n_neighbors, len(parts) - 1)
        near = _by_brute_force(means(X, parts), n_near, workers)
        found = np.empty((len(X), n_neighbors), dtype=np.int32)

        def find(k: int) -> None:
            cell = _Cell(parts[k], enough(parts, [k, *near[k]], n_compared))
            found[cell.rows] = cell.among[search.within(cell, X, n_neighbors)]

        workers.map_on(search.device, find, range(len(parts)))
        return found


def edge_weights(neighbors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights of the edges from the rows to their `neighbors`: the products of their ends'."""
    return weight[:, None] * weight[neighbors]


def squared_lengths(X: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
    """Squared distances of the rows of `X` to their `neighbors`, float64 of the latter's shape."""
    found = np.empty(neighbors.shape)
    for rows in row_blocks(len(X), neighbors.shape[1] * X.shape[1]):
        differences = X[rows, None].astype(np.float64) - X[neighbors[rows]]
        found[rows] = np.square(differences).sum(axis=2)
    return found


def mutual(neighbors: np.ndarray) -> np.ndarray:
    """Which edges join rows that are neighbours of each other; all of them if none does."""
    n_rows = len(neighbors)
    each = np.arange(n_rows)[:, None]
    is_mutual = np.isin(n_rows * neighbors + each, n_rows * each + neighbors)
    return is_mutual | ~is_mutual.any()


def modularity(neighbors: np.ndarray, edges: np.ndarray, labels: np.ndarray) -> float:
    """Newman's modularity of `labels` on the graph of `neighbors`, its edges taken both ways.

    `edges` are the edges' weights, of the shape of `neighbors`; `labels` are numbers from 0.
    """
    inside, volume = _edge_shares(neighbors, edges, labels)
    return float((inside - np.square(volume)).sum())


def separation(neighbors: np.ndarray, edges: np.ndarray, labels: np.ndarray) -> float:
    """How few edges leave the clusters of `labels`: 1 for none, about 0 for as many as by chance.

    The conductance of a cluster [1]_ is the share of its edges that lead out of it. It is divided
    by what it is by chance, and 1 less this ratio is averaged over the clusters, with the roots of
    their edges as weights. Edges by chance are counted, so that rows without edges are no good
    cluster. A small cluster counts less than a large one, but more than its rows: by modularity
    large clusters are cut in halves and small ones joined.

    References
    ----------
    .. [1] Kannan, Vempala, Vetta. "On clusterings: Good, bad and spectral". J. ACM 2004.
    """
    inside, volume = _edge_shares(neighbors, edges, labels)
    prior, by_chance = 2.0 * _PRIOR_PAIRS / np.count_nonzero(edges), 1.0 - volume
    conductance = (volume - inside + prior * by_chance) / (volume + prior)
    # From a cluster of all rows no edge can lead out.
    ratio = np.divide(conductance, by_chance, out=np.ones_like(volume), where=by_chance > 1e-12)
    return float(np.average(1.0 - ratio, weights=np.sqrt(volume + prior)))


def _edge_shares(
    neighbors: np.ndarray, edges: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the edges inside each cluster, and of the ends of edges in it."""
    of_ends, n_clusters = labels[neighbors], labels.max() + 1
    of_rows, within = edges.sum(axis=1), (edges * (of_ends == labels[:, None])).sum(axis=1)
    inside, starts = (np.bincount(labels, sums, n_clusters) for sums in (within, of_rows))
    stops = np.bincount(of_ends.ravel(), edges.ravel(), n_clusters)
    total = of_rows.sum()
    return inside / total, (starts + stops) / (2.0 * total)


def _in_units_of_its_spread(X):
    """`X` in float64, shifted and scaled so that 1e30 and 1e-30 are ordinary distances.

    A shift would fill up sparse rows: they are scaled alone.
    """
    X = X.astype(np.float64)
    if issparse(X):
        return X / (abs(X).max() or 1.0)
    X /= np.abs(X).max() or 1.0
    X -= X.mean(axis=0)
    X /= np.abs(X).max() or 1.0
    return X
