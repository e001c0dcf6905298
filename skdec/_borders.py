"""To which cluster a row at a border belongs, by local hyperplanes of the clusters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding  # rows by numbers, in a quarter of indexing's time

from ._batching import row_blocks
from ._cells import cells, enough, means
from ._hyperplanes import RIDGE
from ._threads import Workers, scikit_learn_alone

# The hyperplane of a cluster goes through its nearest rows: the first number times the root of the
# rows that a cluster has on average, but not through more than it has then, nor than the second.
_SPANNING, _MOST_SPANNING = 6.0, 200

# A row may go to another cluster of which a row is nearer than the nearest one of its own cluster,
# or not so many times as far (squared).
_BORDER = 2.0

# Rows at a border are moved so many times, by the clusters as they have become. After the first
# time only between the two that leave least, and only where the second leaves less than so many
# times as much (squared).
_PASSES, _CLEARLY = 4, 1.5

# Hyperplanes of so many rows are found at once: what they go through stays in the cache.
_CACHED_ROWS = 128

# The nearest rows of a large cluster are sought in its cells of about so many rows, in those near
# to a row, of so many rows at least. To find cells takes longer than it saves for fewer rows than
# this share of the cluster.
_CELL_ROWS, _SOUGHT_ROWS, _WORTH_CELLS = 2**7, 3 * 2**10, 1 / 4

# Whether a row is at a border is told by so many rows at most, where it belongs by all of a random
# block of at most so many.
_MOST_COMPARED, _BLOCK_ROWS = 2**14, 2**17


def at_borders(
    X: np.ndarray, labels: np.ndarray, n_clusters: int, seed: int, workers: Workers
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows at the borders of clusters, and the clusters that are closest to them.

    `labels` are those of all rows before. What a cluster leaves of a row is what ridge regression
    on its nearest other rows of that cluster leaves of its difference to their mean, and the
    cluster that leaves least is the closest: the classifier of [1]_, with clusters for classes.
    Labels stay where a cluster would be left without rows.

    References
    ----------
    .. [1] Vincent, Bengio. "K-Local Hyperplane and Convex Distance Nearest Neighbor Algorithms".
       NIPS 2001.
    """
    random, moved, at = np.random.default_rng(seed), labels.copy(), []
    for block in np.array_split(random.permutation(len(X)), -(-len(X) // _BLOCK_ROWS)):
        x, closest = torch.from_numpy(X[block]), torch.from_numpy(labels[block]).long()
        per_cluster = len(block) / n_clusters
        wanted = min(_SPANNING * math.sqrt(per_cluster), per_cluster, _MOST_SPANNING)
        n_spanning = max(1, round(wanted))
        near = _near(x, closest, n_clusters, workers)
        at.append(block[torch.cat(near).unique().numpy()])
        for _ in range(_PASSES):
            closest, near = _closest(x, closest, near, n_spanning, seed, workers)
        moved[block] = closest.numpy()
    rows = np.sort(np.concatenate(at))
    if len(np.unique(moved)) < len(np.unique(labels)):
        moved = labels
    return rows, moved[rows]


def _near(x: Tensor, labels: Tensor, n_clusters: int, workers: Workers) -> list[Tensor]:
    """For each cluster numbers of the rows that may belong to it, of those that may to several.

    A row may belong to its own cluster and to those of which some row is hardly farther away than
    the nearest other row of its own.
    """
    some = torch.arange(min(len(x), _MOST_COMPARED))
    members = [some[of_cluster] for of_cluster in _members(labels[some], n_clusters)]
    everywhere = torch.arange(len(x))

    def to_nearest(piece: tuple[int, Tensor]) -> Tensor:
        cluster, rows = piece
        nearest = _distances(x, rows, members[cluster]).amin(dim=1)
        return (nearest + x[rows].square().sum(dim=1)).clamp_min(0.0)

    sizes = [len(rows) for rows in members]
    own, of_own = x.new_full((len(x),), torch.inf), _pieces(_members(labels, n_clusters), sizes)
    for (_, rows), nearest in zip(of_own, workers.map(to_nearest, of_own), strict=True):
        own[rows] = nearest
    # A row without others of its cluster has nothing to be compared with.
    own[own == torch.inf] = -1.0

    def hardly_farther(piece: tuple[int, Tensor]) -> Tensor:
        _, rows = piece
        return rows[to_nearest(piece) <= _BORDER * own[rows]]

    found, of_all = [[everywhere[:0]] for _ in members], _pieces([everywhere] * n_clusters, sizes)
    for (cluster, _), rows in zip(of_all, workers.map(hardly_farther, of_all), strict=True):
        found[cluster].append(rows)
    near = [torch.cat(rows) for rows in found]
    several = torch.cat(near).bincount(minlength=len(x)) > 1
    return [rows[several[rows]] for rows in near]


def _closest(
    x: Tensor,
    labels: Tensor,
    near: Sequence[Tensor],
    n_spanning: int,
    seed: int,
    workers: Workers,
) -> tuple[Tensor, list[Tensor]]:
    """The labels after each row has gone to the cluster that leaves least of it, of those near.

    Also for each cluster which of the rows near to it may belong to it yet: those of which one
    other cluster at most leaves less, and not clearly less.
    """
    members = _members(labels, len(near))
    sought = [
        (cluster, *some)
        for cluster, rows in enumerate(near)
        for some in _sought(x, rows, members[cluster], seed, workers)
    ]

    def left_by(piece: tuple[int, Tensor]) -> Tensor:
        place, rows = piece
        others = sought[place][2]
        distances, most = _distances(x, rows, others), min(n_spanning, len(others) - 1)
        # In a third of the time of torch's `topk`.
        nearest = torch.from_numpy(distances.numpy().argpartition(most - 1, axis=1)[:, :most])
        some = zip(x[rows].split(_CACHED_ROWS), others[nearest].split(_CACHED_ROWS), strict=True)
        return torch.cat([_left_by_hyperplane(one, embedding(its, x)) for one, its in some])

    sizes = [len(others) for _, _, others in sought]
    n_values = [n + min(n, n_spanning) * x.shape[1] if n > 1 else 0 for n in sizes]
    pieces = _pieces([rows for _, rows, _ in sought], n_values)
    # The two clusters that leave least, and what they leave.
    two, left = labels[:, None].repeat(1, 2), x.new_full((len(x), 2), torch.inf)
    for of_cluster in members:
        if len(of_cluster) == 1:  # it stays, or there would be none
            left[of_cluster, 0] = -torch.inf
    for (place, rows), by_cluster in zip(pieces, workers.map(left_by, pieces), strict=True):
        three = torch.column_stack([two[rows], torch.full_like(rows, sought[place][0])])
        left_by_three = torch.column_stack([left[rows], by_cluster])
        least = left_by_three.argsort(dim=1, stable=True)[:, :2]
        two[rows], left[rows] = three.gather(1, least), left_by_three.gather(1, least)
    doubtful = left[:, 1] <= _CLEARLY * left[:, 0]
    return two[:, 0], [
        rows[doubtful[rows] & (two[rows] == cluster).any(dim=1)]
        for cluster, rows in enumerate(near)
    ]


def _sought(
    x: Tensor, rows: Tensor, members: Tensor, seed: int, workers: Workers
) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows in groups, each with the members of a cluster among which its nearest are sought.

    These are all of them, or where that takes longer, those in the cells that are nearest to the
    cell to which a group's rows are the closest.
    """
    if len(members) <= _SOUGHT_ROWS or len(rows) < _WORTH_CELLS * len(members):
        yield rows, members
        return
    its = x[members].numpy()
    with scikit_learn_alone():
        parts = cells(its, _CELL_ROWS, seed, workers)
    centers = torch.from_numpy(means(its, parts)).to(x)
    squares = centers.square().sum(dim=1)
    order = torch.addmm(squares, centers, centers.mT, alpha=-2.0).argsort(dim=1).tolist()
    closest = torch.addmm(squares, x[rows], centers.mT, alpha=-2.0).argmin(dim=1)
    for cell, group in enumerate(_members(closest, len(parts))):
        if len(group):
            among = enough(parts, order[cell], _SOUGHT_ROWS)
            yield rows[group], members[torch.from_numpy(among)]


def _pieces(rows_of: Sequence[Tensor], n_values: Sequence[int]) -> list[tuple[int, Tensor]]:
    """Places in `rows_of` and some of the rows there, given how many values are held for a row.

    Those for which these are none are left out.
    """
    return [
        (place, rows[part])
        for place, rows in enumerate(rows_of)
        if n_values[place]
        for part in row_blocks(len(rows), n_values[place])
    ]


def _members(labels: Tensor, n_clusters: int) -> Sequence[Tensor]:
    """Numbers of the rows of each cluster."""
    sizes = labels.bincount(minlength=n_clusters)
    return labels.argsort(stable=True).split(sizes.tolist())


def _distances(x: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Squared distances of the `rows` to the `others`, numbers that rise, less the rows' squares.

    That of a row to itself is infinite.
    """
    ends = embedding(others, x)
    distances = torch.addmm(ends.square().sum(dim=1), x[rows], ends.mT, alpha=-2.0)
    place = torch.searchsorted(others, rows).clamp_max(len(others) - 1)
    itself = (others[place] == rows).nonzero()[:, 0]
    distances[itself, place[itself]] = torch.inf
    return distances


def _left_by_hyperplane(x: Tensor, spanning: Tensor) -> Tensor:
    """Squares of what the hyperplane through some rows leaves of each of the rows `x`."""
    n_spanning, n_features = spanning.shape[1:]
    center = spanning.mean(dim=1)
    along, across = spanning - center[:, None], (x - center)[..., None]
    if n_spanning < n_features:
        products = along @ across
        _, inverse = _solved(along @ along.mT, products, n_spanning)
        return (across.square().sum(dim=1) - (products * inverse).sum(dim=1))[:, 0]
    ridge, inverse = _solved(along.mT @ along, across, n_spanning)
    return ridge * (across * inverse).sum(dim=(1, 2))


def _solved(products: Tensor, right: Tensor, n_spanning: int) -> tuple[Tensor, Tensor]:
    """The ridge, which is added to the `products` in place; their inverse times the `right`."""
    diagonal = products.diagonal(dim1=1, dim2=2)
    ridge = RIDGE * diagonal.sum(dim=1) / n_spanning
    ridge = ridge.clamp_min(torch.finfo(products.dtype).tiny ** 0.5)
    diagonal += ridge[:, None]
    return ridge, torch.cholesky_solve(right, torch.linalg.cholesky(products))
