"""What a user's own ratings say: why an item is predicted so, and what to ask next."""

from __future__ import annotations

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from .._types import ClientRatings


class ExplainingMixin:
    """Questions that the closed form of the reconstruction answers exactly."""

    def explain(self, items, ratings, item):
        """Tell which of a user's own ratings speak for an item, and how strongly.

        In closed form the prediction is linear in the ratings. Each rating adds what it
        differs from what the average user would have given, times a weight that depends on
        which items were rated, not on the ratings.

        Parameters
        ----------
        items : array-like of shape (n_ratings,)
            Ids of the items that the user rated, each once.
        ratings : array-like of shape (n_ratings,)
            The user's ratings.
        item : id
            The item to explain the prediction of.

        Returns
        -------
        explanation : Bunch
            ``rated_items``, ``ratings`` and ``contributions``, each (n_ratings,), what speaks
            most for the item first; ``baseline`` (float), what is predicted for somebody
            without ratings; and ``prediction`` (float), the baseline and all contributions
            together, not clipped.

        Raises
        ------
        ValueError
            As in `reconstruct_user`, and if the item is unknown or the reconstruction has
            no closed form.
        """
        check_is_fitted(self)
        target = self._item_indices([item], "item")[0]
        _, rated = self._one_client(items, ratings)
        model = self._state.model
        design, prior = model.design().astype(np.float64), model.user_prior_mean
        weights = rated.rating_weights() / model.noise_variance
        influence = design[rated.items] @ self._user_covariance(rated) @ design[target]
        surprise = model.residuals(rated) - design[rated.items] @ prior
        contributions = weights * influence * surprise
        order = np.argsort(-contributions, kind="stable")
        contributions = contributions[order]
        baseline = float(model.global_mean + self.item_bias_[target] + design[target] @ prior)
        return Bunch(
            rated_items=self.items_[rated.items[order]],
            ratings=rated.values[order],
            contributions=contributions,
            baseline=baseline,
            prediction=baseline + float(contributions.sum()),
        )

    def most_informative_items(
        self, items=(), ratings=(), n=10, *, candidates=None, as_frame=False
    ):
        """Items to ask a user about next, in the order to ask them.

        An item is worth what its rating is expected to take off the variance of the
        predictions, on average over the catalogue. With the posterior covariance ``S`` of
        the user, the rows ``x_j`` of all items, and the variance ``t_i`` of a rating of
        item ``i`` that is not the user's (noise, and what is not known of the item)::

            gain_i = mean_j (x_j' S x_i)^2 / (t_i + x_i' S x_i)

        The second item is worth what it adds to the first, and so on. What somebody will
        answer does not matter; whether somebody can answer does: `popular_items` makes
        ``candidates`` that many know.

        Parameters
        ----------
        items : array-like of shape (n_ratings,), default=()
            Ids of the items that the user has rated.
        ratings : array-like of shape (n_ratings,), default=()
            The user's ratings.
        n : int, default=10
            Number of items; fewer are returned where there are no more.
        candidates : array-like of item ids, default=None
            Items to choose from. None: all. Those rated are left out.
        as_frame : bool, default=False
            Whether to return a pandas.DataFrame.

        Returns
        -------
        items : ndarray of shape (n_asked,)
            Item ids, the most informative first.
        gains : ndarray of shape (n_asked,)
            Expected reduction of the mean variance, in squared units of the ratings.
        frame : DataFrame of shape (n_asked, 2)
            Only with ``as_frame=True``, instead of the arrays.

        Raises
        ------
        ValueError
            As in `reconstruct_user`, and if a candidate is unknown, ``n`` is not positive
            or the reconstruction gives no posterior variances.

        References
        ----------
        D. A. Cohn, Z. Ghahramani and M. I. Jordan, "Active Learning with Statistical
        Models", Journal of Artificial Intelligence Research 4, 1996.
        """
        check_is_fitted(self)
        _, rated = self._one_client(items, ratings)
        covariance, design = self._user_covariance(rated), self._state.model.design()
        design, noise = design.astype(np.float64), self._noise_of_new_ratings(rated)
        target = design.T @ design / len(design)
        allowed = self._allowed_items(None, candidates)
        allowed[rated.items] = False
        asked, gained = [], []
        for _ in range(min(self._check_number(n), np.count_nonzero(allowed))):
            reach = design @ covariance
            spread = noise + np.einsum("ij,ij->i", reach, design)
            gains = np.einsum("ij,jk,ik->i", reach, target, reach, optimize=True) / spread
            best = int(np.flatnonzero(allowed)[gains[allowed].argmax()])
            asked.append(best)
            gained.append(gains[best])
            covariance = covariance - np.outer(reach[best], reach[best]) / spread[best]
            allowed[best] = False
        asked = np.asarray(asked, dtype=np.int64)
        return self._ranking(self.items_[asked], np.asarray(gained), "gain", as_frame)

    def _user_covariance(self, rated: ClientRatings) -> np.ndarray:
        """Posterior covariance of one user, shape (d, d), float64."""
        reconstruction = self._parts.reconstruction
        if not hasattr(reconstruction, "covariance"):
            raise ValueError(
                f"{reconstruction!r} rebuilds users step by step; this needs one in closed "
                "form: fit with reconstruction='variational'."
            )
        return reconstruction.covariance(rated, self._state.model)

    def _noise_of_new_ratings(self, rated: ClientRatings) -> np.ndarray:
        """Variance of a rating that knowing the user would leave, shape (n_items,)."""
        model, user = self._state.model, self._rebuild(rated)
        if model.item_variance is None or user.variances is None:
            raise ValueError(
                f"reconstruction={self.reconstruction!r} gives no posterior variances, which "
                "tell how informative an item is: use reconstruction='variational'."
            )
        k = model.n_components
        moments = np.square(user.states[0, :k]) + user.variances[0, :k]
        unknown = model.item_bias_variance + model.item_variance @ moments
        return model.noise_variance + unknown.astype(np.float64)
