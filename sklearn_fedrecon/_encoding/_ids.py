"""What can be an id: one type in a column, nothing missing, nothing rounded."""

from __future__ import annotations

from datetime import datetime
from hashlib import blake2b
from numbers import Number
from typing import Any

import numpy as np

_MISSING_TYPES = {"NoneType", "NAType", "NaTType"}


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


def id_keys(ids: np.ndarray) -> np.ndarray:
    """A number for each id that depends on the id alone, to key random streams by.

    Parameters
    ----------
    ids : ndarray of shape (n,)
        Checked.

    Returns
    -------
    keys : ndarray of shape (n,), uint64
        Of equal ids, whatever their type's width, equal numbers.
    """
    if ids.dtype.kind in "iu":
        return ids.astype(np.int64 if ids.dtype.kind == "i" else np.uint64).view(np.uint64)
    if ids.dtype.kind == "f":
        ids = ids.astype(np.float64)
        whole = ids == np.floor(ids)
        return np.where(whole, ids.astype(np.int64), ids.view(np.int64)).view(np.uint64)
    if ids.dtype.kind == "M":
        return ids.astype("datetime64[ns]").view(np.uint64)
    texts = (value if isinstance(value, bytes) else str(value).encode() for value in ids.tolist())
    digests = (blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


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
    kinds = {kind_of_type(kind) for kind in set(map(type, values))}
    if kinds == {"datetimes"} and any(getattr(value, "tzinfo", None) for value in values):
        kinds = {"datetimes with a time zone"}
    suspicious = len(kinds) > 1 or not kinds <= {"numbers", "strings", "bytes"}
    if suspicious and any(map(_is_missing, values)):
        raise _missing(where)
    if len(kinds) > 1:
        types = sorted({kind.__name__ for kind in set(map(type, values))})
        raise TypeError(
            f"{where} mixes types: the id argument must be all strings or all numbers, "
            f"got {types}."
        )
    if kinds == {"datetimes"}:
        return np.array([_naive(value) for value in values])
    if kinds <= {"numbers"}:
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


def _naive(value: Any) -> np.datetime64:
    """A datetime as NumPy's; pandas keeps nanoseconds that the standard library lacks."""
    return value.to_datetime64() if hasattr(value, "to_datetime64") else np.datetime64(value)


def _is_missing(value: Any) -> bool:
    """Whether one Python object stands for "no value"."""
    if type(value).__name__ in _MISSING_TYPES:
        return True
    return isinstance(value, Number | np.generic) and bool(value != value)


def kind_of_type(kind: type) -> str:
    """What ids of a Python type are; ids of the same kind can be compared."""
    for parents, name in (
        ((bool, np.bool_), "booleans"),
        ((int, float, np.integer, np.floating), "numbers"),
        ((complex, np.complexfloating), "complex numbers"),
        (str, "strings"),
        (bytes, "bytes"),
        ((np.datetime64, datetime), "datetimes"),
    ):
        if issubclass(kind, parents):
            return name
    return f"objects of type {kind.__name__}"


def kind_of_ids(ids: np.ndarray) -> str | None:
    """What checked ids are; None where there are none to tell."""
    if len(ids) == 0:
        return None
    return kind_of_type(type(ids[0]))
