"""How quickly this machine does the matrix products of a network, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from skdec._threads import Workers


def products(
    widths: list[int], rows: int, dtype: torch.dtype, training: bool, device: str = "cpu"
) -> Callable[[], None]:
    """A function that does all matrix products of one pass of `rows` rows through layers.

    Forward one for each layer; in training two more, for the gradients of weights and of inputs
    (which the first layer's need not).
    """
    layers = [
        tuple(
            torch.randn(shape, device=device).to(dtype) for shape in ((rows, a), (b, a), (rows, b))
        )
        for a, b in pairwise(widths)
    ]

    def run() -> None:
        for k, (x, weight, gradient) in enumerate(layers):
            functional.linear(x, weight)
            if training:
                gradient.T @ x
                if k:
                    gradient @ weight

    return torch.no_grad()(run)


def recorded(work: Callable[[], None], times: int) -> Callable[[], None]:
    """Work on CUDA done so many times, each time launched at once, as a CUDA graph."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        work()
    with torch.cuda.graph(graph, stream=stream):
        work()

    def replay() -> None:
        for _ in range(times):
            graph.replay()
        torch.cuda.synchronize()

    return replay


def median_seconds(work: Callable[[], object], at_least: float = 1.0) -> float:
    """Median time of `work`, repeated for so many seconds, and three times at least."""
    work()
    times: list[float] = []
    while len(times) < 3 or sum(times) < at_least:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def product_rate(
    widths: list[int],
    rows: int,
    dtype: torch.dtype = torch.float32,
    *,
    training: bool = True,
    shards: int = 1,
    device: str = "cpu",
) -> float:
    """Rows a second of the products alone, with as many threads as torch has.

    The rows are taken at once, by kernels with all threads; or in so many shards, which the threads
    share among them and do with kernels of one thread each. On CUDA at once.
    """
    if device == "cuda":
        times = 100  # so that waiting for the end takes no time beside it
        work = recorded(products(widths, rows, dtype, training, device), times)
        return times * rows / median_seconds(work)
    if shards == 1:
        return rows / median_seconds(products(widths, rows, dtype, training))
    parts = [products(widths, rows // shards, dtype, training) for _ in range(shards)]
    with Workers() as workers:
        seconds = median_seconds(lambda: workers.map(lambda part: part(), parts))
    return rows / seconds
