"""The predict path: the one place where embeddings and assignments of a fitted model come from.

What it gives for a row is the same bits whichever rows stand beside it, and whatever the
number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ._batching import as_float64, in_blocks, in_tiles, row_blocks
from ._networks import Architecture, forward, weights_of
from ._objectives import log_soft_assignment
from ._rows import Scaling
from ._scaled_rows import ScaledRows
from ._threads import Workers

# A matrix product of one row and one of many rows may round differently, so a row gets the bits
# that it has in a product of this many rows.
_TILE_ROWS = 16
_ACCELERATOR_TILE_ROWS = 1024

# A row of a product of many rows takes a fraction of the time, and a product of few is sooner done.
# Within `fit`, where nobody asks for a single row, all sizes serve; for rows that have to get the
# bits of a single one those do in which this machine's kernels give them. Whether they do is tried;
# for the larger ones where there are so many rows that it costs little.
_TILE_SIZES = (4, _TILE_ROWS, 64, 256)
_WORTH_A_TRIAL = 4 * max(_TILE_SIZES)

# Sizes of tiles that have been tried, for each module.
_SAME_BITS: WeakKeyDictionary[nn.Module, dict[int, bool]] = WeakKeyDictionary()

# Rows that one thread scales at once.
_SCALED_ROWS = 256


def apply_to_rows(
    module: nn.Module, x: Tensor | ScaledRows, workers: Workers, as_alone: bool = False
) -> Tensor:
    """`module` applied to all rows of `x`, on the device where both are.

    With `as_alone` each row gets the bits that it would get as the only row of a call.
    """
    sizes: Sequence[int] = [_ACCELERATOR_TILE_ROWS]
    if x.device.type == "cpu":
        sizes = _sizes_of_same_bits(module, x) if as_alone else _TILE_SIZES
    return in_tiles(lambda rows: forward(module, rows), x, workers, sizes)


def _sizes_of_same_bits(module: nn.Module, x: Tensor) -> list[int]:
    """Sizes of tiles that are known to give a row the same bits."""
    tried = _SAME_BITS.setdefault(module, {_TILE_ROWS: True})
    for size in _TILE_SIZES:
        if size not in tried and (size < _TILE_ROWS or len(x) >= _WORTH_A_TRIAL):
            found = _gives_same_bits(module, x, size)
            if found is not None:
                tried[size] = found
    return [size for size in _TILE_SIZES if tried.get(size)]


def _gives_same_bits(module: nn.Module, x: Tensor, size: int) -> bool | None:
    """Whether a row gets the same bits in a tile of this size; None if `x` cannot tell."""
    n_rows = max(size, _TILE_ROWS)
    # The rows of `x`, as often as needed, none of them twice.
    rows = x[torch.arange(n_rows) % len(x)] * torch.linspace(0.5, 1.0, n_rows)[:, None]
    with torch.no_grad():
        expected, found = (
            torch.cat([forward(module, tile) for tile in rows.split(n)]) for n in (_TILE_ROWS, size)
        )
    tells = len(expected.unique(dim=0)) > n_rows // 2  # rows that are all alike would not
    return torch.equal(expected, found) if tells else None


class Embedding(NamedTuple):
    """A trained network between the scale of the input and the embedding.

    `decodes_logits` says that the decoder's outputs are logits of values in [0, 1].
    """

    autoencoder: nn.Module
    scaling: Scaling
    decodes_logits: bool

    def copied(self, architecture: Architecture) -> Embedding:
        """The same with a copy of the network as it is now, ready to be applied."""
        weights = weights_of(self.autoencoder)
        return self._replace(autoencoder=architecture.load(weights, self._device))

    def embed(self, X: np.ndarray, workers: Workers) -> np.ndarray:
        """Rows of the input to float32 rows of shape (n_samples, embedding_dim)."""
        device = self._device

        def embed_block(rows: slice) -> np.ndarray:
            scaled = workers.map(self.scaling.apply, _parts(X[rows]))
            x = torch.from_numpy(np.concatenate(scaled)).to(device)
            return apply_to_rows(self.autoencoder.encoder, x, workers, as_alone=True).cpu().numpy()

        return in_blocks(embed_block, *X.shape, _block_rows(device))

    def embed_scaled(self, x: Tensor | ScaledRows, workers: Workers) -> Tensor:
        """The same up to rounding, of rows on the network's scale and device; quicker."""
        return apply_to_rows(self.autoencoder.encoder, x, workers)

    def decode(self, Z: np.ndarray, workers: Workers) -> np.ndarray:
        """Rows of the embedding to float64 rows of shape (n_samples, n_features)."""
        device = self._device

        def decode_block(rows: slice) -> np.ndarray:
            z = torch.from_numpy(Z[rows].astype(np.float32)).to(device)
            decoded = apply_to_rows(self.autoencoder.decoder, z, workers, as_alone=True)
            if self.decodes_logits:
                decoded = torch.sigmoid(decoded)
            return self.scaling.invert(decoded.cpu().numpy())

        n_features = len(self.scaling.offset)
        return in_blocks(decode_block, len(Z), n_features, _block_rows(device))

    def reconstruction_error(
        self, X: np.ndarray, Z: np.ndarray, weight: np.ndarray, workers: Workers
    ) -> float:
        """Mean squared difference between the values of `X` and those decoded from `Z`."""
        errors = np.empty(len(Z))
        for rows in row_blocks(*X.shape):
            difference = self.decode(Z[rows], workers)
            difference -= as_float64(X[rows])
            errors[rows] = np.square(difference, out=difference).mean(axis=1)
        return _sum(errors, weight) / math.fsum(weight)

    @property
    def _device(self) -> torch.device:
        return next(self.autoencoder.parameters(), torch.empty(0)).device


def _block_rows(device: torch.device) -> int:
    """Blocks of rows are multiples of these: there are no padded tiles between them."""
    return _TILE_ROWS if device.type == "cpu" else _ACCELERATOR_TILE_ROWS


def _parts(X) -> list:
    return [X[start : start + _SCALED_ROWS] for start in range(0, X.shape[0], _SCALED_ROWS)]


def soft_assignment(
    Z: np.ndarray, centers: np.ndarray, alpha: float, workers: Workers
) -> np.ndarray:
    """Eq. 1 in float64, of shape (n_samples, n_clusters)."""
    means = torch.from_numpy(centers.astype(np.float64))
    rows = torch.from_numpy(Z.astype(np.float64))
    return in_tiles(
        lambda z: log_soft_assignment(z, means, alpha).exp(), rows, workers, _TILE_SIZES
    ).numpy()


def inertia(Z: np.ndarray, centers: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> float:
    """Weighted sum of squared distances of the rows of `Z` to the centres of their clusters."""
    distances = [
        np.square(Z[rows].astype(np.float64) - centers[labels[rows]]).sum(axis=1)
        for rows in row_blocks(*Z.shape)
    ]
    return _sum(np.concatenate(distances), weight)


def _sum(values: np.ndarray, weight: np.ndarray) -> float:
    # Exact, and so independent of the order of the rows and of the number of threads.
    return math.fsum(weight * values)
