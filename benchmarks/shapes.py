"""The default settings on moons and circles of few rows and much noise.

    python benchmarks/shapes.py [--rows 150 300 500 1000 2000] [--noise 0.05 0.1]
        [--seeds 0 1 2 3] [--methods ...]

scikit-learn's generators, each seed with rows of its own; circles have a factor of 0.5, with noise
of more than 0.05 of 0.4. Beside the methods of `accuracy.py` spectral clustering, as scikit-learn
has it, of the graph of ten nearest neighbours. Every result is a line of
`benchmarks/results/shapes.jsonl`; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse

import numpy as np
from accuracy import command_line, compile_peers, measure, methods
from machine import describe_machine
from resumable import Results
from sklearn.cluster import SpectralClustering
from sklearn.datasets import make_circles, make_moons

_SPECTRAL = "spectral clustering"


def rows_of(shape: str, n_rows: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and the shape that each is of."""
    if shape == "moons":
        return make_moons(n_rows, noise=noise, random_state=seed)
    factor = 0.5 if noise <= 0.05 else 0.4
    return make_circles(n_rows, noise=noise, factor=factor, random_state=seed)


def run(arguments: argparse.Namespace) -> list[dict]:
    """All results that were asked for, new ones and those of earlier runs."""
    results, asked = Results("shapes.jsonl"), []
    for shape in ("moons", "circles"):
        for noise in arguments.noise:
            for n_rows in arguments.rows:
                for seed in arguments.seeds:
                    data = {"shape": shape, "noise": noise, "rows": n_rows, "seed": seed}
                    add_missing(results, data, arguments.methods)
                    asked.append(data)
    return [
        row
        for row in results.rows
        if row["method"] in arguments.methods and any(data.items() <= row.items() for data in asked)
    ]


def add_missing(results: Results, data: dict, names: list[str]) -> None:
    """The results of all methods that were asked for and are not there."""
    X, y = rows_of(data["shape"], data["rows"], data["noise"], data["seed"])
    spectral = SpectralClustering(
        2, affinity="nearest_neighbors", n_neighbors=10, random_state=data["seed"]
    )
    for method, model in [*methods(2, data["seed"]), (_SPECTRAL, spectral)]:
        key = data | {"method": method}
        if method in names and not results.has(key):
            results.add(key | measure(model, X, y))


def table(results: list[dict]) -> str:
    """Markdown: the mean ARI of the seeds, and the least."""
    names = list(dict.fromkeys(row["method"] for row in results))
    header = ["shape", "noise", "rows", *names]
    lines = ["| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
    for data in dict.fromkeys((row["shape"], row["noise"], row["rows"]) for row in results):
        found = [
            [
                row["ARI"]
                for row in results
                if (row["shape"], row["noise"], row["rows"], row["method"]) == (*data, name)
            ]
            for name in names
        ]
        cells = [f"{np.mean(values):.2f} (least {min(values):.2f})" for values in found]
        lines.append("| " + " | ".join([*map(str, data), *cells]) + " |")
    means = [np.mean([r["ARI"] for r in results if r["method"] == name]) for name in names]
    lines.append("| **all** | | | " + " | ".join(f"**{mean:.3f}**" for mean in means) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2, 3], (_SPECTRAL,))
    parser.add_argument("--rows", nargs="+", type=int, default=[150, 300, 500, 1_000, 2_000])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.05, 0.1])
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    print(table(run(arguments)))


if __name__ == "__main__":
    main()
