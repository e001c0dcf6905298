"""Measures of clusterings, by hand and by their invariances, and scorers made of them."""

import itertools
import math
import pickle
import warnings
from functools import partial

import numpy as np
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from quick import blobs, quick
from scipy.sparse import bsr_array, coo_array, csr_array, dia_array
from sklearn.cluster import DBSCAN, KMeans
from sklearn.datasets import make_blobs, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdec import metrics
from skdec._cuts import cuts, relative_conductances, symmetric_graph
from skdec._neighbors import nearest_neighbors
from skdec._threads import Workers
from skdec.metrics import (
    ClusteringScorer,
    clustering_accuracy,
    relative_conductance,
    relative_modularity,
    stability,
)

METRICS = ["silhouette", "calinski_harabasz", "davies_bouldin", "conductance", "modularity"]
of_graphs = pytest.mark.parametrize("score", [relative_conductance, relative_modularity])

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=30)


def test_accuracy_by_hand_with_more_clusters_than_classes_and_fewer():
    assert clustering_accuracy([0, 0, 0, 1, 1], [2, 2, 0, 1, 1]) == 0.8
    assert clustering_accuracy(["a", "a", "b", "c"], [0, 0, 0, 0]) == 0.5
    # Greedy matching (cluster 0 to class 0, 3 rows) would leave cluster 1 to nothing: 3 of 7.
    assert clustering_accuracy([0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1]) == pytest.approx(4 / 7)


@given(LABELS, st.permutations(range(5)))
def test_accuracy_does_not_know_the_names_of_clusters(labels, names):
    renamed = [names[label] for label in labels]
    assert clustering_accuracy(labels, renamed) == 1.0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_accuracy_is_symmetric(pairs):
    first, second = zip(*pairs, strict=True)
    assert clustering_accuracy(first, second) == clustering_accuracy(second, first)


def test_accuracy_refuses_lengths_that_differ_and_nothing():
    with pytest.raises(ValueError, match="inconsistent"):
        clustering_accuracy([0, 1], [0])
    with pytest.raises(ValueError, match="empty"):
        clustering_accuracy([], [])


def test_modularity_by_hand_on_two_separate_triangles_cut_wrongly():
    # With two neighbours the graph is two triangles: 6 directed edges each.
    X = np.array([[0.0], [1.0], [2.1], [100.0], [101.0], [102.1]])
    bound = (1 - 1 / 2) ** 0.95
    assert relative_modularity(X, [0, 0, 0, 1, 1, 1], n_neighbors=2) == pytest.approx(0.5 / bound)
    # One row on the wrong side: 8 of 12 edges inside, shares of ends 1/3 and 2/3.
    expected = (8 / 12 - (1 / 9 + 4 / 9)) / bound
    assert relative_modularity(X, [0, 0, 1, 1, 1, 1], n_neighbors=2) == pytest.approx(expected)


def test_modularity_weighs_an_edge_with_the_weights_of_its_ends():
    X = np.array([[0.0], [1.0], [2.1], [100.0], [101.0], [102.1]])
    # Weights 2 for the first triangle: its 6 edges weigh 4, the others 1.
    expected = (1 - (0.8**2 + 0.2**2)) / (1 / 2) ** 0.95
    found = relative_modularity(
        X, [0, 0, 0, 1, 1, 1], n_neighbors=2, sample_weight=[2, 2, 2, 1, 1, 1]
    )
    assert found == pytest.approx(expected)


@of_graphs
def test_graphs_prefer_the_planted_number_of_clusters(score):
    X, _ = make_blobs(600, 8, centers=6, random_state=0)
    scores = {
        k: score(X, KMeans(k, n_init=5, random_state=0).fit_predict(X))
        for k in (2, 3, 4, 5, 6, 7, 9, 12)
    }
    assert max(scores, key=scores.get) == 6


def test_modularity_of_random_labels_is_about_zero():
    X, _ = make_blobs(500, 8, centers=6, random_state=0)
    labels = np.random.default_rng(0).integers(6, size=500)
    assert abs(relative_modularity(X, labels)) < 0.05


