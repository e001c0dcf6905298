"""
Counts: cells of uneven types
=============================

Counts of genes in single cells are overdispersed, full of zeros, and as large as the cell was
sequenced deep. They are simulated here: negative binomial, five types of cells of uneven number,
30 genes more or less active in each type.
"""

# %%
# 500 cells and 400 genes; the rarest type has a twentieth of the cells.
import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from skdec import DECClustering
from skdec.displays import ClusterConfusionDisplay, EmbeddingDisplay

rng = np.random.default_rng(0)
n_cells, n_genes, shares = 500, 400, [0.45, 0.25, 0.15, 0.1, 0.05]
types = rng.choice(5, n_cells, p=shares)
activity = np.tile(rng.lognormal(-0.5, 1.0, n_genes), (5, 1))
for k in range(5):
    activity[k, rng.choice(n_genes, 30, replace=False)] *= rng.lognormal(1.0, 0.5, 30)
mean = activity[types] * rng.lognormal(0, 0.5, (n_cells, 1))
counts = rng.negative_binomial(2.0, 2.0 / (2.0 + mean))
print(f"{np.mean(counts == 0):.0%} of the counts are 0, the largest is {counts.max()}")

# %%
# The usual normalisation: the same depth for every cell, then the logarithm. ``n_neighbors``
# should not exceed the size of the smallest type, which is about 30 here; by default it is at most
# 20, and that it is here: two halves of the genes agree little on which cells are close.
depth = counts.sum(axis=1, keepdims=True)
X = np.log1p(counts / depth * np.median(depth))
dec = DECClustering(5, random_state=0).fit(X)
kmeans = KMeans(5, n_init=10, random_state=0).fit(X)
for model in [kmeans, dec]:
    print(f"{type(model).__name__:14} ARI {adjusted_rand_score(types, model.labels_):.3f}")

# %%
# After this normalisation the types are round groups, for which k-means is made: it is nearly as
# good here, and much faster. What the embedding adds is the picture.
EmbeddingDisplay.from_estimator(dec, X)

# %%
# The types of the cells in each cluster. The rarest type has one of its own.
ClusterConfusionDisplay.from_estimator(dec, X, types)
