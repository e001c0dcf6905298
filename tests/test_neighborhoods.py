import numpy as np
import pytest
from quick import quick
from scipy.sparse import csr_array
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import skdec._estimator as estimator_module
import skdec._neighborhoods as neighborhoods_module
from skdec._neighborhoods import PLAIN, Neighborhoods, neighborhoods
from skdec._neighbors import nearest_neighbors
from skdec._threads import Workers


def found(X, n_rows=None, seed=0, n_workers=1):
    with Workers(n_workers) as workers:
        return neighborhoods(X.__getitem__, np.arange(len(X)), n_rows or len(X), seed, workers)


def low_rank(noise, n_rows=600, rank=5, n_features=200):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, rank)) @ random.normal(size=(rank, n_features))
    return X + noise * random.normal(size=X.shape)


def topics(n_topics, n_rows=1000, n_features=1000):
    """Words of rows of topics, some shown and some not, and words by chance."""
    random = np.random.default_rng(0)
    words = (random.random((n_topics, n_features)) < 0.05)[np.arange(n_rows) % n_topics]
    shown, chance = (random.random(words.shape) < share for share in (0.4, 0.02))
    return (words & shown | chance).astype(float)


@pytest.mark.parametrize("shape", [(200, 100), (50, 200)])
def test_narrow_rows_and_few_rows_are_compared_as_they_are(shape):
    X = np.random.default_rng(0).normal(size=shape)
    assert found(X) == PLAIN == Neighborhoods(None, 5)


def test_the_less_is_confirmed_the_more_neighbours():
    few, more, most = (found(low_rank(noise)).n_neighbors for noise in (0.01, 3.0, 100.0))
    assert few == 5 < more < 20 == most


@pytest.mark.parametrize(
    ("share", "expected"), [(0.9, 5), (0.5, 10), (0.4, 16), (0.3, 20), (0, 20)]
)
def test_neighbours_make_up_for_noise_by_the_root_of_their_number(share, expected, monkeypatch):
    monkeypatch.setattr(neighborhoods_module, "_confirmed", lambda spaces, workers: share)
    hoods = found(low_rank(0.01))
    assert hoods.n_neighbors == expected
    assert hoods.by_hyperplanes == (expected == 5)


def test_agreement_is_the_correlation_of_the_cosines_of_all_pairs():
    random = np.random.default_rng(0)
    spaces = [random.normal(size=(40, n_components)) for n_components in (2, 3)]
    cosines = [1.0 - pdist(z, "cosine") for z in spaces]
    agreement = neighborhoods_module._agreement(spaces)
    assert agreement == pytest.approx(np.corrcoef(cosines)[0, 1])
    assert neighborhoods_module._agreement([spaces[0], np.zeros((40, 2))]) == 0.0


def test_components_are_those_of_scikit_learn():
    half = low_rank(1.0, n_rows=80)
    components = neighborhoods_module._components(half, 7)
    expected = PCA(7, svd_solver="full").fit_transform(half)
    np.testing.assert_allclose(pdist(components), pdist(expected))
    np.testing.assert_allclose(np.abs(components), np.abs(expected), atol=1e-9)


def test_images_need_few_neighbours():
    X, _ = load_digits(return_X_y=True)
    larger = X.reshape(-1, 8, 8).repeat(2, axis=1).repeat(2, axis=2).reshape(-1, 256)
    noisy = larger + np.random.default_rng(0).normal(size=larger.shape)
    assert found(noisy) == Neighborhoods(50, 5, True)


def test_as_many_components_as_tell_more():
    assert found(low_rank(0.01)).n_components == 50
    assert found(topics(20)).n_components == 50
    assert found(topics(200)).n_components == 400


@pytest.mark.parametrize(
    ("agreements", "expected"),
    [((0.98, 1.0, 1.0, 1.0), 50), ((0.96, 0.98, 1.0, 0.9), 100), ((-0.2, -0.1, -0.3, -0.2), 100)],
)
def test_the_fewest_components_that_agree_nearly_best_are_taken(agreements, expected, monkeypatch):
    by_number, widths = dict(zip((50, 100, 200, 400), agreements, strict=True)), []
    monkeypatch.setattr(neighborhoods_module, "_agreement", lambda z: by_number[z[0].shape[1]])
    confirmed = neighborhoods_module._confirmed

    def spy(spaces, workers):
        widths.extend(z.shape[1] for z in spaces)
        return confirmed(spaces, workers)

    monkeypatch.setattr(neighborhoods_module, "_confirmed", spy)
    assert found(topics(200)).n_components == expected
    assert widths == [expected, expected]


def test_no_more_components_than_rows():
    assert found(topics(45, n_rows=90)).n_components == 50


def test_many_components_are_not_held_of_very_many_rows():
    assert found(topics(200), n_rows=1_000_000).n_components == 50


