"""Gradient steps over fixed shards of a mini-batch, and learning-rate decay."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._backend import LocalRandomness, draws_nothing, random_stream
from ._distributed import ALONE, Alone
from ._muon import Muon, group_rows
from ._threads import Workers

# loss(module, rows, generator) -> sum of the losses of the rows with these numbers
Loss = Callable[[nn.Module, Tensor, torch.Generator], Tensor]

# A batch is cut into shards of at least this many rows, at most four; weights are updated in
# slices of at least this many numbers, at most eight.
_SHARD_ROWS, _MOST_SHARDS = 128, 4
_SLICE_WEIGHTS, _MOST_SLICES = 2**18, 8

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

    def build(self, weights: list[nn.Parameter], dtype: torch.dtype) -> torch.optim.Optimizer:
        """The torch optimiser of some matrices of weights; `dtype` is that of products."""
        fused = weights[0].device.type in ("cpu", "cuda")
        if self.name == "muon":
            return Muon(weights, self.learning_rate, self.momentum, dtype)
        if self.name == "adam":
            return torch.optim.Adam(weights, lr=self.learning_rate, fused=fused)
        return torch.optim.SGD(weights, lr=self.learning_rate, momentum=self.momentum, fused=fused)

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
    return min(max(batch_size // _SHARD_ROWS, 1), _MOST_SHARDS)


class ShardedOptimizer:
    """Minimise a sum of row losses over the weights of `module`, one mini-batch at a time.

    A batch is cut into shards whose number depends on `batch_size` alone. Each shard has a
    replica of the module and a gradient of its own; the gradients are added in a fixed order.
    The weights live in one flat float32 vector, `weights`, of which the module's parameters
    are views; replicas hold them in `dtype`, but for the module's direct parameters (cluster
    centres), which stay float32.

    The ranks of a `group` step on their own rows, of which each has a `share` of all, and go on
    from the mean of their weights after a few steps.
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
    ):
        device = next(module.parameters()).device
        self.settings = settings
        self._group, self._share, self._steps_apart = group, share, 0
        # Direct parameters last, so that all that is held in `dtype` is one leading segment.
        trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        direct = {n: p for n, p in trained.items() if "." not in n}
        named = {n: p for n, p in trained.items() if n not in direct} | direct
        self._names = list(named)
        self.weights = torch.cat([p.detach().reshape(-1).float() for p in named.values()])
        n_cast = len(self.weights) - sum(p.numel() for p in direct.values())
        self._cast = (
            self.weights[:n_cast] if dtype == torch.float32 else self.weights[:n_cast].to(dtype)
        )
        _bind(module, self._names, [self.weights])

        # Running statistics see whole batches, one after the other: there is a single replica.
        has_buffers = next(module.buffers(), None) is not None
        n_shards = 1
        if device.type == "cpu" and not has_buffers:
            n_shards = number_of_shards(batch_size)
        self._replicas = [module if has_buffers else copy.deepcopy(module) for _ in range(n_shards)]
        for replica in self._replicas:
            replica.to(dtype)
            _bind(replica, self._names, [self._cast, self.weights[n_cast:]])
        self._buffers = list(module.buffers())
        self._parameters = [_parameters(replica, self._names) for replica in self._replicas]
        self._n_layered = len(named) - len(direct)
        # Those of the shards, in the precisions in which they come; and their sum.
        segments = self._cast, self.weights[n_cast:]
        self._shard_gradients = [[torch.zeros_like(s) for s in segments] for _ in self._replicas]
        self._gradient = torch.zeros_like(self.weights)
        self._generators = [random_stream(seed, f"shard {k}", device) for k in range(n_shards)]
        self._local_randomness = not draws_nothing(module)

        shapes = [tuple(parameter.shape) for parameter in named.values()]
        self._slices = _slices(shapes, len(named) - len(direct), by_rows=settings.name == "muon")
        self._optimizers = [self._slice_optimizer(blocks) for blocks in self._slices]
        parallel = n_shards > 1 and len(self.weights) * batch_size >= _WORTH_A_THREAD
        self._map = workers.map if parallel else lambda f, items: [f(item) for item in items]

    @property
    def module(self) -> nn.Module:
        """A replica of the module in the training precision, always up to date."""
        return self._replicas[0]

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights and of the module's buffers, for `restore`."""
        return {name: value.clone() for name, value in self._values().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to an earlier `state`, with no memory of the steps since (nor before)."""
        for name, value in self._values().items():
            value.copy_(state[name])
        self._cast.copy_(self.weights[: len(self._cast)])
        self._optimizers = [self._slice_optimizer(blocks) for blocks in self._slices]

    def full_state(self) -> dict[str, Tensor]:
        """All that the next steps depend on, for `resume`; not a copy."""
        state = self._values()
        for k, generator in enumerate(self._generators):
            state[f"generator {k}"] = generator.get_state()
        for k, optimizer in enumerate(self._optimizers):
            for position, moments in optimizer.state_dict()["state"].items():
                held = {name: value for name, value in moments.items() if value is not None}
                state |= {f"moment {k} {position} {name}": held[name] for name in held}
        return state

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `full_state` as if there had been no break.

        After the last step of all, a `state` is enough. Entries of other names are ignored.
        """
        self.restore(state)
        for k, generator in enumerate(self._generators):
            if f"generator {k}" in state:
                generator.set_state(state[f"generator {k}"])
        for k, optimizer in enumerate(self._optimizers):
            n = range(len(self._slices[k]))
            moments = {position: part_of(state, f"moment {k} {position} ") for position in n}
            if any(moments.values()):
                optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})

    def _values(self) -> dict[str, Tensor]:
        buffers = {f"buffer {k}": buffer for k, buffer in enumerate(self._buffers)}
        return {"weights": self.weights, **buffers}

    def step(self, loss: Loss, batch: Tensor, learning_rate: float) -> Tensor:
        """One step down the gradient of the batch's mean loss; the loss before the step."""
        for optimizer in self._optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate
        shards = torch.tensor_split(batch, len(self._replicas))
        losses = self._map(
            lambda k: self._shard_gradient(k, loss, shards[k], len(batch)), range(len(shards))
        )
        self._map(self._update_slice, range(len(self._slices)))
        self._steps_apart += 1
        if self._steps_apart >= self._group.steps_apart:
            self.meet()
        return torch.stack(losses).sum()

    def meet(self) -> None:
        """Go on from the mean of all ranks' weights and buffers."""
        self._group.average(list(self._values().values()), self._share)
        self._cast.copy_(self.weights[: len(self._cast)])
        self._steps_apart = 0

    def _shard_gradient(self, k: int, loss: Loss, rows: Tensor, n_batch: int) -> Tensor:
        replica, generator = self._replicas[k], self._generators[k]
        if not len(rows):
            for segment in self._shard_gradients[k]:
                segment.zero_()
            return self.weights.new_zeros(())
        # Batch statistics of a single row are undefined: it is normalised by the running ones.
        replica.train(n_batch > 1)
        randomness = LocalRandomness(generator) if self._local_randomness else nullcontext()
        with torch.enable_grad(), randomness:
            value = loss(replica, rows, generator) / n_batch
            gradients = torch.autograd.grad(value, self._parameters[k], materialize_grads=True)
        parts = gradients[: self._n_layered], gradients[self._n_layered :]
        for segment, part in zip(self._shard_gradients[k], parts, strict=True):
            if part:
                torch.cat([gradient.reshape(-1) for gradient in part], out=segment)
        return value.detach()

    def _slice_optimizer(self, blocks: list[_Block]) -> torch.optim.Optimizer:
        matrices = []
        for block in blocks:
            weights = nn.Parameter(self.weights[block.start : block.stop].view(-1, block.width))
            weights.grad = self._gradient[block.start : block.stop].view_as(weights)
            matrices.append(weights)
        return self.settings.build(matrices, self._cast.dtype)

    def _update_slice(self, position: int) -> None:
        part = slice(self._slices[position][0].start, self._slices[position][-1].stop)
        n_cast = len(self._cast)
        is_cast = part.start < n_cast
        start = 0 if is_cast else n_cast
        segments = (gradients[0 if is_cast else 1] for gradients in self._shard_gradients)
        first, *others = (segment[part.start - start : part.stop - start] for segment in segments)
        gradient = self._gradient[part].copy_(first)
        for other in others:
            gradient += other
        self._optimizers[position].step()
        if is_cast and self._cast.dtype != torch.float32:
            self._cast[part].copy_(self.weights[part])


