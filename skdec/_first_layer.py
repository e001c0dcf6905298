"""Changes of a network's input that its first linear layer can take back into its weights."""

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
# to seed and as right. With only the 50 that neighbours mostly are sought in, it is less so.
_TRAINED_COMPONENTS = MOST_FEATURES


def first_linear(network: nn.Module) -> nn.Linear | None:
    """The trained linear layer that takes the network's input, or None."""
    _, layer = _first(network)
    is_linear = isinstance(layer, nn.Linear) and layer.bias is not None
    return layer if is_linear and all(w.requires_grad for w in layer.parameters()) else None


def _first(network: nn.Module) -> tuple[nn.Sequential | None, nn.Module]:
    """The layer that takes the input, and the sequence that it is the first of."""
    sequence, layer = None, network
    while isinstance(layer, nn.Sequential) and len(layer):
        sequence, layer = layer, layer[0]
    return sequence, layer


@contextmanager
def on_leading_components(
    network: nn.Module, X: Tensor | ScaledRows, hoods: Neighborhoods
) -> Iterator[tuple[nn.Module, Tensor | ScaledRows]]:
    """Network and rows as those of the leading components of the input, where that is wider."""
    mean, axes = hoods.mean, hoods.axes
    if first_linear(network) is None or axes is None or len(axes) < _TRAINED_COMPONENTS:
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
    sequence, layer = _first(network)
    device = layer.weight.device
    center, directions = (torch.tensor(values, device=device) for values in (mean, axes))
    with torch.no_grad():
        inner = _linear(layer.weight @ directions.mT, layer.bias + layer.weight @ center)
    if sequence is None:
        yield inner
    else:
        sequence[0] = inner
        yield network
        sequence[0] = layer
    with torch.no_grad():
        layer.weight.copy_(inner.weight @ directions)
        layer.bias.copy_(inner.bias - layer.weight @ center)


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
