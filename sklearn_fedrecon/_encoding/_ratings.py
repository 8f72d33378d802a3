"""Ratings grouped by client, the same bits for any order of the rows."""

from __future__ import annotations

import numpy as np

from .._types import ClientRatings
from ._index import group_begins

_LEAST_STEPS = 0.05  # of the range of the ratings, that two numbers of a type may be apart


def encode_ratings(
    users: np.ndarray,
    items: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray | None,
    *,
    n_items: int,
    n_users: int | None = None,
    merge: bool = True,
    dtype: str | np.dtype = "float32",
) -> ClientRatings:
    """Group ratings by client, the same bits for any order of the rows.

    Merging makes one rating of those that a user gave the same item: their weighted mean,
    with the sum of the weights. A row of weight 3 so equals the row three times, bit for bit.

    Parameters
    ----------
    users, items : ndarray of shape (n_rows,), int64
        Indices, none of them negative.
    values : ndarray of shape (n_rows,)
        Ratings.
    weights : ndarray of shape (n_rows,) or None
        Positive sample weights.
    n_items : int
        Size of the catalogue.
    n_users : int or None, default=None
        Size of the population: clients are ``0 .. n_users - 1``, with or without ratings.
        None: clients are the users that occur.
    merge : bool, default=True
        False keeps several ratings of the same pair.
    dtype : str or dtype, default="float32"
        Type of the result; the computation is in float64.

    Returns
    -------
    ClientRatings
        Sorted by client and item. ``weights`` is None where all are one, ``scatter`` is None
        where no two different ratings were merged.

    Raises
    ------
    ValueError
        Ratings or weights are out of the range of ``dtype``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_fedrecon._encoding import encode_ratings
    >>> users, items = np.array([1, 0, 1]), np.array([2, 2, 2])
    >>> ratings = encode_ratings(users, items, np.array([3.0, 5.0, 4.0]), None, n_items=3)
    >>> ratings.values.tolist(), ratings.weights.tolist(), ratings.scatter.tolist()
    ([5.0, 3.5], [1.0, 2.0], [0.0, 0.5])
    """
    pairs = users * np.int64(n_items)
    pairs += items
    del users, items  # what is let go early need not fit into memory with what comes
    order = _row_order(pairs, values, weights)
    pairs = pairs[order]
    values = values[order].astype(np.float64, copy=False)
    values += 0.0  # makes 0.0 of -0.0, whose order among equals is left to chance
    weights = None if weights is None else weights[order].astype(np.float64, copy=False)
    del order
    scatter = None
    if merge:
        pairs, values, weights, scatter = _merge(pairs, values, weights)
    if weights is not None and (weights == 1).all():
        weights = None
    owners, columns = np.divmod(pairs, n_items, out=(None, pairs))
    columns = columns.astype(np.int32)
    del pairs
    clients = np.arange(n_users) if n_users is not None else owners[group_begins(owners)]
    ends = np.searchsorted(owners, clients, side="right")
    del owners
    return ClientRatings(
        indptr=np.concatenate([[0], ends]).astype(np.int64),
        items=columns,
        values=_fit_into(values, dtype, "Ratings"),
        n_items=n_items,
        clients=clients.astype(np.int64),
        weights=None if weights is None else _fit_into(weights, dtype, "Sample weights"),
        scatter=None if scatter is None else _fit_into(scatter, dtype, "Squared differences"),
    )


