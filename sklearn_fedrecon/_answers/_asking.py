"""What every answer begins and ends with: the record, checked arguments, arrays or a frame."""

from __future__ import annotations

import copy
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._encoding import check_ids, scale_bounds
from .._fitted import Fitted
from .._optional import as_frame as to_frame


def fitted_of(estimator: Any) -> Fitted:
    """The record that a fitted estimator answers from.

    Parameters
    ----------
    estimator : estimator

    Returns
    -------
    fitted : Fitted

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    """
    check_is_fitted(estimator)
    return estimator._fitted


def copy_with(estimator: Any, fitted: Fitted) -> Any:
    """A shallow copy of an estimator that answers from another record.

    Parameters
    ----------
    estimator : estimator
    fitted : Fitted

    Returns
    -------
    copied : estimator
    """
    copied = copy.copy(estimator)
    vars(copied).update(fitted.attributes())
    return copied


def clipped(ratings: np.ndarray, rating_scale: Any) -> np.ndarray:
    """Ratings within the declared scale.

    Parameters
    ----------
    ratings : ndarray
    rating_scale : array-like of shape (2,) or None

    Returns
    -------
    ratings : ndarray
    """
    return ratings if rating_scale is None else np.clip(ratings, *scale_bounds(rating_scale))


def check_number(n: Any) -> int:
    """Refuse what is not a number of items.

    Parameters
    ----------
    n : int

    Returns
    -------
    n : int
    """
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n={n!r} items were asked for; expected a whole number, 1 or more.")
    return int(n)


def item_indices(fitted: Fitted, items: Any, name: str) -> np.ndarray:
    """Indices of known items; others are named in an error.

    Parameters
    ----------
    fitted : Fitted
    items : array-like of item ids
    name : str
        Of the argument, for the error.

    Returns
    -------
    indices : ndarray of shape (n,)
    """
    if len(items) == 0:
        return np.empty(0, dtype=np.int64)
    return fitted.items.encode_known(check_ids(items, name))


def allowed_items(fitted: Fitted, exclude: Any, candidates: Any) -> np.ndarray:
    """Which items may be named to everybody.

    Parameters
    ----------
    fitted : Fitted
    exclude : "rated", None or array-like of item ids
    candidates : array-like of item ids or None

    Returns
    -------
    allowed : ndarray of shape (n_items,), bool
    """
    allowed = np.ones(len(fitted.items), dtype=bool)
    if candidates is not None:
        allowed[:] = False
        allowed[item_indices(fitted, candidates, "candidates")] = True
    if isinstance(exclude, str) and exclude != "rated":
        raise ValueError(f"exclude={exclude!r}: expected 'rated', None or a list of item ids.")
    if exclude is not None and not isinstance(exclude, str):
        allowed[item_indices(fitted, exclude, "exclude")] = False
    return allowed


def id_names(settings: Any) -> tuple[str, str]:
    """Names of the columns of users and items, as in X where it had names.

    Parameters
    ----------
    settings : estimator

    Returns
    -------
    user_name, item_name : str
    """
    names = getattr(settings, "feature_names_in_", None)
    found = []
    for column, name in ((settings.user_column, "user"), (settings.item_column, "item")):
        if not isinstance(column, str) and names is not None:
            column = names[column]
        found.append(column if isinstance(column, str) else name)
    return tuple(found)


def ranking(settings: Any, items: np.ndarray, values: np.ndarray, name: str, as_frame: bool):
    """Items and what they are ranked by, as a pair of arrays or as a frame.

    Parameters
    ----------
    settings : estimator
    items : ndarray of shape (n,)
    values : ndarray of shape (n,)
    name : str
        Of the column of values.
    as_frame : bool

    Returns
    -------
    items, values : ndarray of shape (n,)
    frame : DataFrame of shape (n, 2)
        With ``as_frame``, instead of the arrays.
    """
    if not as_frame:
        return items, values
    return frame([(id_names(settings)[1], items), (name, values)])


def frame(columns: list[tuple[str, np.ndarray]]):
    """A frame, unless two of its columns have one name.

    Parameters
    ----------
    columns : list of (str, ndarray)

    Returns
    -------
    frame : DataFrame
    """
    names = [name for name, _ in columns]
    if len(set(names)) < len(names):
        raise ValueError(
            f"as_frame=True would make columns {names}, two of one name: fit with other names "
            "of the columns of X, or take the arrays."
        )
    return to_frame(columns)
