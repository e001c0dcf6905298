"""Which rows, in what order: mini-batches for training, fixed tiles for everything else."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor

from ._threads import Workers

if TYPE_CHECKING:
    from ._scaled_rows import ScaledRows

# Values that are held at once in a pass over all rows.
_BLOCK_VALUES = 2**22


def steps_per_epoch(n_rows: int, batch_size: int) -> int:
    """Mini-batch steps that pass over all rows once."""
    return math.ceil(n_rows / batch_size)


# draw(rows, generator) -> for each of the row numbers what a batch has of it
Draw = Callable[[Tensor, torch.Generator], Tensor]


def as_they_are(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Draw nothing."""
    return rows


def minibatches(
    n_rows: int,
    batch_size: int,
    n_steps: int,
    generator: torch.Generator,
    draw: Draw = as_they_are,
) -> Iterator[Tensor]:
    """`n_steps` batches of row numbers; every epoch is a new permutation of all rows.

    An epoch is cut into batches whose sizes differ by one at most, so that no epoch ends in a
    batch of a row or two. What they have of each row is drawn for an epoch at once.
    """
    n_batches = steps_per_epoch(n_rows, batch_size)
    step = 0
    while step < n_steps:
        order = torch.randperm(n_rows, generator=generator, device=generator.device)
        drawn = draw(order, generator)
        for batch in torch.tensor_split(drawn, n_batches)[: n_steps - step]:
            yield batch
            step += 1


def in_tiles(
    function: Callable[[Tensor], Tensor],
    X: Tensor | ScaledRows,
    workers: Workers,
    sizes: Sequence[int],
) -> Tensor:
    """`function` applied to the rows of `X` in tiles of these numbers of rows, without gradients.

    As many tiles as there can be have the largest size; what is left is padded to the smallest that
    holds it. Where a row gets the same bits in tiles of any of the sizes, it does so whichever rows
    stand beside it, and however many there are. Nothing but the results is kept.
    """
    n_rows, n_columns = X.shape
    largest = max(sizes)
    last = min(size for size in sizes if size >= n_rows % largest)

    def of_tile(start: int) -> Tensor:
        rows = X[start : start + largest]
        n = rows.shape[0]
        n_missing = (largest if n == largest else last) - n
        padded = torch.cat([rows, rows.new_zeros(n_missing, n_columns)]) if n_missing else rows
        with torch.no_grad():
            return function(padded)[:n]

    if n_rows <= largest:  # not worth a pile, which costs a single row a seventh of its time
        return of_tile(0)
    results: list[Tensor] = []
    allocation = threading.Lock()

    def apply_to_tile(start: int) -> None:
        result = of_tile(start)
        with allocation:
            if not results:
                results.append(result.new_empty(n_rows, *result.shape[1:]))
        results[0][start : start + len(result)] = result

    workers.map_on(X.device, apply_to_tile, range(0, n_rows, largest))
    return results[0]


def in_blocks(
    function: Callable[[slice], np.ndarray], n_rows: int, n_columns: int, tile_rows: int
) -> np.ndarray:
    """Results of `function` for blocks of rows of at most about 16 MB of float32 each.

    A block is whole tiles, and their number a power of two where there are more rows. When an
    accelerator has no memory for one, it and all that follow have half as many; only for a single
    tile the error is passed on.
    """
    most = max(1, _BLOCK_VALUES // (n_columns * tile_rows))
    n_tiles = max(1, min(2 ** (most.bit_length() - 1), math.ceil(n_rows / tile_rows)))
    results, start = [], 0
    while start < n_rows:
        stop = min(start + n_tiles * tile_rows, n_rows)
        try:
            results.append(function(slice(start, stop)))
            start = stop
        except torch.cuda.OutOfMemoryError:  # of every accelerator, under its older name
            if n_tiles == 1:
                raise
            n_tiles //= 2
    return np.concatenate(results)


def row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Slices over all rows that hold about 32 MB of float64 each."""
    n = max(1, _BLOCK_VALUES // n_columns)
    return (slice(start, min(start + n, n_rows)) for start in range(0, n_rows, n))


def as_float64(X) -> np.ndarray:
    """Rows, dense or sparse, in float64 and C order, without a copy where they are already."""
    return np.ascontiguousarray(X.toarray() if issparse(X) else X, dtype=np.float64)
