"""Ridge regression from moments is that of scikit-learn, with the penalty that halves agree on."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from skdec._regression import _PENALTIES, Moments, cross_validated


def drawn(n_rows, noise, n_features=8, seed=0):
    """Features, two targets, weights."""
    random = np.random.default_rng(seed)
    H = random.normal(size=(n_rows, n_features)) * np.geomspace(3.0, 0.1, n_features) + 5.0
    Y = H @ random.normal(size=(n_features, 2)) + 7.0 + noise * random.normal(size=(n_rows, 2))
    return H, Y, random.uniform(0.1, 2.0, n_rows)


def moments(H, Y, weight, n_pieces=1):
    found = Moments.none(H.shape[1], Y.shape[1])
    for rows in np.array_split(np.arange(len(H)), n_pieces):
        found.add(*(torch.from_numpy(np.float64(values[rows])) for values in (H, Y, weight)))
    return found


def predicted(coefficients, H):
    return np.c_[H, np.ones(len(H))] @ coefficients.numpy()


def ridge(H, Y, weight, penalty):
    """scikit-learn's, with a penalty in units of the features' mean variance."""
    scatter = np.cov(H.T, aweights=weight, bias=True) * weight.sum()
    return Ridge(penalty * np.trace(scatter) / len(scatter)).fit(H, Y, sample_weight=weight)


@pytest.mark.parametrize("penalty", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("n_pieces", [1, 4])
def test_coefficients_are_those_of_ridge_regression(penalty, n_pieces):
    H, Y, weight = drawn(60, 1.0)
    of_all = moments(H, Y, weight, n_pieces)
    (found,) = of_all.coefficients([penalty])
    expected = ridge(H, Y, weight, penalty).predict(H)
    np.testing.assert_allclose(predicted(found, H), expected, rtol=1e-6)
    error = (weight[:, None] * (expected - Y) ** 2).sum()
    assert of_all.error(found) == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize(("n_rows", "noise"), [(400, 0.0), (400, 1.0), (20, 8.0), (24, 40.0)])
def test_the_penalty_is_that_with_which_halves_tell_most_of_each_other(n_rows, noise):
    H, Y, weight = drawn(n_rows, noise)
    one, other = np.arange(n_rows) % 2 == 0, np.arange(n_rows) % 2 == 1

    def missed(penalty):
        models = [
            (ridge(H[a], Y[a], weight[a], penalty), b) for a, b in ((one, other), (other, one))
        ]
        return sum((weight[b] * (m.predict(H[b]) - Y[b]).T ** 2).sum() for m, b in models)

    best = min(_PENALTIES, key=missed)
    halves = [moments(H[half], Y[half], weight[half]) for half in (one, other)]
    found, error = cross_validated(*halves)
    expected = ridge(H, Y, weight, best).predict(H)
    np.testing.assert_allclose(predicted(found, H), expected, rtol=1e-5, atol=1e-5)
    missed_by_all = (weight[:, None] * (expected - Y) ** 2).sum()
    assert error == pytest.approx(missed_by_all, rel=1e-4, abs=1e-5)


def test_features_that_do_not_vary_tell_the_mean():
    H, Y, weight = np.full((30, 4), 0.1), *drawn(30, 1.0)[1:]
    found, _ = cross_validated(
        moments(H[:15], Y[:15], weight[:15]), moments(H[15:], Y[15:], weight[15:])
    )
    mean = np.average(Y, axis=0, weights=weight)
    np.testing.assert_allclose(predicted(found, H), np.tile(mean, (30, 1)), rtol=1e-9)


def test_a_half_may_have_no_rows():
    H, Y, weight = drawn(5, 1.0)
    found, error = cross_validated(moments(H, Y, weight), Moments.none(8, 2))
    assert torch.isfinite(found).all() and np.isfinite(error)
    assert error <= (weight[:, None] * (Y - np.average(Y, axis=0, weights=weight)) ** 2).sum()
