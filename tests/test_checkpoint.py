"""A fit that was killed goes on where it was, and ends as if nothing had happened."""

import functools
import json
import multiprocessing
import os
import sys
import time

import numpy as np
import pytest
import torch
from quick import blobs, quick, wide_blobs
from safetensors.torch import load_file, save_file
from sklearn.datasets import make_circles
from sklearn.exceptions import ConvergenceWarning
from test_callbacks import Recorder, needs_callbacks
from torch import nn

import skdec
from skdec import _self_training
from skdec._optimization import ShardedOptimizer

X, _ = blobs()
MANY = blobs(400)[0]  # mini-batches of two shards
RINGS = make_circles(90, factor=0.3, noise=0.05, random_state=0)[0]  # alignment takes steps
WIDE = wide_blobs(450)[0]  # some rows are aligned before all at borders


class Killed(BaseException):
    """Ends a fit at once, as a signal would: nothing catches it."""


@pytest.fixture
def die_after(monkeypatch):
    """`die_after(n)` lets a fit die in mini-batch step n + 1; returns the list of steps made."""
    step = ShardedOptimizer.step

    def die_after(n):
        made = []

        def step_or_die(self, *args):
            if len(made) == n:
                raise Killed
            made.append(self)
            return step(self, *args)

        monkeypatch.setattr(ShardedOptimizer, "step", step_or_die)
        return made

    return die_after


def assert_same_fit(model, expected, X=X):
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(model.labels_, expected.labels_)
    for name in vars(expected):
        if name.endswith(("curve_", "curves_", "scores_", "iter_", "error_", "converged_")):
            assert getattr(model, name) == getattr(expected, name), name


class Dropout(nn.Module):
    def __init__(self, n_features, embedding_dim, rate=0.3):
        super().__init__()
        self.encoder = nn.Sequential(nn.Dropout(rate), nn.Linear(n_features, embedding_dim))
        self.decoder = nn.Sequential(nn.Linear(embedding_dim, n_features))


def interrupted(checkpoint, die_after, n=12, **params):
    """A fit that died in step n + 1, with the file `checkpoint` as it was after step n."""
    die_after(n)
    with pytest.raises(Killed):
        quick(checkpoint=checkpoint, checkpoint_interval=0, **params).fit(X)
    die_after(-1)
    assert checkpoint.exists()
    return checkpoint


# --- Going on ---


@pytest.mark.parametrize(
    ("X", "params"),
    [
        (RINGS, {"n_clusters": 2, "tol": 0.0}),
        (X, {"batch_size": 20, "precision": "bfloat16", "embedding_dim": 3, "n_clusters": "auto"}),
        (
            MANY,
            {
                "pretraining": "layer-wise",
                "pretrain_optimizer": "sgd",
                "pretrain_decay": 10,
                "init": "k-means++",
                "optimizer": "adam",
                "reconstruction_weight": 1.0,
                "tol": 0.0,
            },
        ),
        (X, {"batch_norm": True, "batch_size": 30}),
        (MANY, {"autoencoder": Dropout}),
        (WIDE, {}),
    ],
    ids=["default", "bfloat16", "layer-wise", "batch norm", "dropout", "wide"],
)
@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
def test_a_fit_that_dies_again_and_again_ends_with_the_same_bits(
    tmp_path, monkeypatch, die_after, X, params
):
    monkeypatch.setattr(_self_training, "_MOST_ROUNDS", 4)
    monkeypatch.setattr("skdec._initialization._MOST_ROWS", 400)
    steps = die_after(-1)
    expected = quick(**params).fit(X)
    model = quick(**params, checkpoint=tmp_path / "fit", checkpoint_interval=0)
    n_deaths, n_steps = 0, len(steps) // 7
    while not hasattr(model, "labels_") and n_deaths < 20:
        die_after(n_steps)
        try:
            model.fit(X)
        except Killed:
            n_deaths += 1
    assert n_deaths >= 6
    assert_same_fit(model, expected, X)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
