"""Groups joined two at a time, and into how many clusters rows fall."""

import pickle
import warnings

import numpy as np
import pytest
from quick import blobs, quick
from sklearn.cluster import AgglomerativeClustering
from sklearn.datasets import make_blobs, make_circles
from sklearn.metrics import adjusted_rand_score

from skdec import DECClustering, _estimator, _initialization
from skdec._agglomeration import (
    joined_by_conductance,
    joined_by_ward,
    partition_into,
    partitions,
    relative_conductances_by_number,
)
from skdec._cuts import relative_conductances, symmetric_graph
from skdec._initialization import scores_by_number
from skdec._neighbors import nearest_neighbors
from skdec._threads import Workers


def some_affinity(n_groups, seed):
    affinity = np.random.default_rng(seed).random((n_groups, n_groups)) ** 6
    return affinity + affinity.T


def joined_one_by_one(affinity):
    """The clusters after each step, by the definition."""
    clusters = [[group] for group in range(len(affinity))]
    while True:
        yield sorted(sorted(cluster) for cluster in clusters)
        if len(clusters) == 1:
            return
        weight = {
            (a, b): affinity[np.ix_(clusters[a], clusters[b])].sum()
            / min(affinity[clusters[a]].sum(), affinity[clusters[b]].sum())
            for a in range(len(clusters))
            for b in range(a)
        }
        a, b = max(weight, key=weight.get)
        clusters[b] += clusters.pop(a)


@pytest.mark.parametrize(("n_groups", "seed"), [(2, 0), (3, 1), (12, 2), (12, 3), (25, 4)])
def test_those_are_joined_between_which_the_largest_share_of_edges_is(n_groups, seed):
    affinity = some_affinity(n_groups, seed)
    before = affinity.copy()
    found = [
        sorted(np.flatnonzero(nodes == node).tolist() for node in np.unique(nodes))
        for nodes in partitions(joined_by_conductance(affinity))
    ]
    assert found == list(joined_one_by_one(affinity))
    assert np.array_equal(affinity, before)


@pytest.mark.parametrize("seed", range(10))
def test_two_are_joined_each_time_where_sums_differ_in_the_last_bit_from_their_mirror_image(seed):
    ring = np.roll(np.eye(30), 1, axis=0)  # of groups that are all joined by as many edges
    rounded = (ring + ring.T) * (1.0 + 1e-15 * np.random.default_rng(seed).random((30, 30)))
    found = [len(np.unique(nodes)) for nodes in partitions(joined_by_conductance(rounded))]
    assert found == list(range(30, 0, -1))


def test_groups_without_an_edge_are_joined_in_the_end():
    pairs = np.kron(np.eye(3), np.ones((2, 2)))  # three pairs, nothing between them
    pairs[4:, 4:] = 0.0  # and the last two have not even one to each other
    found = partition_into(4, joined_by_conductance(pairs))
    assert found[0] == found[1] and found[2] == found[3] and len(set(found[[0, 2, 4, 5]])) == 4
    assert partition_into(1, joined_by_conductance(pairs)).tolist() == [0] * 6
    assert partition_into(9, joined_by_conductance(pairs)).tolist() == list(range(6))


def test_cuts_of_wards_tree_are_scikit_learns():
    centers = np.random.default_rng(0).normal(size=(40, 3))
    merges = joined_by_ward(centers)
    for n_clusters in (1, 2, 7, 40):
        expected = AgglomerativeClustering(n_clusters).fit_predict(centers)
        found = partition_into(n_clusters, merges)
        assert adjusted_rand_score(expected, found) == 1.0
        assert np.array_equal(np.unique(found), np.arange(n_clusters))


