"""What the methods and fitted attributes of DECClustering promise each other."""

import copy
import pickle
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from quick import blobs, quick
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import make_circles
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skdec import DECClustering
from skdec.metrics import relative_conductance


@pytest.fixture(scope="module")
def fitted():
    X, _ = blobs()
    return quick().fit(X), X


def test_labels_are_the_one_truth_of_all_methods(fitted):
    model, X = fitted
    np.testing.assert_array_equal(model.labels_, model.predict(X))
    np.testing.assert_array_equal(model.labels_, model.predict_proba(X).argmax(axis=1))
    distances = pairwise_distances(model.transform(X), model.cluster_centers_)
    np.testing.assert_array_equal(model.labels_, distances.argmin(axis=1))
    assert model.labels_.dtype == np.int32


def test_soft_assignment_rows_are_the_student_kernel_of_the_embedding(fitted):
    model, X = fitted
    distances = pairwise_distances(model.transform(X), model.cluster_centers_)
    kernel = 1.0 / (1.0 + distances**2)
    expected = kernel / kernel.sum(axis=1, keepdims=True)
    Q = model.predict_proba(X)
    np.testing.assert_allclose(Q, expected, rtol=1e-9)
    np.testing.assert_allclose(Q.sum(axis=1), 1.0, rtol=1e-12)


def test_alpha_is_the_degrees_of_freedom_of_the_kernel():
    X, _ = blobs()
    model = quick(alpha=5.0).fit(X)
    distances = pairwise_distances(model.transform(X), model.cluster_centers_)
    kernel = (1.0 + distances**2 / 5.0) ** -3.0
    expected = kernel / kernel.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-9)


def test_inertia_is_the_weighted_squared_distance_in_the_embedding():
    X, _ = blobs()
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
    model = quick().fit(X, sample_weight=weight)
    distances = pairwise_distances(model.transform(X), model.cluster_centers_).min(axis=1)
    assert model.inertia_ == pytest.approx(weight @ distances**2)


def test_reconstruction_error_is_on_the_scale_of_the_input(fitted):
    model, X = fitted
    decoded = model.inverse_transform(model.transform(X))
    assert decoded.shape == X.shape
    assert model.reconstruction_error_ == pytest.approx(np.square(decoded - X).mean(), rel=1e-9)


def test_fit_predict_and_fit_transform_are_fit_then_predict_and_transform(fitted):
    model, X = fitted
    np.testing.assert_array_equal(quick().fit_predict(X), model.labels_)
    np.testing.assert_array_equal(quick().fit_transform(X), model.transform(X))


def test_one_row_alone_is_the_same_row_in_company(fitted):
    model, X = fitted
    Z, Q = model.transform(X), model.predict_proba(X)
    for row in (0, 17, 89):
        np.testing.assert_array_equal(model.transform(X[[row]])[0], Z[row])
        np.testing.assert_array_equal(model.predict_proba(X[[row]])[0], Q[row])


def test_labels_count_up_from_zero_in_nonempty_clusters():
    X, _ = blobs(centers=5)
    labels = quick(5).fit_predict(X)
    np.testing.assert_array_equal(np.unique(labels), np.arange(5))


def test_curves_have_an_entry_for_each_round_and_epoch():
    X, _ = blobs()
    model = quick(tol=0.0, max_iter=3, pretraining="layer-wise")
    with pytest.warns(
        ConvergenceWarning, match="without converging, after 3 of max_iter=3"
    ) as seen:
        model.fit(X)
    assert seen[0].filename == __file__
    assert model.n_iter_ == len(model.kl_curve_) == len(model.label_change_curve_) == 3
    assert not model.converged_
    assert len(model.pretrain_loss_curve_) == 30  # 90 rows are one batch: a step is an epoch
    assert [len(curve) for curve in model.layerwise_loss_curves_] == [10, 10]


def test_max_iter_zero_is_k_means_in_the_embedding_of_the_autoencoder():
    X, _ = blobs()
    model = quick(max_iter=0, init="k-means++", pretraining="end-to-end").fit(X)
    Z = model.transform(X)
    expected = KMeans(3, init=model.cluster_centers_, n_init=1).fit(Z)
    np.testing.assert_array_equal(model.labels_, expected.labels_)
    np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_, atol=1e-4)
    assert model.n_iter_ == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_dtype_of_the_embedding_follows_the_input(dtype):
    X = np.abs(blobs()[0] * 10).astype(dtype)
    model = quick().fit(X)
    expected = np.float32 if dtype == np.float32 else np.float64
    assert model.transform(X).dtype == model.cluster_centers_.dtype == expected
    assert model.inverse_transform(model.transform(X)).dtype == expected
    assert model.predict_proba(X).dtype == np.float64


