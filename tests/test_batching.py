import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from quick import blobs, quick
from torch import nn

from skdec import _inference, _networks
from skdec._batching import (
    as_float64,
    in_blocks,
    in_tiles,
    minibatches,
    row_blocks,
    steps_per_epoch,
)
from skdec._inference import _TILE_ROWS, apply_to_rows
from skdec._networks import AlignedLinear, Architecture
from skdec._threads import Workers

counts = st.integers(1, 60)


def stream(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "expected"), [(10, 5, 2), (11, 5, 3), (1, 5, 1), (5, 5, 1)]
)
def test_steps_per_epoch_count_the_last_batch(n_rows, batch_size, expected):
    assert steps_per_epoch(n_rows, batch_size) == expected


@given(counts, counts, st.integers(1, 3))
def test_every_row_is_in_exactly_one_batch_of_each_epoch(n_rows, batch_size, n_epochs):
    per_epoch = steps_per_epoch(n_rows, batch_size)
    batches = list(minibatches(n_rows, batch_size, n_epochs * per_epoch, stream(0)))
    for epoch in range(n_epochs):
        rows = torch.cat(batches[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(rows.tolist()) == list(range(n_rows))


@given(counts, counts)
def test_sizes_of_batches_differ_by_one_at_most_and_keep_the_limit(n_rows, batch_size):
    sizes = {len(batch) for batch in minibatches(n_rows, batch_size, 70, stream(0))}
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size


@given(counts, counts, st.integers(0, 70))
def test_there_are_exactly_as_many_batches_as_steps(n_rows, batch_size, n_steps):
    assert len(list(minibatches(n_rows, batch_size, n_steps, stream(0)))) == n_steps


def test_batches_depend_on_the_generator_and_differ_between_epochs():
    first, again, other = (
        torch.stack(list(minibatches(40, 20, 4, stream(seed)))) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:2], first[2:])


def test_what_batches_have_of_a_row_is_drawn_for_each_epoch():
    def draw(rows, generator):
        return torch.stack([rows, torch.randint(1000, rows.shape, generator=generator)], dim=1)

    batches = torch.stack(list(minibatches(40, 20, 4, stream(0), draw)))
    assert batches.shape == (4, 20, 2)
    for epoch in (batches[:2], batches[2:]):
        assert torch.equal(epoch[..., 0].flatten().sort().values, torch.arange(40))
    assert len(batches[..., 1].unique()) > 60


def test_batches_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    list(minibatches(40, 20, 4, stream(0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n_rows", [1, 7, 8, 9, 24, 29])
@pytest.mark.parametrize("n_workers", [1, 3])
def test_tiles_give_what_the_function_gives(n_rows, n_workers):
    X = torch.randn(n_rows, 3, generator=stream(0))
    with Workers(n_workers) as workers:
        result = in_tiles(lambda x: x.cumsum(dim=1), X, workers, sizes=[3, 8])
    assert torch.equal(result, X.cumsum(dim=1))


@pytest.mark.parametrize(
    ("n_rows", "expected"), [(24, [8, 8, 8]), (25, [8, 8, 8, 2]), (29, [8, 8, 8, 8]), (2, [2])]
)
def test_what_is_left_of_the_largest_tiles_is_padded_to_the_smallest_that_holds_it(
    workers, n_rows, expected
):
    sizes = []
    X = torch.randn(n_rows, 3, generator=stream(0))
    result = in_tiles(lambda x: sizes.append(len(x)) or x, X, workers, sizes=[2, 8])
    assert sizes == expected
    assert torch.equal(result, X)


def test_a_row_gives_the_same_bits_alone_and_in_company(workers):
    X = torch.randn(45, 37, generator=stream(0))
    weights = torch.randn(37, 53, generator=stream(1))
    # A width of 53 and 5 columns: rows do not start alike in memory.
    layers = nn.Sequential(AlignedLinear(37, 53), nn.ReLU(), AlignedLinear(53, 5))
    with torch.no_grad():
        layers[0].weight.copy_(weights.T)

    together = in_tiles(layers, X, workers, [16])
    for row in range(len(X)):
        assert torch.equal(in_tiles(layers, X[row : row + 1], workers, [16])[0], together[row])
    assert torch.equal(in_tiles(layers, X.flip(0), workers, [16]).flip(0), together)


@pytest.mark.parametrize("onednn", [False, _networks._ONEDNN])
@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("widths", [(784, 500), (500, 2000), (2000, 10), (30, 7), (13, 37)])
def test_products_of_either_library_give_a_row_its_bits_at_any_place(
    monkeypatch, onednn, by_columns, widths
):
    monkeypatch.setattr(_networks, "_ONEDNN", onednn)
    layer = AlignedLinear(*widths)
    layer = _networks.by_columns(layer) if by_columns else layer
    tile = torch.randn(_TILE_ROWS, widths[0], generator=stream(0))
    with torch.no_grad():
        expected = layer(tile)
        torch.testing.assert_close(expected, nn.functional.linear(tile, layer.weight, layer.bias))
        for shift in range(1, len(tile)):
            assert torch.equal(layer(tile.roll(shift, 0)).roll(-shift, 0), expected)
        alone = torch.cat([tile[:1], torch.zeros_like(tile[1:])])
        assert torch.equal(layer(alone)[0], expected[0])


class Drifting(nn.Module):
    """Gives a row other bits in tiles of some sizes than in all others."""

    def __init__(self, *drifting):
        super().__init__()
        self.drifting, self.sizes = drifting, set()

    def forward(self, x):
        self.sizes.add(len(x))
        return x * (1.0 + 1e-6 * (len(x) in self.drifting))


@pytest.mark.parametrize(
    ("drifting", "sizes", "sizes_alone"),
    [
        ((), {4, 256}, {4}),
        ((4,), {16, 256}, {16}),
        ((256,), {4, 64}, {4}),
        ((4, 64, 256), {16}, {16}),
    ],
)
def test_only_tiles_of_sizes_that_give_the_same_bits(workers, drifting, sizes, sizes_alone):
    X = torch.randn(1538, 3, generator=stream(0))
    module = Drifting(*drifting)
    alone = (X[:1], sizes_alone)
    for rows, expected in (alone, (X, sizes), (X[:258], sizes), alone):
        for _ in range(2):  # with and without a trial
            module.sizes.clear()
            assert torch.equal(apply_to_rows(module, rows, workers, as_alone=True), rows)
        assert module.sizes == expected


def test_larger_tiles_are_tried_only_where_there_are_many_rows(workers):
    X = torch.randn(1023, 3, generator=stream(0))
    module = Drifting()
    apply_to_rows(module, X, workers, as_alone=True)
    assert module.sizes == {4, 16}


def test_rows_that_are_all_alike_do_not_tell_whether_bits_are_the_same(workers):
    module = Drifting(4, 64, 256)
    for X in (torch.zeros(1500, 3), torch.ones(1500, 3), torch.ones(1, 3)):
        assert torch.equal(apply_to_rows(module, X, workers, as_alone=True), X)


@pytest.mark.parametrize("hidden_dims", [(53,), (500, 2000)])
def test_of_many_rows_each_gets_the_bits_that_it_gets_alone(workers, hidden_dims):
    module = Architecture(37, 5, hidden_dims, "relu", False, "he").build(0).encoder
    X = torch.randn(1500, 37, generator=stream(0))
    together = apply_to_rows(module, X, workers, as_alone=True)
    for row in (0, 1, 17, 255, 256, 700, 1279, 1280, 1499):
        alone = apply_to_rows(module, X[row : row + 1], workers, as_alone=True)
        assert torch.equal(alone[0], together[row])


def test_tiles_record_no_gradient(workers):
    assert not in_tiles(nn.Linear(3, 2), torch.ones(5, 3), workers, [4]).requires_grad


@given(st.integers(1, 500), st.sampled_from([2**14, 2**16, 2**18]))
def test_blocks_cover_all_rows_in_order_and_are_whole_tiles(n_rows, n_columns):
    sizes = []

    def numbers(rows):
        sizes.append(rows.stop - rows.start)
        return np.arange(rows.start, rows.stop)

    np.testing.assert_array_equal(in_blocks(numbers, n_rows, n_columns, 24), np.arange(n_rows))
    assert all(size % 24 == 0 for size in sizes[:-1])
    assert all(size <= 24 or size * n_columns <= 2**22 for size in sizes)


def out_of_memory_above(most_rows, seen):
    """A function of a slice that fails as torch does on a full accelerator."""

    def double(rows):
        seen.append(rows.stop - rows.start)
        if rows.stop - rows.start > most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 2.0 * np.arange(rows.start, rows.stop)

    return double


def test_blocks_shrink_to_what_the_accelerator_has_memory_for():
    seen = []
    result = in_blocks(out_of_memory_above(100, seen), 1000, 2**12, tile_rows=16)
    np.testing.assert_array_equal(result, 2.0 * np.arange(1000))
    assert seen[:5] == [1000, 31 * 16, 15 * 16, 7 * 16, 3 * 16]  # half as many tiles each time
    assert set(seen[5:-1]) == {3 * 16}


def test_an_accelerator_without_memory_for_a_single_tile_is_an_error():
    seen = []
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        in_blocks(out_of_memory_above(10, seen), 100, 2**16, tile_rows=16)
    assert seen == [64, 32, 16]


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "inverse_transform"])
def test_a_model_goes_on_with_smaller_blocks_and_gives_the_same_bits(monkeypatch, method):
    X, _ = blobs()
    model = quick().fit(X)
    rows = model.transform(X) if method == "inverse_transform" else X
    expected = getattr(model, method)(rows)
    sizes, apply_to_rows = [], _inference.apply_to_rows

    def with_little_memory(module, x, workers, as_alone):
        sizes.append(len(x))
        if len(x) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return apply_to_rows(module, x, workers, as_alone)

    monkeypatch.setattr(_inference, "apply_to_rows", with_little_memory)
    np.testing.assert_array_equal(getattr(model, method)(rows), expected)
    assert sizes == [90, 48, 16, 16, 16, 16, 16, 10]


@given(st.integers(0, 30), st.sampled_from([2**20, 2**21, 2**22, 2**23]))
def test_row_blocks_cover_all_rows_once(n_rows, n_columns):
    blocks = list(row_blocks(n_rows, n_columns))
    rows = list(itertools.chain.from_iterable(range(n_rows)[block] for block in blocks))
    assert rows == list(range(n_rows))
    sizes = [block.stop - block.start for block in blocks]
    assert all(size == 1 or size * n_columns * 8 <= 2**25 for size in sizes)
    assert all(size == max(1, 2**22 // n_columns) for size in sizes[:-1])


def test_as_float64_copies_only_what_is_not_float64_in_c_order():
    X = np.arange(6.0).reshape(2, 3)
    assert as_float64(X) is X
    for other in (X.astype(np.float32), np.asfortranarray(X), X[:, ::-1], X.astype(int)):
        converted = as_float64(other)
        assert converted.dtype == np.float64 and converted.flags.c_contiguous
        np.testing.assert_array_equal(converted, other)
