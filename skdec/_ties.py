"""Values that many rows share: what they say of who is close to whom; no torch.

A feature of few values, a yes or no say, parts all rows by a gap, whatever the clusters; and rows
that share its value are no closer for that than some that do not.
"""

from __future__ import annotations

import numpy as np


def ties(x: np.ndarray) -> np.ndarray:
    """Of each feature the share of pairs of rows that have the same value, of shape (n_features,).

    Half or more of a yes or no, one m-th of m values that are equally common.
    """
    n_pairs = max(len(x) * (len(x) - 1.0), 1.0)
    counts = (np.unique(column, return_counts=True)[1] for column in x.T)
    return np.array([count @ (count - 1.0) / n_pairs for count in counts])


def dequantized(x: np.ndarray, seed: int) -> np.ndarray:
    """The rows with values that several share spread at random, evenly around; in their place.

    So no feature has gaps between its values [1]_. A value is spread to the nearer of its two
    borders with other values, which are the nearer to one the more rows have it: what is added has
    a third of the variance of a yes or no, whether that is rare or not. Values keep their order,
    and those of one row alone stay as they are, to the bit.

    References
    ----------
    .. [1] Theis, van den Oord, Bethge. "A note on the evaluation of generative models". ICLR 2016,
       arXiv:1511.01844. Noise makes densities of discrete values comparable.
    """
    random = np.random.default_rng((seed, 1))  # not the stream of who made the rows by this seed
    for column in x.T:
        values, which, counts = np.unique(column, return_inverse=True, return_counts=True)
        if 1 < len(values) < len(x):
            reach = _reaches(values.astype(np.float64), counts)[which]
            column += (random.uniform(-1.0, 1.0, len(x)) * reach).astype(x.dtype)
    return x


def _reaches(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How far each of the sorted values of a feature, that so many rows have, is spread."""
    gaps, of_upper = np.diff(values), counts[1:]
    to_upper = gaps * (of_upper / (of_upper + counts[:-1]))
    nearer = np.minimum(np.append(to_upper, np.inf), np.append(np.inf, gaps - to_upper))
    return nearer * (1.0 - 1.0 / counts)
