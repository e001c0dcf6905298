"""Data sets of the benchmarks: made or shipped by scikit-learn, from a folder, or fetched."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn import datasets
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import StandardScaler

Data = tuple[np.ndarray, np.ndarray]

_OPENML = {"mnist": "mnist_784", "usps": "USPS"}


def load(name: str, folder: Path | None = None) -> Data:
    """Rows and known classes of a data set of `DATA_SETS`.

    `folder` (`--data DIR`) has `mnist.npz`, `usps.npz`, `coil100.npz` and `reuters21578.npz`;
    without it the first two are fetched, and the others are an error.
    """
    return DATA_SETS[name](folder)


def load_images(name: str, folder: Path | None) -> Data:
    """Pixels in [0, 1], float32 of shape (n_samples, n_pixels), and classes.

    In `folder` the file `<name>.npz` has the arrays X (uint8, 0 to 255) and y.
    """
    if folder is not None:
        with np.load(folder / f"{name}.npz") as arrays:
            return arrays["X"].astype(np.float32) / 255, arrays["y"].astype(int)
    if name not in _OPENML:
        raise SystemExit(f"{name} cannot be fetched: give the folder with {name}.npz by --data.")
    X, y = datasets.fetch_openml(_OPENML[name], return_X_y=True, as_frame=False)
    X = X - X.min()
    return (X / X.max()).astype(np.float32), y.astype(int)


def _mnist_10k(folder: Path | None) -> Data:
    X, y = load_images("mnist", folder)
    return X[60_000:], y[60_000:]


def _imbalanced(name: str, rate: float, folder: Path | None) -> Data:
    """A share of each class, rising from `rate` for the first to 1 for the last."""
    X, y = DATA_SETS[name](folder)
    shares = np.linspace(rate, 1.0, y.max() + 1)
    kept = np.random.default_rng(0).random(len(y)) < shares[y]
    return X[kept], y[kept]


def _reuters(folder: Path | None) -> Data:
    if folder is None:
        raise SystemExit("reuters cannot be fetched: give the folder with reuters21578.npz.")
    with np.load(folder / "reuters21578.npz") as arrays:
        parts = arrays["data"].astype(float), arrays["indices"], arrays["indptr"]
        counts, y = csr_matrix(parts, shape=tuple(arrays["shape"])), arrays["y"].astype(int)
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts).toarray(), y


def _standardised(loader, folder: Path | None) -> Data:
    X, y = loader(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def _digits(folder: Path | None) -> Data:
    X, y = datasets.load_digits(return_X_y=True)
    return X / 16, y


def _anisotropic(folder: Path | None) -> Data:
    X, y = datasets.make_blobs(1000, random_state=170)
    return X @ np.array([[0.6, -0.6], [-0.4, 0.8]]), y


def _made(make, folder: Path | None, **parameters) -> Data:
    return make(1000, **parameters)


DATA_SETS = {
    "usps": partial(load_images, "usps"),
    "mnist-10k": _mnist_10k,
    "reuters": _reuters,
    "coil100": partial(load_images, "coil100"),
    "iris": partial(_standardised, datasets.load_iris),
    "wine": partial(_standardised, datasets.load_wine),
    "breast cancer": partial(_standardised, datasets.load_breast_cancer),
    "digits": _digits,
    "moons": partial(_made, datasets.make_moons, noise=0.06, random_state=0),
    "circles": partial(_made, datasets.make_circles, noise=0.05, factor=0.5, random_state=0),
    "blobs": partial(_made, datasets.make_blobs, n_features=10, centers=6, random_state=0),
    "anisotropic": _anisotropic,
    "varied": partial(_made, datasets.make_blobs, cluster_std=[1.0, 2.5, 0.5], random_state=170),
    "mnist": partial(load_images, "mnist"),
} | {
    f"{name}, imbalanced {rate}": partial(_imbalanced, name, rate)
    for name in ("usps", "mnist-10k")
    for rate in (0.1, 0.3, 0.5, 0.7, 0.9)
}
