"""What the data sets share: the shape in which ratings are handed out."""

import numpy as np
from sklearn.utils import Bunch

from .._optional import optional_module

FEATURE_NAMES = ["user", "item"]
TARGET_NAMES = ["rating"]

_ROWS_AT_ONCE = 65_536


def ratings_bunch(
    users, items, ratings, *, timestamps=None, return_X_y=False, as_frame=False, **extra
):
    """Lay ratings out as scikit-learn's own loaders do.

    Parameters
    ----------
    users, items : ndarray of shape (n_ratings,)
        Ids.
    ratings : ndarray of shape (n_ratings,)
        Ratings.
    timestamps : ndarray of shape (n_ratings,), default=None
        When each rating was given, where that is known.
    return_X_y : bool, default=False
        Hand out the pair ``(data, target)`` alone.
    as_frame : bool, default=False
        Hand out pandas objects.
    **extra : dict
        Further entries of the Bunch.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`, or tuple (data, target)
        ``data`` of shape (n_ratings, 2), ``target`` of shape (n_ratings,), ``frame``, the names
        and everything in `extra`. ``timestamps`` is there where it was given.
    """
    frame = None
    if as_frame:
        frame = _frame(users, items, ratings, timestamps)
        data, target = frame[FEATURE_NAMES], frame[TARGET_NAMES[0]]
        timestamps = None if timestamps is None else frame["timestamp"]
    else:
        data, target = id_table(users, items), np.ascontiguousarray(ratings)
    if return_X_y:
        return data, target
    if timestamps is not None:
        extra["timestamps"] = timestamps if as_frame else np.ascontiguousarray(timestamps)
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        feature_names=list(FEATURE_NAMES),
        target_names=list(TARGET_NAMES),
        **extra,
    )


def id_table(users, items):
    """Ids side by side, shape (n_ratings, 2); numbers beside text stay numbers, as objects."""
    if users.dtype.kind == items.dtype.kind:
        return np.column_stack([users, items])
    table = np.empty((len(users), 2), dtype=object)
    table[:, 0] = users
    table[:, 1] = items
    return table


def _frame(users, items, ratings, timestamps):
    """The ratings as a pandas.DataFrame with columns user, item, rating and timestamp."""
    pandas = optional_module("pandas", "pandas", "as_frame=True")
    columns = {"user": users, "item": items, "rating": ratings}
    if timestamps is not None:
        columns["timestamp"] = timestamps
    return pandas.DataFrame(columns)


def factor_products(user_factors, item_factors, users, items):
    """Inner product of the user's and the item's factors, row by row.

    Parameters
    ----------
    user_factors : ndarray of shape (n_users, n_components)
        One row a user.
    item_factors : ndarray of shape (n_items, n_components)
        One row an item.
    users, items : ndarray of shape (n_rows,)
        Row numbers of the pairs.

    Returns
    -------
    products : ndarray of shape (n_rows,)
        Taken in blocks, so that nothing of shape (n_rows, n_components) exists.
    """
    products = np.empty(len(users))
    for start in range(0, len(users), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        products[rows] = np.einsum(
            "rk,rk->r", user_factors[users[rows]], item_factors[items[rows]]
        )
    return products
