"""Gradient steps over fixed shards of a mini-batch, and learning-rate decay."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._backend import LocalRandomness, draws_nothing, is_recordable, random_stream
from ._cuda_graphs import Recorder
from ._distributed import ALONE, Alone
from ._muon import GROUP_ROWS, Muon, Stack
from ._sgd import SGD
from ._threads import Workers

Stepper = torch.optim.Optimizer | Muon | SGD

# loss(module, rows, generator) -> sum of the losses of the rows with these numbers
Loss = Callable[[nn.Module, Tensor, torch.Generator], Tensor]

# A batch is cut in halves of at least so many rows, and into more shards, at most four, only if
# they have so many: products of fewer rows are slower. Weights are updated in pieces of about
# this many numbers, or in halves of so many at least.
_LEAST_HALF, _SHARD_ROWS, _MOST_SHARDS = 128, 512, 4
_PIECE_WEIGHTS, _LEAST_PIECE = 2**19, 2**17

# Products of weights and rows below which handing a shard to another thread costs more than
# it saves.
_WORTH_A_THREAD = 2**23


@dataclass(frozen=True)
class OptimizerSettings:
    """Name, initial learning rate, momentum (not Adam's) and decay of the learning rate.

    `decay` is "linear" or "cosine" (to zero after the last step), a number of mini-batch steps
    after each of which the learning rate is divided by ten, or None (constant).
    """

    name: str
    learning_rate: float
    momentum: float
    decay: str | int | None = None

    def build(
        self, weights: Tensor, gradient: Tensor, stacks: Sequence[Stack], learning_rate: Tensor
    ) -> Stepper:
        """The optimiser of a vector of weights, which for Muon consists of `stacks`.

        Its learning rate is the number that `learning_rate` holds at a step.
        """
        if self.name == "muon":
            return Muon(weights, gradient, stacks, learning_rate, self.momentum)
        if self.name == "sgd":
            return SGD(weights, gradient, learning_rate, self.momentum)
        on_cuda, weights = weights.device.type == "cuda", nn.Parameter(weights)
        weights.grad = gradient
        fused = on_cuda or weights.device.type == "cpu"
        return torch.optim.Adam([weights], lr=learning_rate, fused=fused, capturable=on_cuda)

    def learning_rate_at(self, step: int, n_steps: int) -> float:
        """The learning rate of mini-batch step `step`, counted from 0, of `n_steps`."""
        if self.decay == "linear":
            return self.learning_rate * (1.0 - step / n_steps)
        if self.decay == "cosine":
            return self.learning_rate * (1.0 + math.cos(math.pi * step / n_steps)) / 2.0
        if self.decay is None:
            return self.learning_rate
        return self.learning_rate * 0.1 ** (step // self.decay)


def number_of_shards(batch_size: int) -> int:
    """Shards into which a batch of so many rows is cut on a CPU."""
    if batch_size < 2 * _LEAST_HALF:
        return 1
    return min(max(batch_size // _SHARD_ROWS, 2), _MOST_SHARDS)


def _keep_freed_memory() -> None:
    """Let the C library keep up to 64 MB of freed memory for what is allocated next.

    Otherwise the temporaries of each step come from the system anew, page by page, which takes 8 %
    of a step of 1,024 rows of the paper's network. glibc keeps twice as much as the largest block
    it has freed, of up to this size; nothing is written to the block.
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8)


