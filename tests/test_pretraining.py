from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

import skdec._pretraining
from skdec import _backend
from skdec._backend import resolve_precision
from skdec._callbacks import Task
from skdec._hyperplanes import nearest_by_hyperplanes
from skdec._neighborhoods import PLAIN, Neighborhoods
from skdec._neighbors import nearest_neighbors
from skdec._networks import Architecture, weights_of
from skdec._objectives import RECONSTRUCTION_LOSSES, mean_squared_error
from skdec._optimization import OptimizerSettings
from skdec._pretraining import (
    PretrainingSettings,
    _corrupt,
    _neighbors_in_the_input,
    _train_decoder,
    _train_pair,
    _Training,
    auto_neighbor_steps,
    auto_steps,
    pretrain,
    train_decoder,
)
from skdec._threads import Workers

N_ROWS, N_FEATURES = 60, 5

ARCHITECTURE = Architecture(
    n_features=N_FEATURES,
    embedding_dim=2,
    hidden_dims=(8, 6),
    activation="tanh",
    batch_norm=False,
    weight_init="he",
)

SETTINGS = PretrainingSettings(
    stages="end-to-end",
    with_decoder=False,
    layerwise_steps=20,
    steps=60,
    neighbor_steps=20,
    neighbor_learning_rate=0.002,
    reconstruction_loss="mse",
    corruption=0.2,
    optimizer=OptimizerSettings("adam", 0.01, 0.9, "cosine"),
    batch_size=20,
    precision="float32",
    device="cpu",
    seed=0,
)


def rows(n_rows=N_ROWS):
    return np.random.default_rng(0).normal(size=(n_rows, N_FEATURES)).astype(np.float32)


def run(X=None, weight=None, architecture=ARCHITECTURE, n_workers=1, **settings):
    X = rows() if X is None else X
    weight = np.ones(len(X)) if weight is None else weight
    settings = replace(SETTINGS, **settings)
    X, weight = torch.from_numpy(X), torch.from_numpy(weight).float()
    return pretrain(X, weight, architecture, settings, n_workers=n_workers)


def assert_same_weights(some, others):
    assert set(some) == set(others)
    for name in some:
        np.testing.assert_array_equal(some[name], others[name])


def differ(some, others):
    return {name for name in some if not np.array_equal(some[name], others[name])}


def reconstruction_errors(weights, X, architecture=ARCHITECTURE):
    module = architecture.load(weights, "cpu")
    x = torch.from_numpy(X)
    with torch.no_grad():
        return mean_squared_error(module.decoder(module.encoder(x)), x).numpy()


def training(X, workers, **settings):
    weight = torch.ones(len(X))
    settings = replace(SETTINGS, **settings)
    return _Training(torch.from_numpy(X), weight, settings, workers, torch.float32)


# --- End to end ---


def test_automatic_steps_grow_with_the_square_root_of_the_rows():
    assert [auto_steps(n_rows) for n_rows in (1, 100, 10_000)] == [8, 80, 800]
    assert [auto_neighbor_steps(n_rows) for n_rows in (1, 100, 10_000)] == [7, 70, 700]


def test_training_lowers_the_loss():
    X = rows()
    pretrained = run(X)
    untrained = weights_of(ARCHITECTURE.build(SETTINGS.seed))
    before, after = (reconstruction_errors(w, X).mean() for w in (untrained, pretrained.weights))
    assert after < 0.7 * before
    assert pretrained.loss_curve[-1] < 0.7 * pretrained.loss_curve[0]
    assert pretrained.loss_curve[-1] == pytest.approx(after, rel=0.05)
    assert pretrained.layerwise_loss_curves == []


@pytest.mark.parametrize(("steps", "n_epochs"), [(1, 1), (3, 1), (4, 2), (9, 3)])
def test_the_loss_curve_has_an_entry_for_each_epoch(steps, n_epochs):
    assert len(run(steps=steps).loss_curve) == n_epochs


def test_the_first_loss_is_that_of_the_initial_weights():
    X = rows()
    expected = reconstruction_errors(weights_of(ARCHITECTURE.build(SETTINGS.seed)), X).mean()
    curve = run(X, steps=1, batch_size=N_ROWS).loss_curve
    assert curve == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("stages", ["neighbors", "end-to-end", "layer-wise"])
