"""Deep Embedded Clustering as a scikit-learn estimator."""

from ._estimator import DECClustering

__all__ = ["DECClustering", "__version__"]

__version__ = "0.1.0"
