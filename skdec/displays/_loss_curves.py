"""The course of training."""

from __future__ import annotations

import numpy as np

from ..inspection import fitted_clusterer
from ._drawing import own_axes, place_of, require_matplotlib


class LossCurveDisplay:
    """The course of each stage of training, a panel for each.

    Pretraining counts epochs, self-training rounds: the stages have axes of their own. Losses of
    different stages do not compare, and KL(P || Q) of one round not strictly with that of
    another, since each round has its own target P.

    Parameters
    ----------
    layerwise : list of array-like, default=()
        Mean reconstruction loss of each epoch, for each pair of layers.
    pretraining : array-like, default=()
        Mean reconstruction loss of each epoch of the whole autoencoder or, after training with
        neighbours, of the decoder.
    neighbors : array-like, default=()
        Mean loss of each epoch of training with neighbours.
    kl : array-like, default=()
        KL(P || Q) at the end of each round of self-training.
    label_change : array-like, default=()
        Share of the labels that changed in each round.
    tol : float, default=None
        Share of changed labels below which self-training ends; a dashed line if given.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The curves, in the order of the parameters.
    axes_ : ndarray of matplotlib Axes
        The panels; empty curves have none.
    ax_ : matplotlib Axes
        The axes whose place the panels take.
    figure_ : matplotlib Figure
        Figure of the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdec import DECClustering
    >>> from skdec.displays import LossCurveDisplay
    >>> X = load_iris().data
    >>> dec = DECClustering(3, pretrain_steps=50, neighbor_steps=25, random_state=0).fit(X)
    >>> display = LossCurveDisplay.from_estimator(dec)
    >>> len(display.axes_)
    4
    """

    def __init__(
        self, *, layerwise=(), pretraining=(), neighbors=(), kl=(), label_change=(), tol=None
    ):
        self.layerwise = layerwise
        self.pretraining = pretraining
        self.neighbors = neighbors
        self.kl = kl
        self.label_change = label_change
        self.tol = tol

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, **kwargs):
        """Draw the curves that a fitted estimator has recorded.

        Parameters
        ----------
        estimator : DECClustering or Pipeline
            Fitted; a Pipeline must end in a DECClustering.
        ax : matplotlib Axes, default=None
            Axes whose place the panels take; None makes a new figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : LossCurveDisplay
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
        clusterer = fitted_clusterer(estimator)
        display = cls(
            layerwise=clusterer.layerwise_loss_curves_,
            pretraining=clusterer.pretrain_loss_curve_,
            neighbors=clusterer.neighbor_loss_curve_,
            kl=clusterer.kl_curve_,
            label_change=clusterer.label_change_curve_,
            tol=clusterer.tol,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes whose place the panels take; None makes a new figure.
        **kwargs
            Passed to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If all curves are empty.
        """
        stages = [stage for stage in self._stages() if any(len(curve) for curve in stage[-1])]
        if not stages:
            raise ValueError("There is no curve to draw: all are empty.")
        ax = own_axes(ax, (3.2 * len(stages), 3.2))
        self.axes_ = place_of(ax).subgridspec(1, len(stages)).subplots(squeeze=False)[0]
        self.lines_ = []
        for panel, (title, unit, measure, curves) in zip(self.axes_, stages, strict=True):
            self.lines_ += [_curve(panel, curve, kwargs) for curve in curves]
            panel.set(title=title, xlabel=unit, ylabel=measure)
            _scale(panel, from_zero=unit == "round")
            if len(curves) > 1:
                names = [f"layer {k}" for k in range(1, len(curves) + 1)]
                panel.legend(panel.lines, names, frameon=False)
        if self.tol is not None and len(self.label_change):
            label = f"tol = {self.tol:g}"
            self.axes_[-1].axhline(self.tol, color="0.5", linestyle="--", label=label)
            self.axes_[-1].legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _stages(self) -> list[tuple]:
        """Title, unit of the x axis, measure and curves of each panel."""
        return [
            ("Layer by layer", "epoch", "reconstruction loss", self.layerwise),
            ("Reconstruction", "epoch", "reconstruction loss", [self.pretraining]),
            ("Neighbours", "epoch", "contrastive loss", [self.neighbors]),
            ("Self-training", "round", "KL(P || Q)", [self.kl]),
            ("Label changes", "round", "share of labels changed", [self.label_change]),
        ]


def _curve(panel, curve, style):
    """A line with a point for each epoch or round, counting from 1, while they can be told."""
    marker = "." if len(curve) <= 40 else ""
    return panel.plot(np.arange(1, len(curve) + 1), curve, **{"marker": marker} | style)[0]


def _scale(panel, from_zero: bool) -> None:
    """Whole epochs and rounds; the measures of self-training from 0, which they may reach."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_xlim(0, 1.05 * panel.dataLim.x1)
    if from_zero:
        top = max(panel.dataLim.y1, 0.01)
        panel.set_ylim(-0.03 * top, 1.1 * top)
