"""Rebuilding users who were not in training: one at a time, and 10,000 at once.

"kernel" is the reconstruction of encoded ratings; "reconstruct_user" and "personalize" are
the public methods, with all checks of what they are given.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._compat import single_threaded_blas
from sklearn_fedrecon._encoding import encode_ratings
from sklearn_fedrecon._training._parts import build_parts
from sklearn_fedrecon._types import DeviceContext
from sklearn_fedrecon.datasets import make_ratings

from ._data import ITEMS_1M, USERS_1M, table
from ._measure import alternate, one_thread
from ._table import Table

RATINGS_OF_ONE = 100
NEWCOMERS = 10_000


def run(options) -> Iterator[Table]:
    repeats = options.repeats or 9
    X, y, name = table(options, 1_000_000)
    newcomers = make_ratings(
        NEWCOMERS, ITEMS_1M, NEWCOMERS * RATINGS_OF_ONE, random_state=1, return_X_y=True
    )
    result = Table(
        f"Users who were not in training, model of {name}: microseconds a user, medians",
        ["n_components", "users", "ratings each", "how", "CPU us", "wall us"],
    )
    for k in options.components or (16, 32, 64):
        model = FederatedReconstructionMF(k, random_state=0, max_iter=2).fit(X, y)
        result.rows += one_user(model, k, repeats)
        if not options.movielens:
            result.rows.append(many_users(model, k, newcomers, repeats))
    yield result


def one_user(model: FederatedReconstructionMF, k: int, repeats: int) -> list[list]:
    """Kernel and public method for one user."""
    random = np.random.default_rng(0)
    items = random.choice(model.items_, RATINGS_OF_ONE, replace=False)
    ratings = random.integers(1, 6, RATINGS_OF_ONE).astype(float)
    indices = np.sort(np.searchsorted(model.items_, items))
    rated = encode_ratings(
        np.zeros_like(indices), indices, ratings, None, n_items=len(model.items_), n_users=1
    )
    reconstruction = build_parts(model).reconstruction
    context = DeviceContext(0, 0, serving=True)
    prepared = reconstruction.prepare(model._fitted.model)
    candidates = {
        "kernel": lambda: reconstruction.reconstruct(rated, prepared, context),
        "reconstruct_user": lambda: model.reconstruct_user(items, ratings),
    }
    with one_thread(), single_threaded_blas():
        timings = alternate(candidates, repeats, calls=100)
    return [
        [k, 1, RATINGS_OF_ONE, name, 1e6 * timing.cpu_median, 1e6 * timing.wall_median]
        for name, timing in timings.items()
    ]


def many_users(model: FederatedReconstructionMF, k: int, newcomers, repeats: int) -> list:
    """All newcomers at once."""
    X, y = newcomers
    X = X + np.array([USERS_1M, 0])  # users that the model has not met
    known = np.isin(X[:, 1], model.items_)
    X, y = X[known], y[known]
    with one_thread():
        timing = alternate({"": lambda: model.personalize(X, y)}, repeats)[""]
    scale = 1e6 / NEWCOMERS
    return [
        k,
        NEWCOMERS,
        f"{len(y) / NEWCOMERS:.0f} on average",
        "personalize",
        scale * timing.cpu_median,
        scale * timing.wall_median,
    ]
