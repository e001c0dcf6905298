"""The neighbour graph, the partitions made and judged on it, and training with neighbours."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from quick import blobs, quick
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.datasets import load_digits, make_blobs, make_circles, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, silhouette_score

import skdec._cells
import skdec._neighbors
from skdec import DECClustering
from skdec import _estimator as estimator_module
from skdec._candidates import _joined_in_the_input, consensus_of
from skdec._cells import cells, means
from skdec._initialization import (
    _advantage,
    _agreements,
    _closest_to_all,
    _likeliest,
    _probabilities,
    _scores,
    _with_gaussian_borders,
    best_partition,
    judged_rows,
    weighted_means,
)
from skdec._judges import Judge, _mutual_judge, all_edges, embedding_judge, input_judge
from skdec._neighborhoods import PLAIN, Neighborhoods
from skdec._neighbors import (
    _in_cells,
    edge_weights,
    modularity,
    mutual,
    nearest_neighbors,
    roughly_nearest_neighbors,
    separation,
    squared_lengths,
)
from skdec._objectives import neighbor_contrast
from skdec._pretraining import _in_groups, _with_two_neighbors
from skdec._self_training import SelfTrained
from skdec._threads import Workers, scikit_learn_alone


def neighbors_of(X, k, n_workers=1):
    with Workers(n_workers) as workers:
        return nearest_neighbors(X, k, workers)


def partition_of(X, Z, n_clusters, n_init=3, seed=0, n_workers=1):
    with Workers(n_workers) as workers:
        judge = input_judge(X.__getitem__, np.ones(len(X)), PLAIN, seed, workers)
        return judge, best_partition(judge, Z, n_clusters, n_init, seed, workers)


def rough_neighbors_of(X, k, seed=0, n_workers=1):
    with Workers(n_workers) as workers:
        return roughly_nearest_neighbors(X, k, seed, workers)


# --- The graph ---


@pytest.mark.parametrize("n_features", [2, 40])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_nearest_neighbors_are_those_of_all_distances(n_features, scale):
    X = np.random.default_rng(0).normal(size=(60, n_features))
    distances = cdist(X, X)
    np.fill_diagonal(distances, np.inf)
    expected = np.argsort(distances, axis=1)[:, :4]
    np.testing.assert_array_equal(neighbors_of(X * scale + 3 * scale, 4), expected)


@pytest.mark.parametrize("n_features", [2, 40])
def test_a_row_is_never_its_own_neighbor_even_among_rows_that_coincide(n_features):
    X = np.repeat(np.random.default_rng(0).normal(size=(3, n_features)), 10, axis=0)
    found = neighbors_of(X, 12)
    assert (found != np.arange(30)[:, None]).all()
    assert all(len(set(row)) == 12 for row in found)
    # The nine rows that coincide with it come first.
    assert (found[:, :9] // 10 == np.arange(30)[:, None] // 10).all()


def test_there_are_at_most_all_other_rows_as_neighbors():
    assert neighbors_of(np.arange(3.0)[:, None], 15).shape == (3, 2)


@pytest.mark.parametrize("n_features", [3, 20])
def test_neighbors_do_not_depend_on_the_number_of_threads(monkeypatch, n_features):
    monkeypatch.setattr(skdec._neighbors, "_QUERIES", 70)  # several blocks where there is no tree
    X = np.random.default_rng(0).integers(0, 4, size=(300, 3)).astype(float)  # many ties
    X = np.pad(X, ((0, 0), (0, n_features - 3)))
    np.testing.assert_array_equal(neighbors_of(X, 5, 1), neighbors_of(X, 5, 3))


def test_blocks_of_rows_have_the_neighbors_that_all_rows_at_once_have(monkeypatch):
    X = np.random.default_rng(0).normal(size=(300, 20))
    expected = neighbors_of(X, 5)
    monkeypatch.setattr(skdec._neighbors, "_QUERIES", 70)
    np.testing.assert_array_equal(neighbors_of(X, 5), expected)
    np.testing.assert_array_equal(neighbors_of(sparse.csr_array(X), 5), expected)


def test_neighbors_of_a_single_block_are_nearly_those_among_all():
    X = np.random.default_rng(0).normal(size=(5000, 6))
    found = rough_neighbors_of(X, 5)
    exact = neighbors_of(X, 5)
    right = [len({*a} & {*b}) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
    assert 4.95 < np.mean(right) < 5.0  # it is the cheaper search
    rows = np.arange(5000)[:, None]
    distances, nearest = (np.linalg.norm(X[rows] - X[ends], axis=2) for ends in (found, exact))
    assert (distances <= 1.3 * nearest).all()


def test_rough_neighbors_are_the_nearest_of_random_blocks_that_cover_all(monkeypatch):
    monkeypatch.setattr(skdec._neighbors, "_BLOCK_ROWS", 40)
    X = np.random.default_rng(0).normal(size=(110, 4))
    found, again, other = (rough_neighbors_of(X, 36, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(found, again)
    # Three blocks of 37, 37 and 36 rows: with 35 neighbours nearly all of its block are a row's.
    assert found.shape == (110, 35)
    reached = [{row, *neighbors} for row, neighbors in enumerate(found.tolist())]
    blocks = {frozenset().union(*(r for r in reached if row in r)) for row in range(110)}
    assert sorted(map(len, blocks)) == [36, 37, 37]
    assert not np.array_equal(found, other)
    distances = cdist(X, X)
    for row, neighbors in enumerate(found):
        (block,) = (block for block in blocks if row in block)
        nearest = sorted(distances[row, other] for other in block - {row})
        assert (distances[row, neighbors] <= 1.3 * np.array(nearest[:35])).all()


def near_a_hyperplane(n_rows=3000):
    random = np.random.default_rng(0)
    return random.normal(size=(n_rows, 4)) @ random.normal(size=(4, 20))


def test_near_cells_have_most_of_the_nearest_neighbors_in_many_dimensions(monkeypatch):
    X = near_a_hyperplane()
    exact = neighbors_of(X, 5)
    np.testing.assert_array_equal(rough_neighbors_of(X, 5), exact)  # of so few, all pairs
    monkeypatch.setattr(skdec._neighbors, "ALL_PAIRS_ROWS", 2000)
    monkeypatch.setattr(skdec._neighbors, "_CELL_ROWS", 40)
    monkeypatch.setattr(skdec._neighbors, "_COMPARED_ROWS", 600)
    found, again, other = (rough_neighbors_of(X, 5, *which) for which in ((0,), (0, 2), (1,)))
    np.testing.assert_array_equal(found, again)
    assert not np.array_equal(found, other)
    pairs = list(zip(found.tolist(), exact.tolist(), strict=True))
    assert all(len({row, *five}) == 6 for row, (five, _) in enumerate(pairs))
    # Among rows that ignore distances it would be one in five.
    assert 4.5 < np.mean([len({*a} & {*b}) for a, b in pairs]) < 5.0
    # Rows are compared with as many as are wanted.
    assert rough_neighbors_of(X, 300).shape == (3000, 300)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_rows_of_any_scale_have_near_cells(monkeypatch, scale):
    monkeypatch.setattr(skdec._neighbors, "ALL_PAIRS_ROWS", 2000)
    monkeypatch.setattr(skdec._neighbors, "_COMPARED_ROWS", 600)
    X = near_a_hyperplane() * scale + 3.0 * scale
    found, exact = rough_neighbors_of(X, 5), neighbors_of(X, 5)
    right = [len({*a} & {*b}) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
    assert 4.0 < np.mean(right) < 5.0


def test_rows_that_coincide_are_neighbors_in_cells_too(monkeypatch):
    monkeypatch.setattr(skdec._neighbors, "ALL_PAIRS_ROWS", 2000)
    monkeypatch.setattr(skdec._neighbors, "_COMPARED_ROWS", 600)
    X = np.repeat(np.random.default_rng(0).normal(size=(3, 20)), 1000, axis=0)
    found = rough_neighbors_of(X, 12)
    assert all(len({row, *twelve}) == 13 for row, twelve in enumerate(found.tolist()))
    assert (found // 1000 == np.arange(3000)[:, None] // 1000).all()


def cells_of(X, size, seed=0, n_workers=1):
    with Workers(n_workers) as workers, scikit_learn_alone():
        return cells(X, size, seed, workers)


@pytest.mark.parametrize("part_rows", [2**14, 500])  # cut into cells at once, or into parts before
def test_each_row_is_in_one_cell_of_rows_close_to_each_other(monkeypatch, part_rows):
    monkeypatch.setattr(skdec._cells, "_PART_ROWS", part_rows)
    X = near_a_hyperplane()
    found, again, other = (cells_of(X, 40, *which) for which in ((0,), (0, 2), (1,)))
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(3000))
    assert all((np.diff(rows) > 0).all() for rows in found)
    assert 3000 / 80 <= len(found) < 3000 / 10 and max(map(len, found)) <= 80
    for one, same in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert sorted(map(len, found)) != sorted(map(len, other))
    within = np.concatenate(
        [X[rows] - center for rows, center in zip(found, means(X, found), strict=True)]
    )
    assert np.square(within).sum() < 0.2 * np.square(X - X.mean(axis=0)).sum()


def test_cells_of_rows_that_coincide_are_no_larger():
    found = cells_of(np.ones((1000, 3)), 40)
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(1000))
    assert max(map(len, found)) <= 80
    zeros = cells_of(np.zeros((100, 3)), 40)
    assert sum(map(len, zeros)) == 100 and max(map(len, zeros)) <= 80


def test_search_on_a_device_finds_the_same():
    # The code for accelerators, on a device that is there.
    X, device = near_a_hyperplane(), torch.device("cpu")
    exact = neighbors_of(X, 5)
    few, many = (skdec._neighbors._OnDevice(device, n, 40, 600) for n in (3000, 2999))
    with Workers(1) as workers:
        np.testing.assert_array_equal(_in_cells(X, 5, 0, few, workers), exact)
        found = _in_cells(X, 5, 0, many, workers)
        on_cpu = skdec._neighbors._OnProcessor(workers, 2999, 40, 600)
        np.testing.assert_array_equal(found, _in_cells(X, 5, 0, on_cpu, workers))
    pairs = zip(found.tolist(), exact.tolist(), strict=True)
    assert 4.5 < np.mean([len({*a} & {*b}) for a, b in pairs]) < 5.0


def test_search_goes_on_on_the_cpu_where_a_device_has_no_memory(monkeypatch):
    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(skdec._neighbors._OnDevice, "within", out_of_memory)
    X = np.random.default_rng(0).normal(size=(200, 20))
    with Workers(1) as workers:
        found = roughly_nearest_neighbors(X, 5, 0, workers, torch.device("cuda"))
    np.testing.assert_array_equal(found, neighbors_of(X, 5))


# --- Modularity ---

# Two pairs of rows, each row the other's only neighbour.
PAIRS = np.array([[1], [0], [3], [2]])


def test_mutual_edges_join_rows_that_are_neighbors_of_each_other():
    neighbors = np.array([[1, 2], [0, 3], [1, 0], [2, 1]])
    expected = np.array([[True, True], [True, True], [False, True], [False, True]])
    np.testing.assert_array_equal(mutual(neighbors), expected)
    assert mutual(np.array([[1], [2], [0]])).all()  # no pair at all: every edge counts


def test_modularity_and_separation_of_two_pairs_by_hand(monkeypatch):
    ones, apart = np.ones((4, 1)), np.array([0, 0, 1, 1])
    assert modularity(PAIRS, ones, apart) == pytest.approx(0.5)  # 1 - 1/4 - 1/4
    # One row cut off: half of the edges inside, ends 1/4 and 3/4.
    cut = np.array([0, 1, 1, 1])
    assert modularity(PAIRS, ones, cut) == pytest.approx(0.5 - 1 / 16 - 9 / 16)
    monkeypatch.setattr(skdec._neighbors, "_PRIOR_PAIRS", 0)
    assert separation(PAIRS, ones, apart) == pytest.approx(1.0)
    # Conductances 1 and 1/3 for 3/4 and 1/4 by chance: both a third more.
    assert separation(PAIRS, ones, cut) == pytest.approx(1 - 4 / 3)
    # Each cluster has one pair inside, and as if three more, half of which lead out.
    monkeypatch.setattr(skdec._neighbors, "_PRIOR_PAIRS", 3)
    assert separation(PAIRS, ones, apart) == pytest.approx(1 - (3 / 2 / 4) / (1 / 2))


def test_an_edge_weighs_the_product_of_its_ends_weights():
    weight = np.array([2.0, 1.0, 1.0, 1.0])  # edges 2 and 1 of 3
    expected = 1 - 4 / 9 - 1 / 9
    edges = edge_weights(PAIRS, weight)
    assert modularity(PAIRS, edges, np.array([0, 0, 1, 1])) == pytest.approx(expected)


def test_separation_of_one_cluster_is_zero():
    assert separation(PAIRS, np.ones((4, 1)), np.zeros(4, dtype=int)) == 0.0


def ring(n_rows):
    """Neighbours of rows on a ring, two on either side."""
    return (np.arange(n_rows)[:, None] + [-2, -1, 1, 2]) % n_rows


def test_a_row_without_edges_is_no_cluster():
    neighbors, rows = ring(400), np.arange(400)
    edges = np.ones(neighbors.shape)
    edges[(neighbors == 0) | (rows[:, None] == 0)] = 0.0
    alone = np.select([rows == 0, rows < 200], [2, 1])
    thirds = rows // 134
    assert separation(neighbors, edges, alone) < separation(neighbors, edges, thirds)


def test_separation_accepts_uneven_clusters_that_modularity_would_cut():
    # A ring of 400 rows and one of 100, without an edge between them.
    neighbors = np.concatenate([ring(400), 400 + ring(100)])
    right = np.repeat([0, 1], [400, 100])
    halves = np.repeat([0, 1], [250, 250])
    ones = np.ones(neighbors.shape)
    assert modularity(neighbors, ones, halves) > modularity(neighbors, ones, right)
    assert separation(neighbors, ones, right) > separation(neighbors, ones, halves)


@pytest.mark.parametrize("n_few", [3, 5])
def test_separation_does_not_like_to_cut_off_a_few_rows(n_few):
    # Rings of 200 rows and a clique; a tenth of one ring's rows has an edge into the other.
    clique = 400 + (np.arange(n_few)[:, None] + [1, 2, 1, 2]) % n_few
    neighbors = np.concatenate([ring(200), 200 + ring(200), clique])
    neighbors[:200:10, 0] += 200
    ones, rows = np.ones(neighbors.shape), np.arange(400 + n_few)
    few, halves = (rows >= 400).astype(int), (rows >= 200).astype(int)
    assert separation(neighbors, ones, few) < separation(neighbors, ones, halves)


def test_separation_by_hand():
    random = np.random.default_rng(0)
    # Nobody's neighbour is in the last cluster.
    neighbors, labels = random.integers(6, size=(8, 3)), np.array([0, 0, 0, 1, 1, 1, 2, 2])
    weights = random.random((8, 3))
    edges = [(i, neighbors[i, e], weights[i, e]) for i in range(8) for e in range(3)]
    total = sum(w for *_, w in edges)
    scores, roots = [], []
    for k in range(3):
        inside = sum(w for i, j, w in edges if labels[i] == labels[j] == k) / total
        ends = [w * (int(labels[i] == k) + int(labels[j] == k)) for i, j, w in edges]
        volume, prior = sum(ends) / (2 * total), 10 / 12  # 24 edges are 12 pairs
        out = (volume - inside + prior * (1 - volume)) / (volume + prior)
        scores.append(1 - out / (1 - volume))
        roots.append(np.sqrt(volume + prior))
    found = separation(neighbors, weights, labels)
    assert found == pytest.approx(np.average(scores, weights=roots))


# --- The contrast of neighbours ---


def test_contrast_of_two_pairs_by_hand():
    ends = torch.tensor([[[[0.0], [3.0]], [[1.0], [5.0]]]])
    (found,) = neighbor_contrast(ends, torch.tensor([[[0, 1], [2, 3]]]))

    def kernel(a, b):
        return 1 / (1 + (a - b) ** 2)

    def loss(a, b, others):
        return -np.log(kernel(a, b) / sum(kernel(a, c) for c in (b, *others)))

    expected = [
        (loss(0, 1, (3, 5)) + loss(1, 0, (3, 5))) / 2,
        (loss(3, 5, (0, 1)) + loss(5, 3, (0, 1))) / 2,
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_contrast_with_two_neighbors_is_the_mean_of_all_three_pairs():
    # One row at 0, its neighbours at 1 and 3: each is sought among the other two.
    ends = torch.tensor([[[[0.0]], [[1.0]], [[3.0]]]])
    ((found,),) = neighbor_contrast(ends, torch.tensor([[[0], [1], [2]]]))
    from_row, from_one, from_other = 0.5 + 0.1, 0.5 + 0.2, 0.1 + 0.2
    with_one = -(np.log(0.5 / from_row) + np.log(0.5 / from_one)) / 2
    with_other = -(np.log(0.1 / from_row) + np.log(0.1 / from_other)) / 2
    between = -(np.log(0.2 / from_one) + np.log(0.2 / from_other)) / 2
    assert float(found) == pytest.approx((with_one + with_other + between) / 3, rel=1e-5)


def test_a_row_that_comes_twice_is_no_contrast_to_itself():
    ends = torch.tensor([[[[0.0], [3.0]], [[1.0], [0.0]]]])
    first, _ = neighbor_contrast(ends, torch.tensor([[[0, 1], [2, 0]]]))[0]
    # From row 0 its neighbour is found among {1, 3}, and back from 1 among {0, 3, 0}.
    forth = -np.log(0.5 / (0.5 + 0.1))
    back = -np.log(0.5 / (0.5 + 0.2 + 0.5))
    assert float(first) == pytest.approx((forth + back) / 2, rel=1e-5)


def test_contrast_is_the_same_far_from_the_origin():
    ends = torch.randn(1, 3, 4, 3, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(12).view(1, 3, 4)
    near, far = (neighbor_contrast(ends + s, rows) for s in (0.0, 1000.0))
    torch.testing.assert_close(near, far, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("by_hyperplanes", [False, True])
def test_a_judge_takes_the_nearest_rows_that_have_been_found(by_hyperplanes):
    X = np.random.default_rng(0).normal(size=(200, 40)).astype(np.float32)
    hoods, weight = Neighborhoods(40, 9, by_hyperplanes), np.ones(200)
    hoods = hoods.with_axes(X.__getitem__, np.arange(200), seed=0)
    with Workers(1) as workers:

        def neighbors_with(nearest):
            return input_judge(X.__getitem__, weight, hoods, 0, workers, nearest).neighbors

        places = hoods.places(hoods.components(X.__getitem__, np.arange(200)), 0)
        nearest = nearest_neighbors(places, 35, workers)
        sought = neighbors_with(None)
        np.testing.assert_array_equal(neighbors_with(nearest), sought)
        np.testing.assert_array_equal(neighbors_with(nearest[:, :6]), sought)  # not enough of them
        assert not np.array_equal(neighbors_with(nearest[::-1].copy()), sought)


# --- Candidates ---


def test_the_partition_of_rings_is_found_and_k_means_is_not_chosen():
    X, y = make_circles(400, noise=0.05, factor=0.4, random_state=0)
    judge, partition = partition_of(X, X, 2)
    assert adjusted_rand_score(y, partition.labels) > 0.95
    best = max(partition.scores, key=partition.scores.get)
    assert best.startswith(("spectral", "conductance"))
    # The embedding is the input here: its graph has more edges, and is as clear.
    assert partition.scores[best] == pytest.approx(judge.score(partition.labels), abs=0.02)
    assert partition.scores["k-means"] < partition.scores[best] - 0.01


@pytest.mark.parametrize("unit", [1.0, 1e-6])
def test_groups_of_the_input_are_joined_to_shapes_whatever_their_unit(unit):
    X, y = make_circles(400, noise=0.1, factor=0.4, random_state=0)
    X *= unit
    with Workers(1) as workers:
        judge = input_judge(X.__getitem__, np.ones(400), PLAIN, 0, workers)
        candidates = dict(_joined_in_the_input(judge, 2, 0, workers))
        assert _joined_in_the_input(judge, 80, 0, workers) == []
    assert len(candidates) == 2
    for name, labels in candidates.items():
        assert name.startswith("conductance, 80 groups of the input")
        assert adjusted_rand_score(y, labels) > 0.95


def test_without_a_unit_edges_count_by_their_length_in_units_of_the_median():
    X = np.random.default_rng(0).normal(size=(60, 2))
    weight, neighbors = np.ones(60), neighbors_of(X, 4)
    squared = squared_lengths(X, neighbors)
    found = all_edges(Judge(X, weight, neighbors, None), unit=None).toarray()
    expected = all_edges(Judge(X / np.sqrt(np.median(squared)), weight, neighbors, None)).toarray()
    np.testing.assert_allclose(found, expected)
    smaller = all_edges(Judge(1e-6 * X, weight, neighbors, None), unit=None).toarray()
    np.testing.assert_allclose(found, smaller)
    alike = Judge(np.zeros((60, 2)), weight, neighbors, None)
    assert np.isfinite(all_edges(alike, unit=None).toarray()).all()


def test_a_few_noisy_rings_are_told_apart():
    X, y = make_circles(300, noise=0.1, factor=0.4, random_state=1)
    assert adjusted_rand_score(y, DECClustering(2, random_state=0).fit_predict(X)) > 0.95


def test_the_consensus_outvotes_the_errors_of_its_members():
    truth = np.repeat([0, 1, 2], [40, 30, 10])  # of groups of five rows each
    random = np.random.default_rng(0)
    partitions = []
    for _ in range(7):
        wrong = random.random(len(truth)) < 0.2
        labels = np.where(wrong, random.integers(3, size=len(truth)), truth)
        partitions.append(random.permutation(3)[labels])  # which number means which is open
    groups = np.repeat(np.arange(len(truth)), 5)
    rows = [labels[groups] for labels in partitions]
    consensus = consensus_of(rows, np.ones(7), groups, np.ones(len(groups)), 3)
    assert max(adjusted_rand_score(truth, labels) for labels in partitions) < 0.9
    assert adjusted_rand_score(truth[groups], consensus) == 1.0


def test_the_consensus_takes_a_weight_of_two_for_a_row_given_twice():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    partitions = [random.integers(3, size=120) for _ in range(3)]
    weight = random.integers(1, 4, size=120)
    weighted = consensus_of(partitions, np.ones(3), groups, weight.astype(float), 3)
    repeated = consensus_of(
        [np.repeat(labels, weight) for labels in partitions],
        np.ones(3),
        np.repeat(groups, weight),
        np.ones(weight.sum()),
        3,
    )
    assert np.array_equal(np.repeat(weighted, weight), repeated)
    plain = consensus_of(partitions, np.ones(3), groups, np.ones(120), 3)
    assert not np.array_equal(weighted, plain)


def test_the_consensus_is_that_of_the_probable_ones():
    random = np.random.default_rng(0)
    one, other, third = (random.integers(3, size=60) for _ in range(3))
    groups = np.arange(60)
    partitions, weight = [one, other, third], np.ones(60)
    of_two = consensus_of(partitions, np.array([1.0, 0.5, 0.0]), groups, weight, 3)
    assert np.array_equal(
        of_two, consensus_of([one, other], np.array([1.0, 0.5]), groups, weight, 3)
    )
    assert adjusted_rand_score(one, of_two) > adjusted_rand_score(other, of_two)
    nearly = consensus_of(partitions, np.array([0.02, 1.0, 0.02]), groups, weight, 3)
    assert adjusted_rand_score(other, nearly) == 1.0


def test_a_consensus_closer_to_all_that_may_be_right_is_taken():
    # Five partitions of 40 rows, of which each has other rows wrong, and what they have in common.
    truth = np.repeat([0, 1], 20)
    wrong = np.array([np.isin(np.arange(40) % 20, [2 * k, 2 * k + 1]) for k in range(5)])
    candidates = {f"spectral, {k}": np.where(wrong[k], 1 - truth, truth) for k in range(5)}
    weight, alike = np.ones(40), np.ones(5)
    consensus = consensus_of(list(candidates.values()), alike, np.arange(40), weight, 2)
    assert adjusted_rand_score(truth, consensus) == 1.0
    with_it = {**candidates, "consensus": consensus}
    assert _closest_to_all(with_it, alike, weight) == "consensus"
    assert _closest_to_all(with_it, np.array([1.0, *np.full(4, 0.05)]), weight) == "spectral, 0"


@pytest.mark.parametrize(
    ("n_rows", "n_clusters", "rival", "lead", "taken"),
    [
        (150, 3, 0.9, -0.018, True),  # within the standard error of few edges
        (150, 3, 0.9, -0.022, False),
        (10_000, 10, 0.9, -0.001, True),
        (10_000, 10, 0.9, -0.01, False),
        (1000, 100, 0.9, 0.03, False),  # ten rows to a centre
        (1000, 100, 0.9, 0.06, True),
        (500, 2, 0.9, -0.009, True),
        (500, 2, 0.986, -0.009, False),  # where hardly an edge leads out
        (500, 2, 1.0, -0.001, False),
    ],
)
def test_k_means_of_the_input_wins_ties_but_not_where_it_has_few_rows_to_a_center(
    n_rows, n_clusters, rival, lead, taken
):
    judge = SimpleNamespace(weight=np.ones(n_rows), n_pairs=2.1 * n_rows)
    assert (lead + _advantage(judge, n_clusters, rival) > 0.0) == taken


def test_rings_without_an_edge_between_them_are_not_halved():
    X, y = make_circles(1000, noise=0.05, factor=0.5, random_state=0)
    half = np.random.RandomState(1).permutation(1000)[500:]  # by chance k-means looks good there
    labels = DECClustering(2, random_state=1).fit_predict(X[half])
    assert adjusted_rand_score(y[half], labels) > 0.98


def chosen_of(judges, candidates, n_clusters):
    probability = _probabilities(judges, candidates, n_clusters)
    return _closest_to_all(candidates, probability, judges[0].weight)


class ListJudge:
    """Has a score for each of the given partitions; without rows they are all in one place."""

    def __init__(self, partitions, scores, x=None):
        self.partitions, self.scores = partitions, scores
        self.x = np.zeros((len(partitions[0]), 2)) if x is None else x
        self.weight, self.n_pairs = np.ones(len(partitions[0])), 2.5 * len(partitions[0])

    def score(self, labels):
        (position,) = (k for k, own in enumerate(self.partitions) if own is labels)
        return self.scores[position]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((0.9, 0.898, 0.897), "b"),  # a little over 0.005 says e times less probable
        ((0.9, 0.897, 0.898), "c"),
        ((0.9, 0.892, 0.891), "a"),
        ((0.99, 0.989, 0.9885), "a"),  # 0.00005 does
        ((0.99, 0.98998, 0.98997), "b"),
        ((0.5, 0.45, 0.4), "b"),  # 0.15 and 0.18 do
        ((1.0, 0.99999, 0.99998), "a"),  # nothing is right beside it
    ],
)
def test_the_best_score_gives_way_to_two_partitions_that_agree_the_more_edges_lead_out(
    scores, expected
):
    partitions = {
        "a": np.arange(12) // 6,
        "b": np.arange(12) % 2,
        "c": np.array([1, 1, *np.arange(2, 12) % 2]),
    }
    judge = ListJudge(list(partitions.values()), scores)
    assert chosen_of([judge, judge], partitions, 2) == expected


def test_it_is_what_the_input_lacks_that_makes_scores_doubtful():
    partitions = [np.array(labels) for labels in ([0, 0, 1], [0, 1, 0], [0, 1, 1])]
    candidates = dict(zip(("spectral", "Ward", "k-means"), partitions, strict=True))
    of_input = ListJudge(partitions, (0.8, 0.79, 0.7))
    of_embedding = ListJudge(partitions, (0.999, 0.998, 0.5))
    scores = _scores([of_input, of_embedding], candidates)
    expected = np.exp(2 * (scores - scores[0]) / np.array([0.2, 0.21, 0.3]) ** 2)
    assert 0.8 < expected[1] < 0.95 and expected[2] < 1e-3
    found = _probabilities([of_input, of_embedding], candidates, 2)
    assert found == pytest.approx([1.0, expected[1], 0.0])


def test_small_groups_without_edges_to_the_rest_leave_the_cuts_of_the_rest_possible():
    # As on texts of which some are nearly copies: these few are cut off, or the others in two.
    off = (np.arange(120) < 6).astype(int)
    halves = {f"Ward, {k}": (np.arange(120) >= 60 + k).astype(int) for k in range(3)}
    partitions = {"conductance": off, **halves}
    of_input = ListJudge(list(partitions.values()), (0.89, 0.70, 0.69, 0.68))
    of_embedding = ListJudge(list(partitions.values()), (0.926, 0.941, 0.939, 0.938))
    scores = _scores([of_input, of_embedding], partitions)
    assert scores.argmax() == 0
    assert scores[0] - scores[1] > 0.11**2 / 2  # hopeless by what the first one lacks
    assert chosen_of([of_input, of_embedding], partitions, 2).startswith("Ward")


@pytest.mark.parametrize(("n_rows", "taken"), [(40, "loose"), (4_000, "tight")])
def test_of_many_rows_the_tighter_of_two_candidates_about_as_probable_is_taken(n_rows, taken):
    x = np.repeat([0.0, 1.0, 3.0, 4.0], n_rows // 4)[:, None]
    partitions = {"loose": (x[:, 0] > 0.5).astype(int), "tight": (x[:, 0] > 2.0).astype(int)}
    # By scores alone the tight one is hardly less probable: 0.001 behind, where 0.0051 says e.
    judge = ListJudge(list(partitions.values()), (0.9, 0.899), x)
    loose, tight = _probabilities([judge, judge], partitions, 2)
    # Around 8/3 three quarters of the rows have a mean square of 14/9; around 0.5 and 3.5 all 1/4.
    times_as_tight = (3 / 4 * 14 / 9) / (1 / 4)
    by_score = np.exp(-0.001 / (0.101**2 / 2))
    assert tight / loose == pytest.approx(by_score * times_as_tight ** (n_rows / 4_000))
    assert chosen_of([judge, judge], partitions, 2) == taken


def test_k_means_of_the_input_that_is_the_best_does_not_give_way():
    labels = np.arange(1200) // 600, np.arange(1200) % 2, np.arange(1200) % 2
    judge = ListJudge(labels, (0.5, 0.499, 0.499))
    for name, expected in (("spectral", "Ward"), ("k-means, input", "k-means, input")):
        candidates = dict(zip((name, "Ward", "k-means"), labels, strict=True))
        assert chosen_of([judge, judge], candidates, 2) == expected


def test_a_clear_lead_decides_and_the_chosen_candidate_is_named_first():
    X, y = blobs(120)
    judge, partition = partition_of(X, np.random.default_rng(0).normal(size=(120, 2)), 3)
    chosen, *others = partition.scores
    assert chosen == "k-means, input"
    scores = [partition.scores[name] for name in others]
    assert scores == sorted(scores, reverse=True)
    candidates = {"halves": np.where(y == 0, 0, 1 + np.arange(120) % 2), "k-means, input": y}
    assert chosen_of([judge, judge], candidates, 3) == "k-means, input"


def test_both_graphs_count_but_k_means_of_the_input_is_judged_in_the_input():
    candidates = {
        "k-means, input": np.array([0]),
        "k-means": np.array([1]),
        "Ward": np.array([2]),
    }
    partitions = list(candidates.values())
    judges = [ListJudge(partitions, s) for s in ((0.80, 0.90, 0.88), (0.10, 0.70, 0.80))]
    scores = _scores(judges, candidates)
    # Ward is its rival: in the embedding it lacks 0.2, too, which counts twice.
    lacking = np.cbrt([0.2 * 0.2**2, 0.1 * 0.3**2, 0.12 * 0.2**2])
    assert scores == pytest.approx(1.0 - lacking)
    ahead = _scores(judges, candidates, advantage=lambda rival: 0.09)
    assert ahead == pytest.approx([1.0 - np.cbrt(0.11 * 0.2**2), *(1.0 - lacking[1:])])
    alone = {"k-means, input": partitions[0]}
    assert _scores(judges, alone) == pytest.approx([1.0 - np.cbrt(0.2 * 0.9**2)])


def test_the_better_of_two_good_partitions_is_that_of_the_embedding():
    # By what is lacking it is a fifth better there, by the scores' mean it would be the worse one.
    partitions = [np.arange(12) // 6, np.arange(12) % 2]
    judges = [ListJudge(partitions, scores) for scores in ((0.960, 0.956), (0.9950, 0.9960))]
    worse, better = _scores(judges, dict(zip("ab", partitions, strict=True)))
    assert better > worse


def test_an_advantage_beyond_a_perfect_score_leaves_a_number():
    labels = np.zeros(12, dtype=int)
    judge = ListJudge([labels], [1.0])
    (score,) = _scores([judge, judge], {"k-means, input": labels}, advantage=lambda rival: 0.5)
    assert 1.0 - 1e-5 < score < 1.0


@pytest.mark.parametrize("seed", [2, 3])
def test_a_sparse_border_is_better_than_a_cut_at_a_narrow_place(seed):
    """Half of a square on either side of sparse rows, and a narrow strip: three clusters, or two
    that are joined and one that is cut in two."""
    random = np.random.default_rng(seed)
    square = random.uniform(0, 20, size=(2400, 2))
    square = square[(np.abs(square[:, 0] - 10) > 2) | (random.random(2400) < 0.35)]
    strip = random.uniform(0, 1, size=(600, 2)) * [40, 3] + [0, 40]
    Z = 10 * np.concatenate([square, strip])
    is_right_half, is_end = square[:, 0] > 10, strip[:, 0] > 20
    bordered = np.concatenate([is_right_half, np.full(600, 2)])
    cut = np.concatenate([np.zeros(len(square), dtype=int), 1 + is_end])
    with Workers(1) as workers:
        by_edges = _mutual_judge(Z, np.ones(len(Z)), nearest_neighbors(Z, 15, workers))
        by_similarity = embedding_judge(Z, np.ones(len(Z)), workers)
    assert by_edges.score(cut) > by_edges.score(bordered)
    assert by_similarity.score(bordered) > by_similarity.score(cut)


def test_an_edge_weighs_the_root_of_its_ends_similarity_in_training():
    Z, weight = np.array([[0.0], [3.0], [4.0]]), np.array([1.0, 1.0, 2.0])
    neighbors = np.array([[1], [2], [1]])
    graph = all_edges(Judge(Z, weight, neighbors, None)).toarray()
    # The similarities are 1 / (1 + 9) and 1 / (1 + 1), of the last two rows both ways.
    closeness = np.sqrt([0.1, 0.5, 0.5])
    expected = np.zeros((3, 3))
    expected[0, 1], expected[1, 2] = closeness[0], 2 * (closeness[1] + closeness[2])
    assert graph == pytest.approx((expected + expected.T) / closeness.mean())


def test_squared_lengths_are_those_of_the_edges_in_whatever_blocks(monkeypatch):
    random = np.random.default_rng(0)
    X = random.normal(size=(20, 3)).astype(np.float32)
    neighbors = random.integers(20, size=(20, 4))
    monkeypatch.setattr("skdec._batching._BLOCK_VALUES", 40)
    expected = cdist(X.astype(float), X.astype(float), "sqeuclidean")
    expected = np.take_along_axis(expected, neighbors, axis=1)
    assert squared_lengths(X, neighbors) == pytest.approx(expected)


def test_what_looks_alike_in_the_input_is_told_apart_in_the_embedding():
    # In the input the first cluster is long, so that a cut is cheap, and the others overlap.
    y = np.repeat([0, 1, 2], [300, 150, 150])
    Z = np.random.default_rng(0).normal(size=(600, 2))
    Z[:, 0] += 8 * y
    cut = np.where(y == 0, (Z[:, 1] > 0).astype(int), 2)
    X = Z * np.where(y[:, None] == 0, [0.1, 10.0], 1.0)
    X[y == 2, 0] -= 3.5
    with Workers(1) as workers:
        of_input, of_embedding = (
            input_judge(x.__getitem__, np.ones(600), PLAIN, 0, workers) for x in (X, Z)
        )
    candidates = {"right": y, "cut": cut}
    assert of_input.score(cut) > of_input.score(y)
    assert chosen_of([of_input, of_input], candidates, 3) == "cut"
    assert chosen_of([of_input, of_embedding], candidates, 3) == "right"


def in_the_plane(Z):
    """The judges of rows whose embedding is the input."""
    with Workers(1) as workers:
        judge = input_judge(Z.__getitem__, np.ones(len(Z)), PLAIN, 0, workers)
    return judge, judge


def test_the_border_of_two_gaussians_is_nearer_to_the_narrow_one():
    random, y = np.random.default_rng(0), np.repeat([0, 1], 500)
    Z = random.normal(size=(1000, 2)) * np.where(y == 0, 0.5, 2.0)[:, None]
    Z[:, 0] += 5 * y
    halfway = (Z[:, 0] > 2.5).astype(int)
    moved = _with_gaussian_borders(in_the_plane(Z), halfway)
    assert np.mean(moved == y) > np.mean(halfway == y) + 0.015


def test_borders_of_clusters_that_are_not_gaussian_stay(monkeypatch):
    X, y = make_moons(400, noise=0.05, random_state=0)
    judges = in_the_plane(X)
    moved = _likeliest(X, np.ones(400), y)
    assert np.mean(moved != y) > 0.1
    assert np.array_equal(_with_gaussian_borders(judges, y), y)
    # It is the score that keeps them.
    monkeypatch.setattr("skdec._initialization._BORDER_ERROR", 100.0)
    assert np.array_equal(_with_gaussian_borders(judges, y), moved)


def test_borders_are_judged_by_edges_that_count_in_full(monkeypatch):
    X, y = make_moons(400, noise=0.05, random_state=0)
    of_input, of_embedding = in_the_plane(X)
    moved = _likeliest(X, np.ones(400), y)
    is_cut = moved[of_embedding.neighbors] != moved[:, None]
    long = of_embedding._replace(edges=of_embedding.edges * np.where(is_cut, 1e-3, 1.0))
    assert np.array_equal(long.plain().edges, of_embedding.edges)
    falls = [judge.score(y) - judge.score(moved) for judge in (of_input, of_embedding, long)]
    assert falls[2] < falls[1] / 2
    # A standard error by which they would be moved if long edges counted less here.
    between = falls[0] / 3 + (falls[1] + falls[2]) / 3
    error = between * np.sqrt(of_input.n_pairs)
    monkeypatch.setattr("skdec._initialization._BORDER_ERROR", error)
    assert np.array_equal(_with_gaussian_borders((of_input, long), y), y)


def test_no_cluster_is_lost_to_a_gaussian_that_covers_it():
    random = np.random.default_rng(0)
    Z = np.concatenate([random.normal(size=(400, 2)), random.normal(size=(3, 2)) * 0.5])
    labels = np.repeat([0, 1], [400, 3])
    assert not _likeliest(Z, np.ones(403), labels).any()
    assert np.array_equal(_with_gaussian_borders(in_the_plane(Z), labels), labels)


def test_the_likeliest_cluster_takes_a_weight_of_two_for_a_row_given_twice():
    random, y = np.random.default_rng(0), np.repeat([0, 1, 2], 40)
    Z = random.normal(size=(120, 3)) + y[:, None]
    weight = random.integers(1, 4, size=120)
    weighted = _likeliest(Z, weight.astype(float), y)
    repeated = _likeliest(np.repeat(Z, weight, axis=0), np.ones(weight.sum()), np.repeat(y, weight))
    assert np.array_equal(np.repeat(weighted, weight), repeated)
    assert not np.array_equal(weighted, _likeliest(Z, np.ones(120), y))


def test_clusters_of_one_point_each_stay():
    y = np.repeat([0, 1], 10)
    Z = np.stack([10.0 * y, np.zeros(20)], axis=1)
    assert np.array_equal(_with_gaussian_borders(in_the_plane(Z), y), y)


def test_agreements_are_adjusted_rand_indices_of_weighted_rows():
    random = np.random.default_rng(0)
    one, other = random.integers(4, size=(2, 3000))
    other = np.where(random.random(3000) < 0.4, one, other)
    third = random.integers(7, size=3000)
    found = _agreements([one, other, third], np.full(3000, 0.1))
    np.testing.assert_allclose(found.diagonal(), 1.0)
    np.testing.assert_allclose(found, found.T)
    expected = adjusted_rand_score(one, other)
    assert 0.1 < expected < 0.4
    assert found[0, 1] == pytest.approx(expected, abs=2e-3)
    assert found[0, 2] == pytest.approx(adjusted_rand_score(one, third), abs=2e-3)
    weight = random.integers(1, 4, size=3000)
    repeated = _agreements([labels.repeat(weight) for labels in (one, other)], np.ones(sum(weight)))
    np.testing.assert_allclose(_agreements([one, other], weight.astype(float)), repeated)
    assert repeated[0, 1] != pytest.approx(expected, abs=1e-4)


def test_the_consensus_is_a_candidate_where_several_may_be_right():
    X, _ = make_moons(300, noise=0.2, random_state=0)
    _, partition = partition_of(X, X, 6)
    assert {
        "consensus",
        "Ward, 12 groups, start 3",
        "spectral, 12 groups",
    } <= partition.scores.keys()
    separate, _ = make_blobs(200, 3, centers=3, random_state=0)
    _, clear = partition_of(separate, separate, 3)
    assert "Ward, 6 groups, start 3" in clear.scores and "consensus" not in clear.scores
    _, few = partition_of(separate[:15], separate[:15], 3)
    assert few.scores.keys() == {"k-means, input", "k-means"}


def test_partitions_do_not_depend_on_the_number_of_threads():
    X, _ = make_blobs(400, 6, centers=5, cluster_std=3.0, random_state=0)
    (_, one), (_, three) = (partition_of(X, X[:, :3], 5, n_workers=n) for n in (1, 3))
    assert one.scores == three.scores and len(one.scores) > 10
    np.testing.assert_array_equal(one.labels, three.labels)


def test_k_means_of_the_input_is_chosen_when_the_embedding_is_of_no_use():
    X, y = blobs(300)
    Z = np.random.default_rng(0).normal(size=(300, 2))
    _, partition = partition_of(X, Z, 3)
    assert next(iter(partition.scores)) == "k-means, input"
    assert adjusted_rand_score(y, partition.labels) == 1.0


def test_the_score_of_a_partition_does_not_depend_on_the_embedding():
    X, y = blobs(120)
    random = np.random.default_rng(0)
    judges = [partition_of(X, random.normal(size=(120, 3)), 3)[0] for _ in range(2)]
    assert judges[0].score(y) == judges[1].score(y) > judges[0].score(random.permutation(y))


def test_many_rows_are_judged_by_a_choice_of_them():
    at = judged_rows(10_500, 3, seed=0)
    assert len(at) == len(np.unique(at)) == 10_000
    assert 0 <= at.min() and at.max() < 10_500
    np.testing.assert_array_equal(judged_rows(10_000, 3, seed=0), np.arange(10_000))


def test_judged_rows_keep_their_own_weights(monkeypatch):
    X, _ = blobs()
    X = X.astype(np.float32)
    given = {row.tobytes(): weight for row, weight in zip(X, range(1, 91), strict=True)}
    seen, input_judge_of_fit = [], estimator_module.input_judge

    def spy(x, weight, *rest):
        seen.append((x(np.arange(len(weight))), weight))
        return input_judge_of_fit(x, weight, *rest)

    monkeypatch.setattr("skdec._initialization._MOST_ROWS", 40)
    monkeypatch.setattr(estimator_module, "input_judge", spy)
    quick(scaling=None, batch_size=30).fit(X, sample_weight=np.arange(1, 91))
    ((rows, weight),) = seen
    expected = np.array([given[row.tobytes()] for row in rows]) / np.mean(range(1, 91))
    assert len(rows) == 40
    np.testing.assert_allclose(weight, expected)


def test_no_partition_where_neither_rows_nor_embeddings_differ_enough():
    X, Z = np.zeros((5, 2)), np.zeros((5, 2))
    X[0] = 1.0
    assert partition_of(X, Z, 3)[1] is None


def test_means_by_hand():
    Z, weight = np.array([[0.0, 1.0], [4.0, 1.0], [5.0, 7.0]]), np.array([1.0, 3.0, 2.0])
    np.testing.assert_allclose(weighted_means(Z, weight, np.array([1, 1, 0])), [[5, 7], [3, 1]])


# --- The whole ---


@pytest.mark.parametrize("make", [make_moons, make_circles])
def test_long_and_nested_clusters_are_found_with_default_parameters(make):
    parameters = {"factor": 0.5} if make is make_circles else {}
    X, y = make(500, noise=0.05, random_state=0, **parameters)
    model = DECClustering(2, random_state=0).fit(X)
    assert adjusted_rand_score(y, np.random.default_rng(0).permutation(model.labels_)) < 0.1
    assert adjusted_rand_score(y, model.labels_) > 0.95
    # New rows from the same shapes too: it is the network that has learnt them.
    new, new_y = make(500, noise=0.05, random_state=1, **parameters)
    assert adjusted_rand_score(new_y, model.predict(new)) > 0.9


def test_training_with_neighbors_draws_groups_together():
    X, y = load_digits(return_X_y=True)
    X, y = X[:400], y[:400]
    steps = {"hidden_dims": (64, 64), "pretrain_steps": 60, "neighbor_steps": 200, "max_iter": 0}
    silhouette = {}
    for pretraining in ("end-to-end", "neighbors"):
        model = quick(10, embedding_dim=10, pretraining=pretraining, init="k-means++", **steps)
        silhouette[pretraining] = silhouette_score(model.fit(X).transform(X), y)
    assert silhouette["neighbors"] > silhouette["end-to-end"] + 0.1


def test_curves_and_scores_tell_what_was_done():
    X, _ = blobs()
    model = quick().fit(X)
    assert len(model.neighbor_loss_curve_) == 10
    assert {"k-means", "k-means, input"} < set(model.init_scores_)
    named = quick(init="k-means++", pretraining="end-to-end").fit(X)
    assert named.neighbor_loss_curve_ == []
    assert named.init_scores_ == {}


def test_self_training_that_makes_the_clusters_worse_is_undone(monkeypatch):
    X, y = blobs()

    def ruin(autoencoder, centers, *args):
        with torch.no_grad():
            for weight in autoencoder.encoder.parameters():
                weight.normal_(generator=torch.Generator().manual_seed(0))
        random = np.random.default_rng(0)
        return SelfTrained(random.normal(size=centers.shape), [1.0], [1.0], converged=True)

    monkeypatch.setattr(estimator_module, "self_train", ruin)
    with pytest.warns(ConvergenceWarning, match=r"score went from .* The state before it was kept"):
        model = quick().fit(X)
    assert adjusted_rand_score(y, model.labels_) == 1.0
    # A named init means exactly that: nothing is judged.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ruined = quick(init="k-means++").fit(X)
    assert adjusted_rand_score(y, ruined.labels_) < 0.9


def test_a_partition_that_is_lost_on_the_way_is_named(monkeypatch):
    X, y = blobs()

    def lose(autoencoder, centers, *args):
        with torch.no_grad():
            for weight in autoencoder.encoder.parameters():
                weight.zero_()
        return centers

    monkeypatch.setattr(estimator_module, "align", lose)
    with pytest.warns(ConvergenceWarning, match=r"partition \(.*\) could not be taken over"):
        model = quick(max_iter=0).fit(X)
    # Network and centres are those of k-means, not what was lost.
    assert adjusted_rand_score(y, model.labels_) == 1.0
    assert model.init_scores_ == {}


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_a_global_output_container_does_not_reach_the_inside(container):
    X, _ = blobs(80, n_features=60)
    expected = quick().fit(X).labels_
    with config_context(transform_output=container):
        np.testing.assert_array_equal(quick().fit(X).labels_, expected)


def test_the_kernel_of_a_coinciding_pair_is_one():
    # Their distance comes out of a difference of large numbers, which may be negative.
    Z = torch.full((1, 3, 2), 1000.0) * torch.tensor([1.0, 3.0, -7.0])[:, None]
    losses = neighbor_contrast(torch.stack([Z, Z], dim=1), torch.arange(6).view(1, 2, 3))
    torch.testing.assert_close(losses, torch.zeros(1, 3), rtol=0, atol=1e-5)


def test_groups_are_contrasted_each_for_itself_and_in_order():
    ends = torch.randn(3, 2, 10, 3, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(60).view(3, 2, 10)
    rows[:, 1, 5] = rows[:, 0, 3]  # some rows come twice in a group
    found = neighbor_contrast(ends, rows)
    assert found.shape == (3, 10)
    for k in range(3):
        torch.testing.assert_close(found[k : k + 1], neighbor_contrast(ends[[k]], rows[[k]]))


@pytest.mark.parametrize(
    ("n_batch", "n_groups"),
    [(1, 1), (7, 1), (41, 1), (42, 1), (94, 1), (95, 2), (125, 2), (128, 2), (157, 2), (158, 3)],
)
def test_groups_are_of_about_two_thirds_of_a_batch(n_batch, n_groups):
    batch = 1000 + torch.arange(3 * n_batch).view(n_batch, 3)
    groups = _in_groups(batch)
    assert groups.shape == (n_groups, 3, 42)
    # One row after the other; only where there are too few of them they begin again.
    rows = groups.mT.reshape(-1, 3)
    assert torch.equal(rows, batch[torch.arange(len(rows)) % n_batch])
    assert len(rows) <= n_batch or n_groups == 1


@pytest.mark.parametrize(("n_rows", "n_counted"), [(30, 30), (70, 42), (120, 84)])
def test_rows_of_whole_groups_count_once_each(monkeypatch, n_rows, n_counted):
    seen = []

    def counting(ends, rows):
        losses = neighbor_contrast(ends, rows)
        seen.append(torch.autograd.grad(losses.sum(), ends, retain_graph=True)[0].shape)
        # The loss of a row is its place: what of it arrives tells which rows count.
        return losses * 0.0 + torch.arange(losses.numel()).view(losses.shape)

    monkeypatch.setattr("skdec._pretraining.neighbor_contrast", counting)
    X = np.random.default_rng(0).normal(size=(n_rows, 4)).astype(np.float32)
    model = quick(batch_size=n_rows, neighbor_steps=3, hidden_dims=(8,)).fit(X)
    assert seen == [(math.ceil(n_counted / 42), 3, 42, 2)] * 3
    assert model.neighbor_loss_curve_ == pytest.approx([sum(range(n_counted)) / n_counted] * 3)


@pytest.mark.parametrize("n_neighbors", [1, 2, 5])
def test_a_row_comes_with_two_different_neighbors(n_neighbors):
    neighbors = 100 * torch.arange(30)[:, None] + torch.arange(n_neighbors)
    rows, generator = torch.randperm(30), torch.Generator().manual_seed(0)
    drawn = [_with_two_neighbors(neighbors, rows, generator) for _ in range(200)]
    assert all(torch.equal(batch[:, 0], rows) for batch in drawn)
    drawn = torch.stack(drawn)[:, :, 1:]
    assert torch.equal(drawn // 100, rows[:, None].expand_as(drawn))
    assert (drawn[..., 0] != drawn[..., 1]).all() or n_neighbors == 1
    # Each neighbour is as often the first or the second as any other.
    counts = torch.stack([(drawn % 100 == k).float().mean(dim=(0, 1)) for k in range(n_neighbors)])
    torch.testing.assert_close(counts, torch.full_like(counts, 1 / n_neighbors), rtol=0, atol=0.03)
