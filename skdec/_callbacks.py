"""How far a fit has come: told to the user in lines, and to scikit-learn's callbacks if any.

Training knows neither. It works on a tree of tasks, and asks of a finished one whether it was
`stopped`: that is all that comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:
        """Stands in for that of scikit-learn 1.9: before, there are no callbacks."""


class Task:
    """A part of a fit, around whose work it is a context manager.

    `attributes`, if set before its end, gives what makes a copy of the estimator a fitted one in
    the state of that moment. It is called only if a callback wants to have it. Then `stopped`
    says that a callback wants no further task like this one. Training notes in `cut_short` that it
    has left out parts of a task for that reason. `path` is the names of the tasks from below the
    whole fit to this one.
    """

    def __init__(
        self,
        *,
        verbose: int = 0,
        context: Any = None,
        told: dict[str, Any] | None = None,
        path: str = "",
    ):
        self.path = path
        self.attributes: Callable[[], dict[str, Any]] | None = None
        self.stopped = self.cut_short = False
        self._verbose = verbose
        self._context = context
        self._told = told or {}

    def subtask(self, name: str, n_subtasks: int = 0) -> Task:
        """A part of this task, which itself has at most `n_subtasks` parts."""
        context = self._context
        if context is not None:
            context = context.subcontext(task_name=name, max_subtasks=n_subtasks)
        path = f"{self.path}/{name}" if self.path else name
        return Task(verbose=self._verbose, context=context, told=self._told, path=path)

    def say(self, words: str) -> None:
        """Print a line, if the user wants to see any."""
        if self._verbose:
            print(f"[DECClustering] {words}", flush=True)

    def __enter__(self) -> Task:
        if self._context is not None:
            self._context.call_on_fit_task_begin(**self._told)
        return self

    def __exit__(self, failure: type[BaseException] | None, *_) -> None:
        if self._context is None or failure is not None:
            return
        self.stopped = self._context.call_on_fit_task_end(
            **self._told, reconstruction_attributes=self.attributes
        )


SILENT = Task()


def fit_task(estimator: BaseEstimator, X, y, sample_weight, n_stages: int) -> Task:
    """The whole fit of `estimator`, of at most `n_stages` stages.

    Callbacks are given `X`, `y` and the weights as the user gave them. The estimator is marked as
    one whose callbacks are set up; when `fit` ends or fails, scikit-learn looks for the mark.
    """
    context = None
    if getattr(estimator, "_skl_callbacks", None):
        context = estimator._init_callback_context(max_subtasks=n_stages)
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    return Task(verbose=estimator.verbose, context=context, told=told)
