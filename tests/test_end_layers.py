"""What the first and the last linear layer of a network take back into their weights."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from quick import quick, wide_blobs
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import skdec._estimator as estimator_module
from skdec._end_layers import (
    first_linear,
    on_components,
    on_leading_components,
    to_leading_components,
)
from skdec._neighborhoods import Neighborhoods


def drawn(*layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*(make() for make in layers))


NETWORKS = {
    "one layer": lambda: drawn(lambda: nn.Linear(9, 4))[0],
    "a sequence": lambda: drawn(lambda: nn.Linear(9, 4), nn.Tanh, lambda: nn.Linear(4, 2)),
    "blocks": lambda: nn.Sequential(drawn(lambda: nn.Linear(9, 4), nn.Tanh), nn.Identity()),
}


def components(n_features=9, n_components=3):
    random = np.random.default_rng(1)
    axes, _ = np.linalg.qr(random.normal(size=(n_features, n_components)))
    return random.normal(size=n_features).astype(np.float32), axes.T.astype(np.float32)


def projected(x, mean, axes):
    return torch.from_numpy((x.numpy() - mean) @ axes.T)


def rows_of(mean, axes, n_rows=20):
    """Rows that differ from the mean along the axes alone."""
    coordinates = np.random.default_rng(2).normal(size=(n_rows, len(axes)))
    return torch.from_numpy(np.float32(mean + coordinates @ axes))


@pytest.mark.parametrize("name", NETWORKS)
def test_on_components_the_network_gives_the_same_for_rows_that_these_describe(name):
    network, (mean, axes) = NETWORKS[name](), components()
    x = rows_of(mean, axes)
    expected = network(x).detach()
    with on_components(network, mean, axes) as inside:
        found = inside(projected(x, mean, axes))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_learned_on_components_is_of_the_network_afterwards(name):
    network, (mean, axes) = NETWORKS[name](), components()
    layer, layers = first_linear(network), [type(part) for part in network.modules()]
    x = torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    before, z = network(x).detach(), projected(x, mean, axes)
    with on_components(network, mean, axes) as inside:
        trained = list(inside.parameters())
        assert (4, 3) in [tuple(p.shape) for p in trained]
        for gradient, p in zip(torch.autograd.grad(inside(z).sum(), trained), trained, strict=True):
            p.data -= 0.1 * gradient
        expected = inside(z).detach()
    assert first_linear(network) is layer
    assert [type(part) for part in network.modules()] == layers
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(x), before, atol=0.01)


def rows_and_axes(n_rows, n_features, n_components=50):
    """Random rows, and neighbourhoods with their axes."""
    X = torch.randn(n_rows, n_features, generator=torch.Generator().manual_seed(0))
    hoods = Neighborhoods(n_components if n_features > 100 else None, 5)
    return X, hoods.with_axes(X.numpy().__getitem__, np.arange(n_rows), seed=0)


@pytest.mark.parametrize(
    ("n_rows", "n_features", "n_components", "expected"),
    [(150, 100, 50, None), (150, 101, 50, 100), (250, 230, 200, 200), (101, 120, 50, 100)]
    + [(100, 120, 50, None)],
)
def test_training_with_neighbours_is_of_100_components_or_more(
    n_rows, n_features, n_components, expected
):
    X, hoods = rows_and_axes(n_rows, n_features, n_components)
    encoder = drawn(lambda: nn.Linear(n_features, 4))
    with on_leading_components(encoder, X, hoods) as (inside, rows):
        assert (rows is X) == (expected is None)
        n_inputs = expected or n_features
        assert rows.shape == (n_rows, n_inputs) and first_linear(inside).in_features == n_inputs
        if expected:
            spread = rows.var(dim=0)
            assert bool((spread[:-1] >= spread[1:] - 1e-6).all())
    assert first_linear(encoder).in_features == n_features


def test_a_network_that_begins_otherwise_is_trained_as_it_is():
    X, hoods = rows_and_axes(150, 120)
    for first in (
        lambda: nn.LayerNorm(120),
        lambda: nn.Linear(120, 4, bias=False),
        lambda: weight_norm(nn.Linear(120, 4)),
    ):
        encoder = drawn(first)
        with on_leading_components(encoder, X, hoods) as (inside, rows):
            assert inside is encoder and rows is X


@pytest.mark.parametrize(("pretraining", "n_axes"), [("neighbors", 100), ("end-to-end", None)])
def test_partitions_are_taken_over_on_components_if_these_were_trained_on(
    monkeypatch, pretraining, n_axes
):
    seen, align = [], estimator_module.align

    def spy(*args):
        axes = args[-1].axes
        seen.append(None if axes is None else len(axes))
        return align(*args)

    monkeypatch.setattr(estimator_module, "align", spy)
    quick(3, pretraining=pretraining, init="auto", max_iter=0).fit(wide_blobs()[0])
    assert seen == [n_axes]


def test_the_decoder_of_a_fit_is_trained_to_give_components(monkeypatch):
    seen, train = [], estimator_module.train_decoder

    def spy(*args):
        seen.append(args[-1].axes)
        return train(*args)

    monkeypatch.setattr(estimator_module, "train_decoder", spy)
    X = wide_blobs()[0]
    model = quick(3, pretraining="neighbors", init="auto", max_iter=0).fit(X)
    ((n_axes, n_features),) = (axes.shape for axes in seen)
    assert n_axes == 100 and n_features == X.shape[1]
    # What it gives lies in the plane of these components.
    decoded = model.inverse_transform(model.transform(X)) - X.mean(axis=0)
    scale = np.abs(decoded).max()
    np.testing.assert_allclose(decoded @ seen[0].T @ seen[0], decoded, atol=1e-4 * scale)


DECODERS = {
    "one layer": lambda: drawn(lambda: nn.Linear(2, 120))[0],
    "a sequence": lambda: drawn(lambda: nn.Linear(2, 4), nn.Tanh, lambda: nn.Linear(4, 120)),
    "blocks": lambda: nn.Sequential(nn.Identity(), drawn(lambda: nn.Linear(2, 120))),
}


@pytest.mark.parametrize("name", DECODERS)
def test_what_a_decoder_learns_of_components_is_of_the_rows_afterwards(name):
    decoder, (X, hoods) = DECODERS[name](), rows_and_axes(150, 120)
    layers = [type(part) for part in decoder.modules()]
    z = torch.randn(150, 2, generator=torch.Generator().manual_seed(1))
    mean, axes = torch.from_numpy(hoods.mean), torch.from_numpy(hoods.axes)
    before = decoder(z).detach()
    with to_leading_components(decoder, X, hoods) as (inside, target):
        torch.testing.assert_close(target.x, (X - mean) @ axes.mT, rtol=1e-4, atol=1e-5)
        given = inside(z).detach()
        torch.testing.assert_close(given, (before - mean) @ axes.mT, rtol=1e-4, atol=1e-5)
        for p in inside.parameters():
            p.data += 0.1
        given = inside(z).detach()
        errors = target.share * (given - target.x).square().mean(dim=1) + target.left
    assert [type(part) for part in decoder.modules()] == layers
    found = decoder(z).detach()
    torch.testing.assert_close(found, given @ axes + mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(errors, (found - X).square().mean(dim=1), rtol=1e-4, atol=1e-5)


def test_a_decoder_that_ends_otherwise_or_of_narrow_rows_gives_them_as_they_are():
    X, hoods = rows_and_axes(150, 120)
    narrow, plain = rows_and_axes(150, 100)
    for rows, neighborhoods, last in (
        (X, hoods, nn.Sequential(nn.Linear(2, 120), nn.Sigmoid())),
        (X, hoods, nn.Linear(2, 120, bias=False)),
        (X, hoods, nn.Linear(2, 120).requires_grad_(False)),
        (X, hoods, weight_norm(nn.Linear(2, 120))),
        (narrow, plain, nn.Linear(2, 100)),
    ):
        with to_leading_components(last, rows, neighborhoods) as (inside, target):
            assert inside is last and target.x is rows
            assert target.share == 1.0 and target.left is None


def test_a_fit_does_not_import_the_compiler_of_torch():
    # Two seconds, in which a small table is clustered.
    code = (
        "import sys\n"
        "from sklearn.datasets import load_iris\n"
        "from skdec import DECClustering\n"
        "DECClustering(3, random_state=0).fit(load_iris().data).predict(load_iris().data)\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
