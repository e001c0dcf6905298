"""Explanations: planted features are found, means are means, rows and prototypes are right."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from quick import blobs, quick
from scipy.sparse import csc_matrix, csr_array
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler

from skdec.inspection import (
    cluster_exemplars,
    cluster_prototypes,
    explain_clusters,
    runner_up,
)

COLUMNS = ["cluster", "feature", "mean", "mean_others", "effect"]


def customers(seed=0):
    """Three groups of 30: the first spends much, the second is old, the third has neither."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(90, 4)), columns=["visits", "spend", "age", "returns"])
    frame.loc[:29, "spend"] += 12
    frame.loc[30:59, "age"] += 12
    return frame, np.repeat([0, 1, 2], 30)


FRAME, GROUP = customers()
LONGER = {"pretrain_steps": 200, "neighbor_steps": 40, "pretrain_learning_rate": 0.02}


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(StandardScaler(), quick(**LONGER)).fit(FRAME)


def cluster_of(pipeline, group):
    """The cluster that all rows of a planted group are in."""
    (cluster,) = np.unique(pipeline.predict(FRAME)[GROUP == group])
    return cluster


# --- Features ---


def test_planted_features_are_found_by_name(pipeline):
    table = explain_clusters(pipeline, FRAME, top=1).set_index("cluster")
    assert table.columns.tolist() == COLUMNS[1:]
    assert table.loc[cluster_of(pipeline, 0), "feature"] == "spend"
    assert table.loc[cluster_of(pipeline, 1), "feature"] == "age"
    assert (table.loc[[cluster_of(pipeline, 0), cluster_of(pipeline, 1)], "effect"] > 1.5).all()
    # The third group is told by what it has not.
    assert table.loc[cluster_of(pipeline, 2), "effect"] < 0


def test_means_and_effects_are_those_of_the_rows_as_given(pipeline):
    table = explain_clusters(pipeline, FRAME)
    labels = pipeline.predict(FRAME)
    assert len(table) == 3 * 4
    for row in table.itertuples():
        inside = FRAME.loc[labels == row.cluster, row.feature]
        outside = FRAME.loc[labels != row.cluster, row.feature]
        assert row.mean == pytest.approx(inside.mean())
        assert row.mean_others == pytest.approx(outside.mean())
        spread = FRAME[row.feature].std(ddof=0)
        assert row.effect == pytest.approx((inside.mean() - outside.mean()) / spread)


def test_table_is_long_by_cluster_and_from_the_largest_effect_down(pipeline):
    table = explain_clusters(pipeline, FRAME)
    assert table["cluster"].tolist() == np.repeat([0, 1, 2], 4).tolist()
    for _, rows in table.groupby("cluster"):
        assert rows["effect"].abs().is_monotonic_decreasing
        assert sorted(rows["feature"]) == sorted(FRAME.columns)
    top = explain_clusters(pipeline, FRAME, top=2)
    pd.testing.assert_frame_equal(top, table.groupby("cluster").head(2).reset_index(drop=True))


def test_effect_reaches_its_bound_where_the_feature_tells_all():
    only = FRAME.assign(spend=(GROUP == 0) * 12.0)
    pipeline = make_pipeline(StandardScaler(), quick(pretrain_steps=200)).fit(only)
    np.testing.assert_array_equal(pipeline.predict(only) == cluster_of(pipeline, 0), GROUP == 0)
    table = explain_clusters(pipeline, only).set_index(["cluster", "feature"])
    assert table.loc[(cluster_of(pipeline, 0), "spend"), "mean"] == 12.0
    effect = table.loc[(cluster_of(pipeline, 0), "spend"), "effect"]
    assert effect == pytest.approx(1 / np.sqrt(1 / 3 * 2 / 3))


def test_weights_are_repetitions(pipeline):
    weight = np.random.default_rng(1).integers(0, 3, len(FRAME))
    weighted = explain_clusters(pipeline, FRAME, sample_weight=weight)
    repeated = explain_clusters(pipeline, FRAME.loc[np.repeat(FRAME.index, weight)])
    pd.testing.assert_frame_equal(weighted, repeated)


def test_names_come_from_the_rows_the_fit_or_the_positions(pipeline):
    names = set(FRAME.columns)
    assert set(explain_clusters(pipeline, pl.DataFrame(FRAME))["feature"]) == names
    renamed = explain_clusters(pipeline, FRAME, feature_names=list("abcd"))["feature"]
    assert set(renamed) == set("abcd")
    nameless = quick().fit(FRAME.to_numpy())
    assert set(explain_clusters(nameless, FRAME.to_numpy())["feature"]) == {"x0", "x1", "x2", "x3"}
    with pytest.warns(UserWarning, match="valid feature names"):
        table = explain_clusters(pipeline, FRAME.to_numpy())
    assert set(table["feature"]) == names


