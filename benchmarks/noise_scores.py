"""Which scores without labels tell clusters from noise? On uniform noise and on digits.

    python benchmarks/noise_scores.py

Each score is that of held-out rows (every third one), except the stability, which is fitted to
halves, or with two seeds, of all rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from machine import describe_machine
from sklearn.base import ClusterMixin
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skdec import DECClustering
from skdec.metrics import ClusteringScorer, stability

N_ROWS = 800

SCORERS = {
    "silhouette, input": ClusteringScorer("silhouette"),
    "silhouette, embedding": ClusteringScorer("silhouette", space="embedding"),
    "Calinski-Harabasz, input": ClusteringScorer("calinski_harabasz"),
    "Calinski-Harabasz, embedding": ClusteringScorer("calinski_harabasz", space="embedding"),
    "-Davies-Bouldin, input": ClusteringScorer("davies_bouldin"),
    "-Davies-Bouldin, embedding": ClusteringScorer("davies_bouldin", space="embedding"),
    "conductance, input": ClusteringScorer("conductance"),
    "conductance, embedding": ClusteringScorer("conductance", space="embedding"),
    "modularity, input": ClusteringScorer("modularity"),
    "modularity, embedding": ClusteringScorer("modularity", space="embedding"),
}


def models(n_clusters: int) -> Iterator[tuple[str, ClusterMixin]]:
    """K-means; a deep clusterer before and after 100 rounds of self-training; the default."""
    yield "KMeans", KMeans(n_clusters, n_init=10, random_state=0)
    for rounds in (0, 100):
        # By a named init nothing is undone that the score of the input does not like.
        model = DECClustering(
            n_clusters, init="k-means++", max_iter=rounds, tol=0.0, random_state=0
        )
        yield f"DECClustering, init='k-means++', {rounds} rounds", model
    yield "DECClustering", DECClustering(n_clusters, random_state=0)


def main() -> None:
    """Print a table for each data set."""
    warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0: all rounds are wanted
    random = np.random.default_rng(0)
    digits = random.permutation(load_digits().data / 16)[:N_ROWS]
    data = {"uniform noise": (random.random((N_ROWS, 20)), 4), "digits": (digits, 10)}
    print(describe_machine())
    columns = [*SCORERS, "mean largest Q", "stability, halves", "stability, seeds"]
    for name, (X, n_clusters) in data.items():
        print(f"\n| {name}, {len(X)} x {X.shape[1]} | " + " | ".join(columns) + " |")
        print("| --- " * (len(columns) + 1) + "|")
        held_out = np.arange(len(X)) % 3 == 0
        for label, model in models(n_clusters):
            model.fit(X[~held_out])
            values = [scorer(model, X[held_out]) for scorer in SCORERS.values()]
            confident = hasattr(model, "predict_proba")
            values.append(model.predict_proba(X).max(axis=1).mean() if confident else np.nan)
            values += [stability(model, X, between=b, random_state=0) for b in ("halves", "seeds")]
            print(f"| {label} | " + " | ".join(f"{v:.3g}" for v in values) + " |", flush=True)


if __name__ == "__main__":
    main()
