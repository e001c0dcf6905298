"""
Rows that fit no cluster
========================

A row that is like nothing in the training data gets a cluster all the same. How badly the decoder
gives it back, how far it is from its centre and how unsure its assignment is can each tell that
it does not belong there.
"""

# %%
# The model learns 600 images of the digits 0 to 4. New rows are other images of these digits, and
# images of 5 to 9.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from skdec import DECClustering

X, y = load_digits(return_X_y=True)
X = X / 16
known = np.flatnonzero(y < 5)
new = np.concatenate([known[600:], np.flatnonzero(y >= 5)[:300]])
dec = DECClustering(5, random_state=0).fit(X[known[:600]])

# %%
# Three scores of strangeness, all without labels.
Z = dec.transform(X[new])
scores = {
    "reconstruction error": np.square(X[new] - dec.inverse_transform(Z)).mean(axis=1),
    "distance to the centre": np.linalg.norm(Z - dec.cluster_centers_[dec.predict(X[new])], axis=1),
    "1 - largest probability": 1 - dec.predict_proba(X[new]).max(axis=1),
}
strange = y[new] >= 5
fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
for ax, (name, score) in zip(axes, scores.items(), strict=True):
    print(f"{name:24} area under the ROC curve {roc_auc_score(strange, score):.3f}")
    bins = np.linspace(0, np.quantile(score, 0.98), 30)
    ax.hist([score[~strange], score[strange]], bins, label=["digits 0 to 4", "5 to 9"])
    ax.set(xlabel=name, yticks=[])
axes[0].legend()

# %%
# All three separate about equally well: what the network has not seen, it cannot draw, and is not
# sure of.
