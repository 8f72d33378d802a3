"""The sufficient statistics that the variational algorithm sends."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator

from .._kernels._blocks import support_statistics
from .._types import (
    ClientRatings,
    ClientUpdates,
    DeviceContext,
    ItemRows,
    Pattern,
    Prepared,
    SecondMoment,
    ServerModel,
    Shrinkage,
    SupportStatistics,
    UserStates,
)


class VariationalUpdate(BaseEstimator):
    """Sufficient statistics of a natural-gradient step on the items.

    For every rated item a client sends ``w (e u - s * v)``, the weighted residual ``w e``
    and the weight ``w``; once, its moments, its weight of ratings and its share of the
    noise: ``sum_i w_i [ e_i^2 + v_i^2 . s + s_c + kappa_i . (u^2 + s) + beta_i ]`` plus what
    was lost where several ratings of the same item were merged.

    Examples
    --------
    >>> from sklearn_fedrecon.client_update import VariationalUpdate
    >>> VariationalUpdate()
    VariationalUpdate()
    """

    needs = ("users", "posterior variances")
    gives = ("sufficient statistics",)
    learns_global_mean = False

    def update(
        self, query: ClientRatings, users: UserStates, prepared: Prepared, context: DeviceContext
    ) -> ClientUpdates:
        """Compute the messages of a chunk of clients.

        Parameters
        ----------
        query : ClientRatings
            Each item at most once a client.
        users : UserStates
            The same clients, rebuilt from their support.
        prepared : Prepared
        context : DeviceContext

        Returns
        -------
        updates : ClientUpdates
        """
        model, k = prepared.model, prepared.model.n_components
        known = users.support
        if known is None or known.ratings is not query:  # a query of its own, or a foreign user
            known = support_statistics(query, users, prepared)
        weights, weighted = query.rating_weights(), known.residuals
        if query.weights is not None:
            weighted = weights * weighted
        error = query.client_sums(weighted * known.residuals)
        rating_weight = query.lengths.astype(np.float64)
        if query.weights is not None:
            rating_weight = query.client_sums(weights)
        statistics = {"noise": error + _unknown(query, users, known, k)}
        statistics["rating_weight"] = rating_weight
        if model.fit_bias:
            bias, variance = users.states[:, k], users.posterior_variances()[:, k]
            statistics |= {"bias_mean": bias, "bias_square": np.square(bias) + variance}
        names = ("squared_error", "examples", "loss", "batches")
        measured = (error, rating_weight, error, rating_weight)
        return ClientUpdates(
            Pattern(query.indptr, query.items, query.n_items),
            np.ones(query.n_clients),
            _rows(weighted, weights, users, model),
            statistics,
            {"second_moment": SecondMoment(users.factors(k), users.posterior_variances()[:, :k])},
            dict(zip(names, measured, strict=True)),
        )


def _unknown(
    query: ClientRatings, users: UserStates, known: SupportStatistics, k: int
) -> np.ndarray:
    """What of a client's noise sum is not its squared error, (n_clients,)."""
    variances = users.posterior_variances().astype(np.float64)
    noise = np.einsum("cj,cj->c", known.squares, variances)
    noise += np.einsum("cj,cj->c", known.variances[:, :k], np.square(users.factors(k)))
    # Without the variances of the biases the noise was too small where items have few ratings:
    # the biases of 30,000 items with 1.5 ratings each then fitted the noise, and intervals of
    # 95 % covered 90 %.
    noise += known.variances[:, k]
    if query.scatter is not None:
        noise += query.client_sums(query.scatter)
    return noise


def _rows(
    weighted: np.ndarray, weights: np.ndarray, users: UserStates, model: ServerModel
) -> dict[str, ItemRows]:
    """What concerns items: rows that share coefficients are summed by one product."""
    k = model.n_components
    shrinkage = Shrinkage(weights, users.posterior_variances()[:, :k], model.item_factors)
    rows = {"item_factors": ItemRows(weighted, users.factors(k), shrinkage)}
    if model.fit_bias:
        rows["item_bias"] = ItemRows(weighted)
    return rows | {"counts": ItemRows(weights)}
