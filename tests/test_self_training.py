from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from torch import nn

from skdec import _self_training
from skdec._callbacks import SILENT, Task
from skdec._distributed import ALONE
from skdec._end_layers import first_linear
from skdec._neighborhoods import PLAIN, Neighborhoods
from skdec._networks import Architecture, weights_of
from skdec._objectives import kl_divergence, log_soft_assignment, target_distribution
from skdec._optimization import OptimizerSettings, ShardedOptimizer
from skdec._self_training import SelfTrainingSettings, align, auto_update_interval, self_train

N_CLUSTERS, N_FEATURES = 3, 4

ARCHITECTURE = Architecture(
    n_features=N_FEATURES,
    embedding_dim=2,
    hidden_dims=(8,),
    activation="relu",
    batch_norm=False,
    weight_init="he",
)

SETTINGS = SelfTrainingSettings(
    alpha=1.0,
    target_distribution="dec",
    clustering_weight=1.0,
    reconstruction_weight=0.0,
    reconstruction_loss="mse",
    optimizer=OptimizerSettings("sgd", 0.01, 0.9),
    batch_size=30,
    update_interval=10,
    max_iter=4,
    tol=0.0,
    precision="float32",
    seed=0,
)


class Problem:
    """Three groups of rows, an untrained network, and centres close to the groups' means."""

    def __init__(self, architecture=ARCHITECTURE):
        rng = np.random.default_rng(0)
        groups = np.arange(90) % N_CLUSTERS
        X = 3.0 * rng.normal(size=(N_CLUSTERS, N_FEATURES))[groups] + rng.normal(
            size=(90, N_FEATURES)
        )
        self.X = torch.from_numpy(X.astype(np.float32))
        self.weight = torch.ones(90)
        self.network = architecture.build(0)
        with torch.no_grad():
            for _ in range(100):  # running statistics, where there are any, arrive at the rows'
                self.network.decoder(self.network.encoder(self.X))
        self.network.eval()
        Z = self.embedding().numpy()
        self.centers = np.stack([Z[groups == k].mean(axis=0) for k in range(N_CLUSTERS)])
        self.centers = self.centers.astype(np.float64)

    def embedding(self):
        with torch.no_grad():
            return self.network.encoder(self.X)

    def log_Q(self, centers):
        return log_soft_assignment(self.embedding(), torch.from_numpy(centers).float(), 1.0)

    def train(self, workers, task=SILENT, **settings):
        return self_train(
            self.network,
            self.centers,
            self.X,
            self.weight,
            replace(SETTINGS, **settings),
            workers,
            task,
        )


def differ(some, others):
    return {name for name in some if not np.array_equal(some[name], others[name])}


def all_to_the_first(Q, weight):
    """A target under which every other cluster dies."""
    P = torch.zeros_like(Q)
    P[:, 0] = 1.0
    return P


# --- Rounds ---


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "expected"),
    [
        (100, 256, 30),
        (100, 1, 30),
        (7680, 256, 30),
        (7681, 256, 31),
        (60_000, 256, 235),
        (1_000_000, 256, 1000),
    ],
)
def test_the_automatic_interval_is_an_epoch_within_bounds(n_rows, batch_size, expected):
    assert auto_update_interval(n_rows, batch_size) == expected


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_round_lowers_the_divergence_from_its_target(workers, optimizer):
    problem = Problem()
    log_Q = problem.log_Q(problem.centers)
    P = target_distribution(log_Q.exp(), problem.weight)
    before = float(kl_divergence(P, log_Q).mean())

    settings = OptimizerSettings(optimizer, 0.01, 0.9)
    result = problem.train(workers, max_iter=1, optimizer=settings)
    after = float(kl_divergence(P, problem.log_Q(result.centers)).mean())
    assert after < 0.97 * before
    assert result.kl_curve == [pytest.approx(after, rel=1e-4)]
    assert not problem.network.training


def test_encoder_and_centers_are_trained(workers):
    problem = Problem()
    weights, centers = weights_of(problem.network), problem.centers.copy()
    result = problem.train(workers)
    changed = differ(weights, weights_of(problem.network))
    assert changed == {name for name in weights if name.startswith("encoder")}
    assert (result.centers != centers).all()
    assert result.centers.dtype == np.float64
    # The given centres are not written to.
    np.testing.assert_array_equal(problem.centers, centers)


