"""Ids and their indices, both ways."""

from __future__ import annotations

from itertools import repeat

import numpy as np

from ._ids import kind_of_ids

_TABLE_SIZE = 2**20


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


def group_begins(keys: np.ndarray) -> np.ndarray:
    """Whether a key differs from the one before it."""
    begins = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=begins[1:])
    return begins


def sorted_unique(ids: np.ndarray) -> np.ndarray:
    """Distinct ids in ascending order."""
    if ids.dtype.kind in "OUS":
        try:
            ordered = sorted(set(ids.tolist()))
        except TypeError as error:
            raise TypeError(
                f"Ids that are {kind_of_ids(ids)} cannot be put in order ({error}); use strings "
                "or numbers."
            ) from error
        return np.fromiter(ordered, dtype=ids.dtype, count=len(ordered))
    ordered = np.sort(ids)
    return ordered[group_begins(ordered)]


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
        if inside.all():
            return self.table[keys - self.low]
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
        self.kind = kind_of_ids(ids)
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
        return cls(sorted_unique(ids), name)

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
        kind = kind_of_ids(ids)
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
        unknown = sorted_unique(ids[indices < 0]).tolist()
        if unknown:
            shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            raise ValueError(
                f"{len(unknown)} {self.name} id(s) are unknown: {shown}. Expected ids among the "
                f"{len(self)} known ones; leave the others out."
            )
        return indices

    def union(self, ids: np.ndarray) -> IdIndex:
        """Index that also knows ``ids``; new ones follow the old ones, in ascending order."""
        new = sorted_unique(ids[self.encode(ids) < 0])
        if len(new) == 0:
            return self
        return IdIndex(new if self.kind is None else _append(self.ids, new), self.name)
