"""Several processes fit one model; two are started by torchrun, as a user would."""

import functools
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from quick import blobs, quick, wide_blobs
from sklearn.metrics import adjusted_rand_score
from torch import distributed
from torch.torch_version import TorchVersion

from skdec import (
    DECClustering,
    _distributed,
    _estimator,
    _exchange,
    _initialization,
    _pretraining,
)
from skdec._distributed import ALONE, ranks
from skdec._exchange import Gate, Messages, SharedMemory
from skdec._optimization import OptimizerSettings, ShardedOptimizer
from skdec._rows import distinct_rows, fit_scaling
from skdec._threads import Workers

CPU = torch.device("cpu")
needs_shared_memory = pytest.mark.skipif(_exchange.machine() is None, reason="a Linux thing")
OPTIMIZERS = ["muon", "adam", "sgd"]
# Enough training to find the blobs.
TRAINED = {"pretrain_steps": 100, "neighbor_steps": 60, "max_iter": 5}


# --- What runs in the processes ---


def all_rows():
    return blobs(180)[0], np.random.default_rng(0).uniform(0.5, 1.5, 180)


def part(X, rank, first=60):
    """Unequal shares: `first` rows for rank 0, the others for rank 1."""
    return X[:first] if rank == 0 else X[first:]


def model_of(fitted):
    """All that has to be the same on all ranks, as bytes or numbers."""
    weights = [w.numpy().tobytes() for w in fitted.autoencoder_.state_dict().values()]
    curves = fitted.pretrain_loss_curve_, fitted.neighbor_loss_curve_, fitted.kl_curve_
    rest = fitted.inertia_, fitted.reconstruction_error_, fitted.init_scores_, fitted.n_iter_
    centers = fitted.cluster_centers_.tobytes(), fitted.n_clusters_scores_
    return [weights, centers, fitted._offset.tobytes(), curves, rest]


def weights_after_steps(rows, optimizer, group=ALONE):
    """Weights, centres too, after steps down a loss of these rows of 180."""
    X = torch.from_numpy(blobs(180)[0]).float()
    module = torch.nn.Module()
    torch.manual_seed(0)
    module.layers = torch.nn.Sequential(torch.nn.Linear(X.shape[1], 8), torch.nn.Linear(8, 3))
    module.center = torch.nn.Parameter(torch.ones(3))

    def loss(module, rows, generator):
        return (module.layers(X[rows]) - module.center).square().sum()

    settings = OptimizerSettings(optimizer, 0.01, momentum=0.9)
    stepper = ShardedOptimizer(
        module,
        settings,
        batch_size=len(rows),
        workers=Workers(1),
        dtype=torch.float32,
        seed=0,
        group=group,
        share=len(rows) / 180,
    )
    for _ in range(5):
        stepper.step(loss, rows, 0.01)
    stepper.meet()
    return stepper.weights.clone()


def error_of(function):
    started = time.monotonic()
    try:
        function()
    except (ValueError, RuntimeError, KeyboardInterrupt) as error:
        return type(error).__name__, str(error), time.monotonic() - started
    return None


def fit_in_turn(rank):
    """Fits that end well: model, predictions for all rows and own labels of each, by its name."""
    X, weight = all_rows()
    own, own_weight = part(X, rank), part(weight, rank)
    named = {"init": "k-means++", "batch_norm": True, "reconstruction_weight": 1.0, "tol": 0.0}
    told = {}
    kinds = {"auto": {}, "named": named, "number": {"n_clusters": "auto"}}
    for name, params in kinds.items():
        fitted = quick(**{"n_clusters": 3, **TRAINED, **params}, distributed=True)
        fitted.fit(own, sample_weight=own_weight)
        told[name] = model_of(fitted), fitted.predict(X), fitted.labels_
    wide, at_borders, most = wide_blobs()[0], [], _initialization._MOST_ROWS
    function = _estimator.at_borders
    _estimator.at_borders = lambda *args: at_borders.append(function(*args)) or at_borders[-1]
    _initialization._MOST_ROWS = 100
    fitted = quick(3, **TRAINED, distributed=True).fit(part(wide, rank))
    _initialization._MOST_ROWS, _estimator.at_borders = most, function
    told["wide"] = model_of(fitted), fitted.predict(wide), fitted.labels_
    told["wide, at borders"] = [len(rows) for rows, _ in at_borders]
    judged_by_all = quick(3, **TRAINED, distributed=True).fit(part(wide, rank))
    told["wide, all judged"] = judged_by_all.predict(wide)
    small = quick(2, batch_size=2, distributed=True).fit(part(X[:9], rank, first=7))
    told["small"] = model_of(small), small.predict(X[:9]), small.labels_
    if rank == 0:  # nobody else takes part
        quick(3).fit(own)
    machine = _distributed.machine
    for way, place in {"shared memory": machine, "messages": lambda: None}.items():
        _distributed.machine = place
        fitted = quick(3, **TRAINED, precision="bfloat16", batch_norm=False, distributed=True)
        told[way] = model_of(fitted.fit(own, sample_weight=own_weight))
        with ranks(CPU) as group:
            told[f"{way}, gate"] = group._gate is not None
    _distributed.machine = machine
    fitted = quick(3, batch_norm=True, distributed=True).fit(own)
    for weights in fitted.autoencoder_.parameters():
        weights.data.fill_(rank)
    distributed.barrier()
    told["own weights"] = all((w == rank).all() for w in fitted.autoencoder_.parameters())
    with ranks(CPU) as group:
        rows = part(torch.arange(180), rank)
        told["steps"] = {name: weights_after_steps(rows, name, group) for name in OPTIMIZERS}
    with ranks(CPU) as group:
        rows = distinct_rows(own, own_weight, group)
        told["rows"] = rows.weight, fit_scaling(rows, "center", group)
    return told


