"""Initial centres in the embedding: as told, or of the best of several partitions; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.sparse import hstack
from scipy.stats import multivariate_normal
from sklearn.utils import check_random_state

from ._agglomeration import (
    joined_by_conductance,
    joined_by_ward,
    relative_conductances_by_number,
)
from ._candidates import (
    GROUP_ITERATIONS,
    K_MEANS_OF_INPUT,
    candidate_partitions,
    consensus_of,
    k_means,
    small_groups,
)
from ._cuts import edges_between, indicators
from ._distributed import ALONE, Alone
from ._judges import Judge, all_edges, embedding_judge
from ._threads import Workers, scikit_learn_alone
from ._validation import check_init_centers

# Partitions are made and judged on at most this many rows, or so many for each cluster.
_MOST_ROWS, _ROWS_PER_CLUSTER = 10_000, 10

# Scores that differ by less than this do not tell which partition is better: what self-training
# moves at the clusters' borders improves the accuracy on digits and costs 0.001.
SCORE_MARGIN = 0.01

# k-means of the input is the simplest candidate: it is also taken where the best is better by less
# than the score's standard error. Where there are few rows to a centre, though, it optimises what
# it is judged by, compactness in the input space, and has to be better by this times
# (n_clusters / n_rows)^2.
_HANDICAP = 5.0

# By how much the scores may fall where borders are moved, in units of one over the root of the
# graph's pairs: the standard error of a share of four fifths.
_BORDER_ERROR = 0.4

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
# count. The others are the less probable the more of the embedding's variance is within their
# clusters: by the power of the rows by this number, for by a few rows it says little.
_LEAST_PROBABILITY, _ROWS_PER_POWER = 1e-3, 4_000


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


def scores_by_number(Z: np.ndarray, weight: np.ndarray, seed: int, workers: Workers) -> list[float]:
    """How well rows of the embedding fall into 2, 3, … clusters; none if they are all alike.

    It is the relative conductance of the better of two partitions into so many, in the graph of the
    embedding, less a price of more clusters.
    """
    n_groups = min(_MOST_JOINED_GROUPS, len(np.unique(Z, axis=0)))
    if n_groups < 2:
        return []
    graph = all_edges(embedding_judge(Z, weight, workers))
    with scikit_learn_alone():
        kmeans = k_means(Z, weight, n_groups, "k-means++", 1, seed, GROUP_ITERATIONS)
        groups = np.unique(kmeans.labels_, return_inverse=True)[1]
        merges = [
            joined_by_conductance(edges_between(graph, groups).toarray()),
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
    judges = judge, embedding_judge(Z, judge.weight, workers)
    groupings = small_groups(Z, judge.weight, n_clusters, seed, workers)
    found = candidate_partitions(judges, groupings, n_clusters, n_init, seed, workers)
    candidates = {name: c for name, c in found if len(np.unique(c)) == n_clusters}
    if not candidates:
        return None
    probability = _probabilities(judges, candidates, n_clusters)
    if groupings[0] and np.count_nonzero(probability) > 1:
        candidates["consensus"] = consensus_of(
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
    if chosen != K_MEANS_OF_INPUT:
        labels = _with_gaussian_borders(judges, labels)
    return Partition(labels, {name: scores[name] for name in ranked})


def _scores(
    judges: Sequence[Judge],
    candidates: dict[str, np.ndarray],
    advantage: Callable[[float], float] = lambda rival: 0.0,
) -> np.ndarray:
    """The mean score of each candidate by the judges of input and embedding.

    k-means of the input is no partition of the embedding: there it has the score of the best of the
    others, so that the input decides between the two, with an `advantage` that depends on the
    rival's score there.
    """
    of_input, of_embedding = (
        np.array([judge.score(labels) for labels in candidates.values()]) for judge in judges
    )
    others = np.array([name != K_MEANS_OF_INPUT for name in candidates])
    if others.any():
        best = _mean_score(of_input, of_embedding)[others].argmax()
        of_embedding[~others] = of_embedding[others][best]
        of_input[~others] += advantage(of_input[others][best])
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
    probable by a factor of e for each time that its score is behind by half the square of what its
    score in the input lacks to 1: its own one, or a few small groups that nothing joins to the rest
    would leave no doubt of what cuts the rest. How tight its clusters are in the embedding tells
    between candidates that are about as probable by that. k-means of the input, the simplest, is
    the right one wherever it is the best.
    """
    names = list(candidates)
    scores = _scores(judges, candidates, partial(_advantage, judges[0], n_clusters))
    best = names[scores.argmax()]
    if best == K_MEANS_OF_INPUT:
        return np.array([float(name == best) for name in names])
    lacking = np.array([1.0 - judges[0].score(labels) for labels in candidates.values()])
    doubt = np.maximum(lacking, _LEAST_LACKING) ** 2 / 2.0
    probability = np.exp((scores - scores.max()) / doubt)
    counts = probability > _LEAST_PROBABILITY
    within = _within(judges[1], [candidates[name] for name in np.array(names)[counts]])
    tightness = (within.min() / within) ** (len(judges[1].weight) / _ROWS_PER_POWER)
    probability[counts] *= tightness
    return np.where(counts, probability, 0.0)


def _within(judge: Judge, partitions: Sequence[np.ndarray]) -> np.ndarray:
    """Of each partition the sum of the rows' squared distances to their clusters' means."""
    Z, weight = judge.x.astype(np.float64), judge.weight
    left = [np.square(Z - weighted_means(Z, weight, p)[p]).sum(axis=1) @ weight for p in partitions]
    return np.maximum(left, np.finfo(np.float64).tiny)


def _closest_to_all(
    candidates: dict[str, np.ndarray], probability: np.ndarray, weight: np.ndarray
) -> str:
    """Name of the candidate that is expected to agree most with the right one.

    That is one of the first, which have a `probability`. Where one leads clearly it is itself the
    closest, else one between all that may be right.
    """
    agreements = _agreements(list(candidates.values()), weight)[:, : len(probability)]
    return list(candidates)[(agreements @ probability).argmax()]


def _advantage(judge: Judge, n_clusters: int, rival: float) -> float:
    """What is added to the score of k-means of the input, which is not judged as the others.

    It is the standard error of the `rival` score, as if each pair of rows were parted by itself,
    less the handicap. Hardly any where next to no pairs are parted: then k-means has cut more.
    """
    by_chance = 1.0 - 1.0 / max(n_clusters, 2)
    parted = min(max((1.0 - rival) * by_chance, 0.0), 1.0)
    standard_error = math.sqrt(parted * (1.0 - parted) / judge.n_pairs) / by_chance
    return standard_error - _HANDICAP * (n_clusters / len(judge.weight)) ** 2


def _with_gaussian_borders(judges: Sequence[Judge], labels: np.ndarray) -> np.ndarray:
    """Each row in the cluster whose Gaussian in the embedding is the likeliest to have made it.

    A graph does not tell where exactly a border has to be; for clusters that are anything like
    Gaussians their densities do. Where the mean of the scores falls by more than a standard error
    they are not, and the `labels` stay. Long edges count in full here: it is
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
    is_worse = _weighted(*fallen) > _BORDER_ERROR / math.sqrt(of_input.n_pairs)
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
        centers = k_means(Z, weight, n_found, start, n_init, seed).cluster_centers_
    return np.resize(centers, (n_clusters, Z.shape[1]))
