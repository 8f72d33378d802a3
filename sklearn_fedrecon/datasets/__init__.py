"""Ratings to try things on: drawn from a known truth, read from a file, or MovieLens."""

from ._files import load_ratings
from ._movielens import fetch_movielens
from ._oracle import oracle_predict
from ._synthetic import make_ratings

__all__ = ["fetch_movielens", "load_ratings", "make_ratings", "oracle_predict"]
