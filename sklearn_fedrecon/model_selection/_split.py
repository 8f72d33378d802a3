"""Cross-validation that keeps every user whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from .._compat import warn_caller
from ._columns import distinct_ids


class UserKFold(BaseCrossValidator):
    """K folds of whole users: nobody is in training and test at once.

    The users are dealt to the folds at random, as equal in *number of users* as possible:
    every user has the same chance to be in any fold, whatever the number of its ratings.
    (Folds of equal numbers of ratings would tie the fold of a user to its activity.) The
    users are read from the table itself, so no ``groups`` have to be carried along.

    The fold of a user does not depend on the order of the rows.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    user_column : int or str, default=0
        Position of the column of users in X, or its name where X is a dataframe. In front
        of a `~sklearn.pipeline.Pipeline`, it is the column of the table that enters it.
    shuffle : bool, default=True
        Whether to shuffle the users; else the folds are runs of users in sorted order.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffling. Pass an int for the same folds in every call.

    See Also
    --------
    ReconstructionScorer : The scorer to go with it: an estimator knows nothing about the
        users of a test fold unless some of their ratings are revealed to it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_fedrecon.model_selection import UserKFold
    >>> X = np.array([["ann", 7], ["bob", 7], ["ann", 8], ["cem", 9], ["bob", 8]])
    >>> for train, test in UserKFold(n_splits=3, random_state=0).split(X):
    ...     print(train, test)
    [0 1 2 4] [3]
    [0 2 3] [1 4]
    [1 3 4] [0 2]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        user_column: int | str = 0,
        shuffle: bool = True,
        random_state: Any = None,
    ) -> None:
        whole = isinstance(n_splits, int | np.integer) and not isinstance(n_splits, bool)
        if not whole or n_splits < 2:
            raise ValueError(f"n_splits must be an integer of at least 2; got {n_splits!r}.")
        if not isinstance(shuffle, bool | np.bool_):
            raise TypeError(f"shuffle must be True or False; got {shuffle!r}.")
        if not shuffle and random_state is not None:
            raise ValueError(
                f"random_state={random_state!r} has no effect with shuffle=False; leave it "
                "out, or set shuffle=True."
            )
        self.n_splits = n_splits
        self.user_column = user_column
        self.shuffle = shuffle
        self.random_state = random_state

    def split(self, X, y=None, groups=None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate the row indices of every training and test set.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_ratings, n_columns)
            Ratings table.
        y : array-like of shape (n_ratings,), default=None
            Ignored.
        groups : None
            Not used, here by convention; a warning says so where it is given.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Rows of the users of all other folds, ascending.
        test : ndarray of shape (n_test,)
            Rows of the users of this fold, ascending.

        Raises
        ------
        ValueError
            If there are fewer users than folds, or the column of users is not there.
        """
        if groups is not None:
            warn_caller(
                f"groups is ignored by UserKFold, which reads user_column={self.user_column!r}.",
                UserWarning,
            )
        yield from super().split(X, y)

    def get_n_splits(self, X=None, y=None, groups=None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X : object, default=None
            Ignored.
        y : object, default=None
            Ignored.
        groups : object, default=None
            Ignored.

        Returns
        -------
        int
            Number of folds.
        """
        return self.n_splits

    def _iter_test_masks(self, X=None, y=None, groups=None) -> Iterator[np.ndarray]:
        """Mark the rows of every fold."""
        ids, users = distinct_ids(X, self.user_column, "user_column")
        if len(ids) < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} folds of whole users need at least as many users; "
                f"X has {len(ids)} in user_column={self.user_column!r}."
            )
        order = np.arange(len(ids))
        if self.shuffle:
            order = check_random_state(self.random_state).permutation(len(ids))
        for fold in np.array_split(order, self.n_splits):
            held_out = np.zeros(len(ids), dtype=bool)
            held_out[fold] = True
            yield held_out[users]
