"""Pictures of a fitted model, in the manner of scikit-learn's displays; they need matplotlib."""

from ._confusion import ClusterConfusionDisplay
from ._embedding import EmbeddingDisplay
from ._loss_curves import LossCurveDisplay
from ._prototypes import PrototypeDisplay
from ._sizes import ClusterSizeDisplay

__all__ = [
    "ClusterConfusionDisplay",
    "ClusterSizeDisplay",
    "EmbeddingDisplay",
    "LossCurveDisplay",
    "PrototypeDisplay",
]
