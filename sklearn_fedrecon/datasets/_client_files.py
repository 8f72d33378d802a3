"""The files of a client data set, as they are written."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np

from .._encoding import (
    IdIndex,
    check_ids,
    check_targets,
    drop_zero_weight,
    encode_ratings,
    read_columns,
)
from .._types import ClientRatings, chunk_bounds, starts_and_end
from ._client_checks import FORMAT, META, OPTIONAL, VERSION, checksums

_BLOCK = 1 << 20  # ratings that are copied at once


class Writer:
    """Appends tables to raw files of a folder, and makes a data set of them in the end.

    Parameters
    ----------
    folder : Path
    user_column, item_column : int or str
    items : array-like of shape (n_items,) or None
        The catalogue, or None for the items that come.
    dtype : dtype
        Of everything but indices.
    """

    def __init__(self, folder: Path, user_column, item_column, items, dtype: np.dtype):
        self._folder, self._columns, self._dtype = folder, (user_column, item_column), dtype
        self._users: IdIndex | None = None
        self._items = IdIndex(np.empty(0, dtype=np.int64), "item")
        self._fixed = items is not None
        if self._fixed:
            self._items = IdIndex.fit(check_ids(items, "items"), "item")
        self._lengths: list[np.ndarray] = []
        self._targets: list[np.dtype] = []
        self._low, self._high = np.inf, -np.inf
        self._needed = dict.fromkeys(OPTIONAL, False)
        self._merged = False

    def add(self, X, y, sample_weight=None) -> None:
        """Append the users of one table."""
        users, items = read_columns(X, *self._columns)
        y, weights = check_targets(y, sample_weight, len(users))
        users, items, y, weights = drop_zero_weight(users, items, y, weights)
        ours = self._add_users(users)
        self._add_items(items)
        ratings = encode_ratings(
            ours.encode(users),
            self._items.encode_known(items),
            y,
            weights,
            n_items=len(self._items),
            dtype=self._dtype,
        )
        self._lengths.append(ratings.lengths)
        self._targets.append(y.dtype)
        self._low, self._high = min(self._low, y.min()), max(self._high, y.max())
        self._merged |= ratings.n_ratings < len(y)
        self._append(ratings)

    def _add_users(self, users: np.ndarray) -> IdIndex:
        """Index of the users of one table, all of whom have to be new."""
        ours = IdIndex.fit(users, "user")
        if self._users is None:
            self._users = ours
            return ours
        known = ours.ids[self._users.encode(ours.ids) >= 0]
        if len(known):
            shown = ", ".join(map(repr, known[:5].tolist()))
            raise ValueError(
                f"{len(known)} user(s) come in more than one chunk: {shown}. All ratings of a "
                "user have to be in the same one."
            )
        self._users = self._users.union(ours.ids)
        return ours

    def _add_items(self, items: np.ndarray) -> None:
        """Let items that are new follow those known, unless there is a catalogue."""
        if not self._fixed:
            self._items = self._items.union(items)

    def _append(self, ratings: ClientRatings) -> None:
        """Write the columns of a table to the ends of their files."""
        columns = {
            "items": ratings.items,
            "ratings": ratings.values,
            "weights": ratings.rating_weights(),
            "scatter": ratings.scatter,
        }
        for name in OPTIONAL:
            self._needed[name] |= getattr(ratings, name) is not None
        for name, values in columns.items():
            values = np.zeros_like(ratings.values) if values is None else values
            with open(self._folder / f"{name}.raw", "ab") as file:
                values.tofile(file)

    def finish(self) -> None:
        """Put the items in order and write the arrays and what they are."""
        if self._users is None:
            raise ValueError("There are no chunks, so there is nothing to save.")
        optional = [name for name in OPTIONAL if self._needed[name]]
        catalogue = IdIndex.fit(self._items.ids, "item")
        indptr = starts_and_end(np.concatenate(self._lengths))
        self._write_columns(indptr, catalogue.encode(self._items.ids), optional)
        np.save(self._folder / "indptr.npy", indptr)
        np.save(self._folder / "users.npy", _without_objects(self._users.ids, "User"))
        np.save(self._folder / "item_ids.npy", _without_objects(catalogue.ids, "Item"))
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "n_users": len(self._users),
            "n_items": len(catalogue),
            "n_ratings": int(indptr[-1]),
            "optional": optional,
            "rating_range": [float(self._low), float(self._high)],
            "merged": self._merged,
            "target_dtype": np.result_type(*self._targets).name,
            "checksums": checksums(self._folder, optional),
        }
        (self._folder / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def _write_columns(self, indptr: np.ndarray, places: np.ndarray, optional: list[str]) -> None:
        """Write a number a rating, with ``places`` for items, in ascending order of a user's."""
        types = {"items": np.dtype(np.int32), "ratings": self._dtype}
        types |= dict.fromkeys(optional, self._dtype)
        raw = {name: self._raw(name, dtype) for name, dtype in types.items()}
        columns = {
            name: np.lib.format.open_memmap(
                self._folder / f"{name}.npy", mode="w+", dtype=dtype, shape=(int(indptr[-1]),)
            )
            for name, dtype in types.items()
        }
        bounds = chunk_bounds(indptr, _BLOCK)
        for start, stop in pairwise(bounds):
            ours = slice(indptr[start], indptr[stop])
            items = places[raw["items"][ours]]
            owners = np.repeat(np.arange(stop - start), np.diff(indptr[start : stop + 1]))
            order = np.argsort(owners * len(places) + items)
            columns["items"][ours] = items[order]
            for name in types.keys() - {"items"}:
                columns[name][ours] = raw[name][ours][order]
        del raw, columns
        for path in self._folder.glob("*.raw"):
            path.unlink()

    def _raw(self, name: str, dtype: np.dtype) -> np.ndarray:
        return np.memmap(self._folder / f"{name}.raw", dtype=dtype, mode="r")


def _without_objects(ids: np.ndarray, what: str) -> np.ndarray:
    """Ids as an array that is saved without pickle."""
    if ids.dtype.kind != "O":
        return ids
    plain = np.array(ids.tolist())
    if plain.dtype.kind not in "US" or not np.array_equal(plain.astype(object), ids):
        raise TypeError(
            f"{what} ids of type {type(ids[0]).__name__} such as {ids[0]!r} cannot be saved "
            "without pickle: use numbers or strings (that do not end in a null)."
        )
    return plain