def test_the_target_is_computed_anew_after_every_so_many_steps(workers, monkeypatch):
    events, assignments = [], []
    step = ShardedOptimizer.step

    def recorded_step(*args):
        events.append("step")
        return step(*args)

    def recorded_target(Q, weight):
        events.append("target")
        assignments.append(Q)
        return target_distribution(Q, weight)

    monkeypatch.setattr(_self_training.ShardedOptimizer, "step", recorded_step)
    problem = Problem()
    problem.train(workers, target_distribution=recorded_target, update_interval=7, max_iter=3)
    assert events == (["target"] + ["step"] * 7) * 3

    # What the target is computed from is the assignment at that moment.
    for n_rounds, Q in enumerate(assignments):
        so_far = Problem()
        centers = so_far.train(workers, update_interval=7, max_iter=n_rounds).centers
        torch.testing.assert_close(so_far.log_Q(centers).exp(), Q)


def test_a_target_that_is_a_function_does_the_same_as_the_named_one(workers):
    named, called = Problem(), Problem()
    first = named.train(workers)
    second = called.train(workers, target_distribution=target_distribution)
    assert first.kl_curve == second.kl_curve
    np.testing.assert_array_equal(first.centers, second.centers)


def test_a_target_function_may_overwrite_what_it_is_given_and_return_an_array(workers):
    def careless(Q, weight):
        P = target_distribution(Q, weight).numpy()
        Q.zero_(), weight.zero_()
        return P

    expected = Problem().train(workers)
    assert Problem().train(workers, target_distribution=careless).kl_curve == expected.kl_curve


