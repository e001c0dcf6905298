"""Rows at the borders of clusters."""

import numpy as np
import pytest
import torch
from quick import blobs, quick, wide_blobs

import skdec._borders as borders_module
import skdec._estimator as estimator_module
from skdec._borders import at_borders
from skdec._threads import Workers


def moved(X, labels, n_workers=1, n_clusters=None):
    """Numbers of the rows at borders, and all labels after these have moved."""
    with Workers(n_workers) as workers:
        rows, clusters = at_borders(X, labels, n_clusters or labels.max() + 1, 0, workers)
    labels = labels.copy()
    labels[rows] = clusters
    return rows, labels


def left_by_hyperplane(x, spanning):
    """By ridge regression on the differences to the mean, with the squares of its coefficients."""
    along, across = spanning - spanning.mean(axis=0), x - spanning.mean(axis=0)
    ridge = 0.3 * np.square(along).sum(axis=1).mean()
    metric = np.linalg.inv(np.eye(len(x)) + along.T @ along / ridge)
    return across @ metric @ across


@pytest.mark.parametrize(("n_spanning", "n_features"), [(4, 9), (9, 9), (20, 3)])
def test_what_a_hyperplane_leaves_is_what_ridge_regression_leaves(n_spanning, n_features):
    random = np.random.default_rng(0)
    x, spanning = (
        random.normal(size=(6, n_features)),
        random.normal(size=(6, n_spanning, n_features)),
    )
    left = borders_module._left_by_hyperplane(torch.from_numpy(x), torch.from_numpy(spanning))
    np.testing.assert_allclose(left, list(map(left_by_hyperplane, x, spanning)), rtol=1e-9)


def all_left(X, labels, n_spanning):
    """What each cluster leaves of all rows, where all have more than one row."""
    left = {}
    for cluster in np.unique(labels):
        left[cluster] = []
        n = min(n_spanning, (labels == cluster).sum() - 1)
        for row, x in enumerate(X):
            others = np.flatnonzero((labels == cluster) & (np.arange(len(X)) != row))
            nearest = others[np.argsort(np.square(X[others] - x).sum(axis=1))[:n]]
            left[cluster].append(left_by_hyperplane(x, X[nearest]))
    return left


def by_closeness(X, labels, n_spanning):
    """Of each row the clusters, those that leave least first."""
    left = all_left(X, labels, n_spanning)
    return np.array(list(left))[np.argsort(list(left.values()), axis=0)].T


@pytest.mark.parametrize(
    ("factor", "most", "n_spanning"), [(1.0, 200, 5), (6.0, 20, 20), (6.0, 200, 30)]
)
def test_a_row_goes_to_the_cluster_whose_hyperplane_leaves_least(
    monkeypatch, factor, most, n_spanning
):
    monkeypatch.setattr(borders_module, "_SPANNING", factor)
    monkeypatch.setattr(borders_module, "_MOST_SPANNING", most)
    monkeypatch.setattr(borders_module, "_BORDER", np.inf)
    monkeypatch.setattr(borders_module, "_CLEARLY", np.inf)
    random = np.random.default_rng(0)
    X = random.normal(size=(90, 7))
    labels = random.integers(3, size=90)
    order = by_closeness(X, labels, n_spanning)
    monkeypatch.setattr(borders_module, "_PASSES", 1)
    rows, once = moved(X, labels)
    np.testing.assert_array_equal(rows, range(90))
    np.testing.assert_array_equal(once, order[:, 0])
    monkeypatch.setattr(borders_module, "_PASSES", 2)
    again = by_closeness(X, once, n_spanning)
    # Not the third of before: it is out.
    expected = np.where(again[:, 0] == order[:, 2], again[:, 1], again[:, 0])
    assert (expected != again[:, 0]).any()
    assert (expected != once).any()
    np.testing.assert_array_equal(moved(X, labels)[1], expected)


def test_only_rows_that_no_cluster_clearly_leaves_least_of_are_compared_again(monkeypatch):
    monkeypatch.setattr(borders_module, "_BORDER", np.inf)
    random = np.random.default_rng(0)
    labels = random.integers(3, size=90)
    X = random.normal(size=(90, 7)) + np.eye(3, 7)[labels]
    compared, closest = [], borders_module._closest

    def spy(x, labels, near, n_spanning, *rest):
        compared.append((x.numpy(), labels.numpy(), [set(rows.tolist()) for rows in near]))
        return closest(x, labels, near, n_spanning, *rest)

    monkeypatch.setattr(borders_module, "_closest", spy)
    moved(X, labels)
    x, before, first = compared[0]
    left = all_left(x, before, 30)
    least, second, _ = np.sort(list(left.values()), axis=0)
    assert first == 3 * [set(range(90))]
    doubtful = second <= 1.5 * least
    assert compared[1][2] == [
        set(np.flatnonzero(doubtful & (left[cluster] <= second))) for cluster in range(3)
    ]
    sizes = [sum(map(len, near)) for _, _, near in compared]
    assert len(sizes) == 4 and 270 > sizes[1] > sizes[3] > 0


