"""What clients compute for the items, in the form in which it costs least.

A client's user factor is frozen while it updates the items, so each row that it sends is
a multiple of one vector. `ClientUpdates` keeps the multiples and the vectors apart; the
(ratings x components) array of all rows exists only where somebody asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from ._ratings import items_by_clients
from ._records import PartialSum


@dataclass(frozen=True)
class ClientUpdates:
    """Updates of a chunk of clients, before they leave the devices.

    Row ``(c, i)`` for the item factors is ``coefficients * vectors[c]``, less
    ``counts * variances[c] * item_factors[i]`` where variances are given, plus
    ``explicit`` where a client's rows have no such form.

    Attributes
    ----------
    indptr : ndarray of shape (n_clients + 1,)
        Client ``c`` owns the rows ``indptr[c]:indptr[c + 1]``.
    items : ndarray of shape (n_rows,)
        The item of each row, each at most once a client.
    coefficients : ndarray of shape (n_rows,)
    vectors : ndarray of shape (n_clients, k)
    item_factors : ndarray of shape (n_items, k)
        The item factors that the server sent.
    weights : ndarray of shape (n_clients,)
        Client weights of the mean.
    bias : ndarray of shape (n_rows,) or None
        What concerns the item biases.
    counts : ndarray of shape (n_rows,) or None
        Ratings (or their sample weight) behind each row, where the server needs them.
    variances : ndarray of shape (n_clients, k) or None
        Posterior variances of the vectors; with them the second moments are sent too.
    explicit : ndarray of shape (n_rows, k) or None
    statistics : dict of str to ndarray of shape (n_clients, ...)
        Numbers that a client sends once.
    measurements : dict of str to ndarray of shape (n_clients,)
        For the report of the simulation; not a part of the message.
    """

    indptr: np.ndarray
    items: np.ndarray
    coefficients: np.ndarray
    vectors: np.ndarray
    item_factors: np.ndarray
    weights: np.ndarray
    bias: np.ndarray | None = None
    counts: np.ndarray | None = None
    variances: np.ndarray | None = None
    explicit: np.ndarray | None = None
    statistics: dict[str, np.ndarray] = field(default_factory=dict)
    measurements: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_clients(self) -> int:
        """Number of clients."""
        return len(self.indptr) - 1

    def owners(self) -> np.ndarray:
        """Position of the client that sends each row, shape (n_rows,)."""
        return np.repeat(np.arange(self.n_clients), np.diff(self.indptr))

    def rows(self) -> np.ndarray:
        """Every row for the item factors spelt out, shape (n_rows, k)."""
        owners = self.owners()
        rows = self.coefficients[:, None] * self.vectors[owners]
        if self.variances is not None:
            shrink = self.variances[owners] * self.item_factors[self.items]
            rows -= self.counts[:, None] * shrink
        return rows if self.explicit is None else rows + self.explicit

    def finite(self) -> np.ndarray:
        """Which clients send nothing but finite numbers, shape (n_clients,)."""
        finite = np.isfinite(self.weights) & np.isfinite(self.vectors).all(axis=1)
        if self.variances is not None:
            finite &= np.isfinite(self.variances).all(axis=1)
        for values in self.statistics.values():
            finite &= np.isfinite(values).reshape(self.n_clients, -1).all(axis=1)
        bias = None if self.bias is self.coefficients else self.bias
        for values in (self.coefficients, bias, self.counts, self.explicit):
            if values is not None and not np.isfinite(values).all():
                bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
                finite &= np.bincount(self.owners()[bad], minlength=self.n_clients) == 0
        return finite

    def keep(self, mask: np.ndarray) -> ClientUpdates:
        """Clients outside ``mask`` send zeros and count with weight zero."""
        rows = np.repeat(mask, np.diff(self.indptr))

        def blank(values, keep):
            if values is None:
                return None
            return np.where(keep.reshape(-1, *[1] * (values.ndim - 1)), values, 0)

        return replace(
            self,
            coefficients=blank(self.coefficients, rows),
            bias=blank(self.bias, rows),
            counts=blank(self.counts, rows),
            explicit=blank(self.explicit, rows),
            vectors=blank(self.vectors, mask),
            variances=blank(self.variances, mask),
            weights=blank(self.weights, mask),
            statistics={name: blank(a, mask) for name, a in self.statistics.items()},
        )

    @np.errstate(over="ignore", invalid="ignore")  # the server refuses what is not finite
    def sum(self) -> dict[str, np.ndarray]:
        """Messages times client weight, summed over the clients, in float64.

        Returns
        -------
        sums : dict of str to ndarray
            ``item_factors`` of shape (n_items, k); ``item_bias`` and ``counts`` of shape
            (n_items,) and ``second_moment`` of shape (k, k) where they are sent; and
            every statistic.
        """
        weighted = self.weights[:, None].astype(self.vectors.dtype)
        vectors = self.vectors * weighted
        factors, totals = self._item_sums(self.coefficients, vectors, weighted)
        sums = {"item_bias": totals} if self.bias is self.coefficients else {}
        if self.variances is not None:
            variances = self.variances * weighted
            spread = np.diag(variances.sum(axis=0, dtype=np.float64))
            sums["second_moment"] = (vectors.T @ self.vectors).astype(np.float64) + spread
            shrink, sums["counts"] = self._item_sums(self.counts, variances, weighted)
            shrink *= self.item_factors
            factors = np.subtract(factors, shrink, dtype=np.float64)
        if self.explicit is not None:
            data = np.repeat(weighted[:, 0], np.diff(self.indptr))
            rows = (self.items, np.arange(len(self.items)))
            shape = (len(self.item_factors), len(self.items))
            factors = factors + sparse.csr_array((data, rows), shape=shape) @ self.explicit
        sums["item_factors"] = factors.astype(np.float64, copy=False)
        for name, values in (("item_bias", self.bias), ("counts", self.counts)):
            if values is not None and name not in sums:
                per_row = values * np.repeat(self.weights, np.diff(self.indptr))
                sums[name] = np.bincount(self.items, per_row, minlength=len(factors))
        for name, values in self.statistics.items():
            sums[name] = np.tensordot(self.weights.astype(np.float64), values, axes=1)
        return sums

    def partial_sum(self) -> PartialSum:
        """The sums with their weight, the report's numbers and the size of the messages."""
        measured = {name: float(a.sum(dtype=np.float64)) for name, a in self.measurements.items()}
        indices, numbers = self.message_size()
        measured |= {"sent_indices": float(indices), "sent_numbers": float(numbers)}
        return PartialSum(self.sum(), float(self.weights.sum(dtype=np.float64)), measured)

    def message_size(self) -> tuple[int, int]:
        """Item indices and numbers that these clients send, when they send only rated items."""
        k = self.vectors.shape[1]
        per_row = k + (self.bias is not None) + (self.counts is not None)
        per_client = sum(values[0].size for values in self.statistics.values() if len(values))
        if self.variances is not None:
            per_client += k * (k + 1) // 2
        return len(self.items), len(self.items) * per_row + self.n_clients * per_client

    def _item_sums(
        self, values: np.ndarray, vectors: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sums over the rows of each item of ``values`` times the client's vector, and weight.

        One product gives both: shapes (n_items, k), and (n_items,) in float64.
        """
        by_item = items_by_clients(values, self.items, self.indptr, len(self.item_factors))
        sums = by_item @ np.hstack([vectors, weights])
        return sums[:, :-1], sums[:, -1].astype(np.float64)
