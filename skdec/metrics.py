"""How good a clustering is: against known labels, and without any."""

from __future__ import annotations

import math
from numbers import Integral
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.metrics import (
    adjusted_rand_score,
    calinski_harabasz_score,
    davies_bouldin_score,
    silhouette_score,
)
from sklearn.metrics.cluster import contingency_matrix
from sklearn.pipeline import Pipeline
from sklearn.utils import (
    _safe_indexing,
    check_array,
    check_consistent_length,
    check_random_state,
    check_scalar,
    column_or_1d,
)
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import _num_samples

from ._array_api import to_numpy
from ._batching import as_float64
from ._cuts import mean_by_edges, relative_conductances, symmetric_graph
from ._neighborhoods import MOST_FEATURES, PLAIN
from ._neighbors import edge_weights, modularity, nearest_neighbors
from ._rows import distinct_rows
from ._threads import Workers
from ._validation import check_sample_weight

__all__ = [
    "ClusteringScorer",
    "clustering_accuracy",
    "relative_conductance",
    "relative_modularity",
    "stability",
]

# What takes the square of the number of rows looks at a fixed random choice of so many.
_MOST_ROWS = 10_000

# Values that several rows share are spread in the same way in every call.
_SEED = 0

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
    counts, classes, clusters = matched_counts(labels_true, labels_pred)
    return float(counts[classes, clusters].sum() / counts.sum())


def matched_counts(labels_true, labels_pred) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of each class in each cluster, and the positions of classes and clusters that match.

    Both are in sorted order, and so are the positions of the classes.
    """
    labels_true, labels_pred = (
        column_or_1d(to_numpy(labels)) for labels in (labels_true, labels_pred)
    )
    check_consistent_length(labels_true, labels_pred)
    if not len(labels_true):
        raise ValueError("labels_true and labels_pred are empty; the accuracy is undefined.")
    counts = contingency_matrix(labels_true, labels_pred)
    return counts, *linear_sum_assignment(counts, maximize=True)


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
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows whose Euclidean neighbours make the graph. Of more than 10,000 distinct rows a
        fixed choice of 10,000 is used. Of up to 100 features values that several rows share
        are spread around, as in `DECClustering`: a yes or no alone makes no clusters.
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
    graph = _labelled_graph(X, labels, n_neighbors, sample_weight)
    if graph is None:
        return 0.0
    n_clusters = graph.labels.max() + 1
    return modularity(*graph) / float(1.0 - 1.0 / n_clusters) ** _EXPONENT


def relative_conductance(X, labels, *, n_neighbors="auto", sample_weight=None) -> float:
    r"""How much harder clusters are to cut in two than to part from each other.

    The conductance of a cut through the k-nearest-neighbour graph is the share of the smaller
    side's edges that lead across. A good clustering has small ones between its clusters and large
    ones inside each [1]_. For each cluster

    .. math:: \frac{\phi_\text{inside}}{\phi_\text{inside} + \phi_\text{outside}}

    is the share of the easiest cut of the cluster in two, of those in the order of the second
    eigenvector of its graph with a tenth of its edges on either side, in the sum of this and
    the largest conductance between the cluster and one other (whose side counts as a tenth of the
    cluster at least). The score is the mean, weighted by the clusters' edges. A partition into too
    few clusters has some that fall apart, one into too many has some that hardly anything parts.
    It depends on `X` and `labels` only, never on an embedding, and compares partitions into
    different numbers of clusters.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows whose Euclidean neighbours make the graph. Of more than 10,000 distinct rows a
        fixed choice of 10,000 is used. Of up to 100 features values that several rows share
        are spread around, as in `DECClustering`: a yes or no alone makes no clusters.
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
        From 0 to 1: near 1 for clusters that fall apart by themselves and are hard to cut, 1/2
        where they are as easy to cut as to part, in noise that or a little more, about that or less
        for labels that ignore the data. 0 for a single cluster, and where not even two have a tenth
        of the edges of an average one: there is nothing to compare with.

    Raises
    ------
    TypeError, ValueError
        If `n_neighbors` is not "auto" or a positive int, the lengths differ, or `X` or the
        weights are not finite.

    References
    ----------
    .. [1] Kannan, Vempala, Vetta. "On clusterings: Good, bad and spectral". J. ACM 2004,
       doi:10.1145/990308.990313.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skdec.metrics import relative_conductance
    >>> X, y = make_blobs(90, centers=3, cluster_std=0.1, random_state=0)
    >>> round(relative_conductance(X, y), 2), round(relative_conductance(X, y == 0), 2)
    (0.9, 0.33)
    """
    graph = _labelled_graph(X, labels, n_neighbors, sample_weight)
    if graph is None:
        return 0.0
    weights = symmetric_graph(graph.neighbors, graph.edges)
    shares = relative_conductances(weights, graph.labels)
    return mean_by_edges(shares, np.bincount(graph.labels, weights.sum(axis=1)))


class _LabelledGraph(NamedTuple):
    """Distinct rows' neighbours, the weights of the edges to them, and labels from 0."""

    neighbors: np.ndarray
    edges: np.ndarray
    labels: np.ndarray


