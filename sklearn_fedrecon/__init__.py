"""Federated Reconstruction for matrix factorization as a scikit-learn estimator."""

from . import datasets, exceptions, metrics, model_selection, persistence
from ._estimator import FederatedReconstructionMF
from ._transformer import FederatedReconstructionTransformer
from .datasets import fetch_movielens, load_ratings, make_ratings
from .persistence import load_model, save_model

__version__ = "0.1.0.dev0"
__all__ = [
    "FederatedReconstructionMF",
    "FederatedReconstructionTransformer",
    "datasets",
    "exceptions",
    "fetch_movielens",
    "load_model",
    "load_ratings",
    "make_ratings",
    "metrics",
    "model_selection",
    "persistence",
    "save_model",
]
