"""How hard clusters are to cut in two, and how easily the neighbour graph parts them."""

from __future__ import annotations

from inspect import signature
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ._threads import scikit_learn_alone

# Conductances are estimated as if there were so many edges more that lead out of a cluster, and as
# many that do not; those through it as if twice as many were cut as those that lead out. With
# fewer, a cut through a few rows is taken for none.
_PRIOR_EDGES = 10.0

# A cut has at least this share of a cluster's edges on either side: one that only takes off its rim
# is none.
_LEAST_SIDE = 0.1

# Graphs of fewer rows are solved as dense matrices; others up to this error of the eigenvector: the
# order of its entries is all that is wanted.
_DENSE_ROWS, _TOLERANCE = 64, 1e-3

# scipy draws random numbers of its own where the first ones do not reach all directions.
_SEEDED = {"rng": 0} if "rng" in signature(eigsh).parameters else {}


def symmetric_graph(neighbors: np.ndarray, edges: np.ndarray) -> csr_array:
    """The edges from each row to its `neighbors`, both ways, of shape (n_rows, n_rows)."""
    n_rows, k = neighbors.shape
    ends = np.repeat(np.arange(n_rows), k), neighbors.ravel()
    graph = csr_array((edges.ravel(), ends), shape=(n_rows, n_rows))
    return (graph + graph.T).tocsr()


def indicators(labels: np.ndarray) -> csr_array:
    """One column for each label, one where a row has it."""
    return csr_array((np.ones(len(labels)), (np.arange(len(labels)), labels)))


def edges_between(graph: csr_array, labels: np.ndarray) -> csr_array:
    """Weights of the edges from each label's rows to each other's, and twice those inside."""
    member = indicators(labels)
    return member.T @ graph @ member


def prior_edges(graph: csr_array) -> float:
    """What so many edges weigh as are added to those that were counted."""
    return _PRIOR_EDGES * graph.data.mean()


def relative_conductances(graph: csr_array, labels: np.ndarray) -> np.ndarray:
    """Of each cluster: how much of the conductance of two cuts is that of the cut through it.

    1 for a cluster that is hard to cut in two and falls off from all others by itself; 1/2 where
    there is no difference between inside and outside. `labels` are numbers from 0, all in use.
    """
    prior = prior_edges(graph)
    outside = conductances_to_others(edges_between(graph, labels), prior)
    rows_of = np.split(np.argsort(labels, kind="stable"), np.bincount(labels).cumsum()[:-1])
    with scikit_learn_alone():
        inside = np.array(
            [
                cuts(graph[rows][:, rows]).least_conductance(prior, expected)
                for rows, expected in zip(rows_of, outside, strict=True)
            ]
        )
    return inside / (inside + outside)


def mean_by_edges(shares: np.ndarray, volumes: np.ndarray) -> float:
    """The mean of the clusters' relative conductances, given the weights of their edges.

    0 where not even two clusters have a tenth of the average: there is only one, beside a few rows,
    and nothing to compare with, but hardly any edge leads out of it.
    """
    if np.count_nonzero(volumes >= _LEAST_SIDE * volumes.mean()) < 2:
        return 0.0
    return float(np.average(shares, weights=volumes))


def conductances_to_others(between: csr_array, prior: float) -> np.ndarray:
    """Of each cluster: the largest conductance of the edges between it and one other.

    `between` are the weights of the edges between each two clusters, both ways. Their share in
    those of the smaller side, which counts as a tenth of the cluster at least: none is much the
    worse for a few rows with a label of their own.
    """
    between = between.tocoo()
    volume = np.bincount(between.row, between.data, between.shape[0])
    pairs = between.row != between.col
    own, other, edges = between.row[pairs], between.col[pairs], between.data[pairs]
    side = np.maximum(np.minimum(volume[own], volume[other]), _LEAST_SIDE * volume[own])
    largest = np.zeros(len(volume))
    np.maximum.at(largest, own, edges / side)
    return (largest * volume + prior) / (volume + 2.0 * prior)


class Cuts(NamedTuple):
    """Cuts of a cluster in two: weights of the edges across, and of those of the smaller side."""

    across: np.ndarray
    smaller: np.ndarray

    def least_conductance(self, prior: float, expected: float) -> float:
        """The conductance of the easiest one; as `expected` where there is none."""
        if not len(self.across):
            return expected
        found = (self.across + 2.0 * prior * expected) / (self.smaller + 2.0 * prior)
        return float(found.min())


def cuts(graph: csr_array) -> Cuts:
    """Those between rows that follow each other in an order in which rows joined by many are close.

    That of the second eigenvector of the normalised graph (Shi and Malik, "Normalized cuts and
    image segmentation", IEEE PAMI 2000).
    """
    n_rows = graph.shape[0]
    place = np.empty(n_rows, dtype=np.int64)
    place[_spectral_order(graph)] = np.arange(n_rows)
    pairs, volumes = graph.tocoo(), np.zeros(n_rows)
    volumes[place] = graph.sum(axis=1)
    one, other = place[pairs.row], place[pairs.col]
    across = np.bincount(np.minimum(one, other), pairs.data, n_rows)
    across -= np.bincount(np.maximum(one, other), pairs.data, n_rows)
    cut, before = across.cumsum()[:-1] / 2.0, volumes.cumsum()[:-1]  # each edge is there twice
    smaller = np.minimum(before, volumes.sum() - before)
    is_cut = smaller >= _LEAST_SIDE * volumes.sum()  # not where one row has most of the edges
    return Cuts(cut[is_cut], smaller[is_cut])


def _spectral_order(graph: csr_array) -> np.ndarray:
    """The rows component by component, those of the largest last and by the eigenvector."""
    _, component = connected_components(graph, directed=False)
    largest = np.bincount(component).argmax()
    rest, own = np.flatnonzero(component != largest), np.flatnonzero(component == largest)
    rest = rest[np.argsort(component[rest], kind="stable")]
    values = _second_vector(graph[own][:, own])
    return np.concatenate([rest, own[np.argsort(values, kind="stable")]])


def _second_vector(graph: csr_array) -> np.ndarray:
    """The second eigenvector of a random walk on a connected graph."""
    n_rows = graph.shape[0]
    root = np.sqrt(np.maximum(graph.sum(axis=1), np.finfo(float).tiny))
    walk = diags_array(1.0 / root) @ graph @ diags_array(1.0 / root)
    if n_rows <= _DENSE_ROWS:
        # All of them: asked for two of many equal ones, LAPACK may give none.
        _, vectors = np.linalg.eigh(walk.toarray())
        return vectors[:, max(n_rows - 2, 0)] / root
    # The first is known. Without it the second is the largest, however little less.
    first = root / np.linalg.norm(root)
    others = LinearOperator(walk.shape, lambda x: walk @ x - first * (first @ x), dtype=float)
    start = np.random.default_rng(0).normal(size=n_rows)
    try:
        _, vectors = eigsh(others, k=1, which="LA", v0=start, tol=_TOLERANCE, **_SEEDED)
    except ArpackNoConvergence:
        return start  # an order is as good as another where there are no directions
    return vectors[:, 0] / root
