"""Displays: what they compute, that the artists hold it, and what they refuse."""

import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from quick import blobs, quick
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdec.displays import (
    ClusterConfusionDisplay,
    ClusterSizeDisplay,
    EmbeddingDisplay,
    LossCurveDisplay,
    PrototypeDisplay,
)
from skdec.metrics import clustering_accuracy

matplotlib.use("Agg")

X, Y = blobs(n_features=6)
NAMES = [f"feature {letter}" for letter in "abcdef"]
FRAME = pd.DataFrame(X, columns=NAMES)
FROM_ESTIMATOR = {
    EmbeddingDisplay: lambda model, **kw: EmbeddingDisplay.from_estimator(model, FRAME, **kw),
    LossCurveDisplay: lambda model, **kw: LossCurveDisplay.from_estimator(model, **kw),
    ClusterSizeDisplay: lambda model, **kw: ClusterSizeDisplay.from_estimator(model, FRAME, **kw),
    PrototypeDisplay: lambda model, **kw: PrototypeDisplay.from_estimator(model, FRAME, **kw),
    ClusterConfusionDisplay: lambda model, **kw: ClusterConfusionDisplay.from_estimator(
        model, FRAME, Y, **kw
    ),
}
ALL = pytest.mark.parametrize("draw", FROM_ESTIMATOR.values(), ids=lambda draw: "")


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def model():
    return quick(embedding_dim=3).fit(FRAME)


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(StandardScaler(), quick(embedding_dim=3)).fit(FRAME)


# --- All of them ---


@ALL
def test_model_and_pipeline_are_drawn_on_given_axes_and_on_new_ones(draw, model, pipeline):
    given = matplotlib.figure.Figure().add_subplot()
    display = draw(pipeline, ax=given)
    assert display.ax_ is given and display.figure_ is given.figure
    assert not plt.get_fignums()
    display = draw(model)
    assert plt.get_fignums() == [display.figure_.number]
    assert display.plot() is display
    display.figure_.canvas.draw()


@ALL
def test_what_is_not_a_fitted_deep_clusterer_is_refused(draw):
    with pytest.raises(NotFittedError):
        draw(quick())
    kmeans = KMeans(3, n_init=1, random_state=0).fit(FRAME)
    for other in (kmeans, make_pipeline(StandardScaler(), kmeans)):
        with pytest.raises(TypeError, match="DECClustering .*Got KMeans"):
            draw(other)
    assert not plt.get_fignums()


@ALL
def test_without_matplotlib_the_error_says_what_to_install(draw, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'skdec\[plot\]'"):
        draw(model)


def test_plotting_plain_arrays_without_matplotlib_says_so_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for display in (
        EmbeddingDisplay(X[:, :2], Y),
        LossCurveDisplay(kl=[1.0]),
        ClusterSizeDisplay(Y, np.ones(90)),
        PrototypeDisplay(X[:2], X[:2], X[:2]),
        ClusterConfusionDisplay([[1]], classes=[0], clusters=[0], matched=[0]),
    ):
        with pytest.raises(ImportError, match=r"pip install 'skdec\[plot\]'"):
            display.plot()


@pytest.mark.parametrize("draw", [LossCurveDisplay(kl=[1.0]), ClusterSizeDisplay(Y, np.ones(90))])
def test_axes_that_cannot_be_divided_are_refused(draw):
    ax = matplotlib.figure.Figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match="place in a grid"):
        draw.plot(ax=ax)


# --- Embedding ---


def test_embedding_of_two_dimensions_is_drawn_as_it_is():
    model = quick(embedding_dim=2).fit(X)
    display = EmbeddingDisplay.from_estimator(model, X)
    np.testing.assert_array_equal(display.scatter_.get_offsets(), model.transform(X))
    np.testing.assert_array_equal([mark.xy for mark in display.marks_], model.cluster_centers_)
    assert [mark.get_text() for mark in display.marks_] == ["0", "1", "2"]
    colors = display.scatter_.get_facecolors()[:, :3]
    groups = [np.unique(colors[model.labels_ == label], axis=0) for label in range(3)]
    assert [len(group) for group in groups] == [1, 1, 1]
    assert len(np.unique(np.concatenate(groups), axis=0)) == 3
    frame = display.marks_[1].get_bbox_patch().get_edgecolor()
    np.testing.assert_allclose(frame[:3], groups[1][0])