def fail_in_turn(rank):
    """Fits that fail: the error of each, by its name."""
    own = part(blobs(120)[0], rank)

    def fit(n_clusters=3, rows=own, **params):
        return error_of(lambda: quick(n_clusters, distributed=True, **params).fit(rows))

    def interrupt(*_):
        raise KeyboardInterrupt

    spoilt = own.copy()
    spoilt[0, 0] = np.nan if rank else 0.0
    told = {
        "parameter": fit(alpha=1.0 + rank),
        "features": fit(rows=own[:, : 5 - rank]),
        "clusters": fit(n_clusters=121),
        "invalid": fit(rows=spoilt),
    }
    neighbors = _pretraining.roughly_nearest_neighbors
    if rank:  # long after the ranks have met
        _pretraining.roughly_nearest_neighbors = interrupt
    told["interrupted"] = fit()
    _pretraining.roughly_nearest_neighbors = neighbors
    gradient = ShardedOptimizer._shard_gradient
    if rank:
        ShardedOptimizer._shard_gradient = interrupt
    told["in a step"] = fit()
    ShardedOptimizer._shard_gradient = gradient
    told["after failures"] = fit()
    _distributed._ARRIVAL = timedelta(seconds=1)
    if rank == 0:
        told["absent"] = fit()
    return told


def main(folder):
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    told = fit_in_turn(rank), fail_in_turn(rank)
    Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(told))
    distributed.barrier()
    distributed.destroy_process_group()


def of_two_processes(folder):
    """What `main` told on each rank."""
    launcher = "-m torch.distributed.run --standalone --nproc-per-node=2".split()
    here = Path(__file__)
    paths = os.pathsep.join([str(here.parents[1]), str(here.parent)])
    run = subprocess.run(
        [sys.executable, *launcher, str(here), str(folder)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in (0, 1)]


# --- Two processes ---


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return of_two_processes(tmp_path_factory.mktemp("ranks"))


@pytest.fixture
def fits(told):
    return [fits for fits, _ in told]


@pytest.fixture
def failures(told):
    return [failures for _, failures in told]


@pytest.mark.parametrize(
    ("name", "n_rows"), [("auto", 60), ("named", 60), ("number", 60), ("wide", 60), ("small", 7)]
)
def test_all_ranks_end_with_one_model_of_unequal_shares(fits, name, n_rows):
    (model, predicted, labels), other = (told[name] for told in fits)
    assert model == other[0]
    np.testing.assert_array_equal(predicted, other[1])
    assert len(labels) == n_rows
    np.testing.assert_array_equal(np.concatenate([labels, other[2]]), predicted)


@pytest.mark.parametrize("name", ["auto", "named", "number"])
def test_two_processes_find_what_one_finds(fits, name):
    X, weight = all_rows()
    alone = quick(3, **TRAINED).fit(X, sample_weight=weight)
    y = blobs(180)[1]
    assert adjusted_rand_score(y, fits[0][name][1]) == adjusted_rand_score(y, alone.labels_) == 1.0


def test_ranks_move_their_own_rows_at_borders(fits):
    for told, n_rows in zip(fits, (60, 120), strict=True):
        [n_moved] = told["wide, at borders"]
        assert 0 < n_moved < n_rows
    X, y = wide_blobs()
    alone, of_two = quick(3, **TRAINED).fit(X).labels_, fits[0]["wide"][1]
    all_judged = fits[0]["wide, all judged"]
    assert min(adjusted_rand_score(y, labels) for labels in (alone, of_two, all_judged)) > 0.8


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ranks_step_down_the_gradient_of_all_rows(fits, optimizer):
    expected = weights_after_steps(torch.arange(180), optimizer)
    own, other = (told["steps"][optimizer] for told in fits)
    assert torch.equal(own, other)
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-6)