def test_training_is_reproducible_and_depends_on_the_seed(workers):
    global_state = torch.get_rng_state()
    first, again, other = (Problem().train(workers, seed=seed).centers for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.equal(torch.get_rng_state(), global_state)


# --- The end ---


def test_training_ends_when_the_labels_settle(workers):
    result = Problem().train(workers, tol=1.1, max_iter=50)
    assert result.converged
    assert len(result.kl_curve) == len(result.label_change_curve) == 1


def test_training_ends_with_the_first_change_below_tol(workers):
    result = Problem().train(workers, tol=1e-9, max_iter=50)
    assert result.converged
    assert result.label_change_curve[-1] == 0.0
    assert all(change > 0 for change in result.label_change_curve[:-1])


def test_training_ends_after_max_iter_rounds_otherwise(workers):
    result = Problem().train(workers, tol=0.0, max_iter=3)
    assert not result.converged
    assert len(result.kl_curve) == len(result.label_change_curve) == 3
    assert result.setbacks == []


def test_without_rounds_nothing_is_trained(workers):
    problem = Problem()
    weights = weights_of(problem.network)
    result = problem.train(workers, max_iter=0)
    assert not differ(weights, weights_of(problem.network))
    np.testing.assert_array_equal(result.centers, problem.centers)
    assert (result.kl_curve, result.label_change_curve, result.converged) == ([], [], False)


def test_label_changes_are_the_weighted_share_of_changed_labels(workers):
    problem = Problem()
    # Centres away from the groups, so that labels change.
    problem.centers = problem.centers[[0, 0, 1]] + 0.1 * np.arange(6).reshape(3, 2)
    problem.weight = torch.linspace(0.1, 3.0, 90)
    before = problem.log_Q(problem.centers).argmax(dim=1)
    result = problem.train(workers, max_iter=1, update_interval=60)
    changed = problem.log_Q(result.centers).argmax(dim=1) != before
    assert 0 < int(changed.sum()) < 90
    expected = float(problem.weight[changed].sum() / problem.weight.sum())
    assert result.label_change_curve == [pytest.approx(expected, rel=1e-5)]


# --- The loss ---


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("reconstruction_weight", [0.0, 1.0])
def test_the_decoder_is_trained_if_and_only_if_reconstruction_has_a_weight(
    workers, reconstruction_weight, batch_norm
):
    problem = Problem(ARCHITECTURE._replace(batch_norm=batch_norm))
    weights = weights_of(problem.network)
    problem.train(workers, reconstruction_weight=reconstruction_weight, max_iter=1)
    changed = differ(weights, weights_of(problem.network))
    in_decoder = {name for name in weights if name.startswith("decoder")}
    assert changed & in_decoder == (in_decoder if reconstruction_weight else set())


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_the_reconstruction_weight_scales_the_steps_of_the_decoder(workers, factor):
    def moved(reconstruction_weight):
        problem = Problem()
        before = weights_of(problem.network)["decoder.1.0.bias"]
        result = problem.train(
            workers,
            reconstruction_weight=reconstruction_weight,
            max_iter=1,
            update_interval=1,
            optimizer=OptimizerSettings("sgd", 0.001, 0.0),
        )
        assert not result.setbacks
        return weights_of(problem.network)["decoder.1.0.bias"] - before

    assert moved(1.0).all()
    np.testing.assert_allclose(moved(factor), factor * moved(1.0), rtol=1e-3, atol=1e-6)


def test_reconstruction_keeps_the_embedding_decodable(workers):
    def error(reconstruction_weight):
        problem = Problem()
        problem.train(workers, reconstruction_weight=reconstruction_weight, max_iter=10)
        with torch.no_grad():
            return float((problem.network.decoder(problem.embedding()) - problem.X).square().mean())

    assert error(1.0) < 0.8 * error(0.0)


def test_rows_of_almost_no_weight_do_not_move_the_model(workers):
    def centers(group):
        problem = Problem()
        problem.X[:30] = 0.0 if group == "zeros" else 1.0
        problem.weight[:30] = 1e-12
        problem.centers = np.array([[0.0, 0.0], [1.0, 1.0], [-1.0, 1.0]])
        return problem.train(workers, max_iter=2).centers

    np.testing.assert_allclose(centers("zeros"), centers("ones"), atol=1e-5)


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_the_clustering_weight_scales_the_steps_of_plain_descent(workers, factor):
    def moved(**settings):
        problem = Problem()
        result = problem.train(workers, max_iter=1, update_interval=1, **settings)
        return result.centers - problem.centers

    optimizer = OptimizerSettings("sgd", 0.01, 0.0)
    np.testing.assert_allclose(
        moved(clustering_weight=factor, optimizer=optimizer),
        factor * moved(optimizer=optimizer),
        rtol=1e-2,
        atol=1e-6,
    )


# --- Targets that are none ---


def not_normalised(Q, weight):
    return 1.01 * Q


def negative(Q, weight):
    P = torch.zeros_like(Q)
    P[:, 0], P[:, 1] = 2.0, -1.0
    return P


@pytest.mark.parametrize(
    "target",
    [
        lambda Q, weight: Q[:, :2] / Q[:, :2].sum(dim=1, keepdim=True),
        lambda Q, weight: Q[:-1],
        lambda Q, weight: Q[0],
        lambda Q, weight: Q * float("nan"),
        not_normalised,
        negative,
    ],
)
def test_a_target_that_is_no_distribution_is_refused_by_name(workers, target):
    with pytest.raises(ValueError, match="'target_distribution' parameter .*shape .90, 3."):
        Problem().train(workers, target_distribution=target)


# --- Rounds that are undone ---


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_rounds_that_make_weights_infinite_are_undone(workers, optimizer, batch_norm):
    problem = Problem(ARCHITECTURE._replace(batch_norm=batch_norm))
    weights = weights_of(problem.network)
    result = problem.train(workers, optimizer=OptimizerSettings(optimizer, 1e38, 0.9))
    assert len(result.setbacks) == 3
    assert (result.kl_curve, result.converged) == ([], False)
    assert not differ(weights, weights_of(problem.network))
    np.testing.assert_array_equal(result.centers, problem.centers.astype(np.float32))


def test_rounds_in_which_clusters_die_are_undone(workers):
    problem = Problem()
    n_before = len(problem.log_Q(problem.centers).argmax(dim=1).unique())
    result = problem.train(
        workers, target_distribution=all_to_the_first, optimizer=OptimizerSettings("adam", 10, 0.9)
    )
    assert n_before == N_CLUSTERS
    assert any("non-empty clusters fell from 3 to" in setback for setback in result.setbacks)
    log_Q = problem.log_Q(result.centers)
    assert torch.isfinite(log_Q).all()
    assert len(log_Q.argmax(dim=1).unique()) == n_before


def test_after_an_undone_round_training_goes_on_from_before_it_with_a_tenth_of_the_rate(
    workers, monkeypatch
):
    # The first round is called void, whatever it was.
    verdicts = iter(["no good", None, None])
    monkeypatch.setattr(_self_training, "_degeneration", lambda *_: next(verdicts))
    starts, rates = [], []
    step = ShardedOptimizer.step

    def recorded_step(self, loss, batch, learning_rate):
        starts.append(self.weights.clone())
        rates.append(learning_rate)
        return step(self, loss, batch, learning_rate)

    monkeypatch.setattr(_self_training.ShardedOptimizer, "step", recorded_step)
    result = Problem().train(workers, max_iter=2, update_interval=5)
    assert result.setbacks == ["no good"]
    assert len(result.kl_curve) == 2
    assert rates == pytest.approx([0.01] * 5 + [0.001] * 10)
    assert torch.equal(starts[5], starts[0])
    assert not torch.equal(starts[4], starts[0])


def test_after_three_undone_rounds_training_ends(workers, monkeypatch):
    verdicts = iter(["first", None, "second", "third"])
    monkeypatch.setattr(_self_training, "_degeneration", lambda *_: next(verdicts))
    result = Problem().train(workers, max_iter=50)
    assert result.setbacks == ["first", "second", "third"]
    assert len(result.kl_curve) == 1
    assert not result.converged


# --- Networks ---


def test_running_statistics_follow_the_training(workers):
    problem = Problem(ARCHITECTURE._replace(batch_norm=True))
    before = weights_of(problem.network)
    result = problem.train(workers, max_iter=1, update_interval=5)
    assert not result.setbacks
    after = weights_of(problem.network)
    tracked = "encoder.0.1.num_batches_tracked"
    assert after[tracked] - before[tracked] == 5
    assert (after["encoder.0.1.running_mean"] != before["encoder.0.1.running_mean"]).any()


def test_dropout_is_off_where_labels_and_targets_come_from(workers):
    class WithDropout(nn.Module):
        def __init__(self, n_features, embedding_dim):
            super().__init__()
            self.encoder = nn.Sequential(nn.Dropout(0.5), nn.Linear(n_features, embedding_dim))
            self.decoder = nn.Linear(embedding_dim, n_features)

    given = []

    def recorded_target(Q, weight):
        given.append(Q)
        return target_distribution(Q, weight)

    problem = Problem(ARCHITECTURE._replace(factory=WithDropout))
    expected = problem.log_Q(problem.centers).exp()
    result = problem.train(workers, max_iter=1, target_distribution=recorded_target)
    torch.testing.assert_close(given[0], expected)
    P = target_distribution(expected, problem.weight)
    after = float(kl_divergence(P, problem.log_Q(result.centers)).mean())
    assert result.kl_curve == [pytest.approx(after, rel=1e-4)]


def test_verbose_prints_a_line_for_each_round(workers, capsys):
    result = Problem().train(workers, Task(verbose=1))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(result.kl_curve) == 4
    assert lines[-1].startswith(
        f"[DECClustering] self-training: round 4/4, KL {result.kl_curve[-1]:.6f}"
    )
    Problem().train(workers)
    assert capsys.readouterr().out == ""


# --- Taking over a partition ---


def aligned(network, X, labels, workers, settings=SETTINGS, hoods=PLAIN):
    """Labels by the nearest centre after `align` from the means of the labels' rows."""
    with torch.no_grad():
        Z = network.encoder(X).numpy()
    centers = np.stack([Z[labels == k].mean(axis=0) for k in np.unique(labels)]).astype(float)
    weight = torch.ones(len(X))
    centers = align(network, centers, X, weight, labels, settings, workers, hoods=hoods)
    with torch.no_grad():
        log_Q = log_soft_assignment(network.encoder(X), torch.from_numpy(centers).float(), 1.0)
    return log_Q.argmax(dim=1).numpy()


def test_stripes_are_taken_over_whose_centres_are_close_together_in_a_wide_embedding(workers):
    X = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    labels = np.floor(X[:, 0]).astype(int) % 2
    network = ARCHITECTURE._replace(n_features=2, hidden_dims=(64, 64)).build(0)
    with torch.no_grad():  # training with neighbours leaves embeddings of this size
        network.encoder[-1][0].weight *= 1000.0
    # Distances in units of 1 give 0.65.
    assert (aligned(network, torch.from_numpy(X), labels, workers) == labels).mean() > 0.9


def test_a_partition_is_taken_over_with_its_smallest_cluster(workers):
    # Two rows of 602 are fewer than the share that may be wrong.
    for seed in range(10):
        X, labels = make_blobs([300, 300, 2], centers=[[-9, 0], [9, 0], [9, 4]], random_state=seed)
        network = ARCHITECTURE._replace(n_features=2, hidden_dims=(32,)).build(seed)
        found = aligned(network, torch.from_numpy(X.astype(np.float32)), labels, workers)
        assert (found == labels)[labels == 2].any()
        assert (found == labels).mean() >= 0.995


@pytest.mark.parametrize("seed", range(4))
def test_two_spirals_are_taken_over(workers, seed):
    # With the centres that are the means, seed 1 still has 3 % wrong after all rounds.
    random, labels = np.random.default_rng(seed), np.arange(400) % 2
    radius = 3.0 * np.pi * np.sqrt(random.uniform(0.04, 1.0, 400))
    angle = radius + np.pi * labels
    X = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    X = (X + 0.1 * random.normal(size=(400, 2))).astype(np.float32) / 5.0
    network = ARCHITECTURE._replace(n_features=2, hidden_dims=(64, 64)).build(seed)
    assert (aligned(network, torch.from_numpy(X), labels, workers) == labels).mean() >= 0.995


def test_centres_that_are_close_together_begin_apart():
    centers = torch.tensor([[0.0, 0.0], [0.3, 0.4], [10.0, 0.0]])
    pushed = _self_training._apart(centers, 2.0)
    torch.testing.assert_close(pushed[2], centers[2])
    difference = pushed[1] - pushed[0]
    torch.testing.assert_close(difference, 2.0 * torch.tensor([0.6, 0.8]), rtol=0.01, atol=0)
    torch.testing.assert_close(pushed[0] + pushed[1], centers[0] + centers[1])
    assert _self_training._apart(centers, 0.4) is centers
    many = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 10)))
    distances = torch.pdist(_self_training._apart(many, 8.0))
    assert torch.pdist(many).min() < 2.0
    assert distances.min() >= 7.9
    alike = torch.zeros(3, 2)
    for least in (1.0, 100.0):
        torch.testing.assert_close(_self_training._apart(alike, least), alike)
    assert len(_self_training._apart(many[:1], 8.0)) == 1


