"""The predict path: the one place where embeddings and assignments of a fitted model come from.

What it gives for a row is the same bits whichever rows stand beside it, and whatever the
number of threads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ._batching import as_float64, in_tiles, row_blocks
from ._networks import Architecture, forward, weights_of
from ._objectives import log_soft_assignment
from ._rows import Scaling
from ._scaled_rows import ScaledRows
from ._threads import Workers

# A matrix product of one row and one of many rows round differently, so every product here
# has this many rows. Small on the CPU, where a single row costs as much as a whole tile.
_TILE_ROWS = 32
_ACCELERATOR_TILE_ROWS = 1024


def apply_to_rows(module: nn.Module, x: Tensor | ScaledRows, workers: Workers) -> Tensor:
    """`module` applied to all rows of `x`, on the device where both are."""
    tile_rows = _TILE_ROWS if x.device.type == "cpu" else _ACCELERATOR_TILE_ROWS
    return in_tiles(lambda rows: forward(module, rows), x, workers, tile_rows)


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
        device = next(self.autoencoder.parameters(), torch.empty(0)).device
        return self._replace(autoencoder=architecture.load(weights, device))

    def embed(self, X: np.ndarray, workers: Workers) -> np.ndarray:
        """Rows of the input to float32 rows of shape (n_samples, embedding_dim)."""
        blocks = [
            self.embed_scaled(self._tensor(self.scaling.apply(X[rows])), workers).cpu().numpy()
            for rows in row_blocks(*X.shape)
        ]
        return np.concatenate(blocks)

    def embed_scaled(self, x: Tensor | ScaledRows, workers: Workers) -> Tensor:
        """The same for rows that are on the network's scale already, and on its device."""
        return apply_to_rows(self.autoencoder.encoder, x, workers)

    def decode(self, Z: np.ndarray, workers: Workers) -> np.ndarray:
        """Rows of the embedding to float64 rows of shape (n_samples, n_features)."""
        decoded = apply_to_rows(
            self.autoencoder.decoder, self._tensor(Z.astype(np.float32)), workers
        )
        if self.decodes_logits:
            decoded = torch.sigmoid(decoded)
        return self.scaling.invert(decoded.cpu().numpy())

    def reconstruction_error(
        self, X: np.ndarray, Z: np.ndarray, weight: np.ndarray, workers: Workers
    ) -> float:
        """Mean squared difference between the values of `X` and those decoded from `Z`."""
        errors = [
            np.square(self.decode(Z[rows], workers) - as_float64(X[rows])).mean(axis=1)
            for rows in row_blocks(*X.shape)
        ]
        return _sum(np.concatenate(errors), weight) / math.fsum(weight)

    def _tensor(self, rows: np.ndarray) -> Tensor:
        weight = next(self.autoencoder.parameters(), torch.empty(0))
        return torch.from_numpy(rows).to(weight.device)


def soft_assignment(
    Z: np.ndarray, centers: np.ndarray, alpha: float, workers: Workers
) -> np.ndarray:
    """Eq. 1 in float64, of shape (n_samples, n_clusters)."""
    means = torch.from_numpy(centers.astype(np.float64))
    rows = torch.from_numpy(Z.astype(np.float64))
    return in_tiles(
        lambda z: log_soft_assignment(z, means, alpha).exp(), rows, workers, _TILE_ROWS
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
