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
# columns of zeros and ones. With full weight, channel and region make up most of the distance
# between two customers, and become the clusters; here they get 0.3.
#
# 300 and 150 steps, not the default 843 and 422, to be quick.
numbers, categories = ["age", "income", "visits"], ["channel", "region"]
log = FunctionTransformer(np.log)
columns = make_column_transformer(
    (StandardScaler(), ["age", "visits"]),
    (make_pipeline(log, StandardScaler()), ["income"]),
    (OneHotEncoder(sparse_output=False), categories),
).set_params(transformer_weights={"onehotencoder": 0.3})
kmeans = KMeans(4, n_init=10, random_state=0)
dec = DECClustering(4, pretrain_steps=300, neighbor_steps=150, random_state=0)
for model in [kmeans, dec]:
    labels = make_pipeline(columns, model).fit_predict(table)
    agreement = adjusted_rand_score(planted, labels)
    print(
        f"{type(model).__name__:14} adjusted Rand index with the planted segments {agreement:.3f}"
    )

print(pd.crosstab(planted, labels, rownames=["planted"], colnames=["cluster"]))

# %%
# What the clusters of DECClustering are, in the units of the table: the planted segments, but for
# a few families among the big spenders, and for some customers of each kind among the families.
profile = table.groupby(labels)[numbers].mean().round(1)
profile["online"] = (table["channel"] == "online").groupby(labels).mean().round(2)
profile["customers"] = np.bincount(labels)
print(profile)

standardised = (profile - profile.mean()) / profile.std()
plt.figure(figsize=(7, 3), layout="constrained")
plt.imshow(standardised[numbers + ["online"]], cmap="coolwarm", aspect="auto")
plt.xticks(range(4), numbers + ["online"])
plt.yticks(range(4), [f"cluster {k}" for k in range(4)])
plt.colorbar(label="below or above the mean of the clusters")
