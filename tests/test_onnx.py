"""The exported graph, run by onnxruntime, against the estimator."""

import logging
import pickle
import random
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from quick import blobs, quick
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.torch_version import TorchVersion

import skdec
from skdec.onnx import to_onnx


class Convolutional(nn.Module):
    """Layers with running statistics, dropout and a transposed view of the batch."""

    def __init__(self, n_features, embedding_dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Unflatten(1, (1, n_features)),
            nn.Conv1d(1, 3, 3, padding=1),
            nn.BatchNorm1d(3),
            nn.SiLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(3 * n_features, embedding_dim),
        )
        self.decoder = nn.Linear(embedding_dim, n_features)


class LastState(nn.Module):
    def __init__(self, n_out):
        super().__init__()
        self.lstm = nn.LSTM(1, n_out, batch_first=True)

    def forward(self, x):
        return self.lstm(x[:, :, None])[0][:, -1]


class Recurrent(nn.Module):
    def __init__(self, n_features, embedding_dim):
        super().__init__()
        self.encoder = LastState(embedding_dim)
        self.decoder = nn.Linear(embedding_dim, n_features)


class PairsOfRows(nn.Module):
    """An encoder that takes even batches only."""

    def __init__(self, n_features, embedding_dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Unflatten(0, (-1, 2)), nn.Flatten(0, 1), nn.Linear(n_features, embedding_dim)
        )
        self.decoder = nn.Linear(embedding_dim, n_features)


X, _ = blobs()
X32 = X.astype(np.float32)
NEW = np.random.default_rng(0).normal(scale=8.0, size=(70, X.shape[1])).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(X)


@pytest.fixture(scope="module")
def exported(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return to_onnx(fitted, path), path


@pytest.fixture(scope="module")
def pipeline():
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), quick()).fit(X)
    return pipeline, to_onnx(pipeline[-1])


def run(model, rows):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"X": rows}), strict=True))


