"""What clients send for one array of the items, in the form in which it costs least.

A client's user factor is frozen while it updates the items, so each row that it sends is
a multiple of one vector. `ItemRows` keeps the multiples and the vectors apart; the
(ratings x components) array of all rows exists only where somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

_BLOCK = 8192  # rows that are spelt out at once


@dataclass(frozen=True)
class Pattern:
    """Which items the rows of clients are about; the same for all arrays of a message.

    Attributes
    ----------
    indptr : ndarray of shape (n_clients + 1,)
        Client ``c`` owns the rows ``indptr[c]:indptr[c + 1]``.
    items : ndarray of shape (n_rows,)
        The item of each row, each at most once a client.
    n_items : int
        Size of the catalogue.
    """

    indptr: np.ndarray
    items: np.ndarray
    n_items: int

    @property
    def n_clients(self) -> int:
        """Number of clients."""
        return len(self.indptr) - 1

    def owners(self) -> np.ndarray:
        """Position of the client that sends each row, shape (n_rows,)."""
        return self.per_row(np.arange(self.n_clients))

    def per_row(self, values: np.ndarray) -> np.ndarray:
        """Each client's value once for each of its rows."""
        return np.repeat(values, np.diff(self.indptr))

    def client_sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of a number per row over each client's own, in float64, (n_clients,)."""
        return np.bincount(self.owners(), values, minlength=self.n_clients)


@dataclass(frozen=True)
class Shrinkage:
    """What rows take off the items' own: ``counts * variances[c] * table[i]``.

    Attributes
    ----------
    counts : ndarray of shape (n_rows,)
    variances : ndarray of shape (n_clients, m)
    table : ndarray of shape (n_items, m)
        What the server sent.
    """

    counts: np.ndarray
    variances: np.ndarray
    table: np.ndarray


@dataclass(frozen=True)
class ItemRows:
    """Rows for one array of the items.

    Row ``r``, of client ``c`` for item ``i``, is ``coefficients[r] * vectors[c]``, less what
    `Shrinkage` takes off, plus ``explicit[r]`` where rows have no such form. Without vectors
    and explicit rows it is one number, ``coefficients[r]``.

    Attributes
    ----------
    coefficients : ndarray of shape (n_rows,) or None
        None stands for rows that are all explicit.
    vectors : ndarray of shape (n_clients, m) or (n_clients,) or None
        Of shape (n_clients,): a factor of each client's numbers. None: one.
    shrinkage : Shrinkage or None
    explicit : ndarray of shape (n_rows, m) or None
    """

    coefficients: np.ndarray | None
    vectors: np.ndarray | None = None
    shrinkage: Shrinkage | None = None
    explicit: np.ndarray | None = None

    @property
    def width(self) -> int | None:
        """Numbers of a row, ``m``; None where it is one number and not an array of one."""
        if self.explicit is not None:
            return self.explicit.shape[1]
        return None if self.vectors is None or self.vectors.ndim == 1 else self.vectors.shape[1]

    def by_client(self) -> Iterator[np.ndarray]:
        """Arrays with a row a client."""
        if self.vectors is not None:
            yield self.vectors
        if self.shrinkage is not None:
            yield self.shrinkage.variances

    def by_row(self) -> Iterator[np.ndarray]:
        """Arrays with a row a row."""
        if self.coefficients is not None:
            yield self.coefficients
        if self.shrinkage is not None:
            yield self.shrinkage.counts
        if self.explicit is not None:
            yield self.explicit

    def spelt_out(self, pattern: Pattern, part: slice = slice(None)) -> np.ndarray:
        """Some of the rows as they are, shape (n, m) or (n,)."""
        owners = pattern.owners()[part]
        rows = 0.0 if self.explicit is None else self.explicit[part]
        if self.coefficients is not None:
            vectors = 1.0 if self.vectors is None else self.vectors[owners]
            coefficients = self.coefficients[part]
            rows = rows + (coefficients if self.width is None else coefficients[:, None]) * vectors
        if self.shrinkage is not None:
            shrunk = self.shrinkage.variances[owners] * self.shrinkage.table[pattern.items[part]]
            rows = rows - self.shrinkage.counts[part, None] * shrunk
        return rows

    def square_norms(self, pattern: Pattern) -> np.ndarray:
        """Sums of squares over the rows of each client, float64, (n_clients,)."""
        if self.explicit is None and self.shrinkage is None:  # no need to spell a row out
            squares = pattern.client_sums(np.square(self.coefficients, dtype=np.float64))
            if self.vectors is None:
                return squares
            lengths = np.square(self.vectors, dtype=np.float64).reshape(len(squares), -1)
            return squares * lengths.sum(axis=1)
        lengths = np.empty(len(pattern.items))
        for start in range(0, len(lengths), _BLOCK):
            part = slice(start, start + _BLOCK)
            rows = self.spelt_out(pattern, part)
            lengths[part] = np.einsum("rj,rj->r", rows, rows, dtype=np.float64)
        return pattern.client_sums(lengths)

    def scaled(self, factors: np.ndarray, pattern: Pattern) -> ItemRows:
        """Rows times a factor of each client.

        What belongs to a client is scaled and not its coefficients, which other arrays of the
        message may share: rows that share them are summed by one product.
        """
        if self.explicit is not None:
            explicit = self.explicit * pattern.per_row(factors)[:, None].astype(
                self.explicit.dtype
            )
        else:
            explicit = None
        shrinkage = self.shrinkage
        if shrinkage is not None:
            shrinkage = replace(shrinkage, variances=_by_rows(shrinkage.variances, factors))
        vectors = self.vectors
        if self.coefficients is not None:
            ones = np.ones(pattern.n_clients, dtype=self.coefficients.dtype)
            vectors = _by_rows(ones if vectors is None else vectors, factors)
        return ItemRows(self.coefficients, vectors, shrinkage, explicit)


@dataclass(frozen=True)
class SecondMoment:
    """The second moment of what each client's user may be: ``v v' + diag(variance)``.

    Attributes
    ----------
    vectors : ndarray of shape (n_clients, m)
    variances : ndarray of shape (n_clients, m)
    """

    vectors: np.ndarray
    variances: np.ndarray

    @property
    def size(self) -> int:
        """Numbers that a client sends: the matrix is symmetric."""
        m = self.vectors.shape[1]
        return m * (m + 1) // 2

    def sum(self, weights: np.ndarray) -> np.ndarray:
        """Sum over clients times weight, shape (m, m), float64."""
        weighted = weights[:, None].astype(self.vectors.dtype)
        spread = np.diag((self.variances * weighted).sum(axis=0, dtype=np.float64))
        return ((self.vectors * weighted).T @ self.vectors).astype(np.float64) + spread

    def square_norms(self) -> np.ndarray:
        """Squares of the Frobenius norm of what each client sends, float64, (n_clients,)."""
        squares = np.square(self.vectors, dtype=np.float64)
        variances = self.variances.astype(np.float64)
        crossed = np.square(variances) + 2 * squares * variances
        return squares.sum(axis=1) ** 2 + crossed.sum(axis=1)

    def scaled(self, factors: np.ndarray) -> SecondMoment:
        """Matrices times a factor of each client, which is not negative."""
        return SecondMoment(
            _by_rows(self.vectors, np.sqrt(factors)), _by_rows(self.variances, factors)
        )


def _by_rows(values: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Rows times a factor each, in their own type."""
    return values * factors.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
