"""What is allowed: parameters, data limits, weights, centres; and no half-written state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from os import PathLike

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ._array_api import to_numpy
from ._networks import ACTIVATIONS
from ._objectives import RECONSTRUCTION_LOSSES

_COUNT = Interval(Integral, 1, None, closed="left")
_COUNT_OR_NONE_AT_ALL = Interval(Integral, 0, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
_OPTIMIZERS = StrOptions({"adam", "sgd"})

PARAMETER_CONSTRAINTS: dict = {
    "n_clusters": [StrOptions({"auto"}), _COUNT],
    "hidden_dims": [StrOptions({"auto"}), "array-like"],
    "embedding_dim": [StrOptions({"auto"}), _COUNT],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "batch_norm": ["boolean"],
    "weight_init": [StrOptions({"fan_in", "he"}), _POSITIVE],
    "autoencoder": [callable, None],
    "scaling": [StrOptions({"auto", "center", "norm", "range"}), None],
    "pretraining": [StrOptions({"neighbors", "end-to-end", "layer-wise"})],
    "pretrain_steps": [StrOptions({"auto"}), _COUNT],
    "layerwise_steps": [StrOptions({"auto"}), _COUNT],
    "neighbor_steps": [StrOptions({"auto"}), _COUNT],
    "n_neighbors": [StrOptions({"auto"}), _COUNT],
    "reconstruction_loss": [StrOptions(set(RECONSTRUCTION_LOSSES))],
    "corruption": [Interval(Real, 0, 1, closed="left")],
    "pretrain_optimizer": [StrOptions({"muon", "adam", "sgd"})],
    "pretrain_learning_rate": [_POSITIVE],
    "neighbor_learning_rate": [_POSITIVE],
    "pretrain_momentum": [Interval(Real, 0, 1, closed="left")],
    "pretrain_decay": [StrOptions({"linear", "cosine"}), _COUNT, None],
    "init": [StrOptions({"auto", "k-means++", "random"}), callable, "array-like"],
    "n_init": [_COUNT],
    "alpha": [Interval(Real, 1e-6, 1e6, closed="both")],
    "target_distribution": [StrOptions({"dec"}), callable],
    "clustering_weight": [_POSITIVE],
    "reconstruction_weight": [_NOT_NEGATIVE],
    "optimizer": [_OPTIMIZERS],
    "learning_rate": [_POSITIVE],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "batch_size": [_COUNT],
    "update_interval": [StrOptions({"auto"}), _COUNT],
    "max_iter": [_COUNT_OR_NONE_AT_ALL],
    "tol": [_NOT_NEGATIVE],
    "device": [str],
    "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    "memory": [str, HasMethods("cache"), None],
    "checkpoint": [str, PathLike, None],
    "checkpoint_interval": [_NOT_NEGATIVE],
    "accept_sparse": ["boolean"],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
    "distributed": ["boolean"],
}


def check_hidden_dims(hidden_dims) -> tuple[int, ...]:
    """`hidden_dims` as a tuple of positive ints, possibly empty (a linear autoencoder)."""
    widths = tuple(hidden_dims)
    if not all(isinstance(w, Integral) and not isinstance(w, bool) and w > 0 for w in widths):
        raise ValueError(
            "The 'hidden_dims' parameter of DECClustering must be 'auto' or positive integers. "
            f"Got {hidden_dims!r} instead."
        )
    return tuple(int(width) for width in widths)


def check_data_limits(n_samples: int, n_clusters: int) -> None:
    """Refuse fewer rows (of positive weight) than clusters, in KMeans' words."""
    if n_samples < n_clusters:
        raise ValueError(f"n_samples={n_samples} should be >= n_clusters={n_clusters}.")


def check_can_be_distributed(parameters: dict[str, object]) -> None:
    """Refuse what needs all rows, or the whole fit, in one place."""
    for name in ("memory", "checkpoint"):
        if parameters[name] is not None:
            raise ValueError(
                f"distributed=True does not work with the parameter {name!r}, which keeps what a "
                f"single process does. Got {name}={parameters[name]!r}; set it to None."
            )
    for name in ("init", "target_distribution"):
        if callable(parameters[name]):
            raise ValueError(
                f"distributed=True does not work with a callable {name!r}: it is given all rows, "
                f"and no rank has them. Got {name}={parameters[name]!r}."
            )


def check_unit_interval(
    extremes: Callable[[], tuple[np.ndarray, np.ndarray]],
    scaling: str | None,
    reconstruction_loss: str,
) -> None:
    """Refuse targets of binary cross-entropy outside [0, 1]; `extremes` are those of the rows."""
    if reconstruction_loss != "bce" or scaling in ("auto", "range"):
        return
    smallest, largest = extremes()
    lowest, highest = smallest.min(), largest.max()
    if scaling is not None or lowest < 0 or highest > 1:
        raise ValueError(
            "reconstruction_loss='bce' needs inputs in [0, 1]: use scaling='auto' or 'range', or "
            f"scaling=None with such data. Got scaling={scaling!r} and data in "
            f"[{lowest}, {highest}]."
        )


def check_sample_weight(sample_weight, X) -> np.ndarray:
    """Weights as a float64 array of shape (n_samples,), finite, >= 0 and not all zero."""
    if sample_weight is None:
        return np.ones(X.shape[0])
    weight = check_array(
        to_numpy(sample_weight),
        ensure_2d=False,
        dtype=np.float64,
        ensure_min_samples=0,
        input_name="sample_weight",
    )
    if weight.ndim == 0:
        weight = np.full(X.shape[0], float(weight))
    if weight.shape != (X.shape[0],):
        raise ValueError(f"sample_weight.shape == {weight.shape}, expected {(X.shape[0],)}!")
    if (weight < 0).any():
        raise ValueError(f"sample_weight must not be negative. Got {weight.min()}.")
    if not weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    with np.errstate(over="ignore"):
        if not np.isfinite(weight.sum()):
            raise ValueError(
                f"sample_weight must have a finite sum. Its largest is {weight.max()}."
            )
    return weight


def check_init_centers(init, n_clusters: int | str, n_features: int) -> np.ndarray:
    """Initial centres in input space, float64 of shape (n_clusters, n_features).

    If `n_clusters` is "auto" they are as many as they like.
    """
    centers = check_array(to_numpy(init), dtype=np.float64, input_name="init")
    n_clusters = len(centers) if n_clusters == "auto" else n_clusters
    if centers.shape != (n_clusters, n_features):
        raise ValueError(
            f"The shape of the initial centers {centers.shape} does not match the number of "
            f"clusters and features {(n_clusters, n_features)}."
        )
    return centers


@contextmanager
def unchanged_on_failure(estimator: BaseEstimator) -> Iterator[None]:
    """Put all attributes of `estimator` back when the body fails or is interrupted."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
