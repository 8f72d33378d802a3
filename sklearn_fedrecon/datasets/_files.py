"""Ratings from a person's own file."""

import csv
import math
import numbers
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from sklearn.utils import Bunch

from ._base import ratings_bunch
from ._text import first_line, is_number, open_text, read_columns, records_of

_DELIMITERS = ("::", "\t", ",", ";", "|")
# What the fields of a column are read as: the first that fits every row.
_KINDS = {
    "user": (np.int64, str),
    "item": (np.int64, str),
    "rating": (np.float64,),
    "timestamp": (np.int64, np.float64, str),
}


@overload
def load_ratings(path: Any, *, return_X_y: Literal[True], **options: Any) -> tuple[Any, Any]: ...
@overload
def load_ratings(path: Any, *, return_X_y: Literal[False] = ..., **options: Any) -> Bunch: ...
def load_ratings(
    path,
    *,
    user_column=0,
    item_column=1,
    rating_column=2,
    timestamp_column=None,
    delimiter=None,
    header="auto",
    encoding="utf-8",
    return_X_y=False,
    as_frame=False,
):
    r"""Load ratings from a delimited text file.

    Reads a CSV of one's own, and the rating files of MovieLens (``ratings.csv``,
    ``ratings.dat``, ``u.data``) with every parameter at its default.

    Parameters
    ----------
    path : str or path-like
        The file, one rating a line. It may be compressed with gzip.
    user_column, item_column, rating_column : int or str, default=0, 1, 2
        Position, or name in the header, of the column. Other columns are ignored.
    timestamp_column : int or str, default=None
        Position or name of the column of timestamps, if they are wanted.
    delimiter : str, default=None
        What separates the fields, of one or more characters. None finds it in the first line,
        among ``::``, tab, comma, semicolon, ``|`` and, if none of these is there, space.
        Fields may be quoted with ``"`` where the delimiter is a comma or a semicolon.
    header : bool or "auto", default="auto"
        Whether the first line holds the names of the columns. "auto" takes it for a header if
        a column is given by name, or if none of the wanted fields in it is a number.
    encoding : str, default="utf-8"
        Encoding of the file. A byte order mark is skipped.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone instead of a Bunch.
    as_frame : bool, default=False
        Return `data` as a pandas.DataFrame and `target` as a pandas.Series.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the entries

        data : ndarray or DataFrame of shape (n_ratings, 2)
            User and item of each rating, in the order of the file. A column in which every id
            is a whole number is int64 (``007`` and ``7`` are the same id then); any other is
            text, taken as it stands. An array of one column of each kind is of dtype object.
        target : ndarray or Series of shape (n_ratings,)
            Ratings, float64.
        timestamps : ndarray or Series of shape (n_ratings,)
            Only with `timestamp_column`: int64, float64 or text, the first that fits.
        frame : DataFrame or None
            Columns user, item, rating and, where asked for, timestamp, with ``as_frame=True``.
        feature_names, target_names : list of str
            user and item; rating. The names in the header do not matter.
        filename : str
            The path.
        DESCR : str
            What was read.

    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    FileNotFoundError
        If there is no file at `path`.
    ValueError
        If the file holds no ratings, lacks a column, is not text of that encoding, or has a line
        that cannot be read: the error gives its number.

    See Also
    --------
    fetch_movielens : Downloads MovieLens ratings.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_fedrecon.datasets import load_ratings
    >>> lines = ["reader,book,stars,shelf", "ann,emma,4.5,a", "ben,emma,3,b", "ben,ulysses,5,b"]
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "books.csv")
    ...     characters = path.write_text("\n".join(lines))
    ...     ratings = load_ratings(path, rating_column="stars")
    >>> ratings.data
    array([['ann', 'emma'],
           ['ben', 'emma'],
           ['ben', 'ulysses']], dtype='<U7')
    >>> ratings.target
    array([4.5, 3. , 5. ])
    """
    wanted = {"user": user_column, "item": item_column, "rating": rating_column}
    if timestamp_column is not None:
        wanted["timestamp"] = timestamp_column
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file at {path} (looked in {Path.cwd()}).")
    try:
        layout = _find_layout(path, wanted, delimiter, header, encoding)
        columns = _read(layout)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not {encoding} text ({error.reason}): pass its encoding, "
            "for example encoding='latin-1'."
        ) from error
    return ratings_bunch(
        columns["user"],
        columns["item"],
        columns["rating"],
        timestamps=columns.get("timestamp"),
        return_X_y=return_X_y,
        as_frame=as_frame,
        filename=str(path),
        DESCR=f"{len(columns['rating'])} ratings read from {path}.",
    )


