"""Equations 1 to 3 of the paper, the contrast of neighbours and the reconstruction losses:
pure functions of tensors.

References
----------
.. [1] Xie, Girshick, Farhadi. "Unsupervised Deep Embedding for Clustering Analysis".
   ICML 2016, arXiv:1511.06335.
.. [2] Damrich, Böhm, Hamprecht, Kobak. "From t-SNE to UMAP with contrastive learning".
   ICLR 2023, arXiv:2206.01816.
"""

from __future__ import annotations

from collections.abc import Callable

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


def target_distribution(
    Q: Tensor, sample_weight: Tensor, total: Callable[[Tensor], Tensor] = lambda sums: sums
) -> Tensor:
    """Eq. 3: Q squared, divided by the soft cluster frequencies, rows normalised.

    The frequencies f_j = sum_i w_i q_ij run over all rows of `Q`, of shape
    (n_samples, n_clusters), with `sample_weight` of shape (n_samples,). Where these are only some
    of the rows, `total` makes the sums over all of them from those given here.
    """
    frequencies = total((sample_weight[:, None] * Q).sum(dim=0))
    # A cluster without any mass takes part in no row: 0/0 is 0 here.
    sharpened = Q.square() / frequencies.clamp_min(torch.finfo(Q.dtype).tiny)
    return sharpened / sharpened.sum(dim=1, keepdim=True)


def kl_divergence(P: Tensor, log_Q: Tensor) -> Tensor:
    """Eq. 2, row by row: sum_j p_ij log(p_ij / q_ij), of shape (n_samples,)."""
    return (torch.xlogy(P, P) - P * log_Q).sum(dim=1)


def neighbor_contrast(ends: Tensor, rows: Tensor) -> Tensor:
    """Contrastive loss of groups of rows with neighbours of each, of shape (n_groups, n_rows).

    InfoNCE as in [2]_: a row and each of its neighbours have to find each other among all other
    rows of the group, with the similarity 1 / (1 + ||z - z'||^2), which is the kernel of Eq. 1 with
    one degree of freedom: -log of its share in the sum over these rows. So have two neighbours of a
    row. `ends` are embeddings, of shape (n_groups, n_ends, n_rows, embedding_dim), in each group
    first of all rows, then of one neighbour of each and, with three ends, of another one, and
    `rows` their row numbers: a row is no contrast to itself.
    """
    together, numbers = ends.flatten(1, 2), rows.flatten(1)
    centered = together - together.detach().mean(dim=1, keepdim=True)  # against cancellation
    norms = centered.square().sum(dim=2)
    distances = torch.baddbmm(norms[:, None, :], centered, centered.mT, alpha=-2.0)
    kernel = (1.0 + torch.relu(distances + norms[:, :, None])).reciprocal()
    itself = numbers[:, :, None] == numbers[:, None, :]
    totals = kernel.masked_fill(itself, 0.0).sum(dim=2).log().unflatten(1, rows.shape[1:])
    # Each end with the next one, the last with the first: all pairs of up to three.
    apart = torch.log1p((ends - ends.roll(1, dims=1)).square().sum(dim=3))
    return (apart + totals).mean(dim=1)


def mean_squared_error(decoded: Tensor, x: Tensor) -> Tensor:
    """Squared error of each row, averaged over its features, of shape (n_samples,)."""
    return (decoded - x).square().mean(dim=1)


def binary_cross_entropy(decoded: Tensor, x: Tensor) -> Tensor:
    """Cross-entropy of each row's features in [0, 1] with the decoder's logits, averaged."""
    losses = functional.binary_cross_entropy_with_logits(decoded, x, reduction="none")
    return losses.mean(dim=1)


RECONSTRUCTION_LOSSES = {"mse": mean_squared_error, "bce": binary_cross_entropy}