@of_graphs
def test_graphs_do_not_know_scale_origin_order_or_names(score):
    random = np.random.default_rng(0)
    X, y = make_blobs(200, 4, centers=3, cluster_std=3.0, random_state=0)
    expected = score(X, y)
    order = random.permutation(200)
    assert score(X[order], y[order]) == pytest.approx(expected)
    assert score(X, np.array(["b", "c", "a"])[y]) == pytest.approx(expected)
    for changed in (X * 1e30, X * 1e-30, X + 50.0):
        assert score(changed, y) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "labels"), [(5, [0] * 5), (1, [3]), (2, [0, 1])])
@of_graphs
def test_graphs_of_degenerate_labels_are_worth_nothing(score, n, labels):
    assert score(np.arange(float(n))[:, None], labels) == 0.0


@of_graphs
def test_graphs_of_many_rows_are_about_those_of_all(score):
    X, y = make_blobs(12_000, 2, centers=4, cluster_std=2.0, random_state=0)
    assert score(X, y) == pytest.approx(score(X[:6000], y[:6000]), abs=0.05)


@of_graphs
@pytest.mark.parametrize("n_neighbors", [0, -1, 2.5, "many"])
def test_graphs_refuse_a_nonsensical_number_of_neighbors(score, n_neighbors):
    with pytest.raises((TypeError, ValueError), match="n_neighbors"):
        score([[0.0], [1.0], [2.0]], [0, 1, 1], n_neighbors=n_neighbors)


@of_graphs
def test_graphs_take_rows_given_twice_as_rows_of_double_weight(score):
    X, y = make_blobs(80, 3, centers=3, cluster_std=2.0, random_state=0)
    twice = np.arange(80) < 30
    repeated = np.concatenate([X, X[twice]]), np.concatenate([y, y[twice]])
    expected = score(X, y, sample_weight=1.0 + twice)
    assert score(*repeated) == pytest.approx(expected, rel=1e-6)
    assert score(X, y, sample_weight=7.0 * (1.0 + twice)) == pytest.approx(expected, rel=1e-6)


# --- How hard clusters are to cut ---


def path(n_rows):
    """A graph in which each row is joined to the next one."""
    ends = np.arange(n_rows - 1), np.arange(1, n_rows)
    graph = csr_array((np.ones(n_rows - 1), ends), shape=(n_rows, n_rows))
    return graph + graph.T


def least_of_all_cuts(graph, prior, expected):
    """By definition, trying all of them."""
    A, found = graph.toarray(), []
    for sides in itertools.product([False, True], repeat=len(A)):
        side = np.array(sides)
        volumes = A[side].sum(), A[~side].sum()
        if min(volumes) >= 0.1 * A.sum() and 0 < side.sum() < len(A):
            cut = A[side][:, ~side].sum()
            found.append((cut + 2 * prior * expected) / (min(volumes) + 2 * prior))
    return min(found)


def test_the_easiest_cut_of_small_graphs_is_that_of_all_cuts():
    # A path is cut in the middle, two cliques at the edge between them, and what has fallen
    # apart already where it has.
    cliques = np.zeros((9, 9))
    cliques[:5, :5] = cliques[5:, 5:] = 1.0
    cliques[4, 5] = cliques[5, 4] = 0.5
    np.fill_diagonal(cliques, 0.0)
    apart = np.kron(np.eye(3), np.ones((3, 3)) - np.eye(3))
    for graph in (path(8), csr_array(cliques), csr_array(apart)):
        for prior in (0.0, 1.0):
            found = cuts(graph).least_conductance(prior, 0.3)
            assert found == pytest.approx(least_of_all_cuts(graph, prior, 0.3))


def test_the_easiest_cut_of_a_long_graph_is_in_its_middle():
    n_rows = 400  # too many for a dense matrix, and so thin that the vector is hard to find
    found = cuts(path(n_rows)).least_conductance(0.0, 0.5)
    assert 1.0 / (n_rows - 1) <= found < 3.0 / (n_rows - 1)


