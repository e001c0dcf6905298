"""Muon: momentum whose singular values are made equal, for matrices of weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Rows of a matrix are orthogonalised in groups of at most this many: whole matrices lower the loss
# a little more a step, and cost several times as much.
_GROUP_ROWS = 100

# Odd polynomials x -> a x + b x^3 + c x^5 that, one after the other, lift all singular values of
# [0, 1] towards 1, small ones by a factor of 34: the first two of "Polar Express" [2]. More of them
# equalise better and gain nothing in training.
_POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
)

# Above 1 the polynomials grow fast, and the trace is rounded.
_CUSHION = 1.04


class Muon(torch.optim.Optimizer):
    """Steps of one size for every neuron, in all directions that its group's gradient has [1].

    Each parameter is a matrix, of shape (neurons, inputs). Its Nesterov momentum is brought near to
    the closest matrix with orthonormal rows, for each group of rows; a step moves a neuron's
    weights by a vector whose length is about `lr` (up to twice), whatever the gradient's size.

    `dtype` is that of the products; sums and states are float32.

    References
    ----------
    .. [1] Jordan et al. "Muon: An optimizer for hidden layers in neural networks". 2024,
       https://kellerjordan.github.io/posts/muon/.
    .. [2] Amsel, Persson, Musco, Gower. "The Polar Express: Optimal Matrix Sign Methods and Their
       Application to the Muon Algorithm". 2025, arXiv:2505.16932.
    """

    def __init__(self, matrices: list[Tensor], lr: float, momentum: float, dtype: torch.dtype):
        super().__init__(matrices, {"lr": lr, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure=None):
        """One step down; gradients are those that the matrices hold."""
        for group in self.param_groups:
            for matrix in group["params"]:
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"].lerp_(matrix.grad, 1.0 - group["momentum"])
                ahead = matrix.grad.lerp(momentum, group["momentum"])
                matrix.add_(orthogonalized(ahead, self._dtype), alpha=-group["lr"])


def group_rows(n_rows: int) -> int:
    """Rows of a group; the last group of a matrix may have fewer, where no size divides them."""
    for size in range(min(_GROUP_ROWS, n_rows), _GROUP_ROWS // 2, -1):
        if n_rows % size == 0:
            return size
    return math.ceil(n_rows / math.ceil(n_rows / _GROUP_ROWS))


def orthogonalized(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """`matrix` with more equal singular values in each group of rows; rows of about length 1.

    A single row or column is only scaled.
    """
    n_rows, n_columns = matrix.shape
    if 1 in matrix.shape:
        return matrix * (math.sqrt(n_rows) / matrix.norm().clamp_min(1e-30))
    size = group_rows(n_rows)
    n_missing = -n_rows % size
    X = torch.nn.functional.pad(matrix, (0, 0, 0, n_missing)) if n_missing else matrix
    X = X.to(dtype).view(-1, size, n_columns)
    X = _equalized(X, 1.0) if size <= n_columns else _equalized(X.mT, size / n_columns).mT
    return X.reshape(-1, n_columns)[:n_rows]


def _equalized(X: Tensor, square: float) -> Tensor:
    """The polynomials of each matrix of a stack, none with more rows than columns.

    They are those of the small Gram matrix: only its making and the last product take `X` itself.
    Squares of singular values come near to `square`.
    """
    A, Q = (X @ X.mT).float(), None
    # The root of the trace bounds the largest singular value: in its units none exceeds 1.
    trace = A.diagonal(dim1=1, dim2=2).sum(dim=1).clamp_min(1e-30)[:, None, None] * _CUSHION
    A = (A / trace).to(X.dtype)
    for position, (a, b, c) in enumerate(_POLYNOMIALS):
        P = torch.baddbmm(A, A, A, beta=b, alpha=c)
        P.diagonal(dim1=1, dim2=2).add_(a)
        Q = P if Q is None else P @ Q
        if position < len(_POLYNOMIALS) - 1:
            A = A @ (P @ P)
    return (Q * (square / trace).sqrt()).to(X.dtype) @ X
