"""
Images and their prototypes
===========================

Handwritten digits, clustered from their pixels. The decoder turns each cluster's centre back into
an image: the prototype of the cluster.
"""

# %%
# The first 1,000 of scikit-learn's digits, 8 x 8 pixels each.
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from skdec import DECClustering
from skdec.displays import ClusterConfusionDisplay, EmbeddingDisplay, PrototypeDisplay
from skdec.metrics import clustering_accuracy

X, y = load_digits(return_X_y=True)
X, y = X[:1000] / 16, y[:1000]
kmeans = KMeans(10, n_init=10, random_state=0).fit(X)
dec = DECClustering(10, random_state=0).fit(X)
print(f"accuracy of k-means       {clustering_accuracy(y, kmeans.labels_):.3f}")
print(f"accuracy of DECClustering {clustering_accuracy(y, dec.labels_):.3f}")

# %%
# Each line is a cluster: its prototype, the rows that the model is surest of, and those it doubts
# most, with the cluster that comes next. A blurred prototype is that of a mixture.
PrototypeDisplay.from_estimator(dec, X, image_shape=(8, 8))

# %%
# The ten-dimensional embedding, flattened by t-SNE, in the colours of the clusters, and each
# cluster marked by its prototype. ``projection`` takes UMAP or another transformer as well.

# sphinx_gallery_thumbnail_number = 2
EmbeddingDisplay.from_estimator(dec, X, image_shape=(8, 8))

# %%
# Which digits are in which cluster. This needs the true digits; all before did not.
ClusterConfusionDisplay.from_estimator(dec, X, y)