@pytest.mark.parametrize("n_rows", [13, 16, 50])
def test_rows_that_are_all_joined_alike_are_cut_in_half(n_rows):
    # All eigenvalues but one are equal: LAPACK, asked for the last two, gave none at times.
    for weight in np.random.default_rng(0).uniform(0.1, 3.0, size=100):
        graph = csr_array(weight * (np.ones((n_rows, n_rows)) - np.eye(n_rows)))
        expected = math.ceil(n_rows / 2) / (n_rows - 1)
        assert cuts(graph).least_conductance(0.0, 0.5) == pytest.approx(expected)


def test_a_graph_that_hardly_holds_together_is_cut_where_it_does():
    # Three edges between two dense graphs of many rows: the second eigenvalue is nearly the first.
    random = np.random.default_rng(0)
    X = np.r_[random.normal(size=(3000, 2)), random.normal(size=(3000, 2)) + 50]
    neighbors = nearest_neighbors(X, 15, Workers(1))
    neighbors[:3, -1] = np.arange(3000, 3003)
    graph = symmetric_graph(neighbors, np.ones(neighbors.shape))
    halves = graph[:3000][:, 3000:].sum() / graph[:3000].sum()
    assert cuts(graph).least_conductance(0.0, 0.5) == pytest.approx(halves, rel=0.05)
    same = [cuts(graph).least_conductance(10.0, 0.5) for _ in range(2)]
    assert same[0] == same[1]


def test_rows_that_fall_off_at_the_rim_are_no_cut():
    clique = np.ones((20, 20)) - np.eye(20)
    with_rim = np.zeros((23, 23))  # a triangle that hangs on by one edge
    with_rim[:20, :20], with_rim[20:, 20:] = clique, 1.0 - np.eye(3)
    with_rim[0, 20] = with_rim[20, 0] = 1.0
    found = [cuts(csr_array(A)).least_conductance(0.0, 0.5) for A in (clique, with_rim)]
    assert found[1] == pytest.approx(found[0], rel=0.05) and found[0] > 0.5
    # One of two rows has all the edges there are; and of a single one nothing can be cut.
    assert cuts(csr_array(np.array([[5.0, 0.0], [0.0, 0.0]]))).least_conductance(1.0, 0.3) == 0.3
    assert cuts(csr_array(np.zeros((1, 1)))).least_conductance(1.0, 0.3) == 0.3


def test_conductance_by_hand_on_triangles():
    # Two triangles, with two neighbours each; the prior is 10 edges of average weight. A triangle
    # has 12 ends of edges (each edge both ways); 4 + 4 of them part one row from two.
    X = np.array([[0.0], [1.0], [2.1], [100.0], [101.0], [102.1]])
    A = symmetric_graph(np.array([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]]), np.ones((6, 2)))
    assert A.sum() == 24.0 and A.data.mean() == 2.0
    outside = (0 + 20) / (12 + 40)
    inside = (4 + 40 * outside) / (4 + 40)
    expected = inside / (inside + outside)
    found = relative_conductance(X, [0, 0, 0, 1, 1, 1], n_neighbors=2)
    assert found == pytest.approx(expected)
    np.testing.assert_allclose(relative_conductances(A, np.repeat([0, 1], 3)), expected)


def test_conductance_finds_groups_of_any_shape_and_number():
    X, y = make_moons(600, noise=0.06, random_state=0)
    halves = 2 * y + (X[:, 0] > X[y == 0, 0].mean() * (y == 0) + X[y == 1, 0].mean() * (y == 1))
    assert relative_conductance(X, y) > relative_conductance(X, halves) + 0.1
    # Many groups: modularity joins them.
    X, y = make_blobs(1200, 6, centers=40, cluster_std=0.5, random_state=0)
    joined = KMeans(13, n_init=5, random_state=0).fit_predict(X)
    assert relative_conductance(X, y) > relative_conductance(X, joined) + 0.1


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_a_cluster_whose_edges_weigh_nothing_is_one_of_which_nothing_is_known(order):
    random = np.random.default_rng(0)
    X = np.concatenate([random.normal(size=(150, 3)) + 50 * k for k in range(3)])
    weight = np.repeat([1.0, 1.0, 1e-200], 150)  # the products of two of the last vanish
    found = relative_conductance(X, np.repeat(order, 150), sample_weight=weight)
    assert 0.9 < found < 1.0


