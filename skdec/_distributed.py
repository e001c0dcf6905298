"""One fit in several processes: what the ranks of a process group tell each other, and when.

A rank trains on its own rows. Everything that leads to a decision is told to all ranks, in an
order and by sums that are the same for all, so that they take it alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, distributed

from ._backend import derived_seed, require_torch
from ._exchange import Gate, Messages, NoExchange, SharedMemory, machine, open_gate

# How long a rank waits for the others to call `fit`, and later for the slowest of them.
_ARRIVAL, _PATIENCE = timedelta(minutes=5), timedelta(minutes=30)


class Alone:
    """The group of a fit that has all rows: there is nobody to tell anything."""

    rank, size = 0, 1

    def agree(self, words: Mapping[str, object]) -> None:
        """Raise ValueError on all ranks if one of these things is not the same on all."""

    def own_seed(self, seed: int) -> int:
        """The seed of this rank's own draws."""
        return seed

    def own_batch(self, batch_size: int) -> int:
        """How many rows of such a mini-batch are those of this rank, at least one."""
        return batch_size

    def share(self, n_rows: int) -> float:
        """The share of this rank's rows in those of all ranks."""
        return 1.0

    def sum(self, value):
        """Sum over the ranks of a number, array or tensor."""
        return value

    def min(self, value):
        """Smallest of the ranks' numbers, or of each entry of their arrays."""
        return value

    def max(self, value):
        """Largest of the ranks' numbers, or of each entry of their arrays."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on any rank."""
        return flag

    def mean(self, value: float, weight: float) -> float:
        """Mean of the ranks' values by their weights."""
        return value

    def average(self, tensors: Sequence[Tensor], share: float) -> None:
        """Put the mean over the ranks, each by its `share`, into the tensors."""

    def exchange(
        self, gradients: Sequence[Tensor], weights: Sequence[Tensor], dtypes: Sequence[torch.dtype]
    ) -> NoExchange:
        """How steps are made; the arguments are those of `NoExchange`."""
        return NoExchange(gradients, weights, dtypes)

    def first(self, function: Callable, *parts: np.ndarray):
        """What rank 0 gets from `function` of the rows of all ranks; each gives some `parts`."""
        return function(*parts)

    def to_first(self, rows: Callable[[np.ndarray], np.ndarray], at: np.ndarray):
        """A function that gives rank 0 the rows `at` of all ranks by their places among these.

        `rows` gives this rank's own rows with the numbers it is called with.
        """
        return lambda places: rows(at[places])

    def own(self, values: np.ndarray, n_rows: int) -> np.ndarray:
        """Of values for the rows that went to `first`, those of the `n_rows` of this rank."""
        return values


ALONE = Alone()


@contextmanager
def ranks(device: torch.device) -> Iterator[Ranks]:
    """The ranks of torch's default process group, once all of them have come here.

    They have a group of their own, so that what else the user sends does not get between. When
    the body ends, also by an exception, the connections are closed: whoever waits for this rank is
    told at once.
    """
    # Before, to close a group could wait without end for a thread that waited for Python's lock
    # (pytorch pull request 154976).
    require_torch("2.8", "distributed=True")
    if not (distributed.is_available() and distributed.is_initialized()):
        raise ValueError(
            "distributed=True needs a process group: start the script with torchrun, and call "
            "torch.distributed.init_process_group(...) before fit. There is none."
        )
    backend = "gloo"
    if device.type == "cuda" and distributed.is_nccl_available():
        backend = "cpu:gloo,cuda:nccl"
    group = Ranks()
    try:
        group.open(_ARRIVAL, "gloo")  # waits less long than the one that is worked with
        group.open(_PATIENCE, backend)
        group.open_gate(device)
        yield group
    finally:
        group.close()


