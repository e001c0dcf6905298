"""Ridge regression on rows that come a few at a time, its penalty chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ._backend import CPU

# Penalties that are tried, in units of the features' mean variance; of equal ones the first.
_PENALTIES = tuple(10.0**exponent for exponent in range(1, -10, -1))

# Variances below this share of the features' mean square are what rounding leaves.
_ROUNDED = 1e-12


class Moments(NamedTuple):
    """Weighted sums over rows, float64: all that regression needs to know of them.

    `features` holds products of features, of shape (n_features + 1, n_features + 1), where the last
    feature is one, `targets` products of features and targets, `square` squares of the targets.
    """

    features: Tensor
    targets: Tensor
    square: Tensor

    @classmethod
    def none(cls, n_features: int, n_targets: int, device: torch.device = CPU) -> Moments:
        """Those of no rows."""
        shapes = (n_features + 1, n_features + 1), (n_features + 1, n_targets), ()
        return cls(*(torch.zeros(s, dtype=torch.float64, device=device) for s in shapes))

    def add(self, features: Tensor, targets: Tensor, weight: Tensor) -> None:
        """Count more rows, with a weight each, in place."""
        device = self.features.device
        h, y, w = (values.to(device).double() for values in (features, targets, weight))
        h = torch.cat([h, h.new_ones(len(h), 1)], dim=1)
        weighted = (h * w[:, None]).mT
        self.features.addmm_(weighted, h)
        self.targets.addmm_(weighted, y)
        self.square.add_(w @ y.square().sum(dim=1))

    def error(self, coefficients: Tensor) -> float:
        """The weighted sum of squared errors with these, of shape (n_features + 1, n_targets)."""
        explained = 2.0 * self.targets - self.features @ coefficients
        return float(self.square - (coefficients * explained).sum())

    def coefficients(self, penalties: Sequence[float]) -> Iterator[Tensor]:
        """Those of ridge regression with each of the `penalties`, the last of each not penalised.

        0 where there are no rows.
        """
        # Features that vary by less than what is rounded off do not vary.
        tiny = torch.finfo(torch.float64).tiny
        least = (_ROUNDED * self.features.diagonal().mean()).clamp_min(tiny)
        total = self.features[-1, -1].clamp_min(tiny)
        means, of_targets = self.features[:-1, -1] / total, self.targets[-1] / total
        scatter = self.features[:-1, :-1] - total * torch.outer(means, means)
        spectrum, axes = torch.linalg.eigh(scatter)
        along = axes.mT @ (self.targets[:-1] - total * torch.outer(means, of_targets))
        spectrum, unit = spectrum.clamp_min(0.0), spectrum.mean().maximum(least)
        for penalty in penalties:
            slopes = axes @ (along / (spectrum + penalty * unit)[:, None])
            yield torch.cat([slopes, (of_targets - means @ slopes)[None]])


def cross_validated(one: Moments, other: Moments) -> tuple[Tensor, float]:
    """Coefficients of ridge regression on all rows, and the sum of squared errors with them.

    The penalty is that with which each of two random halves of the rows tells most of the other.
    With less, a row unlike all others, of which an embedding has some between its clusters, has
    its way.
    """
    told = (
        [that.error(found) for found in this.coefficients(_PENALTIES)]
        for this, that in ((one, other), (other, one))
    )
    errors = [sum(pair) for pair in zip(*told, strict=True)]
    best = _PENALTIES[errors.index(min(errors))]
    every = Moments(*(a + b for a, b in zip(one, other, strict=True)))
    (coefficients,) = every.coefficients([best])
    return coefficients, every.error(coefficients)