def test_all_rows_but_a_few_in_one_cluster_are_a_single_one():
    # Hardly an edge leads out of all rows but a few, wherever these are: that is no merit.
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 5))
    few = np.bincount(np.argsort(X[:, 0])[:5], minlength=400)
    assert relative_conductance(X, few) == 0.0 < relative_conductance(X, X[:, 0] > 0)
    # Fifteen rows far away are not enough either; with a twentieth they are a cluster like others.
    for n_rows, is_enough in ((15, False), (30, True)):
        with_others = np.r_[X, random.normal(size=(n_rows, 5)) + 100]
        score = relative_conductance(with_others, np.repeat([0, 1], [400, n_rows]))
        assert score > 0.9 if is_enough else score == 0.0


@pytest.mark.parametrize("n_clusters", [6, 30, 100, 250])
def test_conductance_of_random_labels_is_about_one_half_at_most(n_clusters):
    X, _ = make_blobs(500, 8, centers=6, random_state=0)
    labels = np.random.default_rng(0).integers(n_clusters, size=500)
    assert relative_conductance(X, labels) < (0.4 if n_clusters == 6 else 0.55)
    assert relative_conductance(X, np.arange(500)) == pytest.approx(0.5)


def test_a_few_rows_with_a_label_of_their_own_do_not_matter_much():
    X, y = make_blobs(300, 5, centers=4, random_state=0)
    expected = relative_conductance(X, y)
    X, y = np.r_[X, np.full((1, 5), 30.0)], np.r_[y, 4]
    assert relative_conductance(X, y) > expected - 0.1
    weight = np.r_[np.ones(300), 1e-9]
    assert relative_conductance(X, y, sample_weight=weight) == pytest.approx(expected, abs=0.01)


@given(st.lists(st.integers(0, 5), min_size=3, max_size=40), st.integers(0, 3))
def test_conductance_is_between_zero_and_one_whatever_the_labels(labels, seed):
    random = np.random.default_rng(seed)
    X, weight = random.integers(0, 3, (len(labels), 2)), 10.0 ** random.uniform(-9, 9, len(labels))
    for sample_weight in (None, weight):
        assert 0.0 <= relative_conductance(X, labels, sample_weight=sample_weight) <= 1.0


def test_stability_tells_clusters_from_noise():
    X, _ = make_blobs(400, 5, centers=4, cluster_std=0.3, random_state=0)
    noise = np.random.default_rng(0).random((400, 20))
    kmeans = KMeans(4, n_init=3, random_state=0)
    assert stability(kmeans, X, random_state=0) == 1.0
    assert 0.0 <= stability(kmeans, noise, random_state=0) < 0.2


def test_stability_fits_clones_to_halves_and_is_reproducible():
    seen = []

    class Recording(KMeans):
        def fit(self, X, y=None):
            seen.append(X)
            return super().fit(X)

    X = np.random.default_rng(0).random((21, 2))
    model = Recording(2, n_init=1, random_state=0)
    first = stability(model, X, random_state=3)
    assert not hasattr(model, "labels_")
    assert [len(half) for half in seen] == [11, 10]
    np.testing.assert_array_equal(np.unique(np.concatenate(seen), axis=0), np.unique(X, axis=0))
    assert stability(model, X, random_state=3) == first


def test_stability_between_seeds_fits_all_rows_with_other_seeds_everywhere():
    seen = []

    class Recording(KMeans):
        def fit(self, X, y=None):
            seen.append((len(X), self.random_state))
            return super().fit(X)

    X = np.random.default_rng(0).random((300, 20))
    model = Recording(8, n_init=1, random_state=0)
    first = stability(make_pipeline(StandardScaler(), model), X, between="seeds", random_state=3)
    assert 0.0 < first < 0.9
    assert [n for n, _ in seen] == [300, 300]
    assert len({seed for _, seed in seen} | {0}) == 3
    assert stability(
        make_pipeline(StandardScaler(), model), X, between="seeds", random_state=3
    ) == (first)
    assert model.random_state == 0
    separated, _ = make_blobs(90, centers=3, cluster_std=0.1, random_state=0)
    assert stability(KMeans(3, n_init=3), separated, between="seeds", random_state=0) == 1.0


