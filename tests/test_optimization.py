import copy
import gc
import math
import os
import platform
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from skdec import _optimization
from skdec._backend import is_recordable
from skdec._cuda_graphs import Recorder
from skdec._muon import orthogonalized
from skdec._optimization import OptimizerSettings, ShardedOptimizer

N_ROWS, N_FEATURES = 2048, 6


def stream(seed):
    return torch.Generator().manual_seed(seed)


def rows(seed=0):
    return torch.randn(N_ROWS, N_FEATURES, generator=stream(seed))


def with_drawn_weights(module, seed=1):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=stream(seed)) / 3.0)
            seed += 1
    return module


def network():
    return with_drawn_weights(
        nn.Sequential(nn.Linear(N_FEATURES, 5), nn.Tanh(), nn.Linear(5, N_FEATURES))
    )


class WithCenters(nn.Module):
    """A network with parameters of its own besides those of its layers."""

    def __init__(self):
        super().__init__()
        self.centers = nn.Parameter(torch.empty(3, 4))
        self.layer = nn.Linear(N_FEATURES, 4)


class MuonOfMatrices:
    """Nesterov momentum of each matrix, orthogonalised in groups of four rows."""

    def __init__(self, matrices, lr, momentum):
        self.matrices, self.lr, self.momentum = matrices, lr, momentum
        self.averages = [torch.zeros_like(matrix) for matrix in matrices]

    @torch.no_grad()
    def step(self):
        for matrix, average in zip(self.matrices, self.averages, strict=True):
            average.mul_(self.momentum).add_(matrix.grad, alpha=1 - self.momentum)
            ahead = (1 - self.momentum) * matrix.grad + self.momentum * average
            for rows, change in zip(matrix.split(4), ahead.split(4), strict=True):
                ((step,),) = orthogonalized([change[None]], [torch.tensor([len(change)])])
                rows -= self.lr * step


def optimize(module, workers, settings, batch_size=N_ROWS, dtype=torch.float32):
    return ShardedOptimizer(
        module, settings, batch_size=batch_size, workers=workers, dtype=dtype, seed=0
    )


def sgd(momentum=0.0):
    return OptimizerSettings("sgd", 0.1, momentum)


def squared_error(X):
    def loss(module, rows, generator):
        return (module(X[rows]) - X[rows]).square().sum(dim=1).sum()

    return loss


