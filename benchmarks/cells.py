"""The default settings on counts of genes in single cells.

    python benchmarks/cells.py --cells DIR [--datasets pbmc ...] [--seeds 0 1 2] [--methods ...]

DIR is a clone of ttgump/scDCC (github): Tian, Zhang, Lin, Wei, Hakonarson, "Model-based deep
embedding for constrained clustering analysis of single cell RNA sequencing data", Nature
Communications 2021. Of five of its sets, the 2,000 genes that were chosen there. Counts are divided
by each cell's sum, in units of the median cell's, and x becomes log(1 + x); each set is once taken
so, and once with the genes standardised then and no value beyond 10, both of which are usual. Every
result is a line of `benchmarks/results/cells.jsonl`; a run that was stopped goes on where it was.

Files are read by h5py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accuracy import asked_for, command_line, compile_peers, measure_missing, table
from machine import describe_machine
from resumable import Results
from sklearn.preprocessing import StandardScaler

_FILES = {
    "pbmc": "Small_Datasets/10X_PBMC_top2000.h5",
    "kidney": "Small_Datasets/human_kidney_counts_top2000.h5",
    "bladder": "Small_Datasets/mouse_bladder_cell_top2000.h5",
    "worm": "Small_Datasets/worm_neuron_cell_top2000.h5",
    "cord blood": "CITE_PBMC/CITE_CBMC_counts_top2000.h5",
}
_STANDARDISED = ", standardised"
_FARTHEST = 10.0


def load(path: Path, standardised: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows and known types of the cells of a file."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("benchmarks/cells.py reads files by h5py: pip install h5py") from error

    with h5py.File(path) as file:
        counts, y = np.array(file["X"], dtype=np.float64), np.array(file["Y"])
    sums = counts.sum(axis=1, keepdims=True)
    X = np.log1p(counts / np.maximum(sums, 1.0) * np.median(sums))
    if standardised:
        X = StandardScaler().fit_transform(X).clip(-_FARTHEST, _FARTHEST)
    return X.astype(np.float32), np.unique(y, return_inverse=True)[1]


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2])
    parser.add_argument("--cells", type=Path, required=True, help="a clone of the collection")
    names = [name + how for name in _FILES for how in ("", _STANDARDISED)]
    parser.add_argument("--datasets", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    results = Results("cells.jsonl")
    for name in arguments.datasets:
        path = arguments.cells / "data" / _FILES[name.removesuffix(_STANDARDISED)]
        X, y = load(path, name.endswith(_STANDARDISED))
        for _ in measure_missing(results, name, X, y, arguments):
            pass
    print(table(asked_for(results, arguments)))


if __name__ == "__main__":
    main()
