"""The default settings on images, text, tables and shapes, beside what people use instead.

    python benchmarks/accuracy.py --data DIR [--datasets usps digits ...] [--seeds 0 1 2 3 4]

Only `n_clusters` is given. Peers that are not installed (umap-learn) are left out. Every result
is a line of `benchmarks/results/accuracy.jsonl`; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from datasets import DATA_SETS, load
from machine import describe_machine
from resumable import Results, spread
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

from skdec import DECClustering
from skdec.metrics import clustering_accuracy

_MEASURES = ("ACC", "NMI", "ARI", "seconds")


def methods(n_clusters: int, seed: int) -> Iterator[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Names of the methods and functions from rows to labels."""
    yield "k-means", KMeans(n_clusters, n_init=20, random_state=seed).fit_predict
    try:
        from umap import UMAP
    except ImportError:
        pass
    else:
        umap = UMAP(n_components=10, n_neighbors=20, min_dist=0.0)
        mixture = GaussianMixture(n_clusters, n_init=3, random_state=seed)
        yield "UMAP + GMM", lambda X: mixture.fit_predict(umap.fit_transform(X))
    yield "skdec", DECClustering(n_clusters, random_state=seed).fit_predict


def measure(cluster: Callable[[np.ndarray], np.ndarray], X: np.ndarray, y: np.ndarray) -> dict:
    """Accuracy, NMI, ARI, seconds and what the method warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        labels = cluster(X)
        seconds = time.perf_counter() - start
    return {
        "ACC": clustering_accuracy(y, labels),
        "NMI": normalized_mutual_info_score(y, labels),
        "ARI": adjusted_rand_score(y, labels),
        "seconds": seconds,
        "warnings": sorted({str(warning.message)[:60] for warning in caught}),
    }


def run(arguments: argparse.Namespace) -> list[dict]:
    """All results that were asked for, new ones and those of earlier runs."""
    results = Results("accuracy.jsonl")
    for data in arguments.datasets:
        X, y = load(data, arguments.data)
        for seed in arguments.seeds:
            for method, cluster in methods(len(np.unique(y)), seed):
                key = {"data": data, "method": method, "seed": seed}
                if not results.has(key):
                    results.add(key | measure(cluster, X, y))
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


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz, usps.npz, …")
    parser.add_argument("--datasets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    print(describe_machine())
    print(table(run(arguments)))


if __name__ == "__main__":
    main()