def test_messages_and_shared_memory_give_the_same_bits(fits):
    for told in fits:
        assert told["messages"] == told["shared memory"]
        assert not told["messages, gate"]
        assert told["shared memory, gate"] == (_exchange.machine() is not None)


def test_a_fitted_model_is_that_of_its_rank_alone(fits):
    assert [told["own weights"] for told in fits] == [True, True]


def test_weights_and_scaling_are_those_of_all_rows(fits):
    rows = distinct_rows(*all_rows())
    expected = fit_scaling(rows, "center")
    (weights, scaling), (other_weights, other_scaling) = (told["rows"] for told in fits)
    both = np.concatenate([weights, other_weights])
    np.testing.assert_allclose(np.sort(both), np.sort(rows.weight), rtol=1e-12)
    assert scaling.scale == other_scaling.scale == pytest.approx(expected.scale, rel=1e-12)
    np.testing.assert_array_equal(scaling.offset, other_scaling.offset)
    np.testing.assert_allclose(scaling.offset, expected.offset, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "words"),
    [("parameter", "same alpha"), ("features", "same number of features"), ("clusters", "=120 ")],
)
def test_what_no_rank_can_work_with_is_refused_by_all(failures, name, words):
    for told in failures:
        kind, message, _ = told[name]
        assert kind == "ValueError" and words in message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("invalid", "ValueError"),
        ("interrupted", "KeyboardInterrupt"),
        ("in a step", "KeyboardInterrupt"),
    ],
)
def test_a_rank_that_fails_releases_the_other(failures, name, reason):
    (kind, message, seconds), (own_kind, _, own_seconds) = (told[name] for told in failures)
    assert own_kind == reason
    assert kind == "RuntimeError" and "another rank failed" in message
    assert seconds < own_seconds + 5.0


def test_the_ranks_can_fit_again_after_a_failure(failures):
    assert [told["after failures"] for told in failures] == [None, None]


def test_a_rank_that_does_not_come_is_not_waited_for_without_end(failures):
    kind, message, seconds = failures[0]["absent"]
    assert kind == "RuntimeError" and "not heard of" in message
    assert seconds < 10.0


# --- One process ---


def test_pieces_are_dealt_out_evenly():
    assert _exchange._owners([9, 8, 7, 3, 1], 2) == [0, 1, 1, 0, 0]
    assert _exchange._owners([5], 3) == [0]


class Ranks:
    """Ranks that are threads; `tell` does for them what torch's collectives do."""

    def __init__(self, size):
        self.size, self.barrier, self.given = size, threading.Barrier(size), {}

    def tell(self, rank, collective, *arguments, src=0):
        self.given[rank] = arguments
        self.barrier.wait(10.0)
        if collective is distributed.broadcast:
            arguments[0].copy_(self.given[src][0])
        else:
            assert collective is distributed.all_to_all_single
            received, _, of_ranks, _ = arguments
            for part, r in zip(received.split(of_ranks), range(self.size), strict=True):
                part.copy_(self.given[r][1].split(self.given[r][3])[rank])
        self.barrier.wait(10.0)

    def run(self, function):
        with ThreadPoolExecutor(self.size) as threads:
            return list(threads.map(function, range(self.size)))


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("way", ["messages", "shared memory"])
def test_owners_get_all_gradients_and_all_get_their_weights(way, size):
    dtypes = [torch.bfloat16, torch.float32]
    weights = [torch.arange(100.0), torch.arange(7.0)]
    shapes = [(3, 11, 1), (67,), (5, 1, 1), (2, 1, 1)]  # the last two of the second vector
    gradients = [
        torch.empty(shape, dtype=dtypes[k > 1], device="meta") for k, shape in enumerate(shapes)
    ]
    ranks = Ranks(size)
    memory = torch.zeros(SharedMemory.n_bytes(size, gradients, weights, dtypes), dtype=torch.uint8)

    def work(rank):
        how = rank, size, functools.partial(ranks.tell, rank), gradients, weights, dtypes
        if way == "messages":
            exchange = Messages(*how)
        else:
            exchange = SharedMemory(memory, lambda: ranks.barrier.wait(10.0), *how)
        for k, slots in enumerate(exchange.slots):
            slots[0].fill_(10 * k + rank)
        exchange.to_owners()
        got = {k: [set(t.flatten().tolist()) for t in exchange.slots[k]] for k in exchange.owned}
        layered, direct = exchange.seen
        seen = [layered[:33], layered[33:], direct[:5], direct[5:]]
        for k in exchange.owned:
            seen[k].fill_(k + 1)
        exchange.to_all(seen)
        return got, [set(t.tolist()) for t in seen], [exchange.slots[k][0].shape for k in range(4)]

    told = ranks.run(work)
    owned = [k for got, _, _ in told for k in got]
    assert sorted(owned) == [0, 1, 2, 3]
    for rank, (got, seen, own_shapes) in enumerate(told):
        for k, slots in got.items():
            order = [rank, *(r for r in range(size) if r != rank)]
            assert slots == [{10 * k + r} for r in order]
        assert seen == [{1}, {2}, {3}, {4}]
        assert own_shapes == shapes


