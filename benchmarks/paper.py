"""The published recipes, DEC and IDEC, on USPS and MNIST, beside what they are compared with.

    python benchmarks/paper.py --data DIR

Every result is a line of `benchmarks/results/paper.jsonl`; a run that was stopped goes on where
it was. The papers' step counts of pretraining are multiplied by `--scale`. With so few steps the
published optimiser of pretraining (`--pretrain-optimizer sgd`, its learning rate divided by the
scale) does not converge; the default is Adam, all else as published. MNIST's pixels are 0 to 5.1,
as in the program of DEC's authors (0.02 times 0 to 255), which is 1.6 times the scale that the
paper states and `scaling="norm"` gives; USPS has the paper's scale.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from datasets import load_images
from machine import describe_machine
from resumable import FOLDER, Results, spread
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from skdec import DECClustering
from skdec.metrics import clustering_accuracy

# Accuracy as published: Xie et al. 2016 (MNIST), Guo et al. 2017 (the rest).
PUBLISHED = {
    ("mnist", "k-means"): 0.535,
    ("mnist", "AE + k-means"): 0.818,
    ("mnist", "DEC"): 0.843,
    ("mnist", "IDEC"): 0.881,
    ("usps", "DEC"): 0.741,
    ("usps", "IDEC"): 0.761,
}
# What the authors of DEC multiply MNIST's pixels by, where they are 0 to 1.
MNIST_SCALE = 0.02 * 255
# IDEC's settings for USPS; those for MNIST are `from_paper("idec")`.
IDEC_USPS = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.99, "update_interval": 30}


def estimators(data: str, seed: int, settings: dict) -> dict:
    """The competitors, unfitted; DEC, IDEC and AE + k-means share one pretraining."""
    scale = settings["scale"]
    common = {
        "n_clusters": 10,
        "layerwise_steps": round(50_000 * scale),
        "pretrain_steps": round(100_000 * scale),
        "pretrain_optimizer": settings["pretrain_optimizer"],
        "max_iter": settings["max_iter"],
        "memory": str(FOLDER / "cache"),
        "random_state": seed,
    }
    if settings["pretrain_optimizer"] == "sgd":
        common |= {
            "pretrain_decay": round(20_000 * scale),
            "pretrain_learning_rate": 0.1 / scale,
        }
    else:
        common |= {"pretrain_decay": "cosine", "pretrain_learning_rate": 0.001}
    if data == "mnist":
        common["scaling"] = None  # the rows are on their scale
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


def run(arguments: argparse.Namespace, settings: dict) -> list[dict]:
    """All results that were asked for, new ones and those of earlier runs."""
    results = Results("paper.jsonl")
    for data in arguments.datasets:
        X, y = load_images(data, arguments.data)
        X = X * np.float32(MNIST_SCALE) if data == "mnist" else X
        for seed in arguments.seeds:
            for method, estimator in estimators(data, seed, settings).items():
                key = {"data": data, "method": method, "seed": seed} | settings
                if not results.has(key):
                    results.add(key | measure(estimator, X, y))
    return [
        result
        for result in results.rows
        if settings.items() <= result.items()
        and result["seed"] in arguments.seeds
        and result["data"] in arguments.datasets
    ]


def table(results: list[dict]) -> str:
    """Markdown: median and range over the seeds, beside the published accuracy."""
    lines = [
        "| data | method | published ACC | ACC | NMI | ARI | rounds | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for data, method in dict.fromkeys((r["data"], r["method"]) for r in results):
        rows = [r for r in results if (r["data"], r["method"]) == (data, method)]
        measures = [spread([row[name] for row in rows]) for name in ("ACC", "NMI", "ARI")]
        published = str(PUBLISHED.get((data, method), ""))
        rounds = f"{np.median([row['rounds'] for row in rows]):.0f}"
        cells = [data, method, published, *measures, rounds, str(len(rows))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz and usps.npz")
    parser.add_argument("--datasets", nargs="+", default=["mnist", "usps"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--scale", type=float, default=0.05, help="share of the papers' steps")
    parser.add_argument("--pretrain-optimizer", choices=["adam", "sgd"], default="adam")
    parser.add_argument("--max-iter", type=int, default=100, help="rounds of self-training")
    arguments = parser.parse_args()
    settings = {
        name: getattr(arguments, name) for name in ("scale", "pretrain_optimizer", "max_iter")
    }
    print(describe_machine())
    print(table(run(arguments, settings)))


if __name__ == "__main__":
    main()
