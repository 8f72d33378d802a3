"""What a fitted model is asked for: predictions, new users, recommendations."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ._encoding import (
    IdIndex,
    check_ids,
    check_table,
    check_targets,
    drop_zero_weight,
    encode_ratings,
)
from ._parts import build_parts
from ._simulation import ChunkMap, rebuild_users
from ._types import ClientRatings, UserStates
from .exceptions import ColdStartWarning

_ROWS = 65536  # rows of a prediction that are gathered at once


class ServingMixin:
    """Methods of a fitted `FederatedReconstructionMF`; none of them writes to it."""

    def predict(self, X, return_std=False):
        """Predict ratings.

        A known user is predicted from what is stored of it, an unknown one from the item
        and the mean of the users' prior. An unknown item is predicted from the user's bias.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_rows, n_columns)
            Table of users and items.
        return_std : bool, default=False
            Whether to return the standard deviation of a new rating too.

        Returns
        -------
        y : ndarray of shape (n_rows,)
            Predicted ratings, clipped to ``rating_scale`` where one was declared.
        y_std : ndarray of shape (n_rows,)
            Only with ``return_std=True``.

        Raises
        ------
        ValueError
            If users are unknown and ``unknown_user="error"``, or if ``return_std=True`` and
            the parts give no posterior variances.

        Warns
        -----
        ColdStartWarning
            If more than half of the rows belong to unknown users.
        """
        check_is_fitted(self)
        users, items = check_table(self, X, reset=False)
        users, items = self._user_index.encode(users), self._item_index.encode(items)
        self._check_known(users)
        predictions = self._clip(self._predict_pairs(users, items))
        if not return_std:
            return predictions
        return predictions, self._predict_std(users, items)

    def reconstruct_user(self, items, ratings, sample_weight=None):
        """Rebuild one user from ratings, as its device would; nothing is stored.

        Parameters
        ----------
        items : array-like of shape (n_ratings,)
            Ids of the items that the user rated, each once. Empty: the prior.
        ratings : array-like of shape (n_ratings,)
            The user's ratings.
        sample_weight : array-like of shape (n_ratings,), default=None
            Weights of the ratings.

        Returns
        -------
        user : Bunch
            ``items`` (n_ratings,), ``factors`` (n_components,), ``bias`` (float) and
            ``variance`` (n_components + fit_bias,), None where the parts give none. It can
            be handed to `recommend`.

        Raises
        ------
        ValueError
            If items are unknown (they are named) or repeated, lengths differ, or ratings
            are not valid.
        """
        check_is_fitted(self)
        items = check_ids(items, "items") if len(items) else np.empty(0, self.items_.dtype)
        indices = self._item_index.encode_known(items)
        values, weights = np.empty(0), None
        if len(items) or len(ratings):
            values, weights = check_targets(ratings, sample_weight, len(items))
            self._check_scale(values)
        if len(np.unique(indices)) < len(indices):
            raise ValueError("items repeats an item: give each one once, with one rating.")
        rated = encode_ratings(
            np.zeros_like(indices),
            indices,
            values,
            weights,
            n_items=len(self.items_),
            n_users=1,
            dtype=self.dtype,
        )
        k = self.item_factors_.shape[1]
        users = self._rebuild(rated)
        variance = None if users.variances is None else users.variances[0]
        bias = float(users.bias(k)[0])
        return Bunch(items=items, factors=users.factors(k)[0], bias=bias, variance=variance)

    def personalize(self, X, y, sample_weight=None):
        """Return a copy that also knows the users of a table, the items left as they are.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_ratings, n_columns)
            All ratings of these users. What was stored of them is replaced. Ratings of
            items that the server does not know are left out: there is nothing to rebuild
            a user from.
        y : array-like of shape (n_ratings,)
            Ratings.
        sample_weight : array-like of shape (n_ratings,), default=None
            Weights of the ratings.

        Returns
        -------
        model : FederatedReconstructionMF
            Shallow copy; this estimator is not changed.
        """
        check_is_fitted(self)
        users, items = check_table(self, X, reset=False)
        y, weights = check_targets(y, sample_weight, len(users))
        self._check_scale(y)
        users, items, y, weights = drop_zero_weight(users, items, y, weights)
        everybody = self._user_index.union(users)
        users, items = everybody.encode(users), self._item_index.encode(items)
        known = items >= 0
        clients = np.unique(users)
        rated = encode_ratings(
            np.searchsorted(clients, users[known]),
            items[known],
            y[known],
            None if weights is None else weights[known],
            n_items=len(self.items_),
            n_users=len(clients),
            merge=build_parts(self).reconstruction.merges_duplicates,
            dtype=self.dtype,
        )
        rebuilt = self._rebuild(rated)
        model = copy.copy(self)
        rated = replace(rated, clients=clients)
        model._set(self._merged_devices(everybody, rebuilt, rated))
        return model

    def forget_users(self):
        """Return a copy with the server side only: what a deployment would hold.

        Returns
        -------
        model : FederatedReconstructionMF
            Shallow copy that knows no user.
        """
        check_is_fitted(self)
        model = copy.copy(self)
        model._set(self._no_devices())
        return model

    def recommend(self, user, n=10, *, exclude="rated", candidates=None):
        """Recommend items to a user, best first.

        Parameters
        ----------
        user : id or Bunch
            A known user, or what `reconstruct_user` returned.
        n : int, default=10
            Number of items; fewer are returned where there are no more.
        exclude : "rated", None or array-like of item ids, default="rated"
            Items to leave out. "rated" leaves out those that the user is known to have
            rated.
        candidates : array-like of item ids, default=None
            Items to choose from. None: all.

        Returns
        -------
        items : ndarray of shape (n_recommended,)
            Item ids.
        scores : ndarray of shape (n_recommended,)
            Predicted ratings, not clipped, so that they tell items apart.

        Raises
        ------
        ValueError
            If the user or an item is unknown, or ``n`` is not positive.
        """
        check_is_fitted(self)
        factors, bias, rated = self._user_for_serving(user)
        allowed = np.ones(len(self.items_), dtype=bool)
        if candidates is not None:
            allowed[:] = False
            allowed[self._item_indices(candidates, "candidates")] = True
        if isinstance(exclude, str) and exclude == "rated":
            allowed[rated] = False
        elif exclude is not None:
            allowed[self._item_indices(exclude, "exclude")] = False
        model = self._state.model
        scores = model.global_mean + bias + self.item_bias_ + self.item_factors_ @ factors
        return self._best(scores, allowed, n)

    def similar_items(self, item, n=10):
        """Items whose factors point in the same direction.

        Parameters
        ----------
        item : id
            A known item.
        n : int, default=10
            Number of items.

        Returns
        -------
        items : ndarray of shape (n_similar,)
            Item ids, most similar first, the item itself left out.
        similarities : ndarray of shape (n_similar,)
            Cosine of the angle between the factors, each scaled by the users' spread along
            its component; 0 for an item without factors.

        Raises
        ------
        ValueError
            If the item is unknown, or ``n`` is not positive.
        """
        check_is_fitted(self)
        index = self._item_indices([item], "item")[0]
        spread = np.sqrt(self.user_prior_variance_[: self.item_factors_.shape[1]])
        factors = self.item_factors_ * spread
        lengths = np.linalg.norm(factors, axis=1)
        dots, products = factors @ factors[index], lengths * lengths[index]
        cosines = np.divide(dots, products, out=np.zeros_like(dots), where=products > 0)
        allowed = np.arange(len(cosines)) != index
        return self._best(cosines, allowed, n)

    def _best(self, scores, allowed, n):
        """Ids and scores of the ``n`` highest, ties in the order of the catalogue."""
        if n < 1:
            raise ValueError(f"n={n} items were asked for; expected at least 1.")
        indices = np.flatnonzero(allowed)
        order = indices[np.argsort(-scores[indices], kind="stable")[:n]]
        return self.items_[order], scores[order]

    def _item_indices(self, items, name):
        """Indices of known items."""
        return self._item_index.encode_known(check_ids(items, name)) if len(items) else []

    def _user_for_serving(self, user):
        """Factors, bias and rated items of a known user or of a reconstructed one."""
        if isinstance(user, Bunch):
            return user.factors, user.bias, self._item_indices(user.items, "items")
        index = self._user_index.encode(check_ids([user], "user"))[0]
        if index < 0:
            raise ValueError(
                f"user {user!r} is not known: rebuild it with reconstruct_user(items, ratings) "
                "and pass the result, or personalize(X, y)."
            )
        start, stop = self._rated[0][index : index + 2]
        return self.user_factors_[index], self.user_bias_[index], self._rated[1][start:stop]

    def _rebuild(self, rated: ClientRatings) -> UserStates:
        """Users from their ratings, by the reconstruction of this estimator."""
        parts = build_parts(self)
        with ChunkMap(self.n_jobs) as mapper:
            return rebuild_users(rated, self._state.model, parts, self._seed, mapper)

    def _check_known(self, users: np.ndarray) -> None:
        """Warn of, or refuse, users that are not known."""
        unknown = np.count_nonzero(users < 0)
        if unknown and self.unknown_user == "error":
            raise ValueError(
                f"{unknown} of {len(users)} rows belong to unknown users (unknown_user='error'): "
                "call personalize with their ratings first."
            )
        if 2 * unknown > len(users) and self.unknown_user == "warn":
            warnings.warn(
                f"{unknown} of {len(users)} rows belong to users that are not known and are "
                "predicted from the item alone. If these users have ratings, call personalize "
                "with them; in cross-validation, shuffle rows or use UserKFold with "
                "ReconstructionScorer. unknown_user='baseline' silences this.",
                ColdStartWarning,
                stacklevel=3,
            )

    def _padded(self):
        """User and item tables with a last row for those unknown, index -1."""
        model, users = self._state.model, self._known_states()
        states = np.vstack([users.states, model.user_prior_mean])
        design = model.design()
        nothing = np.zeros((1, design.shape[1]), dtype=design.dtype)
        nothing[0, model.n_components :] = 1
        return states, np.vstack([design, nothing]), np.append(model.item_bias, 0)

    def _predict_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Predictions of (user, item) indices, -1 for the unknown, shape (n_rows,)."""
        states, design, bias = self._padded()
        predictions = np.empty(len(users), dtype=self._target_dtype)
        for start in range(0, len(users), _ROWS):
            u, i = users[start : start + _ROWS], items[start : start + _ROWS]
            products = np.einsum("rj,rj->r", states[u], design[i])
            predictions[start : start + _ROWS] = self.global_mean_ + bias[i] + products
        return predictions

    def _predict_std(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Standard deviations of new ratings, shape (n_rows,)."""
        model, known = self._state.model, self._known_states()
        if model.item_variance is None or known.variances is None:
            raise ValueError(
                f"return_std=True needs posterior variances, which {self.reconstruction!r} does "
                "not give: use reconstruction='variational'."
            )
        k = model.n_components
        states, design, _ = self._padded()
        spread = np.vstack([known.variances, model.user_prior_variance])
        prior = np.full((1, k), model.item_prior_variance, dtype=model.dtype)
        item_variance = np.vstack([model.item_variance, prior])
        bias_prior = model.item_bias_prior_variance if model.fit_bias else 0.0
        bias_variance = np.append(model.item_bias_variance, bias_prior)
        deviations = np.empty(len(users), dtype=self._target_dtype)
        for start in range(0, len(users), _ROWS):
            u, i = users[start : start + _ROWS], items[start : start + _ROWS]
            moments = np.square(states[u, :k]) + spread[u, :k]
            total = model.noise_variance + bias_variance[i]
            total = total + np.einsum("rj,rj->r", np.square(design[i]), spread[u])
            total += np.einsum("rj,rj->r", item_variance[i], moments)
            deviations[start : start + _ROWS] = np.sqrt(total)
        return deviations

    def _clip(self, predictions: np.ndarray) -> np.ndarray:
        """Predictions within the declared scale."""
        if self.rating_scale is None:
            return predictions
        return np.clip(predictions, *self._scale_bounds())
