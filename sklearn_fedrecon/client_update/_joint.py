"""Gradient steps on user and items together: the baseline without reconstruction."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator

from .._compat import Interval
from .._kernels._minibatches import StepBlock, step_blocks, used_ratings
from .._types import (
    ClientRatings,
    ClientUpdates,
    DeviceContext,
    ItemRows,
    Prepared,
    UserStates,
)
from ._common import CLIENT_WEIGHTS, Measurements, Rows, client_weights


class JointUpdate(BaseEstimator):
    """Steps of stochastic gradient descent on the user and the items together.

    The user starts as it was rebuilt, and both sides of the prediction move from the same
    point in every step. With ``learn_initial_user``, a client also sends how far its user
    moved from where the server told users to start, and the server learns that start: all
    parameters are global then, as in Federated Averaging, and the reconstruction with
    ``init="server"`` fine-tunes them for each user. A split that leaves the support empty
    (``RandomSplit(0.0)``) skips the reconstruction in training.

    Parameters
    ----------
    n_epochs : int, default=1
        Passes over the query, in the same order.
    max_steps : int, default=None
        Limit to the steps of all epochs together.
    learning_rate : float, default=0.1
        Step size.
    client_weights : {"examples", "uniform"}, default="examples"
        Weight of a client in the mean: the query examples that it processed, repeats
        included, or one.
    learn_initial_user : bool, default=False
        Whether the server learns where users start.

    Notes
    -----
    Rows move along a user that moves itself, so they have no short form: the rows of a chunk
    of clients are held as an array of shape (rows, components).

    References
    ----------
    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
    Data", AISTATS 2017, arXiv:1602.05629.

    Examples
    --------
    >>> from sklearn_fedrecon.client_update import JointUpdate
    >>> JointUpdate(max_steps=50, learn_initial_user=True)
    JointUpdate(learn_initial_user=True, max_steps=50)
    """

    gives = ("item deltas",)
    learns_global_mean = True
    _parameter_constraints = {  # noqa: RUF012
        "n_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 0, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="left")],
        "client_weights": CLIENT_WEIGHTS,
        "learn_initial_user": ["boolean"],
    }

    def __init__(
        self,
        n_epochs: int = 1,
        max_steps=None,
        learning_rate: float = 0.1,
        client_weights: str = "examples",
        learn_initial_user: bool = False,
    ):
        self.n_epochs = n_epochs
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.client_weights = client_weights
        self.learn_initial_user = learn_initial_user

    @property
    def needs(self) -> tuple[str, ...]:
        """What the reconstruction must hand on."""
        return ("users", "a start from the server") if self.learn_initial_user else ("users",)

    def update(
        self, query: ClientRatings, users: UserStates, prepared: Prepared, context: DeviceContext
    ) -> ClientUpdates:
        """Compute the messages of a chunk of clients.

        Parameters
        ----------
        query : ClientRatings
        users : UserStates
            The same clients, rebuilt from their support.
        prepared : Prepared
        context : DeviceContext

        Returns
        -------
        updates : ClientUpdates
        """
        ratings, model = used_ratings(query, self.n_epochs, self.max_steps), prepared.model
        steps = _JointSteps(ratings, users, prepared)
        with np.errstate(over="ignore", invalid="ignore"):  # the server rejects what diverged
            for block in step_blocks(ratings, self.n_epochs, self.max_steps):
                steps.take(block, 2 * self.learning_rate)
        statistics = {}
        if model.learn_global_mean:
            statistics["global_mean"] = steps.mean_moves
        if self.learn_initial_user:
            statistics["user_prior_mean"] = steps.users - model.user_prior_mean
        weights = client_weights(self.client_weights, steps.measured)
        return steps.message(weights, statistics)


class _JointSteps:
    """The users and item rows of clients while both are trained."""

    def __init__(self, ratings: ClientRatings, users: UserStates, prepared: Prepared):
        model, design = prepared.model, prepared.design
        self._model, self._rows = model, Rows(ratings)
        self._targets = np.append(prepared.residuals(ratings), model.dtype.type(0))
        padding = np.zeros((1, design.shape[1]), dtype=model.dtype)
        self._design = np.vstack([design[self._rows.pattern.items], padding])
        self._moves = np.zeros(len(self._design), dtype=model.dtype)  # of the item biases
        self._scratch = np.zeros_like(self._moves)
        self.users = users.states.copy()
        self.mean_moves = np.zeros(ratings.n_clients, dtype=model.dtype)
        self.measured = Measurements(ratings, model.global_mean)

    def take(self, block: StepBlock, rate: float) -> None:
        """Take all steps of a block of clients."""
        targets, rows = self._targets[block.positions], self._rows.of_ratings[block.positions]
        rates = self._model.dtype.type(rate) * block.shares
        for batches in block.steps():
            clients, touched = block.clients[: len(batches)], rows[batches]
            x, users = self._design[touched], self.users[clients]
            errors = targets[batches] - np.matmul(x, users[:, :, None])[:, :, 0]
            errors -= self._moves[touched] + self.mean_moves[clients][:, None]
            self.measured.add(clients, errors, block.shares[batches], block.weights[batches])
            steps = rates[batches] * errors
            self.users[clients] = users + np.matmul(steps[:, None, :], x)[:, 0]
            self._move_items(touched, x, users, steps)
            if self._model.learn_global_mean:
                self.mean_moves[clients] += steps.sum(axis=1)

    def _move_items(
        self, touched: np.ndarray, x: np.ndarray, users: np.ndarray, steps: np.ndarray
    ) -> None:
        """Move rows and biases; an item that occurs twice in a batch takes both steps."""
        k = self._model.n_components
        np.add.at(self._scratch, touched, steps)
        steps = self._scratch[touched]
        self._design[touched, :k] = x[:, :, :k] + steps[:, :, None] * users[:, None, :k]
        if self._model.fit_bias:
            self._moves[touched] += steps
        for padded in (self._scratch, self._design, self._moves):
            padded[-1] = 0
        self._scratch[touched] = 0

    def message(self, weights: np.ndarray, statistics: dict[str, np.ndarray]) -> ClientUpdates:
        """What the clients send."""
        k, pattern = self._model.n_components, self._rows.pattern
        moved = self._design[:-1, :k] - self._model.item_factors[pattern.items]
        rows = {"item_factors": ItemRows(None, explicit=moved)}
        if self._model.fit_bias:
            rows["item_bias"] = ItemRows(self._moves[:-1])
        return ClientUpdates(pattern, weights, rows, statistics, measurements=self.measured.sums)