def test_the_same_numbers_in_another_dtype_give_the_same_model():
    X = np.abs(blobs()[0] * 10).astype(np.uint8)
    expected = quick().fit(X).transform(X)
    for dtype in (np.int64, np.float32, np.float64):
        np.testing.assert_array_equal(quick().fit(X.astype(dtype)).transform(X), expected)


def test_array_init_is_given_in_the_input_space():
    X, y = blobs()
    means = np.stack([X[y == k].mean(axis=0) for k in (2, 0, 1)])
    labels = quick(init=means).fit_predict(X)
    # The clusters keep the order of their initial centres.
    np.testing.assert_array_equal(labels, np.array([1, 2, 0])[y])


def test_callable_init_receives_the_rows_and_gives_centres_in_the_input_space():
    X, y = blobs()
    seen = {}

    def init(rows, n_clusters, random_state):
        seen["rows"], seen["n_clusters"] = rows, n_clusters
        return np.stack([X[y == k].mean(axis=0) for k in (2, 0, 1)])

    labels = quick(init=init).fit_predict(X)
    np.testing.assert_array_equal(labels, np.array([1, 2, 0])[y])
    np.testing.assert_array_equal(np.unique(seen["rows"], axis=0), np.unique(X, axis=0))
    assert seen["n_clusters"] == 3


@pytest.mark.parametrize("init", ["auto", "k-means++", "random"])
def test_named_inits_find_separated_groups(init):
    X, y = blobs()
    labels = quick(init=init, n_init=10).fit_predict(X)
    assert len(set(zip(labels, y, strict=True))) == 3


@pytest.mark.parametrize(
    "params",
    [
        {"pretraining": "layer-wise"},
        {"reconstruction_loss": "bce"},
        {"pretrain_optimizer": "sgd", "pretrain_learning_rate": 0.01, "pretrain_decay": 10},
        {"pretrain_decay": None},
        {"optimizer": "adam", "learning_rate": 1e-4},
        {"reconstruction_weight": 1.0, "clustering_weight": 0.1, "pretrain_steps": 500},
        {"batch_norm": True},
        {"batch_size": 32},
        {"batch_size": 1, "pretrain_steps": 3},
        {"hidden_dims": ()},
        {"hidden_dims": np.array([8, 4])},
        {"scaling": None},
        {"scaling": "norm", "weight_init": 0.1},
        {"precision": "bfloat16"},
        {"target_distribution": lambda Q, sample_weight: Q},
        {"activation": "tanh"},
    ],
)
def test_every_variant_fits_and_keeps_one_truth(params):
    X, _ = blobs()
    model = quick(**params).fit(X)
    np.testing.assert_array_equal(model.labels_, model.predict(X))
    assert np.isfinite(model.reconstruction_error_)
    np.testing.assert_array_equal(quick(**params).fit(X).transform(X), model.transform(X))


def test_decoder_is_honest_after_a_partition_has_been_taken_over():
    X, _ = make_circles(300, noise=0.02, factor=0.5, random_state=0)  # no partition by centres
    params = {"pretraining": "end-to-end", "pretrain_steps": 300, "hidden_dims": (64, 64)}
    named, chosen = (
        quick(2, max_iter=0, init=init, **params).fit(X) for init in ("k-means++", "auto")
    )
    assert np.abs(named.transform(X) - chosen.transform(X)).max() > 0.1
    stale = np.square(named.inverse_transform(chosen.transform(X)) - X).mean()
    assert chosen.reconstruction_error_ < stale / 2


@pytest.mark.parametrize("mode", [torch.inference_mode, partial(torch.autocast, "cpu")])
def test_modes_of_the_caller_change_nothing(mode):
    X, _ = blobs(1300)  # work for several threads
    model = quick().fit(X)
    with mode():
        again = quick().fit(X)
        np.testing.assert_array_equal(again.predict(X), model.labels_)
        np.testing.assert_array_equal(again.transform(X), model.transform(X))
    assert not any(weight.is_inference() for weight in again.autoencoder_.parameters())


@pytest.mark.parametrize("max_iter", [0, 3])
def test_the_fitted_network_lies_by_columns_and_shares_no_memory_with_the_optimiser(max_iter):
    model = quick(max_iter=max_iter).fit(blobs()[0])
    parameters = list(model.autoencoder_.parameters())
    assert all(value.T.is_contiguous() for value in parameters if value.ndim == 2)
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in parameters)


class Narrow(DECClustering):
    """Has fewer parameters than its base."""

    def __init__(self, n_clusters=8, random_state=None):
        super().__init__(
            n_clusters, random_state=random_state, pretrain_steps=10, neighbor_steps=10, max_iter=0
        )


