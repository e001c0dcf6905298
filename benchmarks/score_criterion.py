"""Which unsupervised criterion finds the number of clusters? The measurement behind `score`.

    python benchmarks/score_criterion.py [--data DIR]

Each criterion is given a family of partitions into 2 to about 2K clusters, K being the number
of classes, and chooses one. Family "k-means": its labels. Family "oracle": the true classes,
merged (nearest means first) or split in two (by k-means) one after the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from datasets import load_images
from machine import describe_machine
from sklearn import datasets
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from sklearn.preprocessing import StandardScaler

from skdec import metrics

Data = tuple[str, np.ndarray, np.ndarray]


def _modularity(X: np.ndarray, labels: np.ndarray, exponent: float) -> float:
    k = len(np.unique(labels))
    bound = 1 - 1 / k
    return metrics.relative_modularity(X, labels) * bound ** (metrics._EXPONENT - exponent)


CRITERIA: dict[str, Callable] = {
    "silhouette": silhouette_score,
    "Calinski-Harabasz": calinski_harabasz_score,
    "Davies-Bouldin": lambda X, labels: -davies_bouldin_score(X, labels),
    "modularity Q": partial(_modularity, exponent=0.0),
    "Q / (1-1/k)^0.8": partial(_modularity, exponent=0.8),
    "Q / (1-1/k)^0.95": partial(_modularity, exponent=0.95),
    "Q / (1-1/k)": partial(_modularity, exponent=1.0),
    "relative conductance": metrics.relative_conductance,
}


def data_sets(folder: Path | None) -> Iterator[Data]:
    """Tables, shapes and images of known classes, at most 1,500 rows each."""
    for load in (datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer):
        X, y = load(return_X_y=True)
        yield load.__name__[5:], StandardScaler().fit_transform(X), y
    yield "digits", *datasets.load_digits(return_X_y=True)
    yield "4 blobs", *datasets.make_blobs(600, 8, centers=4, random_state=5)
    yield "6 blobs", *datasets.make_blobs(1000, 10, centers=6, random_state=0)
    yield "8 blobs", *datasets.make_blobs(1000, 8, centers=8, random_state=6)
    yield "moons", *datasets.make_moons(1000, noise=0.06, random_state=0)
    yield "circles", *datasets.make_circles(1000, noise=0.05, factor=0.5, random_state=0)
    X, y = datasets.make_blobs(1000, random_state=170)
    yield "anisotropic", X @ np.array([[0.6, -0.6], [-0.4, 0.8]]), y
    yield "varied", *datasets.make_blobs(1000, cluster_std=[1, 2.5, 0.5], random_state=170)
    if folder is not None:
        for name in ("usps", "mnist"):
            X, y = load_images(name, folder)
            rows = np.random.default_rng(0).choice(len(X), 1500, replace=False)
            yield name, X[rows], y[rows]


def k_means_family(X: np.ndarray, n_classes: int) -> dict[int, np.ndarray]:
    """Labels of k-means by their number."""
    return {
        k: KMeans(k, n_init=5, random_state=0).fit_predict(X) for k in range(2, 2 * n_classes + 4)
    }


def oracle_family(X: np.ndarray, y: np.ndarray) -> dict[int, np.ndarray]:
    """True classes merged or split, by their number."""
    classes = np.unique(y)
    means = np.array([X[y == label].mean(axis=0) for label in classes])
    family = {
        k: AgglomerativeClustering(k, linkage="average").fit_predict(means)[y]
        for k in range(2, len(classes))
    }
    family[len(classes)] = labels = y.copy()
    for label in classes:
        halves = KMeans(2, n_init=3, random_state=0).fit_predict(X[y == label])
        labels = labels.copy()
        labels[y == label] = np.where(halves == 0, label, labels.max() + 1)
        family[labels.max() + 1] = labels
    return family


def main() -> None:
    """Print the number of clusters that each criterion chooses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with usps.npz and mnist.npz")
    folder = parser.parse_args().data
    print(describe_machine())
    print("| data | classes | partitions | " + " | ".join(CRITERIA) + " |")
    print("| --- " * (len(CRITERIA) + 3) + "|")
    for name, X, y in data_sets(folder):
        n_classes = len(np.unique(y))
        families = {"k-means": k_means_family(X, n_classes), "oracle": oracle_family(X, y)}
        for family, partitions in families.items():
            chosen = [
                max(partitions, key=lambda k: criterion(X, partitions[k]))  # noqa: B023
                for criterion in CRITERIA.values()
            ]
            print(f"| {name} | {n_classes} | {family} | " + " | ".join(map(str, chosen)) + " |")


if __name__ == "__main__":
    main()
