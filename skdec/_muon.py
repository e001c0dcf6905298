"""Muon: momentum whose singular values are made equal, for matrices of weights."""

from __future__ import annotations

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


class Muon:
    """Steps of one size for every neuron, in all directions that its group's gradient has [1].

    `weights` is a stack of groups of neurons, of shape (n_groups, neurons, inputs), and `gradient`
    their gradient, which may be of another precision: that of all products. A group's Nesterov
    momentum is brought near to the closest matrix with orthonormal rows: a step moves a neuron's
    weights by a vector whose length is about `lr`, from a quarter (of a single neuron, or input) to
    twice, whatever the gradient's size. `n_rows` says how many neurons each group really has, where
    zeros fill it up.

    It has the part of the interface of torch's optimisers that training needs.

    References
    ----------
    .. [1] Jordan et al. "Muon: An optimizer for hidden layers in neural networks". 2024,
       https://kellerjordan.github.io/posts/muon/.
    .. [2] Amsel, Persson, Musco, Gower. "The Polar Express: Optimal Matrix Sign Methods and Their
       Application to the Muon Algorithm". 2025, arXiv:2505.16932.
    """

    def __init__(
        self, weights: Tensor, gradient: Tensor, n_rows: Tensor, lr: float, momentum: float
    ):
        self.param_groups = [{"lr": lr, "momentum": momentum}]
        self._weights, self._gradient, self._n_rows = weights, gradient, n_rows
        self._momentum = torch.zeros_like(gradient)

    @torch.no_grad()
    def step(self) -> None:
        """One step down; there is something else in `gradient` then."""
        (group,) = self.param_groups
        self._momentum.lerp_(self._gradient, 1.0 - group["momentum"])
        ahead = self._gradient.lerp_(self._momentum, group["momentum"])
        # To add numbers of two precisions takes several times as long.
        change = orthogonalized(ahead, self._n_rows).float()
        self._weights.add_(change, alpha=-group["lr"])

    def state_dict(self) -> dict:
        """What the next steps depend on, in the form of torch's optimisers; not a copy."""
        return {"state": {0: {"momentum": self._momentum}}, "param_groups": self.param_groups}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a `state_dict`."""
        self._momentum.copy_(state["state"][0]["momentum"])


def orthogonalized(stack: Tensor, n_rows: Tensor) -> Tensor:
    """`stack` with more equal singular values of each matrix; rows of about length 1.

    All but the first `n_rows` rows of a matrix are zeros, and stay so.
    """
    *_, size, n_columns = stack.shape
    square = (n_rows / n_columns).clamp_min(1.0)[:, None, None]
    if size <= n_columns:
        return _equalized(stack, square)
    return _equalized(stack.mT, square).mT


def _equalized(X: Tensor, square: Tensor) -> Tensor:
    """The polynomials of each matrix of a stack, none with more rows than columns.

    They are those of the small Gram matrix: only its making and the last product take `X` itself.
    Squares of singular values come near to `square`.
    """
    A, Q = X @ X.mT, None
    # The root of the trace bounds the largest singular value: in its units none exceeds 1.
    trace = A.diagonal(dim1=1, dim2=2).sum(dim=1, dtype=torch.float32)[:, None, None]
    trace = trace.clamp_min(1e-30) * _CUSHION
    A = (A / trace).to(X.dtype)
    for position, (a, b, c) in enumerate(_POLYNOMIALS):
        P = torch.baddbmm(A, A, A, beta=b, alpha=c)
        P.diagonal(dim1=1, dim2=2).add_(a)
        Q = P if Q is None else P @ Q
        if position < len(_POLYNOMIALS) - 1:
            A = A @ (P @ P)
    return (Q * (square / trace).sqrt()).to(X.dtype) @ X
