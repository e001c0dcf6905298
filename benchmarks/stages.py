"""Where the time of a fit goes: seconds, rows a second and share of the matrix-product rate.

    python benchmarks/stages.py --data DIR [--datasets usps mnist-10k mnist]
        [--device auto]

The default settings. The share is the time that the matrix products of a stage take when nothing
else is done, over the time of the stage: products of the same network, batch, shards and precision,
measured after the fit. Of whole batches and shards, whichever is quicker. Steps are counted in
epochs, a last one that was cut short as a whole.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from datasets import load
from machine import describe_machine
from products import median_seconds, product_rate
from sklearn.exceptions import ConvergenceWarning
from stopwatch import STAGES, timed_fit, warm_up

from skdec import DECClustering
from skdec._backend import resolve_precision
from skdec._end_layers import _TRAINED_COMPONENTS
from skdec._optimization import number_of_shards
from skdec.metrics import clustering_accuracy


def best_rate(widths: list[int], batch: int, dtype: torch.dtype, device: str) -> float:
    """Rows a second of the products of training steps, by shards or at once."""
    ways = {1, number_of_shards(batch)} if device == "cpu" else {1}
    return max(product_rate(widths, batch, dtype, shards=n, device=device) for n in ways)


def products_of(model: DECClustering, n_rows: int, epochs: dict[str, int]) -> dict[str, tuple]:
    """For the stages that train: their rows, and the seconds of the products alone."""
    device = model.device_
    dtype = resolve_precision(
        model.precision, torch.device(device), model.autoencoder_, model.n_features_in_
    )
    encoder = [model.n_features_in_, *model.hidden_dims_, model.cluster_centers_.shape[1]]
    trained = [min(model.n_features_in_, _TRAINED_COMPONENTS), *encoder[1:]]
    batch = min(model.batch_size, n_rows)
    of_encoder = best_rate(encoder, batch, dtype, device)
    of_pairs = best_rate(trained, 2 * batch, dtype, device)
    of_both = best_rate(encoder + encoder[::-1][1:], batch, dtype, device)
    assigned = 1 / product_rate(encoder, min(n_rows, 10_000), training=False, device=device)
    seconds_a_row = {
        "pretraining/autoencoder": (1, 1 / of_both),
        "pretraining/neighbors": (2, 1 / of_pairs),
        # All rows are assigned again after each round.
        "self-training": (1, 1 / of_encoder + assigned),
        "inference": (1, assigned),
    }
    epochs = {**epochs, "inference": 1}
    rows = {
        stage: epochs[stage] * n_rows * ends
        for stage, (ends, _) in seconds_a_row.items()
        if stage in epochs
    }
    return {stage: (n, n * seconds_a_row[stage][1]) for stage, n in rows.items()}


def measure(X: np.ndarray, y: np.ndarray, settings: dict) -> list[list[str]]:
    """Cells of the table for one fit and one `predict`."""
    model = DECClustering(10, random_state=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        stopwatch = timed_fit(model, X)
    seconds = {stage: stopwatch.seconds[stage] for stage in STAGES if stage in stopwatch.seconds}
    total = sum(seconds.values())
    products = products_of(model, len(X), stopwatch.epochs)
    seconds["inference"] = median_seconds(lambda: model.predict(X))
    lines = []
    for stage, taken in seconds.items():
        rows, bare = products.get(stage, (len(X), None))
        share = "" if bare is None else f"{bare / taken:.0%}"
        name = STAGES.get(stage, "`predict`, after the fit")
        lines.append([name, f"{taken:.2f}", f"{rows / taken:,.0f}", share])
    accuracy = f"ACC {clustering_accuracy(y, model.labels_):.4f}"
    return [*lines, ["**fit**", f"{total:.2f}", f"{len(X) / total:,.0f}", accuracy]]


def main() -> None:
    """Fit, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz and usps.npz")
    parser.add_argument("--datasets", nargs="+", default=["usps", "mnist-10k", "mnist"])
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--rows", type=int, help="only so many rows, to try the script")
    parser.add_argument("--steps", type=int, help="only so many steps, to try the script")
    arguments = parser.parse_args()
    settings: dict = {"device": arguments.device}
    if arguments.steps:
        names = ("pretrain_steps", "neighbor_steps", "max_iter")
        settings |= dict.fromkeys(names, arguments.steps)
    warm_up(arguments.device)
    print(describe_machine() + "\n")
    print("| data | stage | seconds | rows/s | share of the product rate |")
    print("| --- " * 5 + "|")
    for data in arguments.datasets:
        X, y = (part[: arguments.rows] for part in load(data, arguments.data))
        for cells in measure(X, y, settings):
            print("| " + " | ".join([f"{data}, {len(X):,}", *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
