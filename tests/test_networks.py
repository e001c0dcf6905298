import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from skdec._backend import LocalRandomness, draws_nothing, random_stream
from skdec._networks import (
    ACTIVATIONS,
    AlignedLinear,
    Architecture,
    auto_embedding_dim,
    auto_hidden_dims,
    by_columns,
    forward,
    weights_of,
)

BUILT_IN = Architecture(
    n_features=7,
    embedding_dim=2,
    hidden_dims=(5, 11),
    activation="relu",
    batch_norm=False,
    weight_init="he",
)


def from_factory(factory, n_features=8, embedding_dim=2):
    return BUILT_IN._replace(n_features=n_features, embedding_dim=embedding_dim, factory=factory)


class Halves(nn.Module):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder


def linear(n_features, embedding_dim):
    return Halves(
        nn.Sequential(nn.Linear(n_features, 6), nn.Dropout(0.5), nn.Linear(6, embedding_dim)),
        nn.Linear(embedding_dim, n_features),
    )


def convolutional(n_features, embedding_dim):
    return Halves(
        nn.Sequential(
            nn.Unflatten(1, (1, n_features)),
            nn.Conv1d(1, 3, 3, padding=1),
            nn.BatchNorm1d(3),
            nn.Flatten(),
            nn.Linear(3 * n_features, embedding_dim),
        ),
        nn.Linear(embedding_dim, n_features),
    )


class LastState(nn.Module):
    def __init__(self, n_out):
        super().__init__()
        self.lstm = nn.LSTM(2, n_out, batch_first=True)

    def forward(self, x):
        return self.lstm(x.reshape(len(x), -1, 2))[0][:, -1]


def recurrent(n_features, embedding_dim):
    return Halves(LastState(embedding_dim), nn.Linear(embedding_dim, n_features))


FACTORIES = [linear, convolutional, recurrent]
ARCHITECTURES = [BUILT_IN, BUILT_IN._replace(weight_init=0.1), *map(from_factory, FACTORIES)]


def values_of(module):
    return torch.cat([value.reshape(-1).double() for value in module.state_dict().values()])


def x_for(architecture, n_rows=6):
    return torch.randn(n_rows, architecture.n_features, generator=random_stream(5))


# --- Sizes ---


def test_widths_grow_with_the_rows_up_to_384_and_256():
    numbers = [1, 2, 10, 100, 1000, 1354, 1355, 70_000, 10**7]
    widths = [auto_hidden_dims(n_rows) for n_rows in numbers]
    assert widths == sorted(widths)
    assert all(dims == (384, 256, 256, 256) for dims in widths[-3:])
    assert widths[0] == (16, 16, 16, 16) and widths[3] == (112, 112, 112, 112)
    assert widths[5] < widths[-1]


def test_the_automatic_embedding_has_ten_dimensions():
    assert auto_embedding_dim() == 10


def linear_shapes(half):
    return [
        (layer.in_features, layer.out_features)
        for layer in half.modules()
        if isinstance(layer, nn.Linear)
    ]


@pytest.mark.parametrize("hidden_dims", [(), (5,), (5, 11, 3)])
def test_the_decoder_mirrors_the_encoder(hidden_dims):
    module = BUILT_IN._replace(hidden_dims=hidden_dims).build(0)
    widths = [7, *hidden_dims, 2]
    shapes = linear_shapes(module.encoder)
    assert shapes == list(zip(widths[:-1], widths[1:], strict=True))
    assert linear_shapes(module.decoder) == [shape[::-1] for shape in shapes[::-1]]
    assert len(module.encoder) == len(module.decoder) == len(shapes)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_hidden_layers_are_activated_and_the_ends_are_linear(activation, batch_norm):
    module = BUILT_IN._replace(activation=activation, batch_norm=batch_norm).build(0)
    hidden = [AlignedLinear, nn.BatchNorm1d, ACTIVATIONS[activation]]
    if not batch_norm:
        hidden.remove(nn.BatchNorm1d)
    for half in (module.encoder, module.decoder):
        kinds = [[type(layer) for layer in block] for block in half]
        assert kinds == [hidden, hidden, [AlignedLinear]]
    Z = module.encoder(x_for(BUILT_IN))
    assert Z.shape == (6, 2) and module.decoder(Z).shape == (6, 7)
    assert torch.isfinite(module.decoder(Z)).all()


