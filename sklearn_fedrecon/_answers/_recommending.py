"""Items for users: recommendations, neighbours of an item, and what everybody likes."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._encoding import check_ids
from .._fitted import Fitted
from .._types import ServerModel
from ._asking import allowed_items, check_number, frame, id_names, item_indices, ranking
from ._ranking import Askers, Ranked, all_bounds, rank
from ._rebuilding import reconstruct_user
from ._several_users import are_typed_in, labels, refuse_labelled, refuse_nested

# Standard deviations that are taken off the predicted rating to rank by, where nobody says how
# many. NDCG@10 of 0 / 1 / 3 / 6, on unseen users of MovieLens latest-small: .111 / .144 / .175 /
# .173 (`benchmarks ranking`); in a trial on MovieLens 100K .169 / .179 / .189 / .188.
CAUTION = 3.0


def recommend(
    fitted: Fitted,
    settings: Any,
    user: Any,
    n: int,
    *,
    exclude: Any,
    candidates: Any,
    caution: float | None,
    return_std: bool,
    as_frame: bool,
):
    """See `Recommender.recommend`."""
    several = _is_several(fitted, user)
    askers = _askers(fitted, settings, user) if several else _one(fitted, settings, user)
    knows = fitted.model.item_variance is not None and askers.variances is not None
    ranked = rank(
        fitted,
        askers,
        check_number(n),
        allowed_items(fitted, exclude, candidates),
        caution=_caution(caution, knows, fitted),
        hide_rated=exclude is not None,
        deviations=return_std,
    )
    if return_std and not knows:
        raise ValueError(_no_variances(fitted, "return_std=True"))
    if as_frame:
        return _recommendation_frame(fitted, settings, user if several else None, ranked)
    if several:
        _check_rows(user, ranked.lengths, n)
    columns = [fitted.items.ids[ranked.items], ranked.scores]
    columns += [ranked.deviations] if return_std else []
    return tuple(c.reshape(len(askers.bias), -1) if several else c for c in columns)


def bounds_of(fitted: Fitted, user_ids: np.ndarray) -> np.ndarray:
    """What `recommend` ranks all items by, unless told otherwise, for users known or not.

    Parameters
    ----------
    fitted : Fitted
    user_ids : ndarray of shape (n_users,)
        An unknown one is somebody without ratings.

    Returns
    -------
    bounds : ndarray of shape (n_users, n_items)
    """
    model, k = fitted.model, fitted.model.n_components
    indices = fitted.devices.users.encode(user_ids)
    asked = _known(fitted, np.maximum(indices, 0)) if len(fitted.devices.users) else None
    unknown = indices < 0
    factors = np.zeros((len(indices), k), model.dtype) if asked is None else asked.factors.copy()
    bias = np.zeros(len(indices), model.dtype) if asked is None else asked.bias.copy()
    factors[unknown], bias[unknown] = model.user_prior_mean[:k], model.user_prior_mean[k:].sum()
    variances = None
    if model.item_variance is not None:
        variances = np.tile(model.user_prior_variance, (len(indices), 1))
        if asked is not None and asked.variances is not None:
            variances[~unknown] = asked.variances[~unknown]
    everything = np.ones(model.n_items, dtype=bool)
    askers = Askers(factors, bias, variances, [])
    return all_bounds(fitted, askers, everything, CAUTION)


def _caution(caution: float | None, knows: bool, fitted: Fitted) -> float:
    """How many standard deviations to take off."""
    if caution is None:
        return CAUTION if knows else 0.0
    if not isinstance(caution, Real) or not 0 <= caution < np.inf:
        raise ValueError(
            f"caution={caution!r}: expected a number of standard deviations, 0 or more, or None."
        )
    if caution and not knows:
        raise ValueError(_no_variances(fitted, f"caution={caution}"))
    return float(caution)


def _no_variances(fitted: Fitted, what: str) -> str:
    return (
        f"{what} needs posterior variances, which {fitted.parts.reconstruction!r} does not give: "
        "use reconstruction='variational', or caution=0."
    )


def similar_items(fitted: Fitted, settings: Any, item: Any, n: int, *, as_frame: bool):
    """See `Recommender.similar_items`."""
    model, n = fitted.model, check_number(n)
    if model.n_components == 0:
        raise ValueError(
            "similar_items compares factors, and a model with n_components=0 has none: fit "
            "with n_components of 1 or more."
        )
    several = isinstance(item, list) or np.ndim(getattr(item, "__array__", lambda: 0)()) > 0
    asked = item_indices(fitted, item if several else [item], "item")
    directions = _directions(model)
    found, cosines = [], []
    for index in asked:
        others = np.arange(model.n_items) != index
        close = np.minimum(directions @ directions[index], 1)  # rounding may exceed it
        indices, values = _best(close, others, n)
        found.append(fitted.items.ids[indices])
        cosines.append(values)
    if not several:
        return ranking(settings, found[0], cosines[0], "similarity", as_frame)
    if not as_frame:
        return np.stack(found), np.stack(cosines)
    _, name = id_names(settings)
    columns = [
        (name, np.repeat(fitted.items.ids[asked], [len(row) for row in found])),
        ("similar", np.concatenate(found)),
        ("similarity", np.concatenate(cosines)),
    ]
    return frame(columns)


def _directions(model: ServerModel) -> np.ndarray:
    """Factors scaled by the users' spread, over the length that is expected of them.

    The expected squared length counts what is not known of an item: one that few have rated has
    a short direction, and one that nobody has rated none, so that it is like nothing.
    """
    k = model.n_components
    spread = model.user_prior_variance[:k]
    squares = np.square(model.item_factors)
    if model.item_variance is not None:
        squares = squares + model.item_variance
    lengths = np.sqrt(squares @ spread)[:, None]
    factors = model.item_factors * np.sqrt(spread)
    return np.divide(factors, lengths, out=np.zeros_like(factors), where=lengths > 0)


def popular_items(
    fitted: Fitted, settings: Any, n: int, *, by: str, candidates: Any, as_frame: bool
):
    """See `Recommender.popular_items`."""
    allowed = allowed_items(fitted, None, candidates)
    indices, values = _best(_popularity(fitted, by), allowed, check_number(n))
    return ranking(settings, fitted.items.ids[indices], values, by, as_frame)


def _popularity(fitted: Fitted, by: str) -> np.ndarray:
    """Number of ratings or bias of every item, shape (n_items,)."""
    if by == "bias":
        return fitted.model.item_bias
    if by != "ratings":
        raise ValueError(f"by={by!r}: expected 'ratings' or 'bias'.")
    counts = fitted.loop.kept.optimizer.get("counts")
    if counts is None:
        raise ValueError(
            "by='ratings' needs a server that is told how often items are rated, which "
            f"{fitted.parts.server_optimizer!r} is not: use by='bias'."
        )
    return counts


def _best(values: np.ndarray, allowed: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and values of the ``n`` highest, ties in the order of the catalogue."""
    indices = np.flatnonzero(allowed)
    order = indices[np.argsort(-values[indices], kind="stable")[:n]]
    return order, values[order]


