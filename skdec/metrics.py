"""How good a clustering is: against known labels, and without any."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from sklearn.metrics.cluster import contingency_matrix
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from ._rows import distinct_rows
from ._threads import scikit_learn_alone
from ._validation import check_sample_weight

__all__ = ["clustering_accuracy", "relative_modularity"]

# The neighbour graph of more rows than this is that of a fixed random choice among them.
_MOST_ROWS = 10_000

# With 1, six well separated clusters merged into two halves would score as well as all six;
# much below 1, clusters are cut to pieces. Measured in benchmarks/score_criterion.py.
_EXPONENT = 0.95


def clustering_accuracy(labels_true, labels_pred) -> float:
    """Share of rows whose cluster is matched to their class, under the best matching.

    Each cluster is matched to one class at most and each class to one cluster at most, such
    that the accuracy is largest (Hungarian method); section 4.2 of [1]_.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
        Known classes, of any type.
    labels_pred : array-like of shape (n_samples,)
        Cluster labels, of any type.

    Returns
    -------
    accuracy : float
        In [0, 1]; 1 when the partitions are the same. Unlike the adjusted Rand index it is
        not corrected for chance.

    Raises
    ------
    ValueError
        If the two have different lengths, are not one-dimensional or are empty.

    References
    ----------
    .. [1] Xie, Girshick, Farhadi. "Unsupervised Deep Embedding for Clustering Analysis".
       ICML 2016, arXiv:1511.06335.

    Examples
    --------
    >>> from skdec.metrics import clustering_accuracy
    >>> clustering_accuracy(["a", "a", "b", "b"], [1, 1, 0, 1])
    0.75
    """
    labels_true, labels_pred = column_or_1d(labels_true), column_or_1d(labels_pred)
    check_consistent_length(labels_true, labels_pred)
    if not len(labels_true):
        raise ValueError("labels_true and labels_pred are empty; the accuracy is undefined.")
    matches = contingency_matrix(labels_true, labels_pred)
    rows, columns = linear_sum_assignment(matches, maximize=True)
    return float(matches[rows, columns].sum() / len(labels_true))


def relative_modularity(X, labels, *, n_neighbors="auto", sample_weight=None) -> float:
    """Modularity of a partition of the k-nearest-neighbour graph, relative to its bound.

    The modularity [1]_ is the share of the graph's edges inside clusters minus the share
    expected if edges were drawn at random. With k clusters it is at most 1 - 1/k; here it is
    divided by (1 - 1/k)^0.95. A partition into many clusters then does not win by their number
    alone, but of two partitions that cut no edge the finer one does. It depends on `X` and
    `labels` only, never on an embedding, and compares partitions into different numbers of
    clusters.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows whose Euclidean neighbours make the graph. Of more than 10,000 distinct rows a
        fixed choice of 10,000 is used.
    labels : array-like of shape (n_samples,)
        Cluster labels. Repeated rows count with the label of one of them.
    n_neighbors : "auto" or int, default="auto"
        Number of neighbours of each row, fewer if there are not as many rows. "auto" is the
        square root of the number of distinct rows, rounded up, but at most 15.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows; an edge weighs the product of its ends' weights. A row given
        twice is the same as its weight doubled.

    Returns
    -------
    score : float
        At most (1 - 1/k)^0.05, which is 0.966 for two clusters and 0.995 for ten; about 0 for
        labels that ignore the data, and 0 for a single cluster.

    Raises
    ------
    ValueError
        If the lengths differ, or `X` or the weights are not finite.

    References
    ----------
    .. [1] Newman. "Modularity and community structure in networks". PNAS 2006,
       doi:10.1073/pnas.0601602103.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skdec.metrics import relative_modularity
    >>> X, y = make_blobs(90, centers=3, cluster_std=0.1, random_state=0)
    >>> round(relative_modularity(X, y), 3)
    0.98
    """
    X = check_array(X, dtype="numeric")
    labels = column_or_1d(labels)
    check_consistent_length(X, labels)
    rows = distinct_rows(X, check_sample_weight(sample_weight, X))
    index, weight = rows.index, rows.weight
    if len(index) > _MOST_ROWS:
        chosen = np.random.default_rng(0).choice(len(index), _MOST_ROWS, replace=False)
        index, weight = index[chosen], weight[chosen]
    _, labels = np.unique(labels[index], return_inverse=True)
    n_clusters = labels.max() + 1
    if n_clusters == 1 or len(index) < 3:
        return 0.0
    if n_neighbors == "auto":
        n_neighbors = min(15, math.ceil(math.sqrt(len(index))))
    ends = _neighbor_pairs(X[index].astype(np.float64), n_neighbors)
    edges = weight[ends[0]] * weight[ends[1]]
    shares = coo_array((edges / edges.sum(), labels[ends]), shape=(n_clusters, n_clusters))
    shares = (shares + shares.T).toarray() / 2.0
    modularity = np.trace(shares) - np.square(shares.sum(axis=0)).sum()
    return float(modularity / (1.0 - 1.0 / n_clusters) ** _EXPONENT)


def _neighbor_pairs(X: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Pairs (row, neighbour), of shape (2, n_samples * n_neighbors)."""
    n_neighbors = min(n_neighbors, len(X) - 1)
    # In units of the spread: distances of 1e30 and of 1e-30 are ordinary ones.
    X = X / (np.abs(X).max() or 1.0)
    X -= X.mean(axis=0)
    X /= np.abs(X).max() or 1.0
    # With several threads equally distant neighbours may come in another order.
    with scikit_learn_alone():
        graph = NearestNeighbors(n_neighbors=n_neighbors).fit(X)
        neighbors = graph.kneighbors(return_distance=False)
    return np.stack([np.repeat(np.arange(len(X)), n_neighbors), neighbors.reshape(-1)])