def test_embedding_of_one_dimension_keeps_its_values():
    model = quick(embedding_dim=1).fit(X)
    display = EmbeddingDisplay.from_estimator(model, X)
    np.testing.assert_array_equal(display.points[:, :1], model.transform(X))
    np.testing.assert_array_equal(display.centers[:, 1], 0)
    assert "1-dimensional" in display.ax_.get_xlabel()


def test_the_perplexity_of_a_given_projection_is_kept_as_far_as_rows_allow(monkeypatch, model):
    used = []
    monkeypatch.setattr(
        TSNE, "fit_transform", lambda self, Z: used.append(self.perplexity) or Z[:, :2]
    )
    for perplexity in (10.0, 1000.0):
        EmbeddingDisplay.from_estimator(model, FRAME, projection=TSNE(perplexity=perplexity))
    assert used == [10.0, pytest.approx((len(FRAME) + 3 - 1) / 3)]


def test_projections(model):
    Z, centers = model.transform(FRAME), model.cluster_centers_
    expected = PCA(2).fit_transform(np.concatenate([Z, centers]))
    for projection in ("pca", PCA(2)):
        display = EmbeddingDisplay.from_estimator(model, FRAME, projection=projection)
        np.testing.assert_allclose(np.abs(display.points), np.abs(expected[:90]), atol=1e-6)
        np.testing.assert_allclose(np.abs(display.centers), np.abs(expected[90:]), atol=1e-6)
        assert display.ax_.get_xlabel() == "PCA of the 3-dimensional embedding"
    assert not hasattr(projection, "components_")
    display = EmbeddingDisplay.from_estimator(model, FRAME)
    assert display.ax_.get_xlabel() == "t-SNE of the 3-dimensional embedding"
    # A centre is nearer to the middle of its own cluster than to any other's.
    middles = np.array([display.points[display.labels == label].mean(axis=0) for label in range(3)])
    distances = np.linalg.norm(display.centers[:, np.newaxis] - middles, axis=2)
    assert distances.argmin(axis=1).tolist() == [0, 1, 2]
    again = EmbeddingDisplay.from_estimator(model, FRAME)
    np.testing.assert_array_equal(again.points, display.points)


def test_few_rows_and_many(model):
    assert EmbeddingDisplay.from_estimator(model, FRAME[:1]).points.shape == (1, 2)
    display = EmbeddingDisplay.from_estimator(model, FRAME, max_points=40, projection="pca")
    assert len(display.points) == len(display.labels) == 40
    assert len({tuple(point) for point in display.points}) == 40


def test_centers_are_marked_by_prototypes_as_images(pipeline):
    display = EmbeddingDisplay.from_estimator(pipeline, FRAME, image_shape=(2, 3), projection="pca")
    shown = [mark.offsetbox.get_data() for mark in display.marks_]
    prototypes = pipeline.inverse_transform(pipeline[-1].cluster_centers_)
    expected = (prototypes.reshape(3, 2, 3) - X.min()) / (X.max() - X.min())
    np.testing.assert_allclose(shown, np.clip(expected, 0, 1))


@pytest.mark.parametrize("wrong", ["umap", PCA, None, 3])
def test_unknown_projections_are_refused(wrong, model):
    with pytest.raises(ValueError, match="projection must be"):
        EmbeddingDisplay.from_estimator(model, FRAME, projection=wrong)


@pytest.mark.parametrize("display", [EmbeddingDisplay, PrototypeDisplay])
@pytest.mark.parametrize("shape", [(2, 2), (6,), (1, 3, 2)])
def test_shapes_that_are_no_images_are_refused(display, shape, model):
    with pytest.raises(ValueError, match="image_shape"):
        display.from_estimator(model, FRAME, image_shape=shape)


def test_thirty_clusters_have_thirty_colors():
    labels = np.arange(30)
    points = np.column_stack([labels, labels])
    display = EmbeddingDisplay(points, labels, centers=points).plot()
    colors = display.scatter_.get_facecolors()[:, :3]
    distances = np.linalg.norm(colors[:, np.newaxis] - colors, axis=2)
    assert distances[~np.eye(30, dtype=bool)].min() > 0.05


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="inconsistent"):
        EmbeddingDisplay(X[:, :2], Y[:5]).plot()
    with pytest.raises(ValueError, match="inconsistent"):
        ClusterSizeDisplay(Y, np.ones(5)).plot()


# --- Training ---