def test_pretraining_is_a_function_of_its_arguments(stages):
    X, weight = rows(), np.random.default_rng(1).random(N_ROWS)
    X_before, weight_before = X.copy(), weight.copy()
    global_state = torch.get_rng_state()
    first = run(X, weight, stages=stages)
    again = run(X, weight, stages=stages, n_workers=2)
    assert_same_weights(first.weights, again.weights)
    assert first.loss_curve == again.loss_curve
    assert first.layerwise_loss_curves == again.layerwise_loss_curves
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(weight, weight_before)
    assert torch.equal(torch.get_rng_state(), global_state)


def test_another_seed_gives_other_weights():
    assert differ(run().weights, run(seed=1).weights) == set(run().weights)


def test_rows_of_almost_no_weight_are_not_learnt():
    X = np.r_[rows(), 3.0 + rows()[::-1]]
    light = np.r_[np.full(N_ROWS, 1e-6), np.full(N_ROWS, 2.0)]
    weighted, unweighted = run(X, light, steps=400), run(X, steps=400)
    of_light, of_all = (reconstruction_errors(p.weights, X) for p in (weighted, unweighted))
    assert of_light[N_ROWS:].mean() < 0.5 * of_light[:N_ROWS].mean()
    assert of_light[:N_ROWS].mean() > 2.0 * of_all[:N_ROWS].mean()


def test_batches_may_be_larger_than_the_data():
    pretrained = run(batch_size=1000, steps=3)
    assert len(pretrained.loss_curve) == 3


@pytest.mark.parametrize("reconstruction_loss", ["mse", "bce"])
def test_the_reconstruction_loss_is_the_named_one(reconstruction_loss):
    X = np.full((N_ROWS, N_FEATURES), 0.5, dtype=np.float32)
    architecture = ARCHITECTURE._replace(weight_init=1e-9)
    curve = run(
        X,
        architecture=architecture,
        steps=1,
        batch_size=N_ROWS,
        reconstruction_loss=reconstruction_loss,
    ).loss_curve
    # The decoder of a network with weights of about zero gives zeros.
    assert curve == [pytest.approx({"mse": 0.25, "bce": np.log(2)}[reconstruction_loss])]


@pytest.mark.parametrize("stages", ["neighbors", "end-to-end", "layer-wise"])
def test_divergence_is_an_error_that_names_the_learning_rate(stages):
    settings = OptimizerSettings("sgd", 1e30, 0.9)
    name = "neighbor_learning_rate" if stages == "neighbors" else "pretrain_learning_rate"
    with pytest.raises(ValueError, match=f"'{name}' .it is 1e.30."):
        run(optimizer=settings, neighbor_learning_rate=1e30, stages=stages)


def test_divergence_of_the_decoder_names_no_rate_that_is_not_its_own(workers, monkeypatch):
    monkeypatch.setattr("skdec._pretraining._AGAIN_OPTIMIZER", OptimizerSettings("sgd", 1e30, 0.9))
    module = ARCHITECTURE.build(0)
    by_steps = _Halves(module.encoder, nn.Sequential(module.decoder, nn.Identity()))
    settings = replace(SETTINGS, steps=100)
    x, Z = torch.from_numpy(rows()), torch.randn(N_ROWS, 2, generator=torch.Generator())
    with pytest.raises(ValueError, match="no longer finite. Rescale the input"):
        train_decoder(by_steps, x, Z, torch.ones(N_ROWS), settings, workers)


def test_bfloat16_is_for_wide_rows_and_networks_that_gain(monkeypatch):
    def resolved(precision, n_features, width=400):
        architecture = ARCHITECTURE._replace(n_features=n_features, hidden_dims=(width, width))
        module = architecture.build(0)
        return resolve_precision(precision, torch.device("cpu"), module, n_features)

    for has_units in (True, False):
        monkeypatch.setattr(_backend, "_multiplies_in_bfloat16", lambda _, has=has_units: has)
        assert resolved("auto", 101) == (torch.bfloat16 if has_units else torch.float32)
        assert resolved("auto", 100) == torch.float32  # whose values it would blur
        assert resolved("auto", 101, width=50) == torch.float32
        assert resolved("bfloat16", 2) == torch.bfloat16
        assert resolved("float32", 101) == torch.float32


