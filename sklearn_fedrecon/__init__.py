"""Federated Reconstruction for matrix factorization as a scikit-learn estimator."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._estimator import FederatedReconstructionMF
from ._transformer import FederatedReconstructionTransformer
from .datasets import fetch_movielens, load_ratings, make_ratings

if TYPE_CHECKING:  # loaded when they are first asked for, see `__getattr__`
    from . import (
        aggregation,
        client_update,
        communication,
        datasets,
        exceptions,
        inspection,
        metrics,
        model_selection,
        persistence,
        presets,
        reconstruction,
        sampling,
        server_optimizers,
        splitting,
    )
    from .persistence import load_model, save_model

__version__ = "0.1.0.dev0"
__all__ = [
    "FederatedReconstructionMF",
    "FederatedReconstructionTransformer",
    "aggregation",
    "client_update",
    "communication",
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
_LIVES_IN = {"load_model": "persistence", "save_model": "persistence"}


def __getattr__(name: str) -> Any:
    """Load what is asked for when it is first asked for: the import stays fast."""
    if name in _LIVES_IN:
        return getattr(import_module(f".{_LIVES_IN[name]}", __name__), name)
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names of everything public, loaded or not."""
    return sorted({*globals(), *__all__})
