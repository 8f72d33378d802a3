"""Reconstruction in closed form, with what it does not know."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator

from .._kernels._blocks import solve_users
from .._random import Stream, generator
from .._types import (
    ClientRatings,
    DeviceContext,
    Prepared,
    ServerModel,
    SupportStatistics,
    UserStates,
)
from ._covariance import inverse_gram


class VariationalReconstruction(BaseEstimator):
    """Posterior mean and variance of every user, in closed form.

    With the rows ``x_i = (v_i, 1)``, their posterior variances ``(kappa_i, 0)``, the
    residuals ``y_i = r_i - mu - b_i`` of a user's own ratings, the prior ``N(m, diag(1 /
    lam))`` and the noise variance ``sigma2``, all sent by the server, the posterior of the
    user is approximated by the Gaussian with mean ``z`` and variance ``s``, where::

        A = diag(lam) + (1 / sigma2) * sum_i w_i [ x_i x_i' + diag(kappa_i, 0) ]
        z = A^-1 ( diag(lam) m + (1 / sigma2) sum_i w_i x_i y_i )
        s = 1 / diag(A)

    There is nothing to tune: the prior and the noise are estimated by the server.

    References
    ----------
    Lim and Teh, "Variational Bayesian Approach to Movie Rating Prediction", KDD Cup 2007.

    Examples
    --------
    >>> from sklearn_fedrecon.reconstruction import VariationalReconstruction
    >>> VariationalReconstruction()
    VariationalReconstruction()
    """

    needs = ("the support",)
    merges_duplicates = True
    needs_scale = True
    gives = ("users", "posterior variances")

    def initial_model(
        self,
        n_items: int,
        n_components: int,
        *,
        fit_bias: bool,
        global_mean: float,
        scale: float,
        dtype: type,
        seed: int,
    ) -> ServerModel:
        """Return the model before the first round, in units of the ratings' scale.

        Parameters
        ----------
        n_items : int
        n_components : int
        fit_bias : bool
        global_mean : float
            In the unit of the ratings.
        scale : float
            Standard deviation of the ratings.
        dtype : type
        seed : int

        Returns
        -------
        model : ServerModel
        """
        shape = (n_items, n_components)
        factors = generator(seed, Stream.ITEM_FACTORS).normal(0.0, 0.1, shape)
        d = n_components + fit_bias
        return ServerModel(
            item_factors=factors.astype(dtype),
            item_bias=np.zeros(n_items, dtype=dtype),
            global_mean=global_mean,
            fit_bias=fit_bias,
            user_prior_mean=np.zeros(d, dtype=dtype),
            user_prior_variance=np.full(d, scale**2, dtype=dtype),
            item_variance=np.zeros(shape, dtype=dtype),
            item_bias_variance=np.zeros(n_items, dtype=dtype),
            noise_variance=scale**2,
            item_prior_variance=np.ones(n_components, dtype=dtype),
            item_bias_prior_variance=scale**2,
        )

    def prepare(self, model: ServerModel) -> Prepared:
        """Compute once a round what serves for all clients.

        Parameters
        ----------
        model : ServerModel

        Returns
        -------
        prepared : Prepared
        """
        return Prepared.of(model)

    def reconstruct(
        self, support: ClientRatings, prepared: Prepared, context: DeviceContext
    ) -> UserStates:
        """Rebuild many users at once; one unseen user is a cohort of one.

        Parameters
        ----------
        support : ClientRatings
        prepared : Prepared
        context : DeviceContext

        Returns
        -------
        users : UserStates
        """
        model = prepared.model
        noise = model.dtype.type(model.noise_variance)
        ridge, item_variances, extra = self._penalties(support, prepared)
        states, diagonals, residuals = solve_users(
            support, prepared.table, ridge, model.user_prior_mean, extra
        )
        known = SupportStatistics(support, residuals, diagonals - ridge, item_variances)
        # The variances of a diagonal Gaussian that is nearest to the posterior are one over the
        # diagonal of the precision, not the diagonal of its inverse; they come with the system.
        return UserStates(states, noise / diagonals, known)

    def covariance(self, ratings: ClientRatings, prepared: Prepared) -> np.ndarray:
        """Posterior covariance ``A^-1`` of one user, all of it.

        Parameters
        ----------
        ratings : ClientRatings
            Of one client.
        prepared : Prepared

        Returns
        -------
        covariance : ndarray of shape (d, d), float64
        """
        ridge, _, extra = self._penalties(ratings, prepared)
        inverse = inverse_gram(ratings, prepared.design, ridge + extra[0])
        return prepared.model.noise_variance * inverse

    def _penalties(
        self, ratings: ClientRatings, prepared: Prepared
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Penalty of everybody (d,), summed variances of the items rated (n_clients, k + 1),
        and those of their factors as a further penalty of each client (n_clients, d).
        """
        model, k = prepared.model, prepared.model.n_components
        ridge = model.dtype.type(model.noise_variance) / model.user_prior_variance
        item_variances = ratings.sum_rows(prepared.variances)
        extra = np.zeros((ratings.n_clients, len(ridge)), dtype=model.dtype)
        extra[:, :k] = item_variances[:, :k]
        return ridge, item_variances, extra