def test_bfloat16_trains_weights_in_float32():
    X = rows()
    pretrained = run(X, precision="bfloat16")
    assert all(array.dtype == np.float32 for array in pretrained.weights.values())
    assert differ(pretrained.weights, run(X).weights)
    untrained = weights_of(ARCHITECTURE.build(SETTINGS.seed))
    errors = (reconstruction_errors(w, X).mean() for w in (pretrained.weights, untrained))
    assert next(errors) < 0.7 * next(errors)


def test_running_statistics_are_among_the_weights():
    architecture = ARCHITECTURE._replace(batch_norm=True)
    weights = run(architecture=architecture, steps=7).weights
    assert weights["encoder.0.1.num_batches_tracked"] == 7
    assert weights["encoder.0.1.running_mean"].any()


def test_a_linear_autoencoder_finds_the_principal_components():
    X = (np.random.default_rng(2).normal(size=(200, 6)) * [4.0, 3.0, 1.0, 1.0, 0.5, 0.5]) / 2.0
    X = np.float32(X - X.mean(axis=0))
    architecture = ARCHITECTURE._replace(n_features=6, hidden_dims=())
    optimizer = OptimizerSettings("adam", 0.02, 0.9, "cosine")
    weights = run(X, None, architecture, steps=600, batch_size=100, optimizer=optimizer).weights
    error = reconstruction_errors(weights, X, architecture).mean()
    best = np.square(np.linalg.svd(X, compute_uv=False)[2:]).sum() / X.size
    assert best <= error * 1.0001
    assert error < 1.03 * best


# --- Layer by layer ---


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_stage_trains_its_pair_of_layers_alone(workers, k):
    module = ARCHITECTURE.build(0)
    before = weights_of(module)
    _train_pair(k, module, training(rows(), workers))
    # Of three pairs: encoder block k and decoder block 2 - k.
    parts = (f"encoder.{k}.", f"decoder.{2 - k}.")
    assert differ(before, weights_of(module)) == {n for n in before if n.startswith(parts)}


def test_each_stage_has_a_loss_curve_and_all_layers_are_trained_in_the_end():
    pretrained = run(stages="layer-wise")
    assert [len(curve) for curve in pretrained.layerwise_loss_curves] == [7, 7, 7]
    assert all(curve[-1] < curve[0] for curve in pretrained.layerwise_loss_curves)
    assert len(pretrained.loss_curve) == 20


def test_layerwise_pretraining_helps_the_whole_autoencoder():
    assert run(stages="layer-wise").loss_curve[0] < 0.9 * run().loss_curve[0]


def test_a_stage_learns_what_the_layers_before_it_give(workers):
    X, module = rows(), ARCHITECTURE.build(0)
    settings = {"layerwise_steps": 1, "batch_size": N_ROWS, "corruption": 0.0}
    x = torch.from_numpy(X)
    with torch.no_grad():
        hidden = module.encoder[0](x)
        expected = mean_squared_error(module.decoder[1](module.encoder[1](hidden)), hidden).mean()
    curve = _train_pair(1, module, training(X, workers, **settings))
    assert curve == [pytest.approx(float(expected), rel=1e-5)]


def test_without_corruption_a_stage_is_a_plain_autoencoder(workers):
    architecture = ARCHITECTURE._replace(hidden_dims=())
    X, pair, whole = rows(), architecture.build(0), architecture.build(0)
    settings = {"corruption": 0.0, "layerwise_steps": 9}
    plain = training(X, workers, **settings)
    curve = _train_pair(0, pair, plain)
    assert curve == plain.run(whole, plain.reconstruction(), 9, "layer 1")
    assert_same_weights(weights_of(pair), weights_of(whole))


def test_corruption_makes_the_task_harder(workers):
    X = rows()
    settings = {"layerwise_steps": 1, "batch_size": N_ROWS}
    clean, corrupted = (
        _train_pair(0, ARCHITECTURE.build(0), training(X, workers, corruption=c, **settings))
        for c in (0.0, 0.9)
    )
    assert corrupted[0] > 1.5 * clean[0]


def test_corruption_drops_its_share_and_keeps_the_mean():
    generator = torch.Generator().manual_seed(0)
    corrupted = _corrupt(torch.ones(200, 100), 0.2, generator)
    torch.testing.assert_close(corrupted.unique(), torch.tensor([0.0, 1.25]))
    assert float(corrupted.mean()) == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(_corrupt(torch.ones(200, 100), 0.2, generator), corrupted)
    x = torch.randn(4, 3, generator=generator)
    assert torch.equal(_corrupt(x, 0.0, generator), x)


