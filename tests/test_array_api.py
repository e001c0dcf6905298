"""Tensors and other arrays: with dispatch they come back as they came, without as numpy."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from quick import blobs, quick
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from skdec._array_api import DISPATCHES
from skdec.inspection import explain_clusters
from skdec.metrics import ClusteringScorer, clustering_accuracy, relative_modularity
from skdec.onnx import _PredictPath

# scipy reads this when it is imported, so that dispatch needs a process of its own.
CAN_DISPATCH = DISPATCHES and os.environ.get("SCIPY_ARRAY_API") == "1"
with_dispatch = pytest.mark.skipif(not CAN_DISPATCH, reason="in a process of its own")

X, y = blobs()
tensor = torch.from_numpy(X)
METHODS = ["predict", "predict_proba", "transform"]


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(X)


@pytest.fixture(scope="module")
def dispatched():
    with config_context(array_api_dispatch=True):
        return quick().fit(tensor)


@pytest.mark.skipif(CAN_DISPATCH, reason="this is that process")
@pytest.mark.skipif(not DISPATCHES, reason="this scikit-learn does not support it")
def test_dispatch_in_a_process_of_its_own():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout


# --- Without dispatch ---


def test_tensors_are_taken_as_the_arrays_that_they_are(fitted):
    model = quick().fit(tensor)
    for name in ("labels_", "cluster_centers_"):
        np.testing.assert_array_equal(getattr(model, name), getattr(fitted, name))
    for method in METHODS:
        result = getattr(model, method)(tensor)
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, getattr(fitted, method)(X))
    assert model.transform(tensor.float()).dtype == np.float32
    Z = torch.from_numpy(fitted.transform(X))
    np.testing.assert_array_equal(model.inverse_transform(Z), fitted.inverse_transform(Z.numpy()))
    assert model.score(tensor, sample_weight=torch.ones(len(X))) == fitted.score(X)


def test_parameters_and_weights_may_be_tensors():
    means = np.array([X[y == k].mean(axis=0) for k in range(3)])
    weight = np.arange(len(X)) % 3
    expected = quick(init=means).fit(X, sample_weight=weight)
    model = quick(init=torch.from_numpy(means)).fit(X, sample_weight=torch.from_numpy(weight))
    np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)


def test_tensors_with_gradients_are_refused_before_any_work(fitted):
    asks_for_gradient = tensor.clone().requires_grad_()
    model = quick()
    before = dict(vars(model))
    with pytest.raises(RuntimeError, match="detach"):
        model.fit(asks_for_gradient)
    assert vars(model) == before
    with pytest.raises(RuntimeError, match="detach"):
        fitted.predict(asks_for_gradient)
    np.testing.assert_array_equal(fitted.predict(asks_for_gradient.detach()), fitted.labels_)


def test_the_input_is_never_modified():
    given = tensor.clone()
    quick().fit(given).transform(given)
    assert torch.equal(given, tensor)


def test_the_tag_says_whether_scikit_learn_can_dispatch():
    assert quick().__sklearn_tags__().array_api_support == DISPATCHES


# --- With dispatch ---


@with_dispatch
@pytest.mark.parametrize("metric", ["silhouette", "calinski_harabasz", "davies_bouldin"])
def test_scorers_take_tensors(dispatched, fitted, metric):
    scorer = ClusteringScorer(metric)
    with config_context(array_api_dispatch=True):
        found = scorer(dispatched, tensor)
    assert found == pytest.approx(scorer(fitted, X))


@with_dispatch
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_models_of_other_libraries_can_be_saved(tmp_path, fitted, library):
    rows = pytest.importorskip(library).asarray(X)
    with config_context(array_api_dispatch=True):
        model = quick().fit(rows)
        explained = explain_clusters(model, rows)
        model.save(tmp_path / "model")
    np.testing.assert_array_equal(type(model).load(tmp_path / "model").labels_, fitted.labels_)
    assert explained.equals(explain_clusters(fitted, X))


CHECKS = [
    check
    for _, check in estimator_checks_generator(quick())
    if "check_array_api" in getattr(check.func, "__name__", "")
    # A torch that was built for CUDA may be where there is none.
    and (torch.cuda.is_available() or "cuda" not in str(check.keywords))
]


@with_dispatch
def test_scikit_learn_has_checks_for_all_libraries_that_are_here():
    named = {check.keywords.get("array_namespace") for check in CHECKS}
    assert {"numpy", "array_api_strict", "torch", None} <= named


@with_dispatch
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: str(getattr(check, "keywords", "none")))
def test_estimator_passes_the_checks_of_scikit_learn(check):
    check(quick(pretrain_steps=5, neighbor_steps=5, init="k-means++"))


@with_dispatch
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64])
def test_tensors_come_back_with_the_values_of_numpy(dtype):
    rows = (10 * tensor).to(dtype)
    expected = quick().fit(rows.numpy())
    with config_context(array_api_dispatch=True):
        model = quick().fit(rows, y=["labels", "are", "ignored"], sample_weight=[1.0] * len(rows))
        results = {method: getattr(model, method)(rows) for method in METHODS}
        results["inverse_transform"] = model.inverse_transform(model.cluster_centers_)
        results["fit_transform"] = quick().fit_transform(rows)
        results["fit_predict"] = quick().fit_predict(rows)
        score = model.score(rows, sample_weight=torch.ones(len(rows)))
    assert type(score) is float and score == expected.score(rows.numpy())
    for name in ("labels_", "cluster_centers_"):
        assert torch.equal(getattr(model, name), torch.from_numpy(getattr(expected, name)))
    of_numpy = {method: getattr(expected, method)(rows.numpy()) for method in METHODS}
    of_numpy["inverse_transform"] = expected.inverse_transform(expected.cluster_centers_)
    of_numpy["fit_transform"] = of_numpy["transform"]
    of_numpy["fit_predict"] = of_numpy["predict"]
    for name, result in results.items():
        assert isinstance(result, torch.Tensor) and result.device == rows.device
        assert torch.equal(result, torch.from_numpy(of_numpy[name]))


@with_dispatch
@pytest.mark.parametrize("method", [*METHODS, "score", "inverse_transform"])
def test_another_library_than_in_fit_is_refused(fitted, dispatched, method):
    columns = slice(2) if method == "inverse_transform" else slice(None)
    message = rf"DECClustering.{method}\(\) must use the same namespace"
    with config_context(array_api_dispatch=True):
        with pytest.raises(ValueError, match=message):
            getattr(dispatched, method)(X[:, columns])
        with pytest.raises(ValueError, match=message):
            getattr(fitted, method)(tensor[:, columns])
    # Without dispatch scikit-learn takes all for arrays, whatever was fitted.
    result, expected = (getattr(m, method)(X[:, columns]) for m in (dispatched, fitted))
    np.testing.assert_array_equal(result, expected)


@with_dispatch
def test_lists_and_tables_belong_to_numpy(fitted):
    pd = pytest.importorskip("pandas")
    with config_context(array_api_dispatch=True):
        for rows in (X.tolist(), pd.DataFrame(X)):
            result = quick().fit(rows).predict(rows)
            assert type(result) is np.ndarray
            np.testing.assert_array_equal(result, fitted.labels_)


@with_dispatch
def test_tensors_with_gradients_are_refused_in_the_same_words(dispatched):
    with config_context(array_api_dispatch=True):
        with pytest.raises(RuntimeError, match="detach"):
            dispatched.transform(tensor.clone().requires_grad_())


@with_dispatch
def test_rows_are_validated_as_in_numpy(dispatched):
    with config_context(array_api_dispatch=True):
        with pytest.raises(ValueError, match="contains NaN"):
            dispatched.predict(tensor / 0 * 0)
        with pytest.raises(ValueError, match="has 4 features, but DECClustering is expecting 5"):
            dispatched.predict(tensor[:, :4])


@with_dispatch
def test_a_pipeline_and_the_metrics_pass_tensors_on():
    with config_context(array_api_dispatch=True):
        labels = make_pipeline(StandardScaler(), quick()).fit_predict(tensor)
        assert isinstance(labels, torch.Tensor)
        assert clustering_accuracy(torch.from_numpy(y), labels) == 1.0
        score = relative_modularity(tensor, labels)
    assert score == relative_modularity(X, labels.numpy())


@with_dispatch
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["copy", "pickle"],
)
def test_copies_hold_tensors_of_their_own(dispatched, copied):
    again = copied(dispatched)
    before = dispatched.cluster_centers_.clone()
    assert isinstance(again.labels_, torch.Tensor) and again.labels_.dtype == torch.int32
    with config_context(array_api_dispatch=True):
        assert torch.equal(again.predict_proba(tensor), dispatched.predict_proba(tensor))
    again.cluster_centers_ += 1.0
    assert torch.equal(dispatched.cluster_centers_, before)
    assert not hasattr(clone(dispatched), "labels_")


@with_dispatch
def test_a_stored_state_holds_plain_arrays(dispatched):
    state = dispatched.__getstate__()
    assert not any(isinstance(value, torch.Tensor) for value in state.values())
    # As on a machine without the device that the rows were on.
    state["_tensor_devices"] = dict.fromkeys(state["_tensor_devices"], "cuda:77")
    loaded = quick()
    loaded.__setstate__(state)
    assert loaded.cluster_centers_.device.type == "cpu"
    assert torch.equal(loaded.cluster_centers_, dispatched.cluster_centers_)
    assert "_tensor_devices" not in vars(loaded)


@with_dispatch
def test_scikit_learn_moves_a_fitted_estimator_to_numpy_and_back(fitted, dispatched):
    from sklearn.utils._array_api import get_namespace_and_device, move_estimator_to

    with config_context(array_api_dispatch=True):
        for start, rows in ((dispatched, X), (fitted, tensor)):
            xp, _, device = get_namespace_and_device(rows)
            moved = move_estimator_to(start, xp, device)
            Z = moved.transform(rows)
            assert type(Z) is type(moved.cluster_centers_) is type(rows)
            np.testing.assert_array_equal(np.asarray(Z), fitted.transform(X))


@with_dispatch
def test_the_graph_for_export_takes_a_model_of_tensors(fitted, dispatched):
    for result, expected in zip(
        _PredictPath(dispatched)(tensor.float()), _PredictPath(fitted)(tensor.float()), strict=True
    ):
        assert torch.equal(result, expected)
