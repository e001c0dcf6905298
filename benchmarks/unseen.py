"""The default settings on tables and shapes of another collection.

    python benchmarks/unseen.py --sets DIR [--groups tables shapes] [--seeds 0 1 2] [--methods ...]

DIR is a clone of milaan9/Clustering-Datasets (github), a collection of sets of many authors. Those
that are in `collection.py` or `accuracy.py` too are left out. They had no part in the choice of any
default when they were first run; since then tables of few values have, in how ties are treated.
Features of tables ("01. UCI") are standardised; of more than 4,000 rows a random choice is taken.
Every result is a line of `benchmarks/results/unseen.jsonl`; a run that was stopped goes on where it
was.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from accuracy import command_line, compile_peers
from collection import run, table
from machine import describe_machine
from scipy.io import loadmat
from sklearn.preprocessing import StandardScaler

_FOLDERS = {"tables": "01. UCI", "shapes": "02. Synthetic"}
_MOST_ROWS = 4_000

# "segment" is "statlog" of the other collection, "cure-t2-4k1" and "compound2" are others' subsets.
_SEEN = {"aggregation", "chainlink", "compound", "compound2", "cure-t2-4k1", "D31", "ecoli"}
_SEEN |= {"flame", "glass", "ionosphere", "iris", "jain", "R15", "S1", "S2", "S3", "S4", "segment"}
_SEEN |= {"sonar", "spiral", "target", "unbalance", "wine"}


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and known classes of a file."""
    file = loadmat(path)
    X, y = file["data"].astype(np.float64), file["label"].ravel()
    if len(X) > _MOST_ROWS:
        kept = np.sort(np.random.default_rng(0).choice(len(X), _MOST_ROWS, replace=False))
        X, y = X[kept], y[kept]
    if path.parent.name == _FOLDERS["tables"]:
        X = StandardScaler().fit_transform(X)
    return X, np.unique(y, return_inverse=True)[1]


def data_sets(folder: Path, groups: list[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, rows and known classes of all sets of the groups."""
    for group in groups:
        for path in sorted((folder / _FOLDERS[group]).glob("*.mat")):
            if path.stem not in _SEEN:
                yield f"{group}/{path.stem}", *load(path)


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2])
    parser.add_argument("--sets", type=Path, required=True, help="a clone of the collection")
    parser.add_argument("--groups", nargs="+", choices=_FOLDERS, default=list(_FOLDERS))
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    sets = data_sets(arguments.sets, arguments.groups)
    print(table(run("unseen.jsonl", sets, arguments)))


if __name__ == "__main__":
    main()
