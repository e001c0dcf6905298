"""DECClustering among other parts of scikit-learn: routing, tables, frozen models, displays."""

from email.message import Message
from importlib.metadata import PackageNotFoundError

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from matplotlib.figure import Figure
from packaging.version import Version
from quick import blobs, quick
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skdec._inference
from skdec.metrics import ClusteringScorer, relative_conductance

X, Y = blobs()
WEIGHT = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


# --- Metadata routing ---


@pytest.mark.parametrize("method", ["fit", "fit_predict", "fit_transform"])
def test_weights_are_routed_through_a_pipeline_as_asked(routing, method):
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    pipeline = make_pipeline(scaler, quick().set_fit_request(sample_weight=True))
    getattr(pipeline, method)(X, sample_weight=WEIGHT)
    scaled = StandardScaler().fit_transform(X)
    expected = quick().fit(scaled, sample_weight=WEIGHT).predict_proba(scaled)
    np.testing.assert_array_equal(pipeline.predict_proba(X), expected)
    assert not np.array_equal(expected, quick().fit(scaled).predict_proba(scaled))


def test_weights_that_nobody_asked_for_are_refused(routing):
    with pytest.raises(UnsetMetadataPassedError, match="DECClustering.fit"):
        make_pipeline(quick()).fit(X, sample_weight=WEIGHT)


@pytest.mark.parametrize("asked", [True, False])
def test_weights_are_routed_through_a_search_to_fit_and_score(routing, asked):
    model = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=asked)
    train, test = np.arange(0, 90, 2), np.arange(1, 90, 2)
    search = GridSearchCV(model, {"n_clusters": [2]}, cv=[(train, test)])
    search.fit(X, sample_weight=WEIGHT)
    by_hand = quick(2).fit(X[train], sample_weight=WEIGHT[train])
    expected = by_hand.score(X[test], sample_weight=WEIGHT[test] if asked else None)
    assert search.cv_results_["mean_test_score"] == expected
    whole = quick(2).fit(X, sample_weight=WEIGHT)
    np.testing.assert_array_equal(search.predict_proba(X), whole.predict_proba(X))


def test_weights_are_routed_under_another_name(routing):
    model = (
        quick().set_fit_request(sample_weight="importance").set_score_request(sample_weight=False)
    )
    scorer = ClusteringScorer("conductance").set_score_request(sample_weight="importance")
    both = np.arange(90), np.arange(90)
    found = cross_validate(model, X, scoring=scorer, cv=[both], params={"importance": WEIGHT})
    labels = quick().fit_predict(X, sample_weight=WEIGHT)
    assert found["test_score"] == relative_conductance(X, labels, sample_weight=WEIGHT)


# --- Tables ---


def mixed_table():
    """Numbers with a gap, and a word that says the same as the group of the row."""
    table = pd.DataFrame(X * [1, 1, 1, 1, 1000], columns=list("abcde"))
    table.loc[3, "a"] = np.nan
    table["word"] = np.array(["one", "two", "three"])[Y]
    return table


def test_a_mixed_table_is_clustered_behind_a_column_transformer():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include=np.number)),
            ("words", OneHotEncoder(sparse_output=False), ["word"]),
        ]
    )
    pipeline = make_pipeline(columns, quick(pretrain_steps=100, n_init=5)).fit(mixed_table())
    labels = pipeline.predict(mixed_table())
    assert len(set(zip(labels, Y, strict=True))) == 3
    assert pipeline[-1].n_features_in_ == 8
    # Rows can be scored where the distances mean something, and not where there are words.
    scorer = ClusteringScorer("silhouette", space="preprocessed")
    assert 0.5 < scorer(pipeline, mixed_table()) <= 1.0
    with pytest.raises(ValueError, match="convert"):
        ClusteringScorer("silhouette", space="input")(pipeline, mixed_table())


@pytest.mark.parametrize(
    ("container", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]
)
def test_the_embedding_of_some_columns_stands_beside_the_others(container, frame):
    table = frame(dict(zip("abcde", X.T, strict=True)))
    columns = ColumnTransformer(
        [("embedded", quick(), list("abcd"))], remainder="passthrough"
    ).set_output(transform=container)
    found = columns.fit_transform(table)
    assert isinstance(found, frame)
    names = ["embedded__decclustering0", "embedded__decclustering1", "remainder__e"]
    assert list(found.columns) == list(columns.get_feature_names_out()) == names
    expected = np.column_stack([quick().fit(X[:, :4]).transform(X[:, :4]), X[:, 4]])
    np.testing.assert_array_equal(found.to_numpy(), expected)


