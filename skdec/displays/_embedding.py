"""The embedding in two dimensions."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.utils import (
    check_array,
    check_consistent_length,
    check_random_state,
    check_scalar,
    resample,
)
from sklearn.utils.validation import _num_samples

from ..inspection import decoded_centers, fitted_clusterer
from ._drawing import as_images, check_image_shape, cluster_colors, own_axes, require_matplotlib

# Side of the marks of up to ten clusters, in points; more clusters get smaller ones.
_MARK_SIZE = 24


class EmbeddingDisplay:
    """The embedding in two dimensions, coloured by cluster, with the centres marked.

    Use :meth:`from_estimator`; the constructor takes what it has computed.

    Parameters
    ----------
    points : array-like of shape (n_samples, 2)
        The embedding, in two dimensions.
    labels : array-like of shape (n_samples,)
        Cluster of each point, counting from 0.
    centers : array-like of shape (n_clusters, 2), default=None
        Where to mark the clusters. None marks none.
    images : array-like of shape (n_clusters, height, width) or (n_clusters, height, width, 3), \
            default=None
        Marks, with values in [0, 1]. None marks the centres by the clusters' numbers.
    description : str, default="embedding"
        How the points came to be, written below them.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        The points.
    marks_ : list of matplotlib artists
        The mark of each centre.
    ax_ : matplotlib Axes
        Axes with the points.
    figure_ : matplotlib Figure
        Figure of the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdec import DECClustering
    >>> from skdec.displays import EmbeddingDisplay
    >>> X = load_iris().data
    >>> dec = DECClustering(3, pretrain_steps=50, neighbor_steps=25, random_state=0).fit(X)
    >>> display = EmbeddingDisplay.from_estimator(dec, X, projection="pca")
    >>> display.points.shape
    (150, 2)
    """

    def __init__(self, points, labels, *, centers=None, images=None, description="embedding"):
        self.points = points
        self.labels = labels
        self.centers = centers
        self.images = images
        self.description = description

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        projection="tsne",
        image_shape=None,
        max_points=3000,
        random_state=0,
        ax=None,
        **kwargs,
    ):
        """Compute and draw the embedding of `X`.

        Parameters
        ----------
        estimator : DECClustering or Pipeline
            Fitted; a Pipeline must end in a DECClustering.
        X : array-like of shape (n_samples, n_features)
            Rows, as `estimator` takes them; seen in `fit` or new.
        projection : {"tsne", "pca"} or transformer, default="tsne"
            What brings rows and centres of the embedding to two dimensions: t-SNE, the two
            leading principal components, or a copy of an object with `fit_transform` (UMAP for
            example). t-SNE keeps who is near whom; sizes of groups and distances between
            them have no meaning there. An embedding of one or two dimensions is drawn as it is.
        image_shape : tuple (height, width) or (height, width, 3), default=None
            Shape of a row of `X` as an image. The centres are then marked by their prototypes.
        max_points : int, default=3000
            Of more rows, a random choice of so many is drawn.
        random_state : int, RandomState instance or None, default=0
            Of that choice and of t-SNE.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : EmbeddingDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If a parameter is not as documented.
        NotFittedError
            If `estimator` has not been fitted.
        """
        require_matplotlib()
        centers = fitted_clusterer(estimator).cluster_centers_
        check_scalar(max_points, "max_points", Integral, min_val=1)
        random_state = check_random_state(random_state)
        projector = _projector(projection, centers.shape[1], random_state)
        images = None if image_shape is None else _prototype_images(estimator, X, image_shape)
        if _num_samples(X) > max_points:
            X = resample(X, replace=False, n_samples=max_points, random_state=random_state)
        Z = np.asarray(estimator.transform(X))
        points, description = _in_two_dimensions(Z, centers, projector, random_state)
        display = cls(
            points[: len(Z)],
            np.asarray(estimator.predict(X)),
            centers=points[len(Z) :],
            images=images,
            description=description,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, cmap="gray_r", **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        cmap : str or matplotlib Colormap, default="gray_r"
            Colours of prototype images without colours of their own.
        **kwargs
            Passed to `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : EmbeddingDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `points` and `labels` differ in length.
        """
        points, labels = np.asarray(self.points), np.asarray(self.labels)
        check_consistent_length(points, labels)
        ax = own_axes(ax, (8, 8))
        n_centers = 0 if self.centers is None else len(self.centers)
        colors = cluster_colors(max(labels.max() + 1, n_centers))
        style = {"s": 12, "alpha": 0.8, "linewidths": 0} | kwargs
        self.scatter_ = ax.scatter(*points.T, c=colors[labels], **style)
        size = _MARK_SIZE * min(1.0, (10 / max(n_centers, 1)) ** 0.5)
        self.marks_ = [
            _number(ax, self.centers[k], k, colors[k], size)
            if self.images is None
            else _image(ax, self.centers[k], self.images[k], colors[k], size, cmap)
            for k in range(n_centers)
        ]
        ax.set_xlabel(self.description, color="0.4")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.margins(0.06)
        ax.set_aspect("equal", adjustable="datalim")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _projector(projection, n_dimensions: int, random_state):
    """An unfitted object with `fit_transform`, or None where the embedding needs none."""
    if isinstance(projection, str) and projection in ("tsne", "pca"):
        named = {"tsne": TSNE(init="pca", random_state=random_state), "pca": PCA(2)}
        return None if n_dimensions <= 2 else named[projection]
    if isinstance(projection, (str, type)) or not hasattr(projection, "fit_transform"):
        raise ValueError(
            "projection must be 'tsne', 'pca' or an object with fit_transform. Got "
            f"{projection!r} instead."
        )
    return clone(projection)


