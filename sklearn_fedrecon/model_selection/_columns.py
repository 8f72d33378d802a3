"""Id columns and rows of a ratings table, whatever container holds it."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from scipy import sparse


def distinct_ids(X, column, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct ids of a column, and every row's position among them.

    Parameters
    ----------
    X : {array-like, dataframe} of shape (n_ratings, n_columns)
    column : int or str
        Position, or name where ``X`` is a dataframe.
    name : str
        Name of the parameter that holds ``column``, for errors.

    Returns
    -------
    ids : ndarray of shape (n_ids,)
    positions : ndarray of shape (n_ratings,)

    Raises
    ------
    TypeError
        If the ids are of several types, or X is sparse.
    ValueError
        If the column is not there, or ids are missing.
    """
    values = read_column(X, column, name)
    ids = np.asarray(values)
    if ids.ndim != 1 or not len(ids):
        raise ValueError(f"X must be a table with at least one row; got shape {np.shape(X)}.")
    if _has_missing(values, ids):
        raise ValueError(f"{name}={column!r} holds missing ids; drop the rows without an id.")
    try:
        return np.unique(ids, return_inverse=True)
    except TypeError as error:
        raise TypeError(f"{name}={column!r} holds ids of several types; use one.") from error


def read_column(X, column, name: str):
    """One column of a table, as its container gives it."""
    if sparse.issparse(X):
        raise TypeError("X is sparse; a ratings table with one row a rating is needed.")
    names = getattr(X, "column_names", getattr(X, "columns", None))
    position = _position(X, names, column, name)
    if hasattr(X, "iloc"):
        return X.iloc[:, position]
    if names is not None:
        return X[list(names)[position]]
    if isinstance(X, np.ndarray):
        return X[:, position]
    return [row[position] for row in X]


def take_rows(X, rows: np.ndarray):
    """The given rows of a table, in its own container."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if hasattr(X, "column_names"):
        return X.take(rows)
    if isinstance(X, list | tuple):
        return [X[row] for row in rows]
    return X[rows]


def _has_missing(column, ids: np.ndarray) -> bool:
    """Whether a column lacks ids, asked of its container first."""
    if hasattr(column, "isna"):
        return bool(np.any(column.isna()))
    n_missing = getattr(column, "null_count", 0)
    if n_missing() if callable(n_missing) else n_missing:
        return True
    return bool((ids != ids).any()) or (ids.dtype == object and None in ids.tolist())


def _position(X: Any, names: list | None, column: int | str, name: str) -> int:
    """Position of a column that is given by position or by name."""
    if isinstance(column, str):
        if names is None:
            raise ValueError(
                f"{name}={column!r} is a name, but X is a {type(X).__name__} without column "
                "names; give the position of the column or a dataframe."
            )
        if column not in list(names):
            raise ValueError(f"{name}={column!r} is not a column of X: {list(names)}.")
        return list(names).index(column)
    if not isinstance(column, Integral) or isinstance(column, bool):
        raise TypeError(f"{name} must be a position or a name of a column; got {column!r}.")
    n_columns = len(names) if names is not None else _width(X)
    if not 0 <= column < n_columns:
        raise ValueError(
            f"{name}={column} is not a column of X, which has {n_columns}: expected a position "
            f"from 0 to {n_columns - 1}, or a name."
        )
    return int(column)


def _width(X) -> int:
    """Number of columns of an array or a list of rows."""
    shape = np.shape(X[0]) if len(X) else (0,)
    if len(shape) != 1:
        raise ValueError(f"X must be a table with columns; got shape {np.shape(X)}.")
    return shape[0]
