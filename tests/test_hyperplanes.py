"""Neighbours by local hyperplanes."""

import numpy as np
import pytest

import skdec._hyperplanes as hyperplanes_module
from skdec._hyperplanes import n_candidates, nearest_by_hyperplanes
from skdec._neighborhoods import Neighborhoods
from skdec._neighbors import nearest_neighbors
from skdec._threads import Workers


def chosen_of(X, n_neighbors, n_found=30, n_workers=1):
    with Workers(n_workers) as workers:
        candidates = nearest_neighbors(X, n_found, workers)
        return candidates, nearest_by_hyperplanes(X, candidates, n_neighbors, workers)


def left_over(X, near, row, other):
    """By the metric of the directions to the nearest rows but `other`, inverted as a whole."""
    differences = X[near[row]] - X[row]
    ridge = 0.3 * np.square(differences).sum(axis=1).mean()
    differences = differences[near[row] != other]
    metric = np.linalg.inv(np.eye(X.shape[1]) + differences.T @ differences / ridge)
    return (X[other] - X[row]) @ metric @ (X[other] - X[row])


def test_the_distance_is_what_the_hyperplanes_of_both_rows_leave():
    X = np.random.default_rng(0).normal(size=(80, 12))
    candidates, chosen = chosen_of(X, 4, n_found=9)
    near = candidates[:, :5]
    for row, others in enumerate(candidates):
        distances = [
            max(left_over(X, near, row, other), left_over(X, near, other, row)) for other in others
        ]
        np.testing.assert_array_equal(chosen[row], others[np.argsort(distances)[:4]])


def stripes():
    """Two long stripes in a plane of 20 dimensions, side by side; and which stripe is whose."""
    random = np.random.default_rng(0)
    of_stripe = np.arange(600) % 2
    flat = np.stack([random.uniform(0, 60, 600), of_stripe + 0.1 * random.normal(size=600)], axis=1)
    directions, _ = np.linalg.qr(random.normal(size=(20, 2)))
    return flat @ directions.T, of_stripe


def test_neighbours_lie_along_the_data():
    X, of_stripe = stripes()
    candidates, chosen = chosen_of(X, 10)
    by_distance, by_hyperplanes = (
        np.mean(of_stripe[found] != of_stripe[:, None]) for found in (candidates[:, :10], chosen)
    )
    assert by_hyperplanes < by_distance / 4
    assert by_distance > 0.1


def test_scale_and_threads_do_not_matter(monkeypatch):
    monkeypatch.setattr(
        hyperplanes_module,
        "row_blocks",
        lambda n_rows, _: (slice(k, k + 70) for k in range(0, n_rows, 70)),
    )
    X, _ = stripes()
    _, chosen = chosen_of(X, 5)
    for again in (chosen_of(X, 5, n_workers=3), chosen_of(1024.0 * X, 5)):
        np.testing.assert_array_equal(again[1], chosen)


@pytest.mark.parametrize("n_rows", [2, 4, 6, 8])
def test_few_rows_have_fewer_neighbours(n_rows):
    candidates, chosen = chosen_of(np.random.default_rng(0).normal(size=(n_rows, 3)), 5)
    assert chosen.shape == (n_rows, min(n_rows - 1, 5))
    assert all(set(row) <= set(others) for row, others in zip(chosen, candidates, strict=True))


def test_rows_that_coincide_are_the_nearest():
    X = np.repeat(np.random.default_rng(0).normal(size=(20, 7)), 8, axis=0).astype(np.float32)
    with np.errstate(all="raise"):
        _, chosen = chosen_of(X, 5)
    assert (chosen // 8 == np.arange(160)[:, None] // 8).all()


@pytest.mark.parametrize(("wanted", "expected"), [(1, 30), (15, 30), (16, 32), (50, 100)])
def test_candidates_are_30_or_twice_as_many(wanted, expected):
    assert n_candidates(wanted) == expected


def test_neighbours_are_chosen_where_the_nearest_are_reliable():
    X, _ = stripes()
    with Workers(1) as workers:
        nearest = nearest_neighbors(X, 40, workers)
        plain, planes = (Neighborhoods(50, 5, by_hyperplanes=is_so) for is_so in (False, True))
        by_distance, by_hyperplanes = (
            hoods.chosen(X, nearest, 5, workers) for hoods in (plain, planes)
        )
    assert [hoods.n_sought(5) for hoods in (plain, planes)] == [5, 30]
    candidates, chosen = chosen_of(X, 5)
    np.testing.assert_array_equal(by_distance, candidates[:, :5])
    np.testing.assert_array_equal(by_hyperplanes, chosen)
    assert not np.array_equal(by_distance, by_hyperplanes)
