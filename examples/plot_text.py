"""
Text: which part of SciPy is this function from?
================================================

Documents as TF-IDF vectors, reduced by a singular value decomposition. The corpus comes with
SciPy: the docstrings of the functions of four of its subpackages. The subpackage only judges the
result.
"""

# %%
# References to ``scipy.signal`` and the like would give the answer away and are removed.
import importlib
import inspect
import re

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdec import DECClustering

names = ["linalg", "ndimage", "signal", "stats"]
texts, y = [], []
for number, name in enumerate(names):
    module = importlib.import_module(f"scipy.{name}")
    functions = [f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__doc__]
    texts += [re.sub(r"\b(scipy|" + "|".join(names) + r")\b", " ", f.__doc__) for f in functions]
    y += [number] * len(functions)
print(dict(zip(names, np.bincount(y).tolist(), strict=True)))

# %%
# Sparse input is refused, since the network needs dense rows: the decomposition makes them dense
# and small.
tfidf = TfidfVectorizer(max_df=0.5, min_df=3, stop_words="english", sublinear_tf=True)
words = make_pipeline(tfidf, TruncatedSVD(50, random_state=0), Normalizer())
# 300 and 150 steps, not the default 769 and 384, to be quick.
Z = words.fit_transform(texts)
dec = DECClustering(4, pretrain_steps=300, neighbor_steps=150, random_state=0).fit(Z)
kmeans = KMeans(4, n_init=10, random_state=0).fit(Z)
for model in [kmeans, dec]:
    nmi = normalized_mutual_info_score(y, model.labels_)
    print(f"{type(model).__name__:14} NMI with the subpackages {nmi:.3f}")

# %%
# The words that tell a cluster from the rest. Some are of paragraphs that many functions of a
# part have in common, as that on batches in ``linalg``.
weights = tfidf.transform(texts).toarray()
for k in range(4):
    inside = dec.labels_ == k
    lead = weights[inside].mean(axis=0) - weights[~inside].mean(axis=0)
    top = tfidf.get_feature_names_out()[lead.argsort()[::-1][:7]]
    print(f"cluster {k} ({inside.sum()} functions): {', '.join(top)}")

# %%
# ``linalg`` and ``stats`` have a cluster nearly to themselves. ``signal`` is cut in two: filters
# as systems, with poles and a transfer function, and the rest, which shares its cluster with
# ``ndimage``. Both filter arrays there, and say in the same words what is beyond an array's
# edges. The subpackages are one way to sort these functions, and not quite that of their texts.
counts = np.zeros((4, 4), dtype=int)
np.add.at(counts, (y, dec.labels_), 1)
plt.figure(figsize=(5, 4), layout="constrained")
plt.imshow(counts, cmap="Blues")
plt.yticks(range(4), [f"scipy.{name}" for name in names])
plt.xticks(range(4))
plt.xlabel("cluster")
for (i, j), count in np.ndenumerate(counts):
    plt.text(j, i, count, ha="center", va="center", color="w" if count > counts.max() / 2 else "k")
