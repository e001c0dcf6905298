"""Partitions that differ in what they take for a cluster; no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array, hstack
from sklearn.cluster import AgglomerativeClustering, KMeans, spectral_clustering

from ._agglomeration import joined_by_conductance, partition_into
from ._cuts import edges_between, indicators
from ._judges import Judge, all_edges
from ._threads import Workers, scikit_learn_alone

# Groups of rows that are joined to clusters: so many for each cluster, at most so many, and of so
# many rows on average.
_GROUPS_PER_CLUSTER, _MOST_GROUPS, _ROWS_PER_GROUP = (2, 3, 5, 10, 20, 40), 2_000, 10

# Starts of k-means that one thread makes before it takes others.
_STARTS_AT_ONCE = 5

# More threads of k-means hinder each other: with 16 cores the groups of USPS take 0.83, 0.65, 0.58,
# 0.69, 0.73 and 0.9 s with 2, 3, 4, 6, 8 and 16 of them.
_MOST_THREADS = 4

# Groups are as useful before k-means has settled.
GROUP_ITERATIONS = 20

# Ward's linkage costs so little that it is tried on the groups of three k-means starts; after the
# first without the most groups, which take as long to find as all others.
_GROUPS_OF_STARTS = (_GROUPS_PER_CLUSTER, _GROUPS_PER_CLUSTER[:-1], _GROUPS_PER_CLUSTER[:-1])

# The same in the input: of so many rows on average, at most so many groups, found from so many
# random starts in so many iterations. It is the edges between groups that hold a shape together:
# k-means need not have settled, which in wide rows takes time.
_ROWS_PER_INPUT_GROUP, _MOST_INPUT_GROUPS, _INPUT_STARTS, _INPUT_ITERATIONS = 5, 500, 2, 3

K_MEANS_OF_INPUT = "k-means, input"


def small_groups(
    Z: np.ndarray, weight: np.ndarray, n_clusters: int, seed: int, workers: Workers
) -> list[list[KMeans]]:
    """For each k-means start the rows in small groups, from few groups to many.

    Each grouping has more groups than there are clusters.
    """
    most = min(_MOST_GROUPS, len(np.unique(Z, axis=0)) // _ROWS_PER_GROUP)
    sizes = [
        (n_groups, start)
        for start, per_cluster in enumerate(_GROUPS_OF_STARTS)
        for n_groups in {min(c * n_clusters, most) for c in per_cluster}
        if n_groups > n_clusters
    ]
    sizes.sort(reverse=True)  # in the threads' pile the slow ones come first

    def group(size: tuple[int, int]) -> KMeans:
        n_groups, start = size
        return k_means(Z, weight, n_groups, "k-means++", 1, seed + start, GROUP_ITERATIONS)

    with scikit_learn_alone():
        found = dict(zip(sizes, workers.map(group, sizes, _MOST_THREADS), strict=True))
    return [
        [found[size] for size in reversed(sizes) if size[1] == start]
        for start in range(len(_GROUPS_OF_STARTS))
    ]


def candidate_partitions(
    judges: Sequence[Judge],
    groupings: list[list[KMeans]],
    n_clusters: int,
    n_init: int,
    seed: int,
    workers: Workers,
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and labels of partitions that differ in what they take for a cluster.

    k-means wants compact clusters of about the same size, in the input or in the embedding.
    Spectral clustering of small groups of rows, by the edges between them in the embedding's
    neighbour graph, finds long or uneven ones; the more groups, the finer the shapes. Ward's
    method joins the same groups, one by one, to compact clusters of any size. Groups of rows of the
    input, joined by the edges between them there, are the shapes that training may have torn.
    """
    of_input, of_embedding = judges
    weight, spaces = of_input.weight, {K_MEANS_OF_INPUT: of_input.x, "k-means": of_embedding.x}
    spaces = {n: rows for n, rows in spaces.items() if len(np.unique(rows, axis=0)) >= n_clusters}
    pieces = [(name, first) for name in spaces for first in range(0, n_init, _STARTS_AT_ONCE)]

    def by_k_means(piece: tuple[str, int]) -> KMeans:
        name, first = piece
        n_starts = min(_STARTS_AT_ONCE, n_init - first)
        return k_means(spaces[name], weight, n_clusters, "k-means++", n_starts, seed + first)

    with scikit_learn_alone():
        done = workers.map(by_k_means, pieces, _MOST_THREADS)
    found = dict(zip(pieces, done, strict=True))
    for name in spaces:
        best = min((found[p] for p in pieces if p[0] == name), key=lambda kmeans: kmeans.inertia_)
        yield name, best.labels_
    yield from _joined_in_the_input(of_input, n_clusters, seed, workers)
    graph = all_edges(of_embedding)
    for grouping in groupings[0]:
        groups = grouping.labels_
        joined = _join(groups, graph, n_clusters, seed)
        yield f"spectral, {grouping.n_clusters} groups", joined[groups]
    for start, starts_groupings in enumerate(groupings):
        for grouping in starts_groupings:
            with scikit_learn_alone():
                ward = AgglomerativeClustering(n_clusters).fit(grouping.cluster_centers_)
            name = f"Ward, {grouping.n_clusters} groups, start {start + 1}"
            yield name, ward.labels_[grouping.labels_]


