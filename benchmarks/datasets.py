"""Data sets of the benchmarks, from a folder (`--data DIR`) or fetched with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml

_OPENML = {"mnist": "mnist_784", "usps": "USPS"}


def load_images(name: str, folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1], float32 of shape (n_samples, n_pixels), and digits.

    In `folder` the file `<name>.npz` has the arrays X (uint8, 0 to 255) and y.
    """
    if folder is not None:
        with np.load(folder / f"{name}.npz") as arrays:
            return arrays["X"].astype(np.float32) / 255, arrays["y"].astype(int)
    X, y = fetch_openml(_OPENML[name], return_X_y=True, as_frame=False)
    X = X - X.min()
    return (X / X.max()).astype(np.float32), y.astype(int)
