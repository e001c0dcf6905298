"""Models in files: what comes back, what is refused, and what no file may do."""

import copy
import functools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import skops.io
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quick import blobs, quick
from safetensors import safe_open
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skdec import DECClustering, _persistence
from skdec._networks import Architecture

KEPT = Path(__file__).parent / "data" / f"model-{_persistence.FORMAT_VERSION}"
X, _ = blobs()
Z = np.random.default_rng(0).normal(size=(9, 2))


@pytest.fixture(scope="module")
def fitted():
    return quick(pretraining="layer-wise").fit(pd.DataFrame(X, columns=list("abcdé")))


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    """A saved model's path; tests that write choose a path of their own."""
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    fitted.save(path)
    return path


@pytest.fixture(scope="module")
def crafted(tmp_path_factory):
    """A path for files that no `save` has written."""
    return tmp_path_factory.mktemp("crafted") / "model.safetensors"


def round_trip(model, folder, **how):
    model.save(folder / "model")
    return type(model).load(folder / "model", **how)


def outputs(model, X=X):
    """All that a model computes, as plain arrays."""
    X = pd.DataFrame(X, columns=getattr(model, "feature_names_in_", None))
    X = X if hasattr(model, "feature_names_in_") else X.to_numpy()
    results = model.predict(X), model.predict_proba(X), model.transform(X)
    return [*map(np.asarray, results), np.asarray(model.inverse_transform(Z))]


def assert_same_outputs(model, other):
    for one, another in zip(outputs(model), outputs(other), strict=True):
        assert one.dtype == another.dtype
        np.testing.assert_array_equal(one, another)


