"""How hard clusters are to cut in two, and how easily the neighbour graph parts them."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

from ._threads import scikit_learn_alone

# Conductances are estimated as if so many edges more led across a cut, and as many stayed on either
# side. With fewer, a cut through a few rows is taken for none. Of none at all this is one half.
_PRIOR_EDGES, _UNKNOWN = 10.0, 0.5

# A cut in two has at least this share of a cluster's edges on either side: one that only takes off
# its rim is none.
_LEAST_SIDE = 0.1

# Graphs of fewer rows are solved as dense matrices; others up to this error of the eigenvector: the
# order of its entries is all that is wanted.
_DENSE_ROWS, _TOLERANCE = 64, 1e-3


def symmetric_graph(neighbors: np.ndarray, edges: np.ndarray) -> csr_array:
    """The edges from each row to its `neighbors`, both ways, of shape (n_rows, n_rows)."""
    n_rows, k = neighbors.shape
    ends = np.repeat(np.arange(n_rows), k), neighbors.ravel()
    graph = csr_array((edges.ravel(), ends), shape=(n_rows, n_rows))
    return (graph + graph.T).tocsr()


def relative_conductances(graph: csr_array, labels: np.ndarray) -> np.ndarray:
    """Of each cluster: how much of the conductance of two cuts is that of the cut through it.

    1 for a cluster that is hard to cut in two and falls off from all others by itself; 1/2 where
    there is no difference between inside and outside. `labels` are numbers from 0, all in use.
    """
    prior = _PRIOR_EDGES * graph.data.mean()
    outside = _conductances_to_others(graph, labels, prior)
    with scikit_learn_alone():
        inside = np.array(
            [
                _least_conductance(graph[own][:, own], prior)
                for own in (np.flatnonzero(labels == label) for label in range(len(outside)))
            ]
        )
    return inside / (inside + outside)


def _conductances_to_others(graph: csr_array, labels: np.ndarray, prior: float) -> np.ndarray:
    """Of each cluster: the largest conductance of the edges between it and one other."""
    member = csr_array((np.ones(len(labels)), (np.arange(len(labels)), labels)))
    between = (member.T @ graph @ member).toarray()
    volume = between.sum(axis=1)
    smaller = np.minimum(volume[:, None], volume)
    np.fill_diagonal(between, -np.inf)
    return ((between + prior) / (smaller + 2.0 * prior)).max(axis=1)


def _least_conductance(graph: csr_array, prior: float) -> float:
    """The conductance of the easiest cut in two that is found; 1/2 if there is none to be found.

    Cuts are those between rows that follow each other in an order in which rows that many edges
    join are close: that of the second eigenvector of the normalised graph (Shi and Malik,
    "Normalized cuts and image segmentation", IEEE PAMI 2000).
    """
    if graph.shape[0] == 1:
        return _UNKNOWN
    place = np.empty(graph.shape[0], dtype=np.int64)
    place[_spectral_order(graph)] = np.arange(graph.shape[0])
    pairs, volumes = graph.tocoo(), np.zeros(graph.shape[0])
    volumes[place] = graph.sum(axis=1)
    one, other = place[pairs.coords[0]], place[pairs.coords[1]]
    across = np.bincount(np.minimum(one, other), pairs.data, len(place))
    across -= np.bincount(np.maximum(one, other), pairs.data, len(place))
    cut, before = across.cumsum()[:-1] / 2.0, volumes.cumsum()[:-1]  # each edge is there twice
    smaller = np.minimum(before, volumes.sum() - before)
    is_cut = smaller >= _LEAST_SIDE * volumes.sum()
    if not is_cut.any():  # one row has most of the edges
        return _UNKNOWN
    return float(((cut + prior) / (smaller + 2.0 * prior))[is_cut].min())


def _spectral_order(graph: csr_array) -> np.ndarray:
    """The rows component by component, those of the largest last and by the eigenvector."""
    _, component = connected_components(graph, directed=False)
    largest = np.bincount(component).argmax()
    rest, own = np.flatnonzero(component != largest), np.flatnonzero(component == largest)
    rest = rest[np.argsort(component[rest], kind="stable")]
    return np.concatenate([rest, own[np.argsort(_second_vector(graph[own][:, own]))]])


def _second_vector(graph: csr_array) -> np.ndarray:
    """The second eigenvector of a random walk on a connected graph."""
    n_rows = graph.shape[0]
    scale = 1.0 / np.sqrt(np.maximum(graph.sum(axis=1), np.finfo(float).tiny))
    walk = diags_array(scale) @ graph @ diags_array(scale)
    if n_rows <= _DENSE_ROWS:
        first = max(n_rows - 2, 0)
        _, vectors = eigh(walk.toarray(), subset_by_index=(first, n_rows - 1))
    else:
        start = np.random.default_rng(0).normal(size=n_rows)
        _, vectors = eigsh(walk, k=2, which="LA", v0=start, tol=_TOLERANCE)
    return vectors[:, 0] * scale
