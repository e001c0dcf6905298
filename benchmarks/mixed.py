"""The default settings on tables of numbers and categories together.

    python benchmarks/mixed.py --tables DIR [--datasets heart.c ...] [--seeds 0 1 2] [--methods ...]

DIR is a clone of renatopp/arff-datasets (github), sets of the UCI repository as Weka has them.
Numbers are standardised, categories become columns of 0 and 1 (two categories a single one), as is
usual before `KMeans`; names, of which every row has its own, are left out. Missing numbers are
means, a missing category has 0 in all its columns. Of more than 4,000 rows a random choice is
taken. Every result is a line of `benchmarks/results/mixed.jsonl`; a run that was stopped goes on
where it was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accuracy import asked_for, command_line, compile_peers, measure_missing, table
from machine import describe_machine
from resumable import Results
from scipy.io import arff

_MOST_ROWS = 4_000

# Tables with categories, or with numbers of few values; those without are in other benchmarks.
_DATA_SETS = ["anneal", "audiology", "autos", "breast.cancer", "breast.w", "car", "cmc", "colic"]
_DATA_SETS += ["credit.a", "credit.g", "dermatology", "flags", "haberman", "heart.c", "heart.h"]
_DATA_SETS += ["heart.statlog", "hepatitis", "hypothyroid", "kr.vs.kp", "labor", "lymph"]
_DATA_SETS += ["mushroom", "nursery", "primary.tumor", "sick", "solar.flare1", "spect.train"]
_DATA_SETS += ["sponge", "tae", "tic-tac-toe", "vote", "vowel", "zoo"]


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and known classes of a file, whose last column that is a category has the classes."""
    rows, about = arff.loadarff(path)
    if len(rows) > _MOST_ROWS:
        rows = rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:_MOST_ROWS])]
    of_classes = _column_of_classes(about)
    columns = [
        _numbers(rows[name]) if kind == "numeric" else _indicators(rows[name])
        for name, kind in zip(about.names(), about.types(), strict=True)
        if name != of_classes
    ]
    X = np.hstack(columns)
    return X[:, np.ptp(X, axis=0) > 0], np.unique(rows[of_classes], return_inverse=True)[1]


def _column_of_classes(about: arff.MetaData) -> str:
    named = [name for name in about.names() if name.lower() in ("class", "num")]
    return named[-1] if named else about.names()[-1]


def _numbers(column: np.ndarray) -> np.ndarray:
    is_known = ~np.isnan(column)
    if not is_known.any():
        return column[:, None][:, :0]
    known = np.where(is_known, column, column[is_known].mean())
    return ((known - known.mean()) / (known.std() or 1.0))[:, None]


def _indicators(column: np.ndarray) -> np.ndarray:
    categories = np.unique(column[column != b"?"])
    if len(categories) == len(column):
        categories = categories[:0]
    elif len(categories) == 2 and b"?" not in column:
        categories = categories[1:]
    return (column[:, None] == categories).astype(float)


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2])
    parser.add_argument("--tables", type=Path, required=True, help="a clone of the collection")
    parser.add_argument("--datasets", nargs="+", choices=_DATA_SETS, default=_DATA_SETS)
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    results = Results("mixed.jsonl")
    for name in arguments.datasets:
        X, y = load(arguments.tables / "classification" / f"{name}.arff")
        for _ in measure_missing(results, name, X, y, arguments):
            pass
    print(table(asked_for(results, arguments)))


if __name__ == "__main__":
    main()