class ShardedOptimizer:
    """Minimise a sum of row losses over the weights of `module`, one mini-batch at a time.

    A batch is cut into shards whose number depends on `batch_size` alone. Each shard has a
    replica of the module and a gradient of its own; the gradients are added in a fixed order.
    The weights live in one flat float32 vector, `weights`, of which the module's parameters
    are views; replicas hold them in `dtype`, but for the module's direct parameters (cluster
    centres), which stay float32. The vector is cut into pieces, each with its own optimiser.

    A loss that works `on_device`, without a look at what is there, is recorded on CUDA
    (`Recorder`), if nothing in the module is known to stand in the way.

    The ranks of a `group` take the gradient of their own rows, of which each has a `share` of all,
    and update the pieces they own by the sum over the ranks. Of the other pieces they see what
    replicas need; after the last step, `meet` gives all ranks all weights.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: OptimizerSettings,
        *,
        batch_size: int,
        workers: Workers,
        dtype: torch.dtype,
        seed: int,
        group: Alone = ALONE,
        share: float = 1.0,
        on_device: bool = False,
    ):
        _keep_freed_memory()
        device = next(module.parameters()).device
        self.settings = settings
        self._group, self._share = group, torch.tensor(share, device=device)
        self._learning_rate = torch.tensor(settings.learning_rate, device=device)
        if group.any(dtype == torch.float32):
            dtype = torch.float32  # not all ranks may have units for less
        self._lay_out(module, dtype)
        # Running statistics see whole batches, one after the other: there is a single replica.
        self._buffers, n_shards = list(module.buffers()), 1
        if device.type == "cpu" and not self._buffers:
            n_shards = number_of_shards(batch_size)
        self._replicas = [self._replica_of(module, dtype) for _ in range(n_shards)]
        self._parameters = [self._layout.parameters(replica) for replica in self._replicas]
        self._generators = [random_stream(seed, f"shard {k}", device) for k in range(n_shards)]
        self._local_randomness = not draws_nothing(module)
        parallel = n_shards > 1 and len(self.weights) * batch_size >= _WORTH_A_THREAD
        self._map = workers.map if parallel else lambda f, items: [f(item) for item in items]
        self._records = device.type == "cuda" and on_device and group is ALONE
        self._records &= is_recordable(module)
        self._begin()

    def _lay_out(self, module: nn.Module, dtype: torch.dtype) -> None:
        """Where weights and gradients lie: this rank's own, and what it has of others'."""
        trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._layout = layout = _Layout.of(trained, stacked=self.settings.name == "muon")
        device = next(module.parameters()).device
        self.weights = torch.zeros(layout.n_weights, dtype=torch.float32, device=device)
        for name, place in layout.places.items():
            self.weights[place] = trained[name].detach().reshape(-1)
        self._own = _Halves(self.weights[: layout.n_layered], self.weights[layout.n_layered :])
        layout.bind(module, self._own)
        dtypes = [dtype if p.start < layout.n_layered else torch.float32 for p in layout.pieces]
        gradients = [
            torch.empty_like(piece.of(self._own), dtype=dtype, device="meta")
            for piece, dtype in zip(layout.pieces, dtypes, strict=True)
        ]
        self._exchange = self._group.exchange(gradients, self._own, [dtype, torch.float32])
        self._seen = _Halves(*self._exchange.seen)
        self._parts = [list(layout.parts(piece)) for piece in layout.pieces]
        self._own_parts = [
            [part.of_piece(slot) for part in parts]
            for parts, (slot, *_) in zip(self._parts, self._exchange.slots, strict=True)
        ]
        # The shards' gradients are added up in the precision in which they come; torch's optimisers
        # want a copy in that of the weights. What belongs to no parameter stays zero.
        self._gradients = {}
        for k in self._exchange.owned:
            total = self._exchange.slots[k][0]
            wanted = total.dtype if self.settings.name == "muon" else torch.float32
            self._gradients[k] = total.to(device, wanted)

    def _replica_of(self, module: nn.Module, dtype: torch.dtype) -> nn.Module:
        """A copy in `dtype` that has the weights that are seen and the module's own buffers."""
        replica = copy.deepcopy(module, {id(buffer): buffer for buffer in module.buffers()})
        replica.to(dtype)
        self._layout.bind(replica, self._seen)
        return replica

    @property
    def module(self) -> nn.Module:
        """A replica of the module in the training precision, always up to date."""
        return self._replicas[0]

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights and of the module's buffers, for `restore`; ranks first `meet`."""
        return {name: value.clone() for name, value in self._values().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to an earlier `state`, with no memory of the steps since (nor before)."""
        for name, value in self._values().items():
            value.copy_(state[name])
        for seen, own in zip(self._seen, self._own, strict=True):
            seen.copy_(own)
        self._begin()

    def full_state(self) -> dict[str, Tensor]:
        """All that the next steps depend on, for `resume`; not a copy."""
        state = self._values()
        for k, generator in enumerate(self._generators):
            state[f"generator {k}"] = generator.get_state()
        for k, optimizer in self._optimizers.items():
            for name, value in optimizer.state_dict()["state"].get(0, {}).items():
                if value is not None:
                    state[f"moment {k} {name}"] = value
        return state

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `full_state` as if there had been no break.

        After the last step of all, a `state` is enough. Entries of other names are ignored.
        """
        self.restore(state)
        for k, generator in enumerate(self._generators):
            if f"generator {k}" in state:
                generator.set_state(state[f"generator {k}"])
        for k, optimizer in self._optimizers.items():
            moments = part_of(state, f"moment {k} ")
            if moments:
                optimizer.load_state_dict({**optimizer.state_dict(), "state": {0: moments}})
                # torch's has a copy of what it was given.
                optimizer.param_groups[0]["lr"] = self._learning_rate

    def _values(self) -> dict[str, Tensor]:
        buffers = {f"buffer {k}": buffer for k, buffer in enumerate(self._buffers)}
        return {"weights": self.weights, **buffers}

    def step(self, loss: Loss, batch: Tensor, learning_rate: float) -> Tensor:
        """One step down the gradient of the batch's mean loss; the loss before the step."""
        self._learning_rate.fill_(learning_rate)
        if self._recorder is None:
            return self._step(loss, batch)
        return self._recorder(self._step, loss, batch)

    def _step(self, loss: Loss, batch: Tensor) -> Tensor:
        """The same at the learning rate that was noted."""
        shards = torch.tensor_split(batch, len(self._replicas))
        n_shards = min(len(shards), len(batch))  # the others have no rows
        losses, gradients = zip(
            *self._map(
                lambda k: self._shard_gradient(k, loss, shards[k], len(batch)), range(n_shards)
            ),
            strict=True,
        )
        owned, pieces = self._exchange.owned, self._layout.pieces
        of_others = [k for k in range(len(pieces)) if k not in owned]
        self._map(lambda k: self._add_up(k, gradients), of_others)
        self._exchange.to_owners()
        self._map(lambda k: self._update(k, gradients), owned)
        self._exchange.to_all([piece.of(self._seen) for piece in pieces])
        return torch.stack(losses).sum()

    def meet(self) -> None:
        """Have the weights of all ranks, and the mean of their buffers."""
        self._exchange.from_owners([piece.of(self._own) for piece in self._layout.pieces])
        self._group.average(self._buffers, float(self._share))

    def _shard_gradient(
        self, k: int, loss: Loss, rows: Tensor, n_batch: int
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A shard's part of the batch's mean loss, and its gradient by parameters."""
        replica, generator = self._replicas[k], self._generators[k]
        # Batch statistics of a single row are undefined: it is normalised by the running ones.
        replica.train(n_batch > 1)
        randomness = LocalRandomness(generator) if self._local_randomness else nullcontext()
        with torch.enable_grad(), randomness:
            value = loss(replica, rows, generator) / n_batch
            gradients = torch.autograd.grad(
                value, self._parameters[k], grad_outputs=self._share, materialize_grads=True
            )
        return value.detach(), gradients

    def _begin(self) -> None:
        """New optimisers, and with them new recordings of what they do."""
        self._optimizers: dict[int, Stepper] = {}
        for k, gradient in self._gradients.items():
            piece = self._layout.pieces[k]
            self._optimizers[k] = self.settings.build(
                piece.of(self._own), gradient, piece.stacks, self._learning_rate
            )
        self._recorder = None
        if self._records:
            self._recorder = Recorder(self._generators, self.weights.device)

    def _add_up(self, position: int, gradients: Sequence[Sequence[Tensor]]) -> None:
        """The shards' gradients of a piece, in this rank's slot for it."""
        own, parts = self._own_parts[position], self._parts[position]
        first, *others = ([part.of_all(shard) for part in parts] for shard in gradients)
        torch._foreach_copy_(own, first)
        for other in others:
            torch._foreach_add_(own, other)

    def _update(self, position: int, gradients: Sequence[Sequence[Tensor]]) -> None:
        """Step down the gradients of all ranks of a piece that this one owns."""
        self._add_up(position, gradients)
        total, *others = self._exchange.slots[position]
        if len(others) > 1:  # of the last of many bfloat16 numbers little would be left
            others = [torch.stack(others).float().sum(dim=0)]
        for other in others:
            total += other
        if self._gradients[position] is not total:
            self._gradients[position].copy_(total)
        self._optimizers[position].step()
        piece = self._layout.pieces[position]
        own, seen = piece.of(self._own), piece.of(self._seen)
        if seen.data_ptr() != own.data_ptr():
            seen.copy_(own)


class _Part(NamedTuple):
    """Where in a piece numbers of a parameter lie, and which of them."""

    where: slice
    parameter: int
    of: slice
    shape: tuple[int, ...]

    def of_piece(self, piece: Tensor) -> Tensor:
        return piece[self.where].view(self.shape)

    def of_all(self, parameters: Sequence[Tensor]) -> Tensor:
        own = parameters[self.parameter]
        return own if own.shape == self.shape else own.reshape(-1)[self.of]


class _Halves(NamedTuple):
    """A flat vector: first the weights of layers, then the module's direct parameters."""

    layered: Tensor
    direct: Tensor

    def between(self, start: int, end: int) -> Tensor:
        """The numbers from `start` to `end`, which are of one half."""
        shift = len(self.layered)
        if start < shift:
            return self.layered[start:end]
        return self.direct[start - shift : end - shift]


class _Piece(NamedTuple):
    """Numbers of a flat vector from `start` to `end`, for Muon of `stacks`."""

    start: int
    end: int
    stacks: Sequence[Stack] = ()

    def of(self, halves: _Halves) -> Tensor:
        """Its numbers."""
        return halves.between(self.start, self.end)


_Shapes = dict[str, tuple[int, ...]]


class _Layout(NamedTuple):
    """Where the parameters of a module lie in a flat vector, and the pieces of the vector.

    Those of layers are its first `n_layered` numbers; the module's direct parameters come last.
    """

    places: dict[str, slice]
    shapes: _Shapes
    pieces: list[_Piece]
    n_layered: int
    n_weights: int

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor], stacked: bool) -> _Layout:
        """One number after the other, or `stacked`: matrices of one width in equal groups."""
        lay = _stacked if stacked else _flat
        direct = {name: tuple(p.shape) for name, p in parameters.items() if "." not in name}
        layered = {name: tuple(p.shape) for name, p in parameters.items() if "." in name}
        starts, pieces, n_layered = lay(layered, 0)
        direct_starts, direct_pieces, n_weights = lay(direct, n_layered)
        starts |= direct_starts
        places = {n: slice(start, start + parameters[n].numel()) for n, start in starts.items()}
        # In the threads' pile the large pieces come first.
        pieces = sorted(pieces + direct_pieces, key=lambda piece: piece.start - piece.end)
        return cls(places, layered | direct, pieces, n_layered, n_weights)

    def parameters(self, module: nn.Module) -> list[nn.Parameter]:
        """Those of the module, in the order of `places`."""
        return [module.get_parameter(name) for name in self.places]

    def bind(self, module: nn.Module, halves: _Halves) -> None:
        """Make the module's parameters views of a flat vector."""
        for parameter, place in zip(self.parameters(module), self.places.values(), strict=True):
            parameter.data = halves.between(place.start, place.stop).view(parameter.shape)

    def parts(self, piece: _Piece) -> Iterator[_Part]:
        """What of the parameters is in the piece."""
        for parameter, (name, place) in enumerate(self.places.items()):
            start, end = max(place.start, piece.start), min(place.stop, piece.end)
            if start < end:
                where = slice(start - piece.start, end - piece.start)
                of = slice(start - place.start, end - place.start)
                whole = end - start == place.stop - place.start
                shape = self.shapes[name] if whole else (end - start,)
                yield _Part(where, parameter, of, shape)


