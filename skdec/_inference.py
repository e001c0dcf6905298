"""The predict path: the one place where embeddings and assignments of a fitted model come from.

What it gives for a row is the same bits whichever rows stand beside it, and whatever the
number of threads.
"""

from __future__ import annotations

import math
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

# A matrix product of one row and one of many rows may round differently, so every product here
# has this many rows. On the CPU a single row costs as much as a whole tile: with more rows it
# would be late, with fewer the weights would be read too often.
_TILE_ROWS = 16
_ACCELERATOR_TILE_ROWS = 1024

# Products of more rows take a fraction of the time. Within `fit`, where nobody asks for a single
# row, they are always of so many; for rows that have to get the bits of a single one wherever this
# machine's kernels give the same bits in both. Whether they do is tried where there are
# so many rows that it costs little.
_MANY_ROWS = 256
_WORTH_A_TRIAL = 4 * _MANY_ROWS

# The modules that have been tried.
_SAME_BITS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()

# Rows whose soft assignment is computed at once, and rows that one thread scales at once.
_ASSIGNED_ROWS = 64
_SCALED_ROWS = 256


def apply_to_rows(
    module: nn.Module, x: Tensor | ScaledRows, workers: Workers, as_alone: bool = False
) -> Tensor:
    """`module` applied to all rows of `x`, on the device where both are.

    With `as_alone` each row gets the bits that it would get as the only row of a call.
    """
    few = _tile_rows(x.device)
    many = max(_MANY_ROWS, few)
    if as_alone and many > few and not _gives_same_bits(module, x):
        many = few
    return in_tiles(lambda rows: forward(module, rows), x, workers, many, few)


def _gives_same_bits(module: nn.Module, x: Tensor | ScaledRows) -> bool:
    """Whether a row is known to get the same bits in a tile of many rows as in one of few."""
    if module not in _SAME_BITS and len(x) >= _WORTH_A_TRIAL:
        rows = x[:_MANY_ROWS]
        with torch.no_grad():
            whole = forward(module, rows)
            parts = torch.cat([forward(module, few) for few in rows.split(_TILE_ROWS)])
        if len(whole.unique(dim=0)) < len(whole) // 2:
            return False  # rows that are all alike would not tell
        _SAME_BITS[module] = torch.equal(whole, parts)
    return _SAME_BITS.get(module, False)


def _tile_rows(device: torch.device) -> int:
    return _TILE_ROWS if device.type == "cpu" else _ACCELERATOR_TILE_ROWS


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

        def embed_block(rows: slice) -> np.ndarray:
            scaled = workers.map(self.scaling.apply, _parts(X[rows]))
            x = self._tensor(np.concatenate(scaled))
            return apply_to_rows(self.autoencoder.encoder, x, workers, as_alone=True).cpu().numpy()

        return in_blocks(embed_block, *X.shape, _tile_rows(self._device))

    def embed_scaled(self, x: Tensor | ScaledRows, workers: Workers) -> Tensor:
        """The same up to rounding, of rows on the network's scale and device; quicker."""
        return apply_to_rows(self.autoencoder.encoder, x, workers)

    def decode(self, Z: np.ndarray, workers: Workers) -> np.ndarray:
        """Rows of the embedding to float64 rows of shape (n_samples, n_features)."""

        def decode_block(rows: slice) -> np.ndarray:
            z = self._tensor(Z[rows].astype(np.float32))
            decoded = apply_to_rows(self.autoencoder.decoder, z, workers, as_alone=True)
            if self.decodes_logits:
                decoded = torch.sigmoid(decoded)
            return self.scaling.invert(decoded.cpu().numpy())

        n_features = len(self.scaling.offset)
        return in_blocks(decode_block, len(Z), n_features, _tile_rows(self._device))

    def reconstruction_error(
        self, X: np.ndarray, Z: np.ndarray, weight: np.ndarray, workers: Workers
    ) -> float:
        """Mean squared difference between the values of `X` and those decoded from `Z`."""
        errors = [
            np.square(self.decode(Z[rows], workers) - as_float64(X[rows])).mean(axis=1)
            for rows in row_blocks(*X.shape)
        ]
        return _sum(np.concatenate(errors), weight) / math.fsum(weight)

    @property
    def _device(self) -> torch.device:
        return next(self.autoencoder.parameters(), torch.empty(0)).device

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows).to(self._device)


def _parts(X) -> list:
    return [X[start : start + _SCALED_ROWS] for start in range(0, X.shape[0], _SCALED_ROWS)]


def soft_assignment(
    Z: np.ndarray, centers: np.ndarray, alpha: float, workers: Workers
) -> np.ndarray:
    """Eq. 1 in float64, of shape (n_samples, n_clusters)."""
    means = torch.from_numpy(centers.astype(np.float64))
    rows = torch.from_numpy(Z.astype(np.float64))
    return in_tiles(
        lambda z: log_soft_assignment(z, means, alpha).exp(), rows, workers, _ASSIGNED_ROWS
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
