"""Speed of `predict`: share of the matrix-product rate, and the latency of a single row.

    python benchmarks/inference.py [--rows 10000 100000] [--repeats 7]

The paper's network, 784-500-500-2000-10, and for a single row the default one too, trained for a
few steps only: their speed does not depend on what they have learnt. Rows are uniform noise. The
products alone are those of the encoder in float32, by `torch.nn.functional.linear` on all rows at
once with all threads. All take turns.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from machine import describe_machine
from products import products
from resumable import spread
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from skdec import DECClustering

_WIDTHS = [784, 500, 500, 2000, 10]


def fitted(X: np.ndarray, hidden_dims: str | list[int]) -> DECClustering:
    """A network of these widths, hardly trained."""
    steps = {"pretrain_steps": 10, "neighbor_steps": 1, "max_iter": 0, "init": "k-means++"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return DECClustering(10, hidden_dims=hidden_dims, random_state=0, **steps).fit(X)


def in_turns(works: list[Callable[[], object]], repeats: int) -> np.ndarray:
    """Seconds, of shape (n_works, repeats), after one turn that does not count."""
    seconds = np.empty((len(works), repeats + 1))
    for turn in range(repeats + 1):
        for k, work in enumerate(works):
            start = time.perf_counter()
            work()
            seconds[k, turn] = time.perf_counter() - start
    return seconds[:, 1:]


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1000, help="of a single row")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    X = random.random((max(arguments.rows), _WIDTHS[0]), dtype=np.float32)
    dec, default = (fitted(X[:2000], widths) for widths in (_WIDTHS[1:-1], "auto"))
    kmeans = KMeans(10, n_init=1, random_state=0).fit(X[:2000])

    print(describe_machine() + "\n")
    print("| rows | products alone, s | `predict`, s | share | rows/s | KMeans.predict, s |")
    print("| --- " * 6 + "|")
    for n in arguments.rows:
        rows, bare = X[:n], products(_WIDTHS, n, torch.float32, training=False)
        works = [bare, lambda rows=rows: dec.predict(rows), lambda rows=rows: kmeans.predict(rows)]
        alone, ours, theirs = in_turns(works, arguments.repeats)
        cells = [spread(alone), spread(ours), spread(alone / ours)]
        cells += [f"{n / np.median(ours):,.0f}", spread(theirs)]
        print("| " + " | ".join([f"{n:,}", *cells]) + " |", flush=True)

    row = X[:1]
    models = {"skdec, the paper's network": dec, "skdec, default": default, "KMeans": kmeans}
    works = [lambda model=model: model.predict(row) for model in models.values()]
    print("\n| one row | median, ms | 95 %, ms |\n| --- | --- | --- |")
    for name, seconds in zip(models, in_turns(works, arguments.calls), strict=True):
        median, late = 1000 * np.quantile(seconds, [0.5, 0.95])
        print(f"| {name} | {median:.3f} | {late:.3f} |")


if __name__ == "__main__":
    main()
