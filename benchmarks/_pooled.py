"""The centralized baseline: matrix factorization of all ratings in one place, in NumPy.

Minibatch stochastic gradient descent on users and items, with an L2 penalty; a user that was
not in training is rebuilt by ridge regression on the items, with the penalty of the training.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SPREAD = 0.05  # factors start as U(-0.05, 0.05), as in the paper


class PooledSGD:
    """Factors and, on request, biases of users and items.

    Parameters
    ----------
    n_components : int
    fit_bias : bool
        Whether to fit biases, about the mean of the training ratings. Without, factors explain
        the ratings as they are.
    learning_rate, penalty : float
        Step size, and the penalty that every rating brings for its user's and its item's row.
    batch_size : int
    seed : int
    """

    def __init__(
        self,
        n_components: int = 50,
        *,
        fit_bias: bool = False,
        learning_rate: float = 0.02,
        penalty: float = 0.05,
        batch_size: int = 64,
        seed: int = 0,
    ):
        self.n_components, self.fit_bias = n_components, fit_bias
        self.learning_rate, self.penalty = np.float32(learning_rate), np.float32(penalty)
        self.batch_size, self.seed = batch_size, seed

    def epochs(
        self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray, n_items: int, n: int
    ) -> Iterator[int]:
        """Train for ``n`` passes over the ratings, and yield the number of each at its end.

        Parameters
        ----------
        users, items : ndarray of shape (n_ratings,)
            Indices.
        ratings : ndarray of shape (n_ratings,)
        n_items : int
            Size of the catalogue.
        n : int
        """
        random, ratings = np.random.default_rng(self.seed), ratings.astype(np.float32)
        self._start(random, users.max() + 1, n_items, ratings)
        for epoch in range(1, n + 1):
            order = random.permutation(len(ratings))
            for batch in np.array_split(order, -(-len(order) // self.batch_size)):
                self._step(users[batch], items[batch], ratings[batch])
            yield epoch

    def _start(self, random, n_users: int, n_items: int, ratings: np.ndarray) -> None:
        def uniform(n):
            return random.uniform(-SPREAD, SPREAD, (n, self.n_components)).astype(np.float32)

        self.items, self._users = uniform(n_items), uniform(n_users)
        self.item_bias = np.zeros(n_items, np.float32)
        self._user_bias = np.zeros(n_users, np.float32)
        self.mean = ratings.mean() if self.fit_bias else np.float32(0)

    def _step(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray) -> None:
        """One minibatch: a row that occurs twice in it takes both steps."""
        rate, penalty = self.learning_rate, self.penalty
        u, v = self._users[users], self.items[items]
        b, c = self.item_bias[items], self._user_bias[users]
        errors = ratings - self.mean - b - c - np.einsum("rk,rk->r", u, v)
        np.add.at(self._users, users, rate * (errors[:, None] * v - penalty * u))
        np.add.at(self.items, items, rate * (errors[:, None] * u - penalty * v))
        if self.fit_bias:
            np.add.at(self.item_bias, items, rate * (errors - penalty * b))
            np.add.at(self._user_bias, users, rate * (errors - penalty * c))

    def rebuild(self, items: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """One user from its ratings: factor and, with biases, bias, shape (d,)."""
        x = self._rows(items)
        residuals = ratings - self.mean - self.item_bias[items]
        ridge = self.penalty * len(items) * np.eye(x.shape[1])
        return np.linalg.solve(x.T @ x + ridge, x.T @ residuals)

    def predict(self, user: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Ratings of items by a user that `rebuild` returned, shape (n_items,)."""
        return self.mean + self.item_bias[items] + self._rows(items) @ user

    def _rows(self, items: np.ndarray) -> np.ndarray:
        rows = self.items[items].astype(np.float64)
        return np.hstack([rows, np.ones((len(rows), 1))]) if self.fit_bias else rows
