"""The graph of nearest neighbours, and how well a partition keeps to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.spatial import KDTree
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn.functional import embedding  # rows by numbers, in a quarter of indexing's time

from ._backend import CPU
from ._batching import row_blocks
from ._threads import Workers, scikit_learn_alone

# From this dimension on a tree visits nearly all rows, and brute force is quicker.
_TREE_DIMENSIONS = 16

# Rows of a block, at most. A tree of ten dimensions takes a time that grows faster than they do.
_BLOCK_ROWS = 2**17

# Wide rows of which all pairs are looked at wherever neighbours are sought. Of more, rows are
# neighbours only in leaves of so many at most, of so many trees: of MNIST's five nearest, these
# find 95 % (seed 0).
ALL_PAIRS_ROWS, _LEAF_ROWS, _N_TREES = 2**14, 2**12, 5

# Rows whose neighbours one thread finds at once by brute force.
_QUERIES = 2048

# The first two of an accelerator, and distances that it holds at once (512 MB).
_ON_DEVICE, _DEVICE_VALUES = (2**17, 2**15), 2**26

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
    """The same by all distances, for `scikit_learn_alone`: queries are shared among the threads."""
    X = _in_units_of_its_spread(X)
    # With several threads for one block equally distant rows might come in another order.
    search = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(X)
    found = workers.map(
        lambda start: search.kneighbors(X[start : start + _QUERIES], return_distance=False),
        range(0, X.shape[0], _QUERIES),
    )
    return _others(np.concatenate(found))


def _by_tree(X: np.ndarray, n_neighbors: int, slack: float, workers: Workers) -> np.ndarray:
    """The same; with a `slack` rows may be further away by this share than those they stand for."""
    X = _in_units_of_its_spread(X)
    tree = KDTree(X)
    # In the order of the leaves what one row needs of the tree is in the cache for the next one.
    order, found = tree.indices, np.empty((len(X), n_neighbors + 1), dtype=np.int64)
    _, found[order] = tree.query(X[order], n_neighbors + 1, eps=slack, workers=workers.n_workers)
    return _others(found)


def _others(found: np.ndarray) -> np.ndarray:
    """Of the rows found for each row those that are not the row itself, one less."""
    # A row is usually the first of its own neighbours, but not among rows that coincide with it.
    is_self = found == np.arange(len(found))[:, None]
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
    slack. In many, of more than 16,384 rows, in the leaves of random projection trees [1]_; on
    another `device` than the CPU of more than 131,072, in larger leaves.

    References
    ----------
    .. [1] Dasgupta, Freund. "Random Projection Trees and Low Dimensional Manifolds". STOC 2008.
    """
    n_neighbors = min(n_neighbors, len(X) - 1)
    if X.shape[1] < _TREE_DIMENSIONS:
        return _in_blocks(X, n_neighbors, seed, workers)
    if device != CPU:
        with suppress(torch.cuda.OutOfMemoryError):  # the CPU has more
            return _by_leaves(X, n_neighbors, seed, _OnDevice(device, *_ON_DEVICE), workers)
    search = _OnProcessor(workers, ALL_PAIRS_ROWS, _LEAF_ROWS)
    return _by_leaves(X, n_neighbors, seed, search, workers)


