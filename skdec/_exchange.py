"""What ranks tell each other at every step: gradients to a piece's owner, its weights to all.

The weights are cut into pieces. Each piece is owned by one rank, which alone adds up its gradients
and updates it. All ranks go on with the same bits, and each does its part of the optimiser's work.
"""

from __future__ import annotations

import itertools
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed

# Files that are in memory, and never in that of another machine.
_SHARED_MEMORY = Path("/dev/shm")

# Numbers of all kinds may begin at multiples of so many bytes.
_ALIGNMENT = 64


class NoExchange:
    """A process alone owns all pieces."""

    def __init__(self, n_pieces: int):
        self.owned: Sequence[int] = range(n_pieces)

    def common(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """These weights in that precision, for the replicas of the module."""
        return values.to(dtype)

    def slots(self, piece: int, like: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Where a piece's gradients are: one's own, then, for its owner, those of other ranks."""
        return [torch.zeros_like(like, dtype=dtype)]

    def gather(self) -> None:
        """Of pieces of other ranks one's own slots are full: their owners get them."""

    def spread(self, pieces: Sequence[Tensor]) -> None:
        """The owners have updated their `pieces` of what is `common`: all get to see them."""

    def send(self, pieces: Sequence[Tensor]) -> None:
        """Each piece as its owner has it, to all."""


class Exchange(NoExchange):
    """By messages, between machines or accelerators; all ranks call each method in one order.

    `n_bytes` are those of the gradients of each piece, and `tell` is how this rank, one of `size`,
    takes part in one of torch's collectives.
    """

    def __init__(
        self, n_bytes: Sequence[int], rank: int, size: int, tell: Callable, device: torch.device
    ):
        self._tell, self._rank = tell, rank
        self._owners = _owners(n_bytes, size)
        self.owned = [k for k, owner in enumerate(self._owners) if owner == rank]
        # Slots of pieces of one owner lie side by side: it gets them in one message.
        by_owner = sorted(range(len(n_bytes)), key=self._owners.__getitem__)
        room = [_aligned(n_bytes[k]) for k in by_owner]
        self._starts = dict(zip(by_owner, itertools.accumulate(room, initial=0), strict=False))
        self._sent = [0] * size
        for k, n in zip(by_owner, room, strict=True):
            self._sent[self._owners[k]] += n
        self._n_slots = sum(room)
        self._allocate(device)

    def _allocate(self, device: torch.device) -> None:
        size, own = len(self._sent), self._sent[self._rank]
        self._mine = torch.zeros(self._n_slots, dtype=torch.uint8, device=device)
        self._received = torch.zeros(size * own, dtype=torch.uint8, device=device)

    def common(self, values, dtype):
        return values.to(dtype, copy=True)

    def slots(self, piece, like, dtype):
        start, own = self._starts[piece], self._sent[self._rank]
        slots = [_numbers(self._mine, start, like, dtype)]
        if piece in self.owned:
            start -= sum(self._sent[: self._rank])
            others = (r for r in range(len(self._sent)) if r != self._rank)
            slots += [_numbers(self._received, r * own + start, like, dtype) for r in others]
        return slots

    def gather(self):
        own = [self._sent[self._rank]] * len(self._sent)
        self._tell(distributed.all_to_all_single, self._received, self._mine, own, self._sent)

    def spread(self, pieces):
        self.send(pieces)

    def send(self, pieces):
        for piece, owner in zip(pieces, self._owners, strict=True):
            self._tell(distributed.broadcast, piece, src=owner)


class SharedMemory(Exchange):
    """By memory that ranks on one machine's CPU have in common: they only wait for each other."""

    def __init__(self, memory: Tensor, gate: Gate, *arguments):
        self._memory, self._gate = memory, gate
        super().__init__(*arguments)

    def _allocate(self, device):
        self._end = len(self._sent) * self._n_slots

    def common(self, values, dtype):
        start, self._end = self._end, self._end + _aligned(len(values) * dtype.itemsize)
        common = _numbers(self._memory, start, values, dtype)
        return common.copy_(values)

    def slots(self, piece, like, dtype):
        others = (r for r in range(len(self._sent)) if r != self._rank and piece in self.owned)
        starts = (r * self._n_slots + self._starts[piece] for r in (self._rank, *others))
        return [_numbers(self._memory, start, like, dtype) for start in starts]

    def gather(self):
        self._tell(self._gate.wait)

    def spread(self, pieces):
        self._tell(self._gate.wait)


class Gate:
    """Where ranks on one machine wait for each other, a tenth as long as in a collective.

    The first rank hears of all others and then calls them, each by one of the `sockets`.
    """

    def __init__(self, sockets: Sequence[socket.socket], is_first: bool, patience: float):
        self._sockets, self._is_first = sockets, is_first
        for connection in sockets:
            connection.settimeout(patience)

    def wait(self, **_) -> None:
        """Wait for all; OSError if one is gone."""
        if self._is_first:
            self._hear()
        for connection in self._sockets:
            connection.sendall(b".")
        if not self._is_first:
            self._hear()

    def _hear(self) -> None:
        for connection in self._sockets:
            if not connection.recv(1):
                raise ConnectionError("The connection was closed.")

    def close(self) -> None:
        """Tell those who wait that nobody will come."""
        for connection in self._sockets:
            connection.close()


class MeetingPlace:
    """A folder in which ranks on one machine find `n_bytes` of memory, and each other.

    The first rank makes it, and closes it when all have been there: what they hold stays. OSError
    if there is no such place.
    """

    def __init__(self, n_bytes: int):
        if not (_SHARED_MEMORY.is_dir() and hasattr(os, "posix_fallocate")):
            raise FileNotFoundError(_SHARED_MEMORY)
        self._listener = socket.socket(socket.AF_UNIX)
        self._folder = tempfile.TemporaryDirectory(prefix="skdec-", dir=_SHARED_MEMORY)
        self.path = Path(self._folder.name)
        try:
            self._listener.bind(str(self.path / "gate"))
            self._listener.listen()
            with open(self.path / "memory", "wb") as file:
                # Without this, what does not fit would end the process when it is written.
                os.posix_fallocate(file.fileno(), 0, n_bytes)
        except OSError:
            self.close()
            raise

    def gate(self, n_others: int, patience: float) -> Gate:
        """The first rank's side of the gate, once so many others have come."""
        self._listener.settimeout(patience)
        sockets = [self._listener.accept()[0] for _ in range(n_others)]
        return Gate(sockets, True, patience)

    def close(self) -> None:
        """Leave no trace."""
        self._listener.close()
        self._folder.cleanup()


def memory_at(place: Path | None) -> Tensor | None:
    """The bytes at a meeting place, or None if this rank cannot get there."""
    try:
        return torch.from_numpy(np.memmap(place / "memory", np.uint8, mode="r+")) if place else None
    except OSError:
        return None


def gate_at(place: Path, patience: float) -> Gate:
    """The side of the gate of a rank that is not the first."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(place / "gate"))
    return Gate([connection], False, patience)


def shared_memory_bytes(n_bytes: Sequence[int], n_common: Sequence[int], size: int) -> int:
    """How much memory `SharedMemory` needs for such slots and for what is common."""
    return size * sum(map(_aligned, n_bytes)) + sum(map(_aligned, n_common))


def _owners(n_bytes: Sequence[int], size: int) -> list[int]:
    """A rank for each piece, so that all have about the same to do; large pieces come first."""
    loads, owners = [0] * size, []
    for n in n_bytes:
        owners.append(loads.index(min(loads)))
        loads[owners[-1]] += n
    return owners


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT


def _numbers(memory: Tensor, start: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers of `memory` from `start`, of the shape of `like`."""
    return memory[start : start + like.numel() * dtype.itemsize].view(dtype).view(like.shape)
