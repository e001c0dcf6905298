"""
Images and their prototypes
===========================

Handwritten digits, clustered from their pixels. The decoder turns each cluster's centre back into
an image: the prototype of the cluster.
"""

# %%
# The first 1,000 of scikit-learn's digits, 8 x 8 pixels each, with half of the default's training
# steps (1,000 and 500).
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE

from skdec import DECClustering
from skdec.metrics import clustering_accuracy

X, y = load_digits(return_X_y=True)
X, y = X[:1000] / 16, y[:1000]
kmeans = KMeans(10, n_init=10, random_state=0).fit(X)
dec = DECClustering(10, pretrain_steps=500, neighbor_steps=250, random_state=0).fit(X)
print(f"accuracy of k-means       {clustering_accuracy(y, kmeans.labels_):.3f}")
print(f"accuracy of DECClustering {clustering_accuracy(y, dec.labels_):.3f}")

# %%
# Above, one prototype for each cluster and how many rows it has; below, the row of each cluster
# that the model is most sure of. A prototype is a smoothed image of its cluster; one of them, the
# last, is blurred.
prototypes = dec.inverse_transform(dec.cluster_centers_).reshape(-1, 8, 8)
sizes = np.bincount(dec.labels_, minlength=10)
surest = dec.predict_proba(X).argmax(axis=0)
fig, axes = plt.subplots(2, 10, figsize=(10, 2.6), layout="constrained")
for ax, image, size in zip(axes[0], prototypes, sizes, strict=True):
    ax.imshow(image, cmap="gray_r")
    ax.set_title(f"{size} rows", fontsize=9)
for ax, image in zip(axes[1], X[surest].reshape(-1, 8, 8), strict=True):
    ax.imshow(image, cmap="gray_r")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])

# %%
# The ten-dimensional embedding, flattened by t-SNE, once in the colours of the clusters and once
# in those of the true digits. Most clusters are one digit. The ones are in three places: in a
# small cluster of their own, among the eights (the blurred prototype is of this mixture), and
# beside the fives.
points = TSNE(random_state=0).fit_transform(dec.transform(X))
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for ax, color, title in zip(axes, [dec.labels_, y], ["cluster", "digit"], strict=True):
    ax.scatter(*points.T, c=color, cmap="tab10", s=8)
    ax.set(title=title, xticks=[], yticks=[])
