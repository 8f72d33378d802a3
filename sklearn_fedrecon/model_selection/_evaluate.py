"""All standard protocols in one call, the estimator beside its baselines."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_consistent_length, column_or_1d

from ._columns import take_rows
from ._grading import contestants, grade, grade_ranking
from ._pairs import RatedPairs, check_seed, check_support_size
from ._protocols import protocol, protocol_names
from ._reveal import can_reconstruct, reveal


def evaluate(
    estimator,
    X,
    y,
    *,
    protocols="all",
    time_column=None,
    test_size=0.2,
    support_size=0.5,
    relevant_rating=None,
    k=10,
    random_state=0,
) -> dict[str, list]:
    """Run the standard protocols, the estimator beside its baselines.

    Each protocol answers a question of its own:

    - ``"warm"``: how well are further ratings of known users predicted? A share
      ``test_size`` of every user's items is held out at random.
    - ``"unseen_users"``: how well is a user served that was never in training? A share
      ``test_size`` of the users is held out; ``support_size`` of each one's items are
      revealed, the others predicted.
    - ``"cold_start"``: what did the revealed ratings bring? The same model predicts the
      same ratings as above, and nothing is revealed.
    - ``"time_ordered"``: how well would it have done from some day on? The latest share
      ``test_size`` of all ratings is held out. Users that come later are not known.

    Two baselines stand beside the estimator: the mean of the training ratings, and the
    same estimator with ``n_components=0``, which knows biases only.

    Parameters
    ----------
    estimator : estimator object
        An estimator such as `FederatedReconstructionMF`; clones of it are fitted.
    X : {array-like, dataframe} of shape (n_ratings, n_columns)
        Ratings table.
    y : array-like of shape (n_ratings,)
        Ratings.
    protocols : str or list of str, default="all"
        Names of protocols. "all" runs the time-ordered one where a time column is named.
    time_column : int or str, default=None
        Position, or name in a dataframe, of the column of times: numbers or datetimes.
    test_size : float, default=0.2
        Share that is held out, in (0, 1), rounded down.
    support_size : int or float, default=0.5
        Number or share of an unseen user's items to reveal, see `ReconstructionScorer`.
    relevant_rating : float, default=None
        Where given, recommendations are graded as well: held-out items that were rated at
        least this are the relevant ones. The candidates of a user are the whole catalogue
        of the fitted estimator, less the items of those ratings of the user that the
        estimator was shown. Relevant items outside the candidates are left out.
    k : int, default=10
        Length of the recommendations.
    random_state : int, default=0
        Seed of the splits. A table is one split: repeat it with other seeds for the spread.

    Returns
    -------
    dict of str to list
        Columns of a table, one row for each protocol and model; ``pandas.DataFrame`` takes
        it as it is. ``protocol``, ``model``, ``n_train`` and ``n_test`` (ratings),
        ``n_test_users``, ``n_unknown_users`` (those of which the model was shown nothing),
        ``rmse``, ``mae``, ``rating_accuracy``, ``rmse_by_clients`` (mean of the users'
        RMSE), ``rmse_quantile_0.1``, ``rmse_quantile_0.5`` and ``rmse_quantile_0.9`` (over
        the users) and, where asked for, ``ndcg``, ``recall`` and ``hit_rate`` at ``k`` (NaN
        where no item is relevant) and ``coverage``: the share of the catalogue that is
        among the ``k`` items of any test user. It grows with ``n_test_users``.

    See Also
    --------
    ReconstructionScorer : The protocol of unseen users inside searches.

    Examples
    --------
    >>> from sklearn_fedrecon import FederatedReconstructionMF
    >>> from sklearn_fedrecon.datasets import make_ratings
    >>> from sklearn_fedrecon.model_selection import evaluate
    >>> X, y = make_ratings(
    ...     n_users=100,
    ...     n_items=40,
    ...     n_ratings=2000,
    ...     n_components=2,
    ...     component_variance=1.0,
    ...     random_state=0,
    ...     return_X_y=True,
    ... )
    >>> model = FederatedReconstructionMF(n_components=2, random_state=0)
    >>> table = evaluate(model, X, y, protocols="unseen_users")
    >>> table["model"]
    ['global_mean', 'bias_only', 'FederatedReconstructionMF']
    >>> mean, bias_only, factors = table["rmse"]
    >>> mean > bias_only > factors
    True
    """
    _check_arguments(estimator, test_size, support_size, random_state)
    check_consistent_length(X, y)
    y = column_or_1d(y)
    names = protocol_names(protocols, time_column)
    pairs = RatedPairs.from_table(X, estimator.user_column, estimator.item_column)
    models, fitted, rows = contestants(estimator), {}, []
    for name in names:
        held_out = protocol(name, pairs, X, time_column, test_size, support_size, random_state)
        for label, model in models.items():
            # The two protocols of unseen users have the same training set.
            key = (label, held_out.unseen or name)
            if key not in fitted:
                train = np.flatnonzero(held_out.train)
                fitted[key] = clone(model).fit(take_rows(X, train), y[train])
            served = fitted[key]
            if held_out.unseen:
                served = reveal(served, X, y, None, held_out.shown)
            row = {"protocol": name, "model": label, **grade(served, X, y, pairs, held_out)}
            if relevant_rating is not None:
                row |= grade_ranking(served, y, pairs, held_out, relevant_rating, k)
            rows.append(row)
    return {column: [row[column] for row in rows] for column in rows[0]}


def _check_arguments(
    estimator: Any, test_size: float, support_size: float, random_state: Any
) -> None:
    """Refuse what no protocol can work with."""
    if not can_reconstruct(estimator):
        raise TypeError(
            "evaluate needs an estimator with personalize and forget_users, such as "
            f"FederatedReconstructionMF; got {estimator!r}. For a Pipeline, use "
            "cross_validate with UserKFold and ReconstructionScorer."
        )
    if not isinstance(test_size, Real) or not 0 < test_size < 1:
        raise ValueError(f"test_size must be a share in (0, 1); got {test_size!r}.")
    check_support_size(support_size)
    check_seed(random_state, "The protocols would hold out different users.")
