"""
A drop-in for KMeans
====================

The same two lines, with another class. The two half-moons are the textbook case that k-means
cannot solve: it cuts space into convex cells, and a moon is not convex.
"""

# %%
# Both estimators get the same rows and the number of clusters.
import matplotlib.pyplot as plt
from sklearn.cluster import KMeans
from sklearn.datasets import make_moons
from sklearn.metrics import adjusted_rand_score

from skdec import DECClustering

X, y = make_moons(400, noise=0.05, random_state=0)
kmeans = KMeans(n_clusters=2, random_state=0).fit(X)
dec = DECClustering(n_clusters=2, random_state=0).fit(X)

fig, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
for ax, model in zip(axes, [kmeans, dec], strict=True):
    ax.scatter(*X.T, c=model.labels_, cmap="coolwarm", s=12)
    agreement = adjusted_rand_score(y, model.labels_)
    ax.set_title(f"{type(model).__name__}: adjusted Rand index {agreement:.2f}")

# %%
# k-means cuts straight through both moons. DECClustering follows them. Where its centres came from
# is on record: of several partitions of the rows the one that best keeps to their neighbourhoods
# was taken. It comes first.
for name, score in dec.init_scores_.items():
    print(f"{score:.3f}  {name}")

# %%
# New rows get their cluster from the trained encoder, with no second fit. Two things differ from
# `KMeans`: ``transform`` is the embedding, not the distances to the centres, and the centres live
# in it.
new, _ = make_moons(5, noise=0.05, random_state=1)
print("labels    ", dec.predict(new))
print("embedding ", dec.transform(new).shape)
print("centres   ", dec.cluster_centers_.shape)
print("prototypes", dec.inverse_transform(dec.cluster_centers_).shape)
