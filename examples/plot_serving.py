"""
Saving a model and serving it
=============================

A fitted DECClustering is saved without code in a file that is safe to load from anyone. A whole
pipeline is pickled like any other of scikit-learn's; load pickles from people you trust only, they
can run code.
"""

# %%
# The pipeline is saved as a whole: what standardised the rows belongs to the model.
import tempfile
import time
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdec import DECClustering

X = load_wine().data
model = make_pipeline(StandardScaler(), DECClustering(3, random_state=0)).fit(X)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "wine.joblib"
    joblib.dump(model, path)
    print(f"{path.stat().st_size / 1024:.0f} kB")
    served = joblib.load(path)

# %%
# The loaded model predicts the same bits; a row's prediction is the same alone and in any batch,
# so that an online service and a nightly batch agree.
Q = model.predict_proba(X)
print("same bits after loading:  ", np.array_equal(served.predict_proba(X), Q))
alone = np.vstack([served.predict_proba(row[None]) for row in X])
print("same bits row by row:     ", np.array_equal(alone, Q))

# %%
# How long a call takes, by the number of its rows; the best of five, on the machine that built
# this page.
sizes, seconds = [1, 10, 100, 1_000, 10_000], []
for size in sizes:
    batch = np.resize(X, (size, X.shape[1]))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        served.predict(batch)
        times.append(time.perf_counter() - start)
    seconds.append(min(times))
plt.figure(figsize=(6, 3.5), layout="constrained")
plt.loglog(sizes, np.array(seconds) * 1000, "o-")
plt.xlabel("rows in one call of predict")
plt.ylabel("milliseconds in all")

# %%
# A call with few rows costs about the same whatever their number; from some hundred rows on, the
# time is that of the rows.
