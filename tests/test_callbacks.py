"""What scikit-learn's callbacks are told, what they can stop, and that they change nothing else."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick import blobs, quick
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdec._callbacks import CallbackSupportMixin
from skdec._inference import Embedding
from skdec.metrics import ClusteringScorer

needs_callbacks = pytest.mark.skipif(
    not hasattr(CallbackSupportMixin, "set_callbacks"), reason="scikit-learn before 1.9"
)

X, Y = blobs()


class Recorder:
    """Writes down the names of tasks from the root on; stops where it is told to."""

    def __init__(self, stops=()):
        self.begun, self.ended, self.other, self.stops = [], [], [], stops

    def setup(self, estimator, context):
        self.other.append("setup")

    def teardown(self, estimator, context):
        self.other.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(path_of(context))

    def on_fit_task_end(self, estimator, context):
        self.ended.append(path_of(context))
        return self.ended[-1] in self.stops

    def named(self, *names):
        """How many tasks of these names have ended, from the root on."""
        return sum([name for name, _ in path] == list(names) for path in self.ended)


class Keeper(Recorder):
    """Keeps all that callbacks are given at the end of tasks."""

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.ended.append((path_of(context), X, y, metadata, fitted_estimator))


def path_of(context):
    """Names and numbers of the tasks from below the root to this one."""
    path = []
    while context.parent is not None:
        path.insert(0, (context.task_name, context.task_id))
        context = context.parent
    return tuple(path)


def of_stages(recorder):
    return [
        path[-1][0] for path in recorder.begun if path and path[-1][0] not in ("epoch", "round")
    ]


# --- The tree of tasks ---


OF_RECONSTRUCTION = [("pretraining", "autoencoder"), ("pretraining", "decoder"), ("decoder",)]


@needs_callbacks
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            {},
            ["pretraining", "neighbors", "initialization", "self-training", "decoder"],
        ),
        (
            {"reconstruction_weight": 1.0},
            ["pretraining", "neighbors", "decoder", "initialization", "self-training"],
        ),
        (
            {"reconstruction_loss": "bce"},
            ["pretraining", "neighbors", "initialization", "self-training", "decoder"],
        ),
        (
            {"pretraining": "layer-wise", "reconstruction_weight": 1.0},
            ["pretraining", "layer 1", "layer 2", "autoencoder", "initialization"]
            + ["self-training"],
        ),
        (
            {"pretraining": "end-to-end", "max_iter": 0},
            ["pretraining", "autoencoder", "initialization", "self-training", "decoder"],
        ),
        (
            {"pretraining": "end-to-end", "max_iter": 0, "init": "k-means++"},
            ["pretraining", "autoencoder", "initialization", "self-training"],
        ),
    ],
)
def test_tasks_are_the_stages_in_their_order(params, expected):
    recorder = Recorder()
    model = quick(**params).set_callbacks(recorder).fit(X)
    assert of_stages(recorder) == expected
    # A task begins before its parts and ends after them.
    assert sorted(recorder.begun) == sorted(recorder.ended)
    assert (recorder.begun[0], recorder.ended[-1]) == ((), ())
    assert recorder.other == ["setup", "teardown"]
    n_epochs = [recorder.named(*path, "epoch") for path in OF_RECONSTRUCTION]
    # The curve is that of the autoencoder, if it is trained, else of the decoder alone, which has
    # no epochs where it is fitted by regression.
    assert next(filter(None, n_epochs), 1) == len(model.pretrain_loss_curve_) > 0
    assert recorder.named("pretraining", "neighbors", "epoch") == len(model.neighbor_loss_curve_)
    assert recorder.named("self-training", "round") == model.n_iter_


@needs_callbacks
def test_rounds_that_are_undone_are_tasks_too():
    recorder = Recorder()
    with pytest.warns(ConvergenceWarning):
        quick(learning_rate=1e20, max_iter=1).set_callbacks(recorder).fit(X)
    assert recorder.named("self-training", "round") == 3


@needs_callbacks
def test_callbacks_and_verbosity_change_no_bit(capsys):
    expected = quick().fit(X).predict_proba(X)
    for model in (quick(verbose=1), quick().set_callbacks(Recorder(), Keeper())):
        np.testing.assert_array_equal(model.fit(X).predict_proba(X), expected)


@needs_callbacks
def test_without_callbacks_nothing_is_made_for_them(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("made for nobody")

    monkeypatch.setattr(Embedding, "copied", fail)
    quick().set_callbacks(Recorder()).fit(X)  # does not ask for fitted estimators
    monkeypatch.setattr(CallbackSupportMixin, "_init_callback_context", fail)
    quick().fit(X)


# --- What callbacks are given ---


@needs_callbacks
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fitted_estimator_of_a_round_is_the_model_of_so_many_rounds():
    params = {"init": "k-means++", "tol": 0.0, "learning_rate": 0.1}
    keeper = Keeper()
    model = quick(max_iter=3, **params).set_callbacks(keeper).fit(X)
    fitted = {path: estimator for path, _, _, _, estimator in keeper.ended if estimator is not None}
    rounds = {(("self-training", 2), ("round", k)): k + 1 for k in range(3)}
    assert set(fitted) == {(("initialization", 1),), *rounds, ()}
    initial = fitted[(("initialization", 1),)]
    without = quick(max_iter=0, **params).fit(X)
    # Self-training holds the centres in float32.
    np.testing.assert_allclose(initial.predict_proba(X), without.predict_proba(X), rtol=1e-6)
    np.testing.assert_array_equal(initial.labels_, without.labels_)
    for path, n_rounds in rounds.items():
        alone = quick(max_iter=n_rounds, **params).fit(X)
        np.testing.assert_array_equal(fitted[path].predict_proba(X), alone.predict_proba(X))
        np.testing.assert_array_equal(fitted[path].labels_, alone.labels_)
        assert fitted[path].kl_curve_ == alone.kl_curve_
        assert fitted[path].n_iter_ == n_rounds
    np.testing.assert_array_equal(fitted[()].predict_proba(X), model.predict_proba(X))


@needs_callbacks
@pytest.mark.parametrize("method", ["fit", "fit_predict", "fit_transform"])
def test_data_come_as_they_were_given_and_labels_for_callbacks_only(method):
    table, weight, keeper = pd.DataFrame(X, columns=list("abcde")), [1.0] * 90, Keeper()
    model = quick().set_callbacks(keeper)
    getattr(model, method)(table, Y, sample_weight=weight)
    for _, given_X, given_y, metadata, _ in keeper.ended:
        assert given_X is table and given_y is Y
        assert metadata["sample_weight"] is weight
    np.testing.assert_array_equal(model.transform(table), quick().fit(X).transform(X))


@needs_callbacks
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scoring_monitor_logs_a_score_for_each_round():
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring="adjusted_rand_score")
    model = quick(tol=0.0).set_callbacks(monitor).fit(X, Y)
    log = [row for row in monitor.get_logs().data if row["task_name"] == "round"]
    assert len(log) == model.n_iter_ == 3
    assert log[-1]["adjusted_rand_score"] == adjusted_rand_score(Y, model.labels_)


@needs_callbacks
def test_a_callback_can_score_rounds_without_labels():
    class Monitor(Recorder):
        def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
            if context.task_name == "round":
                self.other.append(ClusteringScorer("silhouette")(fitted_estimator, X))

    monitor = Monitor()
    model = quick().set_callbacks(monitor).fit(X)
    assert monitor.other[1] == ClusteringScorer("silhouette")(model, X)


@needs_callbacks
def test_progress_bars_nest_through_a_search_over_a_pipeline(capsys):
    from sklearn.callback import ProgressBar

    pipeline = make_pipeline(StandardScaler(), quick())
    search = GridSearchCV(pipeline, {"decclustering__n_clusters": [2, 3]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X)
    lines = capsys.readouterr().out.splitlines()
    for task, depth in (("pretraining", 4), ("neighbors", 5), ("self-training", 4)):
        bars = [line for line in lines if f"DECClustering - {task} #" in line]
        indents = [(len(line) - len(line.lstrip())) // 2 for line in bars]
        # Two candidates on two folds; the refit is one level higher.
        assert indents == [depth] * 4 + [depth - 1]
        assert all("100%" in line for line in bars)


# --- What callbacks can stop ---


@needs_callbacks
@pytest.mark.parametrize("round_", [0, 1])
def test_stopping_a_round_ends_self_training_there(round_):
    recorder = Recorder([(("self-training", 2), ("round", round_))])
    params = {"init": "k-means++", "tol": 0.0, "max_iter": 5}
    model = quick(**params).set_callbacks(recorder).fit(X)  # and without a ConvergenceWarning
    assert model.n_iter_ == len(model.kl_curve_) == round_ + 1
    assert not model.converged_
    assert recorder.named("decoder") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        alone = quick(**{**params, "max_iter": round_ + 1}).fit(X)
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))
    assert model.reconstruction_error_ == alone.reconstruction_error_


@needs_callbacks
@pytest.mark.parametrize(
    ("stage", "pretraining", "weight"),
    [
        ((("pretraining", 0), ("layer 2", 1)), "layer-wise", 0.0),
        ((("pretraining", 0), ("autoencoder", 0)), "end-to-end", 0.0),
        ((("pretraining", 0), ("neighbors", 0)), "neighbors", 0.0),
        ((("pretraining", 0), ("decoder", 1)), "neighbors", 1.0),
        ((("decoder", 3),), "neighbors", 0.0),
    ],
)
def test_stopping_an_epoch_ends_its_stage_and_no_other(stage, pretraining, weight):
    whole, cut = Recorder(), Recorder([(*stage, ("epoch", 1))])
    params = {"pretraining": pretraining, "reconstruction_weight": weight}
    params["reconstruction_loss"] = "bce"  # no regression
    quick(**params).set_callbacks(whole).fit(X)
    model = quick(**params).set_callbacks(cut).fit(X)
    left_out = {path for path in whole.ended if path[:-1] == stage and path[-1][1] > 1}
    assert left_out
    assert set(whole.ended) - set(cut.ended) == left_out
    np.testing.assert_array_equal(model.predict(X), model.labels_)
    assert np.isfinite(model.reconstruction_error_)


@needs_callbacks
def test_stages_themselves_cannot_be_left_out():
    whole = Recorder()
    expected = quick().set_callbacks(whole).fit(X).predict_proba(X)
    stages = [path for path in whole.ended if not path or path[-1][0] not in ("epoch", "round")]
    model = quick().set_callbacks(Recorder(stages)).fit(X)
    np.testing.assert_array_equal(model.predict_proba(X), expected)


@needs_callbacks
def test_memory_keeps_no_pretraining_that_was_stopped(tmp_path):
    first_epoch = (("pretraining", 0), ("neighbors", 0), ("epoch", 0))
    stopped = quick(memory=str(tmp_path)).set_callbacks(Recorder([first_epoch])).fit(X)
    assert len(stopped.neighbor_loss_curve_) == 1
    whole, again = Recorder(), Recorder()
    model = quick(memory=str(tmp_path)).set_callbacks(whole).fit(X)
    np.testing.assert_array_equal(model.transform(X), quick().fit(X).transform(X))
    # The second time pretraining is remembered, whatever the callbacks and the verbosity.
    other = quick(memory=str(tmp_path), n_clusters=2).set_callbacks(again).fit(X)
    assert "pretraining" in of_stages(whole)
    assert of_stages(again) == ["initialization", "self-training", "decoder"]
    assert other.neighbor_loss_curve_ == model.neighbor_loss_curve_


# --- Failures ---


@needs_callbacks
@pytest.mark.parametrize("hook", ["on_fit_task_begin", "on_fit_task_end"])
@pytest.mark.parametrize("task", ["fit", "epoch", "round"])
def test_a_callback_that_fails_leaves_the_estimator_as_it_was(hook, task):
    class Failing(Recorder):
        def fail(self, estimator, context):
            if context.task_name == task:
                raise RuntimeError("broken")

    setattr(Failing, hook, Failing.fail)
    callback = Failing()
    model = quick().set_callbacks(callback)
    before = dict(vars(model))
    with pytest.raises(RuntimeError, match="broken"):
        model.fit(X)
    assert vars(model) == before
    assert callback.other == ["setup", "teardown"]


@needs_callbacks
def test_callbacks_are_torn_down_when_fit_fails():
    recorder = Recorder()
    model = quick().set_callbacks(recorder)
    with pytest.raises(ValueError, match="contains NaN"):
        model.fit(X * np.nan)
    assert recorder.other == ["setup", "teardown"]
    assert not [name for name in vars(model) if "ctx" in name]
    model.fit(X)
    assert recorder.other == ["setup", "teardown"] * 2
    assert not [name for name in vars(model) if "ctx" in name]


# --- Lines of text, and scikit-learn without callbacks ---


@pytest.mark.parametrize(("loss", "n_of_decoder"), [("mse", 1), ("bce", 10)])
def test_verbose_prints_a_line_for_each_round_and_ten_for_each_other_training(
    capsys, loss, n_of_decoder
):
    many = {"pretrain_steps": 516, "neighbor_steps": 516, "tol": 0.0}
    with pytest.warns(ConvergenceWarning):
        quick(verbose=1, reconstruction_loss=loss, **many).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("[DECClustering] ") for line in lines)
    starts = [line.split()[1] for line in lines]
    counts = {start: starts.count(start) for start in dict.fromkeys(starts)}
    assert list(counts) == ["neighbors:", "self-training:", "decoder:"]
    # The decoder is trained for 100 epochs, of which every tenth is told, or fitted at once.
    assert counts == {"neighbors:": 10, "self-training:": 3, "decoder:": n_of_decoder}
    quick().fit(X)
    assert capsys.readouterr().out == ""


@needs_callbacks
def test_verbose_says_what_was_undone_and_what_was_stopped(capsys):
    stop = (("pretraining", 0), ("neighbors", 0), ("epoch", 1))
    with pytest.warns(ConvergenceWarning):
        quick(verbose=1, learning_rate=1e20).set_callbacks(Recorder([stop])).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "neighbors" in line][-1].endswith("stopped by a callback")
    undone = [line for line in lines if "self-training" in line]
    assert len(undone) == 3
    assert all("round 1/3 undone, the weights became" in line for line in undone)


def test_a_scikit_learn_without_callbacks_is_good_enough():
    code = (
        f"TESTS = {str(Path(__file__).parent)!r}"
        + """
import sys
import skdec  # and all of scikit-learn that it needs
there = sys.modules.pop("sklearn.callback", None)
for name in [name for name in sys.modules if name.split(".")[0] == "skdec"]:
    del sys.modules[name]
sys.modules["sklearn.callback"] = None
import skdec
if there is not None:
    sys.modules["sklearn.callback"] = there
sys.path.insert(0, TESTS)
from quick import blobs, quick
model = quick(verbose=1)
assert not hasattr(model, "set_callbacks")
print(len(set(model.fit_predict(blobs()[0]))))
"""
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "3"
    assert "self-training: round 1/3" in out.stdout


@needs_callbacks
def test_the_mixin_comes_first():
    assert type(quick()).__mro__[1] is CallbackSupportMixin
    assert isinstance(quick(), BaseEstimator)
