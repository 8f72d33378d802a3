"""Gradient steps on the items with the user frozen, as published."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator

from .._compat import Interval
from .._kernels._blocks import linear_predictions
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


class SGDUpdate(BaseEstimator):
    """Some steps of stochastic gradient descent on the items, with the user frozen.

    The loss of a minibatch is its mean squared error; the split says what a minibatch is. A
    rating whose item occurred in an earlier batch of the client meets the row as that batch
    left it. A client sends, for each item that it touched, by how much the row and, where
    biases are fitted, the item's bias moved; and, where it is learned, how much the global
    mean did.

    Parameters
    ----------
    n_epochs : int, default=1
        Passes over the query, in the same order.
    max_steps : int, default=None
        Limit to the steps of all epochs together.
    learning_rate : float, default=0.5
        Step size.
    client_weights : {"examples", "uniform"}, default="examples"
        Weight of a client in the mean: the query examples that it processed, repeats
        included, or one.

    Notes
    -----
    Every step moves row ``v_i`` along the frozen user ``u``: after all of them it has moved
    by ``a_i u``. So the steps work on one number for each client and item, and on the
    products ``v_i . u`` that are computed once, whatever the number of components.

    References
    ----------
    Singhal et al., "Federated Reconstruction: Partially Local Federated Learning",
    NeurIPS 2021, arXiv:2102.03448.

    Examples
    --------
    >>> from sklearn_fedrecon.client_update import SGDUpdate
    >>> SGDUpdate(max_steps=50)
    SGDUpdate(max_steps=50)
    """

    needs = ("users",)
    gives = ("item deltas",)
    learns_global_mean = True
    _parameter_constraints = {  # noqa: RUF012
        "n_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 0, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="left")],
        "client_weights": CLIENT_WEIGHTS,
    }

    def __init__(
        self,
        n_epochs: int = 1,
        max_steps=None,
        learning_rate: float = 0.5,
        client_weights: str = "examples",
    ):
        self.n_epochs = n_epochs
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.client_weights = client_weights

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
        ratings = used_ratings(query, self.n_epochs, self.max_steps)
        steps = _FrozenUserSteps(ratings, users, prepared)
        with np.errstate(over="ignore", invalid="ignore"):  # the server rejects what diverged
            for block in step_blocks(ratings, self.n_epochs, self.max_steps):
                steps.take(block, 2 * self.learning_rate)
        return steps.message(client_weights(self.client_weights, steps.measured))


class GradientUpdate(BaseEstimator):
    """One gradient over all of a client's query ratings, at the server's model.

    A client sends minus the gradient of its mean squared error, so the learning rate is the
    server optimizer's; with example weights, the mean over clients is minus the gradient of
    the mean squared error of the cohort. Batches do not matter.

    Parameters
    ----------
    client_weights : {"examples", "uniform"}, default="examples"
        Weight of a client in the mean: its query examples, or one.

    Examples
    --------
    >>> from sklearn_fedrecon.client_update import GradientUpdate
    >>> GradientUpdate(client_weights="uniform")
    GradientUpdate(client_weights='uniform')
    """

    needs = ("users",)
    gives = ("item deltas",)
    learns_global_mean = True
    _parameter_constraints = {"client_weights": CLIENT_WEIGHTS}  # noqa: RUF012

    def __init__(self, client_weights: str = "examples"):
        self.client_weights = client_weights

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
        ratings = replace(query, batch_size=None)
        steps = _FrozenUserSteps(ratings, users, prepared)
        with np.errstate(over="ignore", invalid="ignore"):
            for block in step_blocks(ratings, 1, None):
                steps.take(block, 2.0)
        return steps.message(client_weights(self.client_weights, steps.measured))


class _FrozenUserSteps:
    """How far each row of each client has moved along the client's frozen user."""

    def __init__(self, ratings: ClientRatings, users: UserStates, prepared: Prepared):
        model = prepared.model
        self._model, self._users = model, users.factors(model.n_components)
        self._rows = Rows(ratings)
        with np.errstate(over="ignore", invalid="ignore"):
            predictions = linear_predictions(ratings, prepared.design, users.states)
            squares = np.einsum("cj,cj->c", self._users, self._users)
        self._residuals = np.append(prepared.residuals(ratings) - predictions, model.dtype.type(0))
        self._response = squares + model.fit_bias  # of a prediction to a move by one
        self._moves = np.zeros(len(self._rows.pattern.items) + 1, dtype=model.dtype)
        self._mean_moves = np.zeros(ratings.n_clients, dtype=model.dtype)
        self.measured = Measurements(ratings, model.global_mean)

    def take(self, block: StepBlock, rate: float) -> None:
        """Take all steps of a block of clients."""
        residuals, rows = self._residuals[block.positions], self._rows.of_ratings[block.positions]
        rates = self._model.dtype.type(rate) * block.shares
        for batches in block.steps():
            clients = block.clients[: len(batches)]
            touched = rows[batches]
            moved = self._moves[touched] * self._response[clients][:, None]
            errors = residuals[batches] - moved - self._mean_moves[clients][:, None]
            self.measured.add(clients, errors, block.shares[batches], block.weights[batches])
            steps = rates[batches] * errors
            np.add.at(self._moves, touched, steps)  # an item may occur twice in a batch
            self._moves[-1] = 0  # padding
            if self._model.learn_global_mean:
                self._mean_moves[clients] += steps.sum(axis=1)

    def message(self, weights: np.ndarray) -> ClientUpdates:
        """What the clients send; who has no query sends zeros, even if its user diverged."""
        moves, pattern = self._moves[:-1], self._rows.pattern
        silent = np.diff(pattern.indptr) == 0
        rows = {"item_factors": ItemRows(moves, np.where(silent[:, None], 0, self._users))}
        if self._model.fit_bias:
            rows["item_bias"] = ItemRows(moves)
        learned = self._model.learn_global_mean
        statistics = {"global_mean": self._mean_moves} if learned else {}
        return ClientUpdates(pattern, weights, rows, statistics, measurements=self.measured.sums)