def test_stability_is_a_scorer_that_knows_the_number_of_groups():
    X, _ = make_blobs(120, 5, centers=3, cluster_std=0.3, random_state=0)
    scorer = pickle.loads(pickle.dumps(partial(stability, random_state=0)))
    kmeans = KMeans(n_init=3, random_state=0)
    folds = KFold(2, shuffle=True, random_state=0)
    for y in (None, np.zeros(120)):
        search = GridSearchCV(kmeans, {"n_clusters": [3, 7]}, scoring=scorer, cv=folds).fit(X, y)
        assert search.best_params_ == {"n_clusters": 3} and search.best_score_ == 1.0


def test_stability_refuses_what_it_cannot_compare():
    X = np.arange(10.0)[:, None]
    with pytest.raises(ValueError, match="between must be 'halves' or 'seeds'. Got 'folds'"):
        stability(KMeans(2), X, between="folds")
    with pytest.raises(ValueError, match="needs an estimator with a random_state. Got DBSCAN"):
        stability(DBSCAN(), X, between="seeds")


# --- Scorers ---


class Known:
    """Predicts the labels it was made with, embeds by a fixed map, and cannot be fitted."""

    def __init__(self, labels):
        self.labels = np.asarray(labels)

    def predict(self, X):
        return self.labels

    def transform(self, X):
        return np.asarray(X)[:, :1] ** 3


def test_scores_are_the_metrics_of_the_predicted_labels_in_the_chosen_space():
    X, _ = blobs()
    labels = np.random.default_rng(0).integers(3, size=len(X))
    expected = {
        "silhouette": silhouette_score,
        "calinski_harabasz": calinski_harabasz_score,
        "davies_bouldin": lambda X, labels: -davies_bouldin_score(X, labels),
        "conductance": relative_conductance,
        "modularity": relative_modularity,
    }
    assert list(expected) == METRICS
    for metric, score in expected.items():
        for space, rows in (("input", X), ("preprocessed", X), ("embedding", X[:, :1] ** 3)):
            found = ClusteringScorer(metric, space=space)(Known(labels), X)
            assert found == pytest.approx(score(rows, labels)), (metric, space)


@pytest.mark.parametrize("metric", METRICS)
def test_scorers_prefer_the_groups_that_are_there(metric):
    X, y = blobs()
    scorer = ClusteringScorer(metric)
    random = np.random.default_rng(0).permutation(y)
    assert scorer(Known(y), X) > scorer(Known(random), X)
    assert scorer(Known(y), X) > scorer(Known(np.zeros(len(X))), X)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "labels",
    [np.zeros(6), np.arange(6), [0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1]],
    ids=["one cluster", "one row each", "one member", "repeated rows"],
)
def test_scores_of_degenerate_labels_are_finite_and_no_better_than_real_ones(metric, labels):
    X = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    scorer = ClusteringScorer(metric)
    score = scorer(Known(labels), X)
    assert np.isfinite(score)
    assert score <= scorer(Known([0, 0, 0, 1, 1, 1]), X)
    assert np.isfinite(scorer(Known(labels), np.repeat(X[::3], 3, axis=0)))
    if len(np.unique(labels)) in (1, 6):
        # The worst value: a cut across both groups is better or as good.
        assert score <= scorer(Known([0, 1, 0, 1, 0, 1]), X) or metric in metrics._OF_GRAPHS


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
@pytest.mark.parametrize("metric", METRICS)
def test_scores_of_huge_values_are_finite(metric):
    X, y = blobs()
    assert np.isfinite(ClusteringScorer(metric)(Known(y), X * 1e200))


def test_stability_takes_sparse_rows_of_every_kind():
    X, _ = blobs(60)
    expected = stability(quick(accept_sparse=True), csr_array(X), random_state=0)
    for kind in (coo_array, bsr_array, dia_array):
        assert stability(quick(accept_sparse=True), kind(X), random_state=0) == expected


