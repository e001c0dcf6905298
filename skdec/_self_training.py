"""Self-training: encoder and centres follow a target, a partition or their sharpened assignment."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._backend import derived_seed, random_stream, resolve_precision
from ._batching import in_tiles, minibatches, steps_per_epoch
from ._callbacks import SILENT, Task
from ._checkpoint import NO_CHECKPOINT, NoCheckpoint
from ._distributed import ALONE, Alone
from ._end_layers import on_leading_components
from ._neighborhoods import PLAIN, Neighborhoods
from ._networks import forward
from ._objectives import (
    RECONSTRUCTION_LOSSES,
    kl_divergence,
    log_soft_assignment,
    squared_distances,
    target_distribution,
)
from ._optimization import Loss, OptimizerSettings, ShardedOptimizer, part_of
from ._scaled_rows import ScaledRows
from ._threads import Workers

# A round is undone at most so many times; then self-training ends.
_MOST_SETBACKS = 3

# A partition has been taken over where all but this share of the rows, and at least half of each
# cluster, are nearest to the right centre.
_MISALIGNED = 0.001

# Until no more than the first are wrong the learning rate is held; in as many rounds as the second
# it falls. With smaller and smaller steps the network comes as close in fewer rounds, and of a
# partition of noisy rows it takes over less of what is wrong. If more are wrong then, that was too
# early: all begins again, until there have been so many rounds.
_ROUGHLY_ALIGNED, _FALLING_ROUNDS, _MOST_ROUNDS = 0.02, 3, 56
_ALIGNMENT = OptimizerSettings("muon", 0.02, momentum=0.9)

# Centres are no nearer to each other then than so many times the clusters' spread, or hardly: far
# from two centres that are, Q is about the same for both, and no gradient tells them apart. Two
# spirals share theirs.
_LEAST_DISTANCE, _NEARLY, _MOST_PUSHES = 2.0, 0.01, 50

# Steps of alignment are of so many batches each: half as many of twice as many rows come as close,
# and half of a step of one is its update.
_BATCHES_AT_ONCE = 2

# Rows whose soft assignment is computed at once.
_TILE_ROWS = 512


@dataclass(frozen=True)
class SelfTrainingSettings:
    """What the parameters of self-training came to, with every "auto" resolved.

    `update_interval` counts mini-batch steps, `max_iter` rounds of so many steps.
    """

    alpha: float
    target_distribution: str | Callable
    clustering_weight: float
    reconstruction_weight: float
    reconstruction_loss: str
    optimizer: OptimizerSettings
    batch_size: int
    update_interval: int
    max_iter: int
    tol: float
    precision: str
    seed: int


@dataclass
class SelfTrained:
    """Where self-training ended.

    The curves have an entry for each round that was kept. `setbacks` says in words what made
    each of the other rounds void, and `undone`, if not empty, what made all of them void.
    `stopped` says that a callback ended it.
    """

    centers: np.ndarray
    kl_curve: list[float] = field(default_factory=list)
    label_change_curve: list[float] = field(default_factory=list)
    converged: bool = False
    setbacks: list[str] = field(default_factory=list)
    undone: str = ""
    stopped: bool = False


class _Model(nn.Module):
    """What self-training trains: encoder, decoder or None, and the centres."""

    draws_nothing = True

    def __init__(self, encoder: nn.Module, decoder: nn.Module | None, centers: Tensor):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.centers = nn.Parameter(centers)


def _model(
    encoder: nn.Module,
    decoder: nn.Module,
    centers: np.ndarray,
    device: torch.device,
    settings: SelfTrainingSettings,
) -> _Model:
    # Without the reconstruction term nothing reaches the decoder.
    trained = decoder if settings.reconstruction_weight > 0 else None
    return _Model(encoder, trained, torch.from_numpy(centers).float().to(device))


def auto_update_interval(n_rows: int, batch_size: int) -> int:
    """One epoch of mini-batch steps, but at most the root of the number of rows and at least 30."""
    return max(30, min(steps_per_epoch(n_rows, batch_size), math.isqrt(n_rows)))


def align(
    autoencoder: nn.Module,
    centers: np.ndarray,
    X: Tensor | ScaledRows,
    weight: Tensor,
    labels: np.ndarray,
    settings: SelfTrainingSettings,
    workers: Workers,
    checkpoint: NoCheckpoint = NO_CHECKPOINT,
    group: Alone = ALONE,
    stage: str = "alignment",
    hoods: Neighborhoods = PLAIN,
) -> np.ndarray:
    """Train until the nearest centre of most rows is that of their label; `autoencoder` in place.

    A partition need not be one by nearest centres: two rings share theirs. The target here is
    the partition itself in place of Eq. 3, beside the reconstruction loss if that has a weight.
    Rows of small clusters weigh more there. Distances are in units of the clusters' spread, and
    centres that are close together for it begin further apart, unless nearly all rows are where
    they should be. An encoder that was trained on the leading components of `hoods` is so again,
    unless rows are to be reconstructed. Returns the centres.
    """
    dtype = resolve_precision(settings.precision, X.device, autoencoder, X.shape[1])
    interval = auto_update_interval(group.sum(len(X)), settings.batch_size)
    settings = replace(
        settings,
        optimizer=_ALIGNMENT,
        batch_size=_BATCHES_AT_ONCE * settings.batch_size,
        update_interval=-(-interval // _BATCHES_AT_ONCE),
        seed=derived_seed(settings.seed, "alignment"),
    )
    hoods = PLAIN if settings.reconstruction_weight > 0 else hoods
    with on_leading_components(autoencoder.encoder, X, hoods) as (encoder, x):
        model = _model(encoder, autoencoder.decoder, centers, X.device, settings)
        target = torch.from_numpy(labels).long().to(X.device)
        spread, wrong = _spread_and_share_wrong(model, x, target, weight, workers, group)
        if wrong > _ROUGHLY_ALIGNED:
            model.centers.data = _apart(model.centers.data, _LEAST_DISTANCE * spread)
        rounds = _Rounds.of(stage, model, x, settings, dtype, workers, checkpoint, group)
        P = nn.functional.one_hot(target, len(centers)).float()
        of_partition = replace(settings, clustering_weight=1.0, reconstruction_weight=1.0)
        loss = _loss(x, P, _evened(weight, P, group), of_partition, unit=spread)

        def share_wrong() -> float:
            log_Q = _assign_all(rounds.optimizer.module, x, settings.alpha, workers)
            return _share_wrong(log_Q.argmax(dim=1), target, len(centers), weight, group)

        _follow(rounds, loss, share_wrong)
    autoencoder.eval()
    return model.centers.detach().cpu().numpy().astype(np.float64)


def _follow(rounds: _Rounds, loss: Loss, share_wrong: Callable[[], float]) -> None:
    """Rounds at the full learning rate and then at a falling one, until all is well."""
    n_rounds, n_falling = (rounds.progress.get(name, 0) for name in ("n_rounds", "n_falling"))
    last_to_fall = _MOST_ROUNDS - _FALLING_ROUNDS
    while 0 < n_falling < _FALLING_ROUNDS or n_rounds <= last_to_fall:
        if n_falling in (0, _FALLING_ROUNDS):
            wrong = share_wrong()
            if wrong <= (_ROUGHLY_ALIGNED if n_falling else _MISALIGNED):
                break
            n_falling = 0
        learning_rate = (1.0 - n_falling / _FALLING_ROUNDS) * _ALIGNMENT.learning_rate
        rounds.run(loss, learning_rate, {"n_rounds": n_rounds, "n_falling": n_falling})
        n_falling += n_falling > 0 or wrong <= _ROUGHLY_ALIGNED or n_rounds == last_to_fall
        n_rounds += 1
    rounds.finish({"n_rounds": _MOST_ROUNDS})  # whoever resumes this needs no more


def _evened(weight: Tensor, P: Tensor, group: Alone) -> Tensor:
    """The rows' weights, divided by the cube root of those of their clusters together.

    Else no gradient sees a cluster of a few rows. By their root, or evenly, they take some of their
    neighbours' rows. All together weigh what they did.
    """
    of_clusters = group.sum(weight @ P).clamp_min(torch.finfo(weight.dtype).tiny)
    evened = weight / (P @ of_clusters ** (1.0 / 3.0))
    return evened * (group.sum(weight.sum()) / group.sum(evened.sum()))


def _spread_and_share_wrong(
    model: _Model,
    X: Tensor | ScaledRows,
    labels: Tensor,
    weight: Tensor,
    workers: Workers,
    group: Alone,
) -> tuple[float, float]:
    """Root of the mean squared distance of the rows to their labels' centres; what is wrong."""
    model.eval()
    distances = in_tiles(
        lambda x: squared_distances(forward(model.encoder, x), model.centers),
        X,
        workers,
        [_TILE_ROWS],
    )
    own = distances.gather(1, labels[:, None])[:, 0]
    wrong = _share_wrong(distances.argmin(dim=1), labels, distances.shape[1], weight, group)
    return math.sqrt(_mean(own, weight, group)) or 1.0, wrong