def _number_of_pieces(n_weights: int) -> int:
    halves = 2 if n_weights >= 2 * _LEAST_PIECE else 1
    return max(round(n_weights / _PIECE_WEIGHTS), halves)


def _flat(shapes: _Shapes, start: int) -> tuple[dict[str, int], list[_Piece], int]:
    """Starts by name, pieces of equal size and the end of numbers laid one after the other."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    starts = dict(zip(shapes, itertools.accumulate(sizes, initial=start), strict=False))
    n_pieces = _number_of_pieces(sum(sizes))
    bounds = sorted({start + k * sum(sizes) // n_pieces for k in range(n_pieces + 1)})
    pieces = [_Piece(a, b) for a, b in itertools.pairwise(bounds)]
    return starts, pieces, bounds[-1]


def _stacked(shapes: _Shapes, start: int) -> tuple[dict[str, int], list[_Piece], int]:
    """The same of matrices in groups of rows, those of one width side by side."""
    matrices = {name: (shape[0] if shape else 1, *shape[1:]) for name, shape in shapes.items()}
    by_width: dict[int, list[str]] = {}
    for name, shape in matrices.items():
        by_width.setdefault(math.prod(shape[1:]), []).append(name)
    starts, groups, end = {}, [], start
    for width, names in by_width.items():
        size = min(GROUP_ROWS, max(matrices[name][0] for name in names))
        for name in names:
            starts[name] = end
            whole, rest = divmod(matrices[name][0], size)
            own = [_Group(width, size, n) for n in [size] * whole + [rest] * (rest > 0)]
            groups += own
            end += len(own) * size * width
    pieces = []
    for some in _cut(groups, _number_of_pieces(end - start)):
        piece_start, stacks = start, []
        for (width, size), alike in itertools.groupby(some, lambda group: group[:2]):
            n_rows = torch.tensor([group.n_rows for group in alike])
            stacks.append(Stack(start - piece_start, n_rows, size, width))
            start += len(n_rows) * size * width
        pieces.append(_Piece(piece_start, start, stacks))
    return starts, pieces, end


class _Group(NamedTuple):
    """So many rows of that width, and zeros up to `size` rows."""

    width: int
    size: int
    n_rows: int


def _cut(groups: list[_Group], n_pieces: int) -> Iterator[list[_Group]]:
    """The groups in about so many pieces of about the same number of numbers."""
    ends = list(itertools.accumulate(group.width * group.size for group in groups))
    piece_of = [(end - 1) * n_pieces // ends[-1] for end in ends]
    for _, some in itertools.groupby(zip(piece_of, groups, strict=True), lambda pair: pair[0]):
        yield [group for _, group in some]


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries of `state` whose names begin with `prefix`, by the rest of their names."""
    return {name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)}