def test_scores_of_nested_partitions_are_those_of_each():
    X, _ = make_blobs(300, 4, centers=5, cluster_std=3.0, random_state=0)
    neighbors = nearest_neighbors(X, 8, Workers(1))
    graph = symmetric_graph(neighbors, np.random.default_rng(0).random(neighbors.shape))
    groups = np.random.default_rng(1).permutation(np.arange(300) % 60)
    merges = joined_by_ward(np.stack([X[groups == group].mean(axis=0) for group in range(60)]))
    found = relative_conductances_by_number(graph, groups, merges, most=20)
    assert list(found) == list(range(20, 1, -1))
    for n_clusters, score in found.items():
        labels = partition_into(n_clusters, merges)[groups]
        weights = np.bincount(labels, graph.sum(axis=1))
        expected = np.average(relative_conductances(graph, labels), weights=weights)
        assert score == pytest.approx(expected)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (make_blobs(300, 8, centers=3, random_state=0)[0], 3),
        (make_blobs(1000, 8, centers=25, random_state=0)[0], 25),
        (make_circles(400, noise=0.05, factor=0.3, random_state=0)[0], 2),
    ],
)
def test_the_number_of_clusters_is_found(X, expected):
    found = DECClustering("auto", random_state=0).fit(X)
    assert found.n_clusters_ == expected == len(found.cluster_centers_)
    assert np.argmax(found.n_clusters_scores_) == expected - 2
    assert len(found.n_clusters_scores_) == min(150, len(X)) - 1
    assert found.n_clusters == "auto"


def test_the_model_is_that_of_the_number_that_was_found():
    X, _ = blobs()
    for params in ({}, {"init": "k-means++"}):
        found, given = quick("auto", **params).fit(X), quick(3, **params).fit(X)
        assert np.array_equal(found.predict_proba(X), given.predict_proba(X))
        assert found.init_scores_ == given.init_scores_
        assert found.n_clusters_ == given.n_clusters_ == 3
        assert given.n_clusters_scores_ == [] != found.n_clusters_scores_


def test_a_saved_model_knows_how_its_number_was_found(tmp_path):
    X, _ = blobs()
    fitted = quick("auto").fit(X)
    fitted.save(tmp_path / "model")
    for again in (DECClustering.load(tmp_path / "model"), pickle.loads(pickle.dumps(fitted))):
        assert again.n_clusters == "auto" and again.n_clusters_ == 3
        assert again.n_clusters_scores_ == fitted.n_clusters_scores_
    with pytest.raises(AttributeError):
        quick("auto").n_clusters_  # noqa: B018


def test_the_number_does_not_know_the_order_of_rows_and_takes_weights_for_copies():
    X, _ = make_blobs(120, 4, centers=4, random_state=1)
    weight = np.random.default_rng(0).integers(1, 4, size=120)
    expected = quick("auto").fit(X, sample_weight=weight).n_clusters_scores_
    order = np.random.default_rng(0).permutation(weight.sum())
    found = quick("auto").fit(np.repeat(X, weight, axis=0)[order]).n_clusters_scores_
    assert found == expected != quick("auto").fit(X).n_clusters_scores_


def test_given_centers_are_as_many_as_they_are():
    X, _ = blobs()
    found = quick("auto", init=X[:4]).fit(X)
    assert found.n_clusters_ == 4 and found.n_clusters_scores_ == []
    with pytest.raises(ValueError, match=r"shape of the initial centers \(4, 4\)"):
        quick("auto", init=X[:4, :4]).fit(X)

    def first_rows(X, n_clusters, random_state):
        return X[:n_clusters]

    assert quick("auto", init=first_rows).fit(X).n_clusters_ == 3


def test_of_many_rows_a_choice_tells_the_number(monkeypatch):
    X, _ = blobs(200)
    seen = []

    def noted(Z, *others):
        seen.append(len(Z))
        return scores_by_number(Z, *others)

    monkeypatch.setattr(_initialization, "_MOST_ROWS", 80)
    monkeypatch.setattr(_estimator, "scores_by_number", noted)
    assert quick("auto").fit(X).n_clusters_ == 3 and seen == [80]


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4])
def test_few_rows_are_clustered_too(n_rows):
    X = np.random.default_rng(0).normal(size=(n_rows, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = quick("auto").fit(X)
        same = quick("auto").fit(np.repeat(X[:1], 5, axis=0))
    assert 1 <= found.n_clusters_ <= n_rows
    assert same.n_clusters_ == 1 and same.n_clusters_scores_ == []


def test_no_other_word_is_taken_for_a_number():
    with pytest.raises(ValueError, match="'n_clusters' parameter .* Got 'many' instead"):
        quick("many").fit(blobs()[0])