def test_sparse_rows_are_explained_as_dense_ones(monkeypatch):
    counts = np.random.default_rng(0).poisson(1.0, (90, 7)) * 1.0
    counts[np.arange(90), GROUP] += 20
    words = np.array(["ape", "bee", "cat", "dog", "eel", "fox", "gnu"])
    model = make_pipeline(TruncatedSVD(3, random_state=0), quick(pretrain_steps=60)).fit(counts)
    expected = explain_clusters(model, counts, feature_names=words)
    for container, values_at_a_time in ((csr_array, 1), (csc_matrix, 200), (csr_array, 10**6)):
        monkeypatch.setattr("skdec.inspection._MOST_DENSE", values_at_a_time)
        table = explain_clusters(model, container(counts), feature_names=words)
        pd.testing.assert_frame_equal(table, expected)
    assert set(explain_clusters(model, csr_array(counts), top=1)["feature"]) == {"x0", "x1", "x2"}


def test_words_are_told_by_their_shares_and_missing_numbers_are_left_out():
    frame = FRAME.assign(
        region=np.where(GROUP == 1, "north", "south"),
        member=GROUP == 2,
        visits=FRAME["visits"].where(np.arange(90) % 7 > 0),
    )
    encode = make_column_transformer(
        (OneHotEncoder(), ["region"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["visits", "spend", "age"]),
        sparse_threshold=0,
    )
    model = make_pipeline(encode, quick(pretrain_steps=60)).fit(frame)
    table = explain_clusters(model, frame).set_index(["cluster", "feature"])
    labels = model.predict(frame)
    cluster = labels[45]
    north = (frame["region"] == "north")[labels == cluster].mean()
    assert table.loc[(cluster, "region=north"), "mean"] == pytest.approx(north)
    assert north > 0.9
    visits = table.loc[(cluster, "visits")]
    assert visits["mean"] == pytest.approx(frame["visits"][labels == cluster].mean())
    assert visits["mean_others"] == pytest.approx(frame["visits"][labels != cluster].mean())
    member = table.loc[(cluster, "member"), "mean"]
    assert member == pytest.approx(frame["member"][labels == cluster].mean())


def test_only_the_most_frequent_words_are_compared(pipeline):
    frame = FRAME.assign(name=[f"name {k}" if k < 50 else "Smith" for k in range(90)])
    encode = make_column_transformer((StandardScaler(), list(FRAME.columns)))
    model = make_pipeline(encode, quick()).fit(frame)
    features = set(explain_clusters(model, frame)["feature"])
    assert "name=Smith" in features
    assert len(features) == 4 + 20


def test_constant_features_have_no_effect_and_one_cluster_no_others():
    X, _ = blobs()  # far apart in the other features too, so that every fit ends without a warning
    X[:, 1] = 0.1
    table = explain_clusters(quick().fit(X), X)
    assert (table.loc[table["feature"] == "x1", "effect"] == 0).all()
    X[:, 1] = np.where(np.arange(len(X)) % 2, 0.5, 7.0)  # 7 in rows that do not count
    table = explain_clusters(quick().fit(X), X, sample_weight=np.arange(len(X)) % 2)
    assert (table.loc[table["feature"] == "x1", "effect"] == 0).all()
    X[:, 1] = 0.1
    alone = explain_clusters(quick(1).fit(X), X)
    assert alone[["mean_others", "effect"]].isna().all(axis=None)
    np.testing.assert_allclose(alone["mean"], X.mean(axis=0))


def test_large_values_of_small_spread_lose_no_digits(pipeline):
    shifted = FRAME + 1e9
    model = quick().fit(shifted)
    labels = model.predict(shifted)
    table = explain_clusters(model, shifted).set_index(["cluster", "feature"])
    centered = FRAME["spend"] - FRAME["spend"].mean()
    expected = centered[labels == 0].mean() - centered[labels != 0].mean()
    effect = table.loc[(0, "spend"), "effect"]
    assert effect == pytest.approx(expected / FRAME["spend"].std(ddof=0), rel=1e-5)


def test_clusters_without_rows_are_left_out(pipeline):
    cluster = cluster_of(pipeline, 0)
    assert set(explain_clusters(pipeline, FRAME[GROUP == 0])["cluster"]) == {cluster}
    weight = (GROUP == 0) * 1.0
    assert set(explain_clusters(pipeline, FRAME, sample_weight=weight)["cluster"]) == {cluster}


# --- Rows ---


def test_exemplars_are_ranked_by_the_soft_assignment(pipeline):
    Q = pipeline.predict_proba(FRAME)
    labels, margin = Q.argmax(axis=1), np.diff(np.sort(Q, axis=1)[:, -2:], axis=1).ravel()
    for most, key in (("typical", -Q.max(axis=1)), ("doubtful", margin)):
        table = cluster_exemplars(pipeline, FRAME, n_exemplars=4, most=most)
        assert table["cluster"].tolist() == np.repeat([0, 1, 2], 4).tolist()
        np.testing.assert_array_equal(labels[table["row"]], table["cluster"])
        for cluster, rows in table.groupby("cluster")["row"]:
            assert sorted(key[labels == cluster])[:4] == key[rows].tolist()
        np.testing.assert_array_equal(table["probability"], Q[table["row"], table["cluster"]])
        np.testing.assert_array_equal(
            table["next_probability"], Q[table["row"], table["next_cluster"]]
        )
        assert (table["next_cluster"] != table["cluster"]).all()
        np.testing.assert_allclose(
            table["probability"] - table["next_probability"], margin[table["row"]], atol=1e-12
        )


def test_fewer_rows_than_exemplars_and_a_single_cluster(pipeline):
    assert cluster_exemplars(pipeline, FRAME[:2])["row"].tolist() in ([0, 1], [1, 0])
    X, _ = blobs()
    for most in ("typical", "doubtful"):
        table = cluster_exemplars(quick(1).fit(X), X, most=most)
        assert table["next_cluster"].tolist() == [-1] * 3
        assert table["next_probability"].tolist() == [0.0] * 3


def test_of_equal_probabilities_the_next_cluster_is_another_one():
    Q = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [0.1, 0.3, 0.6]])
    assert runner_up(Q).tolist() == [1, 2, 1]
    assert runner_up(np.full((1, 40), 1 / 40)).tolist() == [1]


