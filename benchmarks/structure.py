"""Are there clusters, and how many? The stability between halves, and the choice of `score`.

    python benchmarks/structure.py --data DIR [--datasets noise usps digits ...] [--seeds 0 1 2]

All settings but `n_clusters` are the default. Labels tell only how many classes there are. For the
choice, models with the classes' number times 1/3, 1/2, 2/3, 1, 3/2, 2 and 3 are fitted to at most
4,000 rows (`memory` pretrains once) and the best `score` of the rows is taken. Every result is a
line of `benchmarks/results/structure.jsonl`; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
from datasets import DATA_SETS, load
from machine import describe_machine
from resumable import Results, spread
from sklearn.exceptions import ConvergenceWarning

from skdec import DECClustering
from skdec.metrics import stability

_SHARES = (1 / 3, 1 / 2, 2 / 3, 1, 3 / 2, 2, 3)
_MOST_ROWS = 4_000


def rows_of(data: str, folder: Path | None) -> tuple[np.ndarray, int]:
    """Rows and the number of clusters to look for; "noise" is uniform in [0, 1]^20."""
    if data == "noise":
        return np.random.default_rng(0).random((2_000, 20)), 5
    X, y = load(data, folder)
    return X, len(np.unique(y))


def chosen_number(X: np.ndarray, n_classes: int, seed: int) -> dict:
    """The number of clusters with the largest `score`, and all scores."""
    X = np.random.default_rng(seed).permutation(X)[:_MOST_ROWS]
    numbers = sorted({max(2, round(share * n_classes)) for share in _SHARES})
    with tempfile.TemporaryDirectory() as cache:
        model = DECClustering(memory=cache, random_state=seed)
        scores = {k: model.set_params(n_clusters=k).fit(X).score(X) for k in numbers}
    return {"chosen": max(scores, key=scores.get), "scores": scores}


def run(arguments: argparse.Namespace) -> list[dict]:
    """All results that were asked for, new ones and those of earlier runs."""
    results = Results("structure.jsonl")
    for data in arguments.datasets:
        X, n_classes = rows_of(data, arguments.data)
        for seed in arguments.seeds:
            key = {"data": data, "seed": seed, "classes": n_classes}
            if not results.has(key | {"what": "stability"}):
                model = DECClustering(n_classes, random_state=seed)
                value = stability(model, X, random_state=seed)
                results.add(key | {"what": "stability", "value": value})
            if data != "noise" and not results.has(key | {"what": "number"}):
                results.add(key | {"what": "number"} | chosen_number(X, n_classes, seed))
    return [
        row
        for row in results.rows
        if row["seed"] in arguments.seeds and row["data"] in arguments.datasets
    ]


def table(results: list[dict]) -> str:
    """Markdown: median and range of the stability; the numbers that were chosen."""
    lines = ["| data | classes | stability between halves | n_clusters by score | seeds |"]
    lines.append("| --- " * 5 + "|")
    for data, classes in dict.fromkeys((row["data"], row["classes"]) for row in results):
        rows = [row for row in results if row["data"] == data]
        values = [row["value"] for row in rows if row["what"] == "stability"]
        chosen = ", ".join(str(row["chosen"]) for row in rows if row["what"] == "number")
        cells = [data, str(classes), spread(values), chosen, str(len(values))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz, usps.npz, …")
    names = ["noise", "usps", "mnist-10k", "digits", "wine", "breast cancer", "iris", "blobs"]
    names += ["anisotropic", "varied", "moons", "circles", "reuters"]
    parser.add_argument("--datasets", nargs="+", choices=["noise", *DATA_SETS], default=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    print(describe_machine())
    print(table(run(arguments)))


if __name__ == "__main__":
    main()
