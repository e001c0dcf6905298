"""Initial centres in the embedding: as told, or of the best of several partitions; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, hstack
from scipy.stats import multivariate_normal
from sklearn.cluster import AgglomerativeClustering, KMeans, spectral_clustering
from sklearn.utils import check_random_state

from ._agglomeration import (
    joined_by_conductance,
    joined_by_ward,
    partition_into,
    relative_conductances_by_number,
)
from ._components import leading_components
from ._cuts import indicators, symmetric_graph
from ._distributed import ALONE, Alone
from ._neighborhoods import Neighborhoods
from ._neighbors import (
    edge_weights,
    mutual,
    nearest_neighbors,
    separation,
    squared_lengths,
)
from ._threads import Workers, scikit_learn_alone
from ._validation import check_init_centers

# Partitions are made and judged on at most this many rows, or so many for each cluster.
_MOST_ROWS, _ROWS_PER_CLUSTER = 10_000, 10

# Scores that differ by less than this do not tell which partition is better: what self-training
# moves at the clusters' borders improves the accuracy on digits and costs 0.001.
SCORE_MARGIN = 0.01

# k-means of the input is the simplest candidate: it is also taken where the best is better by less
# than the score's standard error, this over the root of the number of the graph's pairs (where four
# fifths of them are inside clusters).
# Where there are few rows to a centre, though, it optimises what it is judged by, compactness in
# the input space, and has to be better by this times (n_clusters / n_rows)^2.
_STANDARD_ERROR, _HANDICAP = 0.4, 5.0

# Neighbours of a row in the graph of the embedding, and in that of the input: with few, small
# clusters can be told apart.
_N_NEIGHBORS, _N_JUDGED_NEIGHBORS = 15, 7

# Groups of rows that are joined to clusters: so many for each cluster, at most so many, and of so
# many rows on average.
_GROUPS_PER_CLUSTER, _MOST_GROUPS, _ROWS_PER_GROUP = (2, 3, 5, 10, 20, 40), 2_000, 10

# Starts of k-means that one thread makes before it takes others.
_STARTS_AT_ONCE = 5

# More threads of k-means hinder each other: with 16 cores the groups of USPS take 0.83, 0.65, 0.58,
# 0.69, 0.73 and 0.9 s with 2, 3, 4, 6, 8 and 16 of them.
_MOST_THREADS = 4

# Groups are as useful before k-means has settled.
_GROUP_ITERATIONS = 20

# Ward's linkage costs so little that it is tried on the groups of three k-means starts; after the
# first without the most groups, which take as long to find as all others.
_GROUPS_OF_STARTS = (_GROUPS_PER_CLUSTER, _GROUPS_PER_CLUSTER[:-1], _GROUPS_PER_CLUSTER[:-1])

# The same in the input: of so many rows on average, at most so many groups, found from so many
# random starts in so many iterations. Shapes are held together by the edges between groups; what
# k-means makes of these in the end is of no use, and in wide rows it takes time.
_ROWS_PER_INPUT_GROUP, _MOST_INPUT_GROUPS, _INPUT_STARTS, _INPUT_ITERATIONS = 5, 500, 2, 3

# The number of clusters, where it is not given, is at most the first. It is told by partitions of
# so many groups of rows; for each factor of e in the number they have to be better by the third, so
# that of many numbers with about the same score the least is taken.
_MOST_CLUSTERS, _MOST_JOINED_GROUPS, _PRICE = 150, 1_000, 0.03

# Weight of the embedding's graph beside that of the input. It tells apart what looks much the same
# in the input; k-means of the input is judged in the input alone.
_EMBEDDING_WEIGHT = 2 / 3

# What a score lacks to 1 is at least so much.
_LEAST_LACKING = 1e-6

# The covariance of a cluster is that of its rows and so many of average covariance, so that a few
# rows have one too.
_AVERAGE_ROWS = 100

# Candidates whose probability to be the right one is less than this share of the best one's do not
# count.
_LEAST_PROBABILITY = 1e-3

_K_MEANS_OF_INPUT = "k-means, input"


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


class Partition(NamedTuple):
    """Labels of the judge's rows; every candidate's score by its name.

    The labels are those of the chosen candidate, up to its borders. It is the first of the names,
    the others follow by falling score.
    """

    labels: np.ndarray
    scores: dict[str, float]


def judged_rows(n_rows: int, n_clusters: int, seed: int, group: Alone = ALONE) -> np.ndarray:
    """Numbers of the rows, of this rank's `n_rows`, that partitions are made and judged on.

    All of them, or a random choice if there are many.
    """
    most = max(_MOST_ROWS, _ROWS_PER_CLUSTER * n_clusters)
    if group.sum(n_rows) <= most:
        return np.arange(n_rows)
    n_judged = max(1, math.floor(most * group.share(n_rows)))
    random = np.random.default_rng(group.own_seed(seed))
    return np.sort(random.choice(n_rows, n_judged, replace=False))


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


def _embedding_judge(Z: np.ndarray, weight: np.ndarray, workers: Workers) -> Judge:
    """The judge of partitions in the embedding, where long edges count less."""
    judge = _mutual_judge(Z, weight, nearest_neighbors(Z, _N_NEIGHBORS, workers))
    return judge._replace(edges=judge.edges * _closeness(squared_lengths(Z, judge.neighbors)))


def scores_by_number(Z: np.ndarray, weight: np.ndarray, seed: int, workers: Workers) -> list[float]:
    """How well rows of the embedding fall into 2, 3, … clusters; none if they are all alike.

    It is the relative conductance of the better of two partitions into so many, in the graph of the
    embedding, less a price of more clusters.
    """
    n_groups = min(_MOST_JOINED_GROUPS, len(np.unique(Z, axis=0)))
    if n_groups < 2:
        return []
    graph = _all_edges(_embedding_judge(Z, weight, workers))
    with scikit_learn_alone():
        kmeans = _k_means(Z, weight, n_groups, "k-means++", 1, seed, _GROUP_ITERATIONS)
        groups = np.unique(kmeans.labels_, return_inverse=True)[1]
        member = indicators(groups)
        merges = [
            joined_by_conductance((member.T @ graph @ member).toarray()),
            joined_by_ward(weighted_means(Z, weight, groups)),
        ]
        found = workers.map(
            lambda merges: relative_conductances_by_number(graph, groups, merges, _MOST_CLUSTERS),
            merges,
        )
    return [max(one[n] for one in found) - _PRICE * math.log(n) for n in sorted(found[0])]


def best_partition(
    judge: Judge,
    Z: np.ndarray,
    n_clusters: int,
    n_init: int,
    seed: int,
    workers: Workers,
) -> Partition | None:
    """The best of several partitions of the judge's rows, by it and by the embedding's graph.

    The judge is that of the input space, and `Z` are its rows in the embedding. None if no
    partition into so many clusters was found.
    """
    judges = judge, _embedding_judge(Z, judge.weight, workers)
    groupings = _groupings(Z, judge.weight, n_clusters, seed, workers)
    candidates = {
        name: labels
        for name, labels in _candidates(judges, groupings, n_clusters, n_init, seed, workers)
        if len(np.unique(labels)) == n_clusters
    }
    if not candidates:
        return None
    probability = _probabilities(judges, candidates, n_clusters)
    if groupings[0] and np.count_nonzero(probability) > 1:
        candidates["consensus"] = _consensus(
            list(candidates.values()),
            probability,
            groupings[0][-1].labels_,
            judge.weight,
            n_clusters,
        )
    chosen = _closest_to_all(candidates, probability, judge.weight)
    scores = dict(zip(candidates, _scores(judges, candidates).tolist(), strict=True))
    ranked = sorted(scores, key=lambda name: (name != chosen, -scores[name]))
    labels = candidates[chosen]
    if chosen != _K_MEANS_OF_INPUT:
        labels = _with_gaussian_borders(judges, labels)
    return Partition(labels, {name: scores[name] for name in ranked})


def _scores(
    judges: Sequence[Judge], candidates: dict[str, np.ndarray], advantage: float = 0.0
) -> np.ndarray:
    """The mean score of each candidate by the judges of input and embedding.

    k-means of the input is no partition of the embedding: there it has the score of the best of the
    others, so that the input decides between the two, with an `advantage`.
    """
    of_input, of_embedding = (
        np.array([judge.score(labels) for labels in candidates.values()]) for judge in judges
    )
    others = np.array([name != _K_MEANS_OF_INPUT for name in candidates])
    if others.any():
        best = _mean_score(of_input, of_embedding)[others].argmax()
        of_embedding[~others] = of_embedding[others][best]
        of_input[~others] += advantage
    return _mean_score(of_input, of_embedding)


def _mean_score(of_input: np.ndarray, of_embedding: np.ndarray) -> np.ndarray:
    """1 less the weighted geometric mean of what scores in input and embedding lack to 1.

    It is several times as much in the input: in a mean of the scores the input would decide.
    """
    lacking = [np.log(np.maximum(1.0 - s, _LEAST_LACKING)) for s in (of_input, of_embedding)]
    return 1.0 - np.exp(_weighted(*lacking))


def _weighted(of_input: np.ndarray, of_embedding: np.ndarray) -> np.ndarray:
    return (1.0 - _EMBEDDING_WEIGHT) * of_input + _EMBEDDING_WEIGHT * of_embedding


def _probabilities(
    judges: Sequence[Judge], candidates: dict[str, np.ndarray], n_clusters: int
) -> np.ndarray:
    """How probable each candidate is to be the right one, in units of the best.

    Scores that differ by little mean little, the less the more edges lead out of the clusters in
    the input: training parts clusters in the embedding, whether right or wrong. A candidate is less
    probable by a factor of e for each time that its score is behind by half the square of what the
    best one's score in the input lacks to 1. k-means of the input, the simplest, is the right one
    wherever it is the best.
    """
    names, n_pairs = list(candidates), judges[0].n_pairs
    scores = _scores(judges, candidates, _advantage(n_clusters / len(judges[0].weight), n_pairs))
    best = names[scores.argmax()]
    if best == _K_MEANS_OF_INPUT:
        return np.array([float(name == best) for name in names])
    doubt = (1.0 - judges[0].score(candidates[best])) ** 2 / 2.0
    probability = np.exp((scores - scores.max()) / max(doubt, _LEAST_LACKING**2))
    return np.where(probability > _LEAST_PROBABILITY, probability, 0.0)


def _closest_to_all(
    candidates: dict[str, np.ndarray], probability: np.ndarray, weight: np.ndarray
) -> str:
    """Name of the candidate that is expected to agree most with the right one.

    That is one of the first, which have a `probability`. Where one leads clearly it is itself the
    closest, else one between all that may be right.
    """
    agreements = _agreements(list(candidates.values()), weight)[:, : len(probability)]
    return list(candidates)[(agreements @ probability).argmax()]


def _advantage(clusters_per_row: float, n_pairs: float) -> float:
    """What is added to the score of k-means of the input, which is not judged as the others."""
    return _standard_error(n_pairs) - _HANDICAP * clusters_per_row**2


def _standard_error(n_pairs: float) -> float:
    return _STANDARD_ERROR / math.sqrt(n_pairs)


def _with_gaussian_borders(judges: Sequence[Judge], labels: np.ndarray) -> np.ndarray:
    """Each row in the cluster whose Gaussian in the embedding is the likeliest to have made it.

    A graph does not tell where exactly a border has to be; for clusters that are anything like
    Gaussians their densities do. Where the mean of the scores falls by more than the standard error
    of that of the input they are not, and the `labels` stay. Long edges count in full here: it is
    the rows with long edges that are moved.
    """
    of_input, of_embedding = judges
    with scikit_learn_alone():
        moved = _likeliest(of_embedding.x.astype(np.float64), of_embedding.weight, labels)
    if len(np.unique(moved)) < len(np.unique(labels)):
        return labels
    fallen = [
        judge.score(labels) - judge.score(moved) for judge in (of_input, of_embedding.plain())
    ]
    is_worse = _weighted(*fallen) > _standard_error(of_input.n_pairs)
    return labels if is_worse else moved


def _likeliest(Z: np.ndarray, weight: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The likeliest label of each row, by the mean and covariance of each label's rows."""
    centers, n_clusters = weighted_means(Z, weight, labels), labels.max() + 1
    deviations = Z - centers[labels]
    average = (deviations.T * weight) @ deviations / weight.sum()
    found, highest = labels.copy(), np.full(len(Z), -np.inf)
    for cluster in range(n_clusters):
        own = labels == cluster
        scatter = (deviations[own].T * weight[own]) @ deviations[own] + _AVERAGE_ROWS * average
        n_rows = weight[own].sum()
        gaussian = multivariate_normal(
            centers[cluster], scatter / (n_rows + _AVERAGE_ROWS), allow_singular=True
        )
        likelihood = gaussian.logpdf(Z) + math.log(n_rows)
        found[likelihood > highest] = cluster
        highest = np.maximum(highest, likelihood)
    return found


