"""Scoring on users that were not in training: reveal some ratings, predict the others."""

from __future__ import annotations

from inspect import signature

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import check_scoring, get_scorer
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.metadata_routing import UNUSED

from .._compat import warn_caller
from ._columns import distinct_ids, take_rows
from ._pairs import RatedPairs, check_seed, check_support_size
from ._reveal import last_step, reveal


class KnownUsersWarning(UserWarning):
    """Some users of an evaluation on unseen users were in training.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_fedrecon.model_selection import KnownUsersWarning
    >>> warnings.simplefilter("error", KnownUsersWarning)  # stop instead of warning
    >>> warnings.simplefilter("default", KnownUsersWarning)
    """


class ReconstructionScorer(BaseEstimator):
    """Scorer for users that were not in training.

    Every user's ratings are split into *support* and *query*. The support is revealed: the
    estimator reconstructs the user from it, as a device would (``personalize``). The query
    is predicted and scored. Use it with `UserKFold`, wherever scikit-learn takes
    ``scoring=``. A plain scorer grades unseen users by the cold start instead, which no
    hyper-parameter of the factors can change.

    The split depends on ``random_state`` and on the ids of users and items alone, not on
    the order of the rows, on other users or on the estimator: all candidates of a search
    see the same ratings. Ratings of the same user and item stay on the same side, and the
    supports of growing ``support_size`` contain one another.

    Parameters
    ----------
    scoring : str, callable, list, tuple, set or dict, \
            default="neg_root_mean_squared_error"
        Scorer of the query: a name, a scorer ``scorer(estimator, X, y)``, or several of
        them by name as in `~sklearn.model_selection.cross_validate`; then the score is a
        dict.
    support_size : int or float, default=0.5
        A float in (0, 1): share of every user's items to reveal, rounded down. An int of at
        least 0: number of items to reveal. At least one item of every user is always left
        for the query; a user with a single one is predicted from the cold start, as it
        would be in use.
    user_column : int or str, default=None
        Column of users in the table that is scored, by position or by name. None takes the
        ``user_column`` of the estimator. Only looked at where a Pipeline transforms the
        table before the estimator sees it.
    random_state : int, default=0
        Seed of the split. Only an int: with anything else, candidates of a search would be
        compared on different ratings.

    Warns
    -----
    KnownUsersWarning
        If some users were in training, other than exactly all of them. Scoring the whole
        training set (``return_train_score=True``, learning curves) is no mistake: its users
        are forgotten and reconstructed likewise, but the items learned from their ratings.

    See Also
    --------
    UserKFold : Folds of whole users.

    Notes
    -----
    Stored users are forgotten first: a user's state never comes from anything but its
    support. Zero-weight ratings are left out before the split.

    Before the last step of a Pipeline, the table is transformed by the other steps; users
    that were different must stay different, which an ``OrdinalEncoder`` on the users
    breaks without a sound (all unseen users become -1).

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_fedrecon import FederatedReconstructionMF
    >>> from sklearn_fedrecon.datasets import make_ratings
    >>> from sklearn_fedrecon.model_selection import ReconstructionScorer, UserKFold
    >>> X, y = make_ratings(
    ...     n_users=100,
    ...     n_items=40,
    ...     n_ratings=2000,
    ...     n_components=2,
    ...     component_variance=1.0,
    ...     random_state=0,
    ...     return_X_y=True,
    ... )
    >>> search = GridSearchCV(
    ...     FederatedReconstructionMF(random_state=0),
    ...     {"n_components": [0, 2]},
    ...     cv=UserKFold(n_splits=3, random_state=0),
    ...     scoring=ReconstructionScorer(support_size=0.5),
    ... )
    >>> search.fit(X, y).best_params_
    {'n_components': 2}
    """

    __metadata_request__score = {"estimator": UNUSED}  # noqa: RUF012

    def __init__(
        self,
        scoring="neg_root_mean_squared_error",
        *,
        support_size=0.5,
        user_column=None,
        random_state=0,
    ):
        self.scoring = scoring
        self.support_size = support_size
        self.user_column = user_column
        self.random_state = random_state

    @property
    def __name__(self) -> str:
        """Name of the score; scikit-learn's displays label axes with it."""
        if isinstance(self.scoring, str):
            return self.scoring
        sign = "neg_" if getattr(self.scoring, "_sign", 1) < 0 else ""
        function = getattr(self.scoring, "_score_func", self.scoring)
        return sign + getattr(function, "__name__", "reconstruction_score")

    def __call__(self, estimator, X, y, sample_weight=None):
        """Score a fitted estimator on users that it has not seen.

        Parameters
        ----------
        estimator : estimator object
            A fitted estimator with ``forget_users`` and ``personalize``, a Pipeline that
            ends in one, or a search that found one.
        X : {array-like, dataframe} of shape (n_ratings, n_columns)
            Ratings table of the held-out users.
        y : array-like of shape (n_ratings,)
            Their ratings.
        sample_weight : array-like of shape (n_ratings,), default=None
            Weights, used in the reconstruction and in the score.

        Returns
        -------
        float or dict of str to float
            The score of the query ratings; higher is better by scikit-learn's convention.
        """
        check_support_size(self.support_size)
        check_seed(
            self.random_state, "Candidates of a search would be compared on different ratings."
        )
        check_consistent_length(X, y, sample_weight)
        y = column_or_1d(y)
        if sample_weight is not None:
            sample_weight = column_or_1d(sample_weight)
            rows = np.flatnonzero(sample_weight)
            X, y, sample_weight = take_rows(X, rows), y[rows], sample_weight[rows]
        model, table = last_step(estimator, X)
        pairs = RatedPairs.from_table(table, model.user_column, model.item_column)
        if table is not X:
            self._check_users_stay_apart(X, model, pairs)
        warn_if_known(model, pairs.user_ids)
        support = pairs.support(self.support_size, self.random_state)
        model = reveal(model, table, y, sample_weight, support)
        query = np.flatnonzero(~support)
        options = {} if sample_weight is None else {"sample_weight": sample_weight[query]}
        return self._score(model, take_rows(table, query), y[query], options)

    # Metadata routing reads what a scorer takes from a method of this name, and makes
    # set_score_request(sample_weight=True) of it.
    score = __call__

    def _score(self, model, X, y, options: dict):
        """Apply the inner scorer, or all of them."""
        scores = {
            name: check_scoring(model, scoring)(model, X, y, **options)
            for name, scoring in self._scorings().items()
        }
        return scores if self._has_several_scores() else scores["score"]

    def _check_users_stay_apart(self, X, model, pairs: RatedPairs) -> None:
        """Refuse a Pipeline whose leading steps merge or split users."""
        column = model.user_column if self.user_column is None else self.user_column
        raw_ids, raw = distinct_ids(X, column, "user_column")
        n_users = len(pairs.user_ids)
        n_pairs = len(np.unique(raw * n_users + pairs.users))
        if not len(raw_ids) == n_users == n_pairs:
            raise ValueError(
                f"X has {len(raw_ids)} users in column {column!r}, but {n_users} after the "
                "leading steps of the Pipeline: they do not keep users apart. Let the user "
                "column pass through (an OrdinalEncoder makes all unseen users one); if "
                "the users of X stand in another column, name it: "
                "ReconstructionScorer(user_column=...)."
            )

    def _scorings(self) -> dict:
        """Inner scorers by name."""
        if isinstance(self.scoring, dict):
            return self.scoring
        if isinstance(self.scoring, list | tuple | set):
            return {name: name for name in self.scoring}
        if isinstance(self.scoring, str) or callable(self.scoring):
            return {"score": self.scoring}
        raise TypeError(
            "scoring must be the name of a scorer, a callable, or several of them in a "
            f"list, tuple, set or dict; got {self.scoring!r}."
        )

    def _has_several_scores(self) -> bool:
        return isinstance(self.scoring, dict | list | tuple | set)

    def _accept_sample_weight(self) -> bool:
        """Answer scikit-learn's question before it passes weights on by itself."""
        scorers = [get_scorer(scoring) for scoring in self._scorings().values()]
        functions = [getattr(scorer, "_score_func", scorer) for scorer in scorers]
        return all("sample_weight" in signature(function).parameters for function in functions)


def warn_if_known(model, user_ids: np.ndarray) -> None:
    """Warn if users were in training, unless they are exactly those of training."""
    trained, here = set(model.users_.tolist()), set(user_ids.tolist())
    known = trained & here
    if known and here != trained:
        warn_caller(
            f"{len(known)} of the {len(here)} users to score were in training. The items "
            "learned from their ratings, so that the score is not one of unseen users: "
            "split by users (cv=UserKFold()) and keep support ratings out of training.",
            KnownUsersWarning,
        )
