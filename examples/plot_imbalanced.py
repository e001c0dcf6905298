"""
Clusters of very different size
===============================

k-means prefers clusters of equal spread: it cuts a large group to pieces sooner than it finds a
small one. Here nearly half of all rows are in the largest group and a twentieth in the smallest.
"""

# %%
# Five handwritten digits, 175 images of one and 20 of another.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from skdec import DECClustering
from skdec.displays import ClusterConfusionDisplay

digits, y = load_digits(return_X_y=True)
sizes = {0: 175, 1: 90, 2: 60, 4: 30, 6: 20}
rows = np.concatenate([np.flatnonzero(y == k)[:size] for k, size in sizes.items()])
X, y = digits[rows] / 16, y[rows]
kmeans = KMeans(5, n_init=10, random_state=0).fit(X)
dec = DECClustering(5, random_state=0).fit(X)

# %%
# k-means cuts the ones into three pieces and the fours into two; the sixes, the smallest group,
# have to share their cluster with fours and ones. DECClustering has a cluster for each digit, the
# small ones too, but some ones are with the sixes. A frame marks the cluster that is matched to a
# digit.
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for ax, model in zip(axes, [kmeans, dec], strict=True):
    display = ClusterConfusionDisplay.from_predictions(y, model.labels_, ax=ax)
    ax.set_title(f"{type(model).__name__}: accuracy {display.accuracy_:.2f}")
