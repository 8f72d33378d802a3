"""Ratings on disk, user by user, that need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from .._types import ClientRatings
from ._base import id_table
from ._client_checks import (
    OPTIONAL,
    REQUIRED,
    check_arrays,
    check_names,
    check_sums,
    damaged,
    mapped,
    read_meta,
)


class ClientDataset:
    """Ratings in a folder, user by user, mapped into memory: read when they are used.

    It can be given to `FederatedReconstructionMF.fit` in the place of X, without y; rounds of
    sampled cohorts then read the ratings of their users and no others. `chunks` hands out
    tables for `partial_fit`. See `save_clients` for how to make one, and for the files.

    Parameters
    ----------
    path : str or path-like
        The folder.
    verify : bool, default=True
        Whether to compare all files with the checksums that were written with them, which reads
        everything once. Without, a changed rating is not noticed; that numbers are in range is
        looked at in any case, piece by piece.

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
        If the files are of another format or version, were changed, or do not belong together.

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

    def __init__(self, path: Any, *, verify: bool = True) -> None:
        self.path = Path(path)
        meta = read_meta(self.path)
        arrays = {name: mapped(self.path, name) for name in (*REQUIRED, *meta["optional"])}
        if verify:
            check_sums(self.path, meta)
        self.users = check_names(self.path, "users", np.array(arrays["users"]))
        self.items = check_names(self.path, "item_ids", np.array(arrays["item_ids"]))
        self.n_users, self.n_items = len(self.users), len(self.items)
        self.n_ratings = len(arrays["items"])
        try:
            low, high = map(float, meta["rating_range"])
            self.target_dtype = np.dtype({"float32": "f4", "float64": "f8"}[meta["target_dtype"]])
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise damaged(self.path / "meta.json", str(error)) from error
        self.rating_range = low, high
        self.merged = bool(meta["merged"])
        self._ratings = ClientRatings(
            indptr=np.array(arrays["indptr"]),
            items=arrays["items"],
            values=arrays["ratings"],
            n_items=self.n_items,
            clients=np.arange(self.n_users),
            weights=arrays.get("weights"),
            scatter=arrays.get("scatter"),
        )
        check_arrays(self.path, self._ratings, meta)

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
