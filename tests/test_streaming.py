"""Rows that are in no tensor: memory maps, narrow dtypes and sparse rows, to the same bits."""

import warnings

import numpy as np
import pytest
import torch
from quick import blobs, quick
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

import skdec._estimator
from skdec._components import leading_components
from skdec._rows import Rows, Scaling
from skdec._scaled_rows import ScaledRows, scaled_rows
from skdec.inspection import cluster_exemplars, explain_clusters
from skdec.metrics import ClusteringScorer, relative_conductance, stability

N_ROWS = 120

# Whole numbers, so that each dtype holds them; about half of them zero.
X = np.clip(np.round(blobs(N_ROWS, 6)[0] * 6), 0, 100)
WEIGHT = np.random.default_rng(0).integers(0, 3, N_ROWS).astype(float)
DENSE = quick().fit(X)


def mapped(X, folder, mode="r"):
    """`X` as a memory map; in Fortran order if it is."""
    path = folder / "X.npy"
    np.save(path, X)
    return np.load(path, mmap_mode=mode)


def assert_same_model(model, other, given=X):
    np.testing.assert_array_equal(model.labels_, other.labels_)
    np.testing.assert_array_equal(model.predict_proba(given), other.predict_proba(X))
    np.testing.assert_array_equal(model.transform(given), other.transform(X))
    assert model.inertia_ == other.inertia_
    assert model.reconstruction_error_ == other.reconstruction_error_
    weights, others = (m.autoencoder_.state_dict() for m in (model, other))
    assert all(torch.equal(weights[name], others[name]) for name in others)


def kinds_of_rows(monkeypatch):
    """What the next fits train on, one entry for each."""
    kinds = []

    def seen(*args):
        rows = scaled_rows(*args)
        kinds.append(type(rows))
        return rows

    monkeypatch.setattr(skdec._estimator, "scaled_rows", seen)
    return kinds


def in_blocks_of(n, monkeypatch):
    """Let blocks be of `n` rows, as they are of many more columns."""

    def blocks(n_rows, n_columns):
        return (slice(start, min(start + n, n_rows)) for start in range(0, n_rows, n))

    for module in ("_rows", "_inference", "_components"):
        monkeypatch.setattr(f"skdec.{module}.row_blocks", blocks)
    monkeypatch.setattr("skdec._inference._TILE_SIZES", (n,))
    monkeypatch.setattr("skdec._inference._TILE_ROWS", n)
    monkeypatch.setattr("skdec._batching._BLOCK_VALUES", 1)  # single tiles, where they are used


# --- The source of rows ---


def source_and_tensor():
    rows = Rows(X.astype(np.uint8), np.arange(N_ROWS)[::-1].copy(), np.ones(N_ROWS))
    scaling = Scaling(X.mean(axis=0), 3.7)
    expected = torch.from_numpy(scaling.apply(X[::-1]))
    return ScaledRows(rows, scaling, torch.device("cpu")), expected


def test_a_source_gives_the_rows_of_the_tensor():
    source, expected = source_and_tensor()
    assert len(source) == len(expected) and source.shape == expected.shape
    some = torch.tensor([5, 0, 5, 119])
    for at in (slice(None), slice(100, 200), slice(3, 4), some):
        assert source[at].dtype == torch.float32
        assert torch.equal(source[at], expected[at])
    chosen = source.index_select(0, some)
    assert len(chosen) == 4
    assert torch.equal(chosen[torch.tensor([3, 0])], expected[some][[3, 0]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.float16, np.bool_])
def test_narrow_dtypes_stay_as_they_are_until_the_batch(dtype):
    narrow = Rows((X > 20).astype(dtype), np.arange(N_ROWS), np.ones(N_ROWS))
    made = scaled_rows(narrow, Scaling(np.zeros(6), 1.0), torch.device("cpu"))
    assert isinstance(made, ScaledRows)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_wide_dtypes_in_memory_are_a_tensor(dtype):
    rows = Rows(X.astype(dtype), np.arange(N_ROWS)[::-1].copy(), np.ones(N_ROWS))
    made = scaled_rows(rows, Scaling(np.zeros(6), 2.0), torch.device("cpu"))
    assert isinstance(made, torch.Tensor)
    assert torch.equal(made, torch.from_numpy((X[::-1] / 2).astype(np.float32)))