def _labelled_graph(X, labels, n_neighbors, sample_weight) -> _LabelledGraph | None:
    """The nearest-neighbour graph of checked rows, or None if there is nothing to compare."""
    if n_neighbors != "auto":
        check_scalar(n_neighbors, "n_neighbors", Integral, min_val=1)
    X = check_array(to_numpy(X), accept_sparse="csr", dtype="numeric")
    labels = column_or_1d(to_numpy(labels))
    check_consistent_length(X, labels)
    rows = distinct_rows(X, check_sample_weight(sample_weight, X))
    index, weight = rows.index, rows.weight
    chosen = _at_most(_MOST_ROWS, len(index))
    index, weight = index[chosen], weight[chosen]
    _, labels = np.unique(labels[index], return_inverse=True)
    if labels.max() == 0 or len(index) < 3:
        return None
    if n_neighbors == "auto":
        n_neighbors = min(15, math.ceil(math.sqrt(len(index))))
    rows = X[index]
    if rows.shape[1] <= MOST_FEATURES:
        rows = PLAIN.places(as_float64(rows), _SEED)
    with Workers() as workers:
        neighbors = nearest_neighbors(rows, n_neighbors, workers)
    return _LabelledGraph(neighbors, edge_weights(neighbors, weight), labels)


def _at_most(most: int, n_rows: int) -> np.ndarray | slice:
    """All rows, or a choice of `most` of them that is the same in every call."""
    if n_rows <= most:
        return slice(None)
    return np.random.default_rng(0).choice(n_rows, most, replace=False)


def stability(estimator, X, y=None, *, between="halves", random_state=None) -> float:
    """Agreement of the clusterings that two halves of the rows, or two seeds, lead to.

    Between halves: `X` is cut into two random halves, a clone of the estimator is fitted to each,
    and both predict all rows. Clusters that are in the data are found by both; in noise each half
    finds its own. A low value says that the clusters are not in the data, which a confident
    `predict_proba` does not deny, since self-training makes it confident on noise too. A high value
    does not prove that they are: both halves cut a single long group at the same place. It costs
    two fits to half of the rows.

    Between seeds: two clones with other seeds are fitted to all rows. A low value says that the
    clusters depend on the luck of the seed; a high one says nothing of the data, whose noise both
    clones share. It costs two fits to all rows.

    It is a scorer as it stands, ``scoring=stability``. As such it fits two more clones to the rows
    of each test fold, with the parameters of the estimator that it is given, not its training.

    Parameters
    ----------
    estimator : clusterer with `fit` and `predict`
        Not fitted here; a Pipeline that ends in one will do.
    X : array-like of shape (n_samples, n_features)
        Rows, between halves at least two for each cluster. Rows that are given twice may come
        into both halves and make them agree.
    y : Ignored
        Not used, present for API consistency.
    between : {"halves", "seeds"}, default="halves"
        What differs between the two fits.
    random_state : int, RandomState instance or None, default=None
        Draws the halves or the seeds. Between halves the estimator's own `random_state` is its
        own; between seeds every `random_state` in it, also of a Pipeline's steps, is replaced.

    Returns
    -------
    agreement : float
        The adjusted Rand index of the two predictions, in [0, 1] (0 if it is negative): 1 for the
        same clusters, about 0 for clusters that have nothing to do with each other. A single
        cluster agrees with itself: 1.

    Raises
    ------
    ValueError
        If `between` is not one of the above, if `X` has fewer than two rows, if a half is too
        small for the estimator, or if, between seeds, the estimator has no `random_state`.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import make_blobs
    >>> from skdec.metrics import stability
    >>> X, _ = make_blobs(90, centers=3, cluster_std=0.1, random_state=0)
    >>> stability(KMeans(3, n_init=3, random_state=0), X, random_state=0)
    1.0
    >>> stability(KMeans(3, n_init=3), X, between="seeds", random_state=0)
    1.0
    """
    random_state = check_random_state(random_state)
    if between == "halves":
        X = X.tocsr() if issparse(X) else X  # of which halves can be taken
        halves = np.array_split(random_state.permutation(_num_samples(X)), 2)
        fitted = [clone(estimator).fit(_safe_indexing(X, half)) for half in halves]
    elif between == "seeds":
        fitted = [_reseeded(estimator, random_state).fit(X) for _ in range(2)]
    else:
        raise ValueError(f"between must be 'halves' or 'seeds'. Got {between!r} instead.")
    return max(0.0, float(adjusted_rand_score(*(model.predict(X) for model in fitted))))


