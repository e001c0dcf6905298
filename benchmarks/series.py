"""The default settings on time series, as rows.

    python benchmarks/series.py --series DIR [--datasets ArrowHead ...] [--seeds 0 1 2]
        [--methods ...]

DIR has folders of sets of the UCR and UEA archives (timeseriesclassification.com) in the format of
their `.ts` files, series of one length; `aeon/datasets/data` in the package aeon has those that are
the default here. Training and test parts are put together, and the dimensions of a series side by
side. Nothing is told of time, and no series is scaled. They had no part in the choice of any
default. Every result is a line of `benchmarks/results/series.jsonl`; a run that was stopped goes on
where it was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accuracy import asked_for, command_line, compile_peers, measure_missing, table
from machine import describe_machine
from resumable import Results

# Folders, and the first part of the names of the files in them where that is another.
_DATA_SETS = {
    "ACSF1": "ACSF1",
    "ArrowHead": "ArrowHead",
    "BasicMotions": "BasicMotions",
    "GunPoint": "GunPoint",
    "ItalyPowerDemand": "ItalyPowerDemand",
    "JapaneseVowels": "JapaneseVowels_eq",
    "OSULeaf": "OSULeaf",
    "PickupGestureWiimoteZ": "PickupGestureWiimoteZ_eq",
}


def load(path: Path) -> tuple[list[np.ndarray], list[str]]:
    """Rows and classes of a file: after a line `@data`, dimensions and the class between colons."""
    _, data = path.read_text().lower().split("@data\n")
    lines = [line.split(":") for line in data.splitlines() if line.strip()]
    rows = [np.array(",".join(line[:-1]).split(","), dtype=np.float32) for line in lines]
    return rows, [line[-1].strip() for line in lines]


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2])
    parser.add_argument("--series", type=Path, required=True, help="a folder of the archive")
    parser.add_argument("--datasets", nargs="+", default=list(_DATA_SETS))
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    results = Results("series.jsonl")
    for name in arguments.datasets:
        file = arguments.series / name / _DATA_SETS.get(name, name)
        parts = [load(Path(f"{file}_{part}.ts")) for part in ("TRAIN", "TEST")]
        X = np.stack([row for rows, _ in parts for row in rows])
        _, y = np.unique([label for _, labels in parts for label in labels], return_inverse=True)
        for _ in measure_missing(results, name, X, y, arguments):
            pass
    print(table(asked_for(results, arguments)))


if __name__ == "__main__":
    main()