def _agreements(partitions: Sequence[np.ndarray], weight: np.ndarray) -> np.ndarray:
    """Adjusted Rand index of each two partitions of weighted rows, drawn with replacement."""
    clusters = hstack([indicators(labels) for labels in partitions]).tocsr()
    n, of = len(partitions), np.repeat(range(len(partitions)), [p.max() + 1 for p in partitions])
    shares = clusters.T @ weight / weight.sum()
    alone = np.bincount(of, np.square(shares))
    joint = (clusters.T @ (clusters * (weight / weight.sum())[:, None])).tocoo()
    one, other = joint.row, joint.col
    both = np.bincount(n * of[one] + of[other], np.square(joint.data), n * n).reshape(n, n)
    by_chance = np.outer(alone, alone)
    return (both - by_chance) / np.maximum(np.add.outer(alone, alone) / 2 - by_chance, 1e-12)


def _groupings(
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
        return _k_means(Z, weight, n_groups, "k-means++", 1, seed + start, _GROUP_ITERATIONS)

    with scikit_learn_alone():
        found = dict(zip(sizes, workers.map(group, sizes, _MOST_THREADS), strict=True))
    return [
        [found[size] for size in reversed(sizes) if size[1] == start]
        for start in range(len(_GROUPS_OF_STARTS))
    ]


def _candidates(
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
    weight, spaces = of_input.weight, {_K_MEANS_OF_INPUT: of_input.x, "k-means": of_embedding.x}
    spaces = {n: rows for n, rows in spaces.items() if len(np.unique(rows, axis=0)) >= n_clusters}
    pieces = [(name, first) for name in spaces for first in range(0, n_init, _STARTS_AT_ONCE)]

    def by_k_means(piece: tuple[str, int]) -> KMeans:
        name, first = piece
        n_starts = min(_STARTS_AT_ONCE, n_init - first)
        return _k_means(spaces[name], weight, n_clusters, "k-means++", n_starts, seed + first)

    with scikit_learn_alone():
        done = workers.map(by_k_means, pieces, _MOST_THREADS)
    found = dict(zip(pieces, done, strict=True))
    for name in spaces:
        best = min((found[p] for p in pieces if p[0] == name), key=lambda kmeans: kmeans.inertia_)
        yield name, best.labels_
    yield from _joined_in_the_input(of_input, n_clusters, seed, workers)
    graph = _all_edges(of_embedding)
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
    graph = _all_edges(judge, unit=None)

    def join(start: int) -> tuple[str, np.ndarray]:
        kmeans = _k_means(
            judge.x, judge.weight, n_groups, "random", 1, seed + start, _INPUT_ITERATIONS
        )
        groups = np.unique(kmeans.labels_, return_inverse=True)[1]
        member = indicators(groups)
        merges = joined_by_conductance((member.T @ graph @ member).toarray())
        name = f"conductance, {n_groups} groups of the input, start {start + 1}"
        return name, partition_into(n_clusters, merges)[groups]

    with scikit_learn_alone():
        return workers.map(join, range(_INPUT_STARTS))


def _consensus(
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


def _closeness(squared: np.ndarray, unit: float = 1.0) -> np.ndarray:
    """Weights of the edges between rows and their neighbours, given their squared lengths.

    Between two classes rows lie less densely than inside, and edges are longer: without these
    weights there are no more of them than where a cluster is cut in two at a narrow place. The root
    of the similarity by which training with neighbours compares rows of the embedding, where the
    `unit` of squared lengths is 1; in units of the mean.
    """
    closeness = 1.0 / np.sqrt(1.0 + squared / unit)
    return closeness / closeness.mean()


def _all_edges(judge: Judge, unit: float | None = 1.0) -> csr_array:
    """All edges between rows and their neighbours, mutual or not: no row is without one.

    They weigh by their closeness; without a `unit` that of squared lengths is their median.
    """
    squared = squared_lengths(judge.x, judge.neighbors)
    closeness = _closeness(squared, unit or float(np.median(squared)) or 1.0)
    return symmetric_graph(judge.neighbors, edge_weights(judge.neighbors, judge.weight) * closeness)


def _join(groups: np.ndarray, graph: csr_array, n_clusters: int, seed: int) -> np.ndarray:
    """A cluster for each group of rows, by spectral clustering of the edges between groups."""
    member = indicators(groups)
    affinity = (member.T @ graph @ member).toarray()
    # Groups without any edge would leave the spectrum degenerate.
    affinity += 1e-6 * affinity.mean()
    with scikit_learn_alone():
        return spectral_clustering(
            affinity, n_clusters=n_clusters, assign_labels="cluster_qr", random_state=seed
        )


def weighted_means(Z: np.ndarray, weight: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Centres of the clusters 0, 1, … of `labels`, float64 of shape (n_clusters, width of Z)."""
    totals = np.bincount(labels, weight)
    sums = [np.bincount(labels, weight * column) for column in Z.T.astype(np.float64)]
    return np.stack(sums, axis=1) / totals[:, None]


def initial_centers(
    Z: np.ndarray,
    weight: np.ndarray,
    init: str | np.ndarray | Callable,
    n_clusters: int,
    n_init: int,
    seed: int,
    rows: Callable[[], np.ndarray],
    embed: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """k-means centres of the embedding `Z`, float64 of shape (n_clusters, embedding_dim).

    `rows()` gives the distinct input rows for a callable `init`; `embed` maps centres from
    the input space to the embedding. With fewer distinct rows of `Z` than clusters the last
    centres are repeats of the first.
    """
    if not isinstance(init, str):
        if callable(init):
            init = init(rows(), n_clusters, random_state=check_random_state(seed))
            init = check_init_centers(init, n_clusters, rows().shape[1])
        init, n_init = embed(init).astype(np.float64), 1
    # Distinct rows may share an embedding, to the bit.
    n_found = min(n_clusters, len(np.unique(Z, axis=0)))
    start = init if isinstance(init, str) else init[:n_found]
    with scikit_learn_alone():
        centers = _k_means(Z, weight, n_found, start, n_init, seed).cluster_centers_
    return np.resize(centers, (n_clusters, Z.shape[1]))


def _k_means(
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
