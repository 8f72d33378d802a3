"""The two id columns of X, whatever container X is."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_array

from .._compat import validate_data
from ._ids import check_ids
from ._targets import check_scale, check_targets, drop_zero_weight


def check_table(estimator: BaseEstimator, X: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
    """Validate X as scikit-learn does and read its user and item ids.

    Parameters
    ----------
    estimator : estimator
        Has the parameters ``user_column`` and ``item_column``; gets or has
        ``n_features_in_`` and ``feature_names_in_``.
    X : dataframe, array-like or list of rows, of shape (n_ratings, n_columns)
        The ratings table.
    reset : bool
        True in `fit`: what X looks like is remembered. False elsewhere: it is compared.

    Returns
    -------
    users, items : ndarray of shape (n_ratings,)
        The ids as they are in X.

    Raises
    ------
    TypeError
        X is sparse, or a column mixes types or holds a type that cannot be an id.
    ValueError
        X has another shape than expected, a column is not there, or ids are missing,
        infinite or too large to be told apart.
    """
    table = _as_table(X, 2 if reset else 1, estimator)
    validate_data(estimator, table, reset=reset, skip_check_array=True)
    return read_columns(table, estimator.user_column, estimator.item_column)


def read_rows(
    estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any, *, reset: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Ids of users and items, ratings and weights of the rows that count.

    Parameters
    ----------
    estimator : estimator
        As in `check_table`; ratings have to fit its ``rating_scale``.
    X : dataframe, array-like or list of rows, of shape (n_rows, n_columns)
    y : array-like of shape (n_rows,)
    sample_weight : array-like of shape (n_rows,), number or None
    reset : bool

    Returns
    -------
    users, items, y, weights : ndarray of shape (n_ratings,)
        Without the rows of weight zero; weights may be None.

    Raises
    ------
    TypeError, ValueError
        As `check_table` and `check_targets`, and if a rating is outside the scale.
    """
    users, items = check_table(estimator, X, reset=reset)
    y, weights = check_targets(y, sample_weight, len(users))
    check_scale(y, estimator.rating_scale)
    return drop_zero_weight(users, items, y, weights)


def read_columns(
    X: Any, user_column: int | str, item_column: int | str
) -> tuple[np.ndarray, np.ndarray]:
    """Read the two id columns out of X, each on its own.

    Parameters
    ----------
    X : dataframe, array-like or list of rows, of shape (n_ratings, n_columns)
        The ratings table.
    user_column, item_column : int or str
        Position from 0 or, in a dataframe, name of the column.

    Returns
    -------
    users, items : ndarray of shape (n_ratings,)
        Checked ids, see `check_ids`.

    Examples
    --------
    >>> from sklearn_fedrecon._encoding import read_columns
    >>> users, items = read_columns([["ann", 7, None], ["bob", 9, None]], 0, 1)
    >>> users.tolist(), items.tolist()
    (['ann', 'bob'], [7, 9])
    """
    table = _as_table(X, 1)
    names = _column_names(table)
    width = len(table[0]) if isinstance(table, list | tuple) else table.shape[1]
    user = _position("user_column", user_column, names, width)
    item = _position("item_column", item_column, names, width)
    if user == item:
        raise ValueError(
            f"user_column={user_column!r} and item_column={item_column!r} are the same column "
            "of X; they have to be two."
        )
    return (
        check_ids(_column(table, user), f"user_column={user_column!r} of X"),
        check_ids(_column(table, item), f"item_column={item_column!r} of X"),
    )


def _as_table(X: Any, min_columns: int, estimator: BaseEstimator | None = None) -> Any:
    """X as a frame, a list of rows or an array with two dimensions and a row at least."""
    settings = {
        "dtype": None,
        "ensure_all_finite": False,
        "ensure_min_features": min_columns,
        "input_name": "X",
        "estimator": estimator,
    }
    if sparse.issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but a table with a row a rating is expected. If it is "
            "a matrix of users and items: coo = X.tocoo(), then fit on numpy.column_stack(["
            "coo.row, coo.col]) with y=coo.data. What is not stored is then not rated."
        )
    if hasattr(X, "collect") and not hasattr(X, "shape"):
        raise TypeError(f"X is a lazy {type(X).__name__}; expected its data, X.collect().")
    if _column_names(X) is not None:
        shape = X.shape
    elif _is_rows(X):
        widths = sorted(set(map(len, X)))
        if len(widths) > 1:
            raise ValueError(f"The rows of X have different lengths, {widths}; expected one.")
        shape = (len(X), widths[0])
    else:
        checked = check_array(X, **settings)
        return X if isinstance(X, np.ndarray) else checked
    # An array of that shape without memory, so that scikit-learn words the complaints.
    check_array(np.broadcast_to(np.False_, shape), **settings)
    return X


def _is_rows(X: Any) -> bool:
    """Whether X is a non-empty list of lists; it is not made an array of one type."""
    if not isinstance(X, list | tuple) or not X:
        return False
    return all(isinstance(row, list | tuple) for row in X)


def _column_names(X: Any) -> list[Any] | None:
    """Column names of a frame of whatever library; None for what is not a frame."""
    if isinstance(X, np.ndarray) or len(getattr(X, "shape", ())) != 2:
        return None
    names = getattr(X, "column_names", None)  # pyarrow, whose `columns` are the data
    names = getattr(X, "columns", None) if names is None else names
    return None if names is None else list(names)


def _position(parameter: str, column: int | str, names: list[Any] | None, n_columns: int) -> int:
    """Position of the column that a parameter points at."""
    if not isinstance(column, str):
        if not 0 <= column < n_columns:
            raise ValueError(
                f"{parameter}={column!r} is not a column of X, which has {n_columns} column(s): "
                f"expected a position from 0 to {n_columns - 1}, or a name."
            )
        return int(column)
    if names is None:
        raise ValueError(
            f"{parameter}={column!r} is a name, but X has no column names; pass a dataframe or "
            f"set {parameter} to a position."
        )
    found = [position for position, name in enumerate(names) if name == column]
    if not found:
        raise ValueError(f"{parameter}={column!r} is not a column of X: {names}.")
    if len(found) > 1:
        raise ValueError(f"{parameter}={column!r} is the name of several columns of X: {names}.")
    return found[0]


def _column(table: Any, position: int) -> Any:
    """One column of a table, without a conversion of the others."""
    if isinstance(table, list | tuple):
        return [row[position] for row in table]
    if isinstance(table, np.ndarray):
        return table[:, position]
    if hasattr(table, "iloc"):
        return table.iloc[:, position]
    if hasattr(table, "column_names"):
        return table.column(position)
    return table[table.columns[position]]
