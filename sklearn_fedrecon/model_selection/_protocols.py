"""The standard protocols: which ratings are fitted, revealed and predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.utils import check_random_state

from ._columns import read_column
from ._pairs import RatedPairs, share

PROTOCOLS = ("warm", "unseen_users", "cold_start", "time_ordered")


@dataclass(frozen=True)
class Protocol:
    """One way to hold ratings out.

    Attributes
    ----------
    name : str
    train : ndarray of shape (n_ratings,), bool
        Rows to fit on.
    shown : ndarray of shape (n_ratings,), bool
        Rows that the model has been shown of the users to predict, in training or after.
    query : ndarray of shape (n_ratings,), bool
        Rows to predict.
    unseen : bool
        Whether the users to predict are not in training: what is shown of them is revealed
        to the fitted model.
    """

    name: str
    train: np.ndarray
    shown: np.ndarray
    query: np.ndarray
    unseen: bool


def protocol_names(protocols, time_column) -> list[str]:
    """Names of the protocols that were asked for."""
    if isinstance(protocols, str) and protocols == "all":
        return [*PROTOCOLS[:3], *(PROTOCOLS[3:] if time_column is not None else ())]
    names = [protocols] if isinstance(protocols, str) else list(protocols)
    unknown = [name for name in names if name not in PROTOCOLS]
    if unknown or not names:
        raise ValueError(f"protocols must be 'all' or some of {PROTOCOLS}; got {protocols!r}.")
    if "time_ordered" in names and time_column is None:
        raise ValueError("The protocol 'time_ordered' needs time_column=, the column of times.")
    return names


def protocol(name: str, pairs: RatedPairs, X, time_column, test_size, support_size, seed):
    """Hold ratings out in the way that a protocol's name says.

    Parameters
    ----------
    name : str
        One of `PROTOCOLS`.
    pairs : RatedPairs
    X : table of shape (n_ratings, n_columns)
    time_column : int, str or None
    test_size : float
        Share of every user's items, of the users, or of the ratings.
    support_size : int or float
        What is revealed of an unseen user.
    seed : int

    Returns
    -------
    Protocol
    """
    if name == "warm":
        ranks, counts = pairs.random_ranks(seed)
        test = ranks >= counts - share(test_size, counts)
        made = Protocol(name, ~test, ~test, test, unseen=False)
    elif name == "time_ordered":
        test = _latest(read_column(X, time_column, "time_column"), test_size)
        made = Protocol(name, ~test, ~test, test, unseen=False)
    else:
        held_out = _some_users(pairs, test_size, seed)
        support = held_out & pairs.support(support_size, seed)
        shown = support if name == "unseen_users" else np.zeros_like(support)
        made = Protocol(name, ~held_out, shown, held_out & ~support, unseen=True)
    if not made.query.any() or not made.train.any():
        raise ValueError(
            f"The protocol {name!r} with test_size={test_size} leaves "
            f"{np.count_nonzero(made.train)} ratings to fit and "
            f"{np.count_nonzero(made.query)} to predict; give more ratings or another size."
        )
    return made


def _some_users(pairs: RatedPairs, test_size: float, seed: int) -> np.ndarray:
    """Rows of a random share of the users, of one user at least."""
    n_users = len(pairs.user_ids)
    n_held_out = max(1, int(share(test_size, np.array(n_users))))
    held_out = np.zeros(n_users, dtype=bool)
    held_out[check_random_state(seed).permutation(n_users)[:n_held_out]] = True
    return held_out[pairs.users]


def _latest(column, test_size: float) -> np.ndarray:
    """The latest share of the rows; rows of one time stay together, in training."""
    times = np.asarray(column)
    if times.dtype.kind not in "iufMO" or any(isinstance(time, str) for time in times[:1]):
        raise TypeError(
            f"The column of times holds {times.dtype} values; convert it to numbers or "
            "datetimes, which have an order that is sure."
        )
    if (times != times).any():
        raise ValueError("The column of times holds missing values; drop these rows.")
    n_train = len(times) - int(share(test_size, np.array(len(times))))
    return np.asarray(times > np.sort(times)[n_train - 1], dtype=bool)
