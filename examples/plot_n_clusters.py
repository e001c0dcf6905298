"""
Choosing the number of clusters
===============================

``n_clusters="auto"`` takes as many clusters as the rows fall into. Or choose by the score of whole
models: ``score`` tells how much harder the predicted clusters are to cut in two than to part from
each other, on the neighbour graph of the *input*. It needs no labels and, unlike the inertia, does
not grow with the number of clusters, so `GridSearchCV` can choose by it.
"""

# %%
# Five groups in ten dimensions, each stretched in a direction of its own.
import tempfile
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from skdec import DECClustering
from skdec.metrics import stability

rng = np.random.default_rng(0)
X, y = make_blobs(400, 10, centers=5, center_box=(-4, 4), random_state=0)
X += rng.normal(size=(400, 1)) * rng.normal(size=(5, 10))[y]

# %%
# In one fit, by the neighbour graph of the embedding: beside the number there is a score of each
# from 2 on. Here one of the stretched groups is taken for two, for training has drawn it apart.
found = DECClustering("auto", random_state=0).fit(X)
print("clusters found:", found.n_clusters_)
print("scores of 2, 3, ...:", np.round(found.n_clusters_scores_[:8], 2))

# %%
# Pretraining does not depend on ``n_clusters``: with ``memory`` it is done once for all of them.
# The score of whole models, in the input, is largest at the number of groups. Fewer clusters have
# to join groups that lie apart, more have to cut groups. Where self-training would do harm to such
# clusters it is undone, with a warning that is not of interest here.
warnings.simplefilter("ignore", ConvergenceWarning)
candidates = [2, 3, 4, 5, 6, 7, 8, 10]
with tempfile.TemporaryDirectory() as cache:
    dec = DECClustering(memory=cache, random_state=0)
    scores = [dec.set_params(n_clusters=k).fit(X).score(X) for k in candidates]

plt.figure(figsize=(6, 3.5), layout="constrained")
plt.plot(candidates, scores, "o-", label="score of models, in the input")
of_numbers = found.n_clusters_scores_[:9]
plt.plot(range(2, 11), of_numbers, "s--", label="n_clusters_scores_, in the embedding")
plt.axvline(5, color="0.7", linestyle="--", label="groups that were made")
plt.xlabel("n_clusters")
plt.ylabel("score")
plt.legend()

# %%
# The same choice by rows that were held out. No ``scoring`` is needed.
with tempfile.TemporaryDirectory() as cache:
    dec = DECClustering(memory=cache, random_state=0)
    search = GridSearchCV(dec, {"n_clusters": [3, 5, 7]}, cv=2, refit=False).fit(X)
print("best on held-out rows:", search.best_params_)

# %%
# Whether there are clusters at all is another question: two halves of the rows must lead to the
# same clusters. In noise they do not.
noise = rng.uniform(size=(400, 10))
print(f"stability, groups: {stability(DECClustering(5, random_state=0), X, random_state=0):.2f}")
print(
    f"stability, noise:  {stability(DECClustering(5, random_state=0), noise, random_state=0):.2f}"
)
