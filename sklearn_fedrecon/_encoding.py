"""From a ratings table to `ClientRatings`: the only module that sees X.

A ratings table has a row a rating; two of its columns are the ids of users and items, named
by ``user_column`` and ``item_column``. What the other columns hold is never looked at.

An estimator goes through it in this order::

    users, items = check_table(self, X, reset=True)
    y, weights = check_targets(y, sample_weight, len(users))
    users, items, y, weights = drop_zero_weight(users, items, y, weights)
    user_index, item_index = IdIndex.fit(users, "user"), IdIndex.fit(items, "item")
    ratings = encode_ratings(
        user_index.encode(users), item_index.encode(items), y, weights,
        n_users=len(user_index), n_items=len(item_index), dtype="float32",
    )
"""

from __future__ import annotations

from itertools import repeat
from numbers import Number
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, check_array, column_or_1d

from sklearn_fedrecon._compat import validate_data
from sklearn_fedrecon._types import ClientRatings

_MISSING_TYPES = {"NoneType", "NAType", "NaTType"}
_TABLE_SIZE = 2**20


# ---------------------------------------------------------------- the two id columns of X


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


# ---------------------------------------------------------------------------------- ids


def check_ids(values: Any, where: str) -> np.ndarray:
    """Check ids: one type, none missing, all of them exact.

    Parameters
    ----------
    values : array-like of shape (n,)
        Integers, finite floats, strings, bytes, datetimes, or other hashable objects of one
        type. Objects that are numbers become an array of numbers.
    where : str
        Where they come from, for the error.

    Returns
    -------
    ndarray of shape (n,)
        The same ids. Booleans are refused: a column of them tells nobody apart.

    Raises
    ------
    TypeError
        Types are mixed or cannot be ids.
    ValueError
        Ids are missing, infinite, or floats so large that neighbours would be one id.
    """
    if np.ma.is_masked(values) or _has_nulls(values):
        raise _missing(where)
    if isinstance(values, list | tuple):
        values = np.fromiter(values, dtype=object, count=len(values))
    ids = np.asarray(values)
    if ids.ndim != 1:
        raise ValueError(f"{where}: ids have to be one-dimensional, got shape {ids.shape}.")
    if ids.dtype.kind in "OT":
        ids = _from_objects(ids.tolist(), where)
    if ids.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {where} holds complex numbers.")
    if ids.dtype.kind not in "iufUSMO":
        raise TypeError(
            f"{where} holds {ids.dtype} values, which cannot be ids; expected numbers, strings, "
            "bytes or datetimes. Convert the column if it is the right one."
        )
    if ids.dtype.kind == "f":
        _check_float_ids(ids, where)
    if ids.dtype.kind == "M" and np.isnat(ids).any():
        raise _missing(where)
    return ids


def _has_nulls(column: Any) -> bool:
    """Whether a frame's column knows of missing values.

    `np.asarray` can lose them: pyarrow fills nulls of a dictionary column with an entry.
    """
    if hasattr(column, "isna"):
        return bool(np.any(column.isna()))
    count = getattr(column, "null_count", 0)
    return bool(count() if callable(count) else count)


def _missing(where: str) -> ValueError:
    return ValueError(
        f"{where} contains missing values (NaN, None, NA or NaT), and a rating needs both its "
        "user and its item; drop these rows."
    )


def _check_float_ids(ids: np.ndarray, where: str) -> None:
    """Refuse floats that are not finite or beyond the last exact integer."""
    if np.isnan(ids).any():
        raise _missing(where)
    if not np.isfinite(ids).all():
        raise ValueError(f"{where} contains infinity (inf), which cannot be an id.")
    bits = min(np.finfo(ids.dtype).nmant, 52) + 1
    if (np.abs(ids) >= 2.0**bits).any():
        raise ValueError(
            f"{where} holds {ids.dtype} ids of 2**{bits} and more, where different ids have "
            "already been rounded to the same number; read the column as integers or strings."
        )


def _from_objects(values: list[Any], where: str) -> np.ndarray:
    """Ids from Python objects: numbers as an array of numbers, others as objects."""
    kinds = {_kind_of_type(kind) for kind in set(map(type, values))}
    if len(kinds) > 1 or not kinds <= {"numbers", "strings", "bytes"}:
        if any(map(_is_missing, values)):
            raise _missing(where)
    if len(kinds) > 1:
        types = sorted({kind.__name__ for kind in set(map(type, values))})
        raise TypeError(
            f"{where} mixes types: the id argument must be all strings or all numbers, "
            f"got {types}."
        )
    if kinds <= {"numbers"} or kinds == {"datetimes"}:
        ids = np.array(values)
        if ids.dtype.kind == "O":
            raise ValueError(f"{where} holds integers beyond 64 bits; use strings instead.")
        return ids
    if kinds & {"booleans"}:
        return np.array(values, dtype=bool)
    if kinds & {"complex numbers"}:
        return np.array(values, dtype=complex)
    if type(values[0]).__hash__ is None:
        raise TypeError(
            f"{where} holds objects of type {type(values[0]).__name__}: the id argument must be "
            "a string, a number or another hashable object."
        )
    return np.fromiter(values, dtype=object, count=len(values))


