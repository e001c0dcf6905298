"""How much each main parameter matters: accuracy when it varies by a decade around its default.

    python benchmarks/robustness.py [--data DIR] [--datasets digits wine ...] [--seeds 0 1 2]

One parameter at a time is divided and multiplied by the square root of ten, where "auto" stands for
what it comes to. Every result is a line of `benchmarks/results/robustness.jsonl`; a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path

import numpy as np
from datasets import DATA_SETS, load
from machine import describe_machine
from resumable import Results
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from skdec import DECClustering
from skdec._neighborhoods import neighborhoods
from skdec._pretraining import auto_neighbor_steps, auto_steps
from skdec._self_training import auto_update_interval
from skdec._threads import Workers

_STEP = math.sqrt(10.0)


def defaults(X: np.ndarray) -> dict[str, float]:
    """The main parameters and what their defaults come to for these rows."""
    n_rows, now = len(np.unique(X, axis=0)), DECClustering()
    with Workers(1) as workers:
        hoods = neighborhoods(X.__getitem__, np.arange(len(X)), n_rows, 0, workers)
    return {
        "pretrain_steps": auto_steps(n_rows),
        "pretrain_learning_rate": now.pretrain_learning_rate,
        "neighbor_steps": auto_neighbor_steps(n_rows),
        "neighbor_learning_rate": now.neighbor_learning_rate,
        "n_neighbors": hoods.n_neighbors,
        "batch_size": now.batch_size,
        "embedding_dim": 10,
        "n_init": now.n_init,
        "alpha": now.alpha,
        "learning_rate": now.learning_rate,
        "update_interval": auto_update_interval(n_rows, now.batch_size),
        "tol": now.tol,
    }


def around(value: float) -> tuple[float, float]:
    """Half a decade less and more, whole where `value` is."""
    ends = value / _STEP, value * _STEP
    return tuple(round(end) for end in ends) if isinstance(value, int) else ends


def measure(X: np.ndarray, y: np.ndarray, seed: int, parameters: dict) -> float:
    """The adjusted Rand index of one fit."""
    model = DECClustering(len(np.unique(y)), random_state=seed, **parameters)
    return adjusted_rand_score(y, model.fit_predict(X))


def run(arguments: argparse.Namespace) -> list[dict]:
    """All results that were asked for, new ones and those of earlier runs."""
    results = Results("robustness.jsonl")
    for data in arguments.datasets:
        X, y = load(data, arguments.data)
        of_data = defaults(X)
        settings = [("default", "default", {})]
        for name, value in of_data.items():
            less, more = around(value)
            settings += [(name, "less", {name: less}), (name, "more", {name: more})]
        for name, which, parameters in settings:
            for seed in arguments.seeds:
                key = {"data": data, "parameter": name, "which": which, "seed": seed}
                if not results.has(key):
                    results.add(key | parameters | {"ARI": measure(X, y, seed, parameters)})
    return [
        row
        for row in results.rows
        if row["seed"] in arguments.seeds and row["data"] in arguments.datasets
    ]


def table(results: list[dict], datasets: list[str]) -> str:
    """Markdown: the median over the seeds, for less, the default and more of each parameter."""
    median = {}
    for row in results:
        median.setdefault((row["data"], row["parameter"], row["which"]), []).append(row["ARI"])
    median = {key: np.median(values) for key, values in median.items()}
    lines = ["| parameter | " + " | ".join(datasets) + " | mean |"]
    lines.append("| --- " * (len(datasets) + 2) + "|")
    names = dict.fromkeys((row["parameter"], row["which"]) for row in results)
    for name, which in names:
        values = [median.get((data, name, which), np.nan) for data in datasets]
        label = name if which == "default" else f"{name}, {which}"
        cells = [f"{value:.3f}" for value in [*values, np.mean(values)]]
        lines.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz, usps.npz, …")
    small = ["wine", "breast cancer", "digits", "anisotropic", "varied"]
    parser.add_argument("--datasets", nargs="+", choices=DATA_SETS, default=small)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    print(describe_machine())
    print(table(run(arguments), arguments.datasets))


if __name__ == "__main__":
    main()
