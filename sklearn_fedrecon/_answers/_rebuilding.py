"""Users that the model does not know yet, rebuilt as their devices would; what these are sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._distribution import ChunkMap
from .._encoding import (
    check_ids,
    check_scale,
    check_targets,
    drop_zero_weight,
    encode_ratings,
    read_rows,
    scale_bounds,
)
from .._fitted import Fitted, rebuild_users
from .._types import ClientRatings, UserStates, served_arrays


def rebuilt(fitted: Fitted, ratings: ClientRatings, n_jobs: int | None) -> UserStates:
    """Users from their ratings, by the reconstruction of the fit.

    Parameters
    ----------
    fitted : Fitted
    ratings : ClientRatings
    n_jobs : int or None

    Returns
    -------
    users : UserStates
    """
    with ChunkMap(n_jobs) as mapper:
        return rebuild_users(fitted.question, ratings, mapper)


def reconstruct_user(
    fitted: Fitted, settings: Any, items: Any, ratings: Any, sample_weight: Any
) -> Bunch:
    """See `Recommender.reconstruct_user`."""
    items, rated = one_client(fitted, settings.rating_scale, items, ratings, sample_weight)
    users, k = rebuilt(fitted, rated, settings.n_jobs), fitted.model.n_components
    return Bunch(
        rated_items=items,
        factors=users.factors(k)[0],
        bias=float(users.bias(k)[0]),
        variance=None if users.variances is None else users.variances[0],
    )


def personalized(fitted: Fitted, settings: Any, X: Any, y: Any, sample_weight: Any) -> Fitted:
    """See `Recommender.personalize`."""
    users, items, y, weights = read_rows(settings, X, y, sample_weight, reset=False)
    everybody = fitted.devices.users.union(users)
    users, items = everybody.encode(users), fitted.items.encode(items)
    known, clients = items >= 0, np.unique(users)
    rated = encode_ratings(
        np.searchsorted(clients, users[known]),
        items[known],
        y[known],
        None if weights is None else weights[known],
        n_items=len(fitted.items),
        n_users=len(clients),
        merge=fitted.parts.reconstruction.merges_duplicates,
        dtype=fitted.model.dtype,
    )
    states = rebuilt(fitted, rated, settings.n_jobs)
    rated = replace(rated, clients=clients)
    fitted.devices.warn_if_fewer(rated)
    return replace(fitted, devices=fitted.devices.with_users(everybody, states, rated))


def one_client(
    fitted: Fitted, rating_scale: Any, items: Any, ratings: Any, sample_weight: Any = None
) -> tuple[np.ndarray, ClientRatings]:
    """Checked item ids of one user, and its ratings as those of a client.

    Parameters
    ----------
    fitted : Fitted
    rating_scale : array-like of shape (2,) or None
    items, ratings : array-like of shape (n_ratings,)
    sample_weight : array-like of shape (n_ratings,) or None

    Returns
    -------
    items : ndarray of shape (n_ratings,)
    ratings : ClientRatings
    """
    items, values, weights = _checked_user(fitted, rating_scale, items, ratings, sample_weight)
    indices = fitted.items.encode_known(items)
    rated = encode_ratings(
        np.zeros_like(indices),
        indices,
        values,
        weights,
        n_items=len(fitted.items),
        n_users=1,
        dtype=fitted.model.dtype,
    )
    return items, rated


def _checked_user(fitted: Fitted, rating_scale, items, ratings, sample_weight):
    """Item ids, ratings and weights of one user, those of weight zero left out."""
    if np.ndim(items) != 1 or np.ndim(ratings) != 1 or len(items) != len(ratings):
        raise ValueError(
            f"items has shape {np.shape(items)} and ratings {np.shape(ratings)}: expected "
            "two of the same length, an item and its rating at each place."
        )
    if len(items) == 0:
        return np.empty(0, fitted.items.ids.dtype), np.empty(0), None
    ids = check_ids(items, "items")
    if len(set(ids.tolist())) < len(ids):
        raise ValueError("items repeats an item: give each one once, with one rating.")
    values, weights = check_targets(ratings, sample_weight, len(ids))
    check_scale(values, rating_scale)
    return drop_zero_weight(ids, ids, values, weights)[1:]


def server_model(fitted: Fitted, rating_scale: Any) -> dict[str, np.ndarray]:
    """See `Recommender.server_model`."""
    arrays = {"items": fitted.items.ids.copy()} | served_arrays(fitted.model)
    if rating_scale is not None:
        arrays["rating_scale"] = np.array(scale_bounds(rating_scale))
    return arrays