def test_a_subclass_may_have_fewer_parameters(tmp_path):
    X, _ = blobs()
    model = clone(Narrow(3, random_state=0)).fit(X)
    np.testing.assert_array_equal(model.predict(X), model.labels_)
    with pytest.raises(ValueError, match="its class has no parameter.s. .*'activation'"):
        model.save(tmp_path / "model")


def test_decoder_is_honest_after_self_training_without_reconstruction_term():
    X, _ = blobs()
    with pytest.warns(ConvergenceWarning):
        model = quick(pretrain_steps=2000, max_iter=30, learning_rate=0.1, tol=0.0).fit(X)
    autoencoder = quick(pretrain_steps=2000, max_iter=0).fit(X)
    moved = np.abs(model.transform(X) - autoencoder.transform(X)).max()
    stale = autoencoder.inverse_transform(model.transform(X))
    assert moved > 0.1
    assert model.reconstruction_error_ < np.square(stale - X).mean()
    assert model.reconstruction_error_ < X.var(axis=0).mean()


class SmallNetwork(nn.Module):
    """A user's network, with dropout: it draws weights and noise from torch's own layers."""

    def __init__(self, n_features, embedding_dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(n_features, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, embedding_dim)
        )
        self.decoder = nn.Linear(embedding_dim, n_features)


def test_users_network_is_trained_cloned_and_pickled():
    X, _ = blobs()
    model = quick(autoencoder=SmallNetwork).fit(X)
    assert isinstance(model.autoencoder_, SmallNetwork)
    again = clone(model).fit(X)
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


class Tied(nn.Module):
    """A decoder that is the transposed encoder: one weight for both, created in float64."""

    class Transposed(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, z):
            return z @ self.layer.weight

    def __init__(self, n_features, embedding_dim):
        super().__init__()
        self.encoder = nn.Linear(n_features, embedding_dim)
        self.decoder = self.Transposed(self.encoder)
        self.double()


def test_decoder_that_shares_the_encoders_weights_is_not_refitted():
    X, _ = blobs()
    model = quick(autoencoder=Tied).fit(X)
    initial = quick(autoencoder=Tied, max_iter=0).fit(X)
    assert not np.allclose(model.transform(X), initial.transform(X))
    distances = pairwise_distances(model.transform(X), model.cluster_centers_)
    # Refitting would have moved the embedding under the centres.
    means = np.array([model.transform(X)[model.labels_ == k].mean(axis=0) for k in range(3)])
    spread = np.abs(model.cluster_centers_ - means).max()
    assert spread < 0.2 * distances.max()


def test_flat_sequential_network_is_pretrained_layer_by_layer():
    def flat(n_features, embedding_dim):
        module = nn.Module()
        module.encoder = nn.Sequential(nn.Linear(n_features, 8), nn.Tanh(), nn.Linear(8, 2))
        module.decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, n_features))
        return module

    model = quick(autoencoder=flat, pretraining="layer-wise").fit(blobs()[0])
    assert [len(curve) for curve in model.layerwise_loss_curves_] == [10, 0, 10]


def test_fit_inside_no_grad_and_with_other_torch_defaults():
    X, _ = blobs()
    expected = quick().fit_transform(X)
    with torch.no_grad():
        np.testing.assert_array_equal(quick().fit_transform(X), expected)
    torch.set_default_dtype(torch.float64)
    try:
        assert next(quick().fit(X).autoencoder_.parameters()).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_layer_wise_pretraining_of_a_network_without_mirrored_layers_is_refused():
    X, _ = blobs()
    with pytest.raises(ValueError, match="pretraining='layer-wise' needs an 'autoencoder'"):
        quick(autoencoder=SmallNetwork, pretraining="layer-wise").fit(X)


@pytest.mark.parametrize("copier", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy])
def test_copies_predict_the_same_bits(fitted, copier):
    model, X = fitted
    other = copier(model)
    np.testing.assert_array_equal(other.transform(X), model.transform(X))
    np.testing.assert_array_equal(
        other.inverse_transform(X[:, :2]), model.inverse_transform(X[:, :2])
    )


def test_joblib_round_trip_with_memory_mapped_state(fitted, tmp_path):
    model, X = fitted
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_state_is_parameters_and_plain_arrays(fitted):
    model, _ = fitted

    def kinds(value):
        if isinstance(value, dict):
            return set().union(*map(kinds, value.values()), set())
        if isinstance(value, (list, tuple)):
            return set().union(*map(kinds, value), set())
        return {type(value)}

    plain = {np.ndarray, np.float64, bool, int, float, str, type(None)}
    assert kinds(model.__getstate__()) <= plain


