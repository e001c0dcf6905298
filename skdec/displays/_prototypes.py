"""Prototypes of the clusters beside their most typical and most doubtful rows."""

from __future__ import annotations

import math
from numbers import Integral

import numpy as np
from sklearn.utils import check_array, check_scalar

from ..inspection import (
    decoded_centers,
    fitted_clusterer,
    names_of_features,
    ranked_members,
    runner_up,
)
from ._drawing import (
    as_images,
    check_image_shape,
    cluster_colors,
    own_axes,
    place_of,
    require_matplotlib,
)

# Names of more features than this are not written.
_MOST_NAMES = 40

# Layout of the profiles: panels side by side, and inches of all of them together.
_MOST_COLUMNS = 6
_WIDEST = 16.0

# Layout of the images, in widths and heights of a cell.
_IMAGE_SIDE = 0.92
_ROW_PITCH = 1.25
_GROUP_GAP = 0.5


class PrototypeDisplay:
    """The prototype of each cluster with its most typical and its most doubtful rows.

    With `image_shape` they are drawn as images, a line of them for each cluster; under a
    doubtful row stands the number of the cluster that it is nearly as close to. Else
    they are drawn as profiles over the features, a panel for each cluster: the prototype as a
    thick line, typical rows as thin and doubtful rows as dashed lines.

    Parameters
    ----------
    prototypes : array-like of shape (n_clusters, n_features)
        Decoded centres.
    typical : list of array-like of shape (n_rows, n_features)
        The most typical rows of each cluster.
    doubtful : list of array-like of shape (n_rows, n_features)
        The most doubtful rows of each cluster.
    next_cluster : list of array-like of shape (n_rows,), default=None
        For each doubtful row the cluster with the second largest probability.
    image_shape : tuple (height, width) or (height, width, 3), default=None
        Shape of a row as an image.
    names : list of str, default=None
        Names of the features, for profiles.
    unit : str, default=None
        What the values of profiles are.

    Attributes
    ----------
    images_ : list of list of matplotlib AxesImage
        For each cluster the images of the prototype, typical and doubtful rows in turn; empty
        for profiles.
    lines_ : list of list of matplotlib Line2D
        The same for profiles; empty for images.
    axes_ : ndarray of matplotlib Axes
        The panels: one for all images, or one for the profiles of each cluster.
    ax_ : matplotlib Axes
        Axes with the images, or whose place the panels take.
    figure_ : matplotlib Figure
        Figure of the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdec import DECClustering
    >>> from skdec.displays import PrototypeDisplay
    >>> X = load_iris(as_frame=True).data
    >>> dec = DECClustering(3, pretrain_steps=50, neighbor_steps=25, random_state=0).fit(X)
    >>> display = PrototypeDisplay.from_estimator(dec, X)
    >>> display.prototypes.shape
    (3, 4)
    """

    def __init__(
        self,
        prototypes,
        typical,
        doubtful,
        *,
        next_cluster=None,
        image_shape=None,
        names=None,
        unit=None,
    ):
        self.prototypes = prototypes
        self.typical = typical
        self.doubtful = doubtful
        self.next_cluster = next_cluster
        self.image_shape = image_shape
        self.names = names
        self.unit = unit

    @classmethod
    def from_estimator(
        cls, estimator, X, *, n_rows=3, image_shape=None, standardize=True, ax=None, **kwargs
    ):
        """Compute and draw prototypes and rows of a fitted estimator.

        Parameters
        ----------
        estimator : DECClustering or Pipeline
            Fitted; a Pipeline must end in a DECClustering and all its steps must have
            `inverse_transform`.
        X : array-like of shape (n_samples, n_features)
            Rows of numbers, seen in `fit` or new.
        n_rows : int, default=3
            Typical rows and doubtful rows of each cluster, fewer if it has not as many.
        image_shape : tuple (height, width) or (height, width, 3), default=None
            Shape of a row of `X` as an image. None draws profiles.
        standardize : bool, default=True
            Draw profiles in standard deviations from each feature's mean over `X`, so that
            features in different units have one axis. False leaves them in their units, for
            features that have one unit, as those of a series have.
        ax : matplotlib Axes, default=None
            Axes to draw on, or whose place the panels take; None makes a new figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : PrototypeDisplay
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
        fitted_clusterer(estimator)
        check_scalar(n_rows, "n_rows", Integral, min_val=1)
        prototypes = decoded_centers(estimator)
        if image_shape is not None:
            check_image_shape(image_shape, prototypes.shape[1])
        rows = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan", input_name="X")
        names, unit = names_of_features(estimator, X, rows.shape[1]), None
        Q = np.asarray(estimator.predict_proba(X))
        if image_shape is None and standardize:
            mean, spread = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
            rows, prototypes = (
                (a - mean) / np.where(spread, spread, 1) for a in (rows, prototypes)
            )
            unit = "standard deviations\nfrom the mean"
        doubtful = ranked_members(Q, n_rows, "doubtful")
        display = cls(
            prototypes,
            [rows[members] for members in ranked_members(Q, n_rows, "typical")],
            [rows[members] for members in doubtful],
            next_cluster=[runner_up(Q[members]) for members in doubtful],
            image_shape=image_shape,
            names=names,
            unit=unit,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on, or whose place the panels take; None makes a new figure.
        **kwargs
            Passed to `matplotlib.axes.Axes.imshow` for images, and to
            `matplotlib.axes.Axes.plot` for profiles.

        Returns
        -------
        display : PrototypeDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        prototypes = np.asarray(self.prototypes)
        # Kinds of rows of each cluster: prototype, typical, doubtful.
        groups = [
            [np.reshape(rows, (-1, prototypes.shape[1])) for rows in kinds]
            for kinds in zip(prototypes, self.typical, self.doubtful, strict=True)
        ]
        self.images_, self.lines_ = [], []
        if self.image_shape is None:
            self._draw_profiles(ax, groups, kwargs)
        else:
            self._draw_images(ax, groups, kwargs)
        self.figure_ = self.ax_.figure
        return self

    # --- Images ---

    def _draw_images(self, ax, groups, style) -> None:
        check_image_shape(self.image_shape, np.shape(self.prototypes)[1])
        widths = [max(map(len, kind)) for kind in zip(*groups, strict=True)]
        starts = np.cumsum([0, *widths[:-1]]) + _GROUP_GAP * np.arange(len(widths))
        height, width = self.image_shape[:2]
        ax = own_axes(ax, (0.62 * starts[-1] + 2.4, 0.75 * len(groups) * height / width + 0.9))
        members = np.concatenate([rows for group in groups for rows in group[1:]])
        style = {"cmap": "gray_r", "vmin": 0.0, "vmax": 1.0, "aspect": height / width} | style
        for cluster, group in enumerate(groups):
            self.images_.append([])
            for start, rows in zip(starts, group, strict=True):
                images = as_images(rows, self.image_shape, members)
                for k, image in enumerate(images):
                    x, y = start + k, _ROW_PITCH * cluster
                    place = (x, x + _IMAGE_SIDE, y + _IMAGE_SIDE, y)
                    self.images_[-1].append(ax.imshow(image, extent=place, **style))
        self._label_images(ax, starts, widths)
        self.ax_, self.axes_ = ax, np.array([ax])

    def _label_images(self, ax, starts, widths) -> None:
        """Names of clusters at the left and of kinds above; under doubtful rows what else."""
        n_clusters = len(self.prototypes)
        colors = cluster_colors(n_clusters)
        for cluster, others in enumerate(self.next_cluster or []):
            for k, other in enumerate(others):
                place = (starts[-1] + k + _IMAGE_SIDE / 2, _ROW_PITCH * cluster + _IMAGE_SIDE)
                if other >= 0:
                    ax.annotate(f"or {other}", place, (0, -2), textcoords="offset points",
                                ha="center", va="top", fontsize=7, color="0.3")  # fmt: skip
        ax.set(
            xlim=(-0.1, starts[-1] + widths[-1]),
            ylim=(_ROW_PITCH * n_clusters, -0.1),
            xticks=starts + np.array(widths) / 2 - 0.05,
            xticklabels=["prototype", "most typical", "most doubtful"],
            yticks=_ROW_PITCH * np.arange(n_clusters) + _IMAGE_SIDE / 2,
            yticklabels=range(n_clusters),
            ylabel="cluster",
        )
        ax.tick_params(length=0, labeltop=True, labelbottom=False)
        for label, color in zip(ax.get_yticklabels(), colors, strict=True):
            label.set(color=color, fontweight="bold")
        ax.spines[:].set_visible(False)

    # --- Profiles ---

    def _draw_profiles(self, ax, groups, style) -> None:
        names = self._written_names()
        width = max(2.4, 0.16 * len(names))
        below_panels = 0.07 * max(map(len, names)) if self._names_are_upright() else 0.3
        n_columns = max(1, min(len(groups), _MOST_COLUMNS, int(_WIDEST / width)))
        n_rows = math.ceil(len(groups) / n_columns)
        ax = own_axes(ax, (max(6.4, width * n_columns), 1.7 * n_rows + 0.9 + below_panels))
        key, below = place_of(ax).subgridspec(2, 1, height_ratios=[0.25, n_rows])
        grid = below.subgridspec(n_rows, n_columns).subplots(
            squeeze=False, sharex=True, sharey=True
        )
        self.ax_, self.axes_ = ax, grid.ravel()[: len(groups)]
        for panel in grid.ravel()[len(groups) :]:
            panel.set_visible(False)
        colors = cluster_colors(len(groups))
        for cluster, (panel, group) in enumerate(zip(self.axes_, groups, strict=True)):
            self.lines_.append(_profiles(panel, group, colors[cluster], style))
            panel.set_title(
                f"cluster {cluster}", color=colors[cluster], fontsize=10, fontweight="bold"
            )
            if cluster + n_columns >= len(groups):
                panel.tick_params(labelbottom=True)
        self._label_profiles(grid)
        _draw_key(ax.figure.add_subplot(key))

    def _written_names(self) -> list[str]:
        """Names of the features if they can be told apart."""
        return self.names if self.names is not None and len(self.names) <= _MOST_NAMES else []

    def _names_are_upright(self) -> bool:
        """Whether the names are too long to stand side by side below a panel."""
        return sum(map(len, self._written_names())) > 24

    def _label_profiles(self, grid) -> None:
        names = self._written_names()
        for panel in self.axes_:
            panel.spines[["top", "right"]].set_visible(False)
            if not len(names):
                continue
            panel.set_xticks(range(len(names)), names, fontsize=9)
            if self._names_are_upright():
                for label in panel.get_xticklabels():
                    label.set(rotation=90, ha="right", va="center", rotation_mode="anchor")
        if self.unit is not None:
            grid[len(grid) // 2, 0].set_ylabel(self.unit)


# Prototype, typical row, doubtful row.
_STYLES = (
    {"linewidth": 2.5, "zorder": 3},
    {"linewidth": 0.8, "alpha": 0.9},
    {"linewidth": 0.8, "alpha": 0.9, "linestyle": "--", "color": "0.35"},
)


def _profiles(panel, group, color, style) -> list:
    """The lines of one cluster: prototype, typical and doubtful rows."""
    positions = np.arange(np.shape(group[0])[1])
    return [
        panel.plot(positions, row, **{"color": color} | kind | style)[0]
        for rows, kind in zip(group, _STYLES, strict=True)
        for row in rows
    ]


def _draw_key(ax) -> None:
    """Which line is which, on axes of its own."""
    from matplotlib.lines import Line2D

    names = ("prototype", "most typical", "most doubtful")
    lines = [
        Line2D([], [], label=name, **{"color": "black"} | kind)
        for name, kind in zip(names, _STYLES, strict=True)
    ]
    ax.set_axis_off()
    ax.legend(handles=lines, loc="center", ncols=3, frameon=False)
