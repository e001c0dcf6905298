"""What goes in: forms that work without a word, and errors that name what is wrong."""

import copy
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from quick import blobs, quick
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.utils._param_validation import InvalidParameterError

import skdec._estimator

X, _ = blobs()
EXPECTED = quick().fit(X).transform(X)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        read_only,
        np.ndarray.tolist,
        lambda X: X[::-1].copy()[::-1],
        lambda X: X[:, ::-1].copy()[:, ::-1],
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: X.astype(object),
        lambda X: pd.DataFrame(X, columns=list("abcde")),
        lambda X: pl.DataFrame(X, schema=list("abcde")),
    ],
    ids=["fortran", "read-only", "list", "rows backwards", "columns backwards", "strided",
         "object", "pandas", "polars"],
)  # fmt: skip
def test_any_form_of_the_same_numbers_gives_the_same_model(form):
    given = form(X)
    model = quick().fit(given)
    np.testing.assert_array_equal(np.asarray(model.transform(given)), EXPECTED)


def test_input_is_never_modified():
    given, weight = X.copy(), np.ones(len(X))
    quick().fit(given, sample_weight=weight).predict(given)
    np.testing.assert_array_equal(given, X)
    np.testing.assert_array_equal(weight, 1.0)


@pytest.mark.parametrize("y", ["a string", np.arange(3), [[None]], object(), ["x"] * 90])
def test_y_is_ignored_whatever_it_is(y):
    np.testing.assert_array_equal(quick().fit(X, y).transform(X), EXPECTED)
    assert quick().fit(X).score(X, y) == quick().fit(X).score(X)


@pytest.mark.parametrize("factor", [1e30, 1e-30, 1e150, 1e-150])
def test_scale_of_the_input_is_of_no_consequence(factor):
    model = quick().fit(X * factor)
    assert np.isfinite(model.predict_proba(X * factor)).all()
    assert adjusted_rand_score(model.labels_, quick().fit(X).labels_) == 1.0
    assert model.score(X * factor) == pytest.approx(quick().fit(X).score(X))


def test_a_far_origin_is_of_no_consequence():
    assert adjusted_rand_score(quick().fit_predict(X + 1e6), quick().fit_predict(X)) == 1.0


def test_rows_far_from_the_training_data_have_a_cluster():
    Q = quick().fit(X).predict_proba(np.array([[1e30] * 5, [-1e300] * 5, [0.0] * 5]))
    np.testing.assert_allclose(Q.sum(axis=1), 1.0)


def test_constant_features_and_a_single_feature_work():
    constant = np.column_stack([X, np.full(len(X), 7.0)])
    model = quick().fit(constant)
    np.testing.assert_allclose(model.inverse_transform(model.transform(constant)).shape, (90, 6))
    # In one feature the groups overlap: self-training may do harm, and then says that it is undone.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert len(np.unique(quick().fit_predict(X[:, :1]))) == 3


def test_one_cluster_and_one_row():
    model = quick(1).fit(X)
    assert set(model.labels_) == {0}
    np.testing.assert_array_equal(model.predict_proba(X), 1.0)
    assert model.score(X) == 0.0
    assert quick(1).fit_predict(X[:1]).tolist() == [0]
    assert quick(1, batch_norm=True).fit_predict(X[:1]).tolist() == [0]


@pytest.mark.parametrize("n_distinct", [1, 2])
def test_fewer_distinct_rows_than_clusters_are_answered_as_by_k_means(n_distinct):
    repeated = np.repeat(X[:n_distinct], 10, axis=0)
    words = rf"Number of distinct clusters \({n_distinct}\) found smaller than n_clusters \(3\)"
    with pytest.warns(ConvergenceWarning, match=words):
        model = quick().fit(repeated)
    np.testing.assert_array_equal(np.unique(model.labels_), np.arange(n_distinct))
    assert model.cluster_centers_.shape == (3, 2)
    np.testing.assert_array_equal(model.predict(repeated), model.labels_)


