"""Cost against the number of rows: seconds of each stage, and slopes in logarithms.

    python benchmarks/scaling.py --data DIR [--sizes 10000 20000 40000 70000 280000 1000000]

The default settings on MNIST; beyond its 70,000 rows on images made from them, shifted by up to two
pixels, with noise. Every result is a line of `benchmarks/results/scaling.jsonl`; a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path

import numpy as np
from datasets import load
from machine import describe_machine
from resumable import Results
from sklearn.exceptions import ConvergenceWarning
from stopwatch import STAGES, timed_fit, warm_up

from skdec import DECClustering

_SIZES = [10_000, 20_000, 40_000, 70_000, 280_000, 1_000_000]


def images(X: np.ndarray, n_rows: int) -> np.ndarray:
    """`n_rows` rows in uint8: a choice of those of `X`, or made from them."""
    random = np.random.default_rng(0)
    pixels = np.round(255 * X).astype(np.uint8)
    if n_rows <= len(X):
        return pixels[random.permutation(len(X))[:n_rows]]
    side = math.isqrt(X.shape[1])
    made = np.empty((n_rows, X.shape[1]), dtype=np.uint8)
    for start in range(0, n_rows, 10_000):
        rows = random.integers(len(X), size=min(10_000, n_rows - start))
        shifted = np.roll(pixels[rows].reshape(-1, side, side), random.integers(-2, 3, 2), (1, 2))
        noise = random.integers(16, size=(len(rows), X.shape[1]), dtype=np.uint8)
        made[start : start + len(rows)] = np.maximum(shifted.reshape(len(rows), -1), noise)
    return made


def run(arguments: argparse.Namespace) -> list[dict]:
    """All results that were asked for, in the order of their size."""
    results = Results("scaling.jsonl")
    settings = {}
    if arguments.steps:
        names = ("pretrain_steps", "neighbor_steps", "max_iter")
        settings = dict.fromkeys(names, arguments.steps)
    X, _ = load("mnist", arguments.data)
    warm_up()
    for n in arguments.sizes:
        key = {"n": n, "steps": arguments.steps}
        if not results.has(key):
            model = DECClustering(10, random_state=0, **settings)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                stopwatch = timed_fit(model, images(X, n))
            results.add(key | {"seconds": stopwatch.seconds, "rounds": model.n_iter_})
    chosen = [row for row in results.rows if row["n"] in arguments.sizes]
    return sorted((r for r in chosen if r["steps"] == arguments.steps), key=lambda r: r["n"])


def slope(sizes: list[int], seconds: list[float]) -> str:
    """Of the straight line through the logarithms."""
    if len(sizes) < 2 or min(seconds) <= 0:
        return ""
    return f"{np.polyfit(np.log(sizes), np.log(seconds), 1)[0]:.2f}"


def table(results: list[dict]) -> str:
    """Markdown: seconds of each stage at each size; slopes of all sizes and of the real rows."""
    sizes = [row["n"] for row in results]
    n_real = sum(n <= 70_000 for n in sizes)
    header = ["stage", *(f"{n:,}" for n in sizes), "slope, MNIST", "slope, all", "largest share"]
    lines = ["| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
    totals = [sum(row["seconds"].values()) for row in results]
    parts = {STAGES[stage]: [row["seconds"].get(stage, 0.0) for row in results] for stage in STAGES}
    for name, seconds in {**parts, "**total**": totals}.items():
        share = max(part / total for part, total in zip(seconds, totals, strict=True))
        slopes = slope(sizes[:n_real], seconds[:n_real]), slope(sizes, seconds)
        cells = [name, *(f"{s:.1f}" for s in seconds), *slopes, f"{share:.0%}"]
        lines.append("| " + " | ".join(cells) + " |")
    rounds = [str(row["rounds"]) for row in results]
    lines.append("| " + " | ".join(["rounds of self-training", *rounds, "", "", ""]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz")
    parser.add_argument("--sizes", nargs="+", type=int, default=_SIZES)
    parser.add_argument("--steps", type=int, help="only so many steps, to try the script")
    arguments = parser.parse_args()
    print(describe_machine() + "\n")
    print(table(run(arguments)))


if __name__ == "__main__":
    main()
