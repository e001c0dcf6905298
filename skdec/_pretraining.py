"""Pretraining: an autoencoder learns the embedding, and neighbours in it refine it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ._backend import derived_seed, random_stream, resolve_precision
from ._batching import minibatches, steps_per_epoch
from ._checkpoint import NO_CHECKPOINT, NoCheckpoint
from ._inference import apply_to_rows
from ._neighbors import nearest_neighbors
from ._networks import Architecture, forward, weights_of
from ._objectives import RECONSTRUCTION_LOSSES, mean_squared_error, neighbor_contrast
from ._optimization import Loss, OptimizerSettings, ShardedOptimizer
from ._threads import Workers

# Pairs that are contrasted with each other. A fixed number: the loss does not depend on how a batch
# is cut into shards, and memory grows with the batch, not with its square.
_CONTRASTED_PAIRS = 128

_DECODER_OPTIMIZER = OptimizerSettings("adam", 0.001, momentum=0.0, decay="cosine")


@dataclass(frozen=True)
class PretrainingSettings:
    """What the parameters of pretraining came to, with every "auto" resolved.

    `layerwise_steps`, `steps` and `neighbor_steps` count mini-batches, the first for each layer.
    """

    stages: str
    layerwise_steps: int
    steps: int
    neighbor_steps: int
    n_neighbors: int
    reconstruction_loss: str
    corruption: float
    optimizer: OptimizerSettings
    batch_size: int
    precision: str
    device: str
    seed: int


class Pretrained(NamedTuple):
    """Weights by name and the mean loss of each epoch, layer-wise for each layer in turn."""

    weights: dict[str, np.ndarray]
    loss_curve: list[float]
    layerwise_loss_curves: list[list[float]]
    neighbor_loss_curve: list[float]


def auto_steps(n_rows: int) -> int:
    """Mini-batch steps of pretraining when none are given.

    It is the number of steps that decides the accuracy, not that of epochs: it grows, but
    slower than the data do.
    """
    return round(100 * n_rows ** (1 / 3))


def auto_neighbor_steps(n_rows: int) -> int:
    """Mini-batch steps of training with neighbours when none are given."""
    return round(50 * n_rows ** (1 / 3))


def pretrain(
    X: np.ndarray,
    weight: np.ndarray,
    architecture: Architecture,
    settings: PretrainingSettings,
    n_workers: int,
    verbose: int,
    checkpoint: NoCheckpoint = NO_CHECKPOINT,
) -> Pretrained:
    """Train an autoencoder on rows `X`, float32 of shape (n_rows, n_features).

    A function of plain values, so that `memory` can recognise a call it has seen. The last three
    arguments do not change the result.
    """
    module = architecture.build(settings.seed).to(settings.device)
    _check_pairs(module, settings)
    with Workers(n_workers) as workers:
        training = _Training(
            torch.from_numpy(X).to(settings.device),
            torch.from_numpy(weight).float().to(settings.device),
            settings,
            workers,
            resolve_precision(settings.precision, torch.device(settings.device), module),
            verbose,
            checkpoint,
        )
        layer_curves, neighbor_curve = [], []
        if settings.stages == "layer-wise":
            layer_curves = [_train_pair(k, module, training) for k in range(len(module.encoder))]
        curve = training.run(module, training.reconstruction(), settings.steps, "pretraining")
        if settings.stages == "neighbors" and len(X) > 2:
            neighbor_curve = _train_with_neighbors(module, training)
    return Pretrained(weights_of(module), curve, layer_curves, neighbor_curve)


def refit_decoder(
    module: nn.Module,
    X: Tensor,
    Z: Tensor,
    weight: Tensor,
    settings: PretrainingSettings,
    workers: Workers,
    checkpoint: NoCheckpoint = NO_CHECKPOINT,
) -> None:
    """Train the decoder alone to map the fixed embedding `Z` back to `X`, in place.

    Self-training without the reconstruction term moves the embedding away from the decoder.
    """
    reconstruct = RECONSTRUCTION_LOSSES[settings.reconstruction_loss]

    def loss(decoder: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        return weight[rows] @ reconstruct(forward(decoder, Z[rows]), X[rows])

    held = {id(weight) for weight in module.encoder.parameters()}
    if any(id(weight) in held for weight in module.decoder.parameters()):
        return  # to train weights that both halves share would move the embedding
    # Self-training may have stretched the embedding; Adam's steps do not depend on its scale.
    settings = replace(settings, optimizer=_DECODER_OPTIMIZER)
    if _is_trainable(module.decoder):
        dtype = resolve_precision(settings.precision, X.device, module)
        training = _Training(X, weight, settings, workers, dtype, 0, checkpoint)
        training.run(module.decoder, loss, -(-settings.steps // 4), "decoder")


@dataclass
class _Training:
    """The rows, and how a module is trained on them; shared by all stages of pretraining."""

    X: Tensor
    weight: Tensor
    settings: PretrainingSettings
    workers: Workers
    dtype: torch.dtype
    verbose: int
    checkpoint: NoCheckpoint = NO_CHECKPOINT

    def reconstruction(self) -> Loss:
        """Weighted reconstruction loss of the whole autoencoder, without corruption."""
        reconstruct = RECONSTRUCTION_LOSSES[self.settings.reconstruction_loss]

        def loss(module: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
            x = self.X[rows]
            decoded = forward(module.decoder, forward(module.encoder, x))
            return self.weight[rows] @ reconstruct(decoded, x)

        return loss

    def run(self, module: nn.Module, loss: Loss, n_steps: int, name: str) -> list[float]:
        """Minimise `loss` over `n_steps` mini-batches; the mean loss of each epoch."""
        settings = self.settings
        seed = derived_seed(settings.seed, name)
        generator = random_stream(seed, "batches", self.X.device)
        n_rows, batch_size = len(self.X), min(settings.batch_size, len(self.X))
        optimizer = ShardedOptimizer(
            module,
            settings.optimizer,
            batch_size=batch_size,
            workers=self.workers,
            dtype=self.dtype,
            seed=seed,
        )
        epoch = steps_per_epoch(n_rows, batch_size)
        done, curve, losses = 0, [], optimizer.weights.new_empty(epoch)
        if saved := self.checkpoint.resume(name):
            done, curve = saved["step"], saved["curve"]
            losses.copy_(saved["losses"])
            optimizer.resume(saved)
        report = _Report(name, -(-n_steps // epoch), self.verbose)
        batches = minibatches(n_rows, batch_size, n_steps, generator)
        for step, batch in enumerate(islice(batches, done, None), done):
            rate = settings.optimizer.learning_rate_at(step, n_steps)
            losses[step % epoch] = optimizer.step(loss, batch, rate)
            is_last = step == n_steps - 1
            if (step + 1) % epoch == 0 or is_last:
                curve.append(float(losses[: step % epoch + 1].mean()))
                report.epoch(len(curve), curve[-1])
                check_finite(curve[-1:], settings.optimizer)
            if self.checkpoint.due() or is_last:
                state = optimizer.state() if is_last else optimizer.full_state()
                progress = {"step": step + 1, "curve": curve, "losses": losses}
                self.checkpoint.save(name, state | progress)
        module.eval()
        return curve


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

    return training.run(pair, loss, settings.layerwise_steps, f"layer {k + 1}")


def _train_with_neighbors(module: nn.Module, training: _Training) -> list[float]:
    """Keep each row and its neighbours together against all others, and the reconstruction.

    The neighbours are those in the autoencoder's embedding, found once: more of them are of
    the row's own class than of those in the input space. Each mini-batch step takes twice
    `batch_size` rows, and one neighbour at random for each; pairs are contrasted in groups.
    """
    settings = training.settings
    Z = apply_to_rows(module.encoder, training.X, training.workers).cpu().numpy()
    check_finite(Z, settings.optimizer)
    neighbors = nearest_neighbors(Z, settings.n_neighbors, training.workers)
    neighbors = torch.from_numpy(neighbors).to(training.X.device)
    reconstruct = RECONSTRUCTION_LOSSES[settings.reconstruction_loss]

    def loss(module: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        choice = torch.randint(
            neighbors.shape[1], rows.shape, generator=generator, device=rows.device
        )
        ends = torch.cat([rows, neighbors[rows, choice]])
        x = training.X[ends]
        Z = forward(module.encoder, x)
        of_rows, of_neighbors = Z.chunk(2)
        losses = [
            neighbor_contrast(
                of_rows[group], of_neighbors[group], ends.view(2, -1)[:, group].ravel()
            )
            for group in torch.arange(len(rows), device=rows.device).split(_CONTRASTED_PAIRS)
        ]
        # Every row is among `rows` once an epoch; its neighbour need not be decoded too.
        errors = reconstruct(forward(module.decoder, of_rows), x[: len(rows)])
        return training.weight[rows] @ (torch.cat(losses) + errors)

    wide = replace(training, settings=replace(settings, batch_size=2 * settings.batch_size))
    return wide.run(module, loss, settings.neighbor_steps, "neighbors")


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


def check_finite(values: list[float] | np.ndarray, optimizer: OptimizerSettings) -> None:
    """Refuse losses or embeddings that show that pretraining has diverged."""
    if not np.isfinite(values).all():
        raise ValueError(
            "Pretraining diverged: the loss or the embedding is no longer finite. Lower "
            f"'pretrain_learning_rate' (it is {optimizer.learning_rate}) or rescale the input."
        )


@dataclass
class _Report:
    """Prints about ten lines of progress of a stage when `verbose`."""

    name: str
    n_epochs: int
    verbose: int

    def epoch(self, epoch: int, loss: float) -> None:
        every = max(1, self.n_epochs // 10)
        if self.verbose and (epoch % every == 0 or epoch == self.n_epochs):
            print(
                f"[DECClustering] {self.name}: epoch {epoch}/{self.n_epochs}, loss {loss:.6f}",
                flush=True,
            )
