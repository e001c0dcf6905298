"""Training rows a second of the paper's network, beside the usual loop, ClustPy and bare products.

    python benchmarks/throughput.py --data DIR [--batches 256 1024] [--epochs 3] [--repeats 5]

784-500-500-2000-10 and its mirror image, squared error, the same epochs for all, on MNIST's test
split; skdec by Muon, its default, and by Adam. The usual loop is
`DataLoader(TensorDataset(X), batch_size, shuffle=True)` in float32 with the default Adam, not
compiled. ClustPy's FeedforwardAutoencoder is measured where it is installed. All take turns; a
ratio is one of the same turn. "products" are those that training cannot do without, in the same
precision: as skdec cuts its batches into shards, and of whole batches.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from datasets import load
from machine import describe_machine
from products import product_rate
from resumable import spread
from stopwatch import timed_fit
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skdec import DECClustering
from skdec._batching import steps_per_epoch
from skdec._optimization import number_of_shards

_HIDDEN, _EMBEDDING = (500, 500, 2000), 10
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def skdec_seconds(
    X: np.ndarray, batch: int, epochs: int, *, optimizer: str, precision: str, device: str
) -> float:
    """The stage "autoencoder" of a fit that has no other training."""
    model = DECClustering(
        10,
        hidden_dims=_HIDDEN,
        embedding_dim=_EMBEDDING,
        pretraining="end-to-end",
        pretrain_optimizer=optimizer,
        pretrain_learning_rate=0.001 if optimizer == "adam" else 0.01,
        pretrain_steps=epochs * steps_per_epoch(len(X), batch),
        batch_size=batch,
        init="k-means++",
        n_init=1,
        max_iter=0,
        precision=precision,
        device=device,
        random_state=0,
    )
    return timed_fit(model, X).seconds["pretraining/autoencoder"]


def loop_seconds(X: np.ndarray, batch: int, epochs: int, *, device: str) -> float:
    """The loop that most repositories have."""
    widths = [X.shape[1], *_HIDDEN, _EMBEDDING, *_HIDDEN[::-1], X.shape[1]]
    layers = []
    for k, (n_in, n_out) in enumerate(pairwise(widths)):
        linear = k in (len(_HIDDEN), len(widths) - 2)
        layers += [nn.Linear(n_in, n_out)] + ([] if linear else [nn.ReLU()])
    model = nn.Sequential(*layers).to(device)
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters())
    start = time.perf_counter()
    for _ in range(epochs):
        for (rows,) in loader:
            rows = rows.to(device)
            loss = nn.functional.mse_loss(model(rows), rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    loss.item()  # an accelerator is done only then
    return time.perf_counter() - start


def clustpy_seconds(X: np.ndarray, batch: int, epochs: int, *, device: str) -> float:
    """ClustPy's own training of its feed-forward autoencoder."""
    from clustpy.deep.neural_networks import FeedforwardAutoencoder

    layers = [X.shape[1], *_HIDDEN, _EMBEDDING]
    model = FeedforwardAutoencoder(layers, activation_fn=nn.ReLU, random_state=0)
    model = model.to(device)
    start = time.perf_counter()
    model.fit(n_epochs=epochs, batch_size=batch, data=X)
    return time.perf_counter() - start


def contenders(device: str) -> dict[str, Callable[[np.ndarray, int, int], float]]:
    """Names and functions from rows, batch size and epochs to seconds of training."""
    found: dict[str, Callable] = {
        f"skdec, {optimizer}, {precision}": partial(
            skdec_seconds, optimizer=optimizer, precision=precision, device=device
        )
        for precision in _PRECISIONS
        for optimizer in ("muon", "adam")
    }
    found["usual loop, float32"] = partial(loop_seconds, device=device)
    try:
        import clustpy.deep.neural_networks  # noqa: F401

        found["ClustPy, float32"] = partial(clustpy_seconds, device=device)
    except (ImportError, RuntimeError) as error:  # the latter by a torchvision for another torch
        print(f"ClustPy is left out: {error}\n")
    return found


def measure(
    found: dict[str, Callable], X: np.ndarray, batch: int, epochs: int, repeats: int
) -> dict[str, np.ndarray]:
    """Rows a second of each contender, a figure for each turn after the first."""
    rates: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(repeats + 1):
        for name, seconds in found.items():
            rates[name].append(epochs * len(X) / seconds(X, batch, epochs))
    return {name: np.array(values[1:]) for name, values in rates.items()}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz")
    parser.add_argument("--batches", nargs="+", type=int, default=[256, 1024])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--rows", type=int, help="only so many rows, to try the script")
    arguments = parser.parse_args()
    X = load("mnist-10k", arguments.data)[0][: arguments.rows]
    widths = [X.shape[1], *_HIDDEN, _EMBEDDING, *_HIDDEN[::-1], X.shape[1]]
    print(describe_machine() + "\n")
    found = contenders(arguments.device)
    header = ["batch", "training", "rows/s", "of the usual loop", "of ClustPy"]
    header += ["of products in shards", "of products of whole batches"]
    print("| " + " | ".join(header) + " |\n" + "| --- " * len(header) + "|")
    for batch in arguments.batches:
        rates = measure(found, X, batch, arguments.epochs, arguments.repeats)
        for name, rate in rates.items():
            cells = [str(batch), name, f"{np.median(rate):,.0f}"]
            for other in ("usual loop, float32", "ClustPy, float32"):
                cells.append(spread(rate / rates[other]) if other in rates else "")
            dtype = _PRECISIONS[name.split(", ")[-1]]
            for shards in (number_of_shards(batch), 1):
                bare = product_rate(widths, batch, dtype, shards=shards, device=arguments.device)
                cells.append(f"{np.median(rate) / bare:.0%}")
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
