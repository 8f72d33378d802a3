"""What a fitted model is asked for: predictions, and users it does not know yet."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from .._distribution import ChunkMap
from .._encoding import (
    check_ids,
    check_table,
    check_targets,
    drop_zero_weight,
    encode_ratings,
)
from .._training._population import rebuild_users
from .._types import ClientRatings, UserStates
from ..exceptions import ColdStartWarning

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
            ``rated_items`` (n_ratings,), ``factors`` (n_components,), ``bias`` (float) and
            ``variance`` (n_components + fit_bias,), None where the parts give none. It can
            be handed to `recommend`.

        Raises
        ------
        ValueError
            If items are unknown (they are named) or repeated, lengths differ, or ratings
            are not valid.
        """
        check_is_fitted(self)
        items, rated = self._one_client(items, ratings, sample_weight)
        k = self.item_factors_.shape[1]
        users = self._rebuild(rated)
        variance = None if users.variances is None else users.variances[0]
        bias = float(users.bias(k)[0])
        factors = users.factors(k)[0]
        return Bunch(rated_items=items, factors=factors, bias=bias, variance=variance)

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
        users, items, y, weights = self._checked_rows(X, y, sample_weight, reset=False)
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
            merge=self._parts.reconstruction.merges_duplicates,
            dtype=self.item_factors_.dtype,
        )
        rebuilt = self._rebuild(rated)
        model = copy.copy(self)
        rated = replace(rated, clients=clients)
        model._set(self._merged_devices(everybody, rebuilt, rated))
        return model

    def _check_user(self, items, ratings, sample_weight):
        """Item ids, ratings and weights of one user, those of weight zero left out."""
        if np.ndim(items) != 1 or np.ndim(ratings) != 1 or len(items) != len(ratings):
            raise ValueError(
                f"items has shape {np.shape(items)} and ratings {np.shape(ratings)}: expected "
                "two of the same length, an item and its rating at each place."
            )
        if len(items) == 0:
            return np.empty(0, self.items_.dtype), np.empty(0), None
        ids = check_ids(items, "items")
        if len(set(ids.tolist())) < len(ids):
            raise ValueError("items repeats an item: give each one once, with one rating.")
        values, weights = check_targets(ratings, sample_weight, len(ids))
        self._check_scale(values)
        return drop_zero_weight(ids, ids, values, weights)[1:]

    def _one_client(self, items, ratings, sample_weight=None):
        """Checked item ids of one user, and its ratings as those of a client."""
        items, values, weights = self._check_user(items, ratings, sample_weight)
        indices = self._item_index.encode_known(items)
        rated = encode_ratings(
            np.zeros_like(indices),
            indices,
            values,
            weights,
            n_items=len(self.items_),
            n_users=1,
            dtype=self.item_factors_.dtype,
        )
        return items, rated

    def _rebuild(self, rated: ClientRatings) -> UserStates:
        """Users from their ratings, by the reconstruction of this estimator."""
        with ChunkMap(self.n_jobs) as mapper:
            return rebuild_users(rated, self._state.model, self._parts, self._seed, mapper)

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

    def _predict_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Predictions of (user, item) indices, -1 for the unknown, shape (n_rows,)."""
        model, k = self._state.model, self._state.model.n_components
        prior, average = model.user_prior_mean[:k], model.user_prior_mean[k:].sum()
        predictions = np.empty(len(users), dtype=self._target_dtype)
        for start in range(0, len(users), _ROWS):
            part = slice(start, start + _ROWS)
            u = _rows(self.user_factors_, users[part], prior)
            v = _rows(model.item_factors, items[part], 0)
            biases = _rows(self.user_bias_, users[part], average)
            biases += _rows(model.item_bias, items[part], 0)
            predictions[part] = self.global_mean_ + biases + np.einsum("rj,rj->r", u, v)
        return predictions

    def _predict_std(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Standard deviations of new ratings, shape (n_rows,)."""
        model, k = self._state.model, self._state.model.n_components
        if model.item_variance is None or self.user_variance_ is None:
            raise ValueError(
                f"return_std=True needs posterior variances, which {self.reconstruction!r} does "
                "not give: use reconstruction='variational'."
            )
        bias_prior = model.item_bias_prior_variance if model.fit_bias else 0
        deviations = np.empty(len(users), dtype=self._target_dtype)
        for start in range(0, len(users), _ROWS):
            part = slice(start, start + _ROWS)
            u = _rows(self.user_factors_, users[part], model.user_prior_mean[:k])
            s = _rows(self.user_variance_, users[part], model.user_prior_variance)
            v = _rows(model.item_factors, items[part], 0)
            kappa = _rows(model.item_variance, items[part], model.item_prior_variance)
            beta = _rows(model.item_bias_variance, items[part], bias_prior)
            total = model.noise_variance + beta + s[:, k:].sum(axis=1)
            total += np.einsum("rj,rj->r", np.square(v), s[:, :k])
            total += np.einsum("rj,rj->r", kappa, np.square(u) + s[:, :k])
            deviations[part] = np.sqrt(total)
        return deviations

    def _clip(self, predictions: np.ndarray) -> np.ndarray:
        """Predictions within the declared scale."""
        if self.rating_scale is None:
            return predictions
        return np.clip(predictions, *self._scale_bounds())


def _rows(table: np.ndarray, indices: np.ndarray, unknown) -> np.ndarray:
    """Rows of a table, and ``unknown`` where the index is -1; costs nothing per row of it."""
    if len(table) == 0:
        return np.full((len(indices), *table.shape[1:]), unknown, dtype=table.dtype)
    rows = table[indices]
    rows[indices < 0] = unknown
    return rows