@pytest.mark.parametrize(("share_wrong", "n_pushed"), [(0.0, 0), (0.3, 1)])
def test_centres_begin_apart_only_where_rows_are_closest_to_others(
    workers, monkeypatch, share_wrong, n_pushed
):
    problem, pushed, apart = Problem(), [], _self_training._apart

    def spy(centers, least):
        pushed.append(least)
        return apart(centers, least)

    monkeypatch.setattr(_self_training, "_apart", spy)
    log_Q = problem.log_Q(problem.centers)
    labels = log_Q.argmax(dim=1).numpy()
    moved = np.random.default_rng(0).random(90) < share_wrong
    labels[moved] = (labels[moved] + 1) % N_CLUSTERS
    align(problem.network, problem.centers, problem.X, problem.weight, labels, SETTINGS, workers)
    assert len(pushed) == n_pushed


def test_rows_of_small_clusters_weigh_more_while_a_partition_is_taken_over(workers, monkeypatch):
    problem, weights, loss = Problem(), [], _self_training._loss
    labels = (np.arange(90) < 10).astype(int) + (np.arange(90) < 2)

    def spy(X, P, weight, *args, **kwargs):
        weights.append(weight)
        return loss(X, P, weight, *args, **kwargs)

    monkeypatch.setattr(_self_training, "_loss", spy)
    align(problem.network, problem.centers, problem.X, problem.weight, labels, SETTINGS, workers)
    [weight] = weights
    sizes = torch.tensor([80.0, 8.0, 2.0])[torch.from_numpy(labels)]
    torch.testing.assert_close(weight / weight[89], (80.0 / sizes) ** (1.0 / 3.0))


