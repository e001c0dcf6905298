"""The rows as training sees them: a tensor of all, or a source that makes a batch when asked."""

from __future__ import annotations

import mmap

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor

from ._rows import Rows, Scaling


def scaled_rows(rows: Rows, scaling: Scaling, device: torch.device) -> Tensor | ScaledRows:
    """The rows on the network's scale: float32, of shape (n_rows, n_features), on `device`.

    A tensor of all of them is the quickest to draw batches from. Where it would take more memory
    than the data do (narrow dtypes, on an accelerator it would be its own), or would read all of a
    file or fill up what is sparse, batches are made one at a time: to the same bits.
    """
    source = ScaledRows(rows, scaling, device)
    narrow = rows.X.dtype.itemsize < 4 and device.type == "cpu"
    if narrow or issparse(rows.X) or _lies_in_a_file(rows.X):
        return source
    resident = torch.empty(source.shape, dtype=torch.float32, device=device)
    for where, block in rows.blocks():
        resident[where] = torch.from_numpy(scaling.apply(block)).to(device)
    return resident


class ScaledRows:
    """The part of a tensor's interface that training needs, of rows that are scaled when asked for.

    It holds no row itself and does not change, so that any number of threads can ask at once.
    """

    def __init__(self, rows: Rows, scaling: Scaling, device: torch.device):
        self._rows = rows
        self._scaling = scaling
        self.device = device
        self.shape = torch.Size((len(rows.index), rows.X.shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: slice | Tensor) -> Tensor:
        """The rows in a slice or with these numbers, a new tensor."""
        at = at.cpu().numpy() if isinstance(at, Tensor) else at
        rows = self._rows.X[self._rows.index[at]]
        return torch.from_numpy(self._scaling.apply(rows)).to(self.device)

    def index_select(self, dim: int, at: Tensor) -> ScaledRows:
        """A source of the rows with these numbers; `dim` is 0."""
        at = at.cpu().numpy()
        chosen = self._rows._replace(index=self._rows.index[at], weight=self._rows.weight[at])
        return ScaledRows(chosen, self._scaling, self.device)


def numpy_rows(X: Tensor | ScaledRows, rows: np.ndarray) -> np.ndarray:
    """The rows with these numbers as an array."""
    return X[torch.from_numpy(rows)].cpu().numpy()


def _lies_in_a_file(X: np.ndarray) -> bool:
    """Whether `X` is a view of a memory map, as what validation makes of a `numpy.memmap` is."""
    while X is not None and not isinstance(X, mmap.mmap):
        X = getattr(X, "base", None)
    return X is not None
