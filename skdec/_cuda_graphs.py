"""On CUDA: steps of hundreds of short operations, each step launched at once."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

# torch can record in one thread at a time.
_RECORDING = threading.Lock()

# Newer ones of torch find by themselves what a graph draws its random numbers from.
_ASKS_FOR_GENERATORS = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14)

# step(loss, rows) -> a number, as a tensor
Step = Callable[[Callable, Tensor], Tensor]


class _Recording(NamedTuple):
    """Operations on `rows` that have the `result`, to be launched together."""

    graph: torch.cuda.CUDAGraph
    rows: Tensor
    result: Tensor


class Recorder:
    """Calls of `step(loss, rows)`, from the second on of a loss and a number of rows by a graph.

    What takes an accelerator 0.3 ms takes Python ten times as long to launch, operation by
    operation. A CUDA graph does the operations of one recorded call again, on the same memory. So
    the step has to do the same to the same tensors every time, draw its random numbers from the
    `generators`, and read nothing back.
    """

    def __init__(self, generators: Sequence[torch.Generator], device: torch.device):
        self._generators, self._stream = generators, torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._recordings: dict[Hashable, _Recording | None] = {}

    def __call__(self, step: Step, loss: Callable, rows: Tensor) -> Tensor:
        """The result of the step."""
        key = loss, len(rows)
        if key not in self._recordings:
            self._recordings[key] = None
            return self._warm_up(step, loss, rows)
        recording = self._recordings[key] or self._record(step, loss, rows)
        self._recordings[key] = recording
        recording.rows.copy_(rows)
        recording.graph.replay()
        return recording.result.clone()

    def _warm_up(self, step: Step, loss: Callable, rows: Tensor) -> Tensor:
        """An ordinary call, in which libraries set themselves up for the stream."""
        outside = torch.cuda.current_stream(rows.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            result = step(loss, rows)
        outside.wait_stream(self._stream)
        return result.clone()

    def _record(self, step: Step, loss: Callable, rows: Tensor) -> _Recording:
        """What a call would do, without doing it."""
        rows, graph = rows.clone(), torch.cuda.CUDAGraph()
        for generator in self._generators if _ASKS_FOR_GENERATORS else ():
            graph.register_generator_state(generator)
        recording = torch.cuda.graph(
            graph, self._pool, self._stream, capture_error_mode="thread_local"
        )
        with _RECORDING, _no_garbage_collection(), recording:
            result = step(loss, rows)
        return _Recording(graph, rows, result)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Let no other graph be deleted by the way: that is forbidden while one is recorded."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
