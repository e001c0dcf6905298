"""The border to other array libraries: what comes in becomes numpy, what goes out is as X was.

With ``sklearn.config_context(array_api_dispatch=True)`` results come back in the library of the
input and on its device. Everything in between is numpy and, while training, torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn import get_config

from ._backend import available

try:
    from sklearn.utils._array_api import (
        _convert_to_numpy,
        check_same_namespace,
        get_namespace_and_device,
        move_to,
    )

    DISPATCHES = True
except ImportError:  # before scikit-learn 1.9: tensors come in, numpy goes out
    DISPATCHES = False


def to_numpy(array):
    """An array of another library as numpy array on the CPU; anything else as it is."""
    if isinstance(array, torch.Tensor):
        return array.cpu().numpy()
    if DISPATCHES and hasattr(array, "__array_namespace__") and not isinstance(array, np.ndarray):
        return _convert_to_numpy(array, array.__array_namespace__())
    return array


def take(X) -> tuple[object, Callable]:
    """`to_numpy(X)`, and what gives a numpy array the library and the device of `X`."""
    if not (DISPATCHES and get_config()["array_api_dispatch"]):
        return to_numpy(X), _as_it_is
    xp, is_array, device = get_namespace_and_device(X)
    return to_numpy(X), partial(move_to, xp=xp, device=device) if is_array else _as_it_is


def _as_it_is(result):
    return result


def check_same_library(X, estimator, method: str) -> None:
    """Refuse an `X` of another library or device than that of `fit`, in scikit-learn's words."""
    if DISPATCHES:
        check_same_namespace(X, estimator, attribute="cluster_centers_", method=method)


def pack(state: dict) -> dict:
    """`state` with numpy arrays for tensors, and a note of their devices."""
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        return state
    arrays = {name: to_numpy(tensor) for name, tensor in tensors.items()}
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    return {**state, **arrays, "_tensor_devices": devices}


def unpack(state: dict) -> dict:
    """What was packed; tensors of a device that this machine lacks are on the CPU."""
    state = dict(state)
    for name, device in state.pop("_tensor_devices", {}).items():
        state[name] = torch.tensor(state[name], device=available(device))
    return state
