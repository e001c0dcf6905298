"""The optimiser of pretraining: what it makes of a gradient, and the steps it takes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdec._muon import Muon, group_rows, orthogonalized


def stream(seed):
    return torch.Generator().manual_seed(seed)


def with_singular_values(n_rows, n_columns, values, seed=0):
    """A matrix U S V^T, its U and its V."""
    n = len(values)
    U, _ = torch.linalg.qr(torch.randn(n_rows, n, generator=stream(seed), dtype=torch.float64))
    V, _ = torch.linalg.qr(torch.randn(n_columns, n, generator=stream(seed + 1)).double())
    return ((U * values) @ V.T).float(), U.float(), V.float()


# --- Groups of rows ---


@given(n_rows=st.integers(1, 3000))
def test_groups_have_at_most_a_hundred_rows_and_no_group_is_empty(n_rows):
    size = group_rows(n_rows)
    n_groups = math.ceil(n_rows / size)
    assert 1 <= size <= min(100, n_rows)
    assert n_groups <= 2 * math.ceil(n_rows / 100)
    assert (n_groups - 1) * size < n_rows


@pytest.mark.parametrize(
    ("n_rows", "expected"), [(10, 10), (100, 100), (500, 100), (2000, 100), (784, 98), (101, 51)]
)
def test_groups_are_equal_where_the_rows_can_be_divided(n_rows, expected):
    assert group_rows(n_rows) == expected


@pytest.mark.parametrize("n_rows", [150, 202])
def test_groups_know_nothing_of_each_other(n_rows):
    matrix = torch.randn(n_rows, 120, generator=stream(0))
    size = group_rows(n_rows)
    parts = [orthogonalized(part) for part in matrix.split(size)]
    torch.testing.assert_close(orthogonalized(matrix), torch.cat(parts), rtol=1e-4, atol=1e-5)


def test_a_last_group_that_is_not_full_is_orthogonalised_for_itself():
    matrix = torch.randn(101, 120, generator=stream(0))  # 51 and 50 rows
    whole = orthogonalized(matrix)
    assert whole.shape == matrix.shape
    torch.testing.assert_close(whole[51:], orthogonalized(matrix[51:]), rtol=1e-4, atol=1e-5)


# --- What becomes of a matrix ---


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (30, 30)])
def test_directions_stay_and_only_their_sizes_change(shape):
    values = torch.logspace(0, -2, min(shape))
    matrix, U, V = with_singular_values(*shape, values.double())
    inner = U.T @ orthogonalized(matrix) @ V
    rest = inner - torch.diag(inner.diagonal())
    assert inner.diagonal().min() > 0
    assert rest.abs().max() < 1e-3 * inner.diagonal().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (30, 30)])
def test_singular_values_come_nearer_to_each_other(shape, dtype):
    values = torch.logspace(0, -1.5, min(shape))
    matrix, _, _ = with_singular_values(*shape, values.double())
    found = torch.linalg.svdvals(orthogonalized(matrix, dtype).float())
    assert values.max() / values.min() > 31
    assert found.max() / found.min() < 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(100, 300), (300, 20), (500, 500), (7, 7), (1, 9), (9, 1)])
def test_rows_have_about_the_same_length_whatever_the_shape(shape, dtype):
    matrix = torch.randn(shape, generator=stream(3))
    length = orthogonalized(matrix, dtype).float().square().sum(dim=1).mean().sqrt()
    assert 0.6 < length < 2.0


@settings(deadline=None, max_examples=25)
@given(exponent=st.integers(-12, 15), seed=st.integers(0, 99))
def test_the_size_of_the_gradient_does_not_matter(exponent, seed):
    matrix = torch.randn(30, 40, generator=stream(seed))
    torch.testing.assert_close(
        orthogonalized(matrix * 10.0**exponent), orthogonalized(matrix), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("shape", [(30, 40), (40, 30), (101, 3), (5, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_gradient_is_no_step(shape, dtype):
    assert torch.equal(orthogonalized(torch.zeros(shape), dtype).float(), torch.zeros(shape))


def test_a_single_row_or_column_is_only_scaled():
    column = torch.tensor([[3.0], [0.0], [-4.0], [0.0]])
    torch.testing.assert_close(orthogonalized(column), column * 2.0 / 5.0)
    torch.testing.assert_close(orthogonalized(column.T), column.T / 5.0)


# --- Steps ---


def test_steps_follow_the_nesterov_momentum():
    weights = torch.nn.Parameter(torch.randn(6, 8, generator=stream(0)))
    expected, average = weights.detach().clone(), torch.zeros(6, 8)
    optimizer = Muon([weights], 0.1, 0.8, torch.float32)
    for step in range(4):
        gradient = torch.randn(6, 8, generator=stream(10 + step))
        weights.grad = gradient.clone()
        optimizer.step()
        average = 0.8 * average + 0.2 * gradient
        expected -= 0.1 * orthogonalized(0.2 * gradient + 0.8 * average)
        assert torch.equal(weights.grad, gradient)
    torch.testing.assert_close(weights.detach(), expected, rtol=1e-4, atol=1e-5)


def test_a_badly_conditioned_problem_is_solved_in_fewer_steps_than_by_adam():
    rotation, _ = torch.linalg.qr(torch.randn(40, 40, generator=stream(1)))
    inputs = torch.randn(200, 40, generator=stream(0)) * torch.logspace(0, -3, 40) @ rotation.T
    outputs = inputs @ torch.randn(30, 40, generator=stream(2)).T

    def loss_after(build, rate, n_steps=100):
        weights = torch.nn.Parameter(torch.zeros(30, 40))
        optimizer = build([weights])
        for step in range(n_steps):
            weights.grad = None
            loss = (inputs @ weights.T - outputs).square().mean()
            loss.backward()
            optimizer.param_groups[0]["lr"] = rate * (1 - step / n_steps)
            optimizer.step()
        return float(loss.detach())

    muon = loss_after(lambda weights: Muon(weights, 0.3, 0.9, torch.float32), 0.3)
    adam = [loss_after(torch.optim.Adam, rate) for rate in (0.03, 0.1, 0.3)]
    assert muon < 0.3 * min(adam)
