"""
Text: which part of SciPy is this function from?
================================================

Documents as TF-IDF vectors, sparse as they come. The corpus comes with SciPy: the docstrings of the
functions of four of its subpackages. The subpackage only judges the result.
"""

# %%
# References to ``scipy.signal`` and the like would give the answer away and are removed.
import importlib
import inspect
import re

import numpy as np
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score

from skdec import DECClustering
from skdec.displays import ClusterConfusionDisplay
from skdec.inspection import explain_clusters

names = ["linalg", "ndimage", "signal", "stats"]
texts, y = [], []
for number, name in enumerate(names):
    module = importlib.import_module(f"scipy.{name}")
    functions = [f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__doc__]
    texts += [re.sub(r"\b(scipy|" + "|".join(names) + r")\b", " ", f.__doc__) for f in functions]
    y += [number] * len(functions)
print(dict(zip(names, np.bincount(y).tolist(), strict=True)))

# %%
# Sparse rows are taken on request: a batch of them is made dense at a time.
tfidf = TfidfVectorizer(max_df=0.5, min_df=3, stop_words="english", sublinear_tf=True)
X = tfidf.fit_transform(texts)
print(f"{X.shape[0]} texts, {X.shape[1]} words, {X.nnz / X.shape[0]:.0f} of them in a text")
dec = DECClustering(4, accept_sparse=True, random_state=0).fit(X)
kmeans = KMeans(4, n_init=10, random_state=0).fit(X)
for model in [kmeans, dec]:
    nmi = normalized_mutual_info_score(y, model.labels_)
    print(f"{type(model).__name__:14} NMI with the subpackages {nmi:.3f}")

# %%
# The words that tell a cluster from the rest. Some are of paragraphs that many functions of a
# part have in common, as that on batches in ``linalg``.
table = explain_clusters(dec, X, feature_names=tfidf.get_feature_names_out(), top=7)
for cluster, top in table.groupby("cluster")["feature"]:
    print(f"cluster {cluster}: {', '.join(top)}")

# %%
# Each cluster is of one subpackage for the most part. That of ``stats`` also has what ``ndimage``
# measures (``mean``, ``variance``), and that of ``ndimage`` what ``signal`` convolves and smooths.
# Other processors round differently: there some functions may be elsewhere.
ClusterConfusionDisplay.from_predictions(np.array(names)[y], dec.labels_)
