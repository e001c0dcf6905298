"""Results one by one in a file, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "results"


class Results:
    """The lines of a file of JSON objects; each is a result under a key of some of its entries."""

    def __init__(self, name: str):
        FOLDER.mkdir(exist_ok=True)
        self.path = FOLDER / name
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.rows: list[dict] = [json.loads(line) for line in lines]

    def has(self, key: dict) -> bool:
        """Whether there is a result with these entries."""
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, row: dict) -> None:
        """Print a new result and write it to the file."""
        print(json.dumps(row), flush=True)
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