def _joined_in_the_input(
    judge: Judge, n_clusters: int, seed: int, workers: Workers
) -> list[tuple[str, np.ndarray]]:
    """Names and labels of partitions of small groups of rows, joined by conductance.

    The edges between groups are those of the input's neighbour graph. The longer they are the less
    they count, in units of their usual length.
    """
    n_groups = min(_MOST_INPUT_GROUPS, len(np.unique(judge.x, axis=0)) // _ROWS_PER_INPUT_GROUP)
    if n_groups <= n_clusters:
        return []
    graph = all_edges(judge, unit=None)

    def join(start: int) -> tuple[str, np.ndarray]:
        kmeans = k_means(
            judge.x, judge.weight, n_groups, "random", 1, seed + start, _INPUT_ITERATIONS
        )
        groups = np.unique(kmeans.labels_, return_inverse=True)[1]
        merges = joined_by_conductance(edges_between(graph, groups).toarray())
        name = f"conductance, {n_groups} groups of the input, start {start + 1}"
        return name, partition_into(n_clusters, merges)[groups]

    with scikit_learn_alone():
        return workers.map(join, range(_INPUT_STARTS))


def consensus_of(
    partitions: Sequence[np.ndarray],
    probability: np.ndarray,
    groups: np.ndarray,
    weight: np.ndarray,
    n_clusters: int,
) -> np.ndarray:
    """A partition between all: average linkage of how probable two groups of rows are to be parted.

    Evidence accumulation (Fred and Jain, "Combining Multiple Clusterings Using Evidence
    Accumulation", IEEE PAMI 2005), for groups of rows in place of rows.
    """
    probable = zip(partitions, probability, strict=True)
    clusters = hstack([indicators(labels) * math.sqrt(p) for labels, p in probable if p]).tocsr()
    member = indicators(groups)
    shares = (member.T @ (clusters * weight[:, None])).toarray() / (member.T @ weight)[:, None]
    linkage = AgglomerativeClustering(n_clusters, metric="sqeuclidean", linkage="average")
    with scikit_learn_alone():
        return linkage.fit(shares).labels_[groups]


def _join(groups: np.ndarray, graph: csr_array, n_clusters: int, seed: int) -> np.ndarray:
    """A cluster for each group of rows, by spectral clustering of the edges between groups."""
    affinity = edges_between(graph, groups).toarray()
    # Groups without any edge would leave the spectrum degenerate.
    affinity += 1e-6 * affinity.mean()
    with scikit_learn_alone():
        return spectral_clustering(
            affinity, n_clusters=n_clusters, assign_labels="cluster_qr", random_state=seed
        )


def k_means(
    Z: np.ndarray,
    weight: np.ndarray,
    n_clusters: int,
    init: str | np.ndarray,
    n_init: int,
    seed: int,
    max_iter: int = 300,
) -> KMeans:
    """k-means, for callers that have scikit-learn alone; several threads may do so at once."""
    kmeans = KMeans(n_clusters, init=init, n_init=n_init, max_iter=max_iter, random_state=seed)
    return kmeans.fit(Z.astype(np.float64), sample_weight=weight)
