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

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

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
# The network needs dense rows: the decomposition makes them dense and small. 300 and 150 steps,
# not the default 769 and 384, to be quick.
tfidf = TfidfVectorizer(max_df=0.5, min_df=3, stop_words="english", sublinear_tf=True)
words = tfidf.fit_transform(texts)
kmeans = KMeans(4, n_init=10, random_state=0)
dec = DECClustering(4, pretrain_steps=300, neighbor_steps=150, random_state=0)
for clusterer in [kmeans, dec]:
    model = make_pipeline(TruncatedSVD(50, random_state=0), Normalizer(), clusterer).fit(words)
    nmi = normalized_mutual_info_score(y, clusterer.labels_)
    print(f"{type(clusterer).__name__:14} NMI with the subpackages {nmi:.3f}")

# %%
# The words that tell a cluster from the rest. Some are of paragraphs that many functions of a
# part have in common, as that on batches in ``linalg``.
table = explain_clusters(model, words, feature_names=tfidf.get_feature_names_out(), top=7)
for cluster, top in table.groupby("cluster")["feature"]:
    print(f"cluster {cluster}: {', '.join(top)}")

# %%
# ``linalg`` and ``stats`` have a cluster nearly to themselves, and so have filters, with poles and
# a transfer function. The rest of ``signal`` shares its cluster with ``ndimage``: both say in the
# same words what is beyond an array's edges. The subpackages are one way to sort these functions,
# and not quite that of their texts.
ClusterConfusionDisplay.from_predictions(np.array(names)[y], dec.labels_)
