"""What the stations of a round hand on to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
    variances : ndarray of shape (n_clients, k)
        Weighted sums of the variance of ``v_i`` alone.
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
class RoundContext:
    """What every station of a round may know besides its arguments.

    Attributes
    ----------
    round : int
        Number of the round, from 0.
    n_clients : int
        Size of the population.
    rate : float
        Expected share of the population that takes part.
    seed : int
        Root entropy of all random streams.
    streaming : bool
        The cohort was handed in (`partial_fit`), not sampled: what it does not contain
        must not move.
    """

    round: int
    n_clients: int
    rate: float
    seed: int
    streaming: bool = False


@dataclass(frozen=True)
class PartialSum:
    """What a chunk of clients adds up to: all that crosses to the server.

    Attributes
    ----------
    sums : dict of str to ndarray
        Client messages times client weight, summed.
    weight : float
        Sum of the client weights.
    measurements : dict of str to float
        Sums for the round's report; the server's arithmetic never reads them.
    """

    sums: dict[str, np.ndarray]
    weight: float
    measurements: dict[str, float] = field(default_factory=dict)

    def __add__(self, other: PartialSum) -> PartialSum:
        """Sum of both, key by key."""
        return PartialSum(
            {name: self.sums[name] + other.sums[name] for name in self.sums},
            self.weight + other.weight,
            {key: self.measurements[key] + other.measurements[key] for key in self.measurements},
        )

    def __sizeof__(self) -> int:
        return bytes_of_arrays(self)


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
