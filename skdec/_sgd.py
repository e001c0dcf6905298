"""Stochastic gradient descent with momentum."""

from __future__ import annotations

import torch
from torch import Tensor


class SGD:
    """Steps of `torch.optim.SGD`, in the same few lines of arithmetic.

    torch's own optimisers import its compiler when the first of them is built, which takes 2 s: a
    small table is clustered in less. `gradient` is the gradient of `weights`; each step finds it
    anew there.

    It has the part of the interface of torch's optimisers that training needs.
    """

    def __init__(self, weights: Tensor, gradient: Tensor, lr: Tensor, momentum: float):
        self.param_groups = [{"lr": lr, "momentum": momentum}]
        self._weights, self._gradient = weights, gradient
        self._velocity = torch.zeros_like(weights)

    @torch.no_grad()
    def step(self) -> None:
        """One step down."""
        (group,) = self.param_groups
        self._velocity.mul_(group["momentum"]).add_(self._gradient)
        self._weights.addcmul_(self._velocity, group["lr"], value=-1.0)

    def state_dict(self) -> dict:
        """What the next steps depend on, in the form of torch's optimisers; not a copy."""
        return {"state": {0: {"velocity": self._velocity}}, "param_groups": self.param_groups}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a `state_dict`."""
        self._velocity.copy_(state["state"][0]["velocity"])
