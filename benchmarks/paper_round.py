"""One round as published: 100 clients, 50 components, batches of 5, beside plain NumPy loops.

At most 50 steps reconstruct and 50 update, on as many users, items and ratings as MovieLens 1M
has. The published step sizes are for MovieLens and diverge on these made-up ratings: users are
rebuilt at half the rate, at the same cost. The seconds are those that the estimator records of
every round. The loops go through the clients one by one, and through the batches of each;
package and loops alternate, one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import numpy as np

from sklearn_fedrecon.client_update import JointUpdate
from sklearn_fedrecon.presets import paper_movielens

from ._data import table
from ._measure import Timing, one_thread
from ._table import Table

RATINGS, CLIENTS, COMPONENTS = 1_000_000, 100, 50
BATCH, MOST, STEPS, EPOCHS = 5, 300, 50, 5  # MOST: ratings of a client
USER_RATE, ITEM_RATE = 0.05, 0.5
REPEATS, ROUNDS = 5, 20  # every repeat is so many rounds
TFF_SECONDS = 6.9  # a round of TensorFlow Federated 0.87.0, measured once: see the table's note


def run(options) -> Iterator[Table]:
    for n_ratings in options.ratings or (RATINGS,):
        X, y, name = table(options, n_ratings)
        yield one_round(X, y, name, options.repeats or REPEATS)
        if options.movielens:
            return


def one_round(X: np.ndarray, y: np.ndarray, name: str, repeats: int) -> Table:
    """Cost of a round of the package, published and joint, and of the loops."""
    common = {"max_iter": ROUNDS, "random_state": 0, "reconstruction__learning_rate": USER_RATE}
    models = {
        "package, as published": paper_movielens(**common),
        "package, users and items jointly": paper_movielens(
            **common, client_update=JointUpdate(max_steps=STEPS)
        ),
    }
    loops = PlainLoops(X, y)
    milliseconds = {label: [] for label in (*models, "plain NumPy loops")}
    with one_thread():
        for _ in range(repeats):
            for label, model in models.items():
                seconds = model.fit(X, y).history_["cpu_seconds"]
                milliseconds[label].append(1e3 * float(np.median(seconds)))
            timing = Timing()
            for _ in range(ROUNDS):
                cohort = loops.cohort()
                with timing.measure():
                    loops.round(cohort)
            milliseconds["plain NumPy loops"].append(1e3 * timing.cpu_median)
    result = Table(
        f"A round of {CLIENTS} clients as published, {name}, CPU",
        ["what", "CPU ms", "fastest", "slowest", "relative to the loops"],
    )
    yardstick = milliseconds["plain NumPy loops"]
    for label, times in milliseconds.items():
        ratio = median(ours / theirs for ours, theirs in zip(times, yardstick, strict=True))
        result.rows.append([label, median(times), min(times), max(times), ratio])
    tff = 1e3 * TFF_SECONDS
    apart = tff / median(yardstick)
    result.rows.append(["TensorFlow Federated 0.87.0, not in this run", tff, "-", "-", apart])
    result.notes = [
        f"Medians of {repeats} times {ROUNDS} rounds; ratios within a repeat.",
        "The loops are told every client's halves, and report, check and count nothing.",
        "TensorFlow Federated can no longer be installed. Its figure is from another day, on a "
        "machine like this one: the same configuration on MovieLens 1M, one seed.",
    ]
    return result


class PlainLoops:
    """The published round as somebody writes it who knows NumPy: client by client."""

    def __init__(self, X: np.ndarray, y: np.ndarray, seed: int = 0):
        users, items = (np.unique(column, return_inverse=True)[1] for column in X.T)
        order = np.argsort(users, kind="stable")
        starts = np.flatnonzero(np.diff(users[order], prepend=-1))[1:]
        self._items = np.split(items[order], starts)
        self._ratings = np.split(y[order].astype(np.float32), starts)
        self._random = np.random.default_rng(seed)
        shape = (items.max() + 1, COMPONENTS)
        self.factors = self._random.uniform(-0.05, 0.05, shape).astype(np.float32)

    def cohort(self) -> list[tuple]:
        """Batches that reconstruct and batches that update, of every client of a cohort."""
        halves = []
        for client in self._random.choice(len(self._items), CLIENTS, replace=False):
            items, ratings = self._items[client], self._ratings[client]
            order = self._random.permutation(len(items))[:MOST]
            batches = [
                (items[order[start : start + BATCH]], ratings[order[start : start + BATCH]])
                for start in range(0, len(order), BATCH)
            ]
            halves.append((batches[0::2], batches[1::2]))
        return halves

    def round(self, cohort: list[tuple]) -> None:
        """Rebuild users, step on items, and add the mean of how far items moved."""
        moves, weight = np.zeros_like(self.factors), 0
        for support, query in cohort:
            user = self.reconstruct(support)
            n_ratings = sum(len(items) for items, _ in query[:STEPS])
            for item, row in self.update(query, user).items():
                moves[item] += n_ratings * (row - self.factors[item])
            weight += n_ratings
        self.factors += moves / max(weight, 1)

    def reconstruct(self, batches: list[tuple]) -> np.ndarray:
        """SGD on a fresh user, items frozen, shape (n_components,)."""
        user = self._random.uniform(-0.05, 0.05, COMPONENTS).astype(np.float32)
        for items, ratings in (batches * EPOCHS)[:STEPS]:
            x = self.factors[items]
            user += np.float32(2 * USER_RATE / len(items)) * ((ratings - x @ user) @ x)
        return user

    def update(self, batches: list[tuple], user: np.ndarray) -> dict[int, np.ndarray]:
        """SGD on the rows of a client's items, user frozen; items of a client are distinct."""
        rows = {}
        for items, ratings in batches[:STEPS]:
            x = self.factors[items]
            errors = ratings - x @ user
            x += np.float32(2 * ITEM_RATE / len(items)) * errors[:, None] * user
            rows.update(zip(items.tolist(), x, strict=True))
        return rows
