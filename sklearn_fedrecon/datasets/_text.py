"""Delimited text, a column at a time."""

import csv
import gzip
import warnings

import numpy as np

_QUOTING_DELIMITERS = (",", ";")
_UNIT_SEPARATOR = "\x1f"


def read_columns(lines, delimiter, positions, kinds):
    """Read columns of delimited lines in one pass.

    Parameters
    ----------
    lines : iterable of str
        The lines, without a header.
    delimiter : str
        What separates the fields; ``"`` quotes fields where it is a comma or a semicolon.
    positions : sequence of int
        Position of each column.
    kinds : sequence of dtype
        What the fields of each column are read as; ``[str]`` for one column of text.

    Returns
    -------
    columns : list of ndarray of shape (n_rows,)
        One array a column.

    Raises
    ------
    ValueError
        If a field cannot be read as the dtype asked for, or is not there.
    """
    lines, character = _with_one_character(lines, delimiter)
    dtype = str if list(kinds) == [str] else [(str(c), kind) for c, kind in enumerate(kinds)]
    with warnings.catch_warnings():
        # NumPy before 2.0 would read the id 1.5 as 1, and warn.
        warnings.simplefilter("error", DeprecationWarning)
        warnings.filterwarnings("ignore", "loadtxt: input contained no data", UserWarning)
        table = np.loadtxt(
            lines,
            dtype=dtype,
            delimiter=character,
            usecols=list(positions),
            comments=None,
            quotechar='"' if delimiter in _QUOTING_DELIMITERS else None,
            ndmin=1,
        )
    return [table] if dtype is str else [table[name] for name in table.dtype.names or ()]


def open_text(path, encoding):
    """Open a text file, decompressed where it starts as gzip files do.

    Parameters
    ----------
    path : Path
        The file.
    encoding : str
        Its encoding; a byte order mark of UTF-8 is skipped.

    Returns
    -------
    stream : text stream
        To be closed by the caller.
    """
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    if encoding.lower() in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    return (gzip.open if compressed else open)(path, "rt", encoding=encoding)


def first_line(stream):
    """The first line that is not blank, or None."""
    return next((line.rstrip("\r\n") for line in stream if line.strip()), None)


def records_of(lines, delimiter):
    """Take lines apart one by one: slow, for headers, short files and errors.

    Parameters
    ----------
    lines : iterable of str
        The lines.
    delimiter : str
        As in :func:`read_columns`.

    Yields
    ------
    number : int
        Number of the line, from 1.
    fields : list of str
        Its fields. Blank lines are passed over.
    """
    lines, character = _with_one_character(lines, delimiter)
    if delimiter in _QUOTING_DELIMITERS:
        reader = csv.reader(lines, delimiter=character, quoting=csv.QUOTE_MINIMAL)
    else:
        reader = csv.reader(lines, delimiter=character, quoting=csv.QUOTE_NONE)
    for fields in reader:
        if fields:
            yield reader.line_num, fields


def _with_one_character(lines, delimiter):
    """The lines with a delimiter of one character, and that character."""
    if len(delimiter) == 1:
        return lines, delimiter
    return (line.replace(delimiter, _UNIT_SEPARATOR) for line in lines), _UNIT_SEPARATOR


def is_number(field):
    """Whether a field can be read as a number."""
    try:
        float(field)
    except ValueError:
        return False
    return True
