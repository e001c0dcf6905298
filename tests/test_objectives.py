import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from skdec._objectives import (
    binary_cross_entropy,
    kl_divergence,
    log_soft_assignment,
    mean_squared_error,
    squared_distances,
    target_distribution,
)

seeds = st.integers(0, 2**32 - 1)
alphas = st.sampled_from([0.5, 1.0, 3.0, 10.0])


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def normal(rng, *shape):
    return torch.from_numpy(rng.normal(size=shape))


def distributions(rng, n_rows, n_columns):
    return torch.from_numpy(rng.dirichlet(np.ones(n_columns), size=n_rows))


def points_and_centers(seed, n_rows=7, n_clusters=4, n_dims=3):
    rng = np.random.default_rng(seed)
    return normal(rng, n_rows, n_dims), normal(rng, n_clusters, n_dims)


def soft_assignment(Z, centers, alpha):
    return log_soft_assignment(Z, centers, alpha).exp()


# --- Equation 1 ---


def test_squared_distances_by_hand():
    distances = squared_distances(tensor([[0.0, 0.0], [1.0, 2.0]]), tensor([[3.0, 4.0]]))
    torch.testing.assert_close(distances, tensor([[25.0], [8.0]]))


def test_squared_distances_do_not_cancel_far_from_the_origin():
    Z = torch.tensor([[1e6, 1e6]])
    distances = squared_distances(Z, Z + torch.tensor([[0.0, 0.0], [0.5, 0.0]]))
    assert distances.tolist() == [[0.0, 0.25]]


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        # Kernels (1 + 9/alpha)^-(alpha+1)/2: 1/10, 1/16, and at the centre 1.
        (1.0, [10 / 11, 1 / 11]),
        (3.0, [16 / 17, 1 / 17]),
    ],
)
def test_soft_assignment_by_hand(alpha, expected):
    Q = soft_assignment(tensor([[2.0, 1.0]]), tensor([[2.0, 1.0], [2.0, 4.0]]), alpha)
    torch.testing.assert_close(Q, tensor([expected]))


def test_soft_assignment_of_two_points_to_three_centers_by_hand():
    Z, centers = tensor([[0.0], [1.0]]), tensor([[0.0], [1.0], [3.0]])
    # Kernels 1, 1/2, 1/10 and 1/2, 1, 1/5.
    expected = tensor([[10 / 16, 5 / 16, 1 / 16], [5 / 17, 10 / 17, 2 / 17]])
    torch.testing.assert_close(soft_assignment(Z, centers, 1.0), expected)


@given(seeds, alphas)
def test_rows_of_the_soft_assignment_sum_to_one(seed, alpha):
    Q = soft_assignment(*points_and_centers(seed), alpha)
    torch.testing.assert_close(Q.sum(dim=1), torch.ones(7, dtype=torch.float64))
    assert (Q > 0).all()


@given(seeds, alphas)
def test_the_nearest_center_has_the_largest_share(seed, alpha):
    Z, centers = points_and_centers(seed)
    nearest = torch.cdist(Z, centers).argmin(dim=1)
    assert torch.equal(soft_assignment(Z, centers, alpha).argmax(dim=1), nearest)


@given(seeds, alphas)
def test_moving_points_and_centers_together_changes_nothing(seed, alpha):
    Z, centers = points_and_centers(seed)
    rng = np.random.default_rng(seed)
    rotation = torch.linalg.qr(normal(rng, 3, 3)).Q
    shift = normal(rng, 3)
    torch.testing.assert_close(
        soft_assignment(Z @ rotation + shift, centers @ rotation + shift, alpha),
        soft_assignment(Z, centers, alpha),
    )


@given(seeds, alphas)
def test_permuting_centers_permutes_the_columns(seed, alpha):
    Z, centers = points_and_centers(seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(4))
    Q, permuted = (soft_assignment(Z, c, alpha) for c in (centers, centers[order]))
    weight = torch.ones(7, dtype=torch.float64)
    torch.testing.assert_close(permuted, Q[:, order])
    torch.testing.assert_close(
        target_distribution(permuted, weight), target_distribution(Q, weight)[:, order]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [0.01, 1.0, 1e6, 1e30])
def test_far_away_points_have_a_finite_assignment_and_gradient(dtype, alpha):
    Z = torch.tensor([[1e12, -1e12], [0.0, 1e12]], dtype=dtype, requires_grad=True)
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1e12, -1e12]], dtype=dtype)
    log_Q = log_soft_assignment(Z, centers, alpha)
    Q = log_Q.exp()
    assert torch.isfinite(log_Q).all()
    torch.testing.assert_close(Q.sum(dim=1), torch.ones(2, dtype=dtype))
    assert Q[0].argmax() == 2
    (Q[:, 0].sum()).backward()
    assert torch.isfinite(Z.grad).all()


def test_a_very_large_alpha_is_a_gaussian_kernel():
    Z, centers = points_and_centers(0)
    gaussian = torch.softmax(-squared_distances(Z, centers) / 2.0, dim=1)
    torch.testing.assert_close(soft_assignment(Z, centers, 1e9), gaussian)
    torch.testing.assert_close(
        soft_assignment(Z.float(), centers.float(), 1e9), gaussian.float(), rtol=1e-4, atol=1e-6
    )


# --- Equation 3 ---

Q_BY_HAND = [[3 / 4, 1 / 4], [1 / 2, 1 / 2]]


def test_target_by_hand():
    # f = (5/4, 3/4); rows 9/20 : 1/12 and 1/5 : 1/3.
    P = target_distribution(tensor(Q_BY_HAND), tensor([1.0, 1.0]))
    torch.testing.assert_close(P, tensor([[27 / 32, 5 / 32], [3 / 8, 5 / 8]]))