def test_each_stage_of_training_has_its_curves_and_its_unit():
    model = quick(pretraining="layer-wise").fit(X)
    display = LossCurveDisplay.from_estimator(model)
    curves = [
        *model.layerwise_loss_curves_,
        model.pretrain_loss_curve_,
        model.kl_curve_,
        model.label_change_curve_,
    ]
    assert len(display.lines_) == len(curves)
    for line, curve in zip(display.lines_, curves, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), curve)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, len(curve) + 1))
    units = [panel.get_xlabel() for panel in display.axes_]
    assert units == ["epoch", "epoch", "round", "round"]
    assert display.axes_[-1].lines[-1].get_ydata()[0] == model.tol
    layers = [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
    assert layers == ["layer 1", "layer 2"]


def test_stages_that_were_not_run_have_no_panel():
    model = quick(max_iter=0).fit(X)
    display = LossCurveDisplay.from_estimator(model)
    titles = [panel.get_title() for panel in display.axes_]
    assert titles == ["Reconstruction", "Neighbours"]
    np.testing.assert_array_equal(display.lines_[1].get_ydata(), model.neighbor_loss_curve_)
    with pytest.raises(ValueError, match="no curve"):
        LossCurveDisplay(tol=0.1).plot()


# --- Sizes ---


def test_sizes_and_quartiles_of_confidence(pipeline):
    display = ClusterSizeDisplay.from_estimator(pipeline, FRAME)
    Q = pipeline.predict_proba(FRAME)
    sizes = np.bincount(pipeline.predict(FRAME), minlength=3)
    assert [bar.get_height() for bar in display.bars_] == display.sizes_.tolist() == sizes.tolist()
    for label, median in enumerate(display.boxes_["medians"]):
        expected = np.median(Q.max(axis=1)[Q.argmax(axis=1) == label])
        np.testing.assert_allclose(median.get_ydata(), expected)
    box = display.boxes_["boxes"][0].get_facecolor()
    np.testing.assert_allclose(box, display.bars_[0].get_facecolor())


def test_clusters_without_rows_have_a_place():
    display = ClusterSizeDisplay([0, 2, 2], [0.5, 0.6, 0.7], n_clusters=4).plot()
    assert display.sizes_.tolist() == [1, 0, 2, 0]
    display.figure_.canvas.draw()


def test_a_hundred_clusters_have_no_more_numbers_than_fit():
    labels = np.arange(100)
    display = ClusterSizeDisplay(labels, np.ones(100)).plot()
    assert len(display.axes_[1].get_xticks()) == 50
    assert not display.axes_[0].texts


# --- Prototypes ---


def rank(Q, label, most):
    """Rows of a cluster by an independent formula, most typical or doubtful first."""
    rows = np.flatnonzero(Q.argmax(axis=1) == label)
    others = np.delete(Q[rows], label, axis=1).max(axis=1)
    key = -Q[rows, label] if most == "typical" else Q[rows, label] - others
    return rows[np.argsort(key, kind="stable")]


def test_images_of_prototypes_typical_and_doubtful_rows(model):
    display = PrototypeDisplay.from_estimator(model, FRAME, n_rows=2, image_shape=(2, 3))
    Q = model.predict_proba(FRAME)
    shown = [rank(Q, label, most)[:2] for label in range(3) for most in ("typical", "doubtful")]
    drawn = X[np.concatenate(shown)]
    for label, images in enumerate(display.images_):
        rows = [
            model.inverse_transform(model.cluster_centers_[[label]])[0],
            *X[rank(Q, label, "typical")[:2]],
            *X[rank(Q, label, "doubtful")[:2]],
        ]
        scaled = (np.reshape(rows, (5, 2, 3)) - drawn.min()) / (drawn.max() - drawn.min())
        np.testing.assert_allclose([i.get_array() for i in images], np.clip(scaled, 0, 1))
    second = [np.argsort(Q[row])[-2] for k in (1, 3, 5) for row in shown[k]]
    captions = [text.get_text() for text in display.ax_.texts]
    assert captions == [f"or {cluster}" for cluster in second]


def test_images_do_not_overlap(model):
    display = PrototypeDisplay.from_estimator(model, FRAME, image_shape=(2, 3))
    boxes = np.array([i.get_extent() for images in display.images_ for i in images])
    left, right, bottom, top = boxes.T
    apart = (
        (left[:, None] >= right) | (right[:, None] <= left)
        | (top[:, None] >= bottom) | (bottom[:, None] <= top)
    )  # fmt: skip
    assert apart[~np.eye(len(boxes), dtype=bool)].all()


def test_images_with_colors():
    rows = np.random.default_rng(0).uniform(0, 255, (4, 12))
    display = PrototypeDisplay(rows[:2], rows[:2, None], rows[2:, None], image_shape=(2, 2, 3))
    display.plot()
    shown = display.images_[1][2].get_array()
    expected = (rows[3].reshape(2, 2, 3) - rows.min()) / np.ptp(rows)
    np.testing.assert_allclose(shown, expected)


def test_profiles_are_in_standard_deviations_or_in_units(pipeline):
    display = PrototypeDisplay.from_estimator(pipeline, FRAME, n_rows=2)
    Q = pipeline.predict_proba(FRAME)
    first = X[rank(Q, 1, "doubtful")[0]]
    drawn = display.lines_[1][3].get_ydata()
    np.testing.assert_allclose(drawn, (first - X.mean(axis=0)) / X.std(axis=0))
    names = [label.get_text() for label in display.axes_[-1].get_xticklabels()]
    assert names == NAMES
    display = PrototypeDisplay.from_estimator(pipeline, FRAME, n_rows=2, standardize=False)
    np.testing.assert_array_equal(display.lines_[1][3].get_ydata(), first)
    prototypes = pipeline.inverse_transform(pipeline[-1].cluster_centers_)
    np.testing.assert_array_equal(display.lines_[2][0].get_ydata(), prototypes[2])


def test_constant_features_and_clusters_with_few_rows_are_drawn(model):
    rows = FRAME[:2].assign(**{NAMES[0]: 1.0})
    display = PrototypeDisplay.from_estimator(model, rows)
    assert sum(map(len, display.lines_)) == 3 + 2 * 2
    assert all(np.isfinite(line.get_ydata()).all() for lines in display.lines_ for line in lines)


def test_number_of_rows_is_checked(model):
    with pytest.raises(ValueError, match="n_rows"):
        PrototypeDisplay.from_estimator(model, FRAME, n_rows=0)


# --- Confusion ---


def test_columns_are_permuted_so_that_the_matching_is_the_diagonal():
    y = np.array(["a"] * 5 + ["b"] * 4 + ["c"] * 3)
    labels = np.array([2] * 5 + [0] * 3 + [1] + [1] * 3)
    display = ClusterConfusionDisplay.from_predictions(y, labels)
    assert display.clusters.tolist() == [2, 0, 1]
    np.testing.assert_array_equal(display.confusion_matrix, [[5, 0, 0], [0, 3, 1], [0, 0, 3]])
    assert display.accuracy_ == pytest.approx(11 / 12) == clustering_accuracy(y, labels)
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["2", "0", "1"]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["a", "b", "c"]
    assert [[text.get_text() for text in row] for row in display.text_] == [
        ["5", "", ""], ["", "3", "1"], ["", "", "3"]
    ]  # fmt: skip
    shares = display.confusion_matrix / [[5], [4], [3]]
    np.testing.assert_allclose(display.im_.get_array(), shares)


@pytest.mark.parametrize(("n_classes", "n_clusters"), [(3, 5), (5, 3)])
def test_unequal_numbers_of_classes_and_clusters(n_classes, n_clusters):
    rng = np.random.default_rng(0)
    y, labels = rng.integers(n_classes, size=200), rng.integers(n_clusters, size=200)
    display = ClusterConfusionDisplay.from_predictions(y, labels)
    assert display.confusion_matrix.shape == (n_classes, n_clusters)
    assert sorted(display.clusters) == list(range(n_clusters))
    counts = confusion_matrix(y, labels, labels=range(5))
    np.testing.assert_array_equal(display.confusion_matrix, counts[:n_classes][:, display.clusters])
    assert display.accuracy_ == pytest.approx(clustering_accuracy(y, labels))
    frames = [(patch.get_y() + 0.5, patch.get_x() + 0.5) for patch in display.ax_.patches]
    assert frames == list(zip(display.matched, range(3), strict=True))


def test_confusion_of_a_pipeline(pipeline):
    X_new, y_new = make_blobs(30, 6, centers=3, cluster_std=0.5, random_state=0)
    frame = pd.DataFrame(X_new, columns=NAMES)
    display = ClusterConfusionDisplay.from_estimator(pipeline, frame, y_new)
    assert display.accuracy_ == clustering_accuracy(y_new, pipeline.predict(frame))
    with pytest.raises(ValueError, match="inconsistent"):
        ClusterConfusionDisplay.from_estimator(pipeline, frame, y_new[:5])
