"""Predictions for pairs of users and items, and how sure they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._compat import warn_caller
from .._encoding import check_table
from .._fitted import Fitted
from ..exceptions import ColdStartWarning
from ._asking import clipped

_ROWS = 65536  # rows of a prediction that are gathered at once


def predict(fitted: Fitted, settings: Any, X: Any, *, return_std: bool):
    """See `Recommender.predict`."""
    users, items = check_table(settings, X, reset=False)
    users, items = fitted.devices.users.encode(users), fitted.items.encode(items)
    _check_known(users, settings.unknown_user)
    predictions = clipped(predict_pairs(fitted, users, items), settings.rating_scale)
    return (predictions, predict_std(fitted, users, items)) if return_std else predictions


def _check_known(users: np.ndarray, unknown_user: str) -> None:
    """Warn of, or refuse, users that are not known."""
    unknown = np.count_nonzero(users < 0)
    if unknown and unknown_user == "error":
        raise ValueError(
            f"{unknown} of {len(users)} rows belong to unknown users (unknown_user='error'): "
            "call personalize with their ratings first."
        )
    if 2 * unknown > len(users) and unknown_user == "warn":
        warn_caller(
            f"{unknown} of {len(users)} rows belong to users that are not known and are "
            "predicted from the item alone. If these users have ratings, call personalize "
            "with them; in cross-validation, shuffle rows or use UserKFold with "
            "ReconstructionScorer. unknown_user='baseline' silences this.",
            ColdStartWarning,
        )


def predict_pairs(fitted: Fitted, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Predictions of (user, item) indices, -1 for the unknown.

    Parameters
    ----------
    fitted : Fitted
    users, items : ndarray of shape (n_rows,)

    Returns
    -------
    predictions : ndarray of shape (n_rows,)
    """
    model, known = fitted.model, fitted.devices.states
    k = model.n_components
    prior, average = model.user_prior_mean[:k], model.user_prior_mean[k:].sum()
    predictions = np.empty(len(users), dtype=fitted.target_dtype)
    for start in range(0, len(users), _ROWS):
        part = slice(start, start + _ROWS)
        u = _rows(known.factors(k), users[part], prior)
        v = _rows(model.item_factors, items[part], 0)
        biases = _rows(known.bias(k), users[part], average)
        biases += _rows(model.item_bias, items[part], 0)
        predictions[part] = model.global_mean + biases + np.einsum("rj,rj->r", u, v)
    return predictions


def predict_std(fitted: Fitted, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Standard deviations of new ratings of (user, item) indices, -1 for the unknown.

    Parameters
    ----------
    fitted : Fitted
    users, items : ndarray of shape (n_rows,)

    Returns
    -------
    deviations : ndarray of shape (n_rows,)
    """
    model, known, k = fitted.model, fitted.devices.states, fitted.model.n_components
    if model.item_variance is None or known.variances is None:
        raise ValueError(
            f"return_std=True needs posterior variances, which {fitted.parts.reconstruction!r} "
            "does not give: use reconstruction='variational'."
        )
    bias_prior = model.item_bias_prior_variance if model.fit_bias else 0
    deviations = np.empty(len(users), dtype=fitted.target_dtype)
    for start in range(0, len(users), _ROWS):
        part = slice(start, start + _ROWS)
        u = _rows(known.factors(k), users[part], model.user_prior_mean[:k])
        s = _rows(known.variances, users[part], model.user_prior_variance)
        v = _rows(model.item_factors, items[part], 0)
        kappa = _rows(model.item_variance, items[part], model.item_prior_variance)
        beta = _rows(model.item_bias_variance, items[part], bias_prior)
        total = model.noise_variance + beta + s[:, k:].sum(axis=1)
        total += np.einsum("rj,rj->r", np.square(v), s[:, :k])
        total += np.einsum("rj,rj->r", kappa, np.square(u) + s[:, :k])
        deviations[part] = np.sqrt(total)
    return deviations


def _rows(table: np.ndarray, indices: np.ndarray, unknown: Any) -> np.ndarray:
    """Rows of a table, and ``unknown`` where the index is -1; costs nothing per row of it."""
    if len(table) == 0:
        return np.full((len(indices), *table.shape[1:]), unknown, dtype=table.dtype)
    rows = table[indices]
    rows[indices < 0] = unknown
    return rows