def _reseeded(estimator, random_state: np.random.RandomState):
    """A clone with an int drawn for every `random_state` in it."""
    names = sorted(
        name for name in estimator.get_params() if name.split("__")[-1] == "random_state"
    )
    if not names:
        raise ValueError(
            f"between='seeds' needs an estimator with a random_state. Got {estimator!r}."
        )
    seeds = {name: random_state.randint(2**31 - 1) for name in names}
    return clone(estimator).set_params(**seeds)


def _negated_davies_bouldin(X, labels) -> float:
    return -davies_bouldin_score(X, labels)


# How compact and separate clusters are, and what to say of labels for which that is undefined. A
# finite number, and no overflow of the mean over folds: -inf or NaN would void a whole search.
_COMPACTNESS = {
    "silhouette": (silhouette_score, -1.0),
    "calinski_harabasz": (calinski_harabasz_score, 0.0),
    "davies_bouldin": (_negated_davies_bouldin, -float(np.finfo(np.float32).max)),
}
_OF_GRAPHS = {"conductance": relative_conductance, "modularity": relative_modularity}
_NO_WEIGHT = "takes no sample_weight; only metric='conductance' and 'modularity' do."
_SPACES = ("input", "preprocessed", "embedding")


class ClusteringScorer:
    """Score the clusters that a fitted estimator predicts for new rows, without labels.

    An instance is a function ``scorer(estimator, X, y=None)``, for `scoring` of
    :class:`~sklearn.model_selection.GridSearchCV`,
    :func:`~sklearn.model_selection.cross_validate` and their like. It calls ``predict``, and
    ``transform`` where it needs the embedding; it never fits. Larger is better for every metric.

    Scores in the input space compare whatever there is. Those in the embedding do not: training
    moves the rows towards their own centres and raises them on noise too, and every
    model has an embedding of its own. They describe an embedding; they do not choose a model.

    Parameters
    ----------
    metric : {"silhouette", "calinski_harabasz", "davies_bouldin", "conductance", "modularity"}, \
            default="silhouette"
        :func:`~sklearn.metrics.silhouette_score`, of more than 10,000 rows that of a fixed
        choice of 10,000; :func:`~sklearn.metrics.calinski_harabasz_score`;
        :func:`~sklearn.metrics.davies_bouldin_score` times -1; :func:`relative_conductance`; or
        :func:`relative_modularity`.
    space : {"input", "preprocessed", "embedding"}, default="input"
        Where distances are measured: among the rows as they are given, which a Pipeline has not
        seen through its steps yet; among what the last step of a Pipeline receives (the same as
        "input" without a Pipeline), for columns of unequal units or no numbers at all; or among
        what ``estimator.transform`` returns, for :class:`~sklearn.cluster.KMeans` the distances
        to its centres.

    Raises
    ------
    ValueError
        If `metric` or `space` is not one of the above.

    Notes
    -----
    Labels for which a metric is undefined, a single cluster or a cluster for each row, have its
    worst value: -1, 0, and for Davies-Bouldin, which has none, -3.4e38. Conductance and modularity
    of a single cluster are 0. A cluster with one member counts as the metric says: 0 in the
    silhouette.

    Calinski-Harabasz and Davies-Bouldin, of which scikit-learn has no sparse form, take no sparse
    rows; the others do.

    Conductance and modularity take `sample_weight`, with metadata routing after
    ``set_score_request(sample_weight=True)``; the others refuse it.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skdec.metrics import ClusteringScorer
    >>> X, _ = make_blobs(90, centers=3, cluster_std=0.1, random_state=0)
    >>> scorer = ClusteringScorer("silhouette")
    >>> search = GridSearchCV(KMeans(random_state=0), {"n_clusters": [2, 3, 4]}, scoring=scorer)
    >>> search.fit(X).best_params_
    {'n_clusters': 3}
    """

    def __init__(self, metric="silhouette", *, space="input"):
        # Here and not in the call: within a search, an error of the call is only a warning.
        metrics = (*_COMPACTNESS, *_OF_GRAPHS)
        if metric not in metrics:
            raise ValueError(f"metric must be one of {metrics}. Got {metric!r} instead.")
        if space not in _SPACES:
            raise ValueError(f"space must be one of {_SPACES}. Got {space!r} instead.")
        self.metric = metric
        self.space = space
        self._sample_weight_request = None

    def __repr__(self):
        return f"{type(self).__name__}({self.metric!r}, space={self.space!r})"

    def __call__(self, estimator, X, y=None, sample_weight=None) -> float:
        """Score the labels that a fitted `estimator` predicts for `X`.

        Parameters
        ----------
        estimator : fitted estimator with `predict`
            Also with `transform`, if the space is that of the embedding.
        X : array-like of shape (n_samples, n_features)
            Rows, as `estimator` takes them.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, for conductance and modularity only.

        Returns
        -------
        score : float
            Finite; larger is better.

        Raises
        ------
        ValueError
            If the rows are not finite numbers, or a metric without weights is given them.
        """
        if sample_weight is not None and not self._accept_sample_weight():
            raise ValueError(f"{self!r} {_NO_WEIGHT}")
        labels = column_or_1d(to_numpy(estimator.predict(X)))
        rows = check_array(to_numpy(self._rows(estimator, X)), accept_sparse="csr", dtype="numeric")
        if self.metric in _OF_GRAPHS:
            return _OF_GRAPHS[self.metric](rows, labels, sample_weight=sample_weight)
        if self.metric == "silhouette":
            chosen = _at_most(_MOST_ROWS, rows.shape[0])
            rows, labels = rows[chosen], labels[chosen]
        score, worst = _COMPACTNESS[self.metric]
        if not 1 < len(np.unique(labels)) < rows.shape[0]:
            return worst
        with np.errstate(over="ignore", invalid="ignore"):
            found = float(score(rows, labels))
        return found if math.isfinite(found) else worst

    def _rows(self, estimator, X):
        """The rows among which distances are measured."""
        if self.space == "embedding":
            return estimator.transform(X)
        if self.space == "preprocessed" and isinstance(estimator, Pipeline) and len(estimator) > 1:
            return estimator[:-1].transform(X)
        return X

    def set_score_request(self, *, sample_weight):
        """Say whether metadata routing shall pass the weights on to this scorer.

        Parameters
        ----------
        sample_weight : bool, str or None
            As for scikit-learn's scorers: True and False, the name under which the weights are
            given, or None, with which giving them is an error.

        Returns
        -------
        self : ClusteringScorer
            The scorer itself.

        Raises
        ------
        ValueError
            If the metric has no use for weights.
        """
        if not self._accept_sample_weight():
            raise ValueError(f"{self!r} {_NO_WEIGHT}")
        self._sample_weight_request = sample_weight
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """What this scorer asks of metadata routing.

        Returns
        -------
        routing : MetadataRequest
            Of `sample_weight`, if the metric has a use for it.
        """
        request = MetadataRequest(owner=self)
        if self._accept_sample_weight():
            request.score.add_request(param="sample_weight", alias=self._sample_weight_request)
        return request

    def _accept_sample_weight(self) -> bool:
        # The name by which scikit-learn asks this of scorers while metadata routing is off.
        return self.metric in _OF_GRAPHS
