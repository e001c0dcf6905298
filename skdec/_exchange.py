"""What ranks tell each other at every step: gradients to a piece's owner, its weights to all.

The weights are cut into pieces. Each piece is owned by one rank, which alone adds up its gradients
and updates it. All ranks go on with the same bits, and each does its part of the optimiser's work.
"""

from __future__ import annotations

import itertools
import mmap
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from torch import Tensor, distributed

# Numbers of all kinds may begin at multiples of so many bytes.
_ALIGNMENT = 64

# Changes with every start of a machine; containers on it may share it and yet not meet.
_BOOT = Path("/proc/sys/kernel/random/boot_id")

# Devices whose tensors can be sent.
_SENT = ("cpu", "cuda")


class NoExchange:
    """A process alone owns all pieces.

    `gradients` have the shapes and dtypes of those of each piece. The pieces are cut from
    `weights`, which replicas of the module hold in `dtypes`: that is `seen`. `slots` are where the
    gradients of each piece are: one's own, then, for its owner, those of the other ranks.
    """

    def __init__(
        self, gradients: Sequence[Tensor], weights: Sequence[Tensor], dtypes: Sequence[torch.dtype]
    ):
        self.owned: Sequence[int] = range(len(gradients))
        self.slots = [[torch.zeros_like(like, device=weights[0].device)] for like in gradients]
        self.seen = [part.to(dtype) for part, dtype in zip(weights, dtypes, strict=True)]

    def to_owners(self) -> None:
        """Of pieces of other ranks one's own slots are full: their owners get them."""

    def to_all(self, pieces: Sequence[Tensor]) -> None:
        """The owners have updated their `pieces` of what is `seen`: all get to see them."""

    def from_owners(self, pieces: Sequence[Tensor]) -> None:
        """Each of any tensors, one for each piece, as its owner has it, to all."""


class Messages(NoExchange):
    """By messages, between machines or accelerators; all ranks call each method in one order.

    `tell` is how this rank, one of `size`, takes part in one of torch's collectives.
    """

    def __init__(self, rank: int, size: int, tell: Callable, gradients, weights, dtypes):
        self._tell = tell
        self._places = places = _Places(gradients, size)
        self.owned = places.owned_by(rank)
        own = places.n_bytes_of[rank]
        self._sizes = [own] * size, places.n_bytes_of
        device = weights[0].device if weights[0].device.type in _SENT else "cpu"
        self._mine = torch.zeros(places.n_bytes, dtype=torch.uint8, device=device)
        self._received = torch.zeros(size * own, dtype=torch.uint8, device=device)
        # Of each other rank, this one receives its own pieces alone.
        shift = sum(places.n_bytes_of[:rank])
        others = [self._received[r * own : (r + 1) * own] for r in range(size) if r != rank]
        self.slots = [[_numbers(self._mine, places.starts[k], g)] for k, g in enumerate(gradients)]
        for k in self.owned:
            start = places.starts[k] - shift
            self.slots[k] += [_numbers(other, start, gradients[k]) for other in others]
        self.seen = [part.to(dtype, copy=True) for part, dtype in zip(weights, dtypes, strict=True)]

    def to_owners(self):
        self._tell(distributed.all_to_all_single, self._received, self._mine, *self._sizes)

    def to_all(self, pieces):
        self.from_owners(pieces)

    def from_owners(self, pieces):
        for piece, owner in zip(pieces, self._places.owners, strict=True):
            wire = piece if piece.device.type in _SENT else piece.cpu()
            self._tell(distributed.broadcast, wire, src=owner)
            if wire is not piece:
                piece.copy_(wire)


class SharedMemory(Messages):
    """By `memory` that ranks on one machine's CPU have in common: they only `wait` for each other.

    So many bytes of it, for the same arguments as those of the class, are `n_bytes`.
    """

    def __init__(
        self,
        memory: Tensor,
        wait: Callable[[], None],
        rank: int,
        size: int,
        tell: Callable,
        gradients,
        weights,
        dtypes,
    ):
        self._wait, self._tell = wait, tell
        self._places = places = _Places(gradients, size)
        self.owned = places.owned_by(rank)
        others = [r for r in range(size) if r != rank]
        self.slots = [
            [
                _numbers(memory, r * places.n_bytes + places.starts[k], like)
                for r in (rank, *(others if k in self.owned else ()))
            ]
            for k, like in enumerate(gradients)
        ]
        self.seen, start = [], size * places.n_bytes
        for part, like in zip(weights, _like(weights, dtypes), strict=True):
            self.seen.append(_numbers(memory, start, like).copy_(part))
            start += _n_bytes(like)

    @staticmethod
    def n_bytes(size: int, gradients, weights, dtypes) -> int:
        slots = size * sum(map(_n_bytes, gradients))
        return slots + sum(map(_n_bytes, _like(weights, dtypes)))

    def to_owners(self):
        self._wait()

    def to_all(self, pieces):
        self._wait()