def test_undone_rounds_are_remembered(tmp_path, die_after):
    params = {"learning_rate": 1e30, "init": "k-means++", "pretraining": "end-to-end"}
    expected = quick(**params).fit(X)
    assert expected.n_iter_ == 3 and not expected.kl_curve_
    checkpoint = interrupted(tmp_path / "fit", die_after, n=30 + 12, **params)
    assert_same_fit(quick(**params, checkpoint=checkpoint).fit(X), expected)


def fit_and_store(checkpoint, result):
    torch.set_num_threads(1)
    model = quick(checkpoint=checkpoint, checkpoint_interval=0, neighbor_steps=60).fit(X)
    np.save(result, model.predict_proba(X))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["skdec", "torch._dynamo"])
    checkpoint, result = tmp_path / "fit", tmp_path / "result.npy"
    moments = np.random.default_rng(0)
    n_kills = 0
    while not result.exists():
        process = context.Process(target=fit_and_store, args=(checkpoint, result))
        process.start()
        _wait_for_writes(checkpoint, process, moments.integers(8, 30))
        time.sleep(moments.uniform(0.0, 0.01))
        process.kill()
        process.join()
        n_kills += process.exitcode < 0
        assert process.exitcode in (0, -9)
    assert n_kills >= 2
    expected = quick(neighbor_steps=60).fit(X).predict_proba(X)
    np.testing.assert_array_equal(np.load(result), expected)


def _wait_for_writes(checkpoint, process, n_writes):
    seen = set()
    while process.is_alive() and len(seen) <= n_writes:
        if checkpoint.exists():
            seen.add(checkpoint.stat().st_mtime_ns)
        time.sleep(0.001)


@pytest.mark.parametrize("source", ["None", "instance"])
def test_seeds_that_were_drawn_are_those_of_the_fit_that_goes_on(tmp_path, die_after, source):
    random_state = np.random.mtrand._rand if source == "None" else np.random.RandomState(5)
    before = random_state.get_state()
    param = None if source == "None" else random_state
    try:
        expected = quick(random_state=param).fit(X)
        random_state.set_state(before)
        checkpoint = interrupted(tmp_path / "fit", die_after, random_state=param)
        # From here on it would draw other seeds.
        assert_same_fit(quick(random_state=param, checkpoint=checkpoint).fit(X), expected)
        assert quick(random_state=param).fit(X).kl_curve_ != expected.kl_curve_
    finally:
        random_state.set_state(before)


def test_a_stage_that_ended_is_not_trained_again(tmp_path, die_after):
    plain = die_after(-1)
    expected = quick().fit(X)
    params = {"checkpoint": tmp_path / "fit", "checkpoint_interval": 300}
    first = die_after(10 + 4)  # all of the steps with neighbours, and some of self-training
    with pytest.raises(Killed):
        quick(**params).fit(X)
    again = die_after(-1)
    assert_same_fit(quick(**params).fit(X), expected)
    assert len(first) == 14 and len(again) == len(plain) - 10


@pytest.mark.parametrize(("weight", "stage"), [(1.0, "pretraining/decoder"), (0.0, "decoder")])
def test_the_decoders_training_goes_on(tmp_path, die_after, weight, stage):
    steps = die_after(-1)
    params = {"reconstruction_weight": weight, "reconstruction_loss": "bce"}
    expected = quick(**params).fit(X)
    n = {"pretraining/decoder": 10 + 4, "decoder": len(steps) - 4}[stage]
    checkpoint = interrupted(tmp_path / "fit", die_after, n=n, **params)
    weights = {name for name in load_file(checkpoint) if name.endswith("decoder/weights")}
    assert weights == {f"{stage}/weights"}
    again = die_after(-1)
    model = quick(**params, checkpoint=checkpoint).fit(X)
    assert len(again) == len(steps) - n
    assert_same_fit(model, expected)
    centers = expected.cluster_centers_
    np.testing.assert_array_equal(
        model.inverse_transform(centers), expected.inverse_transform(centers)
    )