def _apart(centers: Tensor, least: float) -> Tensor:
    """The centres, those that are nearer to each other than that pushed apart."""
    for _ in range(_MOST_PUSHES):
        differences = centers[:, None] - centers
        distances = differences.norm(dim=2).fill_diagonal_(torch.inf)
        lacking = (least - distances).clamp_min(0.0)
        if lacking.max() <= _NEARLY * least:
            break
        # Centres that coincide have no direction, and stay.
        directions = nn.functional.normalize(differences, dim=2)
        centers = centers + (lacking[:, :, None] / 2.0 * directions).sum(dim=1)
    return centers


def _share_wrong(
    found: Tensor, labels: Tensor, n_clusters: int, weight: Tensor, group: Alone
) -> float:
    """The share of the rows that are not where their labels want them; 1 if most of a cluster."""
    is_right = found == labels
    n_right, n_rows = (
        group.sum(some.bincount(minlength=n_clusters)) for some in (labels[is_right], labels)
    )
    share_wrong = _mean((~is_right).float(), weight, group)
    return share_wrong if (2 * n_right >= n_rows).all() else 1.0


def self_train(
    autoencoder: nn.Module,
    centers: np.ndarray,
    X: Tensor | ScaledRows,
    weight: Tensor,
    settings: SelfTrainingSettings,
    workers: Workers,
    task: Task = SILENT,
    attributes: Callable[[SelfTrained], dict[str, Any]] | None = None,
    checkpoint: NoCheckpoint = NO_CHECKPOINT,
    group: Alone = ALONE,
) -> SelfTrained:
    """Minimise KL(P || Q) plus the weighted reconstruction loss; `autoencoder` in place.

    P is computed from all rows at the start of each round (Eq. 3) and held for the round.
    Rounds end when fewer than `tol` of the labels changed in one, or after `max_iter` of them.
    A round in which a cluster died is undone and tried again with a tenth of the learning
    rate, a few times. Each round is a task, which may stop the rest; `attributes` are those of
    the estimator in the state of a round's end.

    The ranks of a `group` have some of the rows each, and decide by the sums over all of them.
    """
    model = _model(autoencoder.encoder, autoencoder.decoder, centers, X.device, settings)
    dtype = resolve_precision(settings.precision, X.device, autoencoder, X.shape[1])
    rounds = _Rounds.of("self-training", model, X, settings, dtype, workers, checkpoint, group)
    result = SelfTrained(centers, **rounds.progress)
    log_Q = _assign_all(rounds.optimizer.module, X, settings.alpha, workers)
    P = torch.empty_like(log_Q)
    loss = _loss(X, P, weight, settings)
    with task.subtask("self-training", settings.max_iter + _MOST_SETBACKS) as stage:
        while not _ended(result, settings):
            with stage.subtask("round") as this_round:
                P.copy_(_target(log_Q.exp(), weight, settings.target_distribution, group))
                learning_rate = settings.optimizer.learning_rate / 10.0 ** len(result.setbacks)
                rounds.run(loss, learning_rate, _progress(result))
                trained_log_Q = _assign_all(rounds.optimizer.module, X, settings.alpha, workers)
                degeneration = _degeneration(log_Q, trained_log_Q, group)
                if degeneration:
                    rounds.undo()
                    result.setbacks.append(degeneration)
                else:
                    change = (log_Q.argmax(dim=1) != trained_log_Q.argmax(dim=1)).float()
                    log_Q = trained_log_Q
                    result.kl_curve.append(_mean(kl_divergence(P, log_Q), weight, group))
                    result.label_change_curve.append(_mean(change, weight, group))
                    result.converged = result.label_change_curve[-1] < settings.tol
                this_round.say(_summary(result, degeneration, settings.max_iter))
                if attributes is not None:
                    this_round.attributes = lambda: attributes(_state(result, model))
            result.stopped = group.any(this_round.stopped)
        rounds.finish(_progress(result))
    autoencoder.eval()
    return _state(result, model)


