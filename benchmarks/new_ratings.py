"""What to call when known users come with new ratings, and what each call reaches.

Day 1: a fit on six tenths of everybody's ratings. Day 2: a fifth of the users have two tenths
more. The error is on the last two tenths of these users' ratings.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator

import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings

from ._data import movielens
from ._table import Table

SEEDS = range(3)


def run(options) -> Iterator[Table]:
    result = Table(
        f"RMSE of users with new ratings, means of {len(SEEDS)} splits",
        ["data", "call on day 2", "with", "RMSE", "CPU s"],
    )
    for name, X, y in tables(options):
        found: dict[tuple[str, str], list] = {}
        for seed in SEEDS:
            for call, figures in calls(X, y, seed):
                found.setdefault(call, []).append(figures)
        for call, figures in found.items():
            error, seconds = np.mean(figures, axis=0)
            result.rows.append([name, *call, float(error), float(seconds)])
    yield result


def tables(options) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Ratings drawn here, and MovieLens ratings where there are any."""
    try:
        variant = options.movielens or "latest-small"
        bunch = movielens(variant)
        yield f"MovieLens {variant}", bunch.data, bunch.target
    except OSError as error:
        print(f"(no MovieLens: {error})")
    yield (
        "make_ratings 120,000",
        *make_ratings(1500, 1000, 120_000, random_state=0, return_X_y=True),
    )


def calls(X: np.ndarray, y: np.ndarray, seed: int) -> Iterator[tuple[tuple[str, str], tuple]]:
    """Each call with its error and its time."""
    random, users = np.random.default_rng(seed), np.unique(X[:, 0])
    part = random.random(len(y))
    returning = np.isin(X[:, 0], random.permutation(users)[: len(users) // 5])
    first, new = part < 0.6, returning & (part >= 0.6) & (part < 0.8)
    every, test = returning & (part < 0.8), returning & (part >= 0.8)

    def fitted():
        model = FederatedReconstructionMF(random_state=0, warm_start=True)
        return model.fit(X[first], y[first])

    together = first | new
    candidates = {
        ("nothing", "-"): lambda model: model,
        ("personalize", "all their ratings"): lambda m: m.personalize(X[every], y[every]),
        ("partial_fit", "all their ratings"): lambda m: m.partial_fit(X[every], y[every]),
        ("fit, warm_start=True", "everybody's"): lambda m: m.fit(X[together], y[together]),
        ("personalize", "the new alone"): lambda m: m.personalize(X[new], y[new]),
        ("partial_fit", "the new alone"): lambda m: m.partial_fit(X[new], y[new]),
    }
    for name, call in candidates.items():
        model = fitted()
        before = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of fewer ratings than before
            model = call(model)
        seconds = time.process_time() - before
        error = np.sqrt(np.mean((model.predict(X[test]) - y[test]) ** 2))
        yield name, (error, seconds)
