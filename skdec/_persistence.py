"""Fitted models in files that hold numbers and text, never code.

One safetensors file: arrays are its tensors, all else is one JSON text, the header, in its
metadata. The header holds a SHA-256 of itself and of all tensors. That tells damage, not malice:
what passes it is checked as if it were hostile, before anything of its size is built.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import warnings
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from types import UnionType
from typing import Any, get_args, get_origin

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open
from sklearn.utils._param_validation import validate_parameter_constraints

from ._array_api import to_numpy
from ._backend import resolve_device
from ._networks import Architecture, weights_of
from ._validation import PARAMETER_CONSTRAINTS, check_hidden_dims

FORMAT = "skdec.DECClustering"
FORMAT_VERSION = 1
METADATA_KEY = "skdec"
WEIGHTS = "autoencoder_."

# What the header says of the format, and its sections with the types of their entries.
_PREAMBLE = {"format": str, "format_version": int, "skdec_version": str, "sha256": str}
_SECTIONS = {
    "network": {
        "autoencoder": str | None,
        "hidden_dims": tuple[int, ...],
        "activation": str,
        "batch_norm": bool,
        "weight_init": str | float | int,
    },
    "prediction": {"alpha": float | int, "scale": float, "decodes_logits": bool},
    "fitted": {
        "inertia_": float,
        "n_iter_": int,
        "converged_": bool,
        "init_scores_": dict[str, float],
        "n_clusters_scores_": list[float],
        "device_": str,
        "reconstruction_error_": float,
        "pretrain_loss_curve_": list[float],
        "layerwise_loss_curves_": list[list[float]],
        "neighbor_loss_curve_": list[float],
        "kl_curve_": list[float],
        "label_change_curve_": list[float],
    },
    "interface": {"feature_names": list[str] | None, "transform_output": str | None},
}
# Entries that the first files of this version lack.
_ADDED = {"fitted": {"n_clusters_scores_": []}}
# Parameters that name places on one machine: no file keeps them.
_PLACES = ("memory", "checkpoint")
# Attributes that belong to the program around the model, by the methods that set them.
_SURROUNDINGS = {"_skl_callbacks": "set_callbacks", "_metadata_request": "set_fit_request"}
_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}


def save(model, path) -> None:
    """Write the fitted `model` to `path`, whole or not at all."""
    path = os.path.realpath(os.fsdecode(path))
    try:
        header, arrays = _pack(model)
        _unpack(type(model), header, arrays, model.autoencoder)  # what is saved can be loaded
    except ValueError as error:
        raise ValueError(f"This {type(model).__name__} cannot be saved: {error}.") from error
    for name in _PLACES:
        if getattr(model, name) is not None:
            warnings.warn(
                f"The parameter {name!r} is not saved: it names a place on this machine. The "
                f"loaded model has {name}=None.",
                stacklevel=3,
            )
    for name, method in _SURROUNDINGS.items():
        if hasattr(model, name):
            warnings.warn(
                f"What {method} has set is not saved: set it again after loading.", stacklevel=3
            )
    header["sha256"] = _digest(header, arrays)
    _write(path, safetensors.numpy.save(arrays, {METADATA_KEY: _dump(header)}))


def load(cls, path, autoencoder: Callable | None, device: str | None):
    """The model in the file at `path`, as an instance of `cls`."""
    path = os.fsdecode(path)
    resolved = None if device is None else str(resolve_device(device))
    with open(path, "rb"):
        pass  # safetensors' own errors for missing files and folders differ from the usual ones
    try:
        header, arrays = _read(path)
        parameters, state = _unpack(cls, header, arrays, autoencoder)
    except (ValueError, RecursionError, SafetensorError) as error:
        raise ValueError(f"Cannot load {path!r} as {cls.__name__}: {error}.") from error
    if resolved is not None:
        parameters["device"], state["device_"] = device, resolved
    model = cls(**parameters)
    model.__setstate__(state)
    return model


# --- From a model to what a file holds ---


def _pack(model) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a fitted model; refuses what they cannot keep."""
    state = {k: v for k, v in model.__getstate__().items() if k not in _SURROUNDINGS}
    state.pop("_tensor_devices", None)  # arrays in a file are numpy's
    parameters = {name: state.pop(name, None) for name in model.get_params(deep=False)}
    missing = PARAMETER_CONSTRAINTS.keys() - parameters.keys()
    if missing:
        raise ValueError(f"its class has no parameter(s) {_some(missing)}, which a file needs")
    architecture = Architecture(**state.pop("_architecture"))
    arrays = {WEIGHTS + name: value for name, value in state.pop("autoencoder_").items()}
    for name in ("labels_", "cluster_centers_", "_offset"):
        arrays[name.removeprefix("_")] = to_numpy(state.pop(name))
    names = state.pop("feature_names_in_", None)
    sections = {
        "network": _network_entries(architecture, parameters["autoencoder"]),
        "prediction": {name: state.pop(f"_{name}") for name in _SECTIONS["prediction"]},
        "fitted": {name: state.pop(name) for name in _SECTIONS["fitted"] if name in state},
        "interface": {
            "feature_names": None if names is None else names.tolist(),
            "transform_output": state.pop("_sklearn_output_config", {}).get("transform"),
        },
    }
    unknown = state.keys() - {"n_features_in_", "hidden_dims_"}  # told by arrays and network
    if unknown:
        raise ValueError(f"a file cannot keep its attribute(s) {_some(unknown)}")
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "skdec_version": _version(),
        "parameters": _pack_parameters(parameters, arrays),
    }
    for section, entries in sections.items():
        header[section] = {name: _encode(value) for name, value in entries.items()}
    for name, array in arrays.items():
        if array.dtype not in _DTYPES.values():
            raise ValueError(f"a file cannot keep {name!r}, which is {array.dtype}")
    return header, arrays


