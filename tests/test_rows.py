import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdec import _rows
from skdec._rows import Rows, Scaling, distinct_rows, fit_scaling

seeds = st.integers(0, 2**32 - 1)


def rows_with_repeats(seed, n_rows=20):
    """Rows many of which are equal, and weights some of which are 0 and some equal."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-1, 2, size=(n_rows, 2)).astype(float)
    weight = rng.choice([0.0, 1.0, *rng.random(5)], size=n_rows)
    weight[0] = 1.0
    return X, weight


def all_rows(X, weight=None):
    weight = np.ones(len(X)) if weight is None else np.asarray(weight, dtype=float)
    return Rows(X, np.arange(len(X)), weight)


def assert_same(rows, others):
    np.testing.assert_array_equal(rows.X[rows.index], others.X[others.index])
    np.testing.assert_array_equal(rows.weight, others.weight)


def assert_distinct_rows_of(X, weight, rows):
    """Compares with a dictionary, whatever the order."""
    sums = {}
    for x, w in zip(X.tolist(), weight, strict=True):
        if w > 0:
            sums[tuple(x)] = sums.get(tuple(x), 0.0) + w
    found = [tuple(x) for x in X[rows.index].tolist()]
    assert len(found) == len(sums) and set(found) == set(sums)
    expected = np.array([sums[x] for x in found])
    np.testing.assert_allclose(rows.weight, expected / expected.mean())


# --- Distinct rows ---


def test_weights_of_equal_rows_are_summed_and_average_one():
    X = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    rows = distinct_rows(X, np.array([1.0, 2.0, 5.0]))
    weight = {tuple(x): w for x, w in zip(X[rows.index], rows.weight, strict=True)}
    assert weight == pytest.approx({(1.0, 2.0): 1.5, (3.0, 4.0): 0.5})


def test_rows_without_weight_are_dropped():
    X = np.array([[1.0], [2.0], [3.0], [2.0]])
    rows = distinct_rows(X, np.array([1.0, 0.0, 1.0, 0.0]))
    assert sorted(X[rows.index, 0]) == [1.0, 3.0]


@given(seeds)
def test_every_distinct_row_is_found_once(seed):
    X, weight = rows_with_repeats(seed)
    assert_distinct_rows_of(X, weight, distinct_rows(X, weight))


@given(seeds)
def test_the_order_of_the_rows_makes_no_difference(seed):
    X, weight = rows_with_repeats(seed)
    order = np.random.default_rng(seed).permutation(len(X))
    assert_same(distinct_rows(X, weight), distinct_rows(X[order], weight[order]))


@given(seeds)
def test_giving_all_rows_twice_makes_no_difference(seed):
    rng = np.random.default_rng(seed)
    X, weight = rng.normal(size=(8, 2)), rng.random(8)
    assert_same(distinct_rows(X, weight), distinct_rows(np.r_[X, X], np.r_[weight, weight]))


@given(seeds)
def test_an_integer_weight_is_the_same_as_so_many_repeats(seed):
    rng = np.random.default_rng(seed)
    X, repeats = rng.normal(size=(6, 2)), rng.integers(0, 6, size=6)
    repeats[0] = 1
    repeated = np.repeat(X, repeats, axis=0)
    assert_same(
        distinct_rows(X, repeats.astype(float)), distinct_rows(repeated, np.ones(len(repeated)))
    )


@given(seeds, st.sampled_from([2.0**-1000, 0.5, 2.0**1000]))
def test_only_proportions_of_the_weights_matter(seed, unit):
    X, weight = rows_with_repeats(seed)
    assert_same(distinct_rows(X, weight), distinct_rows(X, weight * unit))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float16, np.float32])
def test_the_dtype_makes_no_difference(dtype):
    X, weight = rows_with_repeats(0)
    assert_same(distinct_rows(X, weight), distinct_rows(X.astype(dtype), weight))


def test_memory_order_makes_no_difference():
    X, weight = rows_with_repeats(0)
    assert_same(distinct_rows(X, weight), distinct_rows(np.asfortranarray(X), weight))


def test_negative_zero_equals_zero():
    rows = distinct_rows(np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0]]), np.ones(3))
    assert len(rows.index) == 2
    assert sorted(rows.weight) == [2 / 3, 4 / 3]


@pytest.mark.parametrize("n_hashes", [1, 3])
def test_colliding_hashes_do_not_merge_different_rows(monkeypatch, n_hashes):
    def few_hashes(X):
        return (np.abs(X).sum(axis=1) % n_hashes).astype(np.uint64)

    monkeypatch.setattr(_rows, "_hash_rows", few_hashes)
    for seed in range(20):
        X, weight = rows_with_repeats(seed)
        rows = distinct_rows(X, weight)
        assert_distinct_rows_of(X, weight, rows)
        order = np.random.default_rng(seed).permutation(len(X))
        assert_same(rows, distinct_rows(X[order], weight[order]))


def test_hashes_of_different_rows_differ():
    rng = np.random.default_rng(0)
    X = np.r_[np.eye(40), 1.0 - np.eye(40), rng.normal(size=(2000, 40))]
    X = np.r_[X, rng.permuted(X[80:], axis=1)]
    assert len(np.unique(_rows._hash_rows(X))) == len(X)


def test_distinct_rows_leave_their_input_alone():
    X, weight = rows_with_repeats(0)
    X.flags.writeable = weight.flags.writeable = False
    X_before, weight_before = X.copy(), weight.copy()
    distinct_rows(X, weight)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(weight, weight_before)


def test_blocks_give_the_rows_in_order(monkeypatch):
    monkeypatch.setattr(
        _rows, "row_blocks", lambda n, _: (slice(a, min(a + 3, n)) for a in range(0, n, 3))
    )
    X, weight = rows_with_repeats(0)
    rows = distinct_rows(X.astype(np.float32), weight)
    where, blocks = zip(*rows.blocks(), strict=True)
    assert len(blocks) > 1 and all(block.dtype == np.float64 for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), rows.X[rows.index])
    np.testing.assert_array_equal(
        np.concatenate([np.arange(len(rows.index))[at] for at in where]), np.arange(len(rows.index))
    )


# --- Scaling ---


@pytest.mark.parametrize("scaling", ["center", "norm", "range", None])
def test_inverting_the_scaling_gives_the_input_back(scaling):
    X = np.random.default_rng(0).normal(5.0, 3.0, size=(30, 4))
    rows = all_rows(X)
    fitted = fit_scaling(rows, scaling)
    scaled = fitted.apply(X)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(fitted.invert(scaled), X, rtol=1e-5, atol=1e-5)
    assert fitted.invert(scaled).dtype == np.float64


def test_center_gives_each_feature_weighted_mean_zero_and_all_together_unit_size():
    rng = np.random.default_rng(1)
    X, weight = rng.normal([5.0, -3.0, 0.0], [1.0, 4.0, 0.1], size=(30, 3)), rng.random(30)
    fitted = fit_scaling(all_rows(X, weight), "center")
    scaled = fitted.apply(X).astype(np.float64)
    np.testing.assert_allclose(np.average(scaled, axis=0, weights=weight), 0.0, atol=1e-6)
    size = np.average(np.square(scaled).mean(axis=1), weights=weight)
    assert size == pytest.approx(1.0, rel=1e-6)
    # One scale for all features: their relative units stay.
    np.testing.assert_allclose(scaled.std(axis=0) / X.std(axis=0), 1.0 / fitted.scale, rtol=1e-5)


def test_norm_gives_unit_size_without_centring():
    rng = np.random.default_rng(2)
    X, weight = rng.normal(5.0, 1.0, size=(30, 3)), rng.random(30)
    fitted = fit_scaling(all_rows(X, weight), "norm")
    assert not fitted.offset.any()
    size = np.average(np.square(fitted.apply(X)).mean(axis=1), weights=weight)
    assert size == pytest.approx(1.0, rel=1e-6)


def test_range_takes_all_values_to_the_unit_interval_with_one_shift():
    X = np.array([[2.0, 10.0], [4.0, 7.0], [3.0, 12.0]])
    fitted = fit_scaling(all_rows(X), "range")
    assert fitted.scale == 10.0 and fitted.offset.tolist() == [2.0, 2.0]
    np.testing.assert_allclose(fitted.apply(X), (X - 2.0) / 10.0, rtol=1e-6)


def test_no_scaling_leaves_values_as_they_are():
    X = np.array([[2.0, 1e6], [-4.0, 0.5]])
    np.testing.assert_array_equal(fit_scaling(all_rows(X), None).apply(X), X.astype(np.float32))


@pytest.mark.parametrize("scaling", ["center", "norm"])
def test_a_weight_of_two_scales_like_a_repeated_row(scaling):
    X = np.random.default_rng(3).normal(2.0, 1.0, size=(10, 3))
    weight = np.r_[2.0, np.ones(9)]
    weighted = fit_scaling(all_rows(X, weight), scaling)
    repeated = fit_scaling(all_rows(np.r_[X[:1], X]), scaling)
    np.testing.assert_allclose(weighted.offset, repeated.offset, rtol=1e-12)
    assert weighted.scale == pytest.approx(repeated.scale, rel=1e-12)


@pytest.mark.parametrize("scaling", ["center", "norm", "range"])
@pytest.mark.parametrize("unit", [1e200, 1e30, 1e-30, 1e-200])
def test_extreme_units_scale_like_ordinary_ones(scaling, unit):
    X = np.random.default_rng(4).normal(2.0, 1.0, size=(20, 3))
    ordinary = fit_scaling(all_rows(X), scaling).apply(X)
    extreme = fit_scaling(all_rows(X * unit), scaling).apply(X * unit)
    np.testing.assert_allclose(extreme, ordinary, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scaling", ["center", "range"])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e200])
def test_constant_data_become_zero_with_scale_one(scaling, value):
    X = np.full((5, 3), value)
    rows = distinct_rows(X, np.ones(5))
    fitted = fit_scaling(rows, scaling)
    assert fitted.scale == 1.0
    assert not fitted.apply(X).any()


def test_equal_rows_of_different_features_become_zero_with_scale_one():
    for seed in range(20):
        X = np.repeat(np.random.default_rng(seed).normal(size=(1, 3)), 5, axis=0)
        fitted = fit_scaling(distinct_rows(X, np.ones(5)), "center")
        assert fitted.scale == 1.0
        assert not fitted.apply(X).any()


def test_norm_of_zeros_has_scale_one():
    assert fit_scaling(all_rows(np.zeros((3, 2))), "norm").scale == 1.0


@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_far_values_are_moved_to_a_finite_distance(scale):
    far = np.array([[1e300, -1e300, 3.0 * scale]])
    scaled = Scaling(np.zeros(3), scale).apply(far)
    np.testing.assert_array_equal(scaled, np.float32([[1e12, -1e12, 3.0]]))
