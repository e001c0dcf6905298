"""The default settings on rows of many features: faces, objects, spoken letters, genes and words.

    python benchmarks/wide.py --sets DIR [--datasets ORL ...] [--seeds 0 1 2] [--methods skdec ...]

DIR is a clone of jundongl/scikit-feature (github): Li, Cheng, Wang, Morstatter, Trevino, Tang, Liu,
"Feature selection: a data perspective", ACM Computing Surveys 2017. Pixels are divided by 255 where
they are not in [0, 1] already, genes standardised, counts of words made TF-IDF with sublinear term
frequency. Every result is a line of `benchmarks/results/wide.jsonl`; a run that was stopped goes on
where it was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accuracy import asked_for, command_line, compile_peers, measure_missing
from machine import describe_machine
from resumable import Results, spread
from scipy.io import loadmat
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import StandardScaler

_PIXELS = ["ORL", "Yale", "warpAR10P", "warpPIE10P", "orlraws10P", "pixraw10P"]
_AS_THEY_ARE = ["COIL20", "Isolet"]
_WORDS = ["BASEHOCK", "PCMAC", "RELATHE"]
_GENES = ["ALLAML", "GLIOMA", "Prostate-GE", "TOX-171", "colon", "leukemia", "lymphoma", "nci9"]
_GENES += ["lung_small"]
_DATA_SETS = [*_AS_THEY_ARE, *_PIXELS, *_WORDS, *_GENES]

# Of the words those that are in three texts at least, and the 2,000 with the largest sums.
_LEAST_TEXTS, _MOST_WORDS = 3, 2_000


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and known classes of a file."""
    file = loadmat(path)
    X, y = file["X"], file["Y"].ravel()
    X = np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)
    if path.stem in _PIXELS:
        X /= 255.0
    elif path.stem in _GENES:
        X = StandardScaler().fit_transform(X)
    elif path.stem in _WORDS:
        X, y = _weighted_words(X, y)
    return X.astype(np.float32), np.unique(y, return_inverse=True)[1]


def _weighted_words(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF of counts of words; texts with none of the words are left out."""
    X = X[:, (X > 0).sum(axis=0) >= _LEAST_TEXTS]
    X, y = X[X.any(axis=1)], y[X.any(axis=1)]
    X = TfidfTransformer(sublinear_tf=True).fit_transform(X).toarray()
    X = X[:, np.argsort(-X.sum(axis=0))[:_MOST_WORDS]]
    return X[X.any(axis=1)], y[X.any(axis=1)]


def table(results: list[dict], names: list[str]) -> str:
    """Markdown: for each set the median and range of ARI over the seeds, by method."""
    lines = ["| data | rows x features | classes | " + " | ".join(names) + " |"]
    lines.append("| --- " * (3 + len(names)) + "|")
    medians = {name: [] for name in names}
    for data in dict.fromkeys(row["data"] for row in results):
        rows = [row for row in results if row["data"] == data]
        found = {n: [row["ARI"] for row in rows if row["method"] == n] for n in names}
        cells = [data, rows[0]["shape"], str(rows[0]["classes"]), *map(spread, found.values())]
        lines.append("| " + " | ".join(cells) + " |")
        for name in names:
            medians[name].append(np.median(found[name]))
    means = [f"**{np.mean(of_sets):.3f}**" for of_sets in medians.values()]
    return "\n".join([*lines, "| **mean** | | | " + " | ".join(means) + " |"])


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2])
    parser.add_argument("--sets", type=Path, required=True, help="a clone of the collection")
    parser.add_argument("--datasets", nargs="+", choices=_DATA_SETS, default=_DATA_SETS)
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    results, about = Results("wide.jsonl"), {}
    for name in arguments.datasets:
        X, y = load(arguments.sets / "skfeature" / "data" / f"{name}.mat")
        about[name] = {"shape": f"{len(X):,} x {X.shape[1]:,}", "classes": len(np.unique(y))}
        for _ in measure_missing(results, name, X, y, arguments):
            pass
    rows = asked_for(results, arguments)
    names = [name for name in arguments.methods if any(row["method"] == name for row in rows)]
    print(table([row | about[row["data"]] for row in rows], names))


if __name__ == "__main__":
    main()
