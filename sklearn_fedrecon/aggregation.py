"""What becomes of many clients' updates on their way to the server."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add

import numpy as np
from sklearn.base import BaseEstimator

from ._types import PartialSum, RoundContext, ServerModel
from ._types._updates import ClientUpdates


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

    def encode(self, updates: ClientUpdates, context: RoundContext) -> PartialSum:
        """Validate and sum a chunk of clients; runs where their devices are.

        Parameters
        ----------
        updates : ClientUpdates
        context : RoundContext

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
        self, total: PartialSum, state: dict, context: RoundContext
    ) -> tuple[dict[str, np.ndarray], dict, dict]:
        """Divide by the weight; runs once a round, on the server.

        Parameters
        ----------
        total : PartialSum
        state : dict
        context : RoundContext

        Returns
        -------
        aggregate : dict of str to ndarray
            Means over clients, and the total weight of the clients as ``total_weight``.
        state : dict
        measurements : dict
            The sums of the report, and whether the aggregate is ``finite``.
        """
        weight = total.weight if total.weight > 0 else 1.0
        aggregate = {name: value / weight for name, value in total.sums.items()}
        finite = all(np.isfinite(value).all() for value in aggregate.values())
        aggregate["total_weight"] = np.asarray(total.weight)
        return aggregate, state, {**total.measurements, "finite": finite}
