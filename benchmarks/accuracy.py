"""The default settings on images, text, tables and shapes, beside what people use instead.

    python benchmarks/accuracy.py --data DIR [--datasets usps digits ...] [--seeds 0 1 2 3 4]
        [--methods skdec ...]

Only `n_clusters` is given. Peers that are not installed (umap-learn) are left out. Every result
is a line of `benchmarks/results/accuracy.jsonl`; a run that was stopped goes on where it was. With
matplotlib, a picture of each embedding of skdec is drawn beside it, by clusters and by classes.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datasets import DATA_SETS, load
from machine import describe_machine
from resumable import FOLDER, Results, spread
from sklearn.base import ClusterMixin
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import Pipeline, make_pipeline

from skdec import DECClustering
from skdec.metrics import clustering_accuracy

try:
    from umap import UMAP
except ImportError:
    UMAP = None

_METHODS = ["k-means", "UMAP + GMM", "skdec"]
_MEASURES = ("ACC", "NMI", "ARI", "seconds")


def methods(n_clusters: int, seed: int) -> Iterator[tuple[str, ClusterMixin | Pipeline]]:
    """Names of the methods and estimators with `fit_predict`."""
    yield "k-means", KMeans(n_clusters, n_init=20, random_state=seed)
    if UMAP is not None:
        umap = UMAP(n_components=10, n_neighbors=20, min_dist=0.0)
        mixture = GaussianMixture(n_clusters, n_init=3, random_state=seed)
        yield "UMAP + GMM", make_pipeline(umap, mixture)
    yield "skdec", DECClustering(n_clusters, random_state=seed)


def compile_peers() -> None:
    """Let UMAP compile what it compiles at first use, for few rows and for many."""
    if UMAP is not None:
        for n_rows in (200, 5_000):
            UMAP(n_components=10, n_neighbors=20).fit(np.random.default_rng(0).random((n_rows, 20)))


def measure(model: ClusterMixin | Pipeline, X: np.ndarray, y: np.ndarray) -> dict:
    """Accuracy, NMI, ARI, seconds, number of clusters and what the method warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        labels = model.fit_predict(X)
        seconds = time.perf_counter() - start
    return {
        "ACC": clustering_accuracy(y, labels),
        "NMI": normalized_mutual_info_score(y, labels),
        "ARI": adjusted_rand_score(y, labels),
        "seconds": seconds,
        "clusters": len(np.unique(labels)),
        "warnings": sorted({str(warning.message)[:60] for warning in caught}),
    }


def draw(model: DECClustering, X: np.ndarray, y: np.ndarray, name: str) -> None:
    """The embedding of at most 3,000 rows in two dimensions, by clusters and by classes."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    from skdec.displays import EmbeddingDisplay

    chosen = np.random.default_rng(0).permutation(len(X))[:3_000]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(15, 7.5), layout="constrained")
    by_clusters = EmbeddingDisplay.from_estimator(model, X[chosen], ax=left)
    left.set_title(f"{name}: clusters")
    EmbeddingDisplay(by_clusters.points, y[chosen], description="the same").plot(ax=right)
    right.set_title(f"{name}: classes")
    figure.savefig(FOLDER / f"{name}.png", dpi=80)
    pyplot.close(figure)


def measure_missing(
    results: Results, data: str, X: np.ndarray, y: np.ndarray, arguments: argparse.Namespace
) -> Iterator[tuple[int, ClusterMixin | Pipeline]]:
    """Add the results of all seeds and methods that were asked for; gives each seed and model."""
    for seed in arguments.seeds:
        for method, model in methods(len(np.unique(y)), seed):
            key = {"data": data, "method": method, "seed": seed}
            if method in arguments.methods and not results.has(key):
                results.add(key | measure(model, X, y))
                yield seed, model


def asked_for(results: Results, arguments: argparse.Namespace) -> list[dict]:
    """The results of the data sets, seeds and methods that were asked for."""
    asked = {"seed": arguments.seeds, "data": arguments.datasets, "method": arguments.methods}
    return [row for row in results.rows if all(row[key] in asked[key] for key in asked)]


def run(arguments: argparse.Namespace) -> list[dict]:
    """All results that were asked for, new ones and those of earlier runs."""
    results = Results("accuracy.jsonl")
    for data in arguments.datasets:
        X, y = load(data, arguments.data)
        for seed, model in measure_missing(results, data, X, y, arguments):
            if isinstance(model, DECClustering):
                draw(model, X, y, f"{data}-{seed}")
    return [
        row
        for row in results.rows
        if row["seed"] in arguments.seeds and row["data"] in arguments.datasets
    ]


def table(results: list[dict]) -> str:
    """Markdown: median and range over the seeds."""
    lines = ["| data | method | ACC | NMI | ARI | seconds | seeds |"]
    lines.append("| --- " * 7 + "|")
    for data, method in dict.fromkeys((r["data"], r["method"]) for r in results):
        rows = [r for r in results if (r["data"], r["method"]) == (data, method)]
        columns = [[row[name] for row in rows] for name in _MEASURES]
        cells = [spread(column) for column in columns[:3]]
        cells.append(f"{np.median(columns[3]):.1f}")
        lines.append("| " + " | ".join([data, method, *cells, str(len(rows))]) + " |")
    return "\n".join(lines)


def command_line(
    description: str, seeds: list[int], more_methods: tuple[str, ...] = ()
) -> argparse.ArgumentParser:
    """What can be asked for of any data sets."""
    names = [*_METHODS, *more_methods]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    return parser


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2, 3, 4])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz, usps.npz, …")
    parser.add_argument("--datasets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    print(table(run(arguments)))


if __name__ == "__main__":
    main()
