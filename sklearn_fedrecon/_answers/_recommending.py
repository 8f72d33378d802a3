"""Items for users: recommendations, neighbours of an item, and what everybody likes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._encoding import check_ids
from .._fitted import Fitted
from ._asking import allowed_items, check_number, frame, id_names, item_indices, ranking
from ._rebuilding import reconstruct_user
from ._several_users import are_typed_in, labels, refuse_labelled, refuse_nested


def recommend(
    fitted: Fitted, settings: Any, user: Any, n: int, *, exclude: Any, candidates: Any, as_frame
):
    """See `Recommender.recommend`."""
    allowed, several = allowed_items(fitted, exclude, candidates), _is_several(fitted, user)
    if several:
        users = _each_user(fitted, settings, user)
    else:
        users = iter([_for_serving(fitted, settings, user)])
    model, ranked = fitted.model, []
    for factors, bias, rated in users:
        kept = allowed.copy()
        if isinstance(exclude, str):
            kept[rated] = False
        scores = model.global_mean + bias + model.item_bias + model.item_factors @ factors
        ranked.append(_best(fitted, scores, kept, n))
    if as_frame:
        return _recommendation_frame(settings, user if several else None, ranked)
    if not several:
        return ranked[0]
    _check_rows(user, ranked, n)
    return tuple(np.stack(rows) for rows in zip(*ranked, strict=True))


def similar_items(fitted: Fitted, settings: Any, item: Any, n: int, *, as_frame: bool):
    """See `Recommender.similar_items`."""
    model, k = fitted.model, fitted.model.n_components
    if k == 0:
        raise ValueError(
            "similar_items compares factors, and a model with n_components=0 has none: fit "
            "with n_components of 1 or more."
        )
    index = item_indices(fitted, [item], "item")[0]
    factors = model.item_factors * np.sqrt(model.user_prior_variance[:k])
    lengths = np.linalg.norm(factors, axis=1)
    dots, products = factors @ factors[index], lengths * lengths[index]
    cosines = np.divide(dots, products, out=np.zeros_like(dots), where=products > 0)
    best = _best(fitted, cosines, np.arange(len(cosines)) != index, n)
    return ranking(settings, *best, "similarity", as_frame)


def popular_items(
    fitted: Fitted, settings: Any, n: int, *, by: str, candidates: Any, as_frame: bool
):
    """See `Recommender.popular_items`."""
    allowed = allowed_items(fitted, None, candidates)
    return ranking(settings, *_best(fitted, _popularity(fitted, by), allowed, n), by, as_frame)


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


def _best(
    fitted: Fitted, scores: np.ndarray, allowed: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores of the ``n`` highest, ties in the order of the catalogue."""
    n = check_number(n)
    indices = np.flatnonzero(allowed)
    order = indices[np.argsort(-scores[indices], kind="stable")[:n]]
    return fitted.items.ids[order], scores[order]


# --- one user or many, known or not --------------------------------------------------------------


def _is_several(fitted: Fitted, user: Any) -> bool:
    """Whether ids of several users are meant, not one user."""
    if isinstance(user, tuple):  # which can be an id
        return fitted.devices.users.kind != "objects of type tuple"
    refuse_labelled(user)
    return isinstance(user, list) or np.ndim(getattr(user, "__array__", lambda: 0)()) > 0


def _each_user(
    fitted: Fitted, settings: Any, users: Any
) -> Iterator[tuple[np.ndarray, Any, np.ndarray]]:
    """Factors, bias and rated items of several users, one after the other."""
    if len(users) == 0:
        raise ValueError("user is an empty list: expected one user at least.")
    refuse_nested(users, fitted.devices.users.kind)
    if are_typed_in(users):
        for user in users:
            yield _for_serving(fitted, settings, user)
        return
    for index in fitted.devices.users.encode_known(check_ids(users, "user")):
        yield _known(fitted, index)


def _for_serving(fitted: Fitted, settings: Any, user: Any) -> tuple[np.ndarray, Any, np.ndarray]:
    """Factors, bias and rated items of one user, of whatever kind."""
    if isinstance(user, Mapping) and not isinstance(user, Bunch):
        items, ratings = list(user.keys()), list(user.values())
        user = reconstruct_user(fitted, settings, items, ratings, None)
    if isinstance(user, Bunch):
        rated = item_indices(fitted, user.rated_items, "rated_items")
        return user.factors, user.bias, rated
    index = fitted.devices.users.encode(check_ids([user], "user"))[0]
    if index < 0:
        raise ValueError(
            f"user {user!r} is not known: pass the ratings, {{item: rating}}, or what "
            "reconstruct_user(items, ratings) returned, or personalize(X, y) first."
        )
    return _known(fitted, index)


def _known(fitted: Fitted, index: int) -> tuple[np.ndarray, Any, np.ndarray]:
    """Factors, bias and rated items of a known user."""
    k, states = fitted.model.n_components, fitted.devices.states
    indptr, items = fitted.devices.rated
    start, stop = indptr[index : index + 2]
    return states.factors(k)[index], states.bias(k)[index], items[start:stop]


def _check_rows(users: Any, ranked: list, n: int) -> None:
    """Refuse rows of different lengths, which make no array."""
    lengths = np.array([len(items) for items, _ in ranked])
    if (lengths < n).any():
        shortest = lengths.argmin()
        whom = labels(users).tolist()[shortest]
        raise ValueError(
            f"n={n}, but for {np.count_nonzero(lengths < n)} of {len(lengths)} users fewer "
            f"items are left, for {whom!r} only {lengths[shortest]}: lower n to that, or "
            "pass as_frame=True, which returns the rows that there are."
        )


def _recommendation_frame(settings: Any, users: Any, ranked: list):
    """A row a recommendation; the user comes first where there are several."""
    user_name, item_name = id_names(settings)
    items = np.concatenate([items for items, _ in ranked])
    scores = np.concatenate([scores for _, scores in ranked])
    columns = [(item_name, items), ("score", scores)]
    if users is not None:
        lengths = [len(items) for items, _ in ranked]
        columns.insert(0, (user_name, np.repeat(labels(users), lengths)))
    return frame(columns)
