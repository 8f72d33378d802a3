"""Reconstruction by minibatch SGD, as published."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator

from .._compat import Interval, StrOptions
from .._kernels._minibatches import StepBlock, step_blocks
from .._random import Stream, client_words, generator
from .._types import (
    ClientRatings,
    DeviceContext,
    Prepared,
    ServerModel,
    UserStates,
)

_SPREAD = 0.05  # factors start as U(-0.05, 0.05), those of users as those of items


class SGDReconstruction(BaseEstimator):
    """Some steps of stochastic gradient descent on a fresh user, with the items frozen.

    The loss of a minibatch is its mean squared error. The user's bias, where biases are
    fitted, takes the same steps as the factor and starts at zero. The split says what a
    minibatch is; without a batch size, every step sees all of a client's support.

    Parameters
    ----------
    n_epochs : int, default=1
        Passes over the support, in the same order.
    max_steps : int, default=None
        Limit to the steps of all epochs together.
    learning_rate : float, default=0.1
        Step size.
    init : {"uniform", "server"}, float or array-like of shape (n_components,), \
            default="uniform"
        The factor to start from: drawn from U(-0.05, 0.05) by every client in every round;
        one that the server learns (see `JointUpdate`), with its bias; or a constant.

    References
    ----------
    Singhal et al., "Federated Reconstruction: Partially Local Federated Learning",
    NeurIPS 2021, arXiv:2102.03448.

    Examples
    --------
    >>> from sklearn_fedrecon.reconstruction import SGDReconstruction
    >>> SGDReconstruction(n_epochs=5, max_steps=50)
    SGDReconstruction(max_steps=50, n_epochs=5)
    """

    needs = ("the support",)
    merges_duplicates = False
    needs_scale = False
    _parameter_constraints = {  # noqa: RUF012
        "n_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 0, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="left")],
        "init": [StrOptions({"uniform", "server"}), Real, "array-like"],
    }

    def __init__(
        self, n_epochs: int = 1, max_steps=None, learning_rate: float = 0.1, init="uniform"
    ):
        self.n_epochs = n_epochs
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.init = init

    @property
    def gives(self) -> tuple[str, ...]:
        """What the client update is handed."""
        return ("users", "a start from the server") if self._from_server() else ("users",)

    def initial_model(
        self,
        n_items: int,
        n_components: int,
        *,
        fit_bias: bool,
        global_mean: float,
        scale: float,
        dtype: type,
        seed: int,
    ) -> ServerModel:
        """Return the model before the first round; the scale of the ratings is not used.

        Parameters
        ----------
        n_items : int
        n_components : int
        fit_bias : bool
        global_mean : float
        scale : float
        dtype : type
        seed : int

        Returns
        -------
        model : ServerModel
        """
        random = generator(seed, Stream.ITEM_FACTORS)
        factors = random.uniform(-_SPREAD, _SPREAD, (n_items, n_components))
        start: np.ndarray = np.zeros(n_components + fit_bias, dtype=dtype)
        if self._from_server():
            random = generator(seed, Stream.USER_FACTORS)
            start[:n_components] = random.uniform(-_SPREAD, _SPREAD, n_components)
        return ServerModel(
            item_factors=factors.astype(dtype),
            item_bias=np.zeros(n_items, dtype=dtype),
            global_mean=global_mean,
            fit_bias=fit_bias,
            user_prior_mean=start,
            user_prior_variance=np.ones_like(start),
        )

    def prepare(self, model: ServerModel) -> Prepared:
        """Compute once a round what serves for all clients.

        Parameters
        ----------
        model : ServerModel

        Returns
        -------
        prepared : Prepared
        """
        tables = Prepared.of(model)
        rows = np.ascontiguousarray(tables.table[:, :-1])  # steps gather rows without the offset
        return replace(tables, further={"rows": rows})

    def reconstruct(
        self, support: ClientRatings, prepared: Prepared, context: DeviceContext
    ) -> UserStates:
        """Rebuild many users at once; one unseen user is a cohort of one.

        Parameters
        ----------
        support : ClientRatings
        prepared : Prepared
        context : DeviceContext

        Returns
        -------
        users : UserStates
        """
        model, rows = prepared.model, prepared.further["rows"]
        items = np.append(support.items, support.n_items)
        targets = np.append(prepared.residuals(support), model.dtype.type(0))
        rate = model.dtype.type(2 * self.learning_rate)
        states = self._start(support.clients, model, context)
        with np.errstate(over="ignore", invalid="ignore"):  # the server rejects what diverged
            for block in step_blocks(support, self.n_epochs, self.max_steps):
                users = states[block.clients]
                _descend(users, rows, items[block.positions], targets, rate, block)
                states[block.clients] = users
        return UserStates(states)

    def _from_server(self) -> bool:
        return isinstance(self.init, str) and self.init == "server"

    def _start(
        self, clients: np.ndarray, model: ServerModel, context: DeviceContext
    ) -> np.ndarray:
        """The users before the first step, shape (n_clients, d)."""
        k, n_clients = model.n_components, len(clients)
        states = np.zeros((n_clients, k + model.fit_bias), dtype=model.dtype)
        if self._from_server():
            states[:] = model.user_prior_mean
        elif isinstance(self.init, str):
            lengths = np.full(n_clients, k)
            words = client_words(
                context.seed, Stream.USER_FACTORS, context.round, clients, lengths
            )
            uniform = (words >> np.uint64(11)) * 2.0**-53
            states[:, :k] = ((2 * uniform - 1) * _SPREAD).reshape(n_clients, k)
        else:
            states[:, :k] = self._constant(k)
        return states

    def _constant(self, n_components: int) -> np.ndarray:
        """The constant start, one number for all components or one for each."""
        start = np.asarray(self.init, dtype=np.float64)
        if start.shape not in ((), (n_components,)):
            raise ValueError(
                f"init of SGDReconstruction has shape {start.shape}, and a user's factor has "
                f"n_components={n_components} numbers: give that many, or one for all."
            )
        return start


def _descend(
    users: np.ndarray,
    rows: np.ndarray,
    items: np.ndarray,
    targets: np.ndarray,
    rate: np.floating,
    block: StepBlock,
) -> None:
    """Take all steps of a block, in place.

    ``users`` are of shape (n_block, d), the item rows ``rows`` of shape (n_items + 1, d), the
    ``items`` of the table (n_batches, width) and ``targets`` of shape (n_ratings + 1,).
    """
    targets, rates = targets[block.positions], rate * block.shares
    for batches in block.steps():
        active = users[: len(batches)]
        x = np.take(rows, items[batches], axis=0)
        errors = targets[batches] - np.matmul(x, active[:, :, None])[:, :, 0]
        steps = rates[batches] * errors
        active += np.matmul(steps[:, None, :], x)[:, 0]
