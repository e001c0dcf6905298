"""What the displays share: axes, colours of clusters, images. Nothing imports matplotlib early."""

from __future__ import annotations

import math

import numpy as np

# The most clusters that a well known palette tells apart.
_PALETTE = 10


def require_matplotlib() -> None:
    """Say how to install matplotlib where it is missing, before any work is done."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "matplotlib is needed for pictures; install it with: pip install 'skdec[plot]'"
        ) from error


def own_axes(ax, figsize: tuple[float, float]):
    """`ax` or, if it is None, the axes of a new figure of pyplot's."""
    require_matplotlib()
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=figsize, layout="compressed")[1]


def place_of(ax):
    """The place of `ax` in its figure, emptied, to be divided among panels."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            "ax has no place in a grid that could be divided; make it with pyplot.subplots or "
            "Figure.add_subplot."
        )
    ax.set_axis_off()
    return place


def cluster_colors(n_clusters: int) -> np.ndarray:
    """A colour for each cluster, as RGBA; the same in all displays."""
    from matplotlib import colormaps
    from matplotlib.colors import hsv_to_rgb

    if n_clusters <= _PALETTE:
        return colormaps["tab10"](np.arange(n_clusters))
    # Neighbours on the circle of hues differ in lightness too; none is too light for text.
    hue = np.arange(n_clusters) / n_clusters
    saturation = np.resize([0.9, 0.45, 0.75], n_clusters)
    value = np.resize([0.65, 0.9, 1.0], n_clusters)
    rgb = hsv_to_rgb(np.column_stack([hue, saturation, value]))
    rgb *= np.minimum(1.0, 0.65 / (rgb @ [0.21, 0.72, 0.07]))[:, np.newaxis]
    return np.column_stack([rgb, np.ones(n_clusters)])


def check_image_shape(image_shape, n_features: int) -> None:
    """Refuse a shape of images that `n_features` values do not fill."""
    shape = tuple(image_shape)
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        raise ValueError(
            f"image_shape must be (height, width), or that and 3 or 4 colours. Got {image_shape!r}."
        )
    if math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape={image_shape!r} has {math.prod(shape)} values, but there are "
            f"{n_features} features."
        )


def as_images(rows: np.ndarray, image_shape, data: np.ndarray) -> np.ndarray:
    """Rows as images on the scale of `data`, whose range becomes 0 to 1.

    What a decoder overshoots is cut off: an empty background stays empty.
    """
    low, high = np.nanmin(data), np.nanmax(data)
    images = rows.reshape(len(rows), *image_shape)
    return np.clip((images - low) / ((high - low) or 1.0), 0.0, 1.0)