class Ranks(Alone):
    """All ranks of torch's default process group; each method is called by all in one order."""

    def __init__(self):
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._groups: list[distributed.ProcessGroup] = []
        self._gate: Gate | None = None

    def open(self, timeout: timedelta, backend: str) -> None:
        """Meet the other ranks in a new group, which is used from then on."""
        group = self._wait(timeout, distributed.new_group, timeout=timeout, backend=backend)
        self._groups.append(group)

    def open_gate(self, device: torch.device) -> None:
        """Find the other ranks' memory, if all are on the CPU of one machine."""
        machines: list[str | None] = [None] * self.size
        own = machine() if device.type == "cpu" else None
        self._tell(distributed.all_gather_object, machines, own)
        if self.size > 1 and own is not None and machines.count(own) == self.size:
            patience = _PATIENCE.total_seconds()
            find = functools.partial(open_gate, self.rank, self.size, patience)
            self._gate = self._wait(_PATIENCE, find, self._words_of_first, self.any)

    def _words_of_first(self, words: str | None) -> str | None:
        said = [words]
        self._tell(distributed.broadcast_object_list, said, src=0)
        return said[0]

    def close(self) -> None:
        """Close the connections to the other ranks."""
        if self._gate is not None:
            self._gate.close()
        # They are closed with the last reference: nothing else may hold one.
        while self._groups:
            distributed.destroy_process_group(self._groups.pop())

    def _tell(self, collective: Callable, *arguments, **options) -> None:
        """Take part in one of torch's collectives."""
        self._wait(_PATIENCE, collective, *arguments, group=self._groups[-1], **options)

    def _wait(self, patience: timedelta, collective: Callable, *arguments, **options):
        """Call what waits for the other ranks, and say what it means if that fails."""
        # Errors without their traceback, whose frames would keep the group's connections open.
        try:
            return collective(*arguments, **options)
        except (RuntimeError, OSError) as error:
            raise RuntimeError(
                f"Rank {self.rank} of {self.size} cannot go on with fit(distributed=True): another "
                "rank failed, was stopped, or was not heard of for "
                f"{patience.total_seconds() / 60:g} minutes. Its own message tells why."
            ) from error.with_traceback(None)
        except BaseException as error:
            raise error.with_traceback(None)  # noqa: B904

    def agree(self, words):
        everyone = [None] * self.size
        self._tell(distributed.all_gather_object, everyone, dict(words))
        for name in sorted(set().union(*everyone)):
            values = [words.get(name) for words in everyone]
            others = [rank for rank, value in enumerate(values) if value != values[0]]
            if others:
                raise ValueError(
                    f"With distributed=True all ranks need the same {name}. That of rank "
                    f"{others[0]} is not that of rank 0."
                )

    def own_seed(self, seed):
        return derived_seed(seed, f"rank {self.rank}") if self.rank else seed

    def own_batch(self, batch_size):
        whole, rest = divmod(batch_size, self.size)
        return max(1, whole + (self.rank < rest))

    def share(self, n_rows):
        return n_rows / self.sum(n_rows)

    def sum(self, value):
        return self._reduce(torch.add, value)

    def min(self, value):
        return self._reduce(torch.minimum, value)

    def max(self, value):
        return self._reduce(torch.maximum, value)

    def any(self, flag):
        return bool(self.max(float(flag)))

    def mean(self, value, weight):
        return self.sum(float(value) * float(weight / self.sum(weight)))

    def _reduce(self, operation, value):
        """Reduced in float64 and by rank, which gives the same bits on all machines."""
        own = torch.as_tensor(value, dtype=torch.float64, device="cpu").contiguous()
        everyone = [torch.empty_like(own) for _ in range(self.size)]
        self._tell(distributed.all_gather, everyone, own)
        result = functools.reduce(operation, everyone)
        if isinstance(value, Tensor):
            return result.to(value)
        if isinstance(value, np.ndarray):
            return result.numpy().astype(value.dtype)
        return type(value)(result.item())

    def average(self, tensors, share):
        for tensor in tensors:
            mean = tensor.detach() * share
            if mean.device.type != "cuda":
                mean = mean.cpu()
            self._tell(distributed.all_reduce, mean)
            tensor.copy_(mean if tensor.is_floating_point() else mean.round())

    def exchange(self, gradients, weights, dtypes):
        if self.size == 1:
            return NoExchange(gradients, weights, dtypes)
        pieces = gradients, weights, dtypes
        memory = None
        if self._gate is not None:
            n_bytes = SharedMemory.n_bytes(self.size, *pieces)
            memory = self._wait(_PATIENCE, self._gate.memory, n_bytes)
        if memory is None:
            return Messages(self.rank, self.size, self._tell, *pieces)
        wait = functools.partial(self._wait, _PATIENCE, self._gate.wait)
        return SharedMemory(memory, wait, self.rank, self.size, self._tell, *pieces)

    def first(self, function, *parts):
        received = [self._received(part) for part in parts]
        result = [function(*map(np.concatenate, received)) if self.rank == 0 else None]
        self._tell(distributed.broadcast_object_list, result, src=0)
        return result[0]

    def to_first(self, rows, at):
        received = self._received(rows(at))
        return np.concatenate(received).__getitem__ if self.rank == 0 else None

    def _received(self, part):
        received = [None] * self.size if self.rank == 0 else None
        self._tell(distributed.gather_object, part, received, dst=0)
        return received

    def own(self, values, n_rows):
        counts = np.zeros(self.size, dtype=int)
        counts[self.rank] = n_rows
        ends = np.cumsum(self.sum(counts))
        return values[ends[self.rank] - n_rows : ends[self.rank]]