def test_integer_weights_are_repeated_rows_to_the_bit():
    random = np.random.default_rng(0)
    weight = random.integers(0, 4, len(X))
    repeated = random.permutation(np.repeat(X, weight, axis=0))
    weighted = quick().fit(X, sample_weight=weight)
    np.testing.assert_array_equal(weighted.predict_proba(X), quick().fit(repeated).predict_proba(X))
    np.testing.assert_array_equal(quick().fit_predict(X, sample_weight=weight), weighted.labels_)
    np.testing.assert_array_equal(
        quick().fit_transform(X, sample_weight=weight), weighted.transform(X)
    )


def test_rows_of_no_weight_are_not_counted():
    weight = np.zeros(90)
    weight[:2] = 1.0
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3"):
        quick().fit(X, sample_weight=weight)


def test_only_proportions_of_weights_matter():
    weight = np.random.default_rng(0).uniform(1, 2, len(X))
    expected = quick().fit(X, sample_weight=weight).predict_proba(X)
    for factor in (4.0, 2.0**-900, 2.0**900):
        found = quick().fit(X, sample_weight=weight * factor).predict_proba(X)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.full((9, 2), np.nan), "contains NaN"),
        (np.full((9, 2), np.inf), "contains infinity"),
        (np.arange(9.0), "Expected 2D array, got 1D"),
        (np.zeros((2, 3)), r"n_samples=2 should be >= n_clusters=3\."),
        (np.zeros((0, 3)), "0 sample"),
        (np.zeros((9, 2), dtype=complex), "Complex data not supported"),
        (np.array([["a", "b"]] * 9), "dtype='numeric' is not compatible|could not convert"),
    ],
)  # fmt: skip
def test_bad_data_is_refused_in_words(data, words):
    with pytest.raises(ValueError, match=words):
        quick().fit(data)


def test_sparse_input_is_refused_in_words():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="[Ss]parse"):
        quick().fit(scipy_sparse.csr_array(X))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "score"])
def test_another_number_of_features_is_refused(method):
    model = quick().fit(X)
    with pytest.raises(ValueError, match="X has 4 features, but DECClustering is expecting 5"):
        getattr(model, method)(X[:, :4])
    with pytest.raises(ValueError, match="contains NaN"):
        getattr(model, method)(X * np.nan)


def test_inverse_transform_refuses_another_width():
    with pytest.raises(ValueError, match="Z has 5 features, but the embedding .* has 2"):
        quick().fit(X).inverse_transform(X)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (np.full(90, np.nan), "sample_weight contains NaN"),
        (np.zeros(90), "at least one non-zero"),
        (np.full(90, -1.0), r"sample_weight must not be negative. Got -1\.0"),
        (np.ones(89), r"sample_weight.shape == \(89,\), expected \(90,\)"),
        (np.ones((90, 2)), r"sample_weight.shape == \(90, 2\)"),
        (["a"] * 90, "could not convert"),
    ],
)
def test_bad_weights_are_refused_in_words(weight, words):
    with pytest.raises(ValueError, match=words):
        quick().fit(X, sample_weight=weight)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_clusters", 0),
        ("n_clusters", 2.5),
        ("hidden_dims", (8, 0)),
        ("hidden_dims", "wide"),
        ("hidden_dims", (8, 2.5)),
        ("embedding_dim", 0),
        ("activation", "step"),
        ("batch_norm", "yes"),
        ("weight_init", -1.0),
        ("autoencoder", 3),
        ("scaling", "standard"),
        ("pretraining", "none"),
        ("pretrain_steps", -1),
        ("layerwise_steps", 0),
        ("reconstruction_loss", "mae"),
        ("corruption", 1.0),
        ("pretrain_optimizer", "lbfgs"),
        ("pretrain_learning_rate", 0.0),
        ("pretrain_decay", "step"),
        ("init", "ward"),
        ("n_init", 0),
        ("alpha", 0.0),
        ("alpha", 1e7),
        ("target_distribution", "sharp"),
        ("clustering_weight", 0.0),
        ("reconstruction_weight", -0.1),
        ("optimizer", None),
        ("learning_rate", "fast"),
        ("momentum", 1.0),
        ("pretrain_momentum", -0.1),
        ("batch_size", 0),
        ("update_interval", 0),
        ("max_iter", -1),
        ("tol", -1e-3),
        ("device", "abacus"),
        ("device", "cuda:99"),
        ("precision", "float8"),
        ("memory", 3),
        ("random_state", "seed"),
    ],
)
def test_bad_parameters_are_named_with_their_value(name, value):
    with pytest.raises((InvalidParameterError, ValueError)) as error:
        quick(**{name: value}).fit(X)
    assert f"'{name}'" in str(error.value)
    assert re.search(r"(Got|got) .*" + re.escape(str(value).strip("()")), str(error.value))


