"""Ratings to try things on: drawn from a known truth, read from a file, or MovieLens."""

from ._clients import ClientDataset
from ._files import load_ratings
from ._movielens import fetch_movielens
from ._oracle import oracle_predict
from ._saving import save_client_chunks, save_clients
from ._synthetic import make_ratings

__all__ = [
    "ClientDataset",
    "fetch_movielens",
    "load_ratings",
    "make_ratings",
    "oracle_predict",
    "save_client_chunks",
    "save_clients",
]