def _is_missing(value: Any) -> bool:
    """Whether one Python object stands for "no value"."""
    if type(value).__name__ in _MISSING_TYPES:
        return True
    return isinstance(value, Number | np.generic) and bool(value != value)


def _kind_of_type(kind: type) -> str:
    """What ids of a Python type are; ids of the same kind can be compared."""
    for parents, name in (
        ((bool, np.bool_), "booleans"),
        ((int, float, np.integer, np.floating), "numbers"),
        ((complex, np.complexfloating), "complex numbers"),
        (str, "strings"),
        (bytes, "bytes"),
        (np.datetime64, "datetimes"),
    ):
        if issubclass(kind, parents):
            return name
    return f"objects of type {kind.__name__}"


def _kind(ids: np.ndarray) -> str | None:
    """What checked ids are; None where there are none to tell."""
    if len(ids) == 0:
        return None
    return _kind_of_type(type(ids[0]))


def _exact(ids: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Ids in another type, and where they are still the same ids."""
    if ids.dtype == dtype:
        return ids, np.ones(len(ids), dtype=bool)
    with np.errstate(invalid="ignore"):
        cast = ids.astype(dtype)
        same = cast.astype(ids.dtype) == ids
    if cast.dtype.kind != "M":
        same &= (cast < 0) == (ids < 0)  # -1 goes to uint64 and back
    if cast.dtype.kind == "f" and ids.dtype.kind in "iu":
        same &= np.abs(cast) < 2.0**53
    return cast, same


def _canonical(ids: np.ndarray) -> np.ndarray:
    """Equal ids as equal keys: numbers are int64 if they can be, so that 3 == 3.0."""
    if ids.dtype.kind not in "iuf":
        return ids
    for dtype in (np.int64, np.uint64, np.float64):
        keys, same = _exact(ids, np.dtype(dtype))
        if same.all():
            break
    return keys


def _sorted_unique(ids: np.ndarray) -> np.ndarray:
    """Distinct ids in ascending order."""
    if ids.dtype.kind in "OUS":
        try:
            ordered = sorted(set(ids.tolist()))
        except TypeError as error:
            raise TypeError(
                f"Ids that are {_kind(ids)} cannot be put in order ({error}); use strings or "
                "numbers."
            ) from error
        return np.fromiter(ordered, dtype=ids.dtype, count=len(ordered))
    ordered = np.sort(ids)
    return ordered[_group_begins(ordered)]


def _append(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Both arrays in the first type that holds all of their ids exactly."""
    if old.dtype.kind not in "iufM":
        return np.concatenate([old, new])
    candidates = [old.dtype, new.dtype, np.result_type(old, new)]
    if old.dtype.kind != "M":
        candidates += [np.dtype(np.int64), np.dtype(np.uint64), np.dtype(np.float64)]
    for dtype in candidates:
        parts, same = zip(*(_exact(ids, dtype) for ids in (old, new)), strict=True)
        if all(part.all() for part in same):
            return np.concatenate(parts)
    raise ValueError(
        f"No type holds both the {old.dtype} ids of before and the new {new.dtype} ids exactly; "
        "use one type, or strings, from the first fit on."
    )


class _SortedLookup:
    """Position of keys of any orderable type, by bisection."""

    def __init__(self, keys: np.ndarray) -> None:
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]

    def __call__(self, keys: np.ndarray) -> np.ndarray:
        # Bisection jumps about in memory: once a distinct key, not once a rating.
        distinct, inverse = np.unique(keys, return_inverse=True)
        nearest = np.minimum(np.searchsorted(self.keys, distinct), len(self.keys) - 1)
        found = np.where(self.keys[nearest] == distinct, self.order[nearest], -1)
        return found[inverse]


class _TableLookup:
    """Position of integers of a modest range, by one access each."""

    def __init__(self, keys: np.ndarray) -> None:
        self.low, self.high = keys.min(), keys.max()
        self.table = np.full(int(self.high) - int(self.low) + 1, -1, dtype=np.int64)
        self.table[keys - self.low] = np.arange(len(keys))

    @staticmethod
    def suits(keys: np.ndarray) -> bool:
        """Whether the table would be small."""
        if keys.dtype != np.int64:
            return False
        return int(keys.max()) - int(keys.min()) < max(_TABLE_SIZE, 4 * len(keys))

    def __call__(self, keys: np.ndarray) -> np.ndarray:
        inside = (keys >= self.low) & (keys <= self.high)
        return np.where(inside, self.table[np.where(inside, keys, self.low) - self.low], -1)


