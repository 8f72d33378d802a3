"""Federated Reconstruction for matrix factorization as a scikit-learn estimator."""

from . import datasets, exceptions, metrics, model_selection
from ._estimator import FederatedReconstructionMF
from .datasets import fetch_movielens, load_ratings, make_ratings

__version__ = "0.1.0.dev0"
__all__ = [
    "FederatedReconstructionMF",
    "datasets",
    "exceptions",
    "fetch_movielens",
    "load_ratings",
    "make_ratings",
    "metrics",
    "model_selection",
]