def test_an_undefined_fold_does_not_void_the_mean_over_folds():
    worst = ClusteringScorer("davies_bouldin")(Known(np.zeros(5)), np.arange(5.0)[:, None])
    assert np.isfinite(np.mean([worst] * 10)) and worst < -1e30


def test_scorers_see_through_a_pipeline():
    X = blobs()[0] * [1, 1, 1, 1, 1000]
    pipeline = make_pipeline(StandardScaler(), quick()).fit(X)
    labels = pipeline.predict(X)
    expected = {
        "input": X,
        "preprocessed": StandardScaler().fit_transform(X),
        "embedding": pipeline.transform(X),
    }
    for space, rows in expected.items():
        found = ClusteringScorer("silhouette", space=space)(pipeline, X)
        assert found == pytest.approx(silhouette_score(rows, labels)), space
    alone = make_pipeline(pipeline[-1])
    scorer = ClusteringScorer("silhouette", space="preprocessed")
    assert scorer(alone, X) == ClusteringScorer("silhouette")(alone, X)


def test_only_scores_in_the_embedding_are_flattered_by_training_on_noise():
    params = {"init": "k-means++", "learning_rate": 0.05, "update_interval": 30, "tol": 0.0}
    gains = {(metric, space): [] for metric in METRICS for space in ("input", "embedding")}
    for seed in range(3):
        noise = np.random.default_rng(seed).random((200, 10))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0: all rounds are wanted
            before, after = (quick(max_iter=n, **params).fit(noise) for n in (0, 20))
        for (metric, space), values in gains.items():
            scorer = ClusteringScorer(metric, space=space)
            values.append(scorer(after, noise) - scorer(before, noise))
    for metric in METRICS:
        gain = np.mean(gains[metric, "embedding"])
        assert gain > 0.1 and np.mean(gains[metric, "input"]) < gain / 2, metric


def test_scorers_predict_and_never_fit(monkeypatch):
    X, _ = blobs()
    model = quick().fit(X)

    def fit(*args, **kwargs):
        raise AssertionError("a scorer has fitted the model")

    monkeypatch.setattr(type(model), "fit", fit)
    for metric in METRICS:
        for space in ("input", "preprocessed", "embedding"):
            assert np.isfinite(ClusteringScorer(metric, space=space)(model, X[:30]))


def test_silhouette_of_many_rows_looks_at_a_fixed_choice_of_them(monkeypatch):
    X, y = blobs(n_samples=3000)
    whole = ClusteringScorer()(Known(y), X)
    looked_at = []

    def counted(rows, labels):
        looked_at.append(len(rows))
        return silhouette_score(rows, labels)

    monkeypatch.setattr(metrics, "_MOST_ROWS", 1000)
    monkeypatch.setitem(metrics._COMPACTNESS, "silhouette", (counted, -1.0))
    few = ClusteringScorer()(Known(y), X)
    assert looked_at == [1000]
    assert few == pytest.approx(whole, abs=0.02)
    assert ClusteringScorer()(Known(y), X) == few
    # A cluster that the choice leaves out is no error.
    assert ClusteringScorer()(Known(np.arange(3000) == np.arange(3000)), X) == -1.0


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"metric": "inertia"}, "metric must be one of .*'modularity'.* Got 'inertia'"),
        ({"metric": None}, "Got None"),
        ({"space": "latent"}, "space must be one of .* Got 'latent'"),
    ],
)
def test_scorers_refuse_nonsense_before_any_fit(params, words):
    with pytest.raises(ValueError, match=words):
        ClusteringScorer(**params)


def test_scorers_are_pickled_and_shown():
    scorer = pickle.loads(pickle.dumps(ClusteringScorer("modularity", space="embedding")))
    assert repr(scorer) == "ClusteringScorer('modularity', space='embedding')"
    X, y = blobs()
    assert scorer(Known(y), X) == relative_modularity(X[:, :1] ** 3, y)


