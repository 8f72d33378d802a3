"""Recommending: how good it is by how cautious it is, and the time for many users and for one.

NDCG@10 of held-out ratings of 4 and more: a tenth of all ratings, or half of those of users who
were not in training. "popular" gives everybody what was rated most often.

"product and argpartition" scores all items of all users by one product of matrices and selects
ten with ``numpy.argpartition``: no items left out, no lower bound, nothing sorted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings

from ._data import movielens, table
from ._measure import alternate, one_thread
from ._table import Table

MANY_ITEMS = 100_000
CAUTIONS = (0, 0.5, 1, 2, 3, 4, 6)
SEEDS = range(3)


def run(options) -> Iterator[Table]:
    yield quality(options)
    yield speed(options)


def quality(options) -> Table:
    """NDCG@10 by the standard deviations taken off."""
    result = Table(
        f"NDCG@10 by caution, means of {len(SEEDS)} splits",
        ["data", "held out", *(f"caution {c:g}" for c in CAUTIONS), "popular"],
    )
    for name, X, y in ranked_data(options):
        for held_out, split in (("ratings", of_all_ratings), ("users", of_unseen_users)):
            marks = [marks_of(*split(X, y, seed)) for seed in SEEDS]
            result.rows.append([name, held_out, *(float(m) for m in np.mean(marks, axis=0))])
    return result


def ranked_data(options) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Ratings drawn here, and MovieLens ratings where there are any."""
    try:
        variant = options.movielens or "latest-small"
        bunch = movielens(variant)
        yield f"MovieLens {variant}", bunch.data, bunch.target
    except OSError as error:
        print(f"(no MovieLens: {error})")
    drawn = make_ratings(1500, 1000, 120_000, random_state=0, return_X_y=True)
    yield "make_ratings 120,000", *drawn


def of_all_ratings(X: np.ndarray, y: np.ndarray, seed: int) -> tuple:
    """A model that was trained on nine tenths, what it was told, and the other tenth."""
    test = np.random.default_rng(seed).random(len(y)) < 0.1
    model = FederatedReconstructionMF(random_state=0).fit(X[~test], y[~test])
    return model, X[~test], X[test], y[test]


def of_unseen_users(X: np.ndarray, y: np.ndarray, seed: int) -> tuple:
    """A model that was told half of the ratings of a tenth of the users after training."""
    random, users = np.random.default_rng(seed), np.unique(X[:, 0])
    unseen = np.isin(X[:, 0], random.permutation(users)[: len(users) // 10])
    told = unseen & (random.random(len(y)) < 0.5)
    test = unseen & ~told
    model = FederatedReconstructionMF(random_state=0).fit(X[~unseen], y[~unseen])
    return model.forget_users().personalize(X[told], y[told]), X[told], X[test], y[test]


def marks_of(model, told: np.ndarray, test: np.ndarray, y: np.ndarray) -> list[float]:
    """NDCG@10 for each caution, and of the most popular items."""
    liked = test[(y >= 4) & np.isin(test[:, 1], model.items_) & np.isin(test[:, 0], model.users_)]
    users = np.unique(liked[:, 0])
    wanted = [set(liked[liked[:, 0] == user, 1].tolist()) for user in users]
    marks = []
    for caution in CAUTIONS:
        given, _ = model.recommend(users, 10, caution=caution)
        marks.append(ndcg(given.tolist(), wanted))
    popular = model.popular_items(len(model.items_))[0].tolist()
    known = [set(told[told[:, 0] == user, 1].tolist()) for user in users]
    given = [[item for item in popular if item not in own][:10] for own in known]
    return [*marks, ndcg(given, wanted)]


def ndcg(given: list[list], wanted: list[set]) -> float:
    """Mean over users."""
    discounts = 1 / np.log2(np.arange(2, 12))
    gains = [
        discounts @ [item in own for item in row] / discounts[: len(own)].sum()
        for row, own in zip(given, wanted, strict=True)
    ]
    return float(np.mean(gains))


def speed(options) -> Table:
    """Time of ten recommendations."""
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
    return result


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
