"""A small estimator for tests of everything but the quality of the clustering."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import make_blobs

from skdec import DECClustering


def quick(n_clusters=3, **params) -> DECClustering:
    """An estimator that fits in a fraction of a second and always converges."""
    defaults = {
        "hidden_dims": (16,),
        "embedding_dim": 2,
        "pretrain_steps": 30,
        "layerwise_steps": 10,
        "neighbor_steps": 10,
        "n_init": 2,
        "update_interval": 5,
        "max_iter": 3,
        "tol": 1.1,
        "random_state": 0,
    }
    return DECClustering(n_clusters, **{**defaults, **params})


def blobs(n_samples=90, n_features=5, centers=3, random_state=0) -> tuple[np.ndarray, np.ndarray]:
    """Well separated groups of equal size and their numbers."""
    return make_blobs(
        n_samples, n_features, centers=centers, cluster_std=0.5, random_state=random_state
    )


def wide_blobs(n_samples=180, cluster_std=2.5, random_state=0) -> tuple[np.ndarray, np.ndarray]:
    """Groups that touch, in 120 features of which either half tells the neighbours of a row."""
    X, y = blobs(n_samples, random_state=random_state)
    random = np.random.default_rng(random_state)
    X += cluster_std * random.normal(size=X.shape)
    X = X @ random.normal(size=(5, 120))
    return X + 0.01 * X.std() * random.normal(size=X.shape), y