@needs_callbacks
@pytest.mark.parametrize("where", ["self-training", "decoder"])
def test_what_a_callback_stopped_stays_stopped_and_out_of_memory(tmp_path, die_after, where):
    stops = [
        (("pretraining", 0), ("neighbors", 0), ("epoch", 4)),
        (("self-training", 2), ("round", 0)),
    ]
    params = {"tol": 0.0, "init": "k-means++", "reconstruction_loss": "bce"}
    steps = die_after(-1)
    expected = quick(**params).set_callbacks(Recorder(stops)).fit(X)
    params |= {"checkpoint": tmp_path / "fit", "checkpoint_interval": 0, "memory": str(tmp_path)}
    die_after({"self-training": 5 + 2, "decoder": len(steps) - 4}[where])
    with pytest.raises(Killed):
        quick(**params).set_callbacks(Recorder(stops)).fit(X)
    die_after(-1)
    # The stage that was stopped is not asked about again; the others are.
    stops_again = {"self-training": stops[1:], "decoder": []}[where]
    model = quick(**params).set_callbacks(Recorder(stops_again)).fit(X)
    assert_same_fit(model, expected)
    assert len(model.neighbor_loss_curve_) == 5 and len(model.kl_curve_) == 1
    whole = quick(memory=str(tmp_path)).fit(X)
    assert len(whole.neighbor_loss_curve_) == 10


@needs_callbacks
def test_a_callback_that_was_not_asked_is_asked_by_the_fit_that_goes_on(tmp_path):
    class Dying(Recorder):
        def on_fit_task_end(self, estimator, context):
            if super().on_fit_task_end(estimator, context):
                raise Killed

    stop = (("pretraining", 0), ("neighbors", 0), ("epoch", 4))
    params = {"checkpoint": tmp_path / "fit", "checkpoint_interval": 0}
    with pytest.raises(Killed):
        quick(**params).set_callbacks(Dying([stop])).fit(X)
    # Four epochs are in the file: the one whose end was not heard is the first of this fit.
    again = (("pretraining", 0), ("neighbors", 0), ("epoch", 0))
    model = quick(**params).set_callbacks(Recorder([again])).fit(X)
    assert len(model.neighbor_loss_curve_) == 5


def test_between_the_ends_of_stages_it_writes_at_the_given_interval(tmp_path, monkeypatch):
    now = [0.0]
    writes = []

    def step_for_a_second(self, *args, step=ShardedOptimizer.step):
        now[0] += 1.0
        return step(self, *args)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ShardedOptimizer, "step", step_for_a_second)
    monkeypatch.setattr(os, "fsync", lambda fd: writes.append(now[0]))
    params = {"pretraining": "end-to-end", "init": "k-means++", "max_iter": 0}
    quick(checkpoint=tmp_path / "fit", checkpoint_interval=12, **params).fit(X)
    assert writes == [12, 24, 30, 30]  # the last two: autoencoder, self-training without rounds


def test_the_order_of_the_rows_is_not_part_of_a_fit(tmp_path, die_after):
    weight = np.random.default_rng(0).integers(1, 4, len(X))
    expected = quick().fit(X, sample_weight=weight)
    die_after(12)
    params = {"checkpoint": tmp_path / "fit", "checkpoint_interval": 0}
    with pytest.raises(Killed):
        quick(**params).fit(X, sample_weight=weight)
    die_after(-1)
    order = np.random.default_rng(0).permutation(len(X))
    model = quick(**params).fit(X[order], sample_weight=weight[order])
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


def test_functions_classes_and_arrays_are_recognised(tmp_path, die_after):
    def params():
        return {
            "autoencoder": functools.partial(Dropout, rate=0.1),
            "target_distribution": lambda Q, weight: Q.square() / Q.square().sum(1, keepdim=True),
            "init": X[[0, 1, 2]],
        }

    expected = quick(**params()).fit(X)
    checkpoint = interrupted(tmp_path / "fit", die_after, n=12, **params())
    assert_same_fit(quick(**params(), checkpoint=checkpoint).fit(X), expected)


@pytest.mark.parametrize("n_steps", [5, 12])
def test_cached_pretraining_goes_on_too_and_is_cached_in_the_end(tmp_path, die_after, n_steps):
    memory = str(tmp_path / "cache")
    expected_steps = die_after(-1)
    expected = quick().fit(X)
    checkpoint = interrupted(tmp_path / "fit", die_after, n=n_steps, memory=memory)
    assert_same_fit(quick(memory=memory, checkpoint=checkpoint).fit(X), expected)
    of_all = len(expected_steps)
    steps = die_after(-1)
    assert_same_fit(quick(memory=memory).fit(X), expected)
    assert len(steps) == of_all - 10  # none of those with neighbours