@pytest.mark.parametrize("metric", METRICS)
def test_grid_search_by_every_scorer_finds_the_number_of_groups(metric):
    X, _ = make_blobs(300, 8, centers=4, random_state=0)
    folds = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(
        KMeans(n_init=3, random_state=0),
        {"n_clusters": [1, 2, 3, 4, 5, 7]},
        scoring=ClusteringScorer(metric),
        cv=folds,
    ).fit(X)
    assert search.best_params_["n_clusters"] == 4


# Of eight clusters in thirty rows of four groups self-training may lose one, and says so.
@pytest.mark.filterwarnings("ignore:1 round\\(s\\) of self-training were undone")
@pytest.mark.parametrize("scoring", [None, ClusteringScorer("silhouette")], ids=str)
def test_halving_search_finds_the_number_of_groups(scoring):
    X, _ = make_blobs(180, 4, centers=4, cluster_std=0.5, random_state=3)
    search = HalvingGridSearchCV(
        quick(hidden_dims=(32,), embedding_dim=4, pretrain_steps=60, init="k-means++", n_init=5),
        {"n_clusters": [2, 4, 8]},
        min_resources=60,
        scoring=scoring,
        cv=KFold(2, shuffle=True, random_state=0),
        random_state=0,
    ).fit(X)
    assert search.n_iterations_ == 2
    assert search.best_params_["n_clusters"] == 4


def test_cross_validate_takes_several_scorers():
    X, _ = blobs()
    scoring = {metric: ClusteringScorer(metric) for metric in METRICS}
    found = cross_validate(KMeans(3, n_init=3, random_state=0), X, scoring=scoring, cv=3)
    assert all(np.isfinite(found[f"test_{metric}"]).all() for metric in METRICS)


def test_weights_reach_the_graphs_and_are_refused_elsewhere():
    X, y = blobs()
    weight = np.random.default_rng(0).uniform(1, 3, len(X))
    for name, score in (("conductance", relative_conductance), ("modularity", relative_modularity)):
        found = ClusteringScorer(name)(Known(y), X, sample_weight=weight)
        assert found == score(X, y, sample_weight=weight) != score(X, y)
    with pytest.raises(ValueError, match="'silhouette', space='input'\\) takes no sample_weight"):
        ClusteringScorer()(Known(y), X, sample_weight=weight)


def test_weights_are_routed_to_the_scorer_that_asks_for_them():
    X, _ = blobs()
    weight = np.random.default_rng(0).uniform(1, 3, len(X))
    kmeans = KMeans(2, n_init=3, random_state=0)
    folds = [(np.arange(90), np.arange(90))]
    with sklearn.config_context(enable_metadata_routing=True):
        scores = [
            cross_validate(
                kmeans.set_fit_request(sample_weight=True),
                X,
                scoring=ClusteringScorer("modularity").set_score_request(sample_weight=asked),
                cv=folds,
                params={"sample_weight": weight},
            )["test_score"][0]
            for asked in (True, False)
        ]
    labels = kmeans.fit(X, sample_weight=weight).predict(X)
    expected = [relative_modularity(X, labels, sample_weight=w) for w in (weight, None)]
    assert scores == expected
    assert scores[0] != scores[1]
    with pytest.raises(ValueError, match="only metric='conductance' and 'modularity'"):
        ClusteringScorer("silhouette").set_score_request(sample_weight=True)


@pytest.mark.skipif(
    not hasattr(GridSearchCV, "_check_scorers_accept_sample_weight"),
    reason="this scikit-learn gives no weights to scorers without routing",
)
def test_weights_without_routing_go_to_the_scorers_that_take_them():
    X, _ = blobs()
    weight = np.random.default_rng(0).uniform(1, 3, len(X))
    search = GridSearchCV(
        KMeans(n_init=3, random_state=0),
        {"n_clusters": [2]},
        scoring={m: ClusteringScorer(m) for m in ("modularity", "silhouette")},
        refit="modularity",
        cv=[(np.arange(90), np.arange(90))],
    )
    with pytest.warns(UserWarning, match="silhouette.* does not support sample_weight"):
        search.fit(X, sample_weight=weight)
    expected = relative_modularity(X, search.predict(X), sample_weight=weight)
    assert search.cv_results_["mean_test_modularity"] == expected