def test_cross_entropy_is_for_the_first_layer_alone(workers):
    X = np.random.default_rng(3).random((N_ROWS, N_FEATURES)).astype(np.float32)
    settings = {"layerwise_steps": 1, "batch_size": N_ROWS, "corruption": 0.0}
    named, squared = (
        [
            _train_pair(k, ARCHITECTURE.build(0), training(X, workers, **settings, **loss))[0]
            for k in (0, 1, 2)
        ]
        for loss in ({"reconstruction_loss": "bce"}, {"reconstruction_loss": "mse"})
    )
    assert named[0] != squared[0]
    assert named[1:] == squared[1:]


class _Halves(nn.Module):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


@pytest.mark.parametrize(
    "factory",
    [
        lambda n, k: _Halves(nn.Linear(n, k), nn.Linear(k, n)),
        lambda n, k: _Halves(
            nn.Sequential(nn.Linear(n, 4), nn.Linear(4, k)), nn.Sequential(nn.Linear(k, n))
        ),
    ],
)
def test_networks_without_mirrored_layers_cannot_be_trained_layer_by_layer(factory):
    architecture = ARCHITECTURE._replace(factory=factory)
    with pytest.raises(ValueError, match="pretraining='layer-wise' needs an 'autoencoder'"):
        run(architecture=architecture, stages="layer-wise")
    assert len(run(architecture=architecture, steps=3).loss_curve) == 1


# --- The decoder again ---


@pytest.mark.parametrize(
    ("loss", "stages", "n_targets"),
    [("mse", "neighbors", 100), ("mse", "end-to-end", 120), ("bce", "neighbors", None)],
)
@pytest.mark.parametrize("hidden_dims", [(), (6,)])
def test_a_decoder_that_was_not_trained_before_is_fitted_to_give_components(
    monkeypatch, loss, stages, n_targets, hidden_dims
):
    fitted, fit = [], skdec._pretraining.cross_validated

    def spy(*moments):
        fitted.append(moments[0].targets.shape[1])
        return fit(*moments)

    monkeypatch.setattr(skdec._pretraining, "cross_validated", spy)
    random = torch.Generator().manual_seed(0)
    Z = torch.randn(150, 2, generator=random)
    x = (Z @ torch.randn(2, 120, generator=random)).sigmoid()
    hoods = Neighborhoods(50, 5).with_axes(x.numpy().__getitem__, np.arange(150), seed=0)
    module = ARCHITECTURE._replace(n_features=120, hidden_dims=hidden_dims).build(0)
    settings = replace(SETTINGS, stages=stages, reconstruction_loss=loss, steps=4800)
    with Workers(1) as workers:
        curve = train_decoder(module, x, Z, torch.ones(150), settings, workers, hoods=hoods)
    assert fitted == ([n_targets] if n_targets else [])
    decoded = module.decoder(Z).detach()
    error = RECONSTRUCTION_LOSSES[loss](decoded, x).mean()
    assert float(error) == pytest.approx(curve[-1], rel=0.1 if loss == "bce" else 1e-3)
    assert curve[-1] < 0.25 * x.var() or loss == "bce"


def test_a_decoder_says_of_other_rows_what_it_can(workers):
    # Tight clusters and a few rows between them, as training leaves them, and curves.
    random = np.random.default_rng(0)
    tight = random.integers(3, size=400)
    Z = np.array([[0, 0], [90, 0], [0, 90]])[tight] + random.normal(size=(400, 2))
    Z[::40] += random.uniform(-60, 60, size=(10, 2))
    curves = np.c_[np.cos(Z / 30), np.sin(Z / 20), Z[:, :1] / 50]
    for noise, most in ((0.0, 0.05), (1.0, 1.05)):
        X = torch.from_numpy(np.float32(curves + noise * random.normal(size=curves.shape)))
        Z32 = torch.from_numpy(np.float32(Z))
        module = ARCHITECTURE._replace(hidden_dims=(64, 64), weight_init="he").build(0)
        train_decoder(module, X[:200], Z32[:200], torch.ones(200), SETTINGS, workers)
        error = (module.decoder(Z32[200:]).detach() - X[200:]).square().mean()
        assert float(error) < most * (noise**2 or float(X.var()))