# --- Prototypes ---


def test_prototypes_are_decoded_centers_with_names_in_units(pipeline):
    prototypes = cluster_prototypes(pipeline)
    assert prototypes.columns.tolist() == FRAME.columns.tolist()
    assert prototypes.index.name == "cluster"
    expected = pipeline[0].inverse_transform(
        pipeline[-1].inverse_transform(pipeline[-1].cluster_centers_)
    )
    np.testing.assert_allclose(prototypes, expected)
    assert prototypes.loc[cluster_of(pipeline, 0), "spend"] > 8
    X, _ = blobs(n_features=3)
    assert cluster_prototypes(quick().fit(X)).columns.tolist() == ["x0", "x1", "x2"]


def test_steps_that_cannot_go_back_are_named():
    X, _ = blobs()
    model = make_pipeline("passthrough", Normalizer(), PCA(3), quick()).fit(X)
    with pytest.raises(TypeError, match=r"these have none: \['normalizer'\]"):
        cluster_prototypes(model)
    assert len(explain_clusters(model, X, top=1)) == 3


# --- All of them ---


def test_without_pandas_tables_are_structured_arrays(pipeline, without):
    nameless = quick().fit(FRAME.to_numpy())
    frames = [f(nameless, FRAME.to_numpy()) for f in (explain_clusters, cluster_exemplars)]
    prototypes = cluster_prototypes(nameless)
    without("pandas")
    for function, frame in zip((explain_clusters, cluster_exemplars), frames, strict=True):
        table = function(nameless, FRAME.to_numpy())
        assert isinstance(table, np.ndarray)
        assert list(table.dtype.names) == list(frame.columns)
        for name in table.dtype.names:
            np.testing.assert_array_equal(table[name], frame[name])
    plain = cluster_prototypes(nameless)
    assert type(plain) is np.ndarray
    np.testing.assert_array_equal(plain, prototypes)


@pytest.mark.parametrize(
    "function",
    [explain_clusters, cluster_exemplars, lambda estimator, X: cluster_prototypes(estimator)],
)
def test_other_estimators_are_refused(function):
    with pytest.raises(NotFittedError):
        function(make_pipeline(StandardScaler(), quick()), FRAME)
    for other in (KMeans(3), make_pipeline(StandardScaler(), SelectKBest())):
        with pytest.raises(TypeError, match="estimator must be a fitted DECClustering"):
            function(other, FRAME)


def test_wrong_parameters_are_named(pipeline):
    with pytest.raises(ValueError, match="top == 0"):
        explain_clusters(pipeline, FRAME, top=0)
    with pytest.raises(TypeError, match="top must be an instance of int"):
        explain_clusters(pipeline, FRAME, top=1.5)
    with pytest.raises(ValueError, match="n_exemplars == 0"):
        cluster_exemplars(pipeline, FRAME, n_exemplars=0)
    with pytest.raises(ValueError, match="most must be 'typical' or 'doubtful'. Got 'best'"):
        cluster_exemplars(pipeline, FRAME, most="best")
    with pytest.raises(ValueError, match="sample_weight"):
        explain_clusters(pipeline, FRAME, sample_weight=[1.0])
    with pytest.raises(ValueError, match="feature_names has 2 names, but X has 4 features"):
        explain_clusters(pipeline, FRAME, feature_names=["visits", "spend"])