def test_views_of_a_memory_map_are_known_and_copies_of_its_rows_too(tmp_path):
    map_ = mapped(X, tmp_path)
    for rows, is_mapped in [
        (np.asarray(map_), True),
        (map_[10:].T[:2].T, True),
        (np.asarray(map_[[1, 2, 3]]), False),
        (X, False),
    ]:
        assert skdec._scaled_rows._lies_in_a_file(rows) is is_mapped


# --- Memory maps ---


@pytest.mark.parametrize("dtype", ["u1", "i2", "f2", "f4", "f8", ">f4", "<i8"])
def test_a_memory_map_gives_the_model_of_the_array(dtype, tmp_path, monkeypatch):
    kinds = kinds_of_rows(monkeypatch)
    map_ = mapped(X.astype(dtype), tmp_path)
    model = quick().fit(map_)
    assert kinds == [ScaledRows]
    np.testing.assert_array_equal(model.labels_, DENSE.labels_)
    np.testing.assert_array_equal(model.predict_proba(map_), DENSE.predict_proba(X))
    assert model.inertia_ == DENSE.inertia_
    assert model.score(map_) == DENSE.score(X)


@pytest.mark.parametrize(
    "params",
    [
        {"pretraining": "layer-wise"},
        {"reconstruction_loss": "bce", "reconstruction_weight": 0.1, "init": "k-means++"},
        {"scaling": None, "batch_norm": True},
        {"batch_size": 256, "hidden_dims": (600, 600), "precision": "bfloat16", "max_iter": 1},
        {"init": X[[0, 1, 2]]},
    ],
    ids=["layer-wise", "idec", "batch-norm", "shards", "given-centres"],
)
def test_every_way_of_training_gives_the_model_of_the_array(params, tmp_path):
    # Repeated rows are one row, in whatever order they come.
    random = np.random.default_rng(0)
    given = random.permutation(np.repeat(X, WEIGHT.astype(int), axis=0))
    few = {"pretrain_steps": 4, "neighbor_steps": 3, "layerwise_steps": 3, **params}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = quick(**few).fit(X, sample_weight=WEIGHT)
        model = quick(**few).fit(mapped(given.astype(np.uint8), tmp_path))
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)


def test_fortran_order_and_copy_on_write_maps(tmp_path):
    assert_same_model(quick().fit(mapped(np.asfortranarray(X), tmp_path)), DENSE)
    map_ = mapped(X, tmp_path, mode="c")
    assert_same_model(quick().fit(map_), DENSE)
    np.testing.assert_array_equal(map_, X)


def test_weights_with_a_memory_map(tmp_path):
    map_ = mapped(X.astype(np.uint8), tmp_path)
    model = quick().fit(map_, sample_weight=WEIGHT)
    assert_same_model(model, quick().fit(X, sample_weight=WEIGHT))


def test_no_more_than_a_block_is_ever_taken_from_a_memory_map(tmp_path, monkeypatch):
    """Neither by numpy, which is counted, nor in float64, which validation might do."""
    taken = []

    class Spy(np.ndarray):
        def __getitem__(self, at):
            part = super().__getitem__(at)
            taken.append(part.nbytes)
            return part

        def astype(self, *args, **kwargs):
            taken.append(self.nbytes)
            return super().astype(*args, **kwargs)

    in_blocks_of(10, monkeypatch)
    monkeypatch.setattr("skdec._initialization._MOST_ROWS", 30)
    monkeypatch.setattr("skdec._self_training._TILE_ROWS", 10)
    monkeypatch.setattr("skdec._pretraining._CONTRASTED_ROWS", 7)
    validate = skdec._estimator.validate_data
    monkeypatch.setattr(
        skdec._estimator, "validate_data", lambda *a, **k: validate(*a, **k).view(Spy)
    )
    map_ = mapped(X.astype(np.uint8), tmp_path)
    model = quick(batch_size=20).fit(map_)
    in_fit = max(taken)
    taken.clear()
    model.predict(map_), model.transform(map_)
    # A mini-batch, or 14 of its rows with two neighbours each.
    assert 20 * 6 <= in_fit <= 3 * 14 * 6
    assert 0 < max(taken)