def _row_order(pairs: np.ndarray, values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Order of the rows by pair, rating and weight."""
    order = np.argsort(pairs)
    ordered = pairs[order]
    repeats = ordered[1:] == ordered[:-1]
    if not repeats.any():
        return order
    tied = np.zeros(len(order), dtype=bool)
    tied[1:] = repeats
    tied[:-1] |= repeats
    rows = order[tied]
    keys = [] if weights is None else [weights[rows]]
    order[tied] = rows[np.lexsort((*keys, values[rows], pairs[rows]))]
    return order


def _merge(
    pairs: np.ndarray, values: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """One rating a pair: weighted mean, summed weight and weighted sum of squares."""
    begins = group_begins(pairs)
    if begins.all():
        return pairs, values, weights, None
    tied = ~begins
    tied[:-1] |= tied[1:]
    several = tied[begins]
    merged = _merge_tied(pairs[tied], values[tied], None if weights is None else weights[tied])
    pairs, values = pairs[begins], values[begins]
    weights = np.ones(len(values)) if weights is None else weights[begins]
    scatter = np.zeros(len(values))
    values[several], weights[several], scatter[several] = merged
    return pairs, values, weights, scatter if scatter.any() else None


def _merge_tied(
    pairs: np.ndarray, values: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, weight and sum of squares of every pair, given sorted rows."""
    # Equal ratings first: only their total weight counts, not in how many rows it comes.
    starts = np.flatnonzero(group_begins(pairs) | group_begins(values))
    weights = np.ones(len(values)) if weights is None else weights
    pairs, values, weights = pairs[starts], values[starts], np.add.reduceat(weights, starts)
    starts = np.flatnonzero(group_begins(pairs))
    lengths = np.diff(starts, append=len(pairs))
    first, total = values[starts], np.add.reduceat(weights, starts)
    with np.errstate(over="ignore", invalid="ignore"):
        values = values - np.repeat(first, lengths)
        shift = np.add.reduceat(weights * values, starts) / total
        values -= np.repeat(shift, lengths)
        scatter = np.add.reduceat(weights * values**2, starts)
    return first + shift, total, scatter


def _fit_into(numbers: np.ndarray, dtype: str | np.dtype, what: str) -> np.ndarray:
    """Numbers in a narrower type, provided that none of them is lost."""
    with np.errstate(over="ignore"):
        cast = numbers.astype(dtype)
    # Ratings are squared and summed, so that the root of the largest number is too large.
    largest = np.finfo(dtype).max if what != "Ratings" else np.sqrt(np.finfo(dtype).max) / 1e4
    if not np.isfinite(cast).all() or (np.abs(numbers) > largest).any():
        raise ValueError(
            f"{what} of magnitude {np.abs(numbers).max():.3g} are too large for "
            f"dtype={np.dtype(dtype).name!r}; rescale them or use dtype='float64'."
        )
    if what == "Sample weights" and not cast.all():
        raise ValueError(
            f"{what} of magnitude {numbers.min():.3g} are too small for "
            f"dtype={np.dtype(dtype).name!r}; rescale them or use dtype='float64'."
        )
    if what == "Sample weights":
        _check_span(numbers, np.dtype(dtype))
    return cast


def check_digits(ratings: np.ndarray, dtype: str | np.dtype) -> None:
    """Refuse ratings so far from zero that a type has no digits for what tells them apart.

    Of ratings of 1e8 + {1, ..., 5}, float32 keeps one number in eight: the error of a fit was 3.7
    where it is 0.87. For all ratings of a fit: those of one user may well be nearly equal.

    Parameters
    ----------
    ratings : ndarray of shape (n_ratings,)
        Or the lowest and the highest.
    dtype : str or dtype

    Raises
    ------
    ValueError
    """
    dtype = np.dtype(dtype)
    if len(ratings) == 0:
        return
    low, high = float(ratings.min()), float(ratings.max())
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused elsewhere
        step = float(np.spacing(np.asarray(max(abs(low), abs(high))).astype(dtype)))
    if high > low and step > _LEAST_STEPS * (high - low):
        raise ValueError(
            f"Ratings from {low:.10g} to {high:.10g} lie {step:.3g} apart in dtype="
            f"{dtype.name!r}, which cannot tell them from each other: subtract a constant from "
            "them, or use dtype='float64'."
        )


def _check_span(weights: np.ndarray, dtype: np.dtype) -> None:
    """Refuse weights of which the least count for nothing beside the largest.

    Systems with weights of 1e-15 to 1e15 were solved in float32 to predictions of 2e15.
    """
    least, most = float(weights.min(initial=np.inf)), float(weights.max(initial=0))
    if least > 0 and most / least > np.finfo(dtype).eps ** -2.0:
        raise ValueError(
            f"Sample weights from {least:.3g} to {most:.3g} span more than dtype={dtype.name!r} "
            f"can weigh against each other, a factor of {np.finfo(dtype).eps ** -2.0:.1g}: clip "
            "them, leave the smallest out (weight 0), or use dtype='float64'."
        )