def test_changing_parameters_after_fit_leaves_the_fitted_model_alone(fitted):
    model, X = fitted
    expected = model.predict_proba(X)
    changed = copy.deepcopy(model).set_params(
        alpha=7.0, activation="tanh", hidden_dims=(3,), reconstruction_loss="bce"
    )
    np.testing.assert_array_equal(changed.predict_proba(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(changed)).predict_proba(X), expected)


def test_model_fitted_on_a_missing_accelerator_loads_on_the_cpu(fitted):
    model, X = fitted
    state = model.__getstate__()
    state["device_"] = "cuda:7"
    loaded = DECClustering.__new__(DECClustering)
    loaded.__setstate__(state)
    assert loaded.device_ == "cpu"
    np.testing.assert_array_equal(loaded.predict(X), model.labels_)


def test_score_is_the_relative_conductance_of_the_predictions(fitted):
    model, X = fitted
    assert model.score(X) == relative_conductance(X, model.labels_)
    weight = np.random.default_rng(0).integers(1, 4, len(X))
    repeated = np.repeat(X, weight, axis=0)
    assert model.score(X, sample_weight=weight) == pytest.approx(model.score(repeated))


@pytest.mark.filterwarnings("ignore:Self-training made the clusters agree less")
def test_grid_search_without_scoring_finds_the_number_of_groups():
    X, _ = blobs(n_samples=300, n_features=4, centers=4, random_state=3)
    grid = {"n_clusters": [2, 3, 4, 6]}
    estimator = quick(hidden_dims=(64,), embedding_dim=5, pretrain_steps=300, n_init=5)
    search = GridSearchCV(estimator, grid, cv=2).fit(X)
    assert search.best_params_["n_clusters"] == 4


def test_grid_search_in_a_pipeline_reaches_every_method():
    X, _ = blobs()
    pipeline = make_pipeline(StandardScaler(), quick())
    search = GridSearchCV(pipeline, {"decclustering__n_clusters": [2, 3]}, cv=2).fit(X)
    assert search.predict_proba(X).shape == (90, search.best_params_["decclustering__n_clusters"])
    assert search.transform(X).shape == (90, 2)
    assert search.inverse_transform(search.transform(X)).shape == X.shape


def test_names_and_output_containers_follow_scikit_learn():
    X, _ = blobs()
    model = quick().set_output(transform="pandas")
    frame = model.fit_transform(X)
    assert list(frame.columns) == ["decclustering0", "decclustering1"]
    np.testing.assert_array_equal(model.get_feature_names_out(), frame.columns)


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "transform", "inverse_transform", "score"]
)
def test_methods_before_fit_raise_not_fitted(method):
    with pytest.raises(NotFittedError):
        getattr(quick(), method)(blobs()[0])


def test_from_paper_sets_the_published_values_and_takes_others():
    dec = DECClustering.from_paper("dec", n_clusters=10, random_state=3)
    assert (dec.n_clusters, dec.random_state) == (10, 3)
    assert dec.hidden_dims == (500, 500, 2000)
    assert (dec.layerwise_steps, dec.pretrain_steps, dec.pretrain_decay) == (
        50_000,
        100_000,
        20_000,
    )
    assert (dec.optimizer, dec.learning_rate, dec.reconstruction_weight) == ("sgd", 0.01, 0.0)
    idec = DECClustering.from_paper("idec", tol=0.01)
    assert (idec.clustering_weight, idec.reconstruction_weight, idec.tol) == (0.1, 1.0, 0.01)
    assert clone(idec).get_params() == idec.get_params()
    with pytest.raises(ValueError, match="'vade'"):
        DECClustering.from_paper("vade")


def test_from_paper_fits():
    X, y = blobs()
    model = DECClustering.from_paper(
        "dec",
        n_clusters=3,
        hidden_dims=(16,),
        weight_init=0.1,
        layerwise_steps=50,
        pretrain_steps=100,
        tol=1.1,
        random_state=0,
    )
    assert len(set(zip(model.fit_predict(X), y, strict=True))) == 3


def test_fitting_again_from_the_prototypes_keeps_the_identity_of_the_labels():
    X, _ = blobs(150)
    old = quick(pretrain_steps=400).fit(X[:90])
    grown = quick(init=old.inverse_transform(old.cluster_centers_), random_state=7).fit(X)
    np.testing.assert_array_equal(grown.labels_[:90], old.labels_)
    # Another seed alone numbers the clusters otherwise.
    assert any(
        (quick(random_state=seed).fit(X).labels_[:90] != old.labels_).any() for seed in range(4)
    )
