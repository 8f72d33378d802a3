"""Files of a client data set are looked at before a kernel indexes with what they hold.

A number out of range in them would not be an error but a crash of the interpreter, or a rating
that nobody gave.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from .._encoding import IdIndex, check_ids
from .._types import ClientRatings

FORMAT = "sklearn-fedrecon clients"
VERSION = 2
META = "meta.json"
REQUIRED = ("indptr", "items", "ratings", "users", "item_ids")
OPTIONAL = ("weights", "scatter")
_PIECE = 1 << 20  # numbers, or bytes, that are looked at together
_ENTRIES = {
    "n_users": int,
    "n_items": int,
    "n_ratings": int,
    "optional": list,
    "rating_range": list,
    "merged": bool,
    "target_dtype": str,
    "checksums": dict,
}


def read_meta(path: Path) -> dict[str, Any]:
    """What the folder says about itself.

    Parameters
    ----------
    path : Path

    Returns
    -------
    meta : dict

    Raises
    ------
    FileNotFoundError, ValueError
    """
    if not (path / META).is_file():
        raise FileNotFoundError(
            f"There is no client data set at {path}, as it has no file {META}: make one by "
            "save_clients."
        )
    try:
        meta = json.loads((path / META).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path / META, f"it is no JSON ({error})") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"{path / META} is not of the format {FORMAT!r}.")
    if meta.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {meta.get('version')} of the format, and this release reads "
            f"version {VERSION}: save it again."
        )
    wrong = [name for name, kind in _ENTRIES.items() if type(meta.get(name)) is not kind]
    if wrong or any(name not in OPTIONAL for name in meta["optional"]):
        raise damaged(path / META, f"entries are missing or no such ({', '.join(wrong)})")
    return meta


def damaged(path: Path, reason: str) -> ValueError:
    """Return the error about a file that is not used."""
    return ValueError(
        f"{path} was cut off or changed after it was written: {reason}. Nothing of it is used: "
        "save the data set again."
    )


def mapped(path: Path, name: str) -> np.ndarray:
    """One array of the folder, mapped into memory.

    Parameters
    ----------
    path : Path
    name : str

    Returns
    -------
    array : ndarray of shape (n,)
    """
    file = path / f"{name}.npy"
    if not file.is_file():
        raise FileNotFoundError(f"{path} is incomplete: it has no file {name}.npy.")
    try:
        array = np.load(file, mmap_mode="r").view(np.ndarray)
    except Exception as error:  # whatever NumPy makes of bytes that are not its own
        raise damaged(file, f"{type(error).__name__}: {error}") from error
    if array.ndim != 1:
        raise damaged(file, f"its shape is {array.shape}")
    return array


def check_arrays(path: Path, ratings: ClientRatings, meta: dict[str, Any]) -> None:
    """Refuse files that do not belong together, or hold what no such file can hold.

    Ratings are read once, piece by piece.

    Parameters
    ----------
    path : Path
    ratings : ClientRatings
    meta : dict
    """
    columns = [getattr(ratings, name) for name in ("items", "values", *OPTIONAL)]
    lengths = {len(column) for column in columns if column is not None}
    sizes = {"n_users": len(ratings.clients), "n_items": ratings.n_items}
    if (
        any(meta[name] != size for name, size in sizes.items())
        or lengths != {meta["n_ratings"]}
        or ratings.indptr.dtype.kind != "i"
        or len(ratings.indptr) != meta["n_users"] + 1
        or [ratings.indptr[0], ratings.indptr[-1]] != [0, meta["n_ratings"]]
        or (ratings.lengths < 0).any()
        or ratings.items.dtype != np.int32
    ):
        raise ValueError(f"The files of {path} do not belong together: save it again.")
    for start in range(0, len(ratings.items), _PIECE):
        _check_piece(path, ratings, slice(start, start + _PIECE))


def _check_piece(path: Path, ratings: ClientRatings, part: slice) -> None:
    """Refuse items that are not in the catalogue, and numbers that are none."""
    items = ratings.items[part]
    if items.min() < 0 or items.max() >= ratings.n_items:
        raise damaged(path / "items.npy", f"it names items beyond the {ratings.n_items} there are")
    for name, values in (
        ("ratings", ratings.values),
        ("weights", ratings.weights),
        ("scatter", ratings.scatter),
    ):
        if values is None:
            continue
        piece, least = values[part], 0 if name == "scatter" else np.finfo(np.float32).tiny
        if piece.dtype.kind != "f" or not np.isfinite(piece).all():
            raise damaged(path / f"{name}.npy", "it holds what is no finite number")
        if name != "ratings" and (piece < least).any():
            raise damaged(path / f"{name}.npy", f"it holds numbers below {least:g}")


def check_names(path: Path, name: str, ids: np.ndarray) -> np.ndarray:
    """Return ids if they are valid and distinct.

    Parameters
    ----------
    path : Path
    name : str
        Of the file.
    ids : ndarray of shape (n,)

    Returns
    -------
    ids : ndarray of shape (n,)
    """
    try:
        checked = check_ids(ids, name)
    except (TypeError, ValueError) as error:
        raise damaged(path / f"{name}.npy", str(error)) from error
    if len(IdIndex.fit(checked, name)) < len(checked):
        raise damaged(path / f"{name}.npy", "it names something more than once")
    return checked


def checksums(path: Path, optional: list[str]) -> dict[str, str]:
    """Digest of every array file of a folder, read piece by piece.

    Parameters
    ----------
    path : Path
    optional : list of str
        Those of `OPTIONAL` that are there.

    Returns
    -------
    digests : dict of str to str
    """
    return {name: _digest(path / f"{name}.npy") for name in (*REQUIRED, *optional)}


def check_sums(path: Path, meta: dict[str, Any]) -> None:
    """Refuse array files that are not those that were written.

    Parameters
    ----------
    path : Path
    meta : dict
    """
    for name, digest in checksums(path, meta["optional"]).items():
        if meta["checksums"].get(name) != digest:
            raise damaged(path / f"{name}.npy", "it does not match its checksum")


def _digest(path: Path) -> str:
    total = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            total.update(piece)
    return total.hexdigest()