class Gate:
    """Where ranks on one machine wait for each other, a tenth as long as in a collective.

    The first rank hears of all others and then calls them, each by one of the `sockets`. OSError
    where one is gone.
    """

    def __init__(self, sockets: Sequence[socket.socket], is_first: bool):
        self._sockets, self._is_first = sockets, is_first

    def wait(self) -> None:
        """Wait for all ranks."""
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

    def memory(self, n_bytes: int) -> Tensor | None:
        """So many bytes that all ranks see, or None on all of them where there are none.

        They have no name, and are gone when no rank holds them.
        """
        if self._is_first:
            handles = _reserved(n_bytes)
            for connection in self._sockets:
                socket.send_fds(connection, [b"."], handles)
        else:
            said, handles, *_ = socket.recv_fds(self._sockets[0], 1, 1)
            if not said:
                raise ConnectionError("The connection was closed.")
        if not handles:
            return None
        try:
            return torch.frombuffer(mmap.mmap(handles[0], n_bytes), dtype=torch.uint8)
        finally:
            os.close(handles[0])

    def close(self) -> None:
        """Tell those who wait that nobody will come."""
        for connection in self._sockets:
            with suppress(OSError):  # the other side has closed it
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def machine() -> str | None:
    """The same words for processes on one machine, None where they could not share memory."""
    if not (hasattr(os, "memfd_create") and hasattr(socket, "send_fds") and _BOOT.exists()):
        return None
    return _BOOT.read_text()


def open_gate(
    rank: int, size: int, patience: float, told: Callable[[str | None], str | None], any_: Callable
) -> Gate | None:
    """The gate of ranks on one machine, or None on all of them if they do not find each other.

    `told(words)` are the words of rank 0, and `any_(flag)` says whether a rank has the flag.
    """
    with ExitStack() as left_open:
        own = left_open.enter_context(socket.socket(socket.AF_UNIX))
        own.settimeout(patience)
        path = None
        with suppress(OSError):
            if rank == 0:
                folder = left_open.enter_context(tempfile.TemporaryDirectory(prefix="skdec-"))
                own.bind(str(Path(folder, "gate")))
                own.listen(size)
                path = own.getsockname()
        path = told(path)
        lost = path is None
        if rank and not lost:
            try:
                own.connect(path)
            except OSError:
                lost = True
        if any_(lost):
            return None
        if rank:
            left_open.pop_all()
            return Gate([own], is_first=False)
        sockets = [own.accept()[0] for _ in range(size - 1)]  # all are there
        for connection in sockets:
            connection.settimeout(patience)
        return Gate(sockets, is_first=True)


class _Places:
    """Who owns which piece, and where its gradient begins in a rank's slots.

    Those of one owner lie side by side: it gets them in one message.
    """

    def __init__(self, gradients: Sequence[Tensor], size: int):
        n_bytes = [_n_bytes(like) for like in gradients]
        self.owners = _owners(n_bytes, size)
        by_owner = sorted(range(len(n_bytes)), key=self.owners.__getitem__)
        ends = itertools.accumulate(n_bytes[k] for k in by_owner)
        self.starts = [0] * len(n_bytes)
        self.n_bytes_of = [0] * size
        for k, end in zip(by_owner, ends, strict=True):
            self.starts[k] = end - n_bytes[k]
            self.n_bytes_of[self.owners[k]] += n_bytes[k]
        self.n_bytes = sum(n_bytes)

    def owned_by(self, rank: int) -> list[int]:
        return [k for k, owner in enumerate(self.owners) if owner == rank]


def _owners(n_bytes: Sequence[int], size: int) -> list[int]:
    """A rank for each piece, so that all have about the same to do; large pieces come first."""
    loads, owners = [0] * size, []
    for n in n_bytes:
        owners.append(loads.index(min(loads)))
        loads[owners[-1]] += n
    return owners


def _like(tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    """Tensors of these shapes and dtypes, without memory."""
    pairs = zip(tensors, dtypes, strict=True)
    return [torch.empty_like(tensor, dtype=dtype, device="meta") for tensor, dtype in pairs]


def _n_bytes(like: Tensor) -> int:
    """Bytes of such a tensor, and what is left free behind it."""
    return -(-like.nbytes // _ALIGNMENT) * _ALIGNMENT


def _numbers(memory: Tensor, start: int, like: Tensor) -> Tensor:
    """A tensor in the bytes of `memory` from `start`."""
    return memory[start : start + like.nbytes].view(like.dtype).view(like.shape)


def _reserved(n_bytes: int) -> list[int]:
    """The handle of so much memory, or none where programs are not let have any."""
    try:
        handle = os.memfd_create("skdec")
    except OSError:
        return []
    os.truncate(handle, n_bytes)
    return [handle]
