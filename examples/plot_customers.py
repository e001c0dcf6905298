"""
Customers: a table of numbers and categories
============================================

A table with numeric and categorical columns goes through a `ColumnTransformer`. The table is made
here, with four kinds of customers planted in it, so that we know what there is to find.
"""

# %%
# Four segments of uneven size differ in age, income, visits and channel; the region is noise.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skdec import DECClustering
from skdec.inspection import explain_clusters

rng = np.random.default_rng(0)
planted = rng.choice(["student", "family", "saver", "big spender"], 600, p=[0.4, 0.3, 0.2, 0.1])
# Mean age, mean income in thousands, visits a month, share of orders that are made online.
kinds = pd.DataFrame(
    {
        "student": [22, 18, 6, 0.9],
        "family": [40, 55, 9, 0.5],
        "saver": [66, 30, 2, 0.1],
        "big spender": [48, 140, 4, 0.7],
    }
)
age, income, visits, online = kinds[planted].to_numpy()
table = pd.DataFrame(
    {
        "age": rng.normal(age, 5),
        "income": income * rng.lognormal(0, 0.25, 600),
        "visits": rng.poisson(visits),
        "channel": np.where(rng.random(600) < online, "online", "shop"),
        "region": rng.choice(["north", "south", "east", "west"], 600),
    }
)

# %%
# Columns with different units have to be standardised: the estimator itself keeps units, as
# `KMeans` does. Income is skewed, so its logarithm is taken first. Two categories come to six
# columns of zeros and ones, which need no weights of their own: that two customers are from the
# same region does not make them neighbours where they differ in all else.
log = FunctionTransformer(np.log)
columns = make_column_transformer(
    (StandardScaler(), ["age", "visits"]),
    (make_pipeline(log, StandardScaler()), ["income"]),
    (OneHotEncoder(sparse_output=False), ["channel", "region"]),
)
kmeans = KMeans(4, n_init=10, random_state=0)
dec = DECClustering(4, random_state=0)
for clusterer in [kmeans, dec]:
    model = make_pipeline(columns, clusterer).fit(table)
    agreement = adjusted_rand_score(planted, clusterer.labels_)
    name = type(clusterer).__name__
    print(f"{name:14} adjusted Rand index with the planted segments {agreement:.3f}")

print(pd.crosstab(planted, dec.labels_, rownames=["planted"], colnames=["cluster"]))

# %%
# What sets the clusters of DECClustering apart, in the table's own columns and units: the mean in
# the cluster, that of all other customers, and the difference in standard deviations.
effects = explain_clusters(model, table)
print(effects.groupby("cluster").head(2).round(2).to_string(index=False))

# %%
# All of them at a glance. The region, which is noise, sets none apart.
effects = effects.pivot(index="feature", columns="cluster", values="effect")
plt.figure(figsize=(6, 4), layout="constrained")
plt.imshow(effects, cmap="coolwarm", vmin=-2.5, vmax=2.5, aspect="auto")
plt.yticks(range(len(effects)), effects.index)
plt.xticks(range(4))
plt.xlabel("cluster")
plt.colorbar(label="effect (standard deviations)")