def _network_entries(architecture: Architecture, autoencoder) -> dict[str, Any]:
    """All that builds the network again; of a user's `autoencoder` only what it is called."""
    factory = architecture.factory
    if autoencoder != factory:
        raise ValueError("its parameter 'autoencoder' is not the one that it was fitted with")
    entries = {name: getattr(architecture, name, None) for name in _SECTIONS["network"]}
    if factory is not None:
        entries["autoencoder"] = getattr(factory, "__qualname__", type(factory).__qualname__)
    return entries


def _pack_parameters(parameters: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Constructor parameters for the header; those that are arrays go to `arrays`."""
    packed = {}
    for name, value in parameters.items():
        if name == "autoencoder" or name in _PLACES:
            packed[name] = None
        elif isinstance(value, np.ndarray) and value.ndim and _native(value) in _DTYPES.values():
            packed[name] = _array_entry(name)
            arrays[f"parameters.{name}"] = np.ascontiguousarray(value, dtype=_native(value))
        else:
            try:
                packed[name] = _encode(value)
            except ValueError as error:
                raise ValueError(
                    f"a file cannot keep its parameter {name!r}, of type {type(value).__name__}; "
                    f"set it to a value that is numbers and text, set_params({name}=...), which "
                    "leaves the fitted model as it is"
                ) from error
    return packed


# --- And back, with every check ---


def _unpack(cls, header, arrays, autoencoder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Constructor parameters and fitted state; `header` and `arrays` are left as they are."""
    arrays = dict(arrays)
    parameters = _unpack_parameters(cls, header["parameters"], arrays)
    parameters["autoencoder"] = autoencoder
    sections = {name: _unpack_section(name, header[name]) for name in _SECTIONS}
    offset = _take(arrays, "offset", np.float64, ndim=1)
    centers = _take(arrays, "cluster_centers_", np.float32, np.float64, ndim=2)
    labels = _take(arrays, "labels_", np.int32, ndim=1)
    if labels.min() < 0 or labels.max() >= len(centers):
        raise ValueError("its 'labels_' are not numbers of clusters")
    _check_prediction(**sections["prediction"])
    architecture = _architecture(sections["network"], len(offset), centers.shape[1], autoencoder)
    prefixed = [name for name in arrays if name.startswith(WEIGHTS)]
    weights = {name.removeprefix(WEIGHTS): arrays.pop(name) for name in prefixed}
    _check_names(arrays, (), "tensors")
    _check_weights(weights, architecture)
    state = {
        **sections["fitted"],
        **_interface_state(len(offset), **sections["interface"]),
        **{f"_{name}": value for name, value in sections["prediction"].items()},
        "labels_": labels,
        "cluster_centers_": centers,
        "hidden_dims_": architecture.hidden_dims,
        "autoencoder_": weights,
        "_architecture": architecture._asdict(),
        "_offset": offset,
    }
    return parameters, state


def _unpack_parameters(cls, packed: dict[str, Any], arrays) -> dict[str, Any]:
    """Constructor parameters that `cls` allows; those that are arrays leave `arrays`."""
    unknown = packed.keys() - set(cls._get_param_names())
    if unknown:
        raise ValueError(f"it has the unknown parameter(s) {_some(unknown)}")
    parameters = {}
    for name, value in packed.items():
        if value == _array_entry(name) and f"parameters.{name}" in arrays:
            parameters[name] = arrays.pop(f"parameters.{name}")
        else:
            parameters[name] = _decode(value)
    validate_parameter_constraints(cls._parameter_constraints, parameters, caller_name=cls.__name__)
    for name in _PLACES:
        if parameters.get(name) is not None:
            raise ValueError(f"it names a place as {name!r}, which a saved model never does")
    return parameters


def _unpack_section(section: str, packed: dict[str, Any]) -> dict[str, Any]:
    """The entries of a section of the header, all of them and of the right types."""
    kinds, packed = _SECTIONS[section], {**_ADDED.get(section, {}), **packed}
    _check_names(packed, kinds, f"entries of {section!r}")
    entries = {name: _decode(value) for name, value in packed.items()}
    for name, value in entries.items():
        if not _is(value, kinds[name]):
            raise ValueError(f"its {name!r} is of the wrong type")
    return entries


def _architecture(network, n_features: int, embedding_dim: int, autoencoder) -> Architecture:
    """The network's architecture, with the user's `autoencoder` if and only if it had one."""
    settings = dict(network)
    name = settings.pop("autoencoder")
    if name is not None and autoencoder is None:
        raise ValueError(
            f"its network is the user's own, {name!r}, whose code is not in the file; give it "
            "again as load(path, autoencoder=...)"
        )
    if name is None and autoencoder is not None:
        raise ValueError("its network is the built-in one, but an 'autoencoder' was given")
    limited = {name: settings[name] for name in ("activation", "weight_init")}
    validate_parameter_constraints(PARAMETER_CONSTRAINTS, limited, caller_name="the network")
    settings["hidden_dims"] = check_hidden_dims(settings["hidden_dims"])
    return Architecture(n_features, embedding_dim, factory=autoencoder, **settings)


def _interface_state(n_features: int, feature_names, transform_output) -> dict[str, Any]:
    """Attributes by which scikit-learn knows columns and output containers."""
    state = {"n_features_in_": n_features}
    if feature_names is not None:
        if len(feature_names) != n_features:
            raise ValueError(f"it has {len(feature_names)} names for {n_features} features")
        state["feature_names_in_"] = np.array(feature_names, dtype=object)
    if transform_output is not None:
        if transform_output not in ("default", "pandas", "polars"):
            raise ValueError(f"its 'transform_output' is {transform_output!r}")
        state["_sklearn_output_config"] = {"transform": transform_output}
    return state


def _take(arrays: dict[str, np.ndarray], name: str, *dtypes, ndim: int) -> np.ndarray:
    """An array, out of `arrays`, if it has such a dtype and finite values."""
    if name not in arrays:
        raise ValueError(f"its tensor {name!r} is missing")
    array = arrays.pop(name)
    if array.dtype not in dtypes or array.ndim != ndim or not array.size:
        raise ValueError(f"its tensor {name!r} is {array.dtype} of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"its tensor {name!r} is not finite")
    return array


def _check_prediction(alpha, scale, decodes_logits) -> None:
    validate_parameter_constraints(PARAMETER_CONSTRAINTS, {"alpha": alpha}, "the model")
    if not 0 < scale < math.inf:
        raise ValueError(f"its 'scale' is {scale}")


def _check_weights(weights: dict[str, np.ndarray], architecture: Architecture) -> None:
    """The weights are finite and those of the network, which is not built if it is larger."""
    built_in = architecture.factory is None
    widths = [architecture.n_features, *architecture.hidden_dims, architecture.embedding_dim]
    n_weights = sum((n_in + 1) * n_out + (n_out + 1) * n_in for n_in, n_out in pairwise(widths))
    n_stored = sum(value.size for value in weights.values())
    if built_in and (len(widths) > len(weights) or n_weights > n_stored):
        raise ValueError(f"its {n_stored} weights are too few for its 'hidden_dims'")
    module = architecture.build(seed=0)
    expected = weights_of(module)
    _check_names(weights, expected, "weights of its network")
    # Buffers of a user's network, such as masks, may be infinite.
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, value in expected.items():
        found = weights[name]
        if (found.dtype, found.shape) != (value.dtype, value.shape):
            raise ValueError(
                f"its weights {name!r} are {found.dtype} of shape {found.shape}, those of its "
                f"network {value.dtype} of shape {value.shape}"
            )
        if (built_in or name in parameters) and not np.isfinite(found).all():
            raise ValueError(f"its weights {name!r} are not finite")


def _check_names(found, expected, what: str) -> None:
    found, expected = set(found), set(expected)
    if found != expected:
        raise ValueError(
            f"{what}: missing {_some(expected - found)}, unknown {_some(found - expected)}"
        )


def _some(names) -> str:
    """The first few names, for a message."""
    shown = [repr(name) for name in sorted(names)]
    return ", ".join(shown[:3] + ["..."] * (len(shown) > 3)) or "none"


def _is(value, kind) -> bool:
    """Whether `value` and its items are of a type, and of no subclass: True is no int."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is None:
        return type(value) is kind
    if origin is UnionType:
        return any(_is(value, one) for one in args)
    if type(value) is not origin:
        return False
    if origin is dict:
        return all(_is(item, args[1]) for item in value.values())
    return all(_is(item, args[0]) for item in value)


# --- The header ---


def _array_entry(name: str) -> dict[str, str]:
    """What stands in the header for a parameter that is an array."""
    return {"array": f"parameters.{name}"}


def _native(array: np.ndarray) -> np.dtype:
    return array.dtype.newbyteorder("=")


def _encode(value):
    """`value` in JSON. What JSON has no word for is a dict with one entry: its type."""
    if isinstance(value, np.generic):
        value = value.item()
    kind = type(value)
    if kind is float and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or kind in (bool, float, str) or (kind is int and value.bit_length() < 64):
        return value
    if kind is list:
        return [_encode(item) for item in value]
    if kind is tuple:
        return {"tuple": [_encode(item) for item in value]}
    if kind is dict and all(type(key) is str for key in value):
        return {"dict": {key: _encode(item) for key, item in value.items()}}
    raise ValueError(f"a file cannot keep {value!r}")


def _decode(value):
    """What `_encode` was given."""
    if type(value) is list:
        return [_decode(item) for item in value]
    if type(value) is not dict:
        return value
    match list(value.items()):
        case [("float", "inf" | "-inf" | "nan" as text)]:
            return float(text)
        case [("tuple", list(items))]:
            return tuple(_decode(item) for item in items)
        case [("dict", dict(items))]:
            return {key: _decode(item) for key, item in items.items()}
    raise ValueError("its header has a value of unknown type")


def _parse(metadata: dict[str, str] | None) -> dict[str, Any]:
    """The header, if it is one of this format and of a version that is known here."""
    foreign = "it is a safetensors file, but not one that DECClustering.save has written"
    if METADATA_KEY not in (metadata or {}):
        raise ValueError(foreign)
    header = json.loads(metadata[METADATA_KEY], parse_int=_int64, parse_constant=_refuse)
    if type(header) is not dict or header.get("format") != FORMAT:
        raise ValueError(foreign)
    version = header.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        writer = str(header.get("skdec_version"))[:20]
        raise ValueError(
            f"its format has version {version}, written by skdec {writer}; skdec {_version()} "
            f"reads up to version {FORMAT_VERSION}"
        )
    kinds = {**_PREAMBLE, "parameters": dict, **dict.fromkeys(_SECTIONS, dict)}
    _check_names(header, kinds, "entries of its header")
    for name, kind in kinds.items():
        if type(header[name]) is not kind:
            raise ValueError(f"its {name!r} is of the wrong type")
    if version != FORMAT_VERSION:
        raise ValueError(f"its format has version {version}, which there never was")
    return header


def _int64(digits: str) -> int:
    value = int(digits) if len(digits) <= 20 else 2**64
    return value if value.bit_length() < 64 else _refuse(digits)


def _refuse(text: str):
    raise ValueError(f"its header has the number {text[:24]}")


def _dump(header: dict[str, Any]) -> str:
    return json.dumps(header, sort_keys=True, allow_nan=False)


def _digest(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of all that is in a file, whatever the order in which it lies there."""
    rest = {name: value for name, value in header.items() if name != "sha256"}
    digest = hashlib.sha256(_dump(rest).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _version() -> str:
    from . import __version__  # not yet there when this module is imported

    return __version__


# --- The file ---


def _read(path: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file that is undamaged."""
    with safe_open(path, framework="numpy") as file:
        header = _parse(file.metadata())
        arrays = {}
        for name in file.keys():  # noqa: SIM118, it is no dict
            dtype = file.get_slice(name).get_dtype()
            if dtype not in _DTYPES:
                raise ValueError(f"its tensor {name!r} is {dtype}")
            arrays[name] = np.array(file.get_tensor(name))  # of its own, not of the file
        # Other digits may stand for the same number: the text itself has to be as it was written.
        as_written = _dump(header) == file.metadata()[METADATA_KEY]
    if not as_written or _digest(header, arrays) != header["sha256"]:
        raise ValueError("its checksum is wrong: the file was damaged or changed")
    return header, arrays


def _write(path: str, data: bytes) -> None:
    """Put a file with `data` at `path`; a failure leaves there what was there."""
    temporary = os.path.join(os.path.dirname(path), f".skdec-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(temporary)
        raise
