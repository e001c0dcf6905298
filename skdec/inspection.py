"""What the clusters of a fitted model are: features, rows and prototypes that tell them apart."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from scipy.sparse import csc_array, issparse
from sklearn.base import is_clusterer
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_scalar
from sklearn.utils.validation import check_is_fitted

from ._array_api import to_numpy
from ._validation import check_sample_weight

__all__ = ["cluster_exemplars", "cluster_prototypes", "explain_clusters"]

# Of a column that holds words, shares of no more values than this are compared.
_MOST_VALUES = 20


def explain_clusters(estimator, X, *, sample_weight=None, feature_names=None, top=None):
    """Which features set each cluster apart from all other rows.

    For each cluster and feature: the mean in the cluster, the mean of the other rows, and their
    difference in standard deviations of the feature over all rows. Within a cluster this orders
    the features as Cohen's d does, but it stays finite where groups do not overlap: with a
    share p of the rows in the cluster it is at most 1 / sqrt(p (1 - p)).

    It describes the predicted clusters in the features as they are given, one at a time. It does
    not say what the network computes, nor that a feature is the cause of anything.

    Parameters
    ----------
    estimator : DECClustering or Pipeline
        Fitted; a Pipeline must end in a DECClustering.
    X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
        Rows to explain, as `estimator` takes them; seen in `fit` or new. A column of a data
        frame that does not hold numbers counts as one feature for each of its 20 most frequent
        values, named ``"column=value"``, whose mean is the share of the rows that have it.
        Missing numbers are left out of the means. Sparse rows, for a Pipeline whose first step
        takes them, are made dense a few columns at a time.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows in the means and standard deviations.
    feature_names : array-like of shape (n_features,) of str, default=None
        Names of the columns of `X`, for one that has none, such as the words of a
        :class:`~sklearn.feature_extraction.text.TfidfVectorizer`.
    top : int, default=None
        Features of each cluster, at most; None gives all.

    Returns
    -------
    table : pandas.DataFrame or structured ndarray
        A row for each cluster and feature, by cluster and from the largest absolute effect to
        the smallest; clusters without rows in `X` are left out. A structured array of the same
        columns if pandas is not installed: ``table["effect"]`` works with both. Columns:

        - "cluster": the number of the cluster
        - "feature": its name; "x0", "x1" and so on where neither `feature_names` nor `X` nor
          `estimator` has names
        - "mean": mean of the cluster's rows, in the unit of the feature
        - "mean_others": mean of all other rows; NaN if there are none
        - "effect": (mean - mean_others) / standard deviation over all rows; 0 for a constant

    Raises
    ------
    TypeError
        If `estimator` is of another kind, or `top` is not an int.
    NotFittedError
        If `estimator` has not been fitted.
    ValueError
        If `top` is less than 1, if there is not a name for each column of `X`, or if `X` or
        `sample_weight` is not as documented.

    See Also
    --------
    cluster_exemplars : The rows that stand for a cluster.
    cluster_prototypes : The centres of the clusters, in the space of the input.

    Examples
    --------
    >>> import numpy as np
    >>> from skdec import DECClustering
    >>> from skdec.inspection import explain_clusters
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 3))
    >>> X[50:, 1] += 8  # the two groups differ in x1 alone
    >>> dec = DECClustering(2, pretrain_steps=50, neighbor_steps=25, random_state=0).fit(X)
    >>> table = explain_clusters(dec, X, top=1)
    >>> print(*table["feature"])
    x1 x1
    """
    fitted_clusterer(estimator)
    if top is not None:
        check_scalar(top, "top", Integral, min_val=1)
    names, values = _named_values(estimator, X, feature_names)
    weight = check_sample_weight(sample_weight, values)
    counts = weight > 0
    values, weight = values[counts], weight[counts]
    labels = to_numpy(estimator.predict(X))[counts]
    clusters = np.unique(labels)
    mean, others, effect = _contrast(values, weight, labels[:, np.newaxis] == clusters)
    order = np.argsort(-np.abs(effect), axis=1, kind="stable")[:, :top]
    return _table(
        cluster=np.repeat(clusters, order.shape[1]),
        feature=np.asarray(names, dtype=object)[order].ravel(),
        mean=np.take_along_axis(mean, order, axis=1).ravel(),
        mean_others=np.take_along_axis(others, order, axis=1).ravel(),
        effect=np.take_along_axis(effect, order, axis=1).ravel(),
    )


def cluster_exemplars(estimator, X, *, n_exemplars=3, most="typical"):
    """The most typical, or the most doubtful, rows of each cluster.

    Parameters
    ----------
    estimator : DECClustering or Pipeline
        Fitted; a Pipeline must end in a DECClustering.
    X : array-like or data frame of shape (n_samples, n_features)
        Rows, as `estimator` takes them; seen in `fit` or new.
    n_exemplars : int, default=3
        Rows of each cluster, fewer if it has not as many.
    most : {"typical", "doubtful"}, default="typical"
        "typical" takes the rows whose probability for their cluster is largest, "doubtful" those
        for which it exceeds the second largest by least. Probabilities are the soft assignment
        Q, which says how close a row is to the centres, not how likely it is to be right.

    Returns
    -------
    table : pandas.DataFrame or structured ndarray
        By cluster, the most typical or doubtful row first; a structured array of the same
        columns if pandas is not installed. Columns:

        - "cluster": the number of the cluster
        - "row": position in `X`, counting from 0
        - "probability": Q of the row and its cluster
        - "next_cluster": the cluster with the second largest probability; -1 if there is but one
        - "next_probability": that probability

    Raises
    ------
    TypeError
        If `estimator` is of another kind, or `n_exemplars` is not an int.
    NotFittedError
        If `estimator` has not been fitted.
    ValueError
        If `n_exemplars` is less than 1, `most` is none of the above, or `X` is not valid.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdec import DECClustering
    >>> from skdec.inspection import cluster_exemplars
    >>> X = load_iris().data
    >>> dec = DECClustering(3, pretrain_steps=50, neighbor_steps=25, random_state=0).fit(X)
    >>> table = cluster_exemplars(dec, X, n_exemplars=2)
    >>> print(*table["cluster"])
    0 0 1 1 2 2
    >>> X[table["row"]].shape
    (6, 4)
    """
    fitted_clusterer(estimator)
    check_scalar(n_exemplars, "n_exemplars", Integral, min_val=1)
    if most not in ("typical", "doubtful"):
        raise ValueError(f"most must be 'typical' or 'doubtful'. Got {most!r} instead.")
    Q = np.asarray(estimator.predict_proba(X))
    members = ranked_members(Q, n_exemplars, most)
    rows = np.concatenate(members)
    second = runner_up(Q[rows])
    return _table(
        cluster=np.repeat(np.arange(len(members)), [len(rows) for rows in members]),
        row=rows,
        probability=Q[rows].max(axis=1),
        next_cluster=second,
        next_probability=np.where(second < 0, 0.0, Q[rows, second]),
    )


def cluster_prototypes(estimator):
    """The centres of the clusters in the space of the input, with the names of its features.

    They are decoded: what the autoencoder, and then the steps of a Pipeline in reverse, make of
    `cluster_centers_`. A prototype need not be like any row where the decoder is poor; the
    means of :func:`explain_clusters` do not depend on the decoder.

    Parameters
    ----------
    estimator : DECClustering or Pipeline
        Fitted; a Pipeline must end in a DECClustering and all its steps must have
        `inverse_transform`.

    Returns
    -------
    prototypes : pandas.DataFrame or ndarray of shape (n_clusters, n_features)
        In the units of the input; row k is cluster k. A plain array if pandas is not installed.

    Raises
    ------
    TypeError
        If `estimator` is of another kind, or a step of it has no `inverse_transform`.
    NotFittedError
        If `estimator` has not been fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdec import DECClustering
    >>> from skdec.inspection import cluster_prototypes
    >>> X = load_iris().data
    >>> dec = DECClustering(3, pretrain_steps=50, neighbor_steps=25, random_state=0).fit(X)
    >>> cluster_prototypes(dec).shape
    (3, 4)
    """
    prototypes = decoded_centers(estimator)
    try:
        import pandas as pd
    except ImportError:
        return prototypes
    return pd.DataFrame(
        prototypes,
        index=pd.RangeIndex(len(prototypes), name="cluster"),
        columns=names_of_features(estimator, None, prototypes.shape[1]),
    )


# --- What the displays use too ---


def fitted_clusterer(estimator):
    """`estimator` or, if it is a Pipeline, the last of its steps; fitted, with an embedding."""
    clusterer = estimator
    while isinstance(clusterer, Pipeline):
        clusterer = clusterer[-1]
    has_embedding = hasattr(clusterer, "predict_proba") and hasattr(clusterer, "inverse_transform")
    if not (has_embedding and is_clusterer(clusterer)):
        raise TypeError(
            "estimator must be a fitted DECClustering or a Pipeline that ends in one. Got "
            f"{type(clusterer).__name__} instead."
        )
    check_is_fitted(clusterer)
    return clusterer


def decoded_centers(estimator) -> np.ndarray:
    """Prototypes of shape (n_clusters, n_features) in the space of the input of `estimator`."""
    centers = fitted_clusterer(estimator).cluster_centers_
    if not hasattr(estimator, "inverse_transform"):
        without = [
            name
            for name, step in estimator.steps
            if step != "passthrough" and not hasattr(step, "inverse_transform")
        ]
        raise TypeError(
            "Prototypes need inverse_transform in every step of estimator; these have none: "
            f"{without}."
        )
    return np.asarray(estimator.inverse_transform(centers))


def names_of_features(estimator, X, n_features: int) -> list[str]:
    """Names of the features of `X`: its columns, else those seen in `fit`, else x0, x1, ..."""
    names = getattr(X, "columns", None)
    if names is None:
        names = getattr(estimator, "feature_names_in_", None)
    if names is None or len(names) != n_features:
        names = [f"x{position}" for position in range(n_features)]
    return [str(name) for name in names]


def ranked_members(Q: np.ndarray, n_rows: int, most: str) -> list[np.ndarray]:
    """For each cluster the positions of its `n_rows` most typical or doubtful rows, by Q."""
    ordered = np.sort(Q, axis=1)
    doubt = -ordered[:, -1] if most == "typical" else ordered[:, -1] - ordered[:, -2:-1].sum(axis=1)
    order = np.argsort(doubt, kind="stable")
    labels = Q.argmax(axis=1)[order]
    return [order[labels == cluster][:n_rows] for cluster in range(Q.shape[1])]


def runner_up(Q: np.ndarray) -> np.ndarray:
    """The cluster with the second largest probability of each row; -1 if there is but one."""
    # Of equal ones the first is the row's own, as for argmax.
    return np.argsort(-Q, axis=1, kind="stable")[:, 1] if Q.shape[1] > 1 else np.full(len(Q), -1)


# --- Means ---

# Columns of so many values together are made dense and compared at a time.
_MOST_DENSE = 2**22


def _contrast(values, weight, inside) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means in and outside of each cluster and the effect, each of shape (n_clusters, n_features).

    `inside` says for each row and cluster whether the row is in the cluster.
    """
    width = max(1, _MOST_DENSE // values.shape[0])
    blocks = (values[:, start : start + width] for start in range(0, values.shape[1], width))
    contrasts = [
        _contrast_of_dense(block.toarray() if issparse(block) else block, weight, inside)
        for block in blocks
    ]
    return tuple(np.concatenate(parts, axis=1) for parts in zip(*contrasts, strict=True))


def _contrast_of_dense(values, weight, inside) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    present = ~np.isnan(values)
    # Away from the common mean, so that large values of small spread lose no digits.
    center = _means(np.nan_to_num(values), present, weight[:, np.newaxis])
    centered = np.where(present, values - center, 0.0)
    mean = _means(centered, present, weight[:, np.newaxis] * inside)
    others = _means(centered, present, weight[:, np.newaxis] * ~inside)
    spread = np.sqrt(_means(np.square(centered), present, weight[:, np.newaxis]))
    constant = np.fmin.reduce(values) == np.fmax.reduce(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = np.where(constant & ~np.isnan(others), 0.0, (mean - others) / spread)
    return center + mean, center + others, effect


def _means(values, present, weight) -> np.ndarray:
    """Means by the columns of `weight`, of shape (n_columns, n_features); NaN of nothing."""
    with np.errstate(invalid="ignore"):
        return (weight.T @ values) / (weight.T @ present)


def _named_values(estimator, X, names) -> tuple[list[str], np.ndarray | csc_array]:
    """Names and float64 values of the features to compare, NaN where missing."""
    is_frame, values = hasattr(X, "columns"), X
    if not is_frame:
        kinds = {"accept_sparse": "csc", "ensure_all_finite": "allow-nan", "dtype": np.float64}
        values = check_array(to_numpy(X), input_name="X", **kinds)
    if names is None:
        names = names_of_features(estimator, X, values.shape[1])
    elif len(names) != values.shape[1]:
        raise ValueError(
            f"feature_names has {len(names)} names, but X has {values.shape[1]} features."
        )
    if not is_frame:
        return names, values
    features = [
        feature
        for name, column in zip(names, X.columns, strict=True)
        for feature in _of_column(name, X[[column]])
    ]
    return [name for name, _ in features], np.column_stack([values for _, values in features])


def _of_column(name, frame) -> list[tuple[str, np.ndarray]]:
    """A column of numbers as it is; of another, an indicator of each of its frequent values."""
    values = check_array(frame, dtype=None, ensure_all_finite="allow-nan").ravel()
    if values.dtype.kind in "biuf":
        return [(str(name), values.astype(np.float64))]
    words, counts = np.unique(values.astype(str), return_counts=True)
    frequent = words[np.argsort(-counts, kind="stable")[:_MOST_VALUES]]
    return [(f"{name}={word}", (values.astype(str) == word) * 1.0) for word in frequent]


def _table(**columns: np.ndarray):
    """A pandas data frame or, without pandas, a structured array."""
    try:
        import pandas as pd
    except ImportError:
        table = np.empty(
            len(next(iter(columns.values()))),
            dtype=[(name, column.dtype) for name, column in columns.items()],
        )
        for name, column in columns.items():
            table[name] = column
        return table
    return pd.DataFrame(columns)
