"""On a CUDA device: recorded steps, neighbours, and a fit that is as good as on the CPU.

They are skipped, as in continuous integration, unless asked for where there is one:

    SKDEC_TEST_CUDA=1 SCIPY_ARRAY_API=1 python -m pytest tests/test_cuda.py
"""

import gc
import os
import threading
import warnings

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from torch import nn

from skdec import DECClustering
from skdec._neighbors import nearest_neighbors, roughly_nearest_neighbors
from skdec._optimization import OptimizerSettings, ShardedOptimizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CUDA = torch.device("cuda")
QUICK = {"pretrain_steps": 30, "neighbor_steps": 60, "max_iter": 3, "random_state": 0}


def fitted(X, n_clusters=3, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return DECClustering(n_clusters, **{**QUICK, "device": "cuda", **parameters}).fit(X)


def blobs(dtype=np.float32, n_features=10):
    return make_blobs(600, n_features, centers=3, random_state=0)[0].astype(dtype)


def noisy_error(X):
    """A loss that draws random numbers, too."""

    def loss(module, rows, generator):
        x = X[rows]
        noise = torch.rand(x.shape, generator=generator, device=x.device)
        return (module((x + noise).to(next(module.parameters()).dtype)).float() - x).square().sum()

    return loss


def trained(workers, name, dtype, on_device, n_steps=12, module=None):
    """Weights and losses of steps with batches of two sizes, and a rate that falls."""
    torch.manual_seed(0)
    module = module or nn.Sequential(nn.Linear(6, 70), nn.ReLU(), nn.Linear(70, 6))
    module, X = module.to(CUDA), torch.randn(41, 6, device=CUDA)
    settings, loss = OptimizerSettings(name, 0.01, 0.9, "linear"), noisy_error(X)
    optimizer = ShardedOptimizer(
        module,
        settings,
        batch_size=21,
        workers=workers,
        dtype=dtype,
        seed=0,
        on_device=on_device,
    )
    losses = []
    for step in range(n_steps):
        batch = torch.arange(21 - step % 2, device=CUDA) + step % 20
        losses.append(optimizer.step(loss, batch, settings.learning_rate_at(step, n_steps)))
    weights = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    return optimizer, weights.cpu(), torch.stack(losses).cpu()


# --- Steps ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["muon", "sgd", "adam"])
def test_recorded_steps_are_those_taken_one_operation_at_a_time(workers, name, dtype):
    recorder, recorded, losses = trained(workers, name, dtype, on_device=True)
    _, plain, plain_losses = trained(workers, name, dtype, on_device=False)
    assert len(recorder._recorder._recordings) == 2  # one for each size
    assert all(recorder._recorder._recordings.values())
    torch.testing.assert_close(recorded, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses, plain_losses, rtol=1e-4, atol=1e-5)
    assert len(losses.unique()) == len(losses)  # none is overwritten by a later step


@pytest.mark.parametrize("name", ["muon", "sgd", "adam"])
def test_recorded_steps_go_on_where_a_checkpoint_was_made(workers, name):
    optimizer, *_ = trained(workers, name, torch.float32, on_device=True)
    state = {key: value.clone() for key, value in optimizer.full_state().items()}
    other, *_ = trained(workers, name, torch.float32, on_device=True, n_steps=5)
    other.resume({key: value.cpu() for key, value in state.items()})
    loss = noisy_error(torch.randn(41, 6, device=CUDA))
    for step in range(4):
        batch = torch.arange(21, device=CUDA)
        values = [float(o.step(loss, batch, 0.01 / (step + 1))) for o in (optimizer, other)]
        assert values[0] == pytest.approx(values[1], rel=1e-5)
    torch.testing.assert_close(optimizer.weights, other.weights)


def test_restored_weights_are_trained_anew(workers):
    optimizer, *_ = trained(workers, "muon", torch.float32, on_device=True)
    state, loss = optimizer.state(), noisy_error(torch.randn(41, 6, device=CUDA))
    batch = torch.arange(21, device=CUDA)
    for _ in range(3):
        optimizer.step(loss, batch, 0.01)
    after, generator = optimizer.weights.clone(), optimizer._generators[0].get_state()
    ends = []
    for _ in range(2):  # with no memory of the steps before: twice the same
        optimizer.restore(state)
        assert torch.equal(optimizer.weights, state["weights"])
        optimizer._generators[0].set_state(generator)
        for _ in range(3):
            optimizer.step(loss, batch, 0.01)
        ends.append(optimizer.weights.clone())
    torch.testing.assert_close(*ends)
    assert not torch.equal(ends[0], after)


def test_graphs_that_are_garbage_do_not_spoil_a_recording(workers):
    thresholds = gc.get_threshold()
    try:
        for _ in range(4):
            optimizer, *_ = trained(workers, "muon", torch.float32, on_device=True)
            optimizer.itself = optimizer  # only the garbage collector can delete it
            gc.set_threshold(1)
    finally:
        gc.set_threshold(*thresholds)


def test_a_network_that_may_draw_random_numbers_is_not_recorded(workers):
    module = nn.Sequential(nn.Linear(6, 70), nn.Dropout(0.5), nn.Linear(70, 6))
    optimizer, *_ = trained(workers, "muon", torch.float32, on_device=True, module=module)
    assert optimizer._recorder is None


# --- Neighbours ---


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_neighbors_found_on_the_device_are_the_nearest(workers, scale):
    X = np.random.default_rng(0).normal(size=(3000, 30)) * scale + scale
    found = roughly_nearest_neighbors(X, 7, 0, workers, CUDA)
    np.testing.assert_array_equal(found, nearest_neighbors(X, 7, workers))


def test_near_cells_have_most_of_the_nearest_neighbors_on_the_device(workers, monkeypatch):
    monkeypatch.setattr("skdec._neighbors._ON_DEVICE", (2000, 40, 600))
    random = np.random.default_rng(0)
    X = random.normal(size=(3000, 4)) @ random.normal(size=(4, 20))
    found = roughly_nearest_neighbors(X, 5, 0, workers, CUDA)
    exact = nearest_neighbors(X, 5, workers)
    assert 4.5 < np.mean([len({*a} & {*b}) for a, b in zip(found, exact, strict=True)]) < 5.0


# --- Fits ---


@pytest.mark.parametrize("pretraining", ["neighbors", "end-to-end", "layer-wise"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_clusters_are_those_of_the_cpu(pretraining, precision):
    X = blobs(n_features=150)
    settings = {"pretraining": pretraining, "precision": precision}
    on_cuda, on_cpu = (fitted(X, device=device, **settings) for device in ("cuda", "cpu"))
    assert on_cuda.device_ == "cuda" and next(on_cuda.autoencoder_.parameters()).is_cuda
    assert adjusted_rand_score(on_cuda.labels_, on_cpu.labels_) == 1.0
    # Other random numbers, and few steps: the decoders are not equally far.
    assert 0.4 < on_cuda.reconstruction_error_ / on_cpu.reconstruction_error_ < 2.5


def test_digits_are_clustered_as_well_as_on_the_cpu():
    X, y = load_digits(return_X_y=True)
    model = DECClustering(10, device="cuda", random_state=0).fit(X / 16)
    assert adjusted_rand_score(y, model.labels_) > 0.85


@pytest.mark.parametrize("method", ["predict", "transform", "predict_proba"])
def test_a_row_alone_gets_the_same_bits_as_among_others(method):
    X = blobs()
    answer = getattr(fitted(X), method)
    np.testing.assert_array_equal(
        np.concatenate([answer(X[k : k + 1]) for k in range(9)]), answer(X)[:9]
    )


def test_a_model_moves_between_devices(tmp_path):
    X = blobs()
    model = fitted(X)
    model.save(tmp_path / "model.skdec")
    here, there = (DECClustering.load(tmp_path / "model.skdec", device=d) for d in ("cpu", "cuda"))
    assert (here.device_, there.device_) == ("cpu", "cuda")
    np.testing.assert_array_equal(there.transform(X), model.transform(X))
    np.testing.assert_allclose(here.transform(X), model.transform(X), rtol=1e-3, atol=1e-4)


def test_rows_of_a_file_are_streamed_to_the_device(tmp_path):
    X = np.memmap(tmp_path / "rows", np.uint8, "w+", shape=(600, 10))
    X[:] = np.clip(8 * blobs(float) + 128, 0, 255).astype(np.uint8)
    X.flush()
    of_file, of_memory = fitted(X), fitted(np.array(X))
    assert adjusted_rand_score(of_file.labels_, of_memory.labels_) == 1.0


@pytest.mark.skipif(os.environ.get("SCIPY_ARRAY_API") != "1", reason="needs SCIPY_ARRAY_API=1")
def test_tensors_of_the_device_are_answered_on_it():
    X = torch.from_numpy(blobs()).to(CUDA)
    with config_context(array_api_dispatch=True):
        model = fitted(X)
        assert model.labels_.is_cuda and model.predict(X).is_cuda
        assert torch.equal(model.predict(X), model.labels_)


def test_fits_of_several_threads_do_not_disturb_each_other():
    X = blobs()
    alone = fitted(X).labels_
    found = {}
    threads = [
        threading.Thread(target=lambda k=k: found.__setitem__(k, fitted(X).labels_))
        for k in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(adjusted_rand_score(alone, labels) == 1.0 for labels in found.values())


def test_global_random_numbers_are_neither_used_nor_changed():
    torch.cuda.manual_seed(5)
    before = torch.cuda.get_rng_state()
    fitted(blobs())
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_inference_goes_on_with_smaller_blocks_when_memory_is_short():
    model, X = fitted(blobs(n_features=2000)), np.random.default_rng(0).random((2**15, 2000))
    expected = model.transform(X)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    # A block of 2,048 rows of 2,000 features takes 16 MB.
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**23) / total)
    try:
        np.testing.assert_array_equal(model.transform(X), expected)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_fit_is_resumed_from_its_checkpoint(tmp_path):
    class Stop:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "self-training":
                raise KeyboardInterrupt

        def on_fit_task_end(self, estimator, context): ...

    X, path = blobs(), tmp_path / "checkpoint"
    model = DECClustering(3, device="cuda", checkpoint=path, checkpoint_interval=0, **QUICK)
    with pytest.raises(KeyboardInterrupt):
        model.set_callbacks(Stop()).fit(X)
    assert path.exists()
    resumed = fitted(X, checkpoint=path, checkpoint_interval=0)
    assert adjusted_rand_score(resumed.labels_, fitted(X).labels_) == 1.0
