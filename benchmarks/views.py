"""The default settings on descriptions of images, words and proteins, a view at a time.

    python benchmarks/views.py --views DIR [--groups images words proteins] [--seeds 0 1 2]
        [--methods ...]

DIR is a clone of ChuanbinZhang/Multi-view-datasets (github), sets that are described in several
ways, by which clustering of many views is judged. Here each view is a set of its own. Words are
TF-IDF with sublinear frequencies where they are counts, and directions in any case; all else is
standardised. Links between documents and views made with the classes are left out. They had no
part in the choice of any default. Every result is a line of `benchmarks/results/views.jsonl`; a run
that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from accuracy import command_line, compile_peers
from collection import run, table
from machine import describe_machine
from scipy.io import loadmat
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import StandardScaler, normalize

# Files and numbers of their views, by group.
_VIEWS = {
    "images": {
        "100Leaves": [0, 1, 2],
        "Handwritten": [0, 1, 2, 3, 4, 5],
        "MNIST-4": [0, 2],
        "MSRC-v5": [0, 1, 2, 3, 4],
        "Wikipedia": [0],
    },
    "words": {
        "3Sources": [0, 1, 2],
        "ACM": [0],
        "BBCSport": [0, 1],
        "CiteSeer": [1],
        "Cora": [1],
        "Movies": [0, 1],
        "Reuters-1200": [0, 1, 2, 3, 4],
        "WebKB": [0, 1],
    },
    "proteins": {"ProteinFold": list(range(12)), "Prokaryotic": [0, 2]},
}


def of_words(counts: np.ndarray) -> np.ndarray:
    """Directions of rows, weighted where they are counts."""
    rows = csr_matrix(counts)
    if (counts == np.round(counts)).all():
        rows = TfidfTransformer(sublinear_tf=True).fit_transform(rows)
    return normalize(rows).toarray().astype(np.float32)


def data_sets(folder: Path, groups: list[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, rows and known classes of all views of the groups."""
    for group in groups:
        for name, views in _VIEWS[group].items():
            file = loadmat(folder / f"{name}.mat")
            y = np.unique(file["y"].ravel(), return_inverse=True)[1]
            for view in views:
                X = csr_matrix(file["X"].ravel()[view]).toarray().astype(np.float64)
                X = of_words(X) if group == "words" else StandardScaler().fit_transform(X)
                yield f"{group}/{name}, {view}", X, y


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2])
    parser.add_argument("--views", type=Path, required=True, help="a clone of the collection")
    parser.add_argument("--groups", nargs="+", choices=_VIEWS, default=list(_VIEWS))
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    sets = data_sets(arguments.views, arguments.groups)
    print(table(run("views.jsonl", sets, arguments)))


if __name__ == "__main__":
    main()
