"""What becomes of many clients' updates on their way to the server."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add

import numpy as np
from sklearn.base import BaseEstimator

from ._types import (
    Aggregate,
    ClientUpdates,
    DeviceContext,
    Outcome,
    PartialSum,
    ServerContext,
    ServerModel,
)


class Mean(BaseEstimator):
    """Weighted mean over the clients of the cohort.

    A client that sends anything but finite numbers counts as zero with weight zero. The
    total weight travels with the mean, so that a server optimizer can speak of sums.

    Examples
    --------
    >>> from sklearn_fedrecon.aggregation import Mean
    >>> Mean()
    Mean()
    """

    def init(self, model: ServerModel) -> dict:
        """Return the state before the first round: none.

        Parameters
        ----------
        model : ServerModel

        Returns
        -------
        state : dict
        """
        return {}

    def encode(self, updates: ClientUpdates, context: DeviceContext) -> PartialSum:
        """Validate and sum a chunk of clients; runs where their devices are.

        Parameters
        ----------
        updates : ClientUpdates
        context : DeviceContext

        Returns
        -------
        partial : PartialSum
        """
        finite = updates.finite()
        kept = updates if finite.all() else updates.keep(finite)
        partial = kept.partial_sum()
        partial.measurements["rejected"] = float(np.count_nonzero(~finite))
        return partial

    def combine(self, partials: Iterable[PartialSum]) -> PartialSum:
        """Add the chunks up, in their order.

        Parameters
        ----------
        partials : iterable of PartialSum

        Returns
        -------
        total : PartialSum
        """
        return reduce(add, partials)

    def finish(
        self, total: PartialSum, state: dict[str, np.ndarray], context: ServerContext
    ) -> Outcome:
        """Divide by the weight; runs once a round, on the server.

        Parameters
        ----------
        total : PartialSum
        state : dict of str to ndarray
        context : ServerContext

        Returns
        -------
        outcome : Outcome
            Without an aggregate where a mean is not finite.
        """
        # Nobody counted: means of nothing are zero, and no server step is taken along them. (The
        # published code divides and rejects the NaN, which for the model comes to the same.)
        weight = total.client_weight if total.client_weight > 0 else 1.0
        rows = {name: value / weight for name, value in total.rows.items()}
        statistics = {name: value / weight for name, value in total.statistics.items()}
        means = [*rows.values(), *statistics.values()]
        finite = all(np.isfinite(value).all() for value in means)
        aggregate = Aggregate(rows, statistics, total.client_weight) if finite else None
        measured = {"clients": total.n_clients, "finite": finite}
        return Outcome(aggregate, state, {**total.measurements, **measured})