def assert_same(one, other):
    """Equal in value and in type, with all that it contains."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for items in zip(one, other, strict=True):
            assert_same(*items)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


# --- What comes back ---


def test_everything_comes_back_in_value_and_type(fitted, saved):
    loaded = DECClustering.load(saved)
    assert type(loaded) is DECClustering
    assert_same(loaded.__getstate__(), fitted.__getstate__())
    assert not loaded.autoencoder_.training
    assert {type(name) for name in loaded.feature_names_in_} == {str}
    public = [name for name in vars(fitted) if name.endswith("_") and name[0] != "_"]
    for name in public:
        assert type(getattr(loaded, name)) is type(getattr(fitted, name)), name
    assert len(public) == 18
    assert_same_outputs(loaded, fitted)


def test_another_process_computes_the_same_bits(fitted, saved, tmp_path):
    code = (
        "import sys, numpy as np, pandas as pd\n"
        "from skdec import DECClustering\n"
        "model = DECClustering.load(sys.argv[1])\n"
        "X, Z = (np.load(sys.argv[2])[name] for name in 'XZ')\n"
        "X = pd.DataFrame(X, columns=model.feature_names_in_)\n"
        "np.savez(sys.argv[3], model.predict(X), model.predict_proba(X), model.transform(X),\n"
        "    model.inverse_transform(Z))\n"
    )
    np.savez(tmp_path / "in.npz", X=X, Z=Z)
    command = [sys.executable, "-W", "error", "-c", code, saved, "in.npz", "out.npz"]
    subprocess.run(
        command, cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    )
    with np.load(tmp_path / "out.npz") as computed:
        for index, expected in enumerate(outputs(fitted)):
            assert computed[f"arr_{index}"].dtype == expected.dtype
            np.testing.assert_array_equal(computed[f"arr_{index}"], expected)


@pytest.mark.parametrize(
    "params",
    [
        {"batch_norm": True, "activation": "tanh", "reconstruction_loss": "bce"},
        {"hidden_dims": (), "alpha": 2, "weight_init": 0.1, "scaling": "norm"},
        {"hidden_dims": np.array([8, 4], dtype=np.uint16), "init": X[:3] + 1.0},
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kind_of_model_comes_back(params, dtype, tmp_path):
    model = quick(**params).fit(X.astype(dtype))
    loaded = round_trip(model, tmp_path)
    assert_same(loaded.__getstate__(), model.__getstate__())
    assert_same_outputs(loaded, model)
    assert loaded.cluster_centers_.dtype == dtype


@pytest.mark.parametrize(
    "params",
    [
        {"hidden_dims": [8, 4]},
        {"hidden_dims": "auto", "embedding_dim": "auto", "pretrain_decay": None, "scaling": None},
        {"init": [[1.0, 2.0], [3.0, np.nan]]},
        {"init": ((1, 2), (3, 4))},
        {"init": np.asfortranarray(np.arange(6.0).reshape(3, 2))},
        {"init": np.arange(6.0, dtype=">f4").reshape(3, 2)},
        {"random_state": None, "verbose": True, "n_init": 2**62},
        {"device": "cuda:3"},
    ],
)
def test_parameters_come_back_even_if_they_were_changed_after_fit(fitted, params, tmp_path):
    model = copy.deepcopy(fitted).set_params(**params)
    loaded = round_trip(model, tmp_path)
    for name, value in params.items():
        if isinstance(value, np.ndarray):
            assert_same(getattr(loaded, name), value.astype(value.dtype.newbyteorder("=")))
        else:
            assert repr(getattr(loaded, name)) == repr(value)
    assert_same_outputs(loaded, fitted)


def test_numpy_scalars_become_python_numbers(fitted, tmp_path):
    given = {"n_clusters": np.int64(3), "tol": np.float32(0.25), "batch_norm": np.bool_(True)}
    loaded = round_trip(copy.deepcopy(fitted).set_params(**given), tmp_path).get_params()
    assert_same(
        {name: loaded[name] for name in given}, {"n_clusters": 3, "tol": 0.25, "batch_norm": True}
    )


def test_values_that_json_has_no_number_for_come_back(fitted, tmp_path):
    model = copy.deepcopy(fitted)
    model.reconstruction_error_, model.kl_curve_ = np.inf, [1.0, -np.inf, np.nan]
    loaded = round_trip(model, tmp_path)
    assert_same(loaded.reconstruction_error_, np.inf)
    np.testing.assert_array_equal(loaded.kl_curve_, model.kl_curve_)


@pytest.mark.parametrize("container", ["pandas", "polars", "default"])
def test_output_container_comes_back(fitted, container, tmp_path):
    model = copy.deepcopy(fitted).set_output(transform=container)
    loaded = round_trip(model, tmp_path)
    frame = pd.DataFrame(X, columns=fitted.feature_names_in_)
    assert type(loaded.transform(frame)) is type(model.transform(frame))


def test_loaded_model_can_be_saved_pickled_and_fitted_again(fitted, saved, tmp_path):
    loaded = DECClustering.load(saved)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()
    assert_same_outputs(pickle.loads(pickle.dumps(loaded)), fitted)
    assert_same_outputs(loaded.fit(pd.DataFrame(X, columns=fitted.feature_names_in_)), fitted)


def test_loaded_model_does_not_hang_on_the_file(saved, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(saved.read_bytes())
    loaded = DECClustering.load(path)
    expected = outputs(loaded)
    path.write_bytes(bytes(path.stat().st_size))
    for one, other in zip(outputs(loaded), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    loaded.labels_[0] = loaded.labels_[1]  # writeable


def test_subclass_comes_back_as_what_loads_it(fitted, tmp_path):
    class Mine(DECClustering):
        pass

    mine = Mine(**fitted.get_params()).fit(X)
    mine.save(tmp_path / "model")
    assert type(Mine.load(tmp_path / "model")) is Mine
    assert_same_outputs(DECClustering.load(tmp_path / "model"), mine)


def test_file_holds_no_row_of_the_data(tmp_path):
    X = np.random.default_rng(5).normal(size=(60, 3))
    weight = np.random.default_rng(6).uniform(0.5, 2.0, 60)
    model = quick().fit(X, sample_weight=weight)
    model.save(tmp_path / "model")
    data = (tmp_path / "model").read_bytes()
    assert model.labels_.tobytes() in data  # an output, and what the search would find
    Z = model.transform(X)
    scaled = (X - model._offset) / model._scale
    for rows in (X, scaled, Z, weight[:, None]):
        for row in rows:
            assert row.tobytes() not in data
            assert row.astype(np.float32).tobytes() not in data
            assert repr(float(row[0])).encode() not in data


# --- Networks of the user ---


class Mine(nn.Module):
    """Dropout, batch normalisation with its counter, an infinite mask and a shared weight."""

    class Transposed(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, z):
            return z @ self.layer.weight

    def __init__(self, n_features, embedding_dim, width=6):
        super().__init__()
        last = nn.Linear(width, embedding_dim)
        self.encoder = nn.Sequential(
            nn.Linear(n_features, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(0.1), last
        )
        self.decoder = nn.Sequential(self.Transposed(last), nn.Linear(width, n_features))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))


class Wider(Mine):
    def __init__(self, n_features, embedding_dim):
        super().__init__(n_features, embedding_dim, width=7)


class Deeper(Mine):
    def __init__(self, n_features, embedding_dim):
        super().__init__(n_features, embedding_dim)
        self.more = nn.Linear(2, 2)


class Unsigned(Mine):
    def __init__(self, n_features, embedding_dim):
        super().__init__(n_features, embedding_dim)
        self.encoder[1].num_batches_tracked = torch.tensor(0, dtype=torch.uint8)


@pytest.fixture(scope="module")
def with_own_network(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "model.safetensors"
    model = quick(autoencoder=Mine).fit(X)
    model.save(path)
    return model, path


def test_users_network_is_given_again(with_own_network):
    model, path = with_own_network
    loaded = DECClustering.load(path, autoencoder=Mine)
    assert type(loaded.autoencoder_) is Mine and loaded.autoencoder is Mine
    assert_same(loaded.__getstate__(), model.__getstate__())
    assert_same_outputs(loaded, model)


@pytest.mark.filterwarnings("ignore:Self-training made the clusters agree less")
def test_users_network_may_be_any_callable(tmp_path):
    factory = functools.partial(Mine, width=3)
    model = quick(autoencoder=factory).fit(X)
    assert_same_outputs(round_trip(model, tmp_path, autoencoder=factory), model)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (None, "its network is the user's own, 'Mine'.*autoencoder=..."),
        (Wider, r"its weights 'encoder.0.weight' are float32 of shape \(6, 5\).*\(7, 5\)"),
        (Deeper, "missing 'more.bias', 'more.weight', unknown none"),
        (Unsigned, "'encoder.1.num_batches_tracked' are int64 .*network uint8"),
    ],
)
def test_wrong_users_network_is_refused(with_own_network, factory, message):
    with pytest.raises(ValueError, match=f"Cannot load .*{message}"):
        DECClustering.load(with_own_network[1], autoencoder=factory)


def test_what_gives_no_network_is_refused_like_in_fit(with_own_network):
    with pytest.raises(TypeError, match="'autoencoder' parameter"):
        DECClustering.load(with_own_network[1], autoencoder=lambda n_features, width: None)


def test_users_network_for_a_model_with_the_built_in_one_is_refused(saved):
    with pytest.raises(ValueError, match="its network is the built-in one"):
        DECClustering.load(saved, autoencoder=Mine)


def test_learnt_weights_of_users_network_must_be_finite(with_own_network, crafted):
    header, arrays = parts(with_own_network[1])
    arrays["autoencoder_.decoder.0.layer.weight"][0, 0] = np.nan
    craft(crafted, header, arrays)
    with pytest.raises(ValueError, match="'decoder.0.layer.weight' are not finite"):
        DECClustering.load(crafted, autoencoder=Mine)


# --- What save refuses ---


def test_unfitted_model_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        quick().save(tmp_path / "model")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("init", lambda X, n_clusters, random_state: X[:n_clusters]),
        ("init", pd.DataFrame({"a": [1.0]})),
        ("init", np.array([["a", None]], dtype=object)),
        ("target_distribution", lambda Q, sample_weight: Q),
        ("random_state", np.random.RandomState(0)),
        ("n_init", 2**63),
        ("init", np.ones((3, 2), dtype=complex)),
        ("autoencoder", Mine),
    ],
)
def test_what_a_file_cannot_keep_is_refused_by_name(fitted, name, value, tmp_path):
    (tmp_path / "model").write_bytes(b"before")
    model = copy.deepcopy(fitted).set_params(**{name: value})
    with pytest.raises(ValueError, match=f"This DECClustering cannot be saved: .*'{name}'"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["model"]


def test_attributes_of_the_users_are_refused_by_name(fitted, tmp_path):
    model = copy.deepcopy(fitted)
    model.note = "mine"
    with pytest.raises(ValueError, match="cannot keep its attribute.* 'note'"):
        model.save(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("memory", str), ("memory", joblib.Memory), ("checkpoint", str), ("checkpoint", Path)],
)
def test_places_on_this_machine_are_left_out_with_a_warning(fitted, name, kind, tmp_path):
    model = copy.deepcopy(fitted).set_params(**{name: kind(tmp_path / "cache")})
    with pytest.warns(UserWarning, match=f"{name!r} is not saved.* {name}=None") as caught:
        model.save(tmp_path / "model")
    assert len(caught) == 1 and caught[0].filename == __file__
    assert DECClustering.load(tmp_path / "model").get_params()[name] is None
    assert b"cache" not in (tmp_path / "model").read_bytes()


def test_what_the_program_around_it_has_set_is_left_out_with_a_warning(fitted, tmp_path):
    with config_context(enable_metadata_routing=True):
        model = copy.deepcopy(fitted).set_fit_request(sample_weight=True)
    with pytest.warns(UserWarning, match="set_fit_request has set is not saved") as caught:
        model.save(tmp_path / "model")
    assert caught[0].filename == __file__
    model = copy.deepcopy(fitted)
    model._skl_callbacks = [object()]  # as set_callbacks of scikit-learn 1.9 does
    with pytest.warns(UserWarning, match="set_callbacks has set is not saved"):
        model.save(tmp_path / "model")
    loaded = DECClustering.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.labels_, fitted.labels_)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("n_iter_", 1.0, "'n_iter_' is of the wrong type"),
        ("labels_", np.array([0, 3], dtype=np.int32), "'labels_' are not numbers of clusters"),
        ("_scale", 0.0, "'scale' is 0.0"),
    ],
)
def test_model_that_could_not_be_loaded_is_not_saved(fitted, attribute, value, message, tmp_path):
    model = copy.deepcopy(fitted)
    setattr(model, attribute, value)
    with pytest.raises(ValueError, match=f"cannot be saved: .*{message}"):
        model.save(tmp_path / "model")
    del model.n_iter_
    with pytest.raises(ValueError, match="missing 'n_iter_'"):
        model.save(tmp_path / "model")
    assert not os.listdir(tmp_path)


def test_model_with_weights_that_are_not_finite_is_not_saved(fitted, tmp_path):
    model = copy.deepcopy(fitted)
    with torch.no_grad():
        model.autoencoder_.encoder[0][0].bias[0] = torch.nan
    with pytest.raises(ValueError, match="cannot be saved: .*'encoder.0.0.bias' are not finite"):
        model.save(tmp_path / "model")


# --- The file ---


@pytest.mark.parametrize("failing", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failure_while_writing_leaves_the_older_file(fitted, failing, error, tmp_path, monkeypatch):
    (tmp_path / "model").write_bytes(b"before")

    def fail(*args):
        raise error

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(error):
        fitted.save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_paths_of_every_kind(saved, fitted, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted.save(kind(Path("é.model")))
    assert os.listdir(tmp_path) == ["é.model"]
    assert Path("é.model").read_bytes() == saved.read_bytes()
    assert_same_outputs(DECClustering.load(kind(Path("é.model"))), fitted)


@pytest.mark.skipif(os.name == "nt", reason="links and modes of POSIX")
def test_links_are_followed_and_the_file_has_the_usual_mode(fitted, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "model")
    fitted.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "usual").touch()
    mode = (tmp_path / "real" / "model").stat().st_mode
    assert mode == (tmp_path / "usual").stat().st_mode


def test_errors_of_the_file_system_pass_through(fitted, tmp_path):
    with pytest.raises(FileNotFoundError):
        DECClustering.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        fitted.save(tmp_path / "none" / "model")
    for act in (DECClustering.load, fitted.save):
        with pytest.raises(OSError):
            act(tmp_path)
        with pytest.raises(TypeError):
            act(3)
    assert not os.listdir(tmp_path)


def test_header_is_one_json_text_that_any_tool_reads(saved):
    with safe_open(saved, framework="numpy") as file:
        metadata = file.metadata()
    assert set(metadata) == {"skdec"}
    header = json.loads(metadata["skdec"], parse_constant=pytest.fail)
    assert (header["format"], header["format_version"]) == ("skdec.DECClustering", 1)
    assert header["parameters"]["hidden_dims"] == {"tuple": [16]}


# --- Devices ---


def test_device_is_that_of_the_model_or_the_one_given(fitted, saved, crafted):
    assert DECClustering.load(saved, device="cpu").device == "cpu"
    header, arrays = parts(saved)
    for missing in ("cuda:63", "meta", "hpu", "none"):
        header["fitted"]["device_"] = missing
        craft(crafted, header, arrays)
        loaded = DECClustering.load(crafted)
        assert (loaded.device, loaded.device_) == ("auto", "cpu")
        assert_same_outputs(loaded, fitted)
        with pytest.raises(ValueError, match=f"'device' parameter.*{missing}"):
            DECClustering.load(saved, device=missing)


# --- What load refuses ---


def parts(path):
    """Header and arrays of a file."""
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["skdec"])
    return header, {k: v.copy() for k, v in safetensors.numpy.load_file(path).items()}


def craft(path, header, arrays):
    """A file with a right checksum, whatever the rest of it."""
    try:
        header = {**header, "sha256": _persistence._digest(header, arrays)}
    except (TypeError, ValueError, RecursionError):
        pass  # a header that has no checksum
    write(path, json.dumps(header, sort_keys=True), arrays)


def write(path, text, arrays):
    path.write_bytes(safetensors.numpy.save(arrays, {"skdec": text}))


def load_or_refuse(path):
    """The model, which has to work, or the one documented error."""
    try:
        model = DECClustering.load(path)
    except ValueError as error:
        assert type(error) is ValueError
        assert str(error).startswith(f"Cannot load {str(path)!r} as DECClustering: ")
        return None
    assert all(np.isfinite(result).all() for result in outputs(model, X[:3]))
    return model


def test_untouched_parts_make_a_file_that_loads(saved, crafted, fitted):
    craft(crafted, *parts(saved))
    assert crafted.read_bytes() == saved.read_bytes()
    assert_same_outputs(load_or_refuse(crafted), fitted)


@given(st.data())
def test_truncated_or_prolonged_file_is_refused(saved, crafted, data):
    whole = saved.read_bytes()
    n_header = 8 + int.from_bytes(whole[:8], "little")
    special = st.sampled_from([0, 1, 7, 8, 9, n_header - 1, n_header, n_header + 1, len(whole) - 1])
    cut = data.draw(special | st.integers(0, len(whole) - 1))
    crafted.write_bytes(whole[:cut])
    assert load_or_refuse(crafted) is None
    crafted.write_bytes(whole + data.draw(st.binary(min_size=1)))
    assert load_or_refuse(crafted) is None


@given(st.data())
@settings(max_examples=200)
def test_no_flipped_bit_is_taken(saved, crafted, data):
    damaged = bytearray(saved.read_bytes())
    n_header = 8 + int.from_bytes(damaged[:8], "little")
    place = data.draw(
        st.integers(0, 7) | st.integers(8, n_header - 1) | st.integers(n_header, len(damaged) - 1)
    )
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    crafted.write_bytes(damaged)
    assert load_or_refuse(crafted) is None


def test_other_digits_for_the_same_number_are_refused(saved, crafted):
    header, arrays = parts(saved)
    text = json.dumps(header, sort_keys=True)
    assert '"learning_rate": 0.01,' in text
    write(crafted, text.replace('"learning_rate": 0.01,', '"learning_rate": 1e-2,'), arrays)
    with pytest.raises(ValueError, match="damaged or changed"):
        DECClustering.load(crafted)


@given(st.binary(max_size=300))
@example(pickle.dumps({"a": 1}))
@example(b"PK\x03\x04" + bytes(100))
@example((2**63).to_bytes(8, "little") + b"{}")
def test_what_is_no_safetensors_file_is_refused(crafted, content):
    crafted.write_bytes(content)
    assert load_or_refuse(crafted) is None


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"skdec": "{}"}, {"skdec": "[]"}])
def test_foreign_safetensors_file_is_refused(crafted, metadata):
    crafted.write_bytes(safetensors.numpy.save({"weight": np.zeros(3)}, metadata))
    with pytest.raises(ValueError, match="not one that DECClustering.save has written"):
        DECClustering.load(crafted)


def test_foreign_file_is_not_read_beyond_its_header(crafted):
    n_bytes = 2**40  # the file has a hole: no disk holds it, nor any memory
    text = json.dumps({"w": {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}})
    with open(crafted, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text.encode())
        try:
            file.truncate(8 + len(text) + n_bytes)
        except OSError:
            pytest.skip("this file system has no files of that size")
    assert load_or_refuse(crafted) is None
    crafted.unlink()


def test_tensors_of_types_that_numpy_lacks_are_refused(saved, crafted):
    text = json.dumps(
        {
            "__metadata__": {"skdec": json.dumps(parts(saved)[0])},
            "labels_": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        }
    )
    crafted.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(4))
    with pytest.raises(ValueError, match="its tensor 'labels_' is BF16"):
        DECClustering.load(crafted)


def test_newer_format_is_refused_before_anything_else(saved, crafted):
    header, arrays = parts(saved)
    header |= {"format_version": 2, "skdec_version": "9.8.7", "new": 1}
    craft(crafted, header, arrays)
    with pytest.raises(ValueError, match="its format has version 2, written by skdec 9.8.7"):
        DECClustering.load(crafted)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 10_000,
        "NaN",
        "null",
        "\ud7ff\u0000",
        '{"format": "skdec.DECClustering", "format_version": 1e400}',
        '{"format": "skdec.DECClustering", "format_version": -1}',
        '{"format": "skdec.DECClustering", "format_version": ' + "9" * 5000 + "}",
    ],
    ids=range(11),
)
def test_text_that_is_no_header_is_refused(saved, crafted, text):
    write(crafted, text, parts(saved)[1])
    assert load_or_refuse(crafted) is None


@pytest.mark.parametrize(
    "hidden_dims",
    [[10**9, 10**9], [2**62], [2**62, 2**62], [1] * 100_000, [17], [15], [16, 1], [], [0], [-16]],
    ids=range(10),
)
def test_widths_beyond_the_stored_weights_are_refused(saved, crafted, hidden_dims):
    header, arrays = parts(saved)
    header["network"]["hidden_dims"] = {"tuple": hidden_dims}
    craft(crafted, header, arrays)
    assert load_or_refuse(crafted) is None


def test_no_network_is_built_that_is_larger_than_the_file(saved, crafted, monkeypatch):
    header, arrays = parts(saved)
    header["network"]["hidden_dims"] = {"tuple": [10**9, 10**9]}
    craft(crafted, header, arrays)
    monkeypatch.setattr(Architecture, "build", lambda *args, **kwargs: pytest.fail("built"))
    with pytest.raises(ValueError, match="263 weights are too few for its 'hidden_dims'"):
        DECClustering.load(crafted)


def test_empty_tensors_of_absurd_shape_are_refused(saved, crafted):
    header, arrays = parts(saved)
    for name in ("offset", "cluster_centers_", "labels_", "autoencoder_.encoder.0.0.weight"):
        shape = (0, 2**40) if arrays[name].ndim == 2 else (0,)
        craft(crafted, header, {**arrays, name: np.empty(shape, arrays[name].dtype)})
        assert load_or_refuse(crafted) is None
    for centers in (np.zeros((3, 2**20)), np.zeros((2**12, 2))):
        craft(crafted, header, {**arrays, "cluster_centers_": centers})
        load_or_refuse(crafted)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("parameters", "n_clusters", "8", "'n_clusters' parameter of DECClustering must be"),
        ("parameters", "learning_rate", -0.1, "'learning_rate' parameter of DECClustering"),
        ("parameters", "n_jobs", 2, "unknown parameter.* 'n_jobs'"),
        ("parameters", "init", {"array": "parameters.init"}, "value of unknown type"),
        ("parameters", "init", {"array": "labels_"}, "value of unknown type"),
        ("parameters", "memory", "/tmp/other", "names a place as 'memory'"),
        ("parameters", "checkpoint", "/tmp/other", "names a place as 'checkpoint'"),
        ("parameters", "autoencoder", "os.system", "'autoencoder' parameter"),
        ("network", "activation", "system", "'activation' parameter"),
        ("network", "weight_init", -1.0, "'weight_init' parameter"),
        ("network", "batch_norm", 0, "'batch_norm' is of the wrong type"),
        ("network", "autoencoder", "os.system", "the user's own, 'os.system'"),
        ("prediction", "alpha", 0.0, "'alpha' parameter"),
        ("prediction", "scale", {"float": "nan"}, "'scale' is nan"),
        ("fitted", "n_iter_", True, "'n_iter_' is of the wrong type"),
        ("fitted", "kl_curve_", [1.0, 2], "'kl_curve_' is of the wrong type"),
        ("fitted", "init_scores_", {"dict": {"a": None}}, "'init_scores_' is of the wrong type"),
        ("fitted", "labels_", [0], "entries of 'fitted': missing none, unknown 'labels_'"),
        ("interface", "feature_names", ["a"], "1 names for 5 features"),
        ("interface", "feature_names", [1, 2, 3, 4, 5], "'feature_names' is of the wrong type"),
        ("interface", "transform_output", "arrow", "'transform_output' is 'arrow'"),
    ],
)
def test_wrong_entries_are_refused_by_name(saved, crafted, section, name, value, message):
    header, arrays = parts(saved)
    header[section][name] = value
    craft(crafted, header, arrays)
    with pytest.raises(ValueError, match=f"^Cannot load .*{message}"):
        DECClustering.load(crafted)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**62, 2**64, 10**400])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["auto", "cpu", "cuda", "meta", "dec", "\ud800", "\0", "float"])
    | st.sampled_from([{"float": "inf"}, {"float": 1}, {"array": "labels_"}, {"tuple": None}]),
    lambda items: (
        st.lists(items, max_size=3)
        | st.lists(items, max_size=3).map(lambda value: {"tuple": value})
        | st.dictionaries(st.text(max_size=3), items, max_size=2).map(lambda value: {"dict": value})
        | st.dictionaries(st.sampled_from(["float", "tuple", "dict", "x"]), items, max_size=2)
    ),
    max_leaves=4,
)


def places(value, container=None, key=None):
    """Every place in a header, as (container, key); of lists only the beginnings."""
    if container is not None:
        yield container, key
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 2))
    for key in keys if isinstance(value, dict | list) else ():
        if isinstance(value[key], dict | list):
            yield from places(value[key], value, key)
        else:
            yield value, key


@given(st.data())
@settings(max_examples=200)
def test_header_with_junk_is_refused_or_gives_a_valid_model(saved, crafted, data):
    header, arrays = parts(saved)
    container, key = data.draw(st.sampled_from(list(places(header))))
    if data.draw(st.booleans()):
        container[key] = data.draw(JUNK)
    elif data.draw(st.booleans()) and isinstance(container, dict):
        container[data.draw(st.text(max_size=5))] = data.draw(JUNK)
    else:
        del container[key]
    craft(crafted, header, arrays)
    load_or_refuse(crafted)


DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
CHANGES = {
    "reshaped": lambda array: array.reshape(-1, 1, 1),
    "flat": lambda array: array.reshape(-1),
    "transposed": lambda array: np.ascontiguousarray(array.T),
    "shorter": lambda array: array[:-1].copy(),
    "longer": lambda array: np.concatenate([array, array]),
    "empty": lambda array: array[:0].copy(),
    "scalar": lambda array: array.reshape(-1)[:1].reshape(()),
    "negative": lambda array: -1 - np.abs(array),
    "huge": lambda array: array + np.array(2**31 - 9, array.dtype),
    "nan": lambda array: np.full(array.shape, np.nan, np.float32),
    "infinite": lambda array: np.full(array.shape, np.inf, np.float64),
} | {dtype: lambda array, dtype=dtype: array.astype(dtype) for dtype in DTYPES}


@given(st.data())
@settings(max_examples=200)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_other_tensors_are_refused_or_give_a_valid_model(saved, crafted, data):
    header, arrays = parts(saved)
    name = data.draw(st.sampled_from(sorted(arrays)))
    action = data.draw(st.sampled_from(["drop", "rename", "add", *CHANGES]))
    if action in CHANGES:
        before, arrays[name] = arrays[name], CHANGES[action](arrays[name])
        same = before.dtype == arrays[name].dtype and before.shape == arrays[name].shape
    else:
        same, other = False, data.draw(st.text("abw._/", max_size=5) | st.just(name + "x"))
        arrays[other] = arrays[name] if action == "add" else arrays.pop(name)
    if action == "drop":
        del arrays[other]
    craft(crafted, header, arrays)
    model = load_or_refuse(crafted)
    free = {"labels_", "cluster_centers_"}  # any number of rows, any number of clusters
    assert model is None or same or name in free and action in {"shorter", "longer", *DTYPES}


# --- skops ---


@pytest.mark.parametrize("model", [quick(), quick(init=X[:3] + 1.0, batch_norm=True)])
def test_skops_trusts_nothing_but_the_class(model):
    frame = pd.DataFrame(X, columns=list("abcde"))
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), model).fit(frame)
    for estimator, rows in ((pipeline, frame), (pipeline[-1], pipeline[:-1].transform(frame))):
        stored = skops.io.dumps(estimator)
        trusted = skops.io.get_untrusted_types(data=stored)
        assert trusted == ["skdec._estimator.DECClustering"]
        loaded = skops.io.loads(stored, trusted=trusted)
        for method in ("predict", "predict_proba", "transform"):
            expected = getattr(estimator, method)(rows)
            np.testing.assert_array_equal(getattr(loaded, method)(rows), expected)
        np.testing.assert_array_equal(loaded.inverse_transform(Z), estimator.inverse_transform(Z))


# --- A file of an earlier day ---


def write_kept_model():
    """Make the kept model of this format version and what it computes."""
    init = np.array([[0.0, 0.0, 0.0], [4.0, 4.0, 4.0]])
    rows = np.random.default_rng(0).normal(size=(40, 3)) + init[np.arange(40) % 2]
    model = quick(2, hidden_dims=(4,), init=init, tol=2, pretraining="layer-wise")
    model.fit(pd.DataFrame(rows, columns=["length", "width", "height"]))
    model.save(KEPT.with_suffix(".safetensors"))
    labels, Q, embedded, decoded = outputs(model, rows[:8])
    np.savez_compressed(
        KEPT.with_suffix(".npz"), X=rows[:8], labels=labels, Q=Q, Z=embedded, decoded=decoded
    )


def test_kept_model_still_loads_and_computes_the_same():
    """The file was made once, by this command in the root of the repository:

    PYTHONPATH=tests python -c "import test_persistence; test_persistence.write_kept_model()"

    A new one is made, beside the old ones, with a new version of the format alone. Outputs are
    compared to four digits, because other processors and versions of torch round differently.
    """
    model = DECClustering.load(KEPT.with_suffix(".safetensors"))
    with np.load(KEPT.with_suffix(".npz")) as kept:
        labels, Q, embedded, decoded = outputs(model, kept["X"])
        np.testing.assert_array_equal(labels, kept["labels"])
        np.testing.assert_allclose(Q, kept["Q"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(embedded, kept["Z"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(decoded, kept["decoded"], rtol=1e-4, atol=1e-5)
    assert model.hidden_dims == (4,) and model.init.shape == (2, 3) and model.tol == 2
    assert list(model.feature_names_in_) == ["length", "width", "height"]
    assert model.n_iter_ == 1 and model.labels_.shape == (40,)
    assert model.n_clusters_ == 2 and model.n_clusters_scores_ == []  # the file has no such entry