def stripes(n_rows=900, n_features=20, gap=1.0):
    """Two long stripes in a plane, side by side; and which stripe is whose."""
    random = np.random.default_rng(0)
    of_stripe = np.arange(n_rows) % 2
    across = gap * of_stripe + 0.1 * random.normal(size=n_rows)
    flat = np.stack([random.uniform(0, 60, n_rows), across], axis=1)
    directions, _ = np.linalg.qr(random.normal(size=(n_features, 2)))
    return (flat @ directions.T).astype(np.float32), of_stripe


def test_labels_that_the_data_contradict_are_mended():
    X, of_stripe = stripes()
    labels = np.where(np.random.default_rng(1).random(900) < 0.2, 1 - of_stripe, of_stripe)
    rows, mended = moved(X, labels)
    assert (labels != of_stripe).mean() > 0.15
    assert (mended != of_stripe).mean() < 0.05
    assert (mended[rows] != labels[rows]).sum() == (mended != labels).sum()


def test_rows_in_the_midst_of_their_cluster_are_not_at_a_border():
    X, of_stripe = stripes(gap=30.0)
    rows, labels = moved(X, of_stripe)
    assert len(rows) == 0
    np.testing.assert_array_equal(labels, of_stripe)
    # Two halves of one stripe: those near the cut are, and those far from it are not.
    along = np.square(X - X[X[:, 0].argmin()]).sum(axis=1) ** 0.5
    halves = (along > np.median(along)).astype(int)
    rows, _ = moved(X[of_stripe == 0], halves[of_stripe == 0])
    far = np.abs(along - np.median(along))[of_stripe == 0]
    assert 0 < len(rows) < 100
    assert far[rows].max() < 5


@pytest.mark.parametrize(("squared", "is_at_border"), [(1.9, True), (2.1, False)])
def test_a_border_is_where_another_cluster_is_at_most_twice_as_far(squared, is_at_border):
    # Of each row's own cluster the nearest is one away.
    X = np.array([[0.0], [1.0], [-(squared**0.5)], [-(squared**0.5) - 1.0]], dtype=np.float32)
    rows, _ = moved(X, np.array([0, 0, 1, 1]))
    assert rows.tolist() == ([0, 2] if is_at_border else [])