@dataclass(frozen=True)
class _Layout:
    """How a file is to be read.

    Attributes
    ----------
    path : Path
        The file.
    encoding : str
        Its encoding.
    delimiter : str
        What separates its fields.
    has_header : bool
        Whether its first line that is not blank holds names.
    positions : dict of str to int
        Position of each wanted column.
    """

    path: Path
    encoding: str
    delimiter: str
    has_header: bool
    positions: dict

    def open(self):
        """The text of the file, from its first rating on."""
        stream = open_text(self.path, self.encoding)
        if self.has_header:
            first_line(stream)
        return stream


def _find_layout(path, wanted, delimiter, header, encoding):
    """Settle delimiter, header and positions by the first line."""
    with open_text(path, encoding) as stream:
        line = first_line(stream)
    if line is None:
        raise ValueError(f"{path} is empty: expected one rating a line.")
    delimiter = _find_delimiter(line, delimiter)
    _, fields = next(records_of([line], delimiter))
    by_name = any(isinstance(column, str) for column in wanted.values())
    if header not in (True, False, "auto"):
        raise ValueError(f"header must be True, False or 'auto'; got {header!r}.")
    if by_name and header is False:
        raise ValueError("Columns given by name need a header, but header=False.")
    names = [name.strip() for name in fields]
    where = f"{path}, whose first line has, with delimiter {delimiter!r}, the fields {names}"
    positions = {kind: _position(kind, column, names, where) for kind, column in wanted.items()}
    if len(set(positions.values())) < len(positions):
        raise ValueError(f"Two of the columns {wanted} are the same column of {where}.")
    if header == "auto":
        header = by_name or not any(is_number(fields[p]) for p in positions.values())
    return _Layout(path, encoding, delimiter, header, positions)


def _find_delimiter(line, delimiter):
    """The delimiter given, or the likeliest in the line."""
    if delimiter is None:
        found = max(_DELIMITERS, key=line.count)
        return found if found in line else " "
    if not isinstance(delimiter, str) or not delimiter:
        raise ValueError(f"delimiter must be one or more characters, or None; got {delimiter!r}.")
    return delimiter


def _position(kind: str, column: int | str, names: list[str], where: str) -> int:
    """Position of one column, given by position or name."""
    parameter = f"{kind}_column={column!r}"
    if isinstance(column, str):
        if names.count(column) != 1:
            times = "more than one" if column in names else "not a"
            raise ValueError(f"{parameter} is {times} column of {where}.")
        return names.index(column)
    if not isinstance(column, numbers.Integral) or isinstance(column, bool):
        raise TypeError(f"{parameter} must be a position (int) or a name (str).")
    if not 0 <= column < len(names):
        raise ValueError(f"{parameter} is not a column of {where}.")
    return int(column)


def _read(layout):
    """The wanted columns, each of shape (n_ratings,)."""
    kinds = [_KINDS[name][0] for name in layout.positions]
    try:
        with layout.open() as lines:
            table = read_columns(lines, layout.delimiter, layout.positions.values(), kinds)
        columns = dict(zip(layout.positions, table, strict=True))
    except UnicodeDecodeError:
        raise
    except ValueError:
        columns = {name: _read_column(layout, name) for name in layout.positions}
    if not len(columns["rating"]):
        raise ValueError(f"{layout.path} has a header but no ratings.")
    texts = [ids for ids in (columns["user"], columns["item"]) if ids.dtype.kind == "U"]
    if any((ids == "").any() for ids in texts) or not np.isfinite(columns["rating"]).all():
        raise _bad_line(layout)
    return columns


def _read_column(layout, name):
    """One column, read as the first kind that fits every row."""
    for kind in _KINDS[name]:
        try:
            with layout.open() as lines:
                return read_columns(lines, layout.delimiter, [layout.positions[name]], [kind])[0]
        except UnicodeDecodeError:
            raise
        except ValueError as error:
            reason = error
    raise _bad_line(layout, reason)


def _bad_line(layout, reason=None):
    """The error that names the first line that cannot be read."""
    fields_needed = max(layout.positions.values()) + 1
    number = 0
    try:
        with open_text(layout.path, layout.encoding) as lines:
            records = records_of(lines, layout.delimiter)
            if layout.has_header:
                next(records)
            for number, fields in records:
                fault = _fault(fields, fields_needed, layout.positions)
                if fault:
                    return ValueError(f"{layout.path}, line {number}: {fault}, in {fields}.")
    except csv.Error as error:  # a quote that is never closed
        return ValueError(f"{layout.path}, after line {number}: {error}.")
    return ValueError(f"{layout.path} could not be read: {reason}")


def _fault(fields, fields_needed, positions):
    """What is wrong with a line, or an empty string."""
    if len(fields) < fields_needed:
        return f"expected at least {fields_needed} fields, got {len(fields)}"
    for name in ("user", "item"):
        if not fields[positions[name]]:
            return f"the {name} id is missing"
    rating = fields[positions["rating"]]
    if not is_number(rating) or not math.isfinite(float(rating)):
        return f"the rating {rating!r} is not a finite number"
    return ""