def test_bad_initial_centres_are_refused():
    with pytest.raises(ValueError, match=r"initial centers \(2, 5\) does not match .* \(3, 5\)"):
        quick(init=X[:2]).fit(X)
    with pytest.raises(ValueError, match="init contains NaN"):
        quick(init=X[:3] * np.nan).fit(X)
    with pytest.raises(ValueError, match=r"initial centers \(1, 5\)"):
        quick(init=lambda X, n_clusters, random_state: X[:1]).fit(X)


def test_cross_entropy_refuses_data_outside_the_unit_interval():
    with pytest.raises(ValueError, match=r"reconstruction_loss='bce' needs inputs in \[0, 1\]"):
        quick(reconstruction_loss="bce", scaling=None).fit(X)
    with pytest.raises(ValueError, match="Got scaling='center'"):
        quick(reconstruction_loss="bce", scaling="center").fit(X)


def test_weights_without_a_finite_sum_are_refused_and_vanishing_ones_left_out():
    with pytest.raises(ValueError, match="sample_weight must have a finite sum. .* 1e.308"):
        quick().fit(X, sample_weight=np.full(len(X), 1e308))
    weight = np.where(np.arange(len(X)) % 2, 1e200, 1e-200)
    model = quick(init="auto").fit(X, sample_weight=weight)
    expected = quick(init="auto").fit(X, sample_weight=weight > 1)
    np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)


def test_rows_of_weight_zero_may_be_outside_of_the_unit_interval():
    rows = np.clip(X - X.min(), 0, None) / np.ptp(X)
    weight = np.ones(len(rows))
    rows[0], weight[0] = 7.0, 0.0
    model = quick(reconstruction_loss="bce", scaling=None).fit(rows, sample_weight=weight)
    assert len(model.labels_) == len(rows)


@pytest.mark.parametrize("failure", [RuntimeError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("stage", ["distinct_rows", "best_partition", "self_train", "inertia"])
def test_failed_or_interrupted_refit_leaves_the_estimator_as_it_was(monkeypatch, failure, stage):
    model, unfitted = quick().fit(X), quick()
    before = copy.copy(vars(model))

    def fail(*args, **kwargs):
        raise failure

    monkeypatch.setattr(skdec._estimator, stage, fail)
    for estimator in (model, unfitted):
        with pytest.raises(type(failure)):
            estimator.fit(X[:60, :3])
    assert vars(model) == before
    assert vars(unfitted) == vars(quick())


def test_diverging_self_training_keeps_a_finite_state_and_says_so():
    with pytest.warns(ConvergenceWarning) as caught:
        model = quick(learning_rate=1e20).fit(X)
    words = [str(warning.message) for warning in caught]
    assert "3 round(s) of self-training were undone" in words[0]
    assert "ended without converging, after 0 of max_iter=3 rounds" in words[1]
    assert np.isfinite(model.predict_proba(X)).all()
    assert len(np.unique(model.labels_)) == 3


def test_divergence_in_the_last_step_of_pretraining_is_an_error_too():
    diverging = {"pretrain_optimizer": "sgd", "pretrain_learning_rate": 1e38, "pretrain_steps": 1}
    with pytest.raises(ValueError, match="Lower 'pretrain_learning_rate'"):
        quick(**diverging, pretraining="end-to-end").fit(X)


def test_diverging_pretraining_is_an_error_that_names_the_parameter():
    with pytest.raises(ValueError, match="Lower 'pretrain_learning_rate' \\(it is 1e\\+20\\)"):
        quick(pretraining="end-to-end", pretrain_learning_rate=1e20).fit(X)
    with pytest.raises(ValueError, match="Lower 'neighbor_learning_rate' \\(it is 1e\\+20\\)"):
        quick(neighbor_learning_rate=1e20).fit(X)
