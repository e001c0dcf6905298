import os
import threading
import time

import pytest
import torch
from torch import nn

from skdec import _optimization, _threads
from skdec._optimization import OptimizerSettings, ShardedOptimizer
from skdec._threads import Workers, scikit_learn_alone, single_threaded_kernels


class _Broken(Exception):
    pass


@pytest.mark.parametrize("n_workers", [1, 2, 5])
@pytest.mark.parametrize("n_items", [0, 1, 4, 40])
def test_map_keeps_the_order_of_the_items(n_workers, n_items):
    def square(item):
        time.sleep(0.0005 * (item % 3))
        return item**2

    with Workers(n_workers) as workers:
        assert workers.map(square, range(n_items)) == [item**2 for item in range(n_items)]


def test_map_uses_as_many_threads_as_there_are_workers():
    together = threading.Barrier(3, timeout=30)
    with Workers(3) as workers:
        threads = workers.map(lambda _: together.wait() and threading.get_ident(), range(3))
        workers.map(lambda _: together.wait(), range(3))
    assert len(threads) == 3


@pytest.mark.parametrize("n_workers", [1, 3])
def test_map_passes_exceptions_on_and_works_again_afterwards(n_workers):
    def refuse_three(item):
        if item == 3:
            raise _Broken
        return item

    with Workers(n_workers) as workers:
        for _ in range(5):
            with pytest.raises(_Broken):
                workers.map(refuse_three, range(6))
        assert workers.map(refuse_three, range(3)) == [0, 1, 2]


@pytest.mark.parametrize("fails_in_caller", [True, False])
def test_after_a_failure_no_other_item_is_taken_and_no_thread_is_at_work(fails_in_caller):
    caller, at_work, taken = threading.get_ident(), threading.Event(), []
    release = threading.Timer(0.2, at_work.set)

    def fail_in_one(item):
        taken.append(item)
        if (threading.get_ident() == caller) == fails_in_caller:
            while len(taken) < 2:
                time.sleep(0.001)
            release.start()
            raise _Broken
        at_work.wait(timeout=30)
        taken.append("done")

    with Workers(2) as workers, pytest.raises(_Broken):
        try:
            workers.map(fail_in_one, range(20))
        finally:
            assert len(taken) == 3 and taken[-1] == "done"


def test_inside_no_thread_has_a_mode_of_the_caller():
    def modes(_=None):
        return torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")

    with torch.inference_mode(), torch.autocast("cpu"):
        with Workers(2) as workers:
            assert workers.map(modes, range(4)) == [(False, False)] * 4
        assert modes() == (True, True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # Python 3.12
def test_a_forked_process_does_not_wait_for_a_thread_that_it_has_not():
    with scikit_learn_alone():
        assert not _threads._SCIKIT_LEARN.acquire(blocking=False)
        process = os.fork()
        if not process:  # nothing of the test runner may go on here
            os._exit(0 if _threads._SCIKIT_LEARN.acquire(timeout=10) else 1)
        assert os.waitpid(process, 0)[1] == 0


def test_an_exception_in_a_helper_thread_is_passed_on():
    caller = threading.get_ident()
    both_started = threading.Barrier(2, timeout=30)

    def fail_in_helper(_):
        both_started.wait()
        if threading.get_ident() != caller:
            raise _Broken

    with Workers(2) as workers, pytest.raises(_Broken):
        workers.map(fail_in_helper, range(2))


@pytest.mark.parametrize("n_workers", [1, 3])
def test_the_number_of_torch_threads_is_as_before_after_use(n_workers):
    before = torch.get_num_threads()
    with Workers(n_workers) as workers:
        workers.map(lambda item: torch.ones(2, 2) @ torch.ones(2, 2), range(5))
    assert torch.get_num_threads() == before
    with pytest.raises(_Broken), Workers(n_workers):
        raise _Broken
    assert torch.get_num_threads() == before


def test_kernels_inside_are_single_threaded_and_other_threads_keep_theirs():
    before = torch.get_num_threads()
    seen = []
    with Workers(2) as workers:
        together = threading.Barrier(2, timeout=30)
        inside = workers.map(lambda _: together.wait() * 0 + torch.get_num_threads(), range(2))
        stranger = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        stranger.start()
        stranger.join()
    assert inside == [1, 1]
    assert seen == [before]


def test_single_threaded_kernels_end_with_the_block():
    before = torch.get_num_threads()
    with single_threaded_kernels():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_the_default_is_as_many_workers_as_torch_has_threads():
    assert Workers().n_workers == torch.get_num_threads()
    assert Workers(3).n_workers == 3


def test_training_gives_the_same_bits_with_any_number_of_workers(monkeypatch):
    # Several pieces of weights although there are few of them.
    monkeypatch.setattr(_optimization, "_PIECE_WEIGHTS", 2**12)
    stream = torch.Generator().manual_seed(0)
    X = torch.randn(512, 128, generator=stream)
    start = [torch.randn(130, 128, generator=stream) / 10, torch.randn(128, 130, generator=stream)]

    def train(n_workers):
        module = nn.Sequential(nn.Linear(128, 130), nn.Tanh(), nn.Linear(130, 128))
        with torch.no_grad():
            for parameter, values in zip((module[0].weight, module[2].weight), start, strict=True):
                parameter.copy_(values)
            for layer in (module[0], module[2]):
                layer.bias.zero_()
        with Workers(n_workers) as workers:
            optimizer = ShardedOptimizer(
                module,
                OptimizerSettings("adam", 1e-2, 0.0),
                batch_size=512,
                workers=workers,
                dtype=torch.float32,
                seed=0,
            )
            assert (optimizer._map == workers.map) and len(optimizer._layout.pieces) > 2
            loss = [
                optimizer.step(
                    lambda m, rows, _: (m(X[rows]) - X[rows]).square().mean(dim=1).sum(),
                    torch.arange(512),
                    1e-2,
                )
                for _ in range(4)
            ]
        return optimizer.weights, torch.stack(loss)

    weights, losses = train(1)
    for n_workers in (2, 3):
        others, other_losses = train(n_workers)
        assert torch.equal(weights, others)
        assert torch.equal(losses, other_losses)
    assert losses[-1] < losses[0]


def test_a_torch_that_knows_no_autocast_of_a_device_is_not_asked_for_it(monkeypatch):
    enabled = torch.is_autocast_enabled

    def old(kind):  # torch 2.4
        if kind == "mps":
            raise RuntimeError("unknown device type for autocast")
        return enabled(kind)

    monkeypatch.setattr(torch, "is_autocast_enabled", old)
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: kind != "mps")
    with torch.autocast("cpu"), Workers(1) as workers:
        assert workers.map(lambda _: enabled("cpu"), [0]) == [False]


def test_no_more_threads_take_part_than_are_allowed():
    with Workers(4) as workers:
        for most, expected in ((None, 4), (2, 2), (1, 1), (9, 4)):
            names, meeting = set(), threading.Barrier(expected)

            def work(_, names=names, meeting=meeting):
                names.add(threading.current_thread().name)
                meeting.wait(timeout=10)  # until all that take part are here

            workers.map(work, range(4 // expected * expected), most)
            assert len(names) == expected


def test_work_on_an_accelerator_is_done_by_the_calling_thread():
    def thread(_):
        time.sleep(0.01)
        return threading.current_thread().name

    own = threading.current_thread().name
    with Workers(3) as workers:
        assert workers.map_on(torch.device("cuda"), thread, range(6)) == [own] * 6
        assert set(workers.map_on(torch.device("cpu"), thread, range(6))) != {own}
