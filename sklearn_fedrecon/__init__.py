"""Federated Reconstruction for matrix factorization as a scikit-learn estimator."""

from . import (
    aggregation,
    client_update,
    datasets,
    exceptions,
    metrics,
    model_selection,
    persistence,
    presets,
    reconstruction,
    sampling,
    server_optimizers,
    splitting,
)
from ._estimator import FederatedReconstructionMF
from ._transformer import FederatedReconstructionTransformer
from .datasets import fetch_movielens, load_ratings, make_ratings
from .persistence import load_model, save_model

__version__ = "0.1.0.dev0"
__all__ = [
    "FederatedReconstructionMF",
    "FederatedReconstructionTransformer",
    "aggregation",
    "client_update",
    "datasets",
    "exceptions",
    "fetch_movielens",
    "inspection",
    "load_model",
    "load_ratings",
    "make_ratings",
    "metrics",
    "model_selection",
    "persistence",
    "presets",
    "reconstruction",
    "sampling",
    "save_model",
    "server_optimizers",
    "splitting",
]