@pytest.mark.parametrize("factor", [1.0, 1024.0, 2.0**-10])
def test_scale_threads_and_pieces_do_not_matter(factor, monkeypatch):
    X, of_stripe = stripes()
    labels = np.where(np.random.default_rng(1).random(900) < 0.2, 1 - of_stripe, of_stripe)
    expected = moved(X, labels)
    monkeypatch.setattr(
        borders_module,
        "row_blocks",
        lambda n_rows, _: (slice(k, min(k + 70, n_rows)) for k in range(0, n_rows, 70)),
    )
    for found, wanted in zip(moved(factor * X, labels, n_workers=3), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_many_rows_are_compared_within_blocks(monkeypatch):
    X, of_stripe = stripes(2400)
    labels = np.where(np.random.default_rng(1).random(2400) < 0.2, 1 - of_stripe, of_stripe)
    monkeypatch.setattr(borders_module, "_BLOCK_ROWS", 1000)
    monkeypatch.setattr(borders_module, "_MOST_COMPARED", 500)
    sizes, closest = [], borders_module._closest

    def spy(x, labels, near, n_spanning, *rest):
        sizes.append((len(x), n_spanning))
        return closest(x, labels, near, n_spanning, *rest)

    monkeypatch.setattr(borders_module, "_closest", spy)
    told, members = set(), borders_module._members
    monkeypatch.setattr(
        borders_module, "_members", lambda of, n: told.add(len(of)) or members(of, n)
    )
    assert borders_module._MOST_SPANNING > 120 == round(6.0 * 400**0.5)
    rows, mended = moved(X, labels)
    assert sizes == 3 * borders_module._PASSES * [(800, 120)]
    assert told == {500, 800}
    assert (np.diff(rows) > 0).all()
    assert (mended != of_stripe).mean() < 0.05


def test_of_large_clusters_those_in_cells_near_to_a_row_are_nearly_as_good_as_all(monkeypatch):
    X, of_stripe = stripes(2400)
    labels = np.where(np.random.default_rng(1).random(2400) < 0.2, 1 - of_stripe, of_stripe)
    monkeypatch.setattr(borders_module, "_MOST_SPANNING", 30)
    monkeypatch.setattr(borders_module, "_BORDER", np.inf)  # all rows, each with both clusters
    monkeypatch.setattr(borders_module, "_PASSES", 1)
    rows, by_all = moved(X, labels)
    assert len(rows) > 2350
    monkeypatch.setattr(borders_module, "_CELL_ROWS", 30)
    monkeypatch.setattr(borders_module, "_SOUGHT_ROWS", 300)
    compared, distances = [], borders_module._distances

    def spy(x, rows, others):
        compared.append(len(others))
        return distances(x, rows, others)

    monkeypatch.setattr(borders_module, "_distances", spy)
    _, found = moved(X, labels)
    # With all of a cluster only to tell which rows are at a border: its own, and any.
    assert sum(n >= 400 for n in compared) == 4 < sum(300 <= n < 400 for n in compared)
    assert (by_all != labels).mean() > 0.1
    assert (found != by_all).mean() < 0.01
    np.testing.assert_array_equal(moved(X, labels, n_workers=3)[1], found)


def test_a_row_alone_in_its_cluster_stays_there():
    X, of_stripe = stripes()
    labels = of_stripe.copy()
    labels[100] = 2
    rows, after = moved(X, labels)
    assert 100 not in rows
    assert after[100] == 2


def test_a_row_that_the_others_have_left_alone_stays():
    X, of_stripe = stripes()
    labels = torch.from_numpy(np.where(np.arange(900) == 100, 2, of_stripe))
    near = 3 * [torch.arange(900)]
    with Workers(1) as workers:
        after, _ = borders_module._closest(torch.from_numpy(X), labels, near, 20, 0, workers)
    assert after[100] == 2
    assert (after == 2).sum() == 1


def test_no_cluster_is_left_without_rows(monkeypatch):
    X, of_stripe = stripes()
    labels = np.where(np.arange(900) % 10 == 0, 2, of_stripe)
    assert (moved(X, labels)[1] != labels).any()
    monkeypatch.setattr(
        borders_module, "_closest", lambda x, labels, near, *_: (labels.clamp_max(1), near)
    )
    np.testing.assert_array_equal(moved(X, labels)[1], labels)


def test_clusters_without_rows_and_rows_that_coincide():
    X = np.repeat(np.random.default_rng(0).normal(size=(20, 7)), 8, axis=0).astype(np.float32)
    labels = np.arange(160) // 8 % 4
    with np.errstate(all="raise"):
        _, after = moved(X, labels, n_clusters=9)
    np.testing.assert_array_equal(after, labels)
    _, after = moved(np.zeros((5, 3), dtype=np.float32), np.array([0, 0, 1, 1, 1]))
    assert set(after) == {0, 1}


# --- In a fit ---

TRAINED = {"neighbor_steps": 60, "max_iter": 0}


@pytest.fixture
def spied(monkeypatch):
    """Number of rows, numbers of those at borders and their clusters, of each call."""
    seen = []

    def spy(X, labels, *args):
        found = at_borders(X, labels, *args)
        seen.append((X, labels.copy(), *found))
        return found

    monkeypatch.setattr(estimator_module, "at_borders", spy)
    return seen


@pytest.fixture
def aligned(monkeypatch):
    """Labels and stage of each alignment."""
    seen, align = [], estimator_module.align

    def spy(*args):
        seen.append((args[4], args[-2]))
        return align(*args)

    monkeypatch.setattr(estimator_module, "align", spy)
    return seen


def test_a_fit_to_wide_rows_takes_over_what_hyperplanes_tell(spied, aligned):
    X, _ = wide_blobs()
    model = quick(3, **TRAINED).fit(X)
    [(places, labels, rows, closest)], [(taken_over, stage)] = spied, aligned
    assert places.shape == (180, 50)
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 1.0, rtol=1e-5)
    assert 0 < len(rows) < 90
    assert (closest != labels[rows]).any()
    labels[rows] = closest
    np.testing.assert_array_equal(taken_over, labels)
    assert stage == "alignment"
    # The distinct rows are in another order.
    sizes = [np.sort(np.bincount(found)) for found in (model.labels_, labels)]
    assert np.abs(np.subtract(*sizes)).max() <= 2


def test_of_many_rows_all_at_borders_are_taken_over(spied, aligned, monkeypatch):
    monkeypatch.setattr("skdec._initialization._MOST_ROWS", 60)
    quick(3, **TRAINED).fit(wide_blobs()[0])
    [(places, labels, rows, _)], [(of_some, first), (taken_over, second)] = spied, aligned
    assert (first, second) == ("alignment of some", "alignment")
    assert len(of_some) == 60
    assert len(places) == len(labels) == 180
    assert max(60, len(rows)) < len(taken_over) < 60 + len(rows) + 1


def test_narrow_rows_keep_the_borders_of_gaussians(spied, aligned):
    quick(3, **TRAINED).fit(blobs()[0])
    assert not spied
    assert len(aligned) == 1
