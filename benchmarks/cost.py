"""The cost of a round as a formula, fitted to rounds of many shapes.

Rounds with all clients are timed for several numbers of ratings, clients, items and
components; the coefficients of the formula are the non-negative ones with the least squared
relative error.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import nnls

from sklearn_fedrecon._distribution import ChunkMap
from sklearn_fedrecon.datasets import make_ratings

from ._data import encoded
from ._measure import alternate, one_thread
from ._table import Table
from .round import Round

COMPONENTS = (8, 16, 32, 64)
SHAPES = (  # users, items, ratings
    (6_040, 3_706, 1_000_000),
    (600, 3_706, 100_000),
    (30_000, 3_706, 600_000),
    (6_040, 15_000, 1_000_000),
    (2_000, 2_000, 500_000),
    (1_000, 10_000, 20_000),
)
TERMS = {
    "ratings": lambda R, n, m, k: R,
    "ratings x k": lambda R, n, m, k: R * k,
    "ratings x d^2": lambda R, n, m, k: R * (k + 1) ** 2,
    "clients": lambda R, n, m, k: n,
    "clients x d^2": lambda R, n, m, k: n * (k + 1) ** 2,
    "clients x d^3": lambda R, n, m, k: n * (k + 1) ** 3,
    "items x k": lambda R, n, m, k: m * k,
    "round": lambda R, n, m, k: 1,
}


def run(options) -> Iterator[Table]:
    repeats = options.repeats or 5
    shapes, seconds = [], []
    for n_users, n_items, n_ratings in SHAPES:
        X, y = make_ratings(n_users, n_items, n_ratings, random_state=0, return_X_y=True)
        ratings = encoded(X, y).by_length()
        for k in options.components or COMPONENTS:
            ours = Round(ratings, k)
            with one_thread(), ChunkMap(1) as mapper:
                ours.advance(mapper)
                timing = alternate({"": lambda o=ours, m=mapper: o.run(m)}, repeats)[""]
            shapes.append((ratings.n_ratings, ratings.n_clients, ratings.n_items, k))
            seconds.append(timing.cpu_median)
    design = np.array([[term(*shape) for term in TERMS.values()] for shape in shapes], float)
    relative = design / np.array(seconds)[:, None]
    coefficients, _ = nnls(relative, np.ones(len(seconds)))
    ratio = relative @ coefficients
    result = Table(
        "Cost of a round: nanoseconds of CPU per unit, one thread, float32",
        ["unit", "ns"],
        [[name, 1e9 * value] for name, value in zip(TERMS, coefficients.tolist(), strict=True)],
    )
    result.notes.append(
        f"d = k + 1; {len(seconds)} rounds of {len(SHAPES)} shapes: the formula gives "
        f"{ratio.min():.2f} to {ratio.max():.2f} times what was measured"
    )
    yield result
