"""Pretraining: neighbours in the input, or an autoencoder, teach the network an embedding."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ._backend import (
    derived_seed,
    is_recordable,
    random_stream,
    resolve_precision,
    searching_device,
)
from ._batching import Draw, as_they_are, minibatches, row_blocks, steps_per_epoch
from ._callbacks import SILENT, Task
from ._checkpoint import NO_CHECKPOINT, NoCheckpoint, State
from ._distributed import ALONE, Alone
from ._end_layers import (
    Units,
    first_linear,
    last_linear,
    on_leading_components,
    to_leading_components,
    without_last_linear,
)
from ._inference import apply_to_rows
from ._neighborhoods import PLAIN, Neighborhoods
from ._neighbors import ALL_PAIRS_ROWS, roughly_nearest_neighbors
from ._networks import Architecture, forward, weights_of
from ._objectives import RECONSTRUCTION_LOSSES, mean_squared_error, neighbor_contrast
from ._optimization import Loss, OptimizerSettings, ShardedOptimizer
from ._regression import Moments, cross_validated
from ._scaled_rows import ScaledRows, numpy_rows
from ._threads import Workers

# Rows that are contrasted with each other, each with two neighbours: 126 in all. A fixed number:
# the loss does not depend on how a batch is cut into shards, and memory grows with the batch, not
# with its square.
_CONTRASTED_ROWS = 42

# The stage's random stream, where it is not of the stage's name.
_STREAMS = {"autoencoder": "pretraining"}

# Where the decoder is trained alone by steps: their share of the autoencoder's, at least so many,
# and their length: the first time, and where it has been trained before. At 0.04 then all units of
# MNIST's decoder die.
_DECODER_SHARE, _LEAST_DECODER_STEPS = 1 / 6, 100
_DECODER_OPTIMIZER = OptimizerSettings("muon", 0.03, momentum=0.9, decay="linear")
_AGAIN_OPTIMIZER = replace(_DECODER_OPTIMIZER, learning_rate=0.02)


@dataclass(frozen=True)
class PretrainingSettings:
    """What the parameters of pretraining came to, with every "auto" resolved.

    `layerwise_steps`, `steps` and `neighbor_steps` count mini-batches, the first for each layer.
    `with_decoder` says whether what comes after "neighbors" needs the decoder.
    """

    stages: str
    with_decoder: bool
    layerwise_steps: int
    steps: int
    neighbor_steps: int
    reconstruction_loss: str
    corruption: float
    optimizer: OptimizerSettings
    neighbor_learning_rate: float
    batch_size: int
    precision: str
    device: str
    seed: int


class Pretrained(NamedTuple):
    """Weights by name and the mean loss of each epoch, layer-wise for each layer in turn.

    `loss_curve` is that of the reconstruction: with neighbours of the decoder's, if it is trained.
    `nearest` are the nearest rows of each row, where these are not just roughly the nearest.
    """

    weights: dict[str, np.ndarray]
    loss_curve: list[float]
    layerwise_loss_curves: list[list[float]]
    neighbor_loss_curve: list[float]
    nearest: np.ndarray | None = None


class PretrainingStopped(Exception):
    """What a callback has stopped: `pretrained`, on a way on which no `memory` keeps it."""

    def __init__(self, pretrained: Pretrained):
        super().__init__("A callback has stopped a stage of pretraining.")
        self.pretrained = pretrained


def auto_steps(n_rows: int) -> int:
    """Mini-batch steps of pretraining when none are given.

    It is the number of steps that decides the accuracy, not that of epochs: it grows, but
    slower than the data do.
    """
    return round(8 * math.sqrt(n_rows))


def auto_neighbor_steps(n_rows: int) -> int:
    """The same of training with neighbours; a few less are enough."""
    return round(7 * math.sqrt(n_rows))


def pretrain(
    X: Tensor | ScaledRows,
    weight: Tensor,
    architecture: Architecture,
    settings: PretrainingSettings,
    n_workers: int,
    hoods: Neighborhoods = PLAIN,
    data: object = None,
    task: Task = SILENT,
    checkpoint: NoCheckpoint = NO_CHECKPOINT,
    group: Alone = ALONE,
) -> Pretrained:
    """Train encoder or autoencoder on rows `X`, float32 of shape (n_rows, n_features).

    Neighbours are sought as `hoods` say. `data` stands for `X` and `weight` where `memory`
    recognises a call it has seen. The other arguments have no part in the result, unless `task`
    stops a stage or the `checkpoint` has one that was stopped: this raises `PretrainingStopped`.
    (With a `group` there is no `memory`.)
    """
    module = architecture.build(settings.seed).to(settings.device)
    _check_pairs(module, settings)
    by_neighbors = settings.stages == "neighbors"
    layers = range(len(module.encoder) if settings.stages == "layer-wise" else 0)
    n_stages = 1 + settings.with_decoder if by_neighbors else len(layers) + 1
    stage = task.subtask("pretraining", n_stages)
    with Workers(n_workers) as workers, stage:
        training = _Training(
            X,
            weight,
            settings,
            workers,
            resolve_precision(
                settings.precision, torch.device(settings.device), module, X.shape[1]
            ),
            stage,
            checkpoint,
            group,
            hoods,
        )
        layer_curves, curve, neighbor_curve, nearest = [], [], [], None
        if by_neighbors:
            neighbor_curve, nearest = _train_with_neighbors(module.encoder, training)
            if settings.with_decoder:
                Z = apply_to_rows(module.encoder, X, workers)
                curve = _train_decoder(module, Z, training)
        else:
            layer_curves = [_train_pair(k, module, training) for k in layers]
            curve = training.run(module, training.reconstruction(), settings.steps, "autoencoder")
    pretrained = Pretrained(weights_of(module), curve, layer_curves, neighbor_curve, nearest)
    if stage.cut_short:
        raise PretrainingStopped(pretrained)
    return pretrained


def train_decoder(
    module: nn.Module,
    X: Tensor | ScaledRows,
    Z: Tensor,
    weight: Tensor,
    settings: PretrainingSettings,
    workers: Workers,
    task: Task = SILENT,
    checkpoint: NoCheckpoint = NO_CHECKPOINT,
    group: Alone = ALONE,
    hoods: Neighborhoods = PLAIN,
) -> list[float]:
    """Train the decoder alone to map the final embedding `Z` to `X`; the mean loss of each epoch.

    Self-training without the reconstruction term has moved the embedding away from the decoder,
    and pretraining with neighbours has not trained any. Then it gives the leading components of
    `hoods` alone.
    """
    dtype = resolve_precision(settings.precision, X.device, module, X.shape[1])
    training = _Training(X, weight, settings, workers, dtype, task, checkpoint, group, hoods)
    return _train_decoder(module, Z, training, again=settings.stages != "neighbors")


@dataclass
class _Training:
    """The rows, and how a module is trained on them; shared by all stages of pretraining."""

    X: Tensor | ScaledRows
    weight: Tensor
    settings: PretrainingSettings
    workers: Workers
    dtype: torch.dtype
    task: Task = SILENT
    checkpoint: NoCheckpoint = NO_CHECKPOINT
    group: Alone = ALONE
    hoods: Neighborhoods = PLAIN

    def reconstruction(self) -> Loss:
        """Weighted reconstruction loss of the whole autoencoder, without corruption."""
        reconstruct = RECONSTRUCTION_LOSSES[self.settings.reconstruction_loss]

        def loss(module: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
            x = self.X[rows]
            decoded = forward(module.decoder, forward(module.encoder, x))
            return self.weight[rows] @ reconstruct(decoded, x)

        return loss

    def run(
        self,
        module: nn.Module,
        loss: Loss,
        n_steps: int,
        name: str,
        on_device: bool = True,
        draw: Draw = as_they_are,
    ) -> list[float]:
        """Minimise `loss` over `n_steps` mini-batches; the mean loss of each epoch.

        What they have of each row is drawn by `draw`.
        Each epoch is a task, which may stop the rest. A stage that the checkpoint has goes on from
        there. `on_device` says whether what the loss does beside `module` is all done there, given
        rows that are.
        """
        settings, group = self.settings, self.group
        seed = group.own_seed(derived_seed(settings.seed, _STREAMS.get(name, name)))
        generator = random_stream(seed, "batches", self.X.device)
        n_rows = len(self.X)
        batch_size = min(group.own_batch(settings.batch_size), n_rows)
        optimizer = ShardedOptimizer(
            module,
            settings.optimizer,
            batch_size=batch_size,
            workers=self.workers,
            dtype=self.dtype,
            seed=seed,
            group=group,
            share=group.share(n_rows),
            on_device=on_device and isinstance(self.X, Tensor),
        )
        epoch_steps = steps_per_epoch(group.sum(n_rows), settings.batch_size)
        n_epochs = -(-n_steps // epoch_steps)
        with self.task.subtask(name, n_epochs) as stage:
            now = _Progress.of(self.checkpoint.resume(stage.path), optimizer)
            done = len(now.curve) * epoch_steps + len(now.losses)
            batches = minibatches(n_rows, batch_size, n_steps, generator, draw)
            steps = islice(enumerate(batches), done, None)
            while len(now.curve) < n_epochs and not now.stopped:
                with stage.subtask("epoch") as epoch:
                    for step, batch in islice(steps, epoch_steps - len(now.losses)):
                        if self.checkpoint.due():
                            self.checkpoint.save(stage.path, now.state(optimizer.full_state()))
                        rate = settings.optimizer.learning_rate_at(step, n_steps)
                        now.losses.append(optimizer.step(loss, batch, rate))
                    now.end_epoch(group, n_rows)
                    check_finite(now.curve[-1:], settings, name)
                _say_sometimes(epoch, name, n_epochs, now.curve)
                # Only now is it known: no checkpoint is made between the epoch and the answer.
                now.stopped = group.any(epoch.stopped) and len(now.curve) < n_epochs
            optimizer.meet()
            self.checkpoint.save(stage.path, now.state(optimizer.state()))
            self.task.cut_short |= now.stopped
            module.eval()
        return now.curve


@dataclass
class _Progress:
    """How far a stage is: mean losses of whole epochs, losses of the steps since."""

    curve: list[float] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    stopped: bool = False

    @classmethod
    def of(cls, saved: State | None, optimizer: ShardedOptimizer) -> _Progress:
        """That of a saved stage, with which the optimizer goes on too; or of a new one."""
        if saved is None:
            return cls()
        optimizer.resume(saved)
        losses = list(optimizer.weights.new_tensor(saved["losses"]))
        return cls(saved["curve"], losses, saved["stopped"])

    def state(self, of_optimizer: State) -> State:
        """What `of` needs."""
        losses = [float(loss) for loss in self.losses]
        return {**of_optimizer, "curve": self.curve, "losses": losses, "stopped": self.stopped}

    def end_epoch(self, group: Alone, n_rows: int) -> None:
        self.curve.append(group.mean(float(torch.stack(self.losses).mean()), n_rows))
        self.losses.clear()


def _train_pair(k: int, module: nn.Module, training: _Training) -> list[float]:
    """Denoising autoencoder of layer `k` alone: what the layers before it give is its input.

    Section 3.2 of the paper: dropout on the input and on the hidden layer, squared error.
    """
    settings = training.settings
    # A copy, in the training precision: these layers are only applied.
    before = copy.deepcopy(module.encoder[:k]).to(training.dtype).eval()
    pair = nn.ModuleList([module.encoder[k], module.decoder[len(module.decoder) - 1 - k]])
    if not _is_trainable(pair):
        return []  # an activation that stands alone, say
    first = RECONSTRUCTION_LOSSES[settings.reconstruction_loss]
    reconstruct = first if k == 0 else mean_squared_error

    def loss(pair: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            x = forward(before, training.X[rows])
        hidden = forward(pair[0], _corrupt(x, settings.corruption, generator))
        decoded = forward(pair[1], _corrupt(hidden, settings.corruption, generator))
        return training.weight[rows] @ reconstruct(decoded, x)

    name = f"layer {k + 1}"
    return training.run(pair, loss, settings.layerwise_steps, name, is_recordable(before))


def _train_with_neighbors(
    encoder: nn.Module, training: _Training
) -> tuple[list[float], np.ndarray | None]:
    """Keep each row and its neighbours together against all others.

    The neighbours are those in the input, found once. Two thirds of the rows of a mini-batch come
    with two different neighbours each, drawn at random, so that twice as many rows as it has go
    through the network; they are contrasted in groups. The mean loss of each epoch, and the nearest
    rows as `Pretrained` has them.
    """
    settings, weight = training.settings, training.weight
    if not _is_trainable(encoder) or training.group.min(len(training.X)) <= 2:
        return [], None
    optimizer = replace(settings.optimizer, learning_rate=settings.neighbor_learning_rate)
    own = replace(training, settings=replace(settings, optimizer=optimizer))
    nearest, neighbors = _neighbors_in_the_input(own)
    neighbors = torch.from_numpy(neighbors).long().to(own.X.device)
    with on_leading_components(encoder, own.X, own.hoods) as (encoder, X):

        def loss(encoder: nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
            ends = _in_groups(batch)
            Z = forward(encoder, X[ends.flatten()]).unflatten(0, ends.shape)
            # Where a group was filled up, its last rows are contrasts only.
            rows = ends[:, 0].flatten()[: len(batch)]
            losses = neighbor_contrast(Z, ends).flatten()[: len(batch)]
            # The step divides by the rows of the whole batch.
            return len(batch) / len(rows) * (weight[rows] @ losses)

        own, draw = replace(own, X=X), partial(_with_two_neighbors, neighbors)
        return own.run(encoder, loss, settings.neighbor_steps, "neighbors", draw=draw), nearest


def _with_two_neighbors(neighbors: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """The rows and two of the `neighbors` of each, not twice the same if there are two.

    Of shape (n_rows, 3).
    """
    how = {"size": rows.shape, "generator": generator, "device": rows.device}
    n_neighbors = neighbors.shape[1]
    one = torch.randint(n_neighbors, **how)
    other = (one + torch.randint(1, max(n_neighbors, 2), **how)) % n_neighbors
    return torch.stack([rows, neighbors[rows, one], neighbors[rows, other]], dim=1)


def _in_groups(batch: Tensor) -> Tensor:
    """About two thirds of the rows of a batch, and their neighbours, in groups to be contrasted.

    Of shape (n_groups, 3, n_rows), given the batch of shape (n_batch, 3). All groups are alike, so
    that one operation does for all: a batch of too few rows for one begins again to fill it up.
    """
    n_groups = max(1, round(2 * len(batch) / 3 / _CONTRASTED_ROWS))
    n_filled = n_groups * _CONTRASTED_ROWS
    filled = batch.repeat(-(-n_filled // len(batch)), 1)[:n_filled]
    return filled.view(n_groups, _CONTRASTED_ROWS, -1).mT


def _neighbors_in_the_input(training: _Training) -> tuple[np.ndarray | None, np.ndarray]:
    """Numbers of the rows nearest to each row, if they are exact, and of its neighbours."""
    hoods, n_rows = training.hoods, len(training.X)
    seed = derived_seed(training.settings.seed, "blocks")
    # A rank has only its share of a row's neighbours: more of its own would be further away.
    n_neighbors = math.ceil(hoods.n_neighbors * training.group.share(n_rows))
    components = hoods.components(partial(numpy_rows, training.X), np.arange(n_rows))
    places = hoods.places(hoods.untied(components), seed)
    workers, device = training.workers, searching_device(training.X.device)
    n_sought = hoods.n_sought(n_neighbors)
    nearest = roughly_nearest_neighbors(places, n_sought, seed, workers, device)
    neighbors = hoods.chosen(places, nearest, n_neighbors, workers, device)
    # Of many rows they would take more memory than the neighbours while these are trained with.
    are_exact = hoods.n_components is not None and n_rows <= ALL_PAIRS_ROWS
    return nearest if are_exact and training.group.size == 1 else None, neighbors


def _train_decoder(
    module: nn.Module, Z: Tensor, training: _Training, again: bool = False
) -> list[float]:
    """Train the decoder alone to map the fixed `Z` to the rows.

    By regression in its last layer, if that is linear and errors are squared, else step by step.
    With `again` it is one that takes something like `Z` already.
    """
    decoder, settings = module.decoder, training.settings
    held = {id(weight) for weight in module.encoder.parameters()}
    if not _is_trainable(decoder) or any(id(weight) in held for weight in decoder.parameters()):
        return []  # to train weights that both halves share would move the embedding
    by_regression = settings.reconstruction_loss == "mse" and last_linear(decoder) is not None
    with torch.no_grad():
        # Training with neighbours stretches the embedding, on more rows by more (to a root mean
        # square of 555 on MNIST). For weights that take it as it is, the steps of Muon are too
        # long.
        first, units = first_linear(decoder), Units.of(Z, training.group)
        z = Z if first is None else (Z - units.mean) / units.scale
        if first is not None and again:
            units.enter(first)
        if by_regression:
            own = replace(training, hoods=PLAIN) if again else training
            with training.task.subtask("decoder") as stage:
                curve = [_fit_last_layer(decoder, z, own)]
                check_finite(curve, settings, "decoder")
                stage.say(f"decoder: loss {curve[0]:.6f}")
        else:
            curve = _train_by_steps(decoder, z, training, again)
        if first is not None:
            units.leave(first)
    return curve


def _fit_last_layer(decoder: nn.Module, z: Tensor, training: _Training) -> float:
    """Fit the last layer to give the rows for what it gets for `z`, by regression; the mean loss.

    The layers before stay as they are: of the few numbers of an embedding random ones make features
    enough. Steps down a gradient see little but the clusters where these have been drawn together.
    """
    X, weight, settings, group = training.X, training.weight, training.settings, training.group
    seed = group.own_seed(derived_seed(settings.seed, "decoder"))
    device = searching_device(z.device)  # that has float64
    in_first = torch.rand(len(z), generator=random_stream(seed, "halves")) < 0.5
    decoder.eval()
    with to_leading_components(decoder, X, training.hoods) as (decoder, target):
        with without_last_linear(decoder) as (hidden, layer):

            def moments_of(rows: Tensor) -> Moments:
                moments = Moments.none(layer.in_features, layer.out_features, device)
                for block in row_blocks(len(rows), layer.in_features + layer.out_features):
                    some = rows[block]
                    with torch.no_grad():
                        moments.add(forward(hidden, z[some]), target.x[some], weight[some])
                return moments

            halves = [half.nonzero()[:, 0].to(z.device) for half in (in_first, ~in_first)]
            found = training.workers.map_on(z.device, moments_of, halves)
        found = [Moments(*(group.sum(value.cpu()) for value in one)) for one in found]
        coefficients, error = cross_validated(*found)
        layer.weight.copy_(coefficients[:-1].mT)
        layer.bias.copy_(coefficients[-1])
    left = 0.0 if target.left is None else float(group.sum(weight @ target.left))
    return (target.share * error / layer.out_features + left) / group.sum(len(z))


def _train_by_steps(decoder: nn.Module, z: Tensor, training: _Training, again: bool) -> list[float]:
    """Train the whole decoder to map `z` to the rows; the mean loss of each epoch."""
    settings = training.settings
    reconstruct = RECONSTRUCTION_LOSSES[settings.reconstruction_loss]
    optimizer = _AGAIN_OPTIMIZER if again else _DECODER_OPTIMIZER
    n_steps = max(_LEAST_DECODER_STEPS, math.ceil(_DECODER_SHARE * settings.steps))

    def loss(decoder: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        return training.weight[rows] @ reconstruct(forward(decoder, z[rows]), training.X[rows])

    own = replace(training, settings=replace(settings, optimizer=optimizer))
    return own.run(decoder, loss, min(n_steps, settings.steps), "decoder")


def _say_sometimes(epoch: Task, name: str, n_epochs: int, curve: list[float]) -> None:
    """Ten lines for a stage or a few less, and that of the last epoch."""
    is_last = len(curve) == n_epochs or epoch.stopped
    if is_last or len(curve) % -(-n_epochs // 10) == 0:
        words = ", stopped by a callback" if epoch.stopped else ""
        epoch.say(f"{name}: epoch {len(curve)}/{n_epochs}, loss {curve[-1]:.6f}{words}")


def _is_trainable(module: nn.Module) -> bool:
    return any(weight.requires_grad for weight in module.parameters())


def _corrupt(x: Tensor, corruption: float, generator: torch.Generator) -> Tensor:
    """Dropout of a share `corruption` of the inputs, from a local generator."""
    kept = torch.rand(x.shape, generator=generator, device=x.device) >= corruption
    return x * kept / (1.0 - corruption)


def _check_pairs(module: nn.Module, settings: PretrainingSettings) -> None:
    """Refuse layer-wise pretraining of a network that has no mirrored pairs of layers."""
    halves = (module.encoder, module.decoder)
    if settings.stages == "layer-wise" and not (
        all(isinstance(half, nn.Sequential) for half in halves)
        and len(module.encoder) == len(module.decoder)
    ):
        raise ValueError(
            "pretraining='layer-wise' needs an 'autoencoder' whose encoder and decoder are "
            "torch.nn.Sequential of the same length, each the mirror image of the other; got "
            f"{type(module.encoder).__name__} and {type(module.decoder).__name__}. "
            "Use pretraining='end-to-end'."
        )


def check_finite(
    values: list[float] | np.ndarray, settings: PretrainingSettings, stage: str = ""
) -> None:
    """Refuse losses of a stage, or embeddings, that show that pretraining has diverged."""
    if not np.isfinite(values).all():
        name, rate = "pretrain_learning_rate", settings.optimizer.learning_rate
        if settings.stages == "neighbors":
            name, rate = "neighbor_learning_rate", settings.neighbor_learning_rate
        advice = f"Lower {name!r} (it is {rate}) or rescale the input."
        if stage == "decoder":  # its own training has a rate that is no parameter
            advice = "Rescale the input."
        raise ValueError(
            f"Pretraining diverged: the loss or the embedding is no longer finite. {advice}"
        )