def refuse(*_):
    raise PermissionError


@needs_shared_memory
def test_a_gate_gives_memory_and_closes(monkeypatch):
    sockets = socket.socketpair()
    gates = [Gate([own], is_first=k == 0) for k, own in enumerate(sockets)]
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda gate: gate.memory(100), gates)
        first[:] = 7
        list(threads.map(Gate.wait, gates))
        assert second.tolist() == [7] * 100
        monkeypatch.setattr(os, "memfd_create", refuse)
        assert list(threads.map(lambda gate: gate.memory(100), gates)) == [None, None]
    gates[1].close()
    with pytest.raises(ConnectionError):
        gates[0].wait()
    gates[0].close()


@pytest.fixture
def group_of_one():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_without_a_process_group_the_error_says_what_to_do():
    with pytest.raises(ValueError, match="torchrun.*init_process_group"):
        quick(distributed=True).fit(blobs()[0])


@pytest.mark.parametrize("version", ["2.4.1", "2.7.1+cu126"])
def test_a_torch_in_which_groups_may_not_close_is_refused(version, group_of_one, monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    with pytest.raises(ImportError, match=r"distributed=True needs torch 2\.8 or newer"):
        quick(distributed=True).fit(blobs()[0])


@pytest.mark.parametrize("version", ["2.8.0", "2.10.0+cu130"])
def test_versions_of_torch_are_no_words(version, group_of_one, monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    quick(distributed=True).fit(blobs()[0])


def test_a_group_of_one_rank_gives_the_bits_of_no_group(group_of_one):
    X, _ = blobs()
    alone, fitted = (quick(distributed=d).fit(X) for d in (False, True))
    assert model_of(fitted) == model_of(alone)


def test_an_unasked_fit_does_not_communicate(group_of_one, monkeypatch):
    monkeypatch.setattr(distributed, "new_group", None)
    quick().fit(blobs()[0])
    with pytest.raises(TypeError):
        quick(distributed=True).fit(blobs()[0])


@pytest.mark.parametrize(
    "params",
    [
        {"memory": "cache"},
        {"checkpoint": "fit.checkpoint"},
        {"init": lambda X, k, random_state: X[:k]},
        {"target_distribution": lambda Q, weight: Q},
    ],
)
def test_what_needs_all_rows_in_one_place_is_refused(params, group_of_one):
    (name,) = params
    with pytest.raises(ValueError, match=f"distributed=True.*{name}"):
        quick(distributed=True, **params).fit(blobs()[0])


def test_a_saved_model_keeps_the_parameter(tmp_path, group_of_one):
    quick(distributed=True).fit(blobs()[0]).save(tmp_path / "model")
    assert DECClustering.load(tmp_path / "model").distributed is True


def test_alone_a_rank_has_everything():
    assert ALONE.sum(3) == ALONE.max(3) == ALONE.min(3) == ALONE.own_batch(3) == 3
    assert ALONE.share(3) == 1.0 and ALONE.mean(2.0, 5.0) == 2.0 and not ALONE.any(False)
    assert ALONE.first(np.sum, np.arange(3)) == 3


if __name__ == "__main__":
    main(sys.argv[1])
