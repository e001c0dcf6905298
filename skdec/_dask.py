"""Dask collections as input of a fitted model: lazy, block by block.

dask is imported only where `X` is one of its collections already.
"""

from __future__ import annotations

import copy

import numpy as np


def is_dask(X) -> bool:
    """Whether `X` is an array or a table of dask."""
    return type(X).__module__.partition(".")[0] == "dask"


def refuse_dask(X, name: str, method: str) -> None:
    """Refuse a dask collection where all rows are needed at once."""
    if is_dask(X):
        raise TypeError(
            f"DECClustering.{method} needs all rows of {name} at once. Got a dask "
            f"{type(X).__name__}: give it {name}.compute(), or a choice of rows that fits into "
            "memory; predict, predict_proba and transform then take dask collections of any size."
        )


def answer_lazily(estimator, method: str, X):
    """A dask array of what the blocks of `X` get from `method` when they are computed.

    What can be known now (fitted, features and their names, types) is checked now, in the words
    of scikit-learn: by the answer to an example row.
    """
    from dask import delayed

    is_table = hasattr(X, "map_partitions")
    if not is_table and X.ndim == 2 and X.numblocks[1] > 1:
        raise ValueError(
            f"All features of X must be in one block. Got blocks of {X.chunks[1]} columns: "
            "rechunk by X.rechunk({1: -1})."
        )
    example = X._meta_nonempty if is_table else np.zeros((1, *X.shape[1:]), X.dtype)
    nothing = estimator._answer(method, example)[:0]
    # Of the model as it is now, sent once to each worker and not with each block.
    model = delayed(copy.copy(estimator), traverse=False)
    options = {"model": model, "method": method, "nothing": nothing, "meta": nothing}
    if is_table:
        return X.map_partitions(_answer_block, **options)
    if nothing.ndim == 1:
        return X.map_blocks(_answer_block, drop_axis=1, **options)
    return X.map_blocks(_answer_block, chunks=(X.chunks[0], nothing.shape[1]), **options)


def _answer_block(rows, model, method: str, nothing: np.ndarray) -> np.ndarray:
    return model._answer(method, rows) if len(rows) else nothing
