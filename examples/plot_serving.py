"""
Saving a model and serving it
=============================

``save`` writes a fitted model to a file of numbers and text. It holds no code, and ``load`` checks
all of it before anything is built, so that a file from anyone may be opened.
"""

# %%
# The rows are not in the file, but the labels of the fit are.
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris

from skdec import DECClustering

X = load_iris().data
dec = DECClustering(3, random_state=0).fit(X)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "iris.safetensors"
    dec.save(path)
    print(f"{path.stat().st_size / 1024:.0f} kB")
    served = DECClustering.load(path)

# %%
# The loaded model predicts the same bits; a row's prediction is the same alone and in any batch,
# so that an online service and a nightly batch agree.
Q = dec.predict_proba(X)
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
plt.grid(alpha=0.3)

# %%
# A call with few rows costs about the same whatever their number; from some hundred rows on, the
# time is that of the rows.
#
# Two other ways lead to a server. Where there is no Python, :func:`skdec.onnx.to_onnx` gives a
# graph of the whole predict path for any ONNX runtime. A whole pipeline, with what standardises
# the rows, is kept by ``skops.io``, which asks you to trust this one class and no other. pickle and
# joblib keep it too, but a pickle can run code when it is loaded: open those of people you trust.
