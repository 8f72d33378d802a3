"""A random order of every user's items that depends on ids and seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from sklearn.utils import murmurhash3_32

from ._columns import distinct_ids


@dataclass(frozen=True)
class RatedPairs:
    """Who rated what, as positions among the distinct ids of a table.

    Attributes
    ----------
    user_ids : ndarray of shape (n_users,)
        Sorted distinct users.
    users : ndarray of shape (n_ratings,)
        Position of every row's user in ``user_ids``.
    item_ids : ndarray of shape (n_items,)
        Sorted distinct items.
    items : ndarray of shape (n_ratings,)
        Position of every row's item in ``item_ids``.
    """

    user_ids: np.ndarray
    users: np.ndarray
    item_ids: np.ndarray
    items: np.ndarray

    @classmethod
    def from_table(cls, X, user_column, item_column) -> RatedPairs:
        """Read the two id columns of a table."""
        return cls(
            *distinct_ids(X, user_column, "user_column"),
            *distinct_ids(X, item_column, "item_column"),
        )

    def random_ranks(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rank of every row's item in a random order of its user's items.

        The order of a user depends on the seed and on its own ids alone. Rows of the same
        user and item have the same rank.

        Parameters
        ----------
        seed : int

        Returns
        -------
        ranks : ndarray of shape (n_ratings,)
            From 0.
        counts : ndarray of shape (n_ratings,)
            Number of distinct items of the row's user.
        """
        n_items = len(self.item_ids)
        pairs, pair = np.unique(self.users * n_items + self.items, return_inverse=True)
        owner, item = np.divmod(pairs, n_items)
        user_keys, item_keys = _hash(self.user_ids, seed), _hash(self.item_ids, seed)
        keys = _mix(user_keys[owner] << np.uint64(32) | item_keys[item])
        counts = np.bincount(owner, minlength=len(self.user_ids))
        begins = np.cumsum(counts) - counts
        ranks = np.empty(len(pairs), dtype=np.int64)
        ranks[np.lexsort((keys, owner))] = np.arange(len(pairs)) - begins[owner]
        return ranks[pair], counts[self.users]

    def support(self, size: float, seed: int) -> np.ndarray:
        """Mark the rows to reveal: a number or a share of every user's items.

        Parameters
        ----------
        size : int or float
            At least one item of every user stays out, whatever the size.
        seed : int

        Returns
        -------
        ndarray of shape (n_ratings,), bool
        """
        ranks, counts = self.random_ranks(seed)
        whole = isinstance(size, Integral)
        wanted = np.full_like(counts, size) if whole else share(size, counts)
        return ranks < np.minimum(wanted, counts - 1)


def share(fraction: float, counts: np.ndarray) -> np.ndarray:
    """The fraction of counts, rounded down; 0.3 of 10 is 3 in spite of binary fractions."""
    return np.floor(np.round(fraction * counts, 6)).astype(np.int64)


def check_support_size(support_size: float) -> None:
    """Refuse what is neither a share in (0, 1) nor a number of items."""
    if isinstance(support_size, Integral) and not isinstance(support_size, bool):
        valid = support_size >= 0
    else:
        valid = isinstance(support_size, Real) and 0 < support_size < 1
    if not valid:
        raise ValueError(
            "support_size must be a float in (0, 1), the share of a user's items, or an int "
            f"of at least 0, their number; got {support_size!r}."
        )


def check_seed(random_state, consequence: str) -> None:
    """Refuse seeds that would not give the same split again."""
    if not isinstance(random_state, Integral) or isinstance(random_state, bool):
        raise TypeError(f"random_state must be an int; got {random_state!r}. {consequence}")


def _hash(ids: np.ndarray, seed: int) -> np.ndarray:
    """32-bit hashes of ids; 5, 5.0 and "5" are the same id in different containers."""
    texts = (
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        for value in ids.tolist()
    )
    seed = int(seed) % 2**31
    return np.array([murmurhash3_32(text, seed, positive=True) for text in texts], np.uint64)


def _mix(keys: np.ndarray) -> np.ndarray:
    """Scramble 64-bit keys so that similar keys do not sort alike (the SplitMix64 finalizer)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))
