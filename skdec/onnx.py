"""Fitted models as ONNX graphs, to be run without Python, scikit-learn or torch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from . import DECClustering, __version__
from ._array_api import to_numpy
from ._backend import require_torch
from ._networks import Architecture, forward, weights_of
from ._objectives import log_soft_assignment
from ._rows import FARTHEST

__all__ = ["to_onnx"]

_INPUT = "X"
_OUTPUTS = ("labels", "probabilities", "embedding")
_ROWS = "n_samples"


def to_onnx(estimator, path=None):
    """A fitted DECClustering as an ONNX model.

    The model has one input, ``X``: float32 of shape (n_samples, n_features), rows as
    `predict` takes them, any number of them. What `scaling` does to them is part of the graph.
    Its outputs are

    - ``labels``, int64 of shape (n_samples,), as from `predict`,
    - ``probabilities``, float32 of shape (n_samples, n_clusters), as from `predict_proba`,
    - ``embedding``, float32 of shape (n_samples, embedding_dim), as from `transform`.

    They are those of the estimator for the same float32 rows up to the rounding of the network's
    float32 products, which another runtime adds up in another order. As in the estimator, rows
    are scaled and assigned to clusters in float64. What float32 cannot hold is lost before the
    graph begins: where the values of a feature are large and close together, subtract a constant
    from it, before fitting and before the rows become float32.

    The graph checks nothing. Rows that are not finite, which the estimator refuses, get some
    labels, too.

    Parameters
    ----------
    estimator : DECClustering
        A fitted estimator. Of a pipeline, export the last step, and give the model what the
        steps before it return.
    path : str or path-like, default=None
        Where to write the model, usually a name that ends in ".onnx".

    Returns
    -------
    model : onnx.ModelProto
        The model. `producer_name`, `producer_version` and `doc_string` name skdec and its
        version; so does `metadata_props`, which also holds `feature_names_in`, as JSON, if the
        estimator has them.

    Raises
    ------
    TypeError
        If `estimator` is not a DECClustering.
    NotFittedError
        If it has not been fitted.
    FileNotFoundError
        If there is no such folder to write `path` in.
    ImportError
        If the packages onnx and onnxscript, or torch 2.8 or newer, are not installed.
    NotImplementedError
        If torch cannot export the encoder of the estimator's own `autoencoder`, or can do so
        for batches of one size only.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdec import DECClustering
    >>> from skdec.onnx import to_onnx
    >>> dec = DECClustering(n_clusters=3, random_state=1).fit(load_iris().data)
    >>> model = to_onnx(dec)
    >>> [output.name for output in model.graph.output]
    ['labels', 'probabilities', 'embedding']
    """
    _check_estimator(estimator)
    if path is not None and not Path(path).parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(Path(path).parent)!r} for path={path!r}.")
    onnx, clear_metadata = _import_onnx()
    program = _export(_PredictPath(estimator), estimator.n_features_in_)
    clear_metadata(program.model)  # stack traces and paths of the exporting process
    model = program.model_proto
    _describe(model, estimator)
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        onnx.save(model, path)
    return model


class _PredictPath(nn.Module):
    """What `predict`, `predict_proba` and `transform` compute, on the CPU, for a batch of rows."""

    def __init__(self, estimator: DECClustering):
        super().__init__()
        # A network of its own: the estimator's stays on its device, and as it is.
        architecture = Architecture(**estimator._architecture)
        self.encoder = architecture.load(weights_of(estimator.autoencoder_), "cpu").encoder
        for name, value in (
            ("offset", to_numpy(estimator._offset)),
            ("scale", estimator._scale),
            ("centers", to_numpy(estimator.cluster_centers_)),
        ):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))
        self.alpha = float(estimator._alpha)
        self.eval()

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled = (X.double() - self.offset) / self.scale
        Z = forward(self.encoder, scaled.clamp(-FARTHEST, FARTHEST).float())
        Q = log_soft_assignment(Z.double(), self.centers, self.alpha).exp()
        return Q.argmax(dim=1), Q.float(), Z


def _check_estimator(estimator) -> None:
    if not isinstance(estimator, DECClustering):
        hint = ": export its last step, pipeline[-1]" if hasattr(estimator, "steps") else ""
        raise TypeError(
            f"estimator must be a fitted DECClustering. Got {type(estimator).__name__}{hint}."
        )
    check_is_fitted(estimator)


def _import_onnx():
    try:
        import onnx
        import onnxscript  # noqa: F401  for torch's exporter
        from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    except ImportError as error:
        raise ImportError(
            "to_onnx needs the packages onnx and onnxscript: pip install 'skdec[onnx]'"
        ) from error
    require_torch("2.8", "to_onnx")  # 2.5 did not export batches of any size
    return onnx, ClearMetadataAndDocStringPass()


def _export(module: nn.Module, n_features: int):
    """`module` as a torch.onnx.ONNXProgram that takes any number of rows."""
    shapes = ({0: torch.export.Dim(_ROWS)},)
    # Two rows, because torch takes a single one for a size that never changes.
    rows = torch.zeros(2, n_features, dtype=torch.float32, device="cpu")
    with _silence():
        try:
            return torch.onnx.export(
                torch.export.export(module, (rows,), dynamic_shapes=shapes, strict=False),
                dynamo=True,
                input_names=[_INPUT],
                output_names=list(_OUTPUTS),
                dynamic_shapes=shapes,
                verbose=False,
            )
        except Exception as error:  # torch raises many kinds, none of its own
            raise NotImplementedError(
                "torch cannot export the encoder of 'autoencoder' to ONNX for batches of any size."
            ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing that the exporter has to say is about the user's model, but for its errors."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _describe(model, estimator: DECClustering) -> None:
    """Write what made the model, and from what."""
    model.producer_name = "skdec"
    model.producer_version = __version__
    model.doc_string = (
        f"DECClustering of skdec {__version__}: {estimator.n_features_in_} features, "
        f"{len(estimator.cluster_centers_)} clusters."
    )
    metadata = {"skdec_version": __version__}
    if hasattr(estimator, "feature_names_in_"):
        metadata["feature_names_in"] = json.dumps(list(estimator.feature_names_in_))
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
