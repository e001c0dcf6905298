"""Values that many rows share, in tables of numbers and of yes and no."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

from skdec import DECClustering
from skdec._judges import input_judge
from skdec._neighborhoods import PLAIN, Neighborhoods
from skdec._threads import Workers
from skdec._ties import dequantized, ties
from skdec.metrics import relative_conductance


def flags(share, n_rows=2000):
    """A feature of zeros and ones, of which so many are ones."""
    return (np.arange(n_rows) < share * n_rows).astype(np.float32)[:, None]


def mixed(n_rows=500, n_flags=5):
    """Three groups in four numbers, and answers of yes or no that have nothing to do with them."""
    random = np.random.default_rng(0)
    y = random.integers(3, size=n_rows)
    numbers = 3.0 * random.normal(size=(3, 4))[y] + random.normal(size=(n_rows, 4))
    answers = random.random((n_rows, n_flags)) < random.uniform(0.1, 0.6, n_flags)
    return StandardScaler().fit_transform(np.hstack([numbers, answers])), y


def test_ties_are_the_share_of_pairs_that_agree():
    x = np.array([[0, 1, 5], [0, 2, 5], [1, 3, 5], [1, 4, 5]])
    np.testing.assert_allclose(ties(x), [2 / 6, 0.0, 1.0])
    np.testing.assert_array_equal(ties(x[:1]), [0.0, 0.0, 0.0])


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.8])
def test_what_is_added_has_a_third_of_the_variance_of_a_yes_or_no(share):
    x = flags(share)
    added = dequantized(x.copy(), 0) - x
    assert added.var() == pytest.approx(x.var() / 3, rel=0.2)
    assert np.abs(added[x == 0]).max() == pytest.approx(share, rel=0.05)
    assert np.abs(added[x == 1]).max() == pytest.approx(1 - share, rel=0.1)


def test_a_value_is_spread_to_the_nearer_border():
    x = np.repeat([0.0, 1.0, 10.0], [100, 100, 100])[:, None]
    spread = dequantized(x.copy(), 0)
    reach = [np.abs(spread - x)[x == value].max() for value in (0.0, 1.0, 10.0)]
    np.testing.assert_allclose(reach, [0.5, 0.5, 4.5], rtol=0.06)


few_values = arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.integers(1, 3)),
    elements=st.sampled_from([-3.0, 0.0, 0.5, 0.5 + 2.0**-13, 7.0]),
)


@settings(deadline=None)
@given(few_values, st.integers(0, 3))
def test_values_keep_their_order_and_lone_ones_their_bits(x, seed):
    spread = dequantized(x.copy(), seed)
    for before, after in zip(x.T, spread.T, strict=True):
        values, counts = np.unique(before, return_counts=True)
        lone = np.isin(before, values[counts == 1])
        np.testing.assert_array_equal(after[lone], before[lone])
        highest = [after[before == value].max() for value in values]
        lowest = [after[before == value].min() for value in values]
        assert all(a <= b for a, b in zip(highest, lowest[1:], strict=False))


def test_the_seed_of_the_rows_does_not_spread_them_by_themselves():
    x = (np.random.default_rng(0).random((2000, 1)) < 0.5).astype(np.float32)
    added = dequantized(x.copy(), 0) - x
    assert abs(np.corrcoef(added.ravel(), x.ravel())[0, 1]) < 0.1


def test_numbers_are_compared_as_they_are_and_flags_count_less_in_training():
    numbers = np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32)
    x = np.hstack([numbers, flags(0.5), flags(0.1)])
    untied = PLAIN.untied(x.copy())
    np.testing.assert_array_equal(untied[:, :2], numbers)
    np.testing.assert_allclose(untied[:, 2:].max(axis=0), [0.5**0.5, 0.18**0.5], rtol=0.01)
    np.testing.assert_array_equal(PLAIN.places(x.copy(), 0)[:, :2], numbers)
    wide = Neighborhoods(4, 5)
    np.testing.assert_array_equal(wide.untied(x.copy()), x)


def test_a_yes_or_no_is_no_better_a_partition_than_groups_of_numbers():
    X, y = mixed()
    with Workers(1) as workers:
        judge = input_judge(X.__getitem__, np.ones(len(X)), PLAIN, 1, workers)
    assert judge.score(y) > max(judge.score((X[:, k] > 0).astype(int)) for k in range(4, 9)) + 0.1


def test_the_score_tells_how_many_groups_of_numbers_there_are_beside_yes_and_no():
    X, y = mixed()
    scores = {
        k: relative_conductance(X, KMeans(k, n_init=5, random_state=0).fit_predict(X))
        for k in range(2, 8)
    }
    assert max(scores, key=scores.get) == 3
    assert max(relative_conductance(X, X[:, k] > 0) for k in range(4, 9)) < 0.2
    assert relative_conductance(sparse.csr_array(X), y) == relative_conductance(X, y)


def test_groups_of_numbers_are_found_beside_yes_and_no():
    X, y = mixed()
    labels = DECClustering(3, random_state=0).fit_predict(X)
    assert adjusted_rand_score(y, labels) > 0.9
