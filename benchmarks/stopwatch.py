"""Seconds and epochs of each stage of a fit, from outside, by a callback of scikit-learn."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from skdec import DECClustering

# What a fit does before the stage of that name, in no stage of its own.
_BEFORE = {"pretraining": "input", "pretraining/neighbors": "neighbour search"}

STAGES = {
    "input": "checks, distinct rows, scaling, halves of the features",
    "pretraining/autoencoder": "autoencoder",
    "neighbour search": "neighbour search",
    "pretraining/neighbors": "training with neighbours",
    "pretraining/decoder": "decoder, before self-training",
    "initialization": "initial centres",
    "self-training": "self-training",
    "decoder": "decoder",
    "result": "fitted attributes",
}


class Stopwatch:
    """A callback: `seconds` of the parts of a fit named in `STAGES`, and their `epochs`.

    A round of self-training is counted as an epoch.
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.epochs: Counter[str] = Counter()
        self._begun: dict[str, float] = {}
        self._last = 0.0

    def setup(self, estimator, context) -> None:
        """Nothing to prepare."""

    def teardown(self, estimator, context) -> None:
        """Nothing to put away."""

    def on_fit_task_begin(self, estimator, context) -> None:
        """Note the time, and what has gone on since another task ended."""
        now, path = time.perf_counter(), _path(context)
        self._begun[path] = now
        if path in _BEFORE:
            self.seconds[_BEFORE[path]] = now - (self._last or self._begun[""])
            self._last = now

    def on_fit_task_end(self, estimator, context) -> None:
        """Note the time that a stage took."""
        now, path = time.perf_counter(), _path(context)
        stage, _, name = path.rpartition("/")
        if name in ("epoch", "round"):
            self.epochs[stage] += 1
        elif path in STAGES:
            self.seconds[path] = now - self._begun[path]
        elif not path:
            self.seconds["result"] = now - self._last
        self._last = now


def _path(context) -> str:
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, context.task_name)
        context = context.parent
    return "/".join(names)


def warm_up(device: str = "auto") -> None:
    """A small fit, so that no other one is charged for imports and thread pools."""
    X = np.random.default_rng(0).random((300, 10))
    DECClustering(
        3, pretrain_steps=5, neighbor_steps=5, tol=1.1, random_state=0, device=device
    ).fit(X)


def timed_fit(model: DECClustering, X: np.ndarray) -> Stopwatch:
    """Fit `model` to `X` by the clock."""
    stopwatch = Stopwatch()
    model.set_callbacks(stopwatch).fit(X)
    return stopwatch
