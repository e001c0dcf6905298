"""What a fit has reached, in a file from which the same fit goes on after it was killed.

A fit is a function of its data, parameters and seeds. What takes long in it are the stages that
train, and only these are kept: the rest is computed again, to the same bits.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from hashlib import blake2b
from numbers import Integral
from pathlib import Path

import joblib
import numpy as np
import scipy
import sklearn
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ._rows import Rows

_FORMAT = "skdec checkpoint 1"

# Parameters that do not change what a fit gives.
_WITHOUT_EFFECT = {"accept_sparse", "checkpoint", "checkpoint_interval", "memory", "verbose"}

# Tensors, and values that JSON can hold, by name.
State = Mapping[str, object]


class NoCheckpoint:
    """Keeps nothing: the checkpoint of a fit that was not asked for one."""

    def seeds(self, drawn: list[int]) -> list[int]:
        """The seeds of the fit that is gone on with, `drawn` if it is a new one."""
        return drawn

    def resume(self, stage: str) -> State | None:
        """What `save` was last given for this stage, or None."""
        return None

    def due(self) -> bool:
        """Whether so much time has gone by that the stage should be saved as it is now."""
        return False

    def save(self, stage: str, state: State) -> None:
        """Keep the state of a stage, in place of an earlier one."""

    def remove(self) -> None:
        """Delete the file: the fit is complete."""


NO_CHECKPOINT = NoCheckpoint()


class Checkpoint(NoCheckpoint):
    """The states of a fit's stages in the file `path`, written anew every `interval` seconds.

    `fit` says which fit it is: see `identity`. The file is replaced as a whole, so that it is
    complete whenever the process dies.
    """

    def __init__(self, path: str | os.PathLike, interval: float, fit: dict[str, str]):
        self.path = Path(path)
        self._interval = interval
        self._fit = fit
        self._partial = Path(f"{self.path}.partial")
        _check_writable(self.path)
        self._stages = self._read() if self.path.exists() else {}
        self._saved_at = time.monotonic()

    def seeds(self, drawn: list[int]) -> list[int]:
        return self._stages.setdefault("seeds", {"seeds": drawn})["seeds"]

    def resume(self, stage: str) -> State | None:
        return self._stages.get(stage)

    def due(self) -> bool:
        return time.monotonic() - self._saved_at >= self._interval

    def save(self, stage: str, state: State) -> None:
        self._stages[stage] = state
        self._write()
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        for path in (self.path, self._partial):
            path.unlink(missing_ok=True)

    def _write(self) -> None:
        tensors, values = {}, {}
        for stage, state in self._stages.items():
            values[stage] = {k: v for k, v in state.items() if not isinstance(v, Tensor)}
            of_stage = {k: v for k, v in state.items() if isinstance(v, Tensor)}
            tensors |= {f"{stage}/{k}": v.cpu().contiguous() for k, v in of_stage.items()}
        text = json.dumps({"fit": self._fit, "stages": values})
        save_file(tensors, self._partial, {_FORMAT: text, "digest": _digest(text, tensors)})
        with open(self._partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self._partial, self.path)

    def _read(self) -> dict[str, State]:
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise self._refused("cannot be read", "") from error
        if _FORMAT not in metadata:
            raise self._refused("is no checkpoint of this version of skdec", "")
        text = metadata[_FORMAT]
        if metadata.get("digest") != _digest(text, tensors):
            raise self._refused("is damaged", "")
        header = json.loads(text)
        names = sorted(header["fit"].keys() | self._fit.keys())
        other = [name for name in names if header["fit"].get(name) != self._fit.get(name)]
        if other:
            raise self._refused(
                f"is of a fit with another {', another '.join(other)}",
                "Give the same again to go on with that fit. ",
            )
        for name, tensor in tensors.items():
            stage, _, name_in_stage = name.rpartition("/")
            header["stages"][stage][name_in_stage] = tensor
        return header["stages"]

    def _refused(self, problem: str, advice: str) -> ValueError:
        return ValueError(
            f"The 'checkpoint' parameter of DECClustering is {str(self.path)!r}, but this file "
            f"{problem}. {advice}Delete the file, or name another one, to start anew."
        )


def identity(parameters: dict[str, object], rows: Rows) -> dict[str, str]:
    """What has to be the same for a fit to be the same fit: a word for each thing's value."""
    return words(parameters) | {"set of rows or weights": rows.digest()}


def words(parameters: dict[str, object]) -> dict[str, str]:
    """A word for the value of each of the `parameters` and for the version of each library."""
    from . import __version__

    versions = {"torch": torch, "numpy": np, "scipy": scipy, "scikit-learn": sklearn}
    return {
        **{k: _word(k, v) for k, v in parameters.items() if k not in _WITHOUT_EFFECT},
        "version of skdec": __version__,
        **{f"version of {name}": module.__version__ for name, module in versions.items()},
    }


def _word(name: str, value: object) -> str:
    if name == "random_state" and not isinstance(value, Integral):
        return "drawn"  # the seeds that were drawn from it are in the file
    if hasattr(value, "__qualname__"):  # the address of a function is another in each process
        return f"{value.__module__}.{value.__qualname__}"
    return joblib.hash(value)


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    digest = blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _check_writable(path: Path) -> None:
    """Refuse at once what would only fail when the first state is to be written."""
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(
            "The 'checkpoint' parameter of DECClustering must name a file in an existing folder "
            f"that can be written to. Got {str(path)!r} instead."
        )