@pytest.mark.parametrize("change", [lambda X: 1e25 * X, lambda X: 1e-25 * X, lambda X: X + 3.0])
def test_scale_and_origin_do_not_matter(change):
    X = low_rank(2.0)
    assert found(change(X)) == found(X)


def test_columns_that_do_not_vary_do_not_count():
    random = np.random.default_rng(0)
    X = np.zeros((100, 500))
    assert found(X) == Neighborhoods(50, 5)
    X[:, ::10] = random.normal(size=(100, 50))
    assert found(X) == Neighborhoods(50, 5)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_the_number_of_threads_does_not_matter(n_workers):
    X = topics(200)
    assert found(X, n_workers=n_workers) == found(X)


def placed(hoods, X):
    every = np.arange(len(X))
    hoods = hoods.with_axes(X.__getitem__, every, seed=0)
    return hoods.places(hoods.components(X.__getitem__, every), 0)


@pytest.mark.parametrize(
    ("n_rows", "n_components", "n_axes"), [(72, 50, 50), (100, 50, 50), (101, 50, 100)]
)
def test_there_are_axes_for_neighbours_and_if_rows_suffice_for_training(
    n_rows, n_components, n_axes
):
    X, every = np.random.default_rng(0).normal(size=(n_rows, 150)), np.arange(n_rows)
    X = X.astype(np.float32)
    hoods = Neighborhoods(n_components, 5).with_axes(X.__getitem__, every, seed=0)
    assert hoods.axes.shape == (n_axes, 150)
    components = hoods.components(X.__getitem__, every)
    expected = (X - X.mean(axis=0)) @ hoods.axes[:n_components].T
    np.testing.assert_allclose(components, expected, atol=1e-4)


def test_narrow_rows_have_no_axes():
    X, every = np.random.default_rng(0).normal(size=(72, 9)).astype(np.float32), np.arange(72)
    assert PLAIN.with_axes(X.__getitem__, every, seed=0) is PLAIN
    np.testing.assert_array_equal(PLAIN.components(X.__getitem__, every), X)


def test_places_are_directions_of_components():
    X = low_rank(0.01).astype(np.float32)
    X[7] = X.mean(axis=0)  # near the origin of the components, and of no direction to speak of
    places = placed(Neighborhoods(50, 5), X)
    assert places.shape == (600, 50) and places.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.delete(places, 7, axis=0), axis=1), 1.0, rtol=1e-5)
    centred = X - X.mean(axis=0)
    cosines = centred[0] @ centred[1] / np.linalg.norm(centred[0]) / np.linalg.norm(centred[1])
    assert places[0] @ places[1] == pytest.approx(cosines, abs=1e-3)
    narrow = X[:, :20]
    np.testing.assert_array_equal(placed(PLAIN, narrow), narrow)


def test_rows_that_are_mostly_elsewhere_are_not_neighbours_of_all():
    random = np.random.default_rng(0)
    X = 10.0 * random.normal(size=(400, 60)) @ random.normal(size=(60, 300))
    elsewhere = np.arange(0, 400, 20)
    X[elsewhere] = random.normal(size=(20, 300))
    with Workers(1) as workers:
        places = placed(Neighborhoods(50, 5), X)
        times = np.bincount(nearest_neighbors(places, 5, workers).ravel(), minlength=400)
    assert times[elsewhere].mean() < 4 * 5


@pytest.mark.parametrize(("n_neighbors", "expected"), [("auto", 20), (3, 3)])
def test_a_fit_takes_what_the_rows_say_unless_told_otherwise(n_neighbors, expected, monkeypatch):
    X, seen = low_rank(100.0, n_rows=400).astype(np.float32), []

    def spy(**arguments):
        seen.append(arguments["hoods"])
        return pretrain_of_fit(**arguments)

    pretrain_of_fit = estimator_module.pretrain
    monkeypatch.setattr(estimator_module, "pretrain", spy)
    model = quick(n_neighbors=n_neighbors, accept_sparse=True)
    dense = model.fit(X).labels_
    np.testing.assert_array_equal(model.fit(csr_array(X)).labels_, dense)
    assert [hoods.n_neighbors for hoods in seen] == [expected, expected]
    assert {hoods.n_components for hoods in seen} == {50}


def test_of_very_many_features_some_tell(monkeypatch):
    widths, components = [], neighborhoods_module._components

    def spy(half, n_components):
        widths.append(half.shape[1])
        return components(half, n_components)

    monkeypatch.setattr(neighborhoods_module, "_MOST_TOLD", 121)
    monkeypatch.setattr(neighborhoods_module, "_components", spy)
    assert found(low_rank(100.0, n_features=500)).n_neighbors == 20
    assert widths == [61, 60]
