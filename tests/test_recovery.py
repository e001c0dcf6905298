"""Planted clusters are found, judged by measures that random labels fail."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

from skdec import DECClustering
from skdec.metrics import clustering_accuracy


def planted():
    X, y = make_blobs(400, 10, centers=5, random_state=1)
    yield "even", X, y
    kept = (y > 0) | (np.arange(400) % 5 == 0)
    yield "uneven", X[kept], y[kept]
    # Clusters on a curved surface in many dimensions.
    random = np.random.default_rng(0)
    latent, y = make_blobs(500, 2, centers=4, cluster_std=0.6, random_state=4)
    surface = np.tanh(latent @ random.normal(size=(2, 30)) / 5)
    yield "curved", surface @ random.normal(size=(30, 40)), y


@pytest.mark.parametrize(("name", "X", "y"), list(planted()), ids=[name for name, *_ in planted()])
def test_separated_groups_are_found_with_default_parameters(name, X, y):
    labels = DECClustering(len(np.unique(y)), random_state=0).fit_predict(X)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert adjusted_rand_score(y, shuffled) < 0.1
    assert adjusted_rand_score(y, labels) > 0.95


def test_digits_are_found_much_better_than_by_k_means():
    X, y = load_digits(return_X_y=True)
    labels = DECClustering(10, random_state=0).fit_predict(X)
    by_k_means = KMeans(10, n_init=10, random_state=0).fit_predict(X)
    assert clustering_accuracy(y, np.random.default_rng(0).permutation(labels)) < 0.2
    assert clustering_accuracy(y, labels) > 0.85
    assert adjusted_rand_score(y, labels) > adjusted_rand_score(y, by_k_means) + 0.1


def test_self_training_improves_on_k_means_in_the_embedding_of_the_autoencoder(tmp_path):
    X, y = load_digits(return_X_y=True)
    params = {"init": "k-means++", "pretraining": "end-to-end", "pretrain_steps": 600}
    params["memory"] = str(tmp_path)  # both begin with the same autoencoder
    found = [
        DECClustering(10, **params, max_iter=max_iter, random_state=0).fit_predict(X)
        for max_iter in (0, 100)
    ]
    assert adjusted_rand_score(y, found[1]) > adjusted_rand_score(y, found[0]) + 0.02


def test_new_rows_go_to_the_clusters_of_their_groups():
    X, y = make_blobs(600, 10, centers=4, random_state=2)
    model = DECClustering(4, random_state=0).fit(X[:300])
    assert adjusted_rand_score(y[300:], model.predict(X[300:])) > 0.95


def test_prototypes_are_near_the_means_of_their_clusters():
    X, _ = make_blobs(400, 10, centers=4, random_state=2)
    model = DECClustering(4, random_state=0).fit(X)
    prototypes = model.inverse_transform(model.cluster_centers_)
    means = np.array([X[model.labels_ == label].mean(axis=0) for label in range(4)])
    error = np.square(prototypes - means).mean(axis=1)
    assert (error < 0.05 * np.square(means - means.mean(axis=0)).mean()).all()


# There are no clusters in what drowns them.
@pytest.mark.filterwarnings("ignore:Self-training made the clusters agree less")
def test_units_are_kept_so_that_standardizing_is_the_users_choice():
    X, y = make_blobs(400, 6, centers=3, random_state=2)
    X = np.column_stack([X, 1000 * np.random.default_rng(0).normal(size=400)])
    drowned = DECClustering(3, random_state=0).fit_predict(X)
    found = DECClustering(3, random_state=0).fit_predict(StandardScaler().fit_transform(X))
    assert adjusted_rand_score(y, drowned) < 0.5 < 0.95 < adjusted_rand_score(y, found)