class _HashLookup:
    """Position of hashable objects, by a dict."""

    def __init__(self, keys: np.ndarray) -> None:
        self.positions = {key: position for position, key in enumerate(keys.tolist())}

    def __call__(self, keys: np.ndarray) -> np.ndarray:
        found = map(self.positions.get, keys.tolist(), repeat(-1))
        return np.fromiter(found, dtype=np.int64, count=len(keys))


class IdIndex:
    """Ids of one kind and their indices, 0 to n_ids - 1.

    Never changes; `union` returns a new one in which every index stays valid.

    Parameters
    ----------
    ids : ndarray of shape (n_ids,)
        Distinct checked ids; index ``i`` is the index of ``ids[i]``. See `fit` for ids that
        repeat.
    name : str, default="id"
        "user" or "item", for errors.

    Attributes
    ----------
    ids : ndarray of shape (n_ids,)
        The ids in the order of their indices.
    kind : str or None
        "numbers", "strings", "bytes", "datetimes" or the type of objects; None without ids.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_fedrecon._encoding import IdIndex
    >>> index = IdIndex.fit(np.array([30, 10, 30]))
    >>> index.ids.tolist(), index.encode(np.array([10.0, 20.0, 30.0])).tolist()
    ([10, 30], [0, -1, 1])
    >>> index.union(np.array([20, 5, 10])).ids.tolist()
    [10, 30, 5, 20]
    """

    def __init__(self, ids: np.ndarray, name: str = "id") -> None:
        self.ids = ids
        self.name = name
        self.kind = _kind(ids)
        self._keys = _canonical(ids)
        self._lookup = None
        if len(ids) and ids.dtype.kind in "OUS":
            self._lookup = _HashLookup(ids)
        elif len(ids):
            lookup = _TableLookup if _TableLookup.suits(self._keys) else _SortedLookup
            self._lookup = lookup(self._keys)

    @classmethod
    def fit(cls, ids: np.ndarray, name: str = "id") -> IdIndex:
        """Index of the distinct ids, in ascending order."""
        return cls(_sorted_unique(ids), name)

    def __len__(self) -> int:
        return len(self.ids)

    def __reduce__(self) -> tuple[type, tuple[np.ndarray, str]]:
        return IdIndex, (self.ids, self.name)

    def encode(self, ids: np.ndarray) -> np.ndarray:
        """Index of every id, -1 where it is unknown.

        Parameters
        ----------
        ids : ndarray of shape (n,)
            Checked ids. Numbers are compared by value whatever their type.

        Returns
        -------
        ndarray of shape (n,), int64

        Raises
        ------
        ValueError
            The ids are of another kind: strings here and numbers in `fit`, for example.
        """
        if self.kind is None or len(ids) == 0:
            return np.full(len(ids), -1, dtype=np.int64)
        kind = _kind(ids)
        if kind != self.kind:
            raise ValueError(
                f"The {self.name} ids are {kind}, but they were {self.kind} in fit, so every one "
                f"would count as unknown; convert them to {self.kind}."
            )
        if ids.dtype.kind in "OUS":
            return self._lookup(ids)
        keys, same = _exact(_canonical(ids), self._keys.dtype)
        return np.where(same, self._lookup(keys), -1)

    def encode_known(self, ids: np.ndarray) -> np.ndarray:
        """Index of every id, as `encode`, with an error that names those unknown."""
        indices = self.encode(ids)
        unknown = _sorted_unique(ids[indices < 0]).tolist()
        if unknown:
            shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            raise ValueError(
                f"{len(unknown)} {self.name} id(s) are unknown: {shown}. Expected ids among the "
                f"{len(self)} known ones; leave the others out."
            )
        return indices

    def union(self, ids: np.ndarray) -> IdIndex:
        """Index that also knows ``ids``; new ones follow the old ones, in ascending order."""
        new = _sorted_unique(ids[self.encode(ids) < 0])
        if len(new) == 0:
            return self
        return IdIndex(new if self.kind is None else _append(self.ids, new), self.name)


# ------------------------------------------------------------------- ratings and weights