# --- Weights ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_depend_on_the_seed_alone(architecture):
    first, again, other = (values_of(architecture.build(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_building_leaves_the_global_generator_alone(architecture):
    before = torch.get_rng_state()
    architecture.build(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_number_for_the_initial_weights_is_their_standard_deviation():
    wide = BUILT_IN._replace(n_features=200, hidden_dims=(300,), weight_init=0.01).build(0)
    for layer in (wide.encoder[0][0], wide.decoder[-1][0]):
        assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
        assert float(layer.weight.detach().mean()) == pytest.approx(0.0, abs=2e-4)
        # Normal, not uniform: a uniform law ends at sqrt(3) standard deviations.
        assert float(layer.weight.detach().abs().max()) > 0.03
        assert not layer.bias.any()


def test_he_initialisation_keeps_the_size_of_relu_layers():
    wide = BUILT_IN._replace(n_features=200, hidden_dims=(300,)).build(0)
    layer = wide.encoder[0][0]
    assert float(layer.weight.detach().std()) == pytest.approx(np.sqrt(2 / 200), rel=0.02)
    assert float(layer.weight.detach().abs().max()) <= np.sqrt(6 / 200)
    assert not layer.bias.any()


@pytest.mark.parametrize("architecture", [BUILT_IN._replace(batch_norm=True), *ARCHITECTURES])
def test_loaded_weights_give_the_same_outputs(architecture):
    module = by_columns(architecture.build(3))
    x = x_for(architecture)
    module.train()
    module.decoder(module.encoder(x))  # moves running statistics, if any
    module.eval()
    weights = weights_of(module)
    for array in weights.values():
        array.flags.writeable = False
    loaded = architecture.load(weights, "cpu")
    assert not loaded.training
    for name, array in weights_of(loaded).items():
        np.testing.assert_array_equal(array, weights[name])
    with torch.no_grad():
        Z = module.encoder(x)
        assert torch.equal(loaded.encoder(x), Z)
        assert torch.equal(loaded.decoder(Z), module.decoder(Z))


def test_weights_of_own_layers_are_loaded_by_columns_and_those_of_users_networks_as_they_are():
    for architecture in (BUILT_IN, *ARCHITECTURES):
        loaded = architecture.load(weights_of(architecture.build(0)), "cpu")
        for name, value in loaded.named_parameters():
            own = architecture.factory is None
            assert (value.T if own and value.ndim == 2 else value).is_contiguous(), name


def test_weights_are_arrays_of_their_own():
    module = BUILT_IN.build(0)
    weights = weights_of(module)
    assert set(weights) == {name for name, _ in module.named_parameters()}
    loaded = BUILT_IN.load(weights, "cpu")
    name, array = next(iter(weights.items()))
    before = array.copy()
    for holder in (module, loaded):
        with torch.no_grad():
            holder.get_parameter(name).add_(1.0)
        np.testing.assert_array_equal(array, before)


# --- A user's network ---


def test_the_factory_is_called_with_the_widths():
    calls = []

    def factory(n_features, embedding_dim):
        calls.append((n_features, embedding_dim))
        return linear(n_features, embedding_dim)

    from_factory(factory, 9, 3).build(0)
    assert calls == [(9, 3)]


def test_weights_that_the_factory_gives_become_float32():
    def with_double_weight(n_features, embedding_dim):
        module = linear(n_features, embedding_dim)
        module.extra = nn.Linear(2, 2).double()
        return module

    module = from_factory(with_double_weight).build(0)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


def lacks_encoder(n_features, embedding_dim):
    module = nn.Module()
    module.decoder = nn.Linear(embedding_dim, n_features)
    return module


class NotAModule:
    def __init__(self, n_features, embedding_dim):
        self.encoder = nn.Linear(n_features, embedding_dim)
        self.decoder = nn.Linear(embedding_dim, n_features)


class MethodsForSubmodules(nn.Module):
    def __init__(self, n_features, embedding_dim):
        super().__init__()
        self.there = nn.Linear(n_features, embedding_dim)
        self.back = nn.Linear(embedding_dim, n_features)

    def encoder(self, x):
        return self.there(x)

    def decoder(self, z):
        return self.back(z)


@pytest.mark.parametrize(
    "factory", [lambda n, k: None, lacks_encoder, NotAModule, MethodsForSubmodules]
)
def test_what_is_no_autoencoder_is_refused_by_name(factory):
    with pytest.raises(TypeError, match="'autoencoder' parameter.*'encoder' and 'decoder'"):
        from_factory(factory).build(0)


@pytest.mark.parametrize(
    ("factory", "part"),
    [
        (lambda n, k: Halves(nn.Linear(n, k + 1), nn.Linear(k, n)), "encoder"),
        (lambda n, k: Halves(nn.Linear(n, k), nn.Linear(k, n - 1)), "decoder"),
        (lambda n, k: Halves(nn.Linear(n, k), nn.Linear(k, 1)), "decoder"),
    ],
)
def test_wrong_widths_are_refused_by_name(factory, part):
    with pytest.raises(ValueError, match=f"'autoencoder' parameter.*{part}.*expected"):
        from_factory(factory).build(0)


# --- Application ---


def test_apply_computes_in_the_precision_of_the_weights_and_returns_float32():
    layer = BUILT_IN.build(0).encoder
    x = x_for(BUILT_IN)
    exact = layer(x)
    rounded = forward(layer.to(torch.bfloat16), x)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, layer(x.bfloat16()).float())
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1)
    assert torch.equal(forward(nn.Tanh(), x), x.tanh())


# --- Random numbers from a local generator ---

x = torch.full((40,), 0.5)


LSTM = nn.LSTM(2, 3, num_layers=2, dropout=0.5)

DRAWS = {
    "rand": lambda: torch.rand(40),
    "randn": lambda: torch.randn(40),
    "randperm": lambda: torch.randperm(40),
    "randint": lambda: torch.randint(1000, (40,)),
    "randint from low": lambda: torch.randint(1000, 2000, (40,)),
    "rand_like": lambda: torch.rand_like(x),
    "randn_like": lambda: torch.randn_like(x),
    "randint_like": lambda: torch.randint_like(x, 1000),
    "randint_like from low": lambda: torch.randint_like(x, 1000, 2000),
    "bernoulli": lambda: torch.bernoulli(x),
    "normal": lambda: torch.normal(0.0, 1.0, (40,)),
    "normal with tensors": lambda: torch.normal(x, 1.0),
    "multinomial": lambda: torch.multinomial(x, 10),
    "uniform_": lambda: torch.empty(40).uniform_(),
    "init": lambda: nn.init.kaiming_normal_(torch.empty(8, 5)),
    "dropout": lambda: functional.dropout(x),
    "dropout with gradient": lambda: functional.dropout(x.clone().requires_grad_()).detach(),
    "dropout in place": lambda: functional.dropout(torch.ones(40), inplace=True),
    "dropout of channels": lambda: functional.dropout1d(torch.ones(2, 20, 3)),
    "alpha dropout": lambda: functional.alpha_dropout(x, training=True),
    "dropout of an LSTM": lambda: LSTM(torch.ones(40, 2))[0].detach(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_operations_draw_from_the_local_generator(name):
    if "_like" in name and "generator" not in torch.ops.aten.rand_like.overloads():
        pytest.skip("this torch has no random operation that is like a tensor and seeded")
    draw = DRAWS[name]
    before = torch.get_rng_state()
    with LocalRandomness(random_stream(0)):
        first, second = draw(), draw()
    with LocalRandomness(random_stream(0)):
        again = draw()
    with LocalRandomness(random_stream(1)):
        other = draw()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_random_integers_stay_between_their_bounds():
    with LocalRandomness(random_stream(0)):
        drawn = torch.randint(5, (1000,))
    assert set(drawn.tolist()) == {0, 1, 2, 3, 4}


# Which of the two a dropout layer comes down to depends on the device.
@pytest.mark.parametrize(
    "dropout",
    [functional.dropout, lambda *args: torch.native_dropout(*args)[0]],
    ids=["dropout", "native_dropout"],
)
def test_dropout_drops_its_share_and_keeps_the_mean(dropout):
    ones = torch.ones(20_000, requires_grad=True)
    before = torch.get_rng_state()
    with LocalRandomness(random_stream(0)):
        dropped = dropout(ones, 0.25, True)
        kept_all = dropout(ones, 0.25, False)
        (gradient,) = torch.autograd.grad(dropped.sum(), ones)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(kept_all, ones)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(dropped.detach().unique(), torch.tensor([0.0, 4 / 3]))
    torch.testing.assert_close(gradient, dropped.detach())


def test_attention_without_dropout_needs_no_random_numbers():
    query = torch.ones(1, 2, 4, 8, requires_grad=True)
    expected = functional.scaled_dot_product_attention(query, query, query)
    with LocalRandomness(random_stream(0)):
        computed = functional.scaled_dot_product_attention(query, query, query)
    torch.testing.assert_close(computed, expected)


def test_an_operation_that_takes_no_generator_is_refused():
    heads = torch.ones(1, 2, 4, 8)
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with LocalRandomness(random_stream(0)):
        with pytest.raises(NotImplementedError, match="'autoencoder' draws random numbers"):
            attention(heads, heads, heads, dropout_p=0.5)


def test_only_networks_of_known_layers_are_taken_to_draw_nothing():
    assert draws_nothing(BUILT_IN._replace(batch_norm=True).build(0))
    assert not draws_nothing(from_factory(linear).build(0))
    assert not draws_nothing(nn.Sequential(nn.Linear(2, 2), nn.RReLU()))
