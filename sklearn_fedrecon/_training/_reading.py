"""From what the caller gives, tables or ratings on disk, to ratings by client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._compat import validate_data, warn_caller
from .._encoding import (
    IdIndex,
    check_digits,
    check_ids,
    check_scale,
    encode_ratings,
    read_rows,
)
from .._round import RoundParts
from .._types import ClientRatings
from ..datasets import ClientDataset


@dataclass(frozen=True)
class Encoded:
    """Training data inside: ratings by client, and what the indices stand for."""

    ratings: ClientRatings
    users: IdIndex
    items: IdIndex
    target_dtype: np.dtype


def encode(
    settings: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    parts: RoundParts,
    *,
    reset: bool = True,
    users: IdIndex | None = None,
    items: IdIndex | None = None,
) -> Encoded:
    """Check and encode training data.

    Parameters
    ----------
    settings : estimator
        Its parameters are read; it gets what scikit-learn remembers of X.
    X : {array-like, dataframe, ClientDataset} of shape (n_ratings, n_columns)
    y : array-like of shape (n_ratings,)
    sample_weight : array-like of shape (n_ratings,) or None
    parts : RoundParts
    reset : bool, default=True
        Whether X says what further tables have to look like.
    users, items : IdIndex or None
        Those known from before, which keep their places.

    Returns
    -------
    data : Encoded
    """
    if isinstance(X, ClientDataset):
        return _encode_stored(settings, X, y, sample_weight, parts, items)
    user_ids, item_ids, values, weights = read_rows(settings, X, y, sample_weight, reset=reset)
    if reset:
        check_digits(values, settings.dtype)
    user_index = users.union(user_ids) if users else IdIndex.fit(user_ids, "user")
    item_index = _catalogue(settings.items, item_ids, items)
    ratings = encode_ratings(
        user_index.encode(user_ids),
        item_index.encode_known(item_ids),
        values,
        weights,
        n_items=len(item_index.ids),
        merge=parts.reconstruction.merges_duplicates,
        dtype=settings.dtype,
    )
    return Encoded(ratings, user_index, item_index, values.dtype)


def _encode_stored(
    settings: Any,
    dataset: ClientDataset,
    y: Any,
    sample_weight: Any,
    parts: RoundParts,
    old_items: IdIndex | None,
) -> Encoded:
    """Take ratings as they are on disk; copy only what has to become something else."""
    if y is not None or sample_weight is not None:
        raise TypeError(
            "A ClientDataset has its ratings and weights with it: leave y and sample_weight out."
        )
    if dataset.merged and not parts.reconstruction.merges_duplicates:
        raise ValueError(
            f"{dataset!r} holds means where somebody had rated an item more than once, but "
            f"{parts.reconstruction!r} takes ratings one by one: save it again without "
            "repeated ratings, or fit the table."
        )
    validate_data(settings, dataset, reset=True, skip_check_array=True)
    check_scale(np.array(dataset.rating_range), settings.rating_scale)
    check_digits(np.array(dataset.rating_range), settings.dtype)
    items = _catalogue(settings.items, dataset.items, old_items)
    ratings = dataset.client_ratings(settings.dtype)
    places = items.encode(dataset.items)
    if len(items) > len(places) or (places[1:] < places[:-1]).any():
        columns = places[ratings.items].astype(np.int32)
        ratings = replace(ratings, items=columns, n_items=len(items))
    return Encoded(ratings, IdIndex(dataset.users, "user"), items, dataset.target_dtype)


def _catalogue(declared: Any, items: np.ndarray, known: IdIndex | None) -> IdIndex:
    """Items that can be rated: the declared catalogue, or those that were."""
    if declared is None:
        return known.union(items) if known else IdIndex.fit(items, "item")
    declared = check_ids(declared, "items")
    catalogue = IdIndex.fit(declared, "item")
    if len(catalogue.ids) < len(declared):
        repeated = len(declared) - len(catalogue.ids)
        raise ValueError(f"items, the catalogue, names {repeated} item(s) more than once.")
    unknown = items[catalogue.encode(items) < 0]
    if len(unknown):
        shown = ", ".join(map(repr, np.unique(unknown)[:5].tolist()))
        raise ValueError(
            f"X rates items that are not in the catalogue declared by `items`: {shown}. "
            "Add them to `items`, drop their rows, or leave `items` out."
        )
    return known.union(declared) if known else catalogue


def warn_if_equal(ratings: ClientRatings) -> None:
    """Warn where all ratings are one number, as are clicks that somebody wrote down as ratings.

    Parameters
    ----------
    ratings : ClientRatings
    """
    values = ratings.values
    if len(values) > 1 and values[0] == values[-1] and (values == values[0]).all():
        warn_caller(
            f"All {len(values)} ratings are {values[0]:g}: there is nothing to tell items apart "
            "by. Clicks, plays and purchases are no ratings but implicit feedback, which is who "
            "chose what; a model of ratings learns nothing from them.",
            UserWarning,
        )


def fingerprint(*parts: ClientRatings | None) -> str:
    """A short text that two sets of ratings share only if they are the same.

    Parameters
    ----------
    *parts : ClientRatings or None

    Returns
    -------
    digest : str
    """
    total = hashlib.blake2b(digest_size=16)
    for ratings in parts:
        total.update(b"none" if ratings is None else str(ratings.n_items).encode())
        for name in ("indptr", "items", "values", "weights", "scatter"):
            values = getattr(ratings, name, None)
            if values is not None:
                total.update(name.encode())
                total.update(np.ascontiguousarray(values).data)
    return total.hexdigest()


_OF_TABLE = ("n_features_in_", "feature_names_in_")


@contextmanager
def unharmed(estimator: Any) -> Iterator[None]:
    """Leave an estimator as it was if a fit is refused or interrupted.

    All other fitted attributes are set at once at the end; these two scikit-learn sets on the
    way, and a model that remembers another table than it was fitted to refuses its own.
    """
    before = {name: vars(estimator)[name] for name in _OF_TABLE if name in vars(estimator)}
    try:
        yield
    except BaseException:
        for name in _OF_TABLE:
            vars(estimator).pop(name, None)
        vars(estimator).update(before)
        raise
