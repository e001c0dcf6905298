"""A picture of a fitted model's embedding; matplotlib is imported only here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.manifold import TSNE
from sklearn.utils import resample

# Height and width of a prototype, in points.
_IMAGE_SIZE = 30

# t-SNE of more rows takes minutes and shows no more.
_MOST_POINTS = 3000


def save_embedding_picture(model, X, path: Path, title: str, image_shape=None) -> None:
    """Write the embedding of `X` in two dimensions (t-SNE), coloured by cluster, to `path`.

    With `image_shape` each cluster is marked by its prototype, the decoded centre, else by
    its number.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "matplotlib is needed for pictures; install it with: pip install 'skdec[plot]'"
        ) from error

    if len(X) > _MOST_POINTS:
        X = resample(X, replace=False, n_samples=_MOST_POINTS, random_state=0)
    Z, labels = model.transform(X), model.predict(X)
    points = _two_dimensions(Z)
    colormap = mpl.colormaps["tab10" if model.n_clusters <= 10 else "turbo"]
    span = 10 if model.n_clusters <= 10 else model.n_clusters
    colors = colormap((np.arange(model.n_clusters) + 0.5) / span)
    images = None
    if image_shape is not None:
        images = model.inverse_transform(model.cluster_centers_).reshape(-1, *image_shape)

    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(*points.T, c=colors[labels], s=12, alpha=0.8, linewidths=0)
    for label in np.unique(labels):
        place = _middle(points[labels == label])
        _mark(axes, place, str(label) if images is None else images[label], colors[label])
    axes.set_title(title, fontsize=15, loc="left", pad=12)
    axes.set_xlabel(f"t-SNE of the {Z.shape[1]}-dimensional embedding", color="0.4")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.margins(0.06)
    figure.savefig(path, dpi=120)


def _two_dimensions(Z: np.ndarray) -> np.ndarray:
    """Embedding to points of shape (n_samples, 2)."""
    if Z.shape[1] == 1 or len(Z) < 4:
        return np.column_stack([Z[:, 0], Z[:, -1] if Z.shape[1] > 1 else np.zeros(len(Z))])
    perplexity = min(30.0, (len(Z) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(Z)


def _middle(points: np.ndarray) -> np.ndarray:
    """The point nearest to the median: a place that is among the others."""
    return points[np.square(points - np.median(points, axis=0)).sum(axis=1).argmin()]


def _mark(axes, place: np.ndarray, mark: str | np.ndarray, color) -> None:
    """A cluster's prototype image, or its number, in a frame of its colour."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    frame = {"edgecolor": color, "linewidth": 2.5, "boxstyle": "round,pad=0.15"}
    if isinstance(mark, str):
        axes.annotate(mark, place, ha="center", va="center", fontsize=12, fontweight="bold",
                      bbox=frame | {"facecolor": "white"})  # fmt: skip
        return
    image = OffsetImage(
        mark, zoom=_IMAGE_SIZE / max(mark.shape[:2]), cmap="gray_r", interpolation="bilinear"
    )
    axes.add_artist(AnnotationBbox(image, place, bboxprops=frame, pad=0.15))
