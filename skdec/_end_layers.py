"""Changes of a network's input or output that a linear layer can take back into its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ._components import Components
from ._distributed import Alone
from ._neighborhoods import MOST_FEATURES, Neighborhoods
from ._scaled_rows import ScaledRows, numpy_rows

# The network is trained with neighbours on so many principal components of wider inputs, or on more
# if neighbours are sought in more: it takes less time, and what is learned is more alike from seed
# to seed and as right. With only the 50 that neighbours mostly are sought in, it is less so. The
# decoder is trained to give these: half of its weights would be for the others, of which an
# embedding tells next to nothing.
_TRAINED_COMPONENTS = MOST_FEATURES


def first_linear(network: nn.Module) -> nn.Linear | None:
    """The trained linear layer that takes the network's input, or None."""
    return _trained_linear(network, 0)


def _trained_linear(network: nn.Module, end: int) -> nn.Linear | None:
    _, layer = _at_end(network, end)
    weights = dict(layer.named_parameters())
    # A weight that is made of others, by `weight_norm` say, cannot be written to.
    is_linear = isinstance(layer, nn.Linear) and weights.keys() == {"weight", "bias"}
    return layer if is_linear and all(w.requires_grad for w in weights.values()) else None


def _at_end(network: nn.Module, end: int) -> tuple[nn.Sequential | None, nn.Module]:
    """The layer at an end, 0 or -1, of the network, and the sequence that it is in."""
    sequence, layer = None, network
    while isinstance(layer, nn.Sequential) and len(layer):
        sequence, layer = layer, layer[end]
    return sequence, layer


@contextmanager
def _replaced(network: nn.Module, end: int, inner: nn.Module) -> Iterator[nn.Module]:
    """The network with another layer at an end, for a while."""
    sequence, layer = _at_end(network, end)
    if sequence is None:
        yield inner
    else:
        sequence[end] = inner
        yield network
        sequence[end] = layer


def _has_leading_components(hoods: Neighborhoods) -> bool:
    return hoods.axes is not None and len(hoods.axes) >= _TRAINED_COMPONENTS


@contextmanager
def on_leading_components(
    network: nn.Module, X: Tensor | ScaledRows, hoods: Neighborhoods
) -> Iterator[tuple[nn.Module, Tensor | ScaledRows]]:
    """Network and rows as those of the leading components of the input, where that is wider."""
    mean, axes = hoods.mean, hoods.axes
    if first_linear(network) is None or not _has_leading_components(hoods):
        yield network, X
        return
    x = Components(lambda rows: numpy_rows(X, rows), mean, axes).of(np.arange(len(X)))
    with on_components(network, mean, axes) as network:
        yield network, torch.from_numpy(x).to(X.device)


@contextmanager
def on_components(network: nn.Module, mean: np.ndarray, axes: np.ndarray) -> Iterator[nn.Module]:
    """The same network as one of principal components of its input.

    `mean`, of shape (n_features,), and the orthonormal `axes`, of shape (n_components, n_features),
    give the components. In the end the first linear layer of `network` makes them as well.
    """
    _, layer = _at_end(network, 0)
    center, directions = _on_device_of(layer, mean, axes)
    with torch.no_grad():
        inner = _linear(layer.weight @ directions.mT, layer.bias + layer.weight @ center)
    with _replaced(network, 0, inner) as network:
        yield network
    with torch.no_grad():
        layer.weight.copy_(inner.weight @ directions)
        layer.bias.copy_(inner.bias - layer.weight @ center)


def last_linear(network: nn.Module) -> nn.Linear | None:
    """The trained linear layer that gives the network's output, or None."""
    return _trained_linear(network, -1)


@contextmanager
def without_last_linear(network: nn.Module) -> Iterator[tuple[nn.Module, nn.Linear]]:
    """What gives the input of the network's `last_linear`, in its place for a while; that layer."""
    layer = last_linear(network)
    with _replaced(network, -1, nn.Identity()) as hidden:
        yield hidden, layer


class Target(NamedTuple):
    """What a decoder is trained to give: rows of `x`, `share` of the features of the input.

    `left` is what no more than these can give of each row: it adds to its mean squared error.
    """

    x: Tensor | ScaledRows
    share: float = 1.0
    left: Tensor | None = None


@contextmanager
def to_leading_components(
    network: nn.Module, X: Tensor | ScaledRows, hoods: Neighborhoods
) -> Iterator[tuple[nn.Module, Target]]:
    """A decoder, and its target, as of the leading components of the rows, where these are wider.

    In the end the last linear layer of `network` gives the rows that have these components. As the
    axes are orthonormal, the squared error of the components and what they leave of a row add up
    to that of the row.
    """
    layer = last_linear(network)
    if layer is None or not _has_leading_components(hoods):
        yield network, Target(X)
        return
    mean, axes = hoods.mean, hoods.axes
    x, left = Components(lambda rows: numpy_rows(X, rows), mean, axes).split(np.arange(len(X)))
    center, directions = _on_device_of(layer, mean, axes)
    with torch.no_grad():
        inner = _linear(directions @ layer.weight, directions @ (layer.bias - center))
    target = [torch.from_numpy(values).to(X.device) for values in (x, left)]
    with _replaced(network, -1, inner) as network:
        yield network, Target(target[0], len(axes) / len(mean), target[1])
    with torch.no_grad():
        layer.weight.copy_(directions.mT @ inner.weight)
        layer.bias.copy_(directions.mT @ inner.bias + center)


def _on_device_of(layer: nn.Linear, *arrays: np.ndarray) -> list[Tensor]:
    return [torch.tensor(values, device=layer.weight.device) for values in arrays]


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer with these weights."""
    n_out, n_in = weight.shape
    layer = skip_init(nn.Linear, n_in, n_out, device=weight.device, dtype=weight.dtype)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


class Units(NamedTuple):
    """Mean of an embedding, and the root of its mean squared deviation, in all dimensions alike."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, Z: Tensor, group: Alone) -> Units:
        n_values = group.sum(Z.numel())
        mean = group.sum(Z.sum(dim=0)) * Z.shape[1] / n_values
        scale = (group.sum((Z - mean).square().sum()) / n_values).sqrt()
        return cls(mean, torch.where(scale > 0, scale, 1.0))

    def enter(self, layer: nn.Linear) -> None:
        """Let a layer that takes an embedding take it in these units."""
        layer.bias += layer.weight @ self.mean
        layer.weight *= self.scale

    def leave(self, layer: nn.Linear) -> None:
        """The way back."""
        layer.weight /= self.scale
        layer.bias -= layer.weight @ self.mean
