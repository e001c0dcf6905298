"""The published recipes, DEC and IDEC, on USPS and MNIST, beside what they are compared with.

    python benchmarks/paper.py --data DIR

Every result is a line of `benchmarks/results/paper.jsonl`; a run that was stopped goes on where
it was. The papers' step counts are multiplied by `--scale`, and the learning rate of
pretraining is divided by it, so that rate times steps stays what it was.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from datasets import load_images
from machine import describe_machine
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from skdec import DECClustering
from skdec.metrics import clustering_accuracy

RESULTS = Path(__file__).parent / "results"

# Accuracy as published: Xie et al. 2016 (MNIST), Guo et al. 2017 (the rest).
PUBLISHED = {
    ("mnist", "k-means"): 0.535,
    ("mnist", "AE + k-means"): 0.818,
    ("mnist", "DEC"): 0.843,
    ("mnist", "IDEC"): 0.881,
    ("usps", "DEC"): 0.741,
    ("usps", "IDEC"): 0.761,
}
# IDEC's settings for USPS; those for MNIST are `from_paper("idec")`.
IDEC_USPS = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.99, "update_interval": 30}


def estimators(data: str, seed: int, scale: float, max_iter: int, cache: str) -> dict:
    """The competitors, unfitted; DEC, IDEC and AE + k-means share one pretraining."""
    common = {
        "n_clusters": 10,
        "layerwise_steps": round(50_000 * scale),
        "pretrain_steps": round(100_000 * scale),
        "pretrain_decay": round(20_000 * scale),
        "pretrain_learning_rate": 0.1 / scale,
        "max_iter": max_iter,
        "memory": cache,
        "random_state": seed,
    }
    idec = IDEC_USPS if data == "usps" else {}
    return {
        "k-means": KMeans(10, n_init=20, random_state=seed),
        "AE + k-means": DECClustering.from_paper("dec", **{**common, "max_iter": 0}),
        "DEC": DECClustering.from_paper("dec", **common),
        "IDEC": DECClustering.from_paper("idec", **{**common, **idec}),
    }


def measure(estimator, X, y) -> dict:
    """Accuracy, NMI, ARI, seconds and rounds of one fit."""
    start = time.perf_counter()
    labels = estimator.fit_predict(X)
    return {
        "ACC": clustering_accuracy(y, labels),
        "NMI": normalized_mutual_info_score(y, labels),
        "ARI": adjusted_rand_score(y, labels),
        "seconds": time.perf_counter() - start,
        "rounds": estimator.n_iter_,
        "converged": getattr(estimator, "converged_", None),
    }


def run(arguments: argparse.Namespace, path: Path) -> list[dict]:
    """All results, those of earlier runs read from `path` and the others appended to it."""
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for data in arguments.datasets:
        X, y = load_images(data, arguments.data)
        for seed in arguments.seeds:
            competitors = estimators(
                data, seed, arguments.scale, arguments.max_iter, str(RESULTS / "cache")
            )
            for method, estimator in competitors.items():
                key = {
                    "data": data,
                    "method": method,
                    "seed": seed,
                    "scale": arguments.scale,
                    "max_iter": arguments.max_iter,
                }
                if any(key.items() <= result.items() for result in done):
                    continue
                result = key | measure(estimator, X, y)
                print(json.dumps(result), flush=True)
                done.append(result)
                with path.open("a") as file:
                    file.write(json.dumps(result) + "\n")
    return done


def table(results: list[dict], arguments: argparse.Namespace) -> str:
    """Markdown: median and range over the seeds, beside the published accuracy."""
    lines = [
        "| data | method | published ACC | ACC | NMI | ARI | rounds | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    methods = list(dict.fromkeys(result["method"] for result in results))
    for data in arguments.datasets:
        for method in methods:
            rows = [
                r
                for r in results
                if (r["data"], r["method"]) == (data, method)
                and (r["scale"], r["max_iter"]) == (arguments.scale, arguments.max_iter)
                and r["seed"] in arguments.seeds
            ]
            cells = [_spread([row[name] for row in rows]) for name in ("ACC", "NMI", "ARI")]
            published = PUBLISHED.get((data, method), "")
            rounds = f"{np.median([row['rounds'] for row in rows]):.0f}"
            lines.append(
                "| " + " | ".join(map(str, [data, method, published, *cells, rounds, len(rows)])) + " |"
            )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz and usps.npz")
    parser.add_argument("--datasets", nargs="+", default=["mnist", "usps"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--scale", type=float, default=0.1, help="share of the papers' steps")
    parser.add_argument("--max-iter", type=int, default=100, help="rounds of self-training")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    print(describe_machine())
    results = run(arguments, RESULTS / "paper.jsonl")
    print(table(results, arguments))


if __name__ == "__main__":
    main()
