"""Ratings on disk, user by user, that need not fit into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from .._types import ClientRatings
from ._base import id_table

FORMAT = "sklearn-fedrecon clients"
VERSION = 1
META = "meta.json"
REQUIRED = ("indptr", "items", "ratings", "users", "item_ids")
OPTIONAL = ("weights", "scatter")


class ClientDataset:
    """Ratings in a folder, user by user, mapped into memory: read when they are used.

    It can be given to `FederatedReconstructionMF.fit` in the place of X, without y; rounds of
    sampled cohorts then read the ratings of their users and no others. `chunks` hands out
    tables for `partial_fit`. See `save_clients` for how to make one, and for the files.

    Parameters
    ----------
    path : str or path-like
        The folder.

    Attributes
    ----------
    path : Path
        The folder.
    users : ndarray of shape (n_users,)
        User ids.
    items : ndarray of shape (n_items,)
        Item ids, ascending: the catalogue.
    n_users, n_items, n_ratings : int
        Numbers of each.
    rating_range : tuple of (float, float)
        Lowest and highest rating.
    merged : bool
        Whether somebody had rated an item more than once; only the mean is there.
    target_dtype : dtype
        Type that the ratings had when they were saved.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or a file of it is missing.
    ValueError
        If the files are of another format or version, or do not belong together.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_fedrecon import FederatedReconstructionMF
    >>> from sklearn_fedrecon.datasets import ClientDataset, make_ratings, save_clients
    >>> X, y = make_ratings(
    ...     n_users=80, n_items=40, n_ratings=1600, random_state=0, return_X_y=True
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     path = save_clients(f"{folder}/ratings", X, y).path
    ...     ratings = ClientDataset(path)
    ...     model = FederatedReconstructionMF(4, clients_per_round=20, random_state=0)
    ...     model = model.fit(ratings)
    >>> ratings
    ClientDataset: 1,600 ratings of 40 items by 80 users
    >>> model.user_factors_.shape
    (80, 4)
    """

    def __init__(self, path):
        self.path = Path(path)
        meta = _read_meta(self.path)
        arrays = {name: _mapped(self.path, name) for name in REQUIRED}
        arrays |= {name: _mapped(self.path, name) for name in meta["optional"]}
        self.users, self.items = np.array(arrays["users"]), np.array(arrays["item_ids"])
        self.n_users, self.n_items = len(self.users), len(self.items)
        self.n_ratings = len(arrays["items"])
        self.rating_range = tuple(meta["rating_range"])
        self.merged = bool(meta["merged"])
        self.target_dtype = np.dtype(meta["target_dtype"])
        self._ratings = ClientRatings(
            indptr=np.array(arrays["indptr"]),
            items=arrays["items"],
            values=arrays["ratings"],
            n_items=self.n_items,
            clients=np.arange(self.n_users),
            weights=arrays.get("weights"),
            scatter=arrays.get("scatter"),
        )
        _check(self.path, self._ratings, meta)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the table that it stands for: (n_ratings, 2)."""
        return self.n_ratings, 2

    def __repr__(self) -> str:
        return (
            f"ClientDataset: {self.n_ratings:,} ratings of {self.n_items:,} items by "
            f"{self.n_users:,} users"
        )

    def take(self, positions) -> Bunch:
        """Read all ratings of some users as a table.

        Parameters
        ----------
        positions : array-like of shape (n_chosen,)
            Positions in `users`; negative ones are not counted from the end.

        Returns
        -------
        table : :class:`~sklearn.utils.Bunch`
            ``data`` of shape (n_rows, 2) with the ids of users and items, ``target`` of shape
            (n_rows,), and ``sample_weight`` of shape (n_rows,), None where all are one.

        Raises
        ------
        IndexError
            If a position is out of range.
        """
        positions = np.asarray(positions, dtype=np.intp)
        if len(positions) and not 0 <= positions.min() <= positions.max() < self.n_users:
            raise IndexError(
                f"Positions from {positions.min()} to {positions.max()}: expected some from 0 to "
                f"{self.n_users - 1}."
            )
        chosen = self._ratings.take(positions)
        users = np.repeat(self.users[positions], chosen.lengths)
        return Bunch(
            data=id_table(users, self.items[chosen.items]),
            target=chosen.values.astype(self.target_dtype, copy=False),
            sample_weight=chosen.weights,
        )

    def chunks(
        self, n_users: int = 10_000, *, shuffle=False, random_state=None
    ) -> Iterator[Bunch]:
        """Go through all users once, some at a time.

        Parameters
        ----------
        n_users : int, default=10_000
            Users of a chunk; the last one may be smaller.
        shuffle : bool, default=False
            Whether chunks are random users, or neighbours in `users`.
        random_state : int, RandomState instance or None, default=None
            Which users come together, with ``shuffle=True``.

        Yields
        ------
        table : :class:`~sklearn.utils.Bunch`
            As of `take`.
        """
        if not isinstance(n_users, Integral) or n_users < 1:
            raise ValueError(f"n_users={n_users!r} has to be a number of users, at least one.")
        order = np.arange(self.n_users)
        if shuffle:
            order = check_random_state(random_state).permutation(order)
        for start in range(0, self.n_users, n_users):
            yield self.take(np.sort(order[start : start + n_users]))

    def client_ratings(self, dtype) -> ClientRatings:
        """Ratings as they are inside, mapped into memory if they are of the type wanted.

        Parameters
        ----------
        dtype : dtype
            Type of the arithmetic.

        Returns
        -------
        ratings : ClientRatings
            Of clients 0 to ``n_users - 1``.
        """
        columns = {name: getattr(self._ratings, name) for name in ("values", *OPTIONAL)}
        fitting: dict[str, Any] = {
            name: values if values is None else values.astype(dtype, copy=False)
            for name, values in columns.items()
        }
        return ClientRatings(
            self._ratings.indptr,
            self._ratings.items,
            n_items=self.n_items,
            clients=self._ratings.clients,
            **fitting,
        )


def _read_meta(path: Path) -> dict:
    """What the folder says about itself."""
    if not (path / META).is_file():
        raise FileNotFoundError(
            f"There is no client data set at {path}, as it has no file {META}: make one by "
            "save_clients."
        )
    meta = json.loads((path / META).read_text(encoding="utf-8"))
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path / META} is not of the format {FORMAT!r}.")
    if meta["version"] != VERSION:
        raise ValueError(
            f"{path} has version {meta['version']} of the format, and this release reads version "
            f"{VERSION}: save it again."
        )
    return meta


def _mapped(path: Path, name: str) -> np.ndarray:
    """One array of the folder, mapped into memory."""
    if not (path / f"{name}.npy").is_file():
        raise FileNotFoundError(f"{path} is incomplete: it has no file {name}.npy.")
    return np.load(path / f"{name}.npy", mmap_mode="r").view(np.ndarray)


def _check(path: Path, ratings: ClientRatings, meta: dict) -> None:
    """Refuse files that do not belong together."""
    columns = [getattr(ratings, name) for name in ("items", "values", *OPTIONAL)]
    lengths = {len(column) for column in columns if column is not None}
    sizes = {"n_users": len(ratings.clients), "n_items": ratings.n_items}
    if (
        any(meta[name] != size for name, size in sizes.items())
        or lengths != {meta["n_ratings"]}
        or len(ratings.indptr) != meta["n_users"] + 1
        or [ratings.indptr[0], ratings.indptr[-1]] != [0, meta["n_ratings"]]
        or (ratings.lengths < 0).any()
        or ratings.items.dtype != np.int32
    ):
        raise ValueError(f"The files of {path} do not belong together: save it again.")
