"""Initial cluster centres in the embedding; no torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.cluster import KMeans
from sklearn.utils import check_random_state

from ._threads import scikit_learn_alone
from ._validation import check_init_centers


def initial_centers(
    Z: np.ndarray,
    weight: np.ndarray,
    init: str | np.ndarray | Callable,
    n_clusters: int,
    n_init: int,
    seed: int,
    rows: Callable[[], np.ndarray],
    embed: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """k-means centres of the embedding `Z`, float64 of shape (n_clusters, embedding_dim).

    `rows()` gives the distinct input rows for a callable `init`; `embed` maps centres from
    the input space to the embedding. With fewer distinct rows of `Z` than clusters the last
    centres are repeats of the first.
    """
    if not isinstance(init, str):
        if callable(init):
            init = init(rows(), n_clusters, random_state=check_random_state(seed))
            init = check_init_centers(init, n_clusters, rows().shape[1])
        init, n_init = embed(init).astype(np.float64), 1
    elif init == "auto":
        init = "k-means++"

    # Distinct rows may share an embedding, to the bit.
    n_found = min(n_clusters, len(np.unique(Z, axis=0)))
    start = init if isinstance(init, str) else init[:n_found]
    kmeans = KMeans(n_found, init=start, n_init=n_init, random_state=seed)
    with scikit_learn_alone():
        kmeans.fit(Z.astype(np.float64), sample_weight=weight)
    return np.resize(kmeans.cluster_centers_, (n_clusters, Z.shape[1]))