def test_an_interrupted_fit_to_a_memory_map_goes_on(tmp_path, monkeypatch):
    map_ = mapped(X.astype(np.uint8), tmp_path)
    checkpoint = tmp_path / "fit.checkpoint"
    fit = quick(checkpoint=str(checkpoint), checkpoint_interval=0)
    before = dict(vars(fit))

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(skdec._estimator, "best_partition", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit.fit(map_)
    assert vars(fit) == before and checkpoint.exists()
    assert_same_model(fit.fit(map_), DENSE)
    assert not checkpoint.exists()


def test_memory_knows_the_rows_in_whatever_form_they_come(tmp_path, monkeypatch):
    def pretrainings():
        return len(list(tmp_path.rglob("output.pkl")))

    def hashed(*args):
        raise AssertionError("the rows themselves were hashed")

    monkeypatch.setattr(ScaledRows, "__reduce_ex__", hashed)
    memory = str(tmp_path / "cache")
    map_ = mapped(X.astype(np.uint8), tmp_path)
    assert_same_model(quick(memory=memory).fit(map_), DENSE)
    for again in (map_, X, X[::-1], X.astype(np.float32)):
        quick(2, memory=memory).fit(again)
    quick(memory=memory, accept_sparse=True).fit(sparse.csr_array(X))
    assert pretrainings() == 1
    other = {"memory": memory, "init": "k-means++"}
    quick(**other, scaling="norm").fit(map_)
    assert pretrainings() == 2
    quick(**other).fit(map_, sample_weight=WEIGHT + 1.0)
    assert pretrainings() == 3
    quick(**other).fit(map_[1:])
    assert pretrainings() == 4


# --- Sparse rows ---

FORMATS = [
    sparse.csr_matrix,
    sparse.csr_array,
    sparse.csc_array,
    sparse.coo_matrix,
    sparse.lil_array,
    lambda X: sparse.csr_array(X.astype(np.float32)),
    lambda X: sparse.csr_array(X.astype(np.uint8)),
]


def test_sparse_rows_are_refused_with_the_way_out():
    assert not quick().__sklearn_tags__().input_tags.sparse
    model = quick().fit(X)
    for method in (quick().fit, model.predict, model.transform, model.predict_proba, model.score):
        with pytest.raises(TypeError, match="Sparse data .* accept_sparse=True"):
            method(sparse.csr_array(X))


@pytest.mark.parametrize("form", FORMATS)
def test_sparse_rows_give_the_model_of_the_dense_ones(form, monkeypatch):
    kinds = kinds_of_rows(monkeypatch)
    given = form(X)
    model = quick(accept_sparse=True).fit(given)
    assert kinds == [ScaledRows] and model.__sklearn_tags__().input_tags.sparse
    np.testing.assert_array_equal(model.predict_proba(given), DENSE.predict_proba(X))
    np.testing.assert_array_equal(model.transform(given), DENSE.transform(X))
    assert (model.inertia_, model.reconstruction_error_) == (
        DENSE.inertia_,
        DENSE.reconstruction_error_,
    )
    np.testing.assert_array_equal(given.toarray(), X)


def test_accepting_sparse_rows_changes_nothing_for_dense_ones():
    assert_same_model(quick(accept_sparse=True).fit(X), DENSE)


def test_entries_given_twice_or_as_zeros_are_summed(monkeypatch):
    rows = sparse.coo_array(X)
    twice = [np.r_[a, a] for a in (rows.data / 2, rows.row, rows.col)]
    data, i, j = (np.r_[a, b] for a, b in zip(twice, ([0.0], [0], [0]), strict=True))
    indptr = np.r_[0, np.cumsum(np.bincount(i, minlength=N_ROWS))]
    order = np.argsort(i, kind="stable")
    given = sparse.csr_array((data[order], j[order], indptr), X.shape)
    assert given.nnz == 2 * rows.nnz + 1
    assert_same_model(quick(accept_sparse=True).fit(given), DENSE, given)
    assert given.nnz == 2 * rows.nnz + 1  # never modified


def test_sparse_rows_with_weights_callables_and_cross_entropy():
    given = sparse.csr_array(X / 100)
    shapes = []

    def init(X, n_clusters, random_state):
        shapes.append((type(X), X.shape))
        return X[:n_clusters].toarray()

    params = {"init": init, "reconstruction_loss": "bce", "scaling": None, "accept_sparse": True}
    model = quick(**params).fit(given, sample_weight=WEIGHT)
    assert shapes[0][0] is sparse.csr_array and shapes[0][1] == (np.count_nonzero(WEIGHT), 6)
    expected = quick(**params | {"init": lambda X, n, random_state: X[:n]})
    expected.fit(X / 100, sample_weight=WEIGHT)
    np.testing.assert_array_equal(model.predict_proba(given), expected.predict_proba(X / 100))
    with pytest.raises(ValueError, match=r"data in \[0.0, 63.0\]"):
        quick(**params).fit(sparse.csr_array(X))


def test_bad_sparse_rows_are_refused():
    model = quick(accept_sparse=True).fit(X)
    nothing = sparse.csr_array(np.full((5, 6), np.nan))
    for method in (model.fit, model.predict):
        with pytest.raises(ValueError, match="contains NaN"):
            method(nothing)
    with pytest.raises(ValueError, match="X has 5 features"):
        model.predict(sparse.csr_array(X[:, :5]))
    with pytest.raises(TypeError, match="Sparse"):
        model.inverse_transform(sparse.csr_array(model.transform(X)))


def test_wide_sparse_rows_are_judged_as_dense_ones_and_never_made_dense_at_once(monkeypatch):
    random = np.random.default_rng(0)
    wide = random.random((150, 400)) * (random.random((150, 400)) < 0.1)
    wide[np.arange(150), np.arange(150) % 3] += 2.0
    few = {"pretrain_steps": 4, "neighbor_steps": 3, "accept_sparse": True}
    monkeypatch.setattr("skdec._components._MOST_VALUES", 400 * 40)
    given = sparse.csr_array(wide)
    model, expected = quick(**few).fit(given), quick(**few).fit(wide)
    np.testing.assert_array_equal(model.predict_proba(given), expected.predict_proba(wide))
    assert model.init_scores_ == expected.init_scores_
    made = []
    toarray = sparse.csr_array.toarray

    def counted(self, *args, **kwargs):
        if self.shape[1] == given.shape[1]:  # rows, and no graph of them
            made.append(self.shape[0])
        return toarray(self, *args, **kwargs)

    monkeypatch.setattr(sparse.csr_array, "toarray", counted)
    monkeypatch.setattr("skdec._self_training._TILE_ROWS", 40)
    in_blocks_of(40, monkeypatch)
    model = quick(**few, batch_size=32).fit(given)
    model.score(given)
    assert max(made) == 40  # a block; mini-batches are of components


@pytest.mark.parametrize("n_components", [50, 120])
def test_components_by_blocks_are_those_of_scikit_learn(n_components, monkeypatch):
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 5)) @ random.normal(size=(5, 190)) * 5
    rows += random.normal(size=rows.shape)
    given, at = rows.astype(np.float32) + 3.0, np.arange(300)
    expected = PCA(n_components, svd_solver="full").fit_transform(given)
    in_memory = leading_components(given.__getitem__, at, 0, n_components).of(at)
    in_blocks_of(70, monkeypatch)
    monkeypatch.setattr("skdec._components._MOST_VALUES", 0)
    by_blocks = leading_components(given.__getitem__, at, 0, n_components).of(at)
    for found in (in_memory, by_blocks):
        assert found.shape == (300, n_components)
        leading, told = np.abs(found[:, :5]), np.abs(expected[:, :5])
        np.testing.assert_allclose(leading, told, rtol=1e-2, atol=1e-2)
        assert np.square(found).sum() == pytest.approx(np.square(expected).sum(), rel=1e-2)


