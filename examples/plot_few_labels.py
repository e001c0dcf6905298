"""
Few labels: the embedding as features
=====================================

Many rows, but labels for a few of them only. The embedding is learned from all rows without any
label; a logistic regression of the digit then starts from the embedding. It is compared with the
same regression on the pixels.
"""

# %%
# 1,000 digits to learn the embedding from, and the other 797 to test on.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdec import DECClustering

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = X[:1000] / 16, X[1000:] / 16, y[:1000], y[1000:]
dec = DECClustering(10, random_state=0).fit(X_train)
features = {"pixels": lambda X: X, "embedding": dec.transform}

# %%
# So many labelled digits of each kind, drawn ten times.
per_class, draws = [1, 2, 5, 10, 20], 10
accuracy = {name: np.zeros((len(per_class), draws)) for name in features}
for name, of in features.items():
    train, test = of(X_train), of(X_test)
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(y_train))
        for i, n in enumerate(per_class):
            chosen = np.concatenate([order[y_train[order] == k][:n] for k in range(10)])
            regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            regression.fit(train[chosen], y_train[chosen])
            accuracy[name][i, draw] = regression.score(test, y_test)

plt.figure(figsize=(6, 3.8), layout="constrained")
for name, values in accuracy.items():
    plt.errorbar(per_class, values.mean(axis=1), values.std(axis=1), marker="o", label=name)
    print(f"{name:10}", values.mean(axis=1).round(3))
plt.xscale("log")
plt.xticks(per_class, per_class)
plt.xlabel("labelled rows of each digit")
plt.ylabel("accuracy on new rows")
plt.legend(title="logistic regression on")

# %%
# With one or two labelled rows of each digit the embedding is far ahead; with twenty the pixels
# have caught up, for the embedding keeps little but the clusters. Unlabelled rows help where labels
# are scarce.