def _state(result: SelfTrained, model: _Model) -> SelfTrained:
    """`result` as it is now, which later rounds do not change."""
    centers = model.centers.detach().cpu().numpy().astype(np.float64)
    return replace(copy.deepcopy(result), centers=centers)


def _summary(result: SelfTrained, degeneration: str | None, max_iter: int) -> str:
    """A line on the round that just ended."""
    if degeneration:
        return f"self-training: round {len(result.kl_curve) + 1}/{max_iter} undone, {degeneration}"
    return (
        f"self-training: round {len(result.kl_curve)}/{max_iter}, "
        f"KL {result.kl_curve[-1]:.6f}, {result.label_change_curve[-1]:.2%} of labels changed"
    )


def _ended(result: SelfTrained, settings: SelfTrainingSettings) -> bool:
    return (
        result.converged
        or result.stopped
        or len(result.kl_curve) == settings.max_iter
        or len(result.setbacks) == _MOST_SETBACKS
    )


def _progress(result: SelfTrained) -> dict:
    """What a checkpoint has to hold of the rounds before, as arguments of `SelfTrained`."""
    return {name: value for name, value in vars(result).items() if name != "centers"}


@dataclass
class _Rounds:
    """Rounds of `n_steps` mini-batch steps each, at any of which a checkpoint may be made.

    What is computed from all rows at the start of a round, such as its target, is not in the
    checkpoint, but the weights that it is computed from: a new object goes back to them, and its
    first `run` goes on from the last step. `progress` is what was said about the rounds before.
    """

    stage: str
    optimizer: ShardedOptimizer
    generator: torch.Generator
    n_rows: int
    batch_size: int
    n_steps: int
    checkpoint: NoCheckpoint

    @classmethod
    def of(
        cls,
        stage: str,
        model: _Model,
        X: Tensor | ScaledRows,
        settings: SelfTrainingSettings,
        dtype: torch.dtype,
        workers: Workers,
        checkpoint: NoCheckpoint,
        group: Alone,
    ) -> _Rounds:
        """Those that train the `model` on a rank's rows `X`, with products in `dtype`."""
        batch_size = min(group.own_batch(settings.batch_size), len(X))
        seed = group.own_seed(settings.seed)
        optimizer = ShardedOptimizer(
            model,
            settings.optimizer,
            batch_size=batch_size,
            workers=workers,
            dtype=dtype,
            seed=seed,
            group=group,
            share=group.share(len(X)),
            on_device=isinstance(X, Tensor),
        )
        batches = random_stream(seed, "batches", X.device)
        n_steps = settings.update_interval
        return cls(stage, optimizer, batches, len(X), batch_size, n_steps, checkpoint)

    def __post_init__(self):
        self._interrupted = self.checkpoint.resume(self.stage)
        self.progress = {}
        if self._interrupted:
            self.progress = self._interrupted["progress"]
            self.generator.set_state(self._interrupted["batches"])
            self.optimizer.restore(part_of(self._interrupted, "start "))

    def run(self, loss: Loss, learning_rate: float, progress: dict) -> None:
        """One round, or the rest of the one that was interrupted."""
        self._start, batches_at_start = self.optimizer.state(), self.generator.get_state()
        start = {f"start {name}": value for name, value in self._start.items()}
        start |= {"progress": progress, "batches": batches_at_start}
        done = 0
        if self._interrupted:
            done = self._interrupted["step"]
            self.optimizer.resume(self._interrupted)
            self._interrupted = None
        batches = minibatches(self.n_rows, self.batch_size, self.n_steps, self.generator)
        for step, batch in enumerate(islice(batches, done, None), done + 1):
            self.optimizer.step(loss, batch, learning_rate)
            if self.checkpoint.due():
                state = start | self.optimizer.full_state() | {"step": step}
                self.checkpoint.save(self.stage, state)
        self.optimizer.meet()

    def undo(self) -> None:
        """Go back to where the last round began."""
        self.optimizer.restore(self._start)

    def finish(self, progress: dict) -> None:
        """Keep the state after the last round."""
        state = {f"start {name}": value for name, value in self.optimizer.state().items()}
        state |= {"progress": progress, "batches": self.generator.get_state()}
        self.checkpoint.save(self.stage, state)


