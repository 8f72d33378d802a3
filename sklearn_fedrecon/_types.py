"""The vocabulary of a round: frozen records that are sliced and summed, no algorithms.

Everything that happens on a device speaks of `ClientRatings`, `UserStates` and
`ClientUpdates`; all that a server ever sees is a `PartialSum`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class ClientRatings:
    """Ratings of many clients, client by client (the rows of a CSR matrix).

    Attributes
    ----------
    indptr : ndarray of shape (n_clients + 1,), int64
        Client ``c`` owns the ratings ``indptr[c]:indptr[c + 1]``.
    items : ndarray of shape (n_ratings,), int32
        Item indices.
    values : ndarray of shape (n_ratings,)
        The ratings.
    n_items : int
        Size of the catalogue.
    clients : ndarray of shape (n_clients,), int64
        Index of every client in the population; the key of its random streams.
    weights : ndarray of shape (n_ratings,) or None
        Sample weights; None means one each.
    scatter : ndarray of shape (n_ratings,) or None
        Weighted sum of squares lost when ratings of the same pair were merged.
    batch_size : int or None
        Ratings of one minibatch, set by the split; None means all in one.
    """

    indptr: np.ndarray
    items: np.ndarray
    values: np.ndarray
    n_items: int
    clients: np.ndarray
    weights: np.ndarray | None = None
    scatter: np.ndarray | None = None
    batch_size: int | None = None

    @property
    def n_clients(self) -> int:
        """Number of clients."""
        return len(self.indptr) - 1

    @property
    def n_ratings(self) -> int:
        """Number of ratings of all clients."""
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """Ratings per client, shape (n_clients,)."""
        return np.diff(self.indptr)

    def owners(self) -> np.ndarray:
        """Position of the client that owns each rating, shape (n_ratings,)."""
        return np.repeat(np.arange(self.n_clients), self.lengths)

    def rating_weights(self) -> np.ndarray:
        """Sample weights with None spelt out, shape (n_ratings,)."""
        return np.ones_like(self.values) if self.weights is None else self.weights

    def matrix(self, data: np.ndarray) -> sparse.csr_array:
        """Clients x items matrix that holds ``data``, one number a rating."""
        shape = (self.n_clients, self.n_items)
        return sparse.csr_array((data, self.items, self.indptr), shape=shape)

    def pick(self, rows: np.ndarray, indptr: np.ndarray) -> ClientRatings:
        """Same clients with the ratings ``rows``, delimited by ``indptr``."""
        return replace(
            self,
            indptr=indptr,
            items=self.items[rows],
            values=self.values[rows],
            weights=None if self.weights is None else self.weights[rows],
            scatter=None if self.scatter is None else self.scatter[rows],
        )

    def client_sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of a number per rating over each client's own, in float64, (n_clients,)."""
        sums, rated = np.zeros(self.n_clients), self.lengths > 0
        sums[rated] = np.add.reduceat(values, self.indptr[:-1][rated], dtype=np.float64)
        return sums

    def sum_rows(self, table: np.ndarray) -> np.ndarray:
        """Weighted sums of the rows of the items of every client, shape (n_clients, n_columns)."""
        weights = self.rating_weights()
        if self.n_clients == 1:  # a sparse matrix takes longer to set up than to multiply
            return (weights @ np.take(table, self.items, axis=0))[None]
        return self.matrix(weights) @ table

    def take(self, positions: np.ndarray) -> ClientRatings:
        """Only the clients at ``positions``, in that order."""
        return replace(self.pick(*self.rows_of(positions)), clients=self.clients[positions])

    def rows_of(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ratings of the clients at ``positions``, and the ``indptr`` that delimits them."""
        starts = self.indptr[positions]
        lengths = self.indptr[positions + 1] - starts
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(starts - indptr[:-1], lengths)
        rows += np.arange(indptr[-1])
        return rows, indptr

    def order_of_length(self) -> np.ndarray | None:
        """Clients in ascending order of their number of ratings; None where they are."""
        lengths = self.lengths
        if (lengths[1:] >= lengths[:-1]).all():
            return None
        return np.argsort(lengths, kind="stable")

    def by_length(self) -> ClientRatings:
        """The same clients in ascending order of their number of ratings."""
        order = self.order_of_length()
        return self if order is None else self.take(order)

    def span(self, start: int, stop: int) -> ClientRatings:
        """The clients ``start:stop`` as views, without a copy."""
        first, last = self.indptr[start], self.indptr[stop]
        part = self.pick(slice(first, last), self.indptr[start : stop + 1] - first)
        return replace(part, clients=self.clients[start:stop])

    def chunks(self, size: int) -> Iterator[ClientRatings]:
        """Consecutive clients, cut where about ``size`` ratings are reached.

        The cuts depend on the ratings alone, never on the number of workers: partial
        sums are the same numbers whoever computes them.
        """
        for start, stop in pairwise(chunk_bounds(self.indptr, size)):
            yield self.span(start, stop)

    def __sizeof__(self) -> int:
        return _bytes_of_arrays(self)


def chunk_bounds(indptr: np.ndarray, size: int) -> list[int]:
    """Clients at which chunks of about ``size`` ratings begin and end.

    Parameters
    ----------
    indptr : ndarray of shape (n_clients + 1,)
    size : int

    Returns
    -------
    bounds : list of int
        From 0 to ``n_clients``, ascending; of length 1 where there are no clients.
    """
    part = (indptr[1:] - 1) // size
    cuts = np.flatnonzero(np.diff(part)) + 1
    n_clients = len(indptr) - 1
    return [0, *cuts.tolist(), n_clients] if n_clients else [0]


def _bytes_of_arrays(record: Any) -> int:
    """Memory of what a record holds; engines that move records decide by it where to."""
    values = [*vars(record).values()]
    values += [value for held in values if isinstance(held, dict) for value in held.values()]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


@dataclass(frozen=True)
class ServerModel:
    """All that the server holds, and all that it sends.

    ``k`` is the number of components and ``d`` the length of a user's state: ``k``, and
    one more for the user's bias when biases are fitted.

    Attributes
    ----------
    item_factors : ndarray of shape (n_items, k)
    item_bias : ndarray of shape (n_items,)
    global_mean : float
    fit_bias : bool
        Whether users and items have a bias.
    item_variance : ndarray of shape (n_items, k) or None
        Posterior variances; None where the algorithm keeps point estimates.
    item_bias_variance : ndarray of shape (n_items,) or None
    noise_variance : float
    user_prior_mean : ndarray of shape (d,)
    user_prior_variance : ndarray of shape (d,)
    item_prior_variance : float
    item_bias_prior_variance : float
    learn_global_mean : bool
        Whether clients update the global mean.
    """

    item_factors: np.ndarray
    item_bias: np.ndarray
    global_mean: float
    fit_bias: bool
    user_prior_mean: np.ndarray
    user_prior_variance: np.ndarray
    item_variance: np.ndarray | None = None
    item_bias_variance: np.ndarray | None = None
    noise_variance: float = 1.0
    item_prior_variance: float = 1.0
    item_bias_prior_variance: float = 1.0
    learn_global_mean: bool = False

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return self.item_factors.shape[0]

    @property
    def n_components(self) -> int:
        """Number of components ``k``."""
        return self.item_factors.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The type that the arithmetic is done in."""
        return self.item_factors.dtype

    @cached_property
    def table(self) -> np.ndarray:
        """The rows of `design`, each with a place for a target after it, and a last row of
        zeros for padding: shape (n_items + 1, d + 1).
        """
        table = np.zeros((self.n_items + 1, len(self.user_prior_mean) + 1), dtype=self.dtype)
        table[:-1, : self.n_components] = self.item_factors
        table[:-1, self.n_components : -1] = 1
        return table

    def design(self) -> np.ndarray:
        """Item rows ``x_i`` (n_items, d): the factors, and a one where biases are fitted."""
        return self.table[:-1, :-1]

    def __getstate__(self) -> dict[str, Any]:
        """All but the table, which is made again where it is needed."""
        return {name: value for name, value in vars(self).items() if name != "table"}

    def residuals(self, ratings: ClientRatings) -> np.ndarray:
        """Ratings less global mean and item bias, shape (n_ratings,)."""
        offset = self.item_bias + self.dtype.type(self.global_mean)
        return ratings.values - np.take(offset, ratings.items)


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
        return _bytes_of_arrays(self)


@dataclass(frozen=True)
class RoundReport:
    """What one round did, for the history and for whoever watches."""

    round: int
    clients: int
    ratings: int
    measurements: dict[str, Any] = field(default_factory=dict)
