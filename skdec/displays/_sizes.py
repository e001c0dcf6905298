"""Sizes of the clusters and the confidence of their rows."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_consistent_length

from ..inspection import fitted_clusterer
from ._drawing import cluster_colors, own_axes, place_of, require_matplotlib

# Sizes are written over the bars of up to this many clusters.
_MOST_NUMBERS = 30


class ClusterSizeDisplay:
    """Rows of each cluster, and below them how confident their assignment is.

    The boxes span the quartiles of the rows' largest probabilities, with the median as a line;
    the whiskers reach from the 5th to the 95th percentile. Self-training makes
    probabilities confident whether or not the clusters are real.

    Parameters
    ----------
    labels : array-like of shape (n_samples,)
        Cluster of each row, counting from 0.
    confidence : array-like of shape (n_samples,)
        Largest probability of each row, in [0, 1].
    n_clusters : int, default=None
        Number of clusters; None takes the largest label plus one.

    Attributes
    ----------
    sizes_ : ndarray of shape (n_clusters,)
        Number of rows of each cluster.
    bars_ : matplotlib BarContainer
        The bars of the sizes.
    boxes_ : dict of lists of matplotlib artists
        The boxes of the confidences, as `matplotlib.axes.Axes.boxplot` returns them.
    axes_ : ndarray of matplotlib Axes
        Two panels: sizes and confidences.
    ax_ : matplotlib Axes
        The axes whose place the panels take.
    figure_ : matplotlib Figure
        Figure of the axes.

    Examples
    --------
    >>> from skdec.displays import ClusterSizeDisplay
    >>> display = ClusterSizeDisplay([0, 0, 1], [0.9, 0.8, 0.6]).plot()
    >>> display.sizes_
    array([2, 1])
    """

    def __init__(self, labels, confidence, *, n_clusters=None):
        self.labels = labels
        self.confidence = confidence
        self.n_clusters = n_clusters

    @classmethod
    def from_estimator(cls, estimator, X, *, ax=None, **kwargs):
        """Compute and draw the sizes and confidences of the predicted clusters of `X`.

        Parameters
        ----------
        estimator : DECClustering or Pipeline
            Fitted; a Pipeline must end in a DECClustering.
        X : array-like of shape (n_samples, n_features)
            Rows, as `estimator` takes them; seen in `fit` or new.
        ax : matplotlib Axes, default=None
            Axes whose place the panels take; None makes a new figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : ClusterSizeDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `estimator` is of another kind.
        NotFittedError
            If `estimator` has not been fitted.
        """
        require_matplotlib()
        fitted_clusterer(estimator)
        Q = np.asarray(estimator.predict_proba(X))
        display = cls(Q.argmax(axis=1), Q.max(axis=1), n_clusters=Q.shape[1])
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes whose place the panels take; None makes a new figure.
        **kwargs
            Passed to `matplotlib.axes.Axes.bar`.

        Returns
        -------
        display : ClusterSizeDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `labels` and `confidence` differ in length.
        """
        labels, confidence = np.asarray(self.labels), np.asarray(self.confidence)
        check_consistent_length(labels, confidence)
        self.sizes_ = np.bincount(labels, minlength=self.n_clusters or 0)
        n_clusters = len(self.sizes_)
        ax = own_axes(ax, (min(16.0, max(6.4, 0.42 * n_clusters)), 5.6))
        self.axes_ = place_of(ax).subgridspec(2, 1).subplots(sharex=True)
        colors, places = cluster_colors(n_clusters), np.arange(n_clusters)
        self.bars_ = self.axes_[0].bar(places, self.sizes_, **{"color": colors} | kwargs)
        if n_clusters <= _MOST_NUMBERS:
            self.axes_[0].bar_label(self.bars_, fontsize=9, padding=2)
        self.boxes_ = self.axes_[1].boxplot(
            [confidence[labels == cluster] for cluster in places],
            positions=places,
            widths=0.6,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            medianprops={"color": "black"},
        )
        for box, color in zip(self.boxes_["boxes"], colors, strict=True):
            box.set_facecolor(color)
        _decorate(*self.axes_, n_clusters)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _decorate(sizes, confidences, n_clusters: int) -> None:
    """Labels of the axes; a number for every cluster where there is room."""
    step = -(-n_clusters // (2 * _MOST_NUMBERS))
    ticks = np.arange(0, n_clusters, step)
    sizes.set(ylabel="rows")
    sizes.margins(y=0.12)
    confidences.set(
        xlabel="cluster",
        ylabel="largest probability",
        ylim=(0.0, 1.03),
        xticks=ticks,
        xticklabels=ticks,
    )
    for panel in (sizes, confidences):
        panel.spines[["top", "right"]].set_visible(False)