def test_scores_and_tables_of_sparse_rows():
    given = sparse.csr_array(X)
    model = quick(accept_sparse=True).fit(given)
    # Of rows at one distance others are the nearest, by rounding.
    assert model.score(given) == pytest.approx(DENSE.score(X), abs=0.005)
    assert relative_conductance(given, model.labels_) == model.score(given)
    assert stability(model, given, random_state=0) == stability(DENSE, X, random_state=0)
    for metric in ("silhouette", "modularity"):
        scorer = ClusteringScorer(metric)
        assert scorer(model, given) == pytest.approx(scorer(DENSE, X))
    table, expected = (cluster_exemplars(m, rows) for m, rows in ((model, given), (DENSE, X)))
    np.testing.assert_array_equal(table["row"], expected["row"])
    table, expected = (explain_clusters(m, rows) for m, rows in ((model, given), (DENSE, X)))
    np.testing.assert_array_equal(table["feature"], expected["feature"])


def test_sparse_rows_through_a_pipeline_and_a_file(tmp_path):
    given = sparse.csr_array(X)
    pipeline = make_pipeline(MaxAbsScaler(), quick(accept_sparse=True)).fit(given)
    pipeline[-1].save(tmp_path / "model")
    loaded = skdec.DECClustering.load(tmp_path / "model")
    assert loaded.accept_sparse
    scaled = pipeline[:-1].transform(given)
    np.testing.assert_array_equal(loaded.predict_proba(scaled), pipeline.predict_proba(given))
