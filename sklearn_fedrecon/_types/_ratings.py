"""The ratings of many clients: what a device holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from mmap import mmap
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
        return clients_by_items(data, self.items, self.indptr, self.n_items)

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
        values = values.astype(np.float64)  # faster than to have reduceat convert them
        sums[rated] = np.add.reduceat(values, self.indptr[:-1][rated])
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

    def first(self, counts: int | np.ndarray) -> ClientRatings:
        """Only the first ratings of every client, at most ``counts`` of them."""
        lengths = np.minimum(self.lengths, counts)
        return self.pick(*_runs(self.indptr[:-1], lengths))

    def rows_of(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ratings of the clients at ``positions``, and the ``indptr`` that delimits them."""
        starts = self.indptr[positions]
        return _runs(starts, self.indptr[positions + 1] - starts)

    def order_of_length(self) -> np.ndarray | None:
        """Clients in ascending order of their number of ratings; None where they are."""
        lengths = self.lengths
        if (lengths[1:] >= lengths[:-1]).all():
            return None
        return np.argsort(lengths, kind="stable")

    def by_length(self) -> ClientRatings:
        """The same clients in ascending order of their number of ratings.

        Ratings mapped from a file stay where they are: they may be more than memory holds.
        """
        order = None if is_mapped(self.items) else self.order_of_length()
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
        return self.spans(chunk_bounds(self.indptr, size))

    def spans(self, bounds: Sequence[int]) -> Iterator[ClientRatings]:
        """The clients from each of ``bounds`` to the next."""
        return (self.span(start, stop) for start, stop in pairwise(bounds))

    def __sizeof__(self) -> int:
        return bytes_of_arrays(self)


def clients_by_items(
    data: np.ndarray, items: np.ndarray, indptr: np.ndarray, n_items: int
) -> sparse.csr_array:
    """Matrix of shape (n_clients, n_items) of numbers that belong to clients and items."""
    matrix = sparse.csr_array((len(indptr) - 1, n_items), dtype=data.dtype)
    return _filled(matrix, data, items, indptr)


def items_by_clients(
    data: np.ndarray, items: np.ndarray, indptr: np.ndarray, n_items: int
) -> sparse.csc_array:
    """The transpose of `clients_by_items`, of shape (n_items, n_clients)."""
    matrix = sparse.csc_array((n_items, len(indptr) - 1), dtype=data.dtype)
    return _filled(matrix, data, items, indptr)


def _filled(matrix, data: np.ndarray, items: np.ndarray, indptr: np.ndarray):
    """An empty sparse matrix with these arrays for its own.

    Its constructor, and its transpose, would copy arrays that are a part of a larger one; and
    look through the indices where these and the pointers are not of one type.
    """
    if len(items) <= np.iinfo(items.dtype).max:
        indptr = indptr.astype(items.dtype)
    matrix.data, matrix.indices, matrix.indptr = data, items, indptr
    return matrix


def starts_and_end(lengths: np.ndarray) -> np.ndarray:
    """Where runs of these lengths begin, and the last one ends: an ``indptr``, int64."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _runs(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of several runs one after the other, and the ``indptr`` that delimits them."""
    indptr = starts_and_end(lengths)
    rows = np.repeat(starts - indptr[:-1], lengths)
    rows += np.arange(indptr[-1])
    return rows, indptr


def chunk_bounds(indptr: np.ndarray, size: int) -> list[int]:
    """Clients at which chunks of about ``size`` ratings begin and end.

    Parameters
    ----------
    indptr : ndarray of shape (n_clients + 1,)
        Or other numbers that grow from client to client, of which a chunk gets ``size``.
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


def is_mapped(values: np.ndarray) -> bool:
    """Whether an array is a part of a file, mapped into memory."""
    while isinstance(values, np.ndarray):
        values = values.base
    return isinstance(values, mmap)


def bytes_of_arrays(record: Any) -> int:
    """Memory of what a record holds; engines that move records decide by it where to."""
    values = [*vars(record).values()]
    values += [value for held in values if isinstance(held, dict) for value in held.values()]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))