def test_evened_weights_come_to_what_they_did():
    P = torch.eye(3)[torch.tensor([0] * 64 + [1] * 8)]
    weight = torch.ones(72)
    weight[0] = 3.0
    evened = _self_training._evened(weight, P, ALONE)
    torch.testing.assert_close(evened.sum(), weight.sum())
    torch.testing.assert_close(evened[0], 3.0 * evened[1])
    torch.testing.assert_close(evened[71] / evened[1], torch.tensor((66.0 / 8.0) ** (1.0 / 3.0)))


class Followed:
    """Rounds that record their learning rates; shares of rows that are wrong before each."""

    def __init__(self, shares, progress=None):
        self.shares, self.progress, self.rates, self.said = iter(shares), progress or {}, [], []

    def run(self, loss, learning_rate, progress):
        self.rates.append(learning_rate)
        self.said.append(progress)

    def finish(self, progress):
        self.finished = progress

    def follow(self):
        _self_training._follow(self, None, lambda: next(self.shares))
        assert next(self.shares, None) is None
        return self.rates


FALLING = pytest.approx([0.02, 0.02 * 2 / 3, 0.02 / 3])


@pytest.mark.parametrize(
    ("shares", "n_held", "n_falls"),
    [
        ([0.0009], [0], 0),
        ([0.3, 0.1, 0.001], [2], 0),
        ([0.02, 0.02], [0], 1),
        ([0.021, 0.006, 0.001], [1], 1),
        ([0.01, 1.0, 0.3, 0.01, 0.0009], [0, 2], 2),
        ([0.01, 1.0, 0.0009], [0, 1], 1),
        (54 * [0.5], [53], 1),
        ([0.01, *51 * [1.0]], [0, 50], 2),
    ],
)
def test_the_learning_rate_falls_once_a_partition_is_roughly_taken_over(shares, n_held, n_falls):
    rounds = Followed(shares)
    rates = rounds.follow()
    for turn, n in enumerate(n_held):
        assert rates[:n] == n * [0.02]
        assert rates[n : n + 3] == (FALLING if turn < n_falls else [])
        rates = rates[n + 3 :]
    assert rates == []
    assert Followed([], rounds.finished).follow() == []