def _in_two_dimensions(Z, centers, projector, random_state) -> tuple[np.ndarray, str]:
    """Points of shape (n_samples + n_clusters, 2), those of the centres last; how they came."""
    rows = np.concatenate([Z, centers])
    if projector is None and rows.shape[1] == 2:
        return rows, "the 2-dimensional embedding"
    if projector is None:
        height = random_state.uniform(-1.0, 1.0, len(rows)) * (np.arange(len(rows)) < len(Z))
        spread = np.ptp(rows) / 20
        return np.column_stack(
            [rows, height * spread]
        ), "the 1-dimensional embedding (heights are random)"
    if isinstance(projector, TSNE):
        projector.set_params(perplexity=min(projector.perplexity, (len(rows) - 1) / 3))
    name = {"TSNE": "t-SNE"}.get(type(projector).__name__, type(projector).__name__)
    points = np.asarray(projector.fit_transform(rows))
    return points, f"{name} of the {rows.shape[1]}-dimensional embedding"


def _prototype_images(estimator, X, image_shape) -> np.ndarray:
    prototypes = decoded_centers(estimator)
    check_image_shape(image_shape, prototypes.shape[1])
    return as_images(prototypes, image_shape, check_array(X, input_name="X"))


def _number(ax, place, number: int, color, size: float):
    """The number of a cluster in a frame of its colour."""
    return ax.annotate(
        str(number),
        place,
        ha="center",
        va="center",
        fontsize=max(7.0, 0.42 * size),
        fontweight="bold",
        bbox={
            "facecolor": "white",
            "edgecolor": color,
            "linewidth": size / 12,
            "boxstyle": "round,pad=0.15",
        },
    )


def _image(ax, place, image, color, size: float, cmap):
    """The prototype of a cluster in a frame of its colour."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    shown = OffsetImage(
        image, zoom=size / max(image.shape[:2]), cmap=cmap, interpolation="bilinear"
    )
    shown.image.set_clim(0.0, 1.0)
    frame = {"edgecolor": color, "linewidth": size / 12, "boxstyle": "round,pad=0.15"}
    return ax.add_artist(AnnotationBbox(shown, place, bboxprops=frame, pad=0.15))
