"""The default settings on a collection of other people's data sets, small and of many shapes.

    python benchmarks/collection.py --collection DIR [--groups uci graves ...] [--seeds 0 1 2]
        [--methods skdec ...]

DIR is a clone of gagolews/clustering-data-v1 (github): Gagolewski, "A framework for benchmarking
clustering algorithms", SoftwareX 2022. The first of the
reference labels count; rows that they call noise are left out, and of more than 4,000 rows a random
choice is taken. Features of tables ("uci") are standardised. Every result is a line of
`benchmarks/results/collection.jsonl`; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from accuracy import command_line, compile_peers, measure_missing
from machine import describe_machine
from resumable import Results
from sklearn.preprocessing import StandardScaler

GROUPS = ["fcps", "graves", "other", "sipu", "uci", "wut"]
_MOST_ROWS = 4_000

# Over 100,000 rows to read for 4,000 of them, and what is in `accuracy.py`, too.
_LEFT_OUT = {"worms_2", "worms_64", "iris", "wine", "wdbc"}


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and known classes of a data set, given the file of its rows."""
    X = np.loadtxt(path, ndmin=2)
    y = np.loadtxt(path.with_name(path.name.replace(".data.", ".labels0."))).astype(int)
    X, y = X[y > 0], y[y > 0]
    if len(X) > _MOST_ROWS:
        kept = np.sort(np.random.default_rng(0).choice(len(X), _MOST_ROWS, replace=False))
        X, y = X[kept], y[kept]
    return (StandardScaler().fit_transform(X) if path.parent.name == "uci" else X), y


def data_sets(folder: Path, groups: list[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, rows and known classes of all sets of the groups."""
    for group in groups:
        for path in sorted((folder / group).glob("*.data.gz")):
            name = path.name.removesuffix(".data.gz")
            if name not in _LEFT_OUT:
                yield f"{group}/{name}", *load(path)


def run(
    file: str,
    sets: Iterable[tuple[str, np.ndarray, np.ndarray]],
    arguments: argparse.Namespace,
) -> list[dict]:
    """All results of `sets` that were asked for, new ones and those of earlier runs."""
    results = Results(file)
    for name, X, y in sets:
        for _ in measure_missing(results, name, X, y, arguments):
            pass
    return [
        row
        for row in results.rows
        if row["seed"] in arguments.seeds
        and row["method"] in arguments.methods
        and row["data"].split("/")[0] in arguments.groups
    ]


def table(results: list[dict]) -> str:
    """Markdown: for each group the mean over its sets of the mean ARI of all seeds, by method."""
    names = list(dict.fromkeys(row["method"] for row in results))
    lines = ["| group | sets | " + " | ".join(names) + " |", "| --- " * (2 + len(names)) + "|"]
    for group in dict.fromkeys(row["data"].split("/")[0] for row in results):
        rows = [row for row in results if row["data"].split("/")[0] == group]
        sets = list(dict.fromkeys(row["data"] for row in rows))
        means = [np.mean([_mean_ari(rows, data, name) for data in sets]) for name in names]
        cells = [group, str(len(sets)), *(f"{mean:.3f}" for mean in means)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean_ari(rows: list[dict], data: str, method: str) -> float:
    return np.mean([row["ARI"] for row in rows if (row["data"], row["method"]) == (data, method)])


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2])
    parser.add_argument("--collection", type=Path, required=True, help="a clone of the collection")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS)
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    sets = data_sets(arguments.collection, arguments.groups)
    print(table(run("collection.jsonl", sets, arguments)))


if __name__ == "__main__":
    main()