# --- one user or many, known or not --------------------------------------------------------------


def _is_several(fitted: Fitted, user: Any) -> bool:
    """Whether ids of several users are meant, not one user."""
    if isinstance(user, tuple):  # which can be an id
        return fitted.devices.users.kind != "objects of type tuple"
    refuse_labelled(user)
    return isinstance(user, list) or np.ndim(getattr(user, "__array__", lambda: 0)()) > 0


def _askers(fitted: Fitted, settings: Any, users: Any) -> Askers:
    """Several users, known ones by their ids or others by ratings."""
    if len(users) == 0:
        raise ValueError("user is an empty list: expected one user at least.")
    refuse_nested(users, fitted.devices.users.kind)
    if not are_typed_in(users):
        return _known(fitted, fitted.devices.users.encode_known(check_ids(users, "user")))
    each = [_one(fitted, settings, user) for user in users]
    given = [one.variances for one in each if one.variances is not None]
    return Askers(
        np.concatenate([one.factors for one in each]),
        np.concatenate([one.bias for one in each]),
        np.concatenate(given) if len(given) == len(each) else None,
        [one.rated[0] for one in each],
    )


def _one(fitted: Fitted, settings: Any, user: Any) -> Askers:
    """One user, of whatever kind."""
    if isinstance(user, Mapping) and not isinstance(user, Bunch):
        items, ratings = list(user.keys()), list(user.values())
        user = reconstruct_user(fitted, settings, items, ratings, None)
    if isinstance(user, Bunch):
        rated = item_indices(fitted, user.rated_items, "rated_items")
        variance = None if user.variance is None else user.variance[None]
        bias = np.array([user.bias], dtype=fitted.model.dtype)
        return Askers(user.factors[None], bias, variance, [rated])
    index = fitted.devices.users.encode(check_ids([user], "user"))
    if index[0] < 0:
        raise ValueError(
            f"user {user!r} is not known: pass the ratings, {{item: rating}}, or what "
            "reconstruct_user(items, ratings) returned, or personalize(X, y) first."
        )
    return _known(fitted, index)


def _known(fitted: Fitted, indices: np.ndarray) -> Askers:
    """Known users."""
    k, states = fitted.model.n_components, fitted.devices.states.take(indices)
    starts, items = fitted.devices.rated
    rated = [items[starts[index] : starts[index + 1]] for index in indices]
    return Askers(states.factors(k), states.bias(k), states.variances, rated)


def _check_rows(users: Any, lengths: np.ndarray, n: int) -> None:
    """Refuse rows of different lengths, which make no array."""
    if (lengths < n).any():
        shortest = lengths.argmin()
        whom = labels(users).tolist()[shortest]
        raise ValueError(
            f"n={n}, but for {np.count_nonzero(lengths < n)} of {len(lengths)} users fewer "
            f"items are left, for {whom!r} only {lengths[shortest]}: lower n to that, or "
            "pass as_frame=True, which returns the rows that there are."
        )


def _recommendation_frame(fitted: Fitted, settings: Any, users: Any, ranked: Ranked):
    """A row a recommendation; the user comes first where there are several."""
    user_name, item_name = id_names(settings)
    columns = [(item_name, fitted.items.ids[ranked.items]), ("score", ranked.scores)]
    if ranked.deviations is not None:
        columns.append(("std", ranked.deviations))
    if users is not None:
        columns.insert(0, (user_name, np.repeat(labels(users), ranked.lengths)))
    return frame(columns)
