"""Encoder and decoder modules: tensors in, tensors out, no fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ._backend import LocalRandomness, random_stream

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


# torch multiplies float32 matrices by MKL, which leaves AVX512 unused on other processors than
# Intel's: half of the speed. oneDNN, in torch for its other precisions, uses it on all of them.
_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)

# Products into so many columns are free of what `AlignedLinear` cares for (seen from 12 on).
_MANY_COLUMNS = 64


def auto_hidden_dims(n_rows: int) -> tuple[int, int, int, int]:
    """Encoder widths: one of up to 384, reached from 1,355 rows on, and three of up to 256.

    The paper has 500, 500 and 2,000, several times as many weights. Four narrow layers are
    better than three wide ones, but texts want a wider first one. Multiples of 16 fill the vectors
    of every processor.
    """
    width = 16 * math.ceil(10 * math.sqrt(n_rows) / 16)
    return (min(width, 384), *3 * (min(width, 256),))


def auto_embedding_dim() -> int:
    """The paper's embedding dimension."""
    return 10


class AlignedLinear(nn.Linear):
    """A linear layer that gives a row the same bits wherever it stands in a tile.

    Kernels for products into few columns may add the terms of a row in an order that depends
    on where in memory it starts (seen with AVX2). Rows of a multiple of 32 bytes all start alike:
    zeros fill up those that are not.
    """

    draws_nothing = True

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        n_missing = -self.in_features % 8
        if n_missing and self.out_features < _MANY_COLUMNS:
            x, weight = (nn.functional.pad(rows, (0, n_missing)) for rows in (x, weight))
        return _product(x, weight, self.bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x @ weight.T + bias`."""
    plain = torch.is_grad_enabled() or torch.compiler.is_compiling()  # oneDNN's is neither
    if plain or not _ONEDNN or x.device.type != "cpu" or x.dtype != torch.float32:
        return nn.functional.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class FullyConnectedAutoencoder(nn.Module):
    """The paper's network: n_features - hidden_dims - embedding_dim and its mirror image.

    `encoder` and `decoder` are sequences of as many blocks; encoder block k and decoder block
    -1-k are each other's mirror image, which is what layer-wise pretraining trains in pairs.
    The embedding and the output are linear. The linear weights are yet to be drawn.
    """

    draws_nothing = True

    def __init__(self, n_features, embedding_dim, hidden_dims, activation="relu", batch_norm=False):
        super().__init__()
        widths = [n_features, *hidden_dims, embedding_dim]
        self.encoder = _blocks(widths, activation, batch_norm)
        self.decoder = _blocks(widths[::-1], activation, batch_norm)


def _blocks(widths: list[int], activation: str, batch_norm: bool) -> nn.Sequential:
    blocks = []
    for position, (n_in, n_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layers: list[nn.Module] = [skip_init(AlignedLinear, n_in, n_out, device="cpu")]
        if position < len(widths) - 2:
            if batch_norm:
                layers.append(nn.BatchNorm1d(n_out, device="cpu"))
            layers.append(ACTIVATIONS[activation]())
        blocks.append(nn.Sequential(*layers))
    return nn.Sequential(*blocks)


def _draw_weights(module: nn.Module, weight_init: str | float, generator: torch.Generator) -> None:
    """Draw the linear weights by the law that `weight_init` names; biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            if weight_init == "fan_in":
                bound = 1.0 / math.sqrt(layer.in_features)
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            elif weight_init == "he":
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            else:
                nn.init.normal_(layer.weight, std=float(weight_init), generator=generator)
            nn.init.zeros_(layer.bias)


class Architecture(NamedTuple):
    """All that is needed to build the network again, in another process or before loading.

    `factory` is the user's `autoencoder` parameter, or None for the built-in network.
    """

    n_features: int
    embedding_dim: int
    hidden_dims: tuple[int, ...]
    activation: str
    batch_norm: bool
    weight_init: str | float
    factory: Callable | None = None

    def build(self, seed: int) -> nn.Module:
        """A network on the CPU with weights drawn from `seed` alone."""
        generator = random_stream(seed, "weights")
        if self.factory is not None:
            with torch.device("cpu"), LocalRandomness(generator):
                module = self.factory(self.n_features, self.embedding_dim)
                _check_protocol(module, self.n_features, self.embedding_dim)
            return module
        # Without `LocalRandomness`, whose first use in a process imports torch's compiler (2 s).
        module = FullyConnectedAutoencoder(
            self.n_features, self.embedding_dim, self.hidden_dims, self.activation, self.batch_norm
        ).float()
        _draw_weights(module, self.weight_init, generator)
        return module

    def load(self, weights: dict[str, np.ndarray], device: torch.device | str) -> nn.Module:
        """The network with the given weights, ready to be applied."""
        module = self.build(seed=0)
        module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
        return by_columns(module.to(device)).eval()


def by_columns(module: nn.Module) -> nn.Module:
    """The module, in whose own kind of linear layers the weights of an input lie side by side.

    Few rows times such weights take 0.6 to 0.8 of the time, for kernels copy weights into this
    order otherwise. The values are the same, and what is copied into a parameter later
    keeps to it. Layers of a user's network are left as they are: they may count on theirs.
    """
    for layer in module.modules():
        if isinstance(layer, AlignedLinear):
            layer.weight.data = layer.weight.data.T.contiguous().T
            layer.bias.data = layer.bias.data.clone()  # or a view would hold on to all weights
    return module


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """Parameters and buffers by name, as plain arrays of their own."""
    return {name: value.cpu().numpy().copy() for name, value in module.state_dict().items()}


def _check_protocol(module: nn.Module, n_features: int, embedding_dim: int) -> None:
    """Refuse a user's network that does not map rows to embeddings and back, in float32."""
    if not isinstance(module, nn.Module) or not all(
        isinstance(getattr(module, part, None), nn.Module) for part in ("encoder", "decoder")
    ):
        raise TypeError(
            "The 'autoencoder' parameter of DECClustering must be a class or function that, "
            "called with (n_features, embedding_dim), returns a torch.nn.Module with the "
            f"submodules 'encoder' and 'decoder'. It returned {type(module).__name__!r}."
        )
    module.float().eval()
    for part, n_in, n_out in (
        ("encoder", n_features, embedding_dim),
        ("decoder", embedding_dim, n_features),
    ):
        with torch.no_grad():
            out = getattr(module, part)(torch.zeros(2, n_in, dtype=torch.float32))
        if tuple(out.shape) != (2, n_out):
            raise ValueError(
                f"The 'autoencoder' parameter of DECClustering gave a network whose {part} maps "
                f"an input of shape (2, {n_in}) to {tuple(out.shape)}; expected (2, {n_out})."
            )


def forward(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)` in the precision of the module's weights, returned in float32."""
    weight = next(module.parameters(), None)
    return module(x if weight is None else x.to(weight.dtype)).float()
