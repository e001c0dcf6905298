"""Cluster a data set from the command line: python -m skdec [FILE [--n-clusters K]]."""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.preprocessing import StandardScaler

from . import DECClustering, __version__
from .displays import EmbeddingDisplay
from .displays._drawing import require_matplotlib
from .metrics import clustering_accuracy, relative_conductance

_EPILOG = """\
examples:
  python -m skdec
      cluster the handwritten digits that ship with scikit-learn
  python -m skdec customers.csv --standardize
      cluster the rows of a table of numbers, its units made comparable, into as many
      clusters as they fall into
  python -m skdec cells.npz --n-clusters 12 --labels cell_type
      the same, and compare with known labels (never used for clustering)

exit codes: 0 done, 1 interrupted, 2 wrong arguments or data
"""


class Data(NamedTuple):
    """Rows, known labels or None, and what to call and how to draw them."""

    X: np.ndarray
    labels: np.ndarray | None
    name: str
    image_shape: tuple[int, int] | None = None


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    for path in (arguments.output, arguments.picture):
        if path is not None and not path.parent.is_dir():
            parser.error(f"{path.parent} is not a folder")
        if path is not None and path.is_dir():
            parser.error(f"{path} is a folder")
    try:
        data = _load(arguments)
        _cluster(data, arguments)
    except (ValueError, OSError, ImportError, csv.Error) as error:
        # What follows the first line of scikit-learn's messages is advice for programmers.
        print(f"{parser.prog}: error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skdec",
        description="Deep Embedded Clustering of the rows of FILE, beside KMeans; without FILE, "
        "of handwritten digits. Writes the labels and a picture of the embedding.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE",
        help=".csv (numbers, header or not), .npy, .npz (array X or the only one) or .parquet",
    )  # fmt: skip
    parser.add_argument(
        "--n-clusters", type=_number_of_clusters, metavar="K",
        help="number of clusters, or auto (default with FILE): as many as the rows fall into",
    )  # fmt: skip
    parser.add_argument(
        "--labels", metavar="NAME",
        help="column of .csv or .parquet, or array of .npz, with known labels: used only to "
        "judge the result",
    )  # fmt: skip
    parser.add_argument(
        "--standardize", action="store_true",
        help="scale each column to unit variance first: for columns in different units",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="CSV", help="labels (default: NAME-labels.csv)"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="PNG", help="embedding (default: NAME-embedding.png)"
    )
    parser.add_argument("--no-picture", action="store_true", help="draw nothing")
    parser.add_argument("--random-state", type=int, default=0, metavar="SEED", help="default: 0")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, mps")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--version", action="version", version=f"skdec {__version__}")
    return parser


def _number_of_clusters(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _cluster(data: Data, arguments: argparse.Namespace) -> None:
    """Fit KMeans and DECClustering, print how they compare, write labels and picture."""
    X = StandardScaler().fit_transform(data.X) if arguments.standardize else data.X
    n_clusters = arguments.n_clusters
    if n_clusters is None:
        n_clusters = "auto" if arguments.file else len(np.unique(data.labels))
    into = "" if n_clusters == "auto" else f", {n_clusters} clusters"
    print(f"{data.name}: {X.shape[0]} rows, {X.shape[1]} features{into}")
    model = DECClustering(
        n_clusters,
        device=arguments.device,
        verbose=0 if arguments.quiet else 1,
        random_state=arguments.random_state,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("always", ConvergenceWarning)
        warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
        results = {"DECClustering": _timed_labels(model, X)}
        kmeans = KMeans(model.n_clusters_, n_init=10, random_state=arguments.random_state)
        results["KMeans"] = _timed_labels(kmeans, X)
    _print_comparison(X, data.labels, results)
    if n_clusters == "auto":
        print("clusters found:", model.n_clusters_)
    sizes = np.bincount(model.labels_, minlength=model.n_clusters_)
    print("cluster sizes:", " ".join(map(str, sizes)))
    _write(model, X, data, arguments)


def _timed_labels(estimator, X: np.ndarray) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    labels = estimator.fit_predict(X)
    return labels, time.perf_counter() - start


def _print_comparison(X, known, results) -> None:
    """A table with a line for each estimator; with known labels, how well they are met."""
    measures = {"score": lambda labels: relative_conductance(X, labels)}
    if known is not None:
        measures = {
            "accuracy": lambda labels: clustering_accuracy(known, labels),
            "NMI": lambda labels: normalized_mutual_info_score(known, labels),
            "ARI": lambda labels: adjusted_rand_score(known, labels),
        } | measures
    print(f"\n{'':15}" + "".join(f"{name:>10}" for name in [*measures, "seconds"]))
    for name, (labels, seconds) in results.items():
        values = "".join(f"{measure(labels):10.3f}" for measure in measures.values())
        print(f"{name:15}{values}{seconds:10.1f}")
    print("(score: relative conductance on the neighbour graph, needs no labels)\n")


def _write(model: DECClustering, X: np.ndarray, data: Data, arguments) -> None:
    output = arguments.output or Path(f"{data.name}-labels.csv")
    confidence = model.predict_proba(X).max(axis=1)
    with output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "soft_assignment"])
        writer.writerows(zip(model.labels_, np.round(confidence, 6), strict=True))
    print(f"labels: {output}")
    if arguments.no_picture:
        return
    picture = arguments.picture or Path(f"{data.name}-embedding.png")
    title = f"{data.name}: {len(X)} rows in {model.n_clusters_} clusters"
    try:
        _draw(model, X, data.image_shape, title, picture)
        print(f"picture: {picture}")
    except ImportError as error:
        print(f"no picture: {error}")