def check_targets(y: Any, sample_weight: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Validate ratings and sample weights.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Finite numbers.
    sample_weight : array-like of shape (n_rows,), number or None
        Finite, non-negative, not all zero; one number is everybody's weight.
    n_rows : int
        Rows of X.

    Returns
    -------
    y : ndarray of shape (n_rows,), float32 or float64
        float32 only where it was given so.
    sample_weight : ndarray of shape (n_rows,), float64, or None
        None where none was given.

    Raises
    ------
    ValueError
        With what is wrong: missing, not a number, not finite, negative, another length.
    """
    if y is None:
        raise ValueError(
            "This estimator requires y to be passed, but the target y is None; y are the ratings, "
            "one for each row of X."
        )
    if np.ma.is_masked(y):
        raise ValueError("y contains masked values; drop these rows, or fill in ratings.")
    y = _as_floats(column_or_1d(y, warn=True))
    assert_all_finite(y, input_name="y")
    if len(y) != n_rows:
        raise ValueError(
            f"X and y have inconsistent numbers of samples: {n_rows} row(s) and {len(y)} "
            "rating(s); expected one rating for each row."
        )
    return y, None if sample_weight is None else _check_weights(sample_weight, n_rows)


def _as_floats(y: np.ndarray) -> np.ndarray:
    """Ratings as floats; text that looks like numbers is not converted."""
    if y.dtype in (np.float32, np.float64):
        return y
    strings = y.dtype.kind == "O" and any(isinstance(value, str | bytes) for value in y)
    if y.dtype.kind not in "biufO" or strings:
        raise ValueError(f"y holds {'text' if strings else y.dtype}; ratings have to be numbers.")
    try:
        with np.errstate(over="ignore"):
            return y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"y contains values that are not numbers, or NA instead of NaN ({error}); ratings "
            "have to be numbers."
        ) from error


def _check_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    if isinstance(sample_weight, Number):
        sample_weight = np.full(n_rows, sample_weight)
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight has shape {weights.shape}; expected {(n_rows,)}, a weight for each "
            "row of X, or one number."
        )
    if (weights < 0).any():
        raise ValueError(
            f"Negative values in sample_weight, the smallest is {weights.min()}; expected "
            "weights of zero and more."
        )
    if not weights.any():
        raise ValueError("All values of sample_weight are zero; a weight has to be positive.")
    return weights


def drop_zero_weight(
    users: np.ndarray, items: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Leave out ratings of weight zero, before their ids are learned.

    Parameters
    ----------
    users, items, y : ndarray of shape (n_rows,)
        Raw ids and ratings.
    weights : ndarray of shape (n_rows,) or None
        Sample weights.

    Returns
    -------
    users, items, y, weights : ndarray of shape (n_ratings,)
        The rows of positive weight.
    """
    if weights is None or weights.all():
        return users, items, y, weights
    keep = weights != 0
    return users[keep], items[keep], y[keep], weights[keep]


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
    pairs = users * np.int64(n_items) + items
    order = _row_order(pairs, values, weights)
    pairs = pairs[order]
    # Adding zero makes 0.0 of -0.0, whose order among equals is left to chance.
    values = np.add(values[order], 0.0, dtype=np.float64)
    weights = None if weights is None else weights[order].astype(np.float64, copy=False)
    del order
    scatter = None
    if merge:
        pairs, values, weights, scatter = _merge(pairs, values, weights)
    if weights is not None and (weights == 1).all():
        weights = None
    owners, columns = np.divmod(pairs, n_items)
    del pairs
    clients = np.arange(n_users) if n_users is not None else _sorted_unique(owners)
    ends = np.searchsorted(owners, clients, side="right")
    return ClientRatings(
        indptr=np.concatenate([[0], ends]).astype(np.int64),
        items=columns.astype(np.int32),
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
    begins = _group_begins(pairs)
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
    starts = np.flatnonzero(_group_begins(pairs) | _group_begins(values))
    weights = np.ones(len(values)) if weights is None else weights
    pairs, values, weights = pairs[starts], values[starts], np.add.reduceat(weights, starts)
    starts = np.flatnonzero(_group_begins(pairs))
    lengths = np.diff(starts, append=len(pairs))
    first, total = values[starts], np.add.reduceat(weights, starts)
    with np.errstate(over="ignore", invalid="ignore"):
        values = values - np.repeat(first, lengths)
        shift = np.add.reduceat(weights * values, starts) / total
        values -= np.repeat(shift, lengths)
        scatter = np.add.reduceat(weights * values**2, starts)
    return first + shift, total, scatter


def _group_begins(keys: np.ndarray) -> np.ndarray:
    """Whether a key differs from the one before it."""
    begins = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=begins[1:])
    return begins


def _fit_into(numbers: np.ndarray, dtype: str | np.dtype, what: str) -> np.ndarray:
    """Numbers in a narrower type, provided that none of them is lost."""
    with np.errstate(over="ignore"):
        cast = numbers.astype(dtype)
    if not np.isfinite(cast).all():
        raise ValueError(
            f"{what} of magnitude {np.abs(numbers).max():.3g} are too large for "
            f"dtype={np.dtype(dtype).name!r}; rescale them or use dtype='float64'."
        )
    if what == "Sample weights" and not cast.all():
        raise ValueError(
            f"{what} of magnitude {numbers.min():.3g} are too small for "
            f"dtype={np.dtype(dtype).name!r}; rescale them or use dtype='float64'."
        )
    return cast