def _in_blocks(X: np.ndarray, n_neighbors: int, seed: int, workers: Workers) -> np.ndarray:
    """The nearest, with some slack, of those in the same random block."""
    random = np.random.default_rng(seed)
    blocks = np.array_split(random.permutation(len(X)), -(-len(X) // _BLOCK_ROWS))
    found = np.empty((len(X), min(n_neighbors, len(blocks[-1]) - 1)), dtype=np.int32)
    for block in map(np.sort, blocks):
        found[block] = block[_by_tree(X[block], found.shape[1], _SLACK, workers)]
    return found


class _OnProcessor(NamedTuple):
    """Search by all distances within leaves."""

    workers: Workers
    all_pairs_rows: int
    leaf_rows: int

    def within(self, leaves: Sequence[np.ndarray], X: np.ndarray, n_neighbors: int) -> np.ndarray:
        """The nearest other rows of each row in its leaf."""
        found = np.empty((len(X), n_neighbors), dtype=np.int32)
        # Several leaves are shared among the threads, or the rows of a single one.
        inner = self.workers if len(leaves) == 1 else Workers(1)

        def search(leaf: np.ndarray) -> None:
            found[leaf] = leaf[_by_brute_force(X[leaf], n_neighbors, inner)]

        with scikit_learn_alone():
            self.workers.map(search, leaves)
        return found


class _OnDevice(NamedTuple):
    """The same on an accelerator that has float64, where larger leaves take little time."""

    device: torch.device
    all_pairs_rows: int
    leaf_rows: int

    def within(self, leaves: Sequence[np.ndarray], X: np.ndarray, n_neighbors: int) -> np.ndarray:
        """The nearest other rows of each row in its leaf."""
        found = np.empty((len(X), n_neighbors), dtype=np.int32)
        for leaf in leaves:
            x = torch.from_numpy(_in_units_of_its_spread(X[leaf])).to(self.device)
            found[leaf] = leaf[self._nearest(x, n_neighbors).cpu().numpy()]
        return found

    def _nearest(self, x: Tensor, n_neighbors: int) -> Tensor:
        squares, found = x.square().sum(dim=1), []
        for rows in torch.arange(len(x), device=x.device).split(-(-_DEVICE_VALUES // len(x))):
            # Squared, less the row's own square, which is the same for all.
            distances = torch.addmm(squares, x[rows], x.mT, alpha=-2.0)
            distances.scatter_(1, rows[:, None], torch.inf)
            found.append(distances.topk(n_neighbors, largest=False).indices)
        return torch.cat(found)


def _by_leaves(
    X: np.ndarray,
    n_neighbors: int,
    seed: int,
    search: _OnProcessor | _OnDevice,
    workers: Workers,
) -> np.ndarray:
    """The nearest of all, or of those that share a leaf with a row in one of several trees."""
    if len(X) <= search.all_pairs_rows:
        return search.within([np.arange(len(X))], X, n_neighbors)
    random = np.random.default_rng(seed)
    rows, most = np.arange(len(X)), max(search.leaf_rows, 4 * (n_neighbors + 1))
    found = search.within(list(_leaves(X, rows, most, random)), X, n_neighbors)
    for _ in range(_N_TREES - 1):
        more = search.within(list(_leaves(X, rows, most, random)), X, n_neighbors)
        _take_nearer(X, found, more, workers)
    return found


def _leaves(
    X: np.ndarray, rows: np.ndarray, most: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """The rows in parts of at most so many, halved along directions between two of them."""
    if len(rows) <= most:
        yield np.sort(rows)
        return
    one, other = X[random.choice(rows, 2, replace=False)]
    # Not `@`: BLAS rounds differently with another number of threads.
    order = rows[np.argsort(np.einsum("ij,j->i", X[rows], one - other), kind="stable")]
    for half in np.array_split(order, 2):
        yield from _leaves(X, half, most, random)


def _take_nearer(X: np.ndarray, found: np.ndarray, more: np.ndarray, workers: Workers) -> None:
    """Have in `found` the nearest of each row's `found` and `more`; some may be in both."""
    x, one, other = (torch.from_numpy(array) for array in (X, found, more))

    def take(rows: slice) -> None:
        some, _ = torch.cat([one[rows], other[rows]], dim=1).sort(dim=1)
        distances = embedding(some, x).sub_(x[rows, None]).square_().sum(dim=2)
        distances[:, 1:][some[:, 1:] == some[:, :-1]] = torch.inf
        nearest = distances.argsort(dim=1, stable=True)[:, : one.shape[1]]
        one[rows] = some.gather(1, nearest)

    workers.map(take, list(row_blocks(len(X), 4 * found.shape[1] * X.shape[1])))


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
