"""The default settings on tables of numbers and categories together.

    python benchmarks/mixed.py [--tables DIR] [--datasets heart.c ...] [--seeds 0 1 2]
        [--methods ...]

Twenty tables are made: groups in some numbers, beside answers of yes or no and categories that have
nothing to do with them, or a little. DIR is a clone of renatopp/arff-datasets (github), sets of the
UCI repository as Weka has them. Numbers are standardised, categories become columns of 0 and 1 (two
categories a single one), as is usual before `KMeans` (in the made tables all columns are
standardised); names, of which every row has its own, are left out. Missing numbers are means, a
missing category has 0 in all its columns. Of more than 4,000 rows a random choice is taken. Every
result is a line of `benchmarks/results/mixed.jsonl`; a run that was stopped goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accuracy import asked_for, command_line, compile_peers, measure_missing, table
from collection import table as by_groups
from machine import describe_machine
from resumable import Results
from scipy.io import arff
from sklearn.preprocessing import StandardScaler

_MOST_ROWS = 4_000

# Tables with categories, or with numbers of few values; those without are in other benchmarks.
_DATA_SETS = ["anneal", "audiology", "autos", "breast.cancer", "breast.w", "car", "cmc", "colic"]
_DATA_SETS += ["credit.a", "credit.g", "dermatology", "flags", "haberman", "heart.c", "heart.h"]
_DATA_SETS += ["heart.statlog", "hepatitis", "hypothyroid", "kr.vs.kp", "labor", "lymph"]
_DATA_SETS += ["mushroom", "nursery", "primary.tumor", "sick", "solar.flare1", "spect.train"]
_DATA_SETS += ["sponge", "tae", "tic-tac-toe", "vote", "vowel", "zoo"]
_MADE = [f"made {number}" for number in range(20)]


def make(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and groups of a made table."""
    random = np.random.default_rng(number)
    n_groups, n_rows = int(random.integers(3, 7)), int(random.integers(400, 2500))
    n_numbers, n_answers = int(random.integers(3, 9)), int(random.integers(2, 10))
    y = random.choice(n_groups, n_rows, p=random.dirichlet(np.full(n_groups, 4.0)))
    centers = random.normal(size=(n_groups, n_numbers)) * random.uniform(1.6, 2.6)
    noise = random.normal(size=(n_rows, n_numbers))
    numbers = centers[y] + noise * random.uniform(0.6, 1.2, size=(n_groups, 1))[y]
    if random.random() < 0.5:
        numbers = np.exp(numbers / 4)
    if random.random() < 0.5:
        numbers = np.round(numbers, 1)
    answers = []
    for _ in range(n_answers):
        shares = np.full(n_groups, random.uniform(0.05, 0.6))
        if random.random() < 0.4:
            shares = np.clip(shares + 0.2 * random.normal(size=n_groups), 0.02, 0.98)
        answers.append(random.random(n_rows) < shares[y])
    if random.random() < 0.6:
        n_categories = int(random.integers(3, 6))
        answers += list(np.eye(n_categories)[random.integers(n_categories, size=n_rows)].T)
    X = StandardScaler().fit_transform(np.column_stack([numbers, *answers]))
    return X, np.unique(y, return_inverse=True)[1]


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and known classes of a file; features that do not vary are left out."""
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
    """The one that is called so, or the last one."""
    named = [name for name in about.names() if name.lower() in ("class", "num")]
    return named[-1] if named else about.names()[-1]


def _numbers(column: np.ndarray) -> np.ndarray:
    is_known = ~np.isnan(column)
    if not is_known.any():
        return np.empty((len(column), 0))
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
    parser.add_argument("--tables", type=Path, help="a clone of the collection")
    names = _MADE + _DATA_SETS
    parser.add_argument("--datasets", nargs="+", choices=names, help="default: all there are")
    arguments = parser.parse_args()
    if arguments.datasets is None:
        arguments.datasets = names if arguments.tables else _MADE
    if arguments.tables is None and not {*arguments.datasets} <= {*_MADE}:
        parser.error("--tables is needed for all tables that are not made")
    print(describe_machine())
    compile_peers()
    results = Results("mixed.jsonl")
    for name in arguments.datasets:
        path = (arguments.tables or Path()) / "classification" / f"{name}.arff"
        X, y = make(_MADE.index(name)) if name in _MADE else load(path)
        for _ in measure_missing(results, name, X, y, arguments):
            pass
    rows = asked_for(results, arguments)
    for kind, sets in (("made", _MADE), ("of others", _DATA_SETS)):
        some = [row | {"data": f"{kind}/{row['data']}"} for row in rows if row["data"] in sets]
        print(by_groups(some) if some else "")
    print(table(rows))


if __name__ == "__main__":
    main()
