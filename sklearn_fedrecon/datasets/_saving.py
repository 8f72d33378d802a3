"""From tables to ratings on disk, chunk by chunk."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import numpy as np

from ._client_checks import META
from ._client_files import Writer
from ._clients import ClientDataset


def save_clients(
    path,
    X,
    y,
    *,
    sample_weight=None,
    user_column=0,
    item_column=1,
    items=None,
    dtype="float32",
    overwrite=False,
):
    """Save a table of ratings user by user, to be mapped into memory.

    Parameters
    ----------
    path : str or path-like
        The folder to make.
    X : {array-like, dataframe} of shape (n_ratings, n_columns)
        Ratings table, in any order.
    y : array-like of shape (n_ratings,)
        Ratings.
    sample_weight : array-like of shape (n_ratings,), default=None
        Weights of the ratings; those of weight zero are left out.
    user_column, item_column : int or str, default=0, 1
        Position of the columns of users and items in X, or their names in a dataframe.
    items : array-like of shape (n_items,), default=None
        The public catalogue. None takes the items that were rated.
    dtype : {"float32", "float64"}, default="float32"
        Type that ratings are stored in; the ``dtype`` of the estimator that is to read them.
    overwrite : bool, default=False
        Whether a data set that is there already may be replaced.

    Returns
    -------
    dataset : ClientDataset
        What has been saved.

    Raises
    ------
    FileExistsError
        If there is something at `path`.
    TypeError, ValueError
        If ids, ratings or weights are not valid, as in `FederatedReconstructionMF.fit`.

    See Also
    --------
    save_client_chunks : For tables that do not fit into memory.

    Notes
    -----
    The folder holds ``meta.json`` (format, version, range of the ratings) and arrays in NumPy's
    own format, ``.npy``, without pickle: user ``u`` of ``users`` (n_users,) owns the places
    ``indptr[u]`` to ``indptr[u + 1]`` (n_users + 1, int64) of ``items`` (n_ratings, int32:
    positions in ``item_ids`` (n_items,), ascending within a user) and of ``ratings``
    (n_ratings,). ``weights`` and ``scatter`` (n_ratings,) are there where they are needed:
    several ratings that a user gave an item are stored as one, their weighted mean, with the
    sum of their weights and of their weighted squared distances from it.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_fedrecon.datasets import make_ratings, save_clients
    >>> X, y = make_ratings(
    ...     n_users=80, n_items=40, n_ratings=1600, random_state=0, return_X_y=True
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     ratings = save_clients(f"{folder}/ratings", X, y)
    ...     first = next(ratings.chunks(n_users=10))
    >>> first.data.shape, first.target.shape
    ((212, 2), (212,))
    """
    return save_client_chunks(
        path,
        [(X, y, sample_weight)],
        user_column=user_column,
        item_column=item_column,
        items=items,
        dtype=dtype,
        overwrite=overwrite,
    )


def save_client_chunks(
    path,
    chunks,
    *,
    user_column=0,
    item_column=1,
    items=None,
    dtype="float32",
    overwrite=False,
):
    """Save tables that come one after the other, each with all ratings of its users.

    Parameters
    ----------
    path : str or path-like
        The folder to make.
    chunks : iterable of tuple
        Each ``(X, y)`` or ``(X, y, sample_weight)``, as of `save_clients`. Only one of them is
        in memory at a time. Users are stored in the order of the chunks, ascending within one.
    user_column, item_column : int or str, default=0, 1
        Position of the columns of users and items in X, or their names in a dataframe.
    items : array-like of shape (n_items,), default=None
        The public catalogue. None takes the items that were rated.
    dtype : {"float32", "float64"}, default="float32"
        Type that ratings are stored in.
    overwrite : bool, default=False
        Whether a data set that is there already may be replaced.

    Returns
    -------
    dataset : ClientDataset
        What has been saved.

    Raises
    ------
    FileExistsError
        If there is something at `path`.
    TypeError, ValueError
        If ids, ratings or weights are not valid, or a user comes in two chunks.

    See Also
    --------
    save_clients : For one table; describes the files.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_fedrecon.datasets import make_ratings, save_client_chunks
    >>> X, y = make_ratings(
    ...     n_users=80, n_items=40, n_ratings=1600, random_state=0, return_X_y=True
    ... )
    >>> halves = X[:, 0] < 40, X[:, 0] >= 40
    >>> with TemporaryDirectory() as folder:
    ...     save_client_chunks(f"{folder}/ratings", ((X[half], y[half]) for half in halves))
    ClientDataset: 1,600 ratings of 40 items by 80 users
    """
    path = Path(path)
    _check_place(path, overwrite)
    # A name of its own: two that write to one path at a time must not write into one folder.
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.unfinished")
    unfinished.mkdir(parents=True)
    try:
        writer = Writer(unfinished, user_column, item_column, items, np.dtype(dtype))
        for chunk in chunks:
            writer.add(*chunk)
        writer.finish()
        _put_in_place(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return ClientDataset(path, verify=False)  # the checksums are of this moment


def _put_in_place(unfinished: Path, path: Path) -> None:
    """Give the finished folder its name; one that had it is moved away first, not taken apart.

    Killed in between, it leaves the old set whole under another name beside, never half of one.
    """
    for file in unfinished.iterdir():
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    if not path.exists():
        os.replace(unfinished, path)
        return
    replaced = path.with_name(f"{path.name}.{secrets.token_hex(4)}.replaced")
    os.replace(path, replaced)
    try:
        os.replace(unfinished, path)
    except OSError:
        os.replace(replaced, path)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _check_place(path: Path, overwrite: bool) -> None:
    """Refuse to write over something, and in any case over what is no client data set."""
    if not path.exists():
        return
    if not overwrite:
        raise FileExistsError(f"There is something at {path}: remove it, or pass overwrite=True.")
    if not (path / META).is_file():
        raise FileExistsError(f"{path} is no client data set, so it is not overwritten.")
