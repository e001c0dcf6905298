"""Many threads, one answer: results that do not depend on how many cores there are.

A multi-threaded matrix product may add its terms in another order when the number of
threads changes. The difference is one unit in the last place, and a thousand optimiser
steps later it is another clustering. skdec therefore splits its work into pieces whose
sizes depend on the data alone, computes each piece with single-threaded kernels, and lets
as many threads as there are take pieces from the pile.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

_SCIKIT_LEARN = threading.Lock()


def _renew_lock() -> None:
    global _SCIKIT_LEARN
    _SCIKIT_LEARN = threading.Lock()


# A process that is forked while a thread has the lock has no such thread to give it back.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@functools.cache
def _openmp() -> ThreadpoolController:
    # OpenMP keeps its thread limit per calling thread, so limiting it here is invisible to
    # every other thread. (A BLAS limit is global to the process: see `scikit_learn_alone`.)
    return ThreadpoolController().select(user_api="openmp")


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@functools.cache
def _mkl_limit() -> Callable[[int], int] | None:
    # The MKL inside torch has a limit of its own, which torch.set_num_threads sets for the whole
    # process and which outweighs that of OpenMP. threadpoolctl does not see a library that is
    # linked into another; this is MKL's limit for the calling thread (0: as for the process).
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        return ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return None  # another system or a torch without MKL


def _limit_mkl(n_threads: int) -> None:
    if _mkl_limit() is not None:
        _mkl_limit()(n_threads)


def _limit_kernels():
    """Limit the calling thread's kernels to one core; returns what puts OpenMP's limit back."""
    # In its first call from a thread, torch gives it the limit of torch.set_num_threads. That
    # has to come before the limit set here, or would undo it.
    torch.get_num_threads()
    _limit_mkl(1)
    return _openmp().limit(limits=1)


class _Depth(threading.local):
    value = 0


_depth = _Depth()


@contextmanager
def single_threaded_kernels() -> Iterator[None]:
    """Let kernels called by this thread use one core; the limit of other threads stays."""
    _depth.value += 1
    try:
        with _limit_kernels():
            yield
    finally:
        _depth.value -= 1
        if not _depth.value:
            _limit_mkl(0)


@contextmanager
def scikit_learn_alone() -> Iterator[None]:
    """Run a kernel of scikit-learn single-threaded, and no other of skdec's at the same time.

    The BLAS of numpy and scipy has one limit for the whole process. scikit-learn's k-means and
    neighbour searches set it while they run and then put back what they found; this does so for
    everything else. Two at once could put back each other's limit and leave it behind.
    """
    with _SCIKIT_LEARN, single_threaded_kernels(), _blas().limit(limits=1):
        yield


@contextmanager
def plain_torch() -> Iterator[None]:
    """Leave the inference mode and the autocast of the caller, which other threads do not have.

    Tensors of inference mode cannot be written to outside; autocast would round in one thread only.
    """
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda", "mps"):
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                modes.enter_context(torch.autocast(kind, enabled=False))
        yield


class Workers:
    """`n_workers` threads (the caller's among them), each with single-threaded kernels.

    A context manager: inside it, the calling thread's own kernels are single-threaded too, and
    its modes of torch are those of the helpers (`plain_torch`).
    """

    def __init__(self, n_workers: int | None = None):
        self.n_workers = n_workers or torch.get_num_threads()
        self._entered, self._pool = False, None

    def __enter__(self) -> Workers:
        self._surroundings = ExitStack()
        self._surroundings.enter_context(single_threaded_kernels())
        self._surroundings.enter_context(plain_torch())
        self._entered = True
        return self

    def __exit__(self, *exception) -> None:
        self._entered = False
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._surroundings.__exit__(*exception)

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        most_threads: int | None = None,
    ) -> list[Result]:
        """`[function(item) for item in items]`, the items shared out among the threads.

        After a failure no thread takes another item, and none is at work when it is raised. Not
        more than `most_threads` take part: those that are mostly in Python hinder each other.
        """
        n_threads = min(self.n_workers, len(items), most_threads or self.n_workers)
        helpers = n_threads - 1 if self._entered else 0
        if helpers <= 0:
            return [function(item) for item in items]
        results: list = [None] * len(items)
        pile, failed = itertools.count(), threading.Event()

        def take_from_pile() -> None:
            try:
                while not failed.is_set() and (position := next(pile)) < len(items):
                    results[position] = function(items[position])
            except BaseException:
                failed.set()
                raise

        if self._pool is None:  # for single items there is no need of one
            self._pool = ThreadPoolExecutor(self.n_workers - 1, "skdec", initializer=_limit_kernels)
        futures = [self._pool.submit(take_from_pile) for _ in range(helpers)]
        try:
            take_from_pile()
        finally:
            wait(futures)
        for future in futures:
            future.result()
        return results

    def map_on(
        self, device: torch.device, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> list[Result]:
        """The same for work on a device: one thread keeps an accelerator busy."""
        return self.map(function, items) if device.type == "cpu" else [function(i) for i in items]
