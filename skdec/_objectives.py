"""Equations 1 to 3 of the paper and the reconstruction losses: pure functions of tensors.

References
----------
.. [1] Xie, Girshick, Farhadi. "Unsupervised Deep Embedding for Clustering Analysis".
   ICML 2016, arXiv:1511.06335.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def squared_distances(Z: Tensor, centers: Tensor) -> Tensor:
    """Squared Euclidean distances, (n_samples, embedding_dim) x (n_clusters, embedding_dim)
    -> (n_samples, n_clusters).

    Differences are squared one by one: the shortcut |z|^2 - 2 z.mu + |mu|^2 cancels far from
    the origin and can turn negative.
    """
    return (Z[:, None, :] - centers[None, :, :]).square().sum(dim=2)


def log_soft_assignment(Z: Tensor, centers: Tensor, alpha: float) -> Tensor:
    """Logarithm of Eq. 1: Student's t kernel with `alpha` degrees of freedom, rows normalised.

    In logarithms nothing under- or overflows, however far a point is from every centre.
    """
    kernel = torch.log1p(squared_distances(Z, centers) / alpha)
    return torch.log_softmax(-(alpha + 1.0) / 2.0 * kernel, dim=1)


def target_distribution(Q: Tensor, sample_weight: Tensor) -> Tensor:
    """Eq. 3: Q squared, divided by the soft cluster frequencies, rows normalised.

    The frequencies f_j = sum_i w_i q_ij run over all rows of `Q`, of shape
    (n_samples, n_clusters), with `sample_weight` of shape (n_samples,).
    """
    frequencies = (sample_weight[:, None] * Q).sum(dim=0)
    # A cluster without any mass takes part in no row: 0/0 is 0 here.
    sharpened = Q.square() / frequencies.clamp_min(torch.finfo(Q.dtype).tiny)
    return sharpened / sharpened.sum(dim=1, keepdim=True)


def kl_divergence(P: Tensor, log_Q: Tensor) -> Tensor:
    """Eq. 2, row by row: sum_j p_ij log(p_ij / q_ij), of shape (n_samples,)."""
    return (torch.xlogy(P, P) - P * log_Q).sum(dim=1)


def mean_squared_error(decoded: Tensor, x: Tensor) -> Tensor:
    """Squared error of each row, averaged over its features, of shape (n_samples,)."""
    return (decoded - x).square().mean(dim=1)


def binary_cross_entropy(decoded: Tensor, x: Tensor) -> Tensor:
    """Cross-entropy of each row's features in [0, 1] with the decoder's logits, averaged."""
    losses = functional.binary_cross_entropy_with_logits(decoded, x, reduction="none")
    return losses.mean(dim=1)


RECONSTRUCTION_LOSSES = {"mse": mean_squared_error, "bce": binary_cross_entropy}