def assert_agrees(model, estimator, rows, rtol=1e-5):
    outputs = run(model, rows)
    Q, Z = estimator.predict_proba(rows), estimator.transform(rows)
    size = max(1.0, np.abs(Z).max())
    np.testing.assert_allclose(outputs["embedding"], Z, rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(outputs["probabilities"], Q, rtol=0, atol=10 * rtol)
    np.testing.assert_array_equal(outputs["labels"], outputs["probabilities"].argmax(axis=1))
    second, first = np.sort(Q, axis=1)[:, -2:].T
    clear = first - second > 20 * rtol
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(outputs["labels"][clear], estimator.predict(rows)[clear])


# --- Values ---


@pytest.mark.parametrize(
    "params",
    [
        {"activation": "relu", "alpha": 0.5, "scaling": "norm"},
        {"activation": "gelu", "batch_norm": True, "alpha": 1e6, "hidden_dims": (16, 8)},
        {"autoencoder": Convolutional, "init": "k-means++"},
        {"autoencoder": Recurrent, "alpha": 3.0, "pretrain_steps": 5, "neighbor_steps": 5},
    ],
    ids=["alpha", "batch_norm", "convolutional", "recurrent"],
)
def test_the_graph_gives_what_the_estimator_gives(params):
    estimator = quick(**params).fit(X)
    model = to_onnx(estimator)
    assert_agrees(model, estimator, X32)
    assert_agrees(model, estimator, NEW)
    assert set(run(model, X32)["labels"]) == set(range(estimator.n_clusters))


@pytest.mark.parametrize("n_rows", [1, 2, 31, 90])
def test_batches_of_any_size(fitted, exported, n_rows):
    outputs = run(exported[0], X32[:n_rows])
    assert outputs["labels"].shape == (n_rows,) and outputs["labels"].dtype == np.int64
    assert outputs["probabilities"].shape == (n_rows, 3)
    assert outputs["probabilities"].dtype == np.float32
    assert outputs["embedding"].shape == (n_rows, 2)
    assert outputs["embedding"].dtype == np.float32
    assert_agrees(exported[0], fitted, X32[:n_rows])


def test_an_offset_that_float32_cannot_hold_is_subtracted_exactly():
    # Rounding this offset to float32 would move all rows by a hundredth of their spread.
    far = X + 1e6 + 0.03
    estimator = quick().fit(far)
    model = to_onnx(estimator)
    assert_agrees(model, estimator, far.astype(np.float32))
    # What is left of the difference to float64 rows is the rounding of the input.
    step = np.spacing(np.float32(1e6)) / 2 / estimator._scale
    Z = run(model, far.astype(np.float32))["embedding"]
    assert 0.01 * step < np.abs(Z - estimator.transform(far)).max() < 10 * step


def test_rows_far_outside_the_training_data(fitted, exported):
    rows = np.vstack([X32 * np.float32(1e9), X32 * np.float32(1e25), -X32 * np.float32(1e37)])
    assert np.isfinite(run(exported[0], rows)["embedding"]).all()
    Z = fitted.transform(rows)
    np.testing.assert_allclose(
        run(exported[0], rows)["embedding"], Z, rtol=1e-4, atol=1e-6 * np.abs(Z).max()
    )


# --- What the file says ---


def test_the_file_holds_the_model(exported):
    model, path = exported
    assert onnx.load(path) == model
    assert [value.name for value in model.graph.input] == ["X"]


def test_the_model_names_its_maker_and_its_features(pipeline):
    _, model = pipeline
    assert (model.producer_name, model.producer_version) == ("skdec", skdec.__version__)
    assert skdec.__version__ in model.doc_string
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == {
        "skdec_version": skdec.__version__,
        "feature_names_in": '["x0", "x1", "x2", "x3", "x4"]',
    }


def test_no_path_of_this_machine_gets_into_the_model(exported):
    stored = exported[0].SerializeToString()
    for trace in (b".py", b"stack_trace", b"site-packages"):
        assert trace not in stored


def test_an_estimator_that_was_stored_gives_the_same_file(fitted, exported):
    loaded = pickle.loads(pickle.dumps(fitted))
    assert to_onnx(loaded).SerializeToString() == exported[0].SerializeToString()


# --- Side effects ---


def test_export_is_silent_and_changes_nothing(fitted, capfd, caplog):
    def state():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            random.getstate(),
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            list(warnings.filters),
            {name: logging.getLogger(name).level for name in ("", "torch", "torch.onnx")},
            [(p.data_ptr(), p.requires_grad) for p in fitted.autoencoder_.parameters()],
            [module.training for module in fitted.autoencoder_.modules()],
            sorted(vars(fitted)),
        )

    before = state()
    to_onnx(fitted)
    assert state() == before
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


# --- What cannot be exported ---


def test_only_a_fitted_estimator_is_exported(fitted, tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(NotFittedError):
        to_onnx(quick(), path)
    with pytest.raises(TypeError, match="DECClustering. Got StandardScaler.$"):
        to_onnx(StandardScaler().fit(X), path)
    with pytest.raises(TypeError, match=r"Got Pipeline: export its last step, pipeline\[-1\]"):
        to_onnx(make_pipeline(StandardScaler(), fitted), path)
    assert not path.exists()


def test_the_last_step_of_a_pipeline_is_given_what_the_others_return(pipeline):
    pipeline, model = pipeline
    labels = run(model, pipeline[:-1].transform(X).to_numpy(np.float32))["labels"]
    np.testing.assert_array_equal(labels, pipeline.predict(X))


def test_a_missing_folder_is_named(fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.*path="):
        to_onnx(fitted, tmp_path / "missing" / "model.onnx")


def test_an_encoder_for_some_batch_sizes_only_is_refused():
    estimator = quick(autoencoder=PairsOfRows, init="k-means++").fit(X)
    with pytest.raises(NotImplementedError, match="encoder of 'autoencoder'.*batches of any size"):
        to_onnx(estimator)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named(fitted, without, package):
    without(package)
    with pytest.raises(ImportError, match=r"pip install 'skdec\[onnx\]'"):
        to_onnx(fitted)


def test_a_torch_that_is_too_old_is_named(fitted, monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.7.1+cpu"))
    with pytest.raises(ImportError, match=r"to_onnx needs torch 2\.8 or newer\. Got 2\.7\.1"):
        to_onnx(fitted)