def test_target_with_sample_weight_by_hand():
    # f = (2, 1); rows 9/32 : 1/16 and 1/8 : 1/4.
    P = target_distribution(tensor(Q_BY_HAND), tensor([2.0, 1.0]))
    torch.testing.assert_close(P, tensor([[9 / 11, 2 / 11], [1 / 3, 2 / 3]]))


@given(seeds)
def test_target_with_a_weight_of_two_equals_that_of_a_repeated_row(seed):
    Q = distributions(np.random.default_rng(seed), 4, 3)
    weight = tensor([1.0, 2.0, 1.0, 3.0])
    repeats = weight.long()
    repeated = Q.repeat_interleave(repeats, dim=0)
    torch.testing.assert_close(
        target_distribution(Q, weight).repeat_interleave(repeats, dim=0),
        target_distribution(repeated, torch.ones(len(repeated), dtype=torch.float64)),
    )


@given(seeds)
def test_only_proportions_of_the_weights_matter_to_the_target(seed):
    rng = np.random.default_rng(seed)
    Q, weight = distributions(rng, 5, 3), torch.from_numpy(rng.random(5) + 0.1)
    torch.testing.assert_close(target_distribution(Q, 7.0 * weight), target_distribution(Q, weight))


@given(seeds)
def test_the_target_is_sharper_than_a_balanced_assignment(seed):
    row = distributions(np.random.default_rng(seed), 1, 4)[0]
    Q = torch.stack([row.roll(k) for k in range(4)])
    P = target_distribution(Q, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(P, Q.square() / Q.square().sum(dim=1, keepdim=True))
    assert (P.max(dim=1).values > Q.max(dim=1).values).all()
    assert torch.equal(P.argmax(dim=1), Q.argmax(dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cluster_without_mass_takes_no_part_in_the_target(dtype):
    Q = torch.tensor([[3 / 4, 1 / 4, 0.0], [1 / 2, 1 / 2, 0.0]], dtype=dtype)
    P = target_distribution(Q, torch.ones(2, dtype=dtype))
    expected = torch.tensor([[27 / 32, 5 / 32, 0.0], [3 / 8, 5 / 8, 0.0]], dtype=dtype)
    torch.testing.assert_close(P, expected)


# --- Equation 2 ---


def test_kl_divergence_by_hand():
    P = tensor([[1 / 2, 1 / 2], [1.0, 0.0], [1 / 4, 3 / 4]])
    Q = tensor([[1 / 4, 3 / 4], [1 / 2, 1 / 2], [1 / 4, 3 / 4]])
    expected = tensor([math.log(4 / 3) / 2, math.log(2), 0.0])
    torch.testing.assert_close(kl_divergence(P, Q.log()), expected)


@given(seeds)
def test_kl_divergence_is_zero_for_equal_and_positive_for_other_distributions(seed):
    rng = np.random.default_rng(seed)
    P, Q = distributions(rng, 6, 4), distributions(rng, 6, 4)
    torch.testing.assert_close(kl_divergence(P, P.log()), torch.zeros(6, dtype=torch.float64))
    # Pinsker's inequality.
    lower_bound = (P - Q).abs().sum(dim=1).square() / 2.0
    assert (lower_bound > 0).all()
    assert (kl_divergence(P, Q.log()) >= lower_bound).all()


# --- Gradients ---


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_gradients_of_the_clustering_loss_agree_with_finite_differences(alpha):
    Z, centers = points_and_centers(1)
    P = distributions(np.random.default_rng(2), 7, 4)
    assert gradcheck(
        lambda Z, centers: kl_divergence(P, log_soft_assignment(Z, centers, alpha)).sum(),
        (Z.requires_grad_(), centers.requires_grad_()),
    )


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0, 20.0])
def test_gradients_are_those_of_equations_4_and_5(alpha):
    Z, centers = points_and_centers(3)
    P = distributions(np.random.default_rng(4), 7, 4)
    Z.requires_grad_(), centers.requires_grad_()
    loss = kl_divergence(P, log_soft_assignment(Z, centers, alpha)).sum()
    of_Z, of_centers = torch.autograd.grad(loss, (Z, centers))

    with torch.no_grad():
        difference = Z[:, None, :] - centers[None, :, :]
        closeness = 1.0 / (1.0 + difference.square().sum(dim=2) / alpha)
        Q = closeness ** ((alpha + 1.0) / 2.0)
        Q = Q / Q.sum(dim=1, keepdim=True)
        terms = (alpha + 1.0) / alpha * (closeness * (P - Q))[:, :, None] * difference
    torch.testing.assert_close(of_Z, terms.sum(dim=1))
    torch.testing.assert_close(of_centers, -terms.sum(dim=0))


# --- Reconstruction losses ---


def test_mean_squared_error_by_hand():
    losses = mean_squared_error(tensor([[1.0, 2.0], [0.0, 0.0]]), tensor([[0.0, 0.0], [0.0, 4.0]]))
    torch.testing.assert_close(losses, tensor([2.5, 8.0]))


def test_binary_cross_entropy_by_hand():
    # The logit log 3 is a probability of 3/4.
    logits = tensor([[0.0, 0.0], [math.log(3), math.log(3)], [math.log(3), math.log(3)]])
    x = tensor([[0.3, 1.0], [1.0, 1.0], [1.0, 0.0]])
    expected = tensor([math.log(2), math.log(4 / 3), (math.log(4 / 3) + math.log(4)) / 2])
    torch.testing.assert_close(binary_cross_entropy(logits, x), expected)


def test_binary_cross_entropy_of_extreme_logits_is_finite():
    losses = binary_cross_entropy(torch.tensor([[1000.0], [-1000.0]]), torch.ones(2, 1))
    assert losses.tolist() == [0.0, 1000.0]