def _assign_all(model: _Model, X: Tensor | ScaledRows, alpha: float, workers: Workers) -> Tensor:
    """Logarithm of Q of all rows, in the training precision."""
    model.eval()
    return in_tiles(
        lambda x: log_soft_assignment(forward(model.encoder, x), model.centers, alpha),
        X,
        workers,
        [_TILE_ROWS],
    )


def _target(Q: Tensor, weight: Tensor, target: str | Callable, group: Alone) -> Tensor:
    """P of all rows, by Eq. 3 or by the user's function, whose result is checked."""
    if not callable(target):
        return target_distribution(Q, weight, group.sum)
    P = torch.as_tensor(target(Q.clone(), weight.clone())).to(Q)
    is_distribution = (
        P.shape == Q.shape
        and bool((P >= 0).all())
        and bool(torch.isclose(P.sum(dim=1), Q.new_ones(()), atol=1e-3).all())
    )
    if not is_distribution:
        raise ValueError(
            "The 'target_distribution' parameter of DECClustering must return non-negative rows "
            f"that sum to 1, of shape {tuple(Q.shape)}. Got an array of shape {tuple(P.shape)}."
        )
    return P


def _loss(
    X: Tensor | ScaledRows,
    P: Tensor,
    weight: Tensor,
    settings: SelfTrainingSettings,
    unit: float = 1.0,
) -> Loss:
    """Weighted KL divergence and, if it has a weight, reconstruction loss of a batch.

    Distances to the centres are taken in this `unit`.
    """
    reconstruct = RECONSTRUCTION_LOSSES[settings.reconstruction_loss]

    def loss(model: _Model, rows: Tensor, generator: torch.Generator) -> Tensor:
        x = X[rows]
        Z = forward(model.encoder, x)
        log_Q = log_soft_assignment(Z / unit, model.centers / unit, settings.alpha)
        value = settings.clustering_weight * kl_divergence(P[rows], log_Q)
        if model.decoder is not None:
            decoded = forward(model.decoder, Z)
            value = value + settings.reconstruction_weight * reconstruct(decoded, x)
        return weight[rows] @ value

    return loss


def _degeneration(before: Tensor, after: Tensor, group: Alone) -> str | None:
    """What a round destroyed, given log Q before and after it, or None."""
    if group.any(not bool(torch.isfinite(after).all())):
        return "the weights became infinite or NaN"
    n_before, n_after = (_n_occupied(log_Q, group) for log_Q in (before, after))
    if n_after < n_before:
        return f"the number of non-empty clusters fell from {n_before} to {n_after}"
    return None


def _n_occupied(log_Q: Tensor, group: Alone) -> int:
    counts = log_Q.argmax(dim=1).bincount(minlength=log_Q.shape[1])
    return int(group.sum(counts).count_nonzero())


def _mean(values: Tensor, weight: Tensor, group: Alone) -> float:
    return group.mean(float((values @ weight) / weight.sum()), float(weight.sum()))
