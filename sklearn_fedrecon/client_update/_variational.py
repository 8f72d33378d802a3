"""The sufficient statistics that the variational algorithm sends."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator

from .._kernels._blocks import support_statistics
from .._types import ClientRatings, RoundContext, ServerModel, UserStates
from .._types._updates import ClientUpdates


class VariationalUpdate(BaseEstimator):
    """Sufficient statistics of a natural-gradient step on the items.

    For every rated item a client sends ``w (e u - s * v)``, the weighted residual ``w e``
    and the weight ``w``; once, its moments, its weight of ratings and its share of the
    noise: ``sum_i w_i [ e_i^2 + v_i^2 . s + s_c + kappa_i . (u^2 + s) ]`` plus what was
    lost where several ratings of the same item were merged.

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
        self,
        ratings: ClientRatings,
        users: UserStates,
        model: ServerModel,
        context: RoundContext,
    ) -> ClientUpdates:
        """Compute the messages of a chunk of clients.

        Parameters
        ----------
        ratings : ClientRatings
            The query ratings, each item at most once a client.
        users : UserStates
            The same clients, rebuilt from their support.
        model : ServerModel
        context : RoundContext

        Returns
        -------
        updates : ClientUpdates
        """
        k = model.n_components
        known = users.support
        if known is None or known.ratings is not ratings:
            known = support_statistics(ratings, users, model)
        weights, weighted = ratings.rating_weights(), known.residuals
        if ratings.weights is not None:
            weighted = weights * weighted
        error = ratings.client_sums(weighted * known.residuals)
        noise = error + np.einsum("cj,cj->c", known.squares, users.variances, dtype=np.float64)
        noise += np.einsum("cj,cj->c", known.variances, np.square(users.factors(k)))
        if ratings.scatter is not None:
            noise += ratings.client_sums(ratings.scatter)
        weight = ratings.lengths.astype(np.float64)
        if ratings.weights is not None:
            weight = ratings.client_sums(weights)
        statistics = {"noise": noise, "weight": weight}
        if model.fit_bias:
            bias, variance = users.states[:, k], users.variances[:, k]
            statistics |= {"bias_mean": bias, "bias_square": np.square(bias) + variance}
        return ClientUpdates(
            indptr=ratings.indptr,
            items=ratings.items,
            coefficients=weighted,
            vectors=users.factors(k),
            item_factors=model.item_factors,
            weights=np.ones(ratings.n_clients),
            bias=weighted if model.fit_bias else None,
            counts=weights,
            variances=users.variances[:, :k],
            statistics=statistics,
            measurements={
                "squared_error": error,
                "examples": weight,
                "loss": error,
                "batches": weight,
            },
        )
