"""Dask collections: lazy, checked at once, and the same bits as without dask."""

import warnings

import numpy as np
import pytest
from quick import blobs, quick
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

METHODS = ["predict", "predict_proba", "transform"]

X, _ = blobs()


@pytest.fixture(scope="module")
def model():
    return quick().fit(X)


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_blocks_give_the_bits_of_one_call(model, method, dtype):
    rows = (10 * X).astype(dtype)
    result = getattr(model, method)(da.from_array(rows, chunks=(40, -1)))
    expected = getattr(model, method)(rows)
    assert isinstance(result, da.Array)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert result.chunks[0] == (40, 40, 10)
    np.testing.assert_array_equal(result.compute(), expected)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_computed_before_it_is_asked_for(model, method):
    def fail(block):
        raise RuntimeError("computed")

    rows = da.from_array(X, chunks=(40, -1)).map_blocks(fail, meta=X[:0])
    result = getattr(model, method)(rows)
    with pytest.raises(RuntimeError, match="computed"):
        result.compute()


def test_the_result_is_of_the_model_at_the_time_of_the_call():
    model = quick().fit(X)
    expected = model.transform(X)
    result = model.transform(da.from_array(X, chunks=(40, -1)))
    model.set_params(random_state=1).fit(X)
    np.testing.assert_array_equal(result.compute(), expected)


def test_blocks_of_unknown_size_and_without_rows_are_taken(model):
    rows = da.from_array(X, chunks=(30, -1))
    above = rows[rows[:, 0] > np.sort(X[:, 0])[-3]]  # two rows of 90: most blocks are empty
    for method in METHODS:
        result = getattr(model, method)(above)
        expected = getattr(model, method)(above.compute())
        assert len(expected) == 2 and np.isnan(result.shape[0])
        np.testing.assert_array_equal(result.compute(), expected)


@pytest.mark.parametrize("method", METHODS)
def test_tables_keep_the_names_of_their_features(method):
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    table = pd.DataFrame(X, columns=list("abcde"))
    model = quick().fit(table)
    rows = dd.from_pandas(table, npartitions=3)
    result = getattr(model, method)(rows)
    assert isinstance(result, da.Array)
    np.testing.assert_array_equal(result.compute(), getattr(model, method)(table))
    with pytest.raises(ValueError, match="feature names should match"):
        getattr(model, method)(rows.rename(columns={"a": "z"}))
    with pytest.raises(ValueError, match="could not convert"):
        getattr(model, method)(rows.assign(a=rows.a.astype(str)))


def test_an_output_set_to_pandas_does_not_reach_the_blocks(model):
    pytest.importorskip("pandas")
    framed = quick().fit(X).set_output(transform="pandas")
    frame = framed.transform(da.from_array(X, chunks=(40, -1)))
    np.testing.assert_array_equal(frame.to_numpy(), model.transform(X))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_wrong_is_said_at_once(model, method):
    rows = da.from_array(X, chunks=(40, -1))
    with pytest.raises(NotFittedError):
        getattr(quick(), method)(rows)
    with pytest.raises(ValueError, match="has 4 features, but DECClustering is expecting 5"):
        getattr(model, method)(rows[:, :4])
    with pytest.raises(ValueError, match=r"one block. Got blocks of \(3, 2\) columns: rechunk"):
        getattr(model, method)(rows.rechunk((40, 3)))
    with pytest.raises(ValueError, match="Expected 2D array"):
        getattr(model, method)(rows[:, 0])
    with pytest.raises(ValueError, match="Complex data not supported"):
        getattr(model, method)(rows.astype(complex))


def test_values_are_checked_when_their_block_is_computed(model):
    rows = da.from_array(np.where(X == X.max(), np.nan, X), chunks=(40, -1))
    result = model.predict(rows)
    with pytest.raises(ValueError, match="contains NaN"):
        result.compute()


@pytest.mark.parametrize("method", ["fit", "fit_predict", "fit_transform"])
def test_fit_refuses_and_says_what_to_do(method):
    unfitted = quick()
    before = dict(vars(unfitted))
    with pytest.raises(TypeError, match=r"all rows of X at once. Got a dask Array: .*compute\(\)"):
        getattr(unfitted, method)(da.from_array(X, chunks=(40, -1)))
    assert vars(unfitted) == before


def test_score_and_inverse_transform_refuse(model):
    rows = da.from_array(X, chunks=(40, -1))
    with pytest.raises(TypeError, match="score needs all rows of X at once"):
        model.score(rows)
    with pytest.raises(TypeError, match="inverse_transform needs all rows of Z at once"):
        model.inverse_transform(rows[:, :2])


def test_a_pipeline_can_be_mapped_over_the_blocks():
    pipeline = make_pipeline(StandardScaler(), quick()).fit(X)
    rows = da.from_array(X, chunks=(40, -1))
    labels = rows.map_blocks(pipeline.predict, drop_axis=1, dtype="int32")
    np.testing.assert_array_equal(labels.compute(), pipeline.predict(X))


def test_processes_of_a_cluster_give_the_same_bits(model):
    distributed = pytest.importorskip("distributed")
    rows = da.from_array(X, chunks=(20, -1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a busy machine makes distributed say
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            results = [getattr(model, method)(rows) for method in METHODS]
            computed = client.gather(client.compute(results))
    for method, result in zip(METHODS, computed, strict=True):
        np.testing.assert_array_equal(result, getattr(model, method)(X))
