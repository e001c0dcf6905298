"""How many clusters are found where nobody says, and how right they are.

    python benchmarks/number.py --data DIR [--datasets usps digits ...] [--collection DIR]
        [--seeds 0 1 2] [--methods "skdec, auto" ...]

`DECClustering("auto")` beside the same with the number of classes given, and beside HDBSCAN (at
least a hundredth of the rows in a cluster, and five rows; rows that it calls noise are a cluster of
their own) in UMAP's embedding, where umap-learn is installed. The sets are those of `accuracy.py`
and, with `--collection`, those of `collection.py`. Every result is a line of
`benchmarks/results/number.jsonl`; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import collection
import numpy as np
from accuracy import UMAP, compile_peers, measure
from datasets import DATA_SETS, load
from machine import describe_machine
from resumable import Results, spread
from sklearn.base import ClusterMixin
from sklearn.cluster import HDBSCAN
from sklearn.pipeline import Pipeline, make_pipeline

from skdec import DECClustering

_METHODS = ["UMAP + HDBSCAN", "skdec, auto", "skdec, number given"]


def methods(n_classes: int, n_rows: int, seed: int) -> dict[str, ClusterMixin | Pipeline]:
    """Estimators with `fit_predict` by their names."""
    found = {
        "skdec, auto": DECClustering("auto", random_state=seed),
        "skdec, number given": DECClustering(n_classes, random_state=seed),
    }
    if UMAP is not None:
        umap = UMAP(n_components=10, n_neighbors=20, min_dist=0.0)
        hdbscan = HDBSCAN(min_cluster_size=max(5, n_rows // 100), copy=True)
        found["UMAP + HDBSCAN"] = make_pipeline(umap, hdbscan)
    return found


def data_sets(arguments: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, rows and classes of all sets that were asked for."""
    for name in arguments.datasets:
        yield name, *load(name, arguments.data)
    if arguments.collection is not None:
        yield from collection.data_sets(arguments.collection, collection.GROUPS)


def run(arguments: argparse.Namespace) -> list[dict]:
    """The results that were asked for, new ones and those of earlier runs."""
    results, asked = Results("number.jsonl"), []
    for data, X, y in data_sets(arguments):
        n_classes = len(np.unique(y))
        for seed in arguments.seeds:
            for method, model in methods(n_classes, len(X), seed).items():
                key = {"data": data, "method": method, "seed": seed}
                if method in arguments.methods:
                    asked.append(key)
                    if not results.has(key):
                        found = measure(model, X, y)
                        results.add(key | {"classes": n_classes} | found)
    return [row for row in results.rows if {k: row[k] for k in ("data", "method", "seed")} in asked]


def table(results: list[dict]) -> str:
    """Markdown: clusters found by each seed; median and range of ARI; seconds."""
    lines = ["| data | classes | method | clusters | ARI | seconds |", "| --- " * 6 + "|"]
    for data, method in dict.fromkeys((row["data"], row["method"]) for row in results):
        rows = [row for row in results if (row["data"], row["method"]) == (data, method)]
        cells = [data, str(rows[0]["classes"]), method]
        cells.append(", ".join(str(row["clusters"]) for row in rows))
        cells.append(spread([row["ARI"] for row in rows]))
        cells.append(f"{np.median([row['seconds'] for row in rows]):.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(results: list[dict]) -> str:
    """Markdown: mean ARI, and how often the number is exact and within a factor of two."""
    lines = ["| method | sets | mean ARI | exact | within a factor of two |", "| --- " * 5 + "|"]
    for method in dict.fromkeys(row["method"] for row in results):
        rows = [row for row in results if row["method"] == method]
        ratio = np.array([row["clusters"] / row["classes"] for row in rows])
        means = [
            np.mean([row["ARI"] for row in rows if row["data"] == data])
            for data in {row["data"] for row in rows}
        ]
        exact, near = np.mean(ratio == 1.0), np.mean((ratio >= 0.5) & (ratio <= 2.0))
        lines.append(
            f"| {method} | {len(means)} | {np.mean(means):.3f} | {exact:.2f} | {near:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz, usps.npz, …")
    parser.add_argument("--datasets", nargs="*", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--collection", type=Path, help="a clone of the collection")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=_METHODS, default=_METHODS)
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    results = run(arguments)
    print(table(results) + "\n\n" + summary(results))


if __name__ == "__main__":
    main()
