"""What tells how well partitions keep to the neighbourhoods of input and embedding; no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from ._components import leading_components
from ._cuts import symmetric_graph
from ._neighborhoods import Neighborhoods
from ._neighbors import (
    edge_weights,
    mutual,
    nearest_neighbors,
    separation,
    squared_lengths,
)
from ._threads import Workers

# Neighbours of a row in the graph of the embedding, and in that of the input: with few, small
# clusters can be told apart.
_N_NEIGHBORS, _N_JUDGED_NEIGHBORS = 15, 7


class Judge(NamedTuple):
    """Tells how well partitions keep to the neighbourhoods of a space.

    `x` are the rows in it, of which `weight` are the weights. The graph has an edge of weight
    `edges` from each row to each of its `neighbors`.
    """

    x: np.ndarray
    weight: np.ndarray
    neighbors: np.ndarray
    edges: np.ndarray

    @property
    def n_pairs(self) -> float:
        """The number of pairs of rows that are joined."""
        return np.count_nonzero(self.edges) / 2.0

    def score(self, labels: np.ndarray) -> float:
        """The separation of the clusters that the labels of its rows give."""
        return separation(self.neighbors, self.edges, labels)

    def plain(self) -> Judge:
        """The same with edges that weigh the product of their ends' weights."""
        plain = edge_weights(self.neighbors, self.weight)
        return self._replace(edges=np.where(self.edges > 0, plain, 0.0))


def input_judge(
    x: Callable[[np.ndarray], np.ndarray],
    weight: np.ndarray,
    hoods: Neighborhoods,
    seed: int,
    workers: Workers,
    nearest: np.ndarray | None = None,
) -> Judge:
    """The judge of partitions in the input space; `x` gives the rows with the given numbers.

    No training changes its graph: states with different embeddings compare. The rows are those of
    leading components, and the graph is that of the space in which the `hoods` are. The `nearest`
    rows there are sought, unless enough of them are given.
    """
    rows = np.arange(len(weight))
    components = hoods.components(x, rows)
    leading = leading_components(components.__getitem__, rows, seed).of(rows)
    places, n_sought = hoods.places(components, seed), hoods.n_sought(_N_JUDGED_NEIGHBORS)
    if nearest is None or nearest.shape[1] < n_sought:
        nearest = nearest_neighbors(places, n_sought, workers)
    neighbors = hoods.chosen(places, nearest, _N_JUDGED_NEIGHBORS, workers)
    return _mutual_judge(leading, weight, neighbors)


def _mutual_judge(x: np.ndarray, weight: np.ndarray, neighbors: np.ndarray) -> Judge:
    """The judge whose edges join rows that are among each other's neighbours."""
    return Judge(x, weight, neighbors, edge_weights(neighbors, weight) * mutual(neighbors))


def embedding_judge(Z: np.ndarray, weight: np.ndarray, workers: Workers) -> Judge:
    """The judge of partitions in the embedding, where long edges count less."""
    judge = _mutual_judge(Z, weight, nearest_neighbors(Z, _N_NEIGHBORS, workers))
    return judge._replace(edges=judge.edges * _closeness(squared_lengths(Z, judge.neighbors)))


def _closeness(squared: np.ndarray, unit: float = 1.0) -> np.ndarray:
    """Weights of the edges between rows and their neighbours, given their squared lengths.

    Between two classes rows lie less densely than inside, and edges are longer: without these
    weights there are no more of them than where a cluster is cut in two at a narrow place. The root
    of the similarity by which training with neighbours compares rows of the embedding, where the
    `unit` of squared lengths is 1; in units of the mean.
    """
    closeness = 1.0 / np.sqrt(1.0 + squared / unit)
    return closeness / closeness.mean()


def all_edges(judge: Judge, unit: float | None = 1.0) -> csr_array:
    """All edges between rows and their neighbours, mutual or not: no row is without one.

    They weigh by their closeness; without a `unit` that of squared lengths is their median.
    """
    squared = squared_lengths(judge.x, judge.neighbors)
    closeness = _closeness(squared, unit or float(np.median(squared)) or 1.0)
    return symmetric_graph(judge.neighbors, edge_weights(judge.neighbors, judge.weight) * closeness)