# --- Refusing ---


@pytest.mark.parametrize(
    ("params", "fitted", "named"),
    [
        ({"n_clusters": 2}, {}, "another n_clusters"),
        ({"random_state": 1, "tol": 0.5}, {}, "another random_state, another tol"),
        ({"random_state": None}, {}, "another random_state"),
        ({"autoencoder": Dropout}, {}, "another autoencoder"),
        ({}, {"X": X + 1.0}, "another set of rows or weights"),
        ({}, {"X": X[1:]}, "another set of rows or weights"),
        ({}, {"sample_weight": np.arange(90)}, "another set of rows or weights"),
    ],
)
def test_the_file_of_another_fit_is_refused_and_left_alone(
    tmp_path, die_after, params, fitted, named
):
    checkpoint = interrupted(tmp_path / "fit", die_after)
    before = checkpoint.read_bytes()
    with pytest.raises(ValueError, match=rf"'checkpoint' parameter .*{named}\. ") as error:
        quick(**params, checkpoint=checkpoint).fit(**{"X": X, **fitted})
    assert str(checkpoint) in str(error.value)
    assert checkpoint.read_bytes() == before


def test_parameters_without_effect_may_change(tmp_path, die_after):
    checkpoint = interrupted(tmp_path / "fit", die_after)
    moved = checkpoint.rename(tmp_path / "moved")
    model = quick(checkpoint=str(moved), checkpoint_interval=9, verbose=1, memory=str(tmp_path))
    assert_same_fit(model.fit(X), quick().fit(X))


def test_a_file_of_another_version_is_refused(tmp_path, die_after, monkeypatch):
    checkpoint = interrupted(tmp_path / "fit", die_after)
    monkeypatch.setattr(skdec, "__version__", "0.0.1")
    with pytest.raises(ValueError, match="another version of skdec"):
        quick(checkpoint=checkpoint).fit(X)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)


def change_a_value(file):
    file.write_bytes(file.read_bytes().replace(b'\\"stopped\\": false', b'\\"stopped\\": true '))


def write_something_else(file):
    file.write_text("something else")


def write_other_tensors(file):
    save_file({"weights": torch.ones(3)}, file)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (cut, "cannot be read"),
        (write_something_else, "cannot be read"),
        (flip_a_bit, "is damaged"),
        (change_a_value, "is damaged"),
        (write_other_tensors, "is no checkpoint of this version of skdec"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_and_left_alone(tmp_path, die_after, damage, problem):
    checkpoint = interrupted(tmp_path / "fit", die_after)
    before = checkpoint.read_bytes()
    damage(checkpoint)
    damaged = checkpoint.read_bytes()
    assert damaged != before
    with pytest.raises(ValueError, match=f"'checkpoint' parameter .*{problem}"):
        quick(checkpoint=checkpoint).fit(X)
    assert checkpoint.read_bytes() == damaged


@pytest.mark.parametrize("path", [".", "missing/fit"])
def test_a_path_that_cannot_be_a_file_is_refused_before_any_work(
    tmp_path, die_after, monkeypatch, path
):
    monkeypatch.chdir(tmp_path)
    die_after(0)
    with pytest.raises(ValueError, match="'checkpoint' parameter .* existing folder"):
        quick(checkpoint=path).fit(X)


def test_it_is_plain_data(tmp_path, die_after):
    checkpoint = interrupted(tmp_path / "fit", die_after)
    names = load_file(checkpoint).keys()
    assert "pretraining/neighbors/weights" in names
    length = int.from_bytes(checkpoint.read_bytes()[:8], "little")
    header = json.loads(checkpoint.read_bytes()[8 : 8 + length])
    stages = json.loads(header["__metadata__"]["skdec checkpoint 1"])["stages"]
    assert len(stages["pretraining/neighbors"]["curve"]) == 10
    assert len(stages["seeds"]["seeds"]) == 3
