"""Clusters against known labels."""

from __future__ import annotations

import numpy as np

from ..inspection import fitted_clusterer
from ..metrics import matched_counts
from ._drawing import own_axes, require_matplotlib


class ClusterConfusionDisplay:
    """How many rows of each known class are in each cluster, clusters beside their classes.

    Clusters and classes are matched one to one as in
    :func:`skdec.metrics.clustering_accuracy`. The columns stand in the order of the matched
    classes, so that the diagonal is what is matched; clusters that are left over come last. The
    numbers are counts, the colour is the share of the class.

    Parameters
    ----------
    confusion_matrix : array-like of shape (n_classes, n_clusters)
        Number of rows of each class in each cluster, columns in the order of drawing.
    classes : array-like of shape (n_classes,)
        Names of the classes.
    clusters : array-like of shape (n_clusters,)
        Names of the clusters, in the order of the columns.
    matched : array-like of shape (min(n_classes, n_clusters),)
        Row that is matched to each of the first columns. They get a frame.

    Attributes
    ----------
    accuracy_ : float
        Share of rows in matched cells: the clustering accuracy.
    im_ : matplotlib AxesImage
        The matrix as an image.
    text_ : ndarray of shape (n_classes, n_clusters) of matplotlib Text
        The counts; those that are 0 are empty.
    ax_ : matplotlib Axes
        Axes with the matrix.
    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    sklearn.metrics.ConfusionMatrixDisplay : For predictions that have the names of the classes.

    Examples
    --------
    >>> from skdec.displays import ClusterConfusionDisplay
    >>> display = ClusterConfusionDisplay.from_predictions(["a", "a", "b", "b"], [1, 1, 0, 1])
    >>> display.confusion_matrix
    array([[2, 0],
           [1, 1]])
    >>> display.clusters
    array([1, 0])
    >>> display.accuracy_
    0.75
    """

    def __init__(self, confusion_matrix, *, classes, clusters, matched):
        self.confusion_matrix = confusion_matrix
        self.classes = classes
        self.clusters = clusters
        self.matched = matched

    @classmethod
    def from_estimator(cls, estimator, X, y, *, ax=None, **kwargs):
        """Compute and draw the confusion of the predicted clusters of `X` with known classes.

        Parameters
        ----------
        estimator : DECClustering or Pipeline
            Fitted; a Pipeline must end in a DECClustering.
        X : array-like of shape (n_samples, n_features)
            Rows, as `estimator` takes them; seen in `fit` or new.
        y : array-like of shape (n_samples,)
            Known classes, of any type.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : ClusterConfusionDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `estimator` is of another kind.
        NotFittedError
            If `estimator` has not been fitted.
        ValueError
            If `X` and `y` differ in length.
        """
        require_matplotlib()
        fitted_clusterer(estimator)
        return cls.from_predictions(y, estimator.predict(X), ax=ax, **kwargs)

    @classmethod
    def from_predictions(cls, y_true, labels, *, ax=None, **kwargs):
        """Compute and draw the confusion of clusters, of any estimator, with known classes.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Known classes, of any type.
        labels : array-like of shape (n_samples,)
            Cluster labels, of any type.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : ClusterConfusionDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the two differ in length, are not one-dimensional or are empty.
        """
        require_matplotlib()
        counts, matched, columns = matched_counts(y_true, labels)
        order = np.append(columns, np.setdiff1d(np.arange(counts.shape[1]), columns))
        display = cls(
            counts[:, order],
            classes=np.unique(y_true),
            clusters=np.unique(labels)[order],
            matched=matched,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, cmap="Blues", **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        cmap : str or matplotlib Colormap, default="Blues"
            Colours of the shares.
        **kwargs
            Passed to `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : ClusterConfusionDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        counts, matched = np.asarray(self.confusion_matrix), np.asarray(self.matched)
        n_classes, n_clusters = counts.shape
        cell = 0.42 if max(n_classes, n_clusters) <= 15 else 0.3
        width, height = (max(2.5, cell * number) for number in (n_clusters, n_classes))
        ax = own_axes(ax, (width + 2.2, height + 1.2))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        style = {"cmap": cmap, "vmin": 0.0, "vmax": 1.0} | kwargs
        self.im_ = ax.imshow(shares, **style)
        self.text_ = _write_counts(ax, counts, shares)
        _frame_matches(ax, matched)
        self.accuracy_ = float(counts[matched, np.arange(len(matched))].sum() / counts.sum())
        ax.set(
            xticks=np.arange(n_clusters),
            xticklabels=self.clusters,
            xlabel="cluster",
            yticks=np.arange(n_classes),
            yticklabels=self.classes,
            ylabel="class",
            title=f"clustering accuracy {self.accuracy_:.3f}",
        )
        ax.figure.colorbar(self.im_, ax=ax, label="share of the class", fraction=0.08, aspect=30)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _write_counts(ax, counts, shares) -> np.ndarray:
    """A count in each cell that has one, white where the cell is dark."""
    texts = np.empty(counts.shape, dtype=object)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black"
        texts[row, column] = ax.text(
            column, row, count or "", ha="center", va="center", color=color, fontsize=8
        )
    return texts


def _frame_matches(ax, matched) -> None:
    from matplotlib.patches import Rectangle

    for column, row in enumerate(matched):
        corner = (column - 0.5, row - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="0.3", linewidth=1.2))
