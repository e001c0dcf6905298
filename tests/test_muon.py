"""The optimiser of pretraining: what it makes of a gradient, and the steps it takes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdec._muon import Muon, Stack, orthogonalized


def stream(seed):
    return torch.Generator().manual_seed(seed)


def with_singular_values(n_rows, n_columns, values, seed=0):
    """A matrix U S V^T, its U and its V."""
    n = len(values)
    U, _ = torch.linalg.qr(torch.randn(n_rows, n, generator=stream(seed), dtype=torch.float64))
    V, _ = torch.linalg.qr(torch.randn(n_columns, n, generator=stream(seed + 1)).double())
    return ((U * values) @ V.T).float(), U.float(), V.float()


def of_one(matrix):
    """`orthogonalized`, for a single matrix."""
    return of_stack(matrix[None], [len(matrix)])[0]


def of_stack(stack, n_rows):
    """The same of a single stack."""
    (found,) = orthogonalized([stack], [torch.as_tensor(n_rows)])
    return found


# --- Stacks ---


def test_matrices_of_a_stack_know_nothing_of_each_other():
    stack = (
        torch.randn(3, 50, 120, generator=stream(0)) * torch.tensor([1.0, 1e-4, 1e4])[:, None, None]
    )
    for found, matrix in zip(of_stack(stack, [50, 50, 50]), stack, strict=True):
        torch.testing.assert_close(found, of_one(matrix), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stacks_know_nothing_of_each_other(dtype):
    # Wide, tall, square and single rows; three of them have Gram matrices of one size.
    shapes = [(2, 20, 60), (3, 20, 5), (1, 20, 20), (4, 60, 20), (2, 1, 7), (2, 7, 1)]
    stacks = [torch.randn(shape, generator=stream(k)).to(dtype) for k, shape in enumerate(shapes)]
    n_rows = [torch.full((n,), size) for n, size, _ in shapes]
    for found, stack, n in zip(orthogonalized(stacks, n_rows), stacks, n_rows, strict=True):
        assert found.shape == stack.shape and found.dtype == dtype
        torch.testing.assert_close(found, of_stack(stack, n))


@pytest.mark.parametrize("n_columns", [1, 3, 7, 20, 200])
def test_zeros_that_fill_up_a_matrix_change_nothing_and_stay(n_columns):
    matrix = torch.randn(7, n_columns, generator=stream(0))
    filled = torch.cat([matrix, torch.zeros(13, n_columns)])
    found = of_stack(filled[None], [7])[0]
    torch.testing.assert_close(found[:7], of_one(matrix), rtol=1e-3, atol=1e-4)
    assert torch.equal(found[7:], torch.zeros(13, n_columns))


# --- What becomes of a matrix ---


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (30, 30)])
def test_directions_stay_and_only_their_sizes_change(shape):
    values = torch.logspace(0, -2, min(shape))
    matrix, U, V = with_singular_values(*shape, values.double())
    inner = U.T @ of_one(matrix) @ V
    rest = inner - torch.diag(inner.diagonal())
    assert inner.diagonal().min() > 0
    assert rest.abs().max() < 1e-3 * inner.diagonal().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (30, 30)])
def test_singular_values_come_nearer_to_each_other(shape, dtype):
    values = torch.logspace(0, -1.5, min(shape))
    matrix, _, _ = with_singular_values(*shape, values.double())
    found = torch.linalg.svdvals(of_one(matrix.to(dtype)).float())
    assert values.max() / values.min() > 31
    assert found.max() / found.min() < 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(50, 300), (50, 20), (50, 50), (7, 7)])
def test_rows_have_about_the_same_length_whatever_the_shape(shape, dtype):
    matrix = torch.randn(shape, generator=stream(3))
    length = of_one(matrix.to(dtype)).float().square().sum(dim=1).mean().sqrt()
    assert 0.6 < length < 2.0


@settings(deadline=None, max_examples=25)
@given(exponent=st.integers(-12, 15), seed=st.integers(0, 99))
def test_the_size_of_the_gradient_does_not_matter(exponent, seed):
    matrix = torch.randn(30, 40, generator=stream(seed))
    torch.testing.assert_close(
        of_one(matrix * 10.0**exponent), of_one(matrix), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("shape", [(30, 40), (40, 30), (101, 3), (5, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_gradient_is_no_step(shape, dtype):
    assert torch.equal(of_one(torch.zeros(shape, dtype=dtype)).float(), torch.zeros(shape))


def test_a_single_row_or_column_is_only_scaled():
    row = torch.tensor([[3.0, 0.0, -4.0, 0.0]])
    length = float(of_one(row).norm())
    assert 0.2 < length < 0.3
    torch.testing.assert_close(of_one(row), row * length / 5.0)
    # A column is as long as that many rows.
    torch.testing.assert_close(of_one(row.T), 2.0 * row.T * length / 5.0)


# --- Steps ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_follow_the_nesterov_momentum(dtype):
    shapes = [(2, 6, 8), (3, 6, 1)]
    stacks = [Stack(0, torch.full((2,), 6), 6, 8), Stack(96, torch.tensor([6, 6, 4]), 6, 1)]
    weights, average = torch.randn(114, generator=stream(0)), torch.zeros(114)
    expected, gradient = weights.clone(), torch.zeros(114, dtype=dtype)
    optimizer = Muon(weights, gradient, stacks, torch.tensor(0.1), 0.8)
    for step in range(4):
        gradient.copy_(torch.randn(114, generator=stream(10 + step)))
        gradient[-2:] = 0.0  # what fills up the last group
        average = 0.8 * average + 0.2 * gradient
        ahead = 0.2 * gradient + 0.8 * average
        for part, shape, stack in zip((slice(96), slice(96, 114)), shapes, stacks, strict=True):
            change = of_stack(ahead[part].view(shape), stack.n_rows)
            expected[part] -= 0.1 * change.flatten()
        optimizer.step()
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2  # of steps of about 0.1
    torch.testing.assert_close(weights, expected, rtol=0, atol=tolerance)


def test_a_badly_conditioned_problem_is_solved_in_fewer_steps_than_by_adam():
    rotation, _ = torch.linalg.qr(torch.randn(40, 40, generator=stream(1)))
    inputs = torch.randn(200, 40, generator=stream(0)) * torch.logspace(0, -3, 40) @ rotation.T
    outputs = inputs @ torch.randn(30, 40, generator=stream(2)).T

    def loss_after(build, rate, n_steps=100):
        weights = torch.nn.Parameter(torch.zeros(30 * 40))
        weights.grad = torch.zeros(30 * 40)
        optimizer = build(weights, lr := torch.tensor(rate))
        for step in range(n_steps):
            loss = (inputs @ weights.view(30, 40).T - outputs).square().mean()
            weights.grad.zero_()
            loss.backward()
            lr.fill_(rate * (1 - step / n_steps))
            optimizer.step()
        return float(loss.detach())

    def muon(weights, lr):
        stacks = [Stack(0, torch.tensor([30]), 30, 40)]
        return Muon(weights.detach(), weights.grad, stacks, lr, 0.9)

    def adam(weights, lr):
        return torch.optim.Adam([weights], lr)

    of_adam = [loss_after(adam, rate) for rate in (0.03, 0.1, 0.3)]
    assert loss_after(muon, 0.3) < 0.3 * min(of_adam)