def _draw(model: DECClustering, X: np.ndarray, image_shape, title: str, path: Path) -> None:
    """Write the embedding as a picture to `path`."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    ax = figure.add_subplot()
    EmbeddingDisplay.from_estimator(model, X, image_shape=image_shape, ax=ax)
    ax.set_title(title, fontsize=15, loc="left", pad=12)
    figure.savefig(path, dpi=120, bbox_inches="tight", pad_inches=0.2)


# --- Reading ---


def _load(arguments: argparse.Namespace) -> Data:
    path, labels = arguments.file, arguments.labels
    if path is None:
        if labels is not None:
            raise ValueError(f"--labels {labels!r} needs a FILE that has them")
        digits = load_digits()
        return Data(digits.data, digits.target, "digits", (8, 8))
    readers = {".csv": _read_csv, ".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: FILE must end in one of {', '.join(readers)}")
    X, known = readers[path.suffix.lower()](path, labels)
    if not np.issubdtype(X.dtype, np.number) or X.ndim != 2:
        raise ValueError(
            f"{path}: expected a two-dimensional array of numbers, got dtype {X.dtype} and shape "
            f"{X.shape}"
        )
    if known is not None:
        known = known.astype(str)
        if known.shape != (len(X),):
            raise ValueError(
                f"{path}: --labels {labels!r} has shape {known.shape}, expected ({len(X)},)"
            )
    return Data(X, known, path.stem)


def _read_csv(path: Path, labels: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise ValueError(f"{path} is empty")
    names = [str(position) for position in range(len(rows[0]))]
    if rows[0] == names or not any(map(_is_number, rows[0])):
        names = [name.strip() for name in rows.pop(0)]
    if "" in names:
        raise ValueError(
            f"{path}: column {names.index('') + 1} has no name. If it holds row numbers, leave "
            "them out (pandas: to_csv(..., index=False)); else name it"
        )
    if not rows or len(set(names)) < len(names):
        raise ValueError(f"{path}: no rows, or two columns of one name, in {names}")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise ValueError(f"{path}: row {number} has {len(row)} values, expected {len(names)}")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    known = _pop_labels(columns, labels, path)
    if not columns:
        raise ValueError(f"{path}: no columns besides the labels")
    numbers = [_numbers(column, name, path) for name, column in columns.items()]
    return np.column_stack(numbers), known


def _numbers(column: tuple[str, ...], name: str, path: Path) -> np.ndarray:
    try:
        return np.array(column, dtype=np.float64)
    except ValueError as error:
        wrong = next(value for value in column if not _is_number(value))
        raise ValueError(
            f"{path}: column {name!r} has the value {wrong!r}, which is not a number; remove or "
            "encode the column, or name it with --labels"
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_npy(path: Path, labels: str | None) -> tuple[np.ndarray, None]:
    if labels is not None:
        raise ValueError(f"{path}: --labels needs a .csv, .parquet or .npz file")
    array = _load_numpy(path)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} holds several arrays; name it .npz")
    return array, None


def _load_numpy(path: Path):
    try:
        return np.load(path)
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is not a file of numpy's, or holds Python objects") from error


def _read_npz(path: Path, labels: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    file = _load_numpy(path)
    if isinstance(file, np.ndarray):
        raise ValueError(f"{path} holds a single array; name it .npy")
    try:
        with file:
            arrays = dict(file)
    except (zlib.error, BadZipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    known = _pop_labels(arrays, labels, path)
    if "X" not in arrays and len(arrays) != 1:
        raise ValueError(f"{path}: expected an array 'X' or a single array, got {sorted(arrays)}")
    return arrays.get("X", next(iter(arrays.values()))), known


def _read_parquet(path: Path, labels: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(f"{path}: pandas and pyarrow are needed to read .parquet") from error
    frame = pd.read_parquet(path)
    columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    known = _pop_labels(columns, labels, path)
    for name, column in columns.items():
        if not np.issubdtype(column.dtype, np.number):
            raise ValueError(f"{path}: column {name!r} is of type {column.dtype}, not numbers")
    return np.column_stack(list(columns.values())), known


def _pop_labels(columns: dict, labels: str | None, path: Path) -> np.ndarray | None:
    """Take the named column out, so that it is not clustered."""
    if labels is None:
        return None
    if labels not in columns:
        raise ValueError(f"{path}: --labels {labels!r} is none of {sorted(columns)}")
    return np.asarray(columns.pop(labels))


if __name__ == "__main__":
    sys.exit(main())
