"""Clustering accuracy and relative modularity, by hand and by their invariances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs

from skdec.metrics import clustering_accuracy, relative_modularity, stability

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


def test_modularity_prefers_the_planted_number_of_clusters():
    X, _ = make_blobs(600, 8, centers=6, random_state=0)
    scores = {
        k: relative_modularity(X, KMeans(k, n_init=5, random_state=0).fit_predict(X))
        for k in (2, 3, 4, 5, 6, 7, 9, 12)
    }
    assert max(scores, key=scores.get) == 6


def test_modularity_of_random_labels_is_about_zero():
    X, _ = make_blobs(500, 8, centers=6, random_state=0)
    labels = np.random.default_rng(0).integers(6, size=500)
    assert abs(relative_modularity(X, labels)) < 0.05


def test_modularity_does_not_know_scale_origin_order_or_names():
    random = np.random.default_rng(0)
    X, y = make_blobs(200, 4, centers=3, cluster_std=3.0, random_state=0)
    expected = relative_modularity(X, y)
    order = random.permutation(200)
    assert relative_modularity(X[order], y[order]) == pytest.approx(expected)
    assert relative_modularity(X, np.array(["b", "c", "a"])[y]) == pytest.approx(expected)
    for changed in (X * 1e30, X * 1e-30, X + 50.0):
        assert relative_modularity(changed, y) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "labels"), [(5, [0] * 5), (1, [3]), (2, [0, 1])])
def test_modularity_of_degenerate_labels_is_zero(n, labels):
    assert relative_modularity(np.arange(float(n))[:, None], labels) == 0.0


def test_modularity_of_many_rows_is_about_that_of_all():
    X, y = make_blobs(12_000, 2, centers=4, cluster_std=2.0, random_state=0)
    few = relative_modularity(X[:6000], y[:6000])
    assert relative_modularity(X, y) == pytest.approx(few, abs=0.03)


@pytest.mark.parametrize("n_neighbors", [0, -1, 2.5, "many"])
def test_modularity_refuses_a_nonsensical_number_of_neighbors(n_neighbors):
    with pytest.raises((TypeError, ValueError), match="n_neighbors"):
        relative_modularity([[0.0], [1.0], [2.0]], [0, 1, 1], n_neighbors=n_neighbors)


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