class _Block(NamedTuple):
    """Consecutive numbers of a flat vector, as rows of `width` numbers."""

    start: int
    stop: int
    width: int


def _slices(shapes: list[tuple[int, ...]], n_layered: int, by_rows: bool) -> list[list[_Block]]:
    """All weights, in the order of the parameters' shapes, in consecutive slices of blocks.

    A block is whole groups of a matrix's rows if `by_rows`, else any numbers. No slice has both
    the first `n_layered` parameters and others.
    """
    starts = [0, *itertools.accumulate(map(math.prod, shapes))]
    if not by_rows:
        n_cast, n_weights = starts[n_layered], starts[-1]
        n_slices = min(max(n_cast // _SLICE_WEIGHTS, 1), _MOST_SLICES)
        bounds = sorted({*(k * n_cast // n_slices for k in range(n_slices + 1)), n_weights})
        return [[_Block(a, b, 1)] for a, b in itertools.pairwise(bounds)]
    slices: list[list[_Block]] = [[]]
    for k, (start, shape) in enumerate(zip(starts, shapes, strict=False)):
        width = math.prod(shape[1:])
        group = group_rows(*shape[:1] or (1,)) * width
        size = max(1, round(_SLICE_WEIGHTS / group)) * group
        for first in range(start, starts[k + 1], size):
            held = slices[-1][-1].stop - slices[-1][0].start if slices[-1] else 0
            if held >= _SLICE_WEIGHTS // 2 or (held and k == n_layered and first == start):
                slices.append([])
            slices[-1].append(_Block(first, min(first + size, starts[k + 1]), width))
    return slices


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries of `state` whose names begin with `prefix`, by the rest of their names."""
    return {name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)}


def _parameters(module: nn.Module, names: list[str]) -> list[nn.Parameter]:
    return [module.get_parameter(name) for name in names]


def _bind(module: nn.Module, names: list[str], segments: list[Tensor]) -> None:
    """Make the parameters views of consecutive numbers of the segments."""
    parts = list(segments)
    start = 0
    for parameter in _parameters(module, names):
        if start == len(parts[0]) and len(parts) > 1:
            parts.pop(0)
            start = 0
        stop = start + parameter.numel()
        shape = parameter.shape
        parameter.data = parts[0][start:stop].view(shape)
        start = stop