@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_refitting_the_decoder_lowers_its_error_and_leaves_the_encoder_alone(n_workers, loss):
    module = ARCHITECTURE.build(0)
    before = weights_of(module)
    x = torch.from_numpy(rows())
    with torch.no_grad():
        Z = module.encoder(x)
    settings = replace(SETTINGS, steps=4800, reconstruction_loss=loss)
    with Workers(n_workers) as workers:
        train_decoder(module, x, Z, torch.ones(N_ROWS), settings, workers)
    after = weights_of(module)
    # By regression the layers before the last stay, but for the units of the embedding.
    trained = {"mse": ("decoder.0", "decoder.2"), "bce": ("decoder",)}[loss]
    changed = differ(before, after)
    assert changed and all(name.startswith(trained) for name in changed)
    assert loss == "mse" or len(changed) == len([n for n in before if n.startswith("decoder")])
    errors = (
        float(RECONSTRUCTION_LOSSES[loss](decoder(Z), x).mean().detach())
        for decoder in (module.decoder, ARCHITECTURE.build(0).decoder)
    )
    assert next(errors) < 0.8 * next(errors)


def test_refitting_the_decoder_follows_the_weights(workers):
    x = torch.from_numpy(np.r_[rows(), 3.0 + rows()[::-1]])
    errors = []
    for heavy in (slice(0, N_ROWS), slice(N_ROWS, None)):
        module = ARCHITECTURE.build(0)
        with torch.no_grad():
            Z = module.encoder(x)
        weight = torch.full((2 * N_ROWS,), 1e-6)
        weight[heavy] = 2.0
        # Nothing to tell the rows apart: the decoder learns the mean of the heavy ones.
        train_decoder(
            module, x, torch.zeros_like(Z), weight, replace(SETTINGS, steps=16000), workers
        )
        with torch.no_grad():
            decoded = module.decoder(torch.zeros(1, 2))
        errors.append(float((decoded - x[heavy].mean(dim=0)).abs().max()))
    assert max(errors) < 0.3


def test_refitting_ends_with_the_decoder_ready_to_be_applied(workers):
    module = ARCHITECTURE._replace(batch_norm=True).build(0).eval()
    x = torch.from_numpy(rows())
    train_decoder(module, x, torch.zeros(N_ROWS, 2), torch.ones(N_ROWS), SETTINGS, workers)
    assert not any(part.training for part in module.modules())


def test_a_decoder_without_weights_stays_as_it_is(workers):
    module = _Halves(nn.Linear(N_FEATURES, 2), nn.ZeroPad1d((0, N_FEATURES - 2)))
    x = torch.from_numpy(rows())
    train_decoder(module, x, torch.zeros(N_ROWS, 2), torch.ones(N_ROWS), SETTINGS, workers)
    assert torch.equal(module.decoder(torch.ones(1, 2)), torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]]))


def test_the_decoder_is_trained_alike_to_an_embedding_in_other_units(workers):
    x = torch.from_numpy(rows())
    results = []
    for stretched in (lambda Z: Z, lambda Z: 300.0 * Z + 70.0):
        module = ARCHITECTURE.build(0).eval()
        with torch.no_grad():
            Z = module.encoder(x)
        training = _Training(x, torch.ones(N_ROWS), SETTINGS, workers, torch.float32)
        _train_decoder(module, stretched(Z), training)
        with torch.no_grad():
            results.append(module.decoder(stretched(Z)))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        untrained = ARCHITECTURE.build(0).decoder(Z)
    assert not torch.allclose(results[0], untrained, atol=1e-2)


def test_the_units_of_the_embedding_go_into_a_decoder_of_the_user_too(workers):
    x = torch.from_numpy(rows())
    results = []
    for stretched in (lambda Z: Z, lambda Z: 300.0 * Z + 70.0):
        module = ARCHITECTURE.build(0).eval()
        own = nn.Sequential(nn.Sequential(nn.Sequential(*module.decoder)), nn.Identity())
        with torch.no_grad():
            Z = module.encoder(x)
        training = _Training(x, torch.ones(N_ROWS), SETTINGS, workers, torch.float32)
        _train_decoder(_Halves(module.encoder, own), stretched(Z), training)
        with torch.no_grad():
            results.append(own(stretched(Z)))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


