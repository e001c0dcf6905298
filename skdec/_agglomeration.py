"""Small groups of rows joined two at a time: partitions into every number of clusters; no torch.

For callers that have scikit-learn alone; several threads may do so at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from scipy.sparse import csr_array
from sklearn.cluster import AgglomerativeClustering

from ._cuts import (
    conductances_to_others,
    cuts,
    edges_between,
    mean_by_edges,
    prior_edges,
)


def joined_by_conductance(affinity: np.ndarray) -> np.ndarray:
    """Which two are joined, one pair after the other: those between which most edges are.

    That is the share in all edges of the one that has fewer. `affinity`, of shape (n_groups,
    n_groups), holds the weights of the edges between groups, and twice those inside. The result, of
    shape (n_groups - 1, 2), is as the `children_` of scikit-learn's AgglomerativeClustering: groups
    have the numbers from 0, what comes of the first two n_groups, and so on.
    """
    # Sums that differ in the last bit would leave what is closest to one another without the other.
    between, node = (affinity + affinity.T) / 2.0, np.arange(len(affinity))
    volume = np.maximum(between.sum(axis=1), np.finfo(between.dtype).tiny)
    np.fill_diagonal(between, 0.0)
    share = between / np.minimum.outer(volume, volume)
    np.fill_diagonal(share, -1.0)
    best, merges = share.max(axis=1), np.empty((len(affinity) - 1, 2), dtype=np.int64)
    for step in range(len(merges)):
        one = best.argmax()
        other = share[one].argmax()
        merges[step] = node[one], node[other]
        node[one] = len(affinity) + step
        between[one] += between[other]
        volume[one] += volume[other]
        joined = np.where(share[one] < 0, -1.0, between[one] / np.minimum(volume[one], volume))
        joined[[one, other]] = -1.0
        # Whose best was one of the two has to look for another; all others compare with the new.
        lost = (share[:, [one, other]] == best[:, None]).any(axis=1)
        share[other] = share[:, other] = -1.0
        share[one], share[:, one], between[:, one] = joined, joined, between[one]
        best = np.maximum(best, joined)
        best[lost] = share[lost].max(axis=1)
    return merges


def joined_by_ward(centers: np.ndarray) -> np.ndarray:
    """The same of the groups with these centres by Ward's method."""
    return AgglomerativeClustering(None, distance_threshold=0.0).fit(centers).children_


def partitions(merges: np.ndarray) -> Iterator[np.ndarray]:
    """The node that each group belongs to, from as many clusters as groups down to one."""
    nodes = np.arange(len(merges) + 1)
    yield nodes
    for step, pair in enumerate(merges):
        nodes = np.where(np.isin(nodes, pair), len(merges) + 1 + step, nodes)
        yield nodes


def partition_into(n_clusters: int, merges: np.ndarray) -> np.ndarray:
    """The cluster of each group, from 0, in the partition into so many clusters.

    Where there are no more groups than that each is its own.
    """
    n_joined = max(0, len(merges) + 1 - n_clusters)
    nodes = next(islice(partitions(merges), n_joined, None))
    return np.unique(nodes, return_inverse=True)[1]


def relative_conductances_by_number(
    graph: csr_array, groups: np.ndarray, merges: np.ndarray, most: int
) -> dict[int, float]:
    """Relative conductance of the partitions into 2 to `most` clusters.

    `groups` are those of the rows of the `graph`. A cluster of one partition is one of most others
    too: only those that are new are cut.
    """
    prior, of_groups = prior_edges(graph), edges_between(graph, groups)
    known, found = {}, {}
    for nodes in partitions(merges):
        clusters, labels = np.unique(nodes, return_inverse=True)
        if not 2 <= len(clusters) <= most:
            continue
        between = edges_between(of_groups, labels)
        for cluster in clusters.tolist():
            if cluster not in known:
                rows = np.flatnonzero(nodes[groups] == cluster)
                known[cluster] = cuts(graph[rows][:, rows])
        outside = conductances_to_others(between, prior)
        inside = [
            known[cluster].least_conductance(prior, expected)
            for cluster, expected in zip(clusters.tolist(), outside, strict=True)
        ]
        found[len(clusters)] = mean_by_edges(inside / (inside + outside), between.sum(axis=1))
    return found
