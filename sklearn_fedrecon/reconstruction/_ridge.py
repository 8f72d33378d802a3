"""Reconstruction in closed form, as a point."""

from __future__ import annotations

from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator

from .._compat import Interval
from .._kernels._blocks import solve_users
from .._random import Stream, generator
from .._types import (
    ClientRatings,
    DeviceContext,
    Prepared,
    ServerModel,
    UserStates,
)
from ._covariance import inverse_gram


class RidgeReconstruction(BaseEstimator):
    """Ridge regression of a user's ratings on the items, with the items frozen.

    What endless steps of gradient descent with an L2 penalty would arrive at: the user ``z``
    that minimizes ``sum_i w_i (y_i - x_i . z)^2 + alpha |z|^2``, where ``x_i = (v_i, 1)`` and
    ``y_i`` are the residuals of the user's own ratings. There are no posterior variances.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, in units of the squared ratings: as in
        `sklearn.linear_model.Ridge`. It must be positive, for a user may have rated less
        items than a factor has components.

    Examples
    --------
    >>> from sklearn_fedrecon.reconstruction import RidgeReconstruction
    >>> RidgeReconstruction(alpha=3.0)
    RidgeReconstruction(alpha=3.0)
    """

    needs = ("the support",)
    gives = ("users",)
    merges_duplicates = True
    needs_scale = True
    _parameter_constraints = {  # noqa: RUF012
        "alpha": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

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
        """Return the model before the first round.

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
        factors = generator(seed, Stream.ITEM_FACTORS).normal(0.0, 0.1 * scale, shape)
        d = n_components + fit_bias
        return ServerModel(
            item_factors=factors.astype(dtype),
            item_bias=np.zeros(n_items, dtype=dtype),
            global_mean=global_mean,
            fit_bias=fit_bias,
            user_prior_mean=np.zeros(d, dtype=dtype),
            user_prior_variance=np.full(d, 1 / self.alpha, dtype=dtype),
            item_prior_variance=np.full(n_components, scale**2, dtype=dtype),  # unit of new items
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
        ridge = np.full(len(model.user_prior_mean), self.alpha, dtype=model.dtype)
        states, _, _ = solve_users(support, prepared.table, ridge, np.zeros_like(ridge))
        return UserStates(states)

    def covariance(self, ratings: ClientRatings, prepared: Prepared) -> np.ndarray:
        """Covariance of the estimate of one user, in units of the noise variance.

        Parameters
        ----------
        ratings : ClientRatings
            Of one client.
        prepared : Prepared

        Returns
        -------
        covariance : ndarray of shape (d, d), float64
        """
        design = prepared.design
        return inverse_gram(ratings, design, np.full(design.shape[1], self.alpha))