def shares_seen(rates):
    """How many shares of wrong rows are looked at before rounds with these learning rates."""
    return sum(rate == 0.02 for rate in rates)


@pytest.mark.parametrize("shares", [54 * [0.5], [0.5, 0.5, 0.01, 0.01], [0.01, 1.0, 0.5, 0.0009]])
def test_rounds_go_on_where_they_were(shares):
    rounds = Followed(shares)
    rates = rounds.follow()
    for k, progress in enumerate(rounds.said):
        left = shares[shares_seen(rates[:k]) :]
        assert Followed(left, progress).follow() == rates[k:]


@pytest.mark.parametrize("reconstruction_weight", [0.0, 1.0])
def test_a_partition_is_taken_over_on_the_components_that_the_network_was_trained_on(
    workers, monkeypatch, reconstruction_weight
):
    random = np.random.default_rng(0)
    labels = np.arange(300) % 2
    X = random.normal(size=(300, 120)).astype(np.float32) + 2.0 * labels[:, None].astype("f")
    hoods = Neighborhoods(50, 5).with_axes(X.__getitem__, np.arange(300), 0)
    architecture = ARCHITECTURE._replace(n_features=120, hidden_dims=(16,))
    network = architecture.build(0)
    widths, loss = set(), _self_training._loss

    def spy(X, *args, **kwargs):
        widths.add(X.shape[1])
        return loss(X, *args, **kwargs)

    monkeypatch.setattr(_self_training, "_loss", spy)
    settings = replace(SETTINGS, reconstruction_weight=reconstruction_weight)
    found = aligned(network, torch.from_numpy(X), labels, workers, settings, hoods)
    assert (found == labels).mean() > 0.99
    assert widths == ({120} if reconstruction_weight else {100})
    weight = first_linear(network.encoder).weight.detach().numpy()
    outside = weight - weight @ hoods.axes.T @ hoods.axes
    assert (np.abs(outside).max() < 1e-4) == (not reconstruction_weight)
