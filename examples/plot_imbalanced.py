"""
Clusters of very different size
===============================

k-means prefers clusters of equal spread: it cuts a large group to pieces sooner than it finds a
small one. Here nearly half of all rows are in the largest group and a twentieth in the smallest.
"""

# %%
# Five handwritten digits, 175 images of one and 20 of another. Fewer steps than the default (400
# and 200 instead of 721 and 361).
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from skdec import DECClustering

digits, y = load_digits(return_X_y=True)
sizes = {0: 175, 1: 90, 2: 60, 4: 30, 6: 20}
rows = np.concatenate([np.flatnonzero(y == k)[:size] for k, size in sizes.items()])
X, y = digits[rows] / 16, y[rows]
kmeans = KMeans(5, n_init=10, random_state=0).fit(X)
dec = DECClustering(5, pretrain_steps=400, neighbor_steps=200, random_state=0).fit(X)

# %%
# k-means cuts the ones into three pieces and the fours into two; the sixes, the smallest group,
# have to share their cluster with fours and ones. DECClustering finds both small groups; what it
# gets wrong is some ones among the twos.
fig, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for ax, model in zip(axes, [kmeans, dec], strict=True):
    table = contingency_matrix(y, model.labels_)
    ax.imshow(table / table.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(table):
        ax.text(j, i, count, ha="center", va="center", color="C1", weight="bold")
    ax.set_yticks(range(5), [f"digit {k} ({size})" for k, size in sizes.items()])
    ax.set(xlabel="cluster", xticks=range(5))
    ax.set_title(f"{type(model).__name__}: ARI {adjusted_rand_score(y, model.labels_):.2f}")