def test_neighbors_are_those_of_wide_rows_by_components_of_some_of_them(workers):
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 6)) @ random.normal(size=(6, 80))
    noisy = torch.from_numpy(X + random.normal(size=X.shape) * 1e-3).float()
    some = noisy.numpy()[:100]
    hoods = Neighborhoods(50, 4, by_hyperplanes=True)
    hoods = hoods.with_axes(some.__getitem__, np.arange(100), seed=0)
    training = _Training(noisy, torch.ones(300), SETTINGS, workers, torch.float32, hoods=hoods)
    found = _neighbors_in_the_input(training)[1]
    directions = X - X[:100].mean(axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    nearest = np.argsort(cdist(directions, directions), axis=1)[:, 1:31]
    expected = nearest_by_hyperplanes(directions, nearest, 4, workers)
    assert np.mean([len({*a} & {*b}) / 4 for a, b in zip(found, expected, strict=True)]) > 0.95


def test_neighbors_need_not_agree_in_every_yes_and_no(workers):
    random = np.random.default_rng(1)
    X = np.hstack([random.normal(size=(500, 4)), 2 * (random.random((500, 3)) < 0.4)])
    x = torch.from_numpy(X.astype(np.float32))
    training = _Training(x, torch.ones(500), SETTINGS, workers, torch.float32)
    nearest = [np.argsort(cdist(X, X), axis=1)[:, 1:6], _neighbors_in_the_input(training)[1]]
    plain, found = ((X[some, 4:] == X[:, None, 4:]).all(axis=2).mean() for some in nearest)
    spread = nearest_neighbors(PLAIN.places(X.astype(np.float32), 0), 5, workers)
    only_spread = (X[spread, 4:] == X[:, None, 4:]).all(axis=2).mean()
    assert found < only_spread - 0.05 and only_spread < plain - 0.05


def test_nearest_rows_are_kept_where_they_are_exact(workers, monkeypatch):
    X = np.random.default_rng(0).normal(size=(200, N_FEATURES)) @ np.ones((N_FEATURES, 60))
    X = torch.from_numpy(X + np.random.default_rng(1).normal(size=X.shape)).float()
    architecture, weight = ARCHITECTURE._replace(n_features=60), torch.ones(200)
    hoods = Neighborhoods(20, 3, by_hyperplanes=True)
    hoods = hoods.with_axes(X.numpy().__getitem__, np.arange(200), seed=0)
    settings = replace(SETTINGS, stages="neighbors", neighbor_steps=1)
    places = hoods.places(hoods.components(X.numpy().__getitem__, np.arange(200)), 0)
    found = pretrain(X, weight, architecture, settings, 1, hoods).nearest
    np.testing.assert_array_equal(found, nearest_neighbors(places, 30, workers))
    monkeypatch.setattr(skdec._pretraining, "ALL_PAIRS_ROWS", 199)
    assert pretrain(X, weight, architecture, settings, 1, hoods).nearest is None
    assert run(stages="neighbors").nearest is None  # narrow rows: with some slack


def test_an_embedding_of_one_point_has_units_too(workers):
    module = ARCHITECTURE.build(0).eval()
    x = torch.from_numpy(rows())
    train_decoder(module, x, torch.full((N_ROWS, 2), 7.0), torch.ones(N_ROWS), SETTINGS, workers)
    with torch.no_grad():
        assert torch.isfinite(module.decoder(torch.full((1, 2), 7.0))).all()


def test_a_decoder_that_is_trained_by_steps_takes_a_sixth_of_them_or_100(workers, monkeypatch):
    n_steps = []
    monkeypatch.setattr(
        _Training, "run", lambda self, module, loss, steps, name: n_steps.append(steps)
    )
    module = ARCHITECTURE.build(0)
    x = torch.from_numpy(rows())
    for steps in (1, 40, 600, 601):
        settings = replace(SETTINGS, steps=steps, reconstruction_loss="bce")
        train_decoder(module, x, torch.zeros(N_ROWS, 2), torch.ones(N_ROWS), settings, workers)
    assert n_steps == [1, 40, 100, 101]


def test_verbose_prints_at_most_about_ten_lines_for_a_stage(capsys):
    settings = replace(SETTINGS, steps=300)
    X = torch.from_numpy(rows())
    pretrain(X, torch.ones(N_ROWS), ARCHITECTURE, settings, n_workers=1, task=Task(verbose=1))
    lines = capsys.readouterr().out.splitlines()
    assert 10 <= len(lines) <= 11
    assert lines[-1].startswith("[DECClustering] autoencoder: epoch 100/100, loss ")
    run(steps=30)
    assert capsys.readouterr().out == ""