@pytest.mark.parametrize(
    ("container", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]
)
def test_a_pipeline_gives_the_container_that_was_set(container, frame):
    table = frame(dict(zip("abcde", X.T, strict=True)))
    pipeline = make_pipeline(StandardScaler(), quick()).set_output(transform=container).fit(table)
    embedding = pipeline.transform(table)
    assert isinstance(embedding, frame)
    assert list(embedding.columns) == ["decclustering0", "decclustering1"]
    assert list(pipeline[-1].feature_names_in_) == list("abcde")
    assert isinstance(pipeline.predict(table), np.ndarray)
    scaled = StandardScaler().fit_transform(table)
    np.testing.assert_array_equal(embedding.to_numpy(), quick().fit(scaled).transform(scaled))
    # Scores take what transform gives, whatever it is.
    scorer = ClusteringScorer("silhouette", space="embedding")
    expected = silhouette_score(embedding.to_numpy(), pipeline.predict(table))
    assert scorer(pipeline, table) == pytest.approx(expected)


def test_columns_under_other_names_are_refused():
    model = quick().fit(pd.DataFrame(X, columns=list("abcde")))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(pd.DataFrame(X, columns=list("vwxyz")))


# --- Copies that learn and copies that do not ---


def test_a_frozen_model_keeps_its_embedding_in_a_pipeline_that_is_fitted():
    model = quick().fit(X)
    classifier = make_pipeline(FrozenEstimator(model), LogisticRegression()).fit(X[:60], Y[:60])
    np.testing.assert_array_equal(classifier[:-1].transform(X), model.transform(X))
    assert classifier.score(X[60:], Y[60:]) > 0.8
    np.testing.assert_array_equal(FrozenEstimator(model).fit(X[:9], None).predict(X), model.labels_)


def test_a_clone_has_the_parameters_and_requests_and_has_learnt_nothing(routing):
    model = quick().set_fit_request(sample_weight=True).set_output(transform="pandas").fit(X)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert str(copy.get_metadata_routing()) == str(model.get_metadata_routing())
    with pytest.raises(NotFittedError):
        copy.predict(X)
    embedding = copy.fit(X).transform(X)
    assert isinstance(embedding, pd.DataFrame)
    pd.testing.assert_frame_equal(embedding, model.transform(X))


# --- Display ---


def test_html_of_a_model_shows_it_and_computes_nothing(monkeypatch):
    model = quick().fit(X)
    pipeline = make_pipeline(StandardScaler(), model)

    def compute(*args, **kwargs):
        raise AssertionError("the display has computed an embedding")

    monkeypatch.setattr(skdec._inference, "in_tiles", compute)
    for shown in (quick(), model, pipeline):
        html = shown._repr_html_()
        assert "DECClustering" in html and "n_clusters" in html
        # As long as no address is named, none leads to scikit-learn, which has no such page.
        assert "Documentation for DECClustering" not in html
    assert model._get_doc_link() == ""


def test_html_of_a_model_leads_to_the_documentation_that_the_project_names(monkeypatch):
    package = Message()
    package["Project-URL"] = "Source, https://source.example"
    package["Project-URL"] = "Documentation, https://pages.example/skdec/"
    monkeypatch.setattr(skdec._estimator, "metadata", {"skdec": package}.__getitem__)
    page = "https://pages.example/skdec/generated/skdec.DECClustering.html"
    assert quick()._get_doc_link() == page
    assert f'href="{page}"' in make_pipeline(StandardScaler(), quick())._repr_html_()

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(skdec._estimator, "metadata", missing)
    assert quick()._get_doc_link() == ""


# 1.6 draws no probabilities of a clusterer, 1.9 does.
draws_probabilities = pytest.mark.skipif(
    Version(sklearn.__version__) < Version("1.9"), reason="an older scikit-learn"
)


@pytest.mark.parametrize(
    "method", ["predict", pytest.param("predict_proba", marks=draws_probabilities)]
)
def test_decision_boundaries_of_two_features_are_drawn(method):
    rows = X[:, :2]
    model = quick().fit(rows)
    display = DecisionBoundaryDisplay.from_estimator(
        model, rows, response_method=method, grid_resolution=20, ax=Figure().subplots()
    )
    grid = np.column_stack([display.xx0.ravel(), display.xx1.ravel()])
    expected = getattr(model, method)(grid)
    np.testing.assert_array_equal(display.response.reshape(expected.shape), expected)
    assert len(np.unique(model.predict(grid))) == 3
