"""Rows a second of a fit: two processes of one thread each against one process with two threads.

    python benchmarks/distributed.py --repeats 5

The same rows, the published network and the same numbers of mini-batch steps in both, one after the
other, several times in one run. Rows are those of all mini-batches that `fit` is told to train on;
the seconds are those of the whole `fit`, with scaling, neighbours and initial centres. Beside them
stands the accuracy on the planted clusters, for both have to solve the same task.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings

import numpy as np
from machine import describe_machine
from resumable import spread
from sklearn.datasets import make_blobs
from torch import distributed

from skdec import DECClustering
from skdec.metrics import clustering_accuracy

N_CLUSTERS, N_FEATURES, ROUND_STEPS, ROUNDS = 10, 256, 30, 2
LAUNCH = {
    "one process, two threads": (2, []),
    "two processes, one thread each": (
        1,
        "-m torch.distributed.run --standalone --nproc-per-node=2".split(),
    ),
}


def work(n_rows: int, n_steps: int, batch_size: int) -> None:
    """Fit to this process's rows, once to warm up, and print rows a second and the accuracy."""
    X, y = make_blobs(n_rows, N_FEATURES, centers=N_CLUSTERS, cluster_std=6.0, random_state=0)
    X, rank, size = X.astype(np.float32), 0, 1
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
        rank, size = distributed.get_rank(), distributed.get_world_size()
    dec = DECClustering(
        N_CLUSTERS,
        hidden_dims=(500, 500, 2000),
        batch_size=batch_size,
        update_interval=ROUND_STEPS,
        max_iter=ROUNDS,
        tol=0.0,
        random_state=0,
        distributed=size > 1,
    )
    own = slice(rank, None, size)
    warnings.simplefilter("ignore")
    dec.set_params(pretrain_steps=5, neighbor_steps=5).fit(X[own])
    started = time.perf_counter()
    dec.set_params(pretrain_steps=n_steps, neighbor_steps=n_steps).fit(X[own])
    seconds = time.perf_counter() - started
    rows = (2 * n_steps + ROUNDS * ROUND_STEPS) * batch_size
    if rank == 0:
        accuracy = clustering_accuracy(y, dec.predict(X))
        print(json.dumps({"rows a second": rows / seconds, "accuracy": accuracy}))
    if size > 1:
        distributed.destroy_process_group()


def measure(how: str, arguments: list[str]) -> dict[str, float]:
    """What `work` prints, in processes of their own."""
    n_threads, launcher = LAUNCH[how]
    result = subprocess.run(
        [sys.executable, *launcher, __file__, "--work", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": str(n_threads)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """Print each measurement, then medians, ranges and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(given.rows, given.steps, given.batch_size)
    arguments = [
        f"--{k}={getattr(given, k.replace('-', '_'))}" for k in ("rows", "steps", "batch-size")
    ]
    print(describe_machine(), *arguments)
    measured: dict[str, list[float]] = {how: [] for how in LAUNCH}
    for _ in range(given.repeats):
        for how, speeds in measured.items():
            result = measure(how, arguments)
            speeds.append(result["rows a second"])
            print(f"{how}: {speeds[-1]:,.0f} rows/s, accuracy {result['accuracy']:.3f}", flush=True)
    one, two = measured.values()
    print("ratio, median and range:", spread([b / a for a, b in zip(one, two, strict=True)]))


if __name__ == "__main__":
    main()
