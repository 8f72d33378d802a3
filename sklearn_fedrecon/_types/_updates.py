"""What clients send, before it leaves the devices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from ._ratings import items_by_clients
from ._records import PartialSum
from ._rows import ItemRows, Pattern, SecondMoment, Shrinkage


@dataclass(frozen=True)
class ClientUpdates:
    """The messages of a chunk of clients: rows for arrays of the items, and statistics.

    Clipping, caps, noise and bytes need nothing but what is offered here, and no array of
    shape (ratings, components).

    Attributes
    ----------
    pattern : Pattern
        Which items the clients' rows are about.
    weights : ndarray of shape (n_clients,)
        Client weights of the mean.
    rows : dict of str to ItemRows
        By the name of what they sum up to.
    statistics : dict of str to ndarray of shape (n_clients, ...)
        Numbers that a client sends once.
    moments : dict of str to SecondMoment
        Statistics that are matrices, in short.
    measurements : dict of str to ndarray of shape (n_clients,)
        For the report of the simulation; not a part of the message.
    """

    pattern: Pattern
    weights: np.ndarray
    rows: dict[str, ItemRows] = field(default_factory=dict)
    statistics: dict[str, np.ndarray] = field(default_factory=dict)
    moments: dict[str, SecondMoment] = field(default_factory=dict)
    measurements: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_clients(self) -> int:
        """Number of clients."""
        return self.pattern.n_clients

    def _by_client(self) -> Iterator[np.ndarray]:
        """All arrays with a row a client."""
        yield self.weights
        yield from self.statistics.values()
        for moment in self.moments.values():
            yield from (moment.vectors, moment.variances)
        for rows in self.rows.values():
            yield from rows.by_client()

    def finite(self) -> np.ndarray:
        """Which clients send nothing but finite numbers, shape (n_clients,)."""
        finite, n = np.ones(self.n_clients, dtype=bool), self.n_clients
        for values in _distinct(self._by_client()):
            finite &= np.isfinite(values).reshape(n, -1).all(axis=1)
        by_row = (values for rows in self.rows.values() for values in rows.by_row())
        for values in _distinct(by_row):
            if not np.isfinite(values).all():
                bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
                finite &= np.bincount(self.pattern.owners()[bad], minlength=n) == 0
        return finite

    def square_norms(self) -> np.ndarray:
        """Squared length of each client's whole message as one vector, float64, (n_clients,)."""
        total = np.zeros(self.n_clients)
        for rows in self.rows.values():
            total += rows.square_norms(self.pattern)
        for values in self.statistics.values():
            squares = np.square(values, dtype=np.float64)
            total += squares.reshape(self.n_clients, -1).sum(axis=1)
        return total + sum(moment.square_norms() for moment in self.moments.values())

    def scaled(self, factors: np.ndarray) -> ClientUpdates:
        """Messages times a factor of each client, (n_clients,), not negative."""
        return replace(
            self,
            rows={name: rows.scaled(factors, self.pattern) for name, rows in self.rows.items()},
            statistics={
                name: values * factors.reshape(-1, *[1] * (values.ndim - 1))
                for name, values in self.statistics.items()
            },
            moments={name: moment.scaled(factors) for name, moment in self.moments.items()},
        )

    def keep(self, mask: np.ndarray) -> ClientUpdates:
        """Clients outside ``mask`` send zeros and count with weight zero.

        Unlike `scaled` by zero, it leaves nothing of numbers that are not finite.
        """
        blank = _Blank(mask, self.pattern.per_row(mask))
        return replace(
            self,
            weights=blank.clients(self.weights),
            rows={name: blank.item_rows(rows) for name, rows in self.rows.items()},
            statistics={name: blank.clients(a) for name, a in self.statistics.items()},
            moments={
                name: SecondMoment(blank.clients(m.vectors), blank.clients(m.variances))
                for name, m in self.moments.items()
            },
        )

    @np.errstate(over="ignore", invalid="ignore")  # the server refuses what is not finite
    def sum(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Messages times client weight, summed over the clients, in float64.

        Returns
        -------
        rows : dict of str to ndarray of shape (n_items, ...)
        statistics : dict of str to ndarray
            Those that are matrices among them.
        """
        statistics = {name: m.sum(self.weights) for name, m in self.moments.items()}
        for name, values in self.statistics.items():
            statistics[name] = np.tensordot(self.weights.astype(np.float64), values, axes=1)
        return _RowSums(self).sums(), statistics

    def partial_sum(self) -> PartialSum:
        """The sums with their weight, the report's numbers and the size of the messages."""
        measured = {name: float(a.sum(dtype=np.float64)) for name, a in self.measurements.items()}
        indices, numbers = self.message_size()
        measured |= {"sent_indices": float(indices), "sent_numbers": float(numbers)}
        weight = float(self.weights.sum(dtype=np.float64))
        return PartialSum(*self.sum(), weight, self.n_clients, measured)

    def measured(self, **measurements: np.ndarray) -> ClientUpdates:
        """The same messages with more for the report, each of shape (n_clients,)."""
        return replace(self, measurements=self.measurements | measurements)

    def message_size(self) -> tuple[int, int]:
        """Item indices and numbers that these clients send, when they send only rated items."""
        n_rows = len(self.pattern.items)
        per_row = sum(1 if rows.width is None else rows.width for rows in self.rows.values())
        per_client = sum(values[0].size for values in self.statistics.values() if len(values))
        per_client += sum(moment.size for moment in self.moments.values())
        return n_rows, n_rows * per_row + self.n_clients * per_client


def _distinct(arrays: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Each array once: rows may share them."""
    return iter({id(values): values for values in arrays}.values())


class _Blank:
    """Puts zeros where a mask is False; an array that is shared stays shared."""

    def __init__(self, clients: np.ndarray, rows: np.ndarray):
        self._clients, self._rows = clients, rows
        self._done: dict[int, np.ndarray] = {}

    def clients(self, values):
        return self._where(self._clients, values)

    def _where(self, keep, values):
        if values is None:
            return None
        if id(values) not in self._done:
            keep = keep.reshape(-1, *[1] * (values.ndim - 1))
            self._done[id(values)] = np.where(keep, values, 0)
        return self._done[id(values)]

    def item_rows(self, rows: ItemRows) -> ItemRows:
        shrinkage = rows.shrinkage
        if shrinkage is not None:
            counts = self._where(self._rows, shrinkage.counts)
            shrinkage = Shrinkage(counts, self.clients(shrinkage.variances), shrinkage.table)
        return ItemRows(
            self._where(self._rows, rows.coefficients),
            self.clients(rows.vectors),
            shrinkage,
            self._where(self._rows, rows.explicit),
        )


class _RowSums:
    """Sums of rows by item. Rows that share their coefficients share one sparse product.

    Parameters
    ----------
    updates : ClientUpdates
    """

    def __init__(self, updates: ClientUpdates):
        self._pattern, self._weights, self._rows = updates.pattern, updates.weights, updates.rows
        # By identity and not by value: parts that hand on the same array twice mean it, and to
        # compare arrays would cost as much as to multiply them.
        columns: dict[int, list] = {}
        self._data: dict[int, np.ndarray] = {}
        for name, rows in self._rows.items():
            shrinkage = rows.shrinkage
            if rows.coefficients is not None and rows.width is not None:
                self._join(columns, rows.coefficients, (name, "along"), rows.vectors)
            if shrinkage is not None:
                self._join(columns, shrinkage.counts, (name, "off"), shrinkage.variances)
        for name, rows in self._rows.items():
            if rows.width is None and id(rows.coefficients) in columns:
                ones = np.ones(len(self._weights), dtype=rows.coefficients.dtype)
                factors = ones if rows.vectors is None else rows.vectors
                self._join(columns, rows.coefficients, (name, "numbers"), factors[:, None])
        self._summed = {}
        for key, terms in columns.items():
            self._multiply(self._data[key], terms)

    def _join(self, columns: dict, data: np.ndarray, key: tuple, vectors: np.ndarray) -> None:
        """Have ``data`` multiplied with vectors of the clients, times their weight."""
        weighted = vectors * self._weights[:, None].astype(vectors.dtype)
        columns.setdefault(id(data), []).append((key, weighted))
        self._data[id(data)] = data

    def _multiply(self, data: np.ndarray, terms: list) -> None:
        """One product for all terms of the same coefficients."""
        pattern, start = self._pattern, 0
        by_item = items_by_clients(data, pattern.items, pattern.indptr, pattern.n_items)
        product = by_item @ np.hstack([vectors for _, vectors in terms])
        for key, vectors in terms:
            stop = start + vectors.shape[1]
            self._summed[key], start = product[:, start:stop], stop

    def sums(self) -> dict[str, np.ndarray]:
        """Sums of all rows, by name."""
        return {name: self._sum(name, rows) for name, rows in self._rows.items()}

    def _sum(self, name: str, rows: ItemRows) -> np.ndarray:
        if rows.width is None:
            return self._numbers(name, rows)
        total = self._summed.get((name, "along"), 0.0)
        if rows.shrinkage is not None:
            off = self._summed[name, "off"] * rows.shrinkage.table
            total = np.subtract(total, off, dtype=np.float64)
        if rows.explicit is not None:
            total = total + self._explicit(rows.explicit)
        return total.astype(np.float64, copy=False)

    def _numbers(self, name: str, rows: ItemRows) -> np.ndarray:
        if (name, "numbers") in self._summed:
            return self._summed[name, "numbers"][:, 0].astype(np.float64)
        factors = self._weights if rows.vectors is None else self._weights * rows.vectors
        per_row = rows.coefficients * self._pattern.per_row(factors)
        return np.bincount(self._pattern.items, per_row, minlength=self._pattern.n_items)

    def _explicit(self, rows: np.ndarray) -> np.ndarray:
        pattern = self._pattern
        data = pattern.per_row(self._weights.astype(rows.dtype))
        where = (pattern.items, np.arange(len(pattern.items)))
        return sparse.csr_array((data, where), shape=(pattern.n_items, len(rows))) @ rows
