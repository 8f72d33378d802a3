"""Recommending: the time for many users and for one, beside the products it stands on.

"product and argpartition" scores all items of all users by one product of matrices and selects
ten with ``numpy.argpartition``: no items left out, no lower bound, nothing sorted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings

from ._data import table
from ._measure import alternate, one_thread
from ._table import Table

MANY_ITEMS = 100_000


def run(options) -> Iterator[Table]:
    repeats, k = options.repeats or 5, (options.components or [16])[0]
    X, y, name = table(options, 1_000_000)
    model = FederatedReconstructionMF(k, max_iter=3, tol=None, random_state=0).fit(X, y)
    users = model.users_.tolist()
    result = Table(
        f"Ten recommendations, k={k}, milliseconds, medians of {repeats}",
        ["data", "users", "items", "how", "CPU ms", "wall ms", "ratio"],
    )
    with one_thread():
        result.rows += compared(name, model, users, repeats)
        X, y = make_ratings(2000, MANY_ITEMS, 400_000, random_state=0, return_X_y=True)
        wide = FederatedReconstructionMF(
            k, items=np.arange(MANY_ITEMS), max_iter=2, tol=None, random_state=0
        ).fit(X, y)
        result.rows += compared("make_ratings, many items", wide, wide.users_[5:6].tolist(), 50)
    yield result


def compared(name: str, model: FederatedReconstructionMF, users: list, repeats: int) -> list:
    """`recommend`, by the lower bound and by the mean, and the products alone."""
    several = users if len(users) > 1 else users[0]
    rows = np.searchsorted(model.users_, users)
    timings = alternate(
        {
            "product and argpartition": lambda: product_alone(model, rows),
            "recommend, caution=0": lambda: model.recommend(several, 10, caution=0),
            "recommend": lambda: model.recommend(several, 10),
        },
        repeats,
    )
    least = timings["product and argpartition"].cpu_median
    sizes = [len(users), len(model.items_)]
    return [
        [name, *sizes, how, 1e3 * t.cpu_median, 1e3 * t.wall_median, t.cpu_median / least]
        for how, t in timings.items()
    ]


def product_alone(model: FederatedReconstructionMF, rows: np.ndarray) -> np.ndarray:
    """The ten highest of every user, in any order."""
    scores = model.user_factors_[rows] @ model.item_factors_.T
    scores += model.item_bias_
    return np.argpartition(-scores, 10, axis=1)[:, :10]
