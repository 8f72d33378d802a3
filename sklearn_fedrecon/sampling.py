"""Which clients take part in a round, and which of them drop out."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator

from ._random import Stream, generator
from ._types import ServerContext


class FixedSampling(BaseEstimator):
    """A cohort of fixed size, without replacement, uniformly from the population.

    Parameters
    ----------
    clients_per_round : int, float or None, default=None
        Number of clients, share of the population in (0, 1], or None for everybody.
    dropout : float, default=0.0
        Probability, in [0, 1), that a client of the cohort never answers.

    Examples
    --------
    >>> from sklearn_fedrecon.sampling import FixedSampling
    >>> FixedSampling(clients_per_round=100).rate(400)
    0.25
    """

    gives: tuple[str, ...] = ("cohorts of one size",)

    def __init__(self, clients_per_round: float | None = None, dropout: float = 0.0):
        self.clients_per_round = clients_per_round
        self.dropout = dropout

    def size(self, n_clients: int) -> int:
        """Return the number of clients of a cohort.

        Parameters
        ----------
        n_clients : int
            Size of the population.

        Returns
        -------
        size : int

        Raises
        ------
        ValueError
            If more clients are asked for than there are.
        """
        wanted = self.clients_per_round
        if wanted is None:
            return n_clients
        if not isinstance(wanted, Integral):
            return max(1, round(wanted * n_clients))
        if wanted > n_clients:
            raise ValueError(
                f"clients_per_round={wanted} is more than the {n_clients} users that can take "
                "part. Lower it, or use None for all of them or a fraction in (0, 1]."
            )
        return int(wanted)

    def rate(self, n_clients: int) -> float:
        """Return the share of the population that is expected to answer.

        Parameters
        ----------
        n_clients : int

        Returns
        -------
        rate : float
        """
        return self.sampled_share(n_clients) * (1.0 - self.dropout)

    def sampled_share(self, n_clients: int) -> float:
        """Return the share of the population that is sampled.

        Parameters
        ----------
        n_clients : int

        Returns
        -------
        share : float
        """
        return self.size(n_clients) / n_clients

    def survivors(self, clients: np.ndarray, context: ServerContext) -> np.ndarray:
        """Return the clients of a cohort that answer.

        Parameters
        ----------
        clients : ndarray of shape (n_sampled,)
        context : ServerContext

        Returns
        -------
        clients : ndarray of shape (n_survivors,)
        """
        if self.dropout == 0:
            return clients
        random = generator(context.seed, Stream.DROPOUT, context.round)
        return clients[random.random(len(clients)) >= self.dropout]

    def sample(self, n_clients: int, context: ServerContext) -> np.ndarray:
        """Draw the cohort of a round.

        Parameters
        ----------
        n_clients : int
        context : ServerContext

        Returns
        -------
        clients : ndarray of shape (size,)
            Ascending indices.
        """
        size = self.size(n_clients)
        if size == n_clients:
            return np.arange(n_clients)
        random = generator(context.seed, Stream.SAMPLING, context.round)
        # In order: sums are added client by client, and placed ratings are taken in runs.
        return np.sort(random.choice(n_clients, size, replace=False, shuffle=False))


class PoissonSampling(FixedSampling):
    """Every client takes part independently with the same probability.

    Cohorts vary in size and may be empty; this is what amplification by sampling assumes.

    Parameters
    ----------
    clients_per_round : int, float or None, default=None
        Expected number of clients, or the probability in (0, 1], or None for everybody.
    dropout : float, default=0.0
        Probability, in [0, 1), that a client of the cohort never answers.

    Examples
    --------
    >>> from sklearn_fedrecon.sampling import PoissonSampling
    >>> PoissonSampling(clients_per_round=0.1).rate(400)
    0.1
    """

    gives = ("independent clients",)

    def sampled_share(self, n_clients: int) -> float:
        """Return the probability of being sampled.

        Parameters
        ----------
        n_clients : int

        Returns
        -------
        share : float
        """
        wanted = self.clients_per_round
        if wanted is None or isinstance(wanted, Integral):
            return super().sampled_share(n_clients)
        return float(wanted)

    def sample(self, n_clients: int, context: ServerContext) -> np.ndarray:
        """Draw the cohort of a round.

        Parameters
        ----------
        n_clients : int
        context : ServerContext

        Returns
        -------
        clients : ndarray of shape (n_sampled,)
            Ascending indices.
        """
        random = generator(context.seed, Stream.SAMPLING, context.round)
        return np.flatnonzero(random.random(n_clients) < self.sampled_share(n_clients))
