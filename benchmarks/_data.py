"""Ratings that the benchmarks run on."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from sklearn_fedrecon._encoding import encode_ratings
from sklearn_fedrecon._types import ClientRatings
from sklearn_fedrecon.datasets import fetch_movielens, make_ratings

USERS_1M, ITEMS_1M = 6040, 3706


def shape_of(n_ratings: int) -> tuple[int, int]:
    """Users and items that go with a number of ratings: those of MovieLens, or between."""
    known = {100_000: (943, 1682), 1_000_000: (USERS_1M, ITEMS_1M), 20_000_000: (138_000, 27_000)}
    sizes = sorted(known)
    users = np.interp(np.log(n_ratings), np.log(sizes), np.log([known[n][0] for n in sizes]))
    items = np.interp(np.log(n_ratings), np.log(sizes), np.log([known[n][1] for n in sizes]))
    return known.get(n_ratings, (round(np.exp(users)), round(np.exp(items))))


def synthetic(n_ratings: int, seed: int = 0):
    """Bunch of `make_ratings` with a natural number of users and items."""
    n_users, n_items = shape_of(n_ratings)
    return make_ratings(n_users, n_items, n_ratings, random_state=seed)


@functools.lru_cache(maxsize=2)
def movielens(variant: str):
    """Bunch of `fetch_movielens`; FEDRECON_MOVIELENS_ZIP may name an ml-latest-small.zip."""
    archive = os.environ.get("FEDRECON_MOVIELENS_ZIP")
    if variant != "latest-small" or not archive:
        return fetch_movielens(variant)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "movielens"
        folder.mkdir()
        shutil.copy(archive, folder / "ml-latest-small.zip")
        return fetch_movielens(variant, data_home=home, download_if_missing=False)


def table(options, n_ratings: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Ratings table, ratings and what they are called, as the command line asks for."""
    if options.movielens:
        bunch = movielens(options.movielens)
        return bunch.data, bunch.target, f"MovieLens {options.movielens}"
    bunch = synthetic(n_ratings)
    return bunch.data, bunch.target, f"make_ratings {n_ratings:,}"


def encoded(X: np.ndarray, y: np.ndarray, dtype: str = "float32") -> ClientRatings:
    """The same ratings as the simulation holds them."""
    users, items = (np.unique(column, return_inverse=True)[1] for column in X.T)
    return encode_ratings(users, items, y, None, n_items=items.max() + 1, dtype=dtype)
