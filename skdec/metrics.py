"""How good a clustering is: against known labels, and without any."""

from __future__ import annotations

import math
from numbers import Integral

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils import (
    _safe_indexing,
    check_array,
    check_consistent_length,
    check_random_state,
    check_scalar,
    column_or_1d,
)
from sklearn.utils.validation import _num_samples

from ._array_api import to_numpy
from ._neighbors import modularity, nearest_neighbors
from ._rows import distinct_rows
from ._threads import Workers
from ._validation import check_sample_weight

__all__ = ["clustering_accuracy", "relative_modularity", "stability"]

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
    labels_true, labels_pred = (
        column_or_1d(to_numpy(labels)) for labels in (labels_true, labels_pred)
    )
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
    TypeError, ValueError
        If `n_neighbors` is not "auto" or a positive int, the lengths differ, or `X` or the
        weights are not finite.

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
    if n_neighbors != "auto":
        check_scalar(n_neighbors, "n_neighbors", Integral, min_val=1)
    X = check_array(to_numpy(X), dtype="numeric")
    labels = column_or_1d(to_numpy(labels))
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
    with Workers() as workers:
        neighbors = nearest_neighbors(X[index].astype(np.float64), n_neighbors, workers)
    return modularity(neighbors, weight, labels) / float(1.0 - 1.0 / n_clusters) ** _EXPONENT


def stability(estimator, X, *, random_state=None) -> float:
    """Agreement of the clusterings that two halves of the rows lead to.

    `X` is cut into two random halves, a clone of the estimator is fitted to each, and both
    predict all rows. Clusters that are in the data are found by both; in noise each half finds its
    own. A low value says that the clusters are not in the data, which a confident `predict_proba`
    does not deny, since self-training makes it confident on noise too. A high value does not prove
    that they are: both halves cut a single long group at the same place. It costs two fits to half
    of the rows.

    Parameters
    ----------
    estimator : clusterer with `fit` and `predict`
        Not fitted here; a Pipeline that ends in one will do.
    X : array-like of shape (n_samples, n_features)
        Rows, at least two for each cluster. Rows that are given twice may come into both halves
        and make them agree.
    random_state : int, RandomState instance or None, default=None
        Draws the halves. The estimator's own `random_state` is its own.

    Returns
    -------
    agreement : float
        The adjusted Rand index of the two predictions, in [0, 1] (0 if it is negative): 1 for the
        same clusters, about 0 for clusters that have nothing to do with each other. A single
        cluster agrees with itself: 1.

    Raises
    ------
    ValueError
        If `X` has fewer than two rows, or if a half is too small for the estimator.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import make_blobs
    >>> from skdec.metrics import stability
    >>> X, _ = make_blobs(90, centers=3, cluster_std=0.1, random_state=0)
    >>> stability(KMeans(3, n_init=3, random_state=0), X, random_state=0)
    1.0
    """
    order = check_random_state(random_state).permutation(_num_samples(X))
    halves = np.array_split(order, 2)
    labels = [clone(estimator).fit(_safe_indexing(X, half)).predict(X) for half in halves]
    return max(0.0, float(adjusted_rand_score(*labels)))