def flat(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


# --- Learning rates ---


def test_cosine_decay_by_hand():
    settings = OptimizerSettings("adam", 0.8, 0.9, "cosine")
    rates = [settings.learning_rate_at(step, 8) for step in (0, 2, 4, 6, 8)]
    half = math.sqrt(0.5)
    assert rates == pytest.approx([0.8, 0.4 * (1 + half), 0.4, 0.4 * (1 - half), 0.0])


def test_linear_decay_by_hand():
    settings = OptimizerSettings("muon", 0.8, 0.9, "linear")
    rates = [settings.learning_rate_at(step, 4) for step in range(4)]
    assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_decay_by_ten_happens_after_every_so_many_steps():
    settings = OptimizerSettings("sgd", 0.5, 0.9, 3)
    rates = [settings.learning_rate_at(step, 100) for step in range(7)]
    assert rates == pytest.approx([0.5, 0.5, 0.5, 0.05, 0.05, 0.05, 0.005])


def test_without_decay_the_learning_rate_is_constant():
    settings = OptimizerSettings("sgd", 0.5, 0.9, None)
    assert [settings.learning_rate_at(step, 10) for step in (0, 5, 9)] == [0.5, 0.5, 0.5]


# --- Steps ---


@pytest.mark.parametrize(
    ("batch_size", "n_shards"), [(4, 1), (255, 1), (256, 2), (1535, 2), (2048, 4)]
)
def test_a_step_of_sgd_goes_down_the_gradient_of_the_mean_loss(workers, batch_size, n_shards):
    X, module = rows(), network()
    plain = copy.deepcopy(module)
    batch = torch.randperm(N_ROWS, generator=stream(2))[:batch_size]
    value = squared_error(X)(plain, batch, None) / batch_size
    gradients = torch.autograd.grad(value, list(plain.parameters()))

    optimizer = optimize(module, workers, sgd(), batch_size)
    assert len(optimizer._replicas) == n_shards
    returned = optimizer.step(squared_error(X), batch, 0.1)

    torch.testing.assert_close(returned, value.detach())
    for parameter, before, gradient in zip(
        module.parameters(), plain.parameters(), gradients, strict=True
    ):
        torch.testing.assert_close(parameter, before - 0.1 * gradient, rtol=1e-5, atol=1e-7)


def test_a_batch_of_fewer_rows_than_shards_is_one_batch_all_the_same(workers):
    X, module = rows(), network()
    plain = copy.deepcopy(module)
    optimizer = optimize(module, workers, sgd())
    optimizer.step(squared_error(X), torch.arange(N_ROWS), 0.0)
    optimizer.step(squared_error(X), torch.arange(3), 0.1)
    value = squared_error(X)(plain, torch.arange(3), None) / 3
    gradients = torch.autograd.grad(value, list(plain.parameters()))
    expected = flat(plain) - 0.1 * torch.cat([g.reshape(-1) for g in gradients])
    torch.testing.assert_close(flat(module), expected)


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        (
            OptimizerSettings("adam", 0.05, 0.9),
            lambda weights: torch.optim.Adam(weights, lr=0.05),
        ),
        (
            OptimizerSettings("sgd", 0.05, 0.8),
            lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.8),
        ),
        (
            OptimizerSettings("muon", 0.05, 0.8),
            lambda matrices: MuonOfMatrices(matrices, 0.05, 0.8),
        ),
    ],
)
def test_many_steps_are_those_of_the_torch_optimizer(monkeypatch, workers, settings, reference):
    # Several pieces and groups although there are few weights.
    monkeypatch.setattr(_optimization, "_PIECE_WEIGHTS", 10)
    monkeypatch.setattr(_optimization, "GROUP_ROWS", 4)
    X, module = rows(), network()
    plain = copy.deepcopy(module)
    # Muon takes matrices: a vector is one of a single column.
    matrices = [nn.Parameter(p.detach().view(len(p), -1)) for p in plain.parameters()]
    for parameter, matrix in zip(plain.parameters(), matrices, strict=True):
        parameter.data = matrix.data.view_as(parameter)
    optimizer, plain_optimizer = optimize(module, workers, settings), reference(matrices)
    assert len(optimizer._layout.pieces) > 1
    for step in range(15):
        batch = torch.randperm(N_ROWS, generator=stream(step))
        plain.zero_grad()
        (squared_error(X)(plain, batch, None) / N_ROWS).backward()
        for parameter, matrix in zip(plain.parameters(), matrices, strict=True):
            matrix.grad = parameter.grad.view_as(matrix)
        plain_optimizer.step()
        optimizer.step(squared_error(X), batch, 0.05)
    torch.testing.assert_close(flat(module), flat(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["adam", "muon"])
@pytest.mark.parametrize(("n_features", "n_pieces"), [(255, 1), (1024, 2), (3000, 2), (6144, 3)])
def test_weights_are_updated_in_halves_or_in_pieces_of_half_a_million(
    workers, name, n_features, n_pieces
):
    module = nn.Sequential(nn.Linear(n_features, 256, bias=False))
    optimizer = optimize(module, workers, OptimizerSettings(name, 0.1, 0.9))
    sizes = [len(piece.of(optimizer._own)) for piece in optimizer._layout.pieces]
    assert len(sizes) == n_pieces and sum(sizes) == 256 * n_features
    # Groups of 64 rows stay whole.
    assert max(sizes) - min(sizes) <= (64 * n_features if name == "muon" else 1)


def test_the_learning_rate_of_a_step_is_the_one_it_is_given(workers):
    X, module = rows(), network()
    before = flat(module)
    optimizer = optimize(module, workers, OptimizerSettings("adam", 123.0, 0.9))
    optimizer.step(squared_error(X), torch.arange(N_ROWS), 0.0)
    assert torch.equal(flat(module), before)
    optimizer.step(squared_error(X), torch.arange(N_ROWS), 0.001)
    moved = (flat(module) - before).abs().max()
    assert 0 < moved < 0.01


def test_parameters_without_gradient_do_not_move(workers):
    X, module = rows(), network()
    before = copy.deepcopy(module)
    module[0].weight.requires_grad_(False)
    optimizer = optimize(module, workers, sgd())
    optimizer.step(squared_error(X), torch.arange(N_ROWS), 0.1)
    assert torch.equal(module[0].weight, before[0].weight)
    assert not torch.equal(module[2].weight, before[2].weight)


def test_frozen_direct_parameters_do_not_move(workers):
    module = with_drawn_weights(WithCenters())
    module.centers.requires_grad_(False)
    before = copy.deepcopy(module)
    optimizer = optimize(module, workers, sgd())
    X = rows()
    optimizer.step(lambda m, r, _: m.layer(X[r]).square().sum(), torch.arange(N_ROWS), 0.1)
    assert torch.equal(module.centers, before.centers)
    assert not torch.equal(module.layer.weight, before.layer.weight)


def test_parameters_that_the_loss_does_not_use_do_not_move(workers):
    module = with_drawn_weights(WithCenters())
    before = copy.deepcopy(module)
    optimizer = optimize(module, workers, sgd())
    optimizer.step(lambda m, r, _: m.centers.square().sum() * len(r), torch.arange(N_ROWS), 0.1)
    assert torch.equal(module.layer.weight, before.layer.weight)
    torch.testing.assert_close(module.centers, 0.8 * before.centers)


# --- Where the weights are ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_given_module_holds_the_trained_weights_in_float32(workers, dtype):
    X, module = rows(), network()
    before = flat(module)
    optimizer = optimize(module, workers, sgd(0.9), dtype=dtype)
    for _ in range(5):
        optimizer.step(
            lambda m, r, _: (m(X[r].to(dtype)).float() - X[r]).square().sum(),
            torch.arange(N_ROWS),
            0.01,
        )
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    assert torch.equal(flat(module), optimizer.weights)
    assert not torch.equal(flat(module), before)
    # Every replica has them, rounded to the training precision.
    for replica in optimizer._replicas:
        assert torch.equal(flat(replica), flat(module).to(dtype))


def test_direct_parameters_stay_in_float32_while_layers_are_cast(workers):
    module = with_drawn_weights(WithCenters())
    before = copy.deepcopy(module)
    optimizer = optimize(module, workers, sgd(), dtype=torch.bfloat16)
    for replica in optimizer._replicas:
        assert replica.layer.weight.dtype == torch.bfloat16
        assert torch.equal(replica.layer.weight, before.layer.weight.bfloat16())
        assert replica.centers.dtype == torch.float32
        assert torch.equal(replica.centers, before.centers)

    # A step far below the precision of bfloat16.
    optimizer.step(lambda m, r, _: m.centers.sum() * len(r), torch.arange(N_ROWS), 2.0**-20)
    for holder in (module, *optimizer._replicas):
        torch.testing.assert_close(holder.centers, before.centers - 2.0**-20, rtol=0, atol=1e-7)
        assert not torch.equal(holder.centers, before.centers)


def test_steps_too_small_for_bfloat16_add_up(workers):
    module = with_drawn_weights(WithCenters())
    before = copy.deepcopy(module)
    optimizer = optimize(module, workers, sgd(), dtype=torch.bfloat16)
    for _ in range(8):
        optimizer.step(lambda m, r, _: m.layer.bias.float().sum() * len(r), torch.arange(8), 1e-3)
    torch.testing.assert_close(module.layer.bias, before.layer.bias - 8e-3, rtol=0, atol=1e-6)


# --- Going back ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["sgd", "adam", "muon"])
def test_restore_puts_weights_back_and_forgets_momentum(workers, name, dtype):
    X, module = rows(), network()
    settings = OptimizerSettings(name, 0.01, 0.9)
    optimizer = optimize(module, workers, settings, dtype=dtype)

    def loss(module, rows, generator):
        return (module(X[rows].to(dtype)).float() - X[rows]).square().sum()

    before, state = flat(module), optimizer.state()
    optimizer.step(loss, torch.arange(N_ROWS), 0.01)
    after_one_step = flat(module)
    optimizer.step(loss, torch.arange(N_ROWS), 0.01)

    optimizer.restore(state)
    assert torch.equal(flat(module), before)
    assert all(torch.equal(flat(replica), before.to(dtype)) for replica in optimizer._replicas)
    optimizer.step(loss, torch.arange(N_ROWS), 0.01)
    assert torch.equal(flat(module), after_one_step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["sgd", "adam", "muon"])
def test_resume_goes_on_with_momentum_and_generators(monkeypatch, workers, name, dtype):
    monkeypatch.setattr(_optimization, "_PIECE_WEIGHTS", 10)  # several pieces
    X, settings = rows(), OptimizerSettings(name, 0.01, 0.9)

    def loss(module, rows, generator):
        noise = torch.rand(X[rows].shape, generator=generator)
        return (module((X[rows] + noise).to(dtype)).float() - X[rows]).square().sum()

    def steps(optimizer, numbers):
        for number in numbers:
            optimizer.step(loss, torch.arange(N_ROWS), 0.01 / number)

    module, other_module = network(), network()
    optimizer = optimize(module, workers, settings, dtype=dtype)
    steps(optimizer, [1, 2, 3])
    state = {name: value.clone() for name, value in optimizer.full_state().items()}
    steps(optimizer, [4, 5])

    other = optimize(other_module, workers, settings, dtype=dtype)
    other.resume(state)
    steps(other, [4, 5])
    assert torch.equal(flat(other_module), flat(module))
    for replica in other._replicas:
        assert torch.equal(flat(replica), flat(module).to(dtype))


@pytest.mark.parametrize("n_rows", [3, 50, 101])
def test_muon_fills_groups_of_rows_with_zeros_that_stay(workers, n_rows):
    module = with_drawn_weights(nn.Sequential(nn.Linear(N_FEATURES, n_rows), nn.Linear(n_rows, 2)))
    before = flat(module)
    optimizer = optimize(module, workers, OptimizerSettings("muon", 0.01, 0.9))
    for _ in range(3):
        optimizer.step(lambda m, r, _: m(rows()[r]).square().sum(), torch.arange(N_ROWS), 0.01)
    of_module = torch.sort(flat(module)).values
    assert torch.equal(torch.sort(optimizer.weights[optimizer.weights != 0]).values, of_module)
    # Every number of every matrix has been moved.
    assert (flat(module) != before).all()


# --- Randomness and running statistics ---


def test_dropout_is_reproducible_and_differs_between_shards(workers):
    X = rows()
    dropout = nn.Sequential(nn.Dropout(0.5), nn.Linear(N_FEATURES, N_FEATURES))
    masks = []

    def loss(module, rows, generator):
        masks.append(module[0](torch.ones_like(X[rows])) > 0)
        return squared_error(X)(module, rows, generator)

    def train():
        module = with_drawn_weights(copy.deepcopy(dropout))
        optimizer = optimize(module, workers, sgd())
        for _ in range(2):
            optimizer.step(loss, torch.arange(N_ROWS), 0.1)
        return flat(module)

    before = torch.get_rng_state()
    assert torch.equal(train(), train())
    assert torch.equal(torch.get_rng_state(), before)
    # Four shards, two steps: eight different masks.
    assert len({tuple(mask.reshape(-1).tolist()) for mask in masks[:8]}) == 8


def test_running_statistics_of_the_given_module_follow_whole_batches(workers):
    X = rows() + 5.0
    module = nn.Sequential(nn.BatchNorm1d(N_FEATURES), nn.Linear(N_FEATURES, N_FEATURES))
    optimizer = optimize(with_drawn_weights(module), workers, sgd())
    batch = torch.arange(N_ROWS)
    optimizer.step(squared_error(X), batch, 0.01)
    # Momentum 0.1, from mean 0 and variance 1.
    torch.testing.assert_close(module[0].running_mean, 0.1 * X.mean(dim=0))
    torch.testing.assert_close(module[0].running_var, 0.9 + 0.1 * X.var(dim=0))
    assert module[0].num_batches_tracked == 1
    assert torch.equal(flat(module), optimizer.weights)


def test_a_single_row_is_normalised_by_the_running_statistics(workers):
    X = rows()
    module = nn.Sequential(nn.BatchNorm1d(N_FEATURES), nn.Linear(N_FEATURES, N_FEATURES))
    optimizer = optimize(with_drawn_weights(module), workers, sgd())
    loss = optimizer.step(squared_error(X), torch.arange(1), 0.01)
    assert torch.isfinite(loss)
    assert module[0].num_batches_tracked == 0


# Memory that is freed between two uses comes back as pages that the system has to fill anew.
FAULTS = """
import resource, torch
from skdec._optimization import OptimizerSettings, ShardedOptimizer
from skdec._threads import Workers

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        kept = [torch.ones(2**20) for _ in range(6)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
with Workers(1) as workers:
    ShardedOptimizer(torch.nn.Linear(2, 2), OptimizerSettings("sgd", 0.1, 0.0), batch_size=4,
                     workers=workers, dtype=torch.float32, seed=0)
    faults()
    print(without, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_of_one_step_is_there_for_the_next():
    # Dask's workers set limits of their own, which glibc leaves as they are.
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", FAULTS]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=own)
    without, training = map(int, ran.stdout.split())
    assert without > 5_000  # or this says nothing: 13,000 and more were seen
    assert training < without / 10


class Graph:
    """A stand-in for a CUDA graph: it computes again what was computed while it was recorded."""

    recording = None

    def __enter__(self):
        Graph.recording = self

    def __exit__(self, *exception):
        Graph.recording = None

    def replay(self):
        self.result.copy_(self.compute())

    def register_generator_state(self, generator):
        self.generator = generator


def test_steps_are_recorded_once_for_each_loss_and_number_of_rows(monkeypatch):
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "stream": lambda stream: nullcontext(),
        "graph_pool_handle": object,
        "CUDAGraph": Graph,
        "graph": lambda graph, pool, stream, capture_error_mode: graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    generator, steps = torch.Generator(), []

    def step(loss, rows):
        steps.append((loss, len(rows), Graph.recording is not None))
        assert Graph.recording is None or not gc.isenabled()
        result = loss(rows)
        if Graph.recording is not None:
            Graph.recording.result, Graph.recording.compute = result, lambda: loss(rows)
        return result

    recorder = Recorder([generator], torch.device("cpu"))
    total, twice = torch.sum, lambda rows: 2 * rows.sum()
    for loss, n_rows in [(total, 3), (total, 2), (twice, 3)]:
        results = [recorder(step, loss, torch.arange(k, k + n_rows)) for k in range(4)]
        # Each has its own batch's, also after the next step.
        assert results == [loss(torch.arange(k, k + n_rows)) for k in range(4)]
    sizes = [(total, 3), (total, 2), (twice, 3)]
    assert steps == [(*size, recorded) for size in sizes for recorded in (False, True)]
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("module", "is_known"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3)), True),
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, momentum=None)), False),
        (nn.Sequential(nn.Linear(3, 3), nn.Dropout()), False),
        (nn.Sequential(nn.Linear(3, 3), nn.Bilinear(3, 3, 3)), False),
    ],
)
def test_only_modules_that_are_known_are_recorded(module, is_known):
    assert is_recordable(module) == is_known
    module[0].register_forward_hook(lambda *_: None)
    assert not is_recordable(module)
