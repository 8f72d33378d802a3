"""What the stations of a round hand on to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._model import ServerModel
from ._ratings import ClientRatings, bytes_of_arrays


@dataclass(frozen=True)
class SupportStatistics:
    """What a device remembers of its reconstruction, to not compute it twice.

    Attributes
    ----------
    ratings : ClientRatings
        The ratings that the users were rebuilt from.
    residuals : ndarray of shape (n_ratings,)
        What the rebuilt users leave unexplained of them.
    squares : ndarray of shape (n_clients, d)
        Weighted sums of ``x_i**2`` plus the variance of ``x_i``.
    variances : ndarray of shape (n_clients, k + 1)
        Weighted sums of the variance of ``v_i`` alone, and of the item's bias.
    """

    ratings: ClientRatings
    residuals: np.ndarray
    squares: np.ndarray
    variances: np.ndarray


@dataclass(frozen=True)
class UserStates:
    """Reconstructed users; lives on the devices and is never sent.

    Attributes
    ----------
    states : ndarray of shape (n_clients, d)
        The user factor and, where biases are fitted, the user bias after it.
    variances : ndarray of shape (n_clients, d) or None
        Posterior variances; None for point estimates.
    support : SupportStatistics or None
        By-products of the reconstruction.
    """

    states: np.ndarray
    variances: np.ndarray | None = None
    support: SupportStatistics | None = None

    def posterior_variances(self) -> np.ndarray:
        """The variances, of users who were rebuilt with them."""
        if self.variances is None:
            raise ValueError("These users were rebuilt as points, without posterior variances.")
        return self.variances

    def take(self, positions: np.ndarray) -> UserStates:
        """The users at ``positions``, in that order, without by-products."""
        variances = None if self.variances is None else self.variances[positions]
        return UserStates(self.states[positions], variances)

    def factors(self, n_components: int) -> np.ndarray:
        """User factors, shape (n_clients, n_components)."""
        return self.states[:, :n_components]

    def bias(self, n_components: int) -> np.ndarray:
        """User biases, zero where none are fitted, shape (n_clients,)."""
        if self.states.shape[1] == n_components:
            return np.zeros(len(self.states), dtype=self.states.dtype)
        return self.states[:, n_components]


@dataclass(frozen=True)
class DeviceContext:
    """What a device may know of a round besides the model and its own ratings.

    Attributes
    ----------
    round : int
        Number of the round, from 0.
    seed : int
        Root entropy of all random streams.
    serving : bool
        Whether users are rebuilt to be served, and not to train.
    """

    round: int
    seed: int
    serving: bool = False


@dataclass(frozen=True)
class ServerContext:
    """What only the server knows of a round.

    Attributes
    ----------
    round : int
        Number of the round, from 0.
    rate : float
        Expected share of the population that takes part.
    n_clients : int
        Size of the population.
    seed : int
        Root entropy of all random streams; who is sampled is drawn from it.
    streaming : bool
        The cohort was handed in (`partial_fit`), not sampled: what it does not contain
        must not move.
    """

    round: int
    rate: float
    n_clients: int
    seed: int
    streaming: bool = False


@dataclass(frozen=True)
class PartialSum:
    """What a chunk of clients adds up to: all that crosses to the server.

    Attributes
    ----------
    rows : dict of str to ndarray of shape (n_items, ...)
        Rows of the clients times client weight, summed by item.
    statistics : dict of str to ndarray
        Other numbers of the clients times client weight, summed.
    client_weight : float
        Sum of the client weights.
    n_clients : int
        How many clients it is the sum of.
    measurements : dict of str to float
        Sums for the round's report; the server's arithmetic never reads them.
    """

    rows: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    client_weight: float
    n_clients: int
    measurements: dict[str, float] = field(default_factory=dict)

    def __add__(self, other: PartialSum) -> PartialSum:
        """Sum of both, key by key."""
        return PartialSum(
            _added(self.rows, other.rows),
            _added(self.statistics, other.statistics),
            self.client_weight + other.client_weight,
            self.n_clients + other.n_clients,
            _added(self.measurements, other.measurements),
        )

    def __sizeof__(self) -> int:
        return bytes_of_arrays(self)


def _added(left: dict, right: dict) -> dict:
    return {name: left[name] + right[name] for name in left}


@dataclass(frozen=True)
class Aggregate:
    """What the aggregator hands to the server optimizer.

    Attributes
    ----------
    rows : dict of str to ndarray of shape (n_items, ...)
        Means over the clients of what concerns items.
    statistics : dict of str to ndarray
        Means over the clients of everything else.
    client_weight : float
        Total weight of the clients: times it, means are sums.
    """

    rows: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    client_weight: float


@dataclass(frozen=True)
class Outcome:
    """How a round ended for the aggregator.

    Attributes
    ----------
    aggregate : Aggregate or None
        None: the server takes no step.
    state : dict of str to ndarray
        The aggregator's own, which moves on all the same: a budget that was spent is spent.
    measurements : dict of str to float
        For the report; nobody between the aggregator and the report looks into it.
    """

    aggregate: Aggregate | None
    state: dict[str, np.ndarray]
    measurements: dict[str, Any]


@dataclass(frozen=True)
class ServerState:
    """The model and what the server's own parts remember between rounds."""

    model: ServerModel
    aggregator: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]


@dataclass(frozen=True)
class RoundReport:
    """What one round did, for the history and for whoever watches.

    Attributes
    ----------
    round : int
        Number of the round, from 0.
    clients : int
        Clients that answered.
    ratings : int
        Their ratings.
    measurements : dict of str to number
        Columns of the history.
    baseline : float
        Loss of predicting the global mean, or zero if that is better; NaN if not measured.
    """

    round: int
    clients: int
    ratings: int
    measurements: dict[str, Any] = field(default_factory=dict)
    baseline: float = float("nan")
