"""Muon: momentum whose singular values are made equal, for matrices of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Rows of a matrix are orthogonalised in groups of this many: whole matrices lower the loss a little
# more a step, and cost several times as much.
GROUP_ROWS = 64

# Odd polynomials x -> a x + b x^3 + c x^5 that, one after the other, lift all singular values of
# [0, 1] towards 1, small ones by a factor of 34: the first two of "Polar Express" [2]. More of them
# equalise better and gain nothing in training.
_POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
)

# Above 1 the polynomials grow fast, and the trace is rounded.
_CUSHION = 1.04


def _lifted(square: float) -> float:
    """By how much the polynomials lift a singular value with this square."""
    lifted = 1.0
    for a, b, c in _POLYNOMIALS:
        factor = a + b * square + c * square**2
        lifted, square = factor * lifted, factor**2 * square
    return lifted


# That of a vector, which has only one.
_LIFTED = _lifted(1.0 / _CUSHION)


class Stack(NamedTuple):
    """Where in a vector a stack of matrices lies, groups of `size` rows of `width` numbers.

    The first `n_rows` of each group are rows of parameters, the others zeros that fill it up.
    """

    start: int
    n_rows: Tensor
    size: int
    width: int

    def of(self, vector: Tensor) -> Tensor:
        """Its matrices, of shape (n_groups, size, width)."""
        n_groups = len(self.n_rows)
        numbers = vector[self.start : self.start + n_groups * self.size * self.width]
        return numbers.view(n_groups, self.size, self.width)


class Muon:
    """Steps of one size for every neuron, in all directions that its group's gradient has [1].

    `weights` is a vector that consists of `stacks` of groups of neurons, of which each row has the
    weights of a neuron's inputs. Their `gradient` may be of another precision: that of all
    products. A group's Nesterov momentum is brought near to the closest matrix with orthonormal
    rows: a step moves a neuron's weights by a vector whose length is about that which the tensor
    `lr` holds then, from a quarter (of a single neuron, or input) to twice, whatever the gradient's
    size.

    It has the part of the interface of torch's optimisers that training needs.

    References
    ----------
    .. [1] Jordan et al. "Muon: An optimizer for hidden layers in neural networks". 2024,
       https://kellerjordan.github.io/posts/muon/.
    .. [2] Amsel, Persson, Musco, Gower. "The Polar Express: Optimal Matrix Sign Methods and Their
       Application to the Muon Algorithm". 2025, arXiv:2505.16932.
    """

    def __init__(
        self,
        weights: Tensor,
        gradient: Tensor,
        stacks: Sequence[Stack],
        lr: Tensor,
        momentum: float,
    ):
        self.param_groups = [{"lr": lr, "momentum": momentum}]
        self._gradient, self._momentum = gradient, torch.zeros_like(gradient)
        self._weights = [stack.of(weights) for stack in stacks]
        self._matrices = [stack.of(gradient) for stack in stacks]
        self._n_rows = [stack.n_rows.to(weights.device) for stack in stacks]

    @torch.no_grad()
    def step(self) -> None:
        """One step down; there is something else in `gradient` then."""
        (group,) = self.param_groups
        self._momentum.lerp_(self._gradient, 1.0 - group["momentum"])
        # Nesterov: where the momentum of the next step will be if the gradient stays.
        self._gradient.lerp_(self._momentum, group["momentum"])
        changes = orthogonalized(self._matrices, self._n_rows)
        for weights, change in zip(self._weights, changes, strict=True):
            # To add numbers of two precisions takes several times as long.
            weights.addcmul_(change.float(), group["lr"], value=-1.0)

    def state_dict(self) -> dict:
        """What the next steps depend on, in the form of torch's optimisers; not a copy."""
        return {"state": {0: {"momentum": self._momentum}}, "param_groups": self.param_groups}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a `state_dict`."""
        self._momentum.copy_(state["state"][0]["momentum"])


def orthogonalized(stacks: Sequence[Tensor], n_rows: Sequence[Tensor]) -> list[Tensor]:
    """Stacks of matrices with more equal singular values; rows of about length 1.

    All but the first `n_rows` rows of a matrix are zeros, and stay so. All Gram matrices of one
    size go through the polynomials together: a few large operations take less time than many small
    ones, most of all where threads have to wait for each other before each.
    """
    is_tall = [X.shape[1] > X.shape[2] for X in stacks]
    wide = [X.mT if tall else X for X, tall in zip(stacks, is_tall, strict=True)]
    grams = [X @ X.mT for X in wide]
    squares = [(n / X.shape[2]).clamp_min(1.0) for n, X in zip(n_rows, stacks, strict=True)]
    found: list = [None] * len(stacks)
    for size in {len(gram[0]) for gram in grams}:
        some = [k for k, gram in enumerate(grams) if len(gram[0]) == size]
        together = torch.cat([grams[k] for k in some]), torch.cat([squares[k] for k in some])
        factors = _equalizers(*together).split([len(grams[k]) for k in some])
        for k, factor in zip(some, factors, strict=True):
            found[k] = (factor @ wide[k]).mT if is_tall[k] else factor @ wide[k]
    return found


def _equalizers(A: Tensor, square: Tensor) -> Tensor:
    """What matrices X, none with more rows than columns, have to be multiplied by.

    It is made of their Gram matrices `A` alone, X X^T. Squares of singular values come near to
    `square`.
    """
    # The root of the trace bounds the largest singular value: in its units none exceeds 1. Any unit
    # near to it does, so that it may be rounded, if the same one serves throughout.
    trace = A.diagonal(dim1=1, dim2=2).sum(dim=1, dtype=torch.float32)
    unit = (1.0 / (trace.clamp_min(1e-30) * _CUSHION)).to(A.dtype)[:, None, None]
    root = (square[:, None, None] * unit).sqrt().to(A.dtype)
    if A.shape[1] == 1:  # of a vector they are the same number whatever is in it
        return root * _LIFTED
    A, Q = A * unit, None
    for position, (a, b, c) in enumerate(_POLYNOMIALS):
        P = torch.baddbmm(A, A, A, beta=b, alpha=c)
        P.diagonal(dim1=1, dim2=2).add_(a)
        Q = P if Q is None else P @ Q
        if position < len(_POLYNOMIALS) - 1:
            A = A @ (P @ P)
    return Q * root
