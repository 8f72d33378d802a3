"""Who takes part in an evaluation, and the marks."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, clone

from .._answers import bounds_of, fitted_of
from ..metrics import (
    aggregate,
    hit_rate_at_k,
    mae,
    ndcg_at_k,
    rating_accuracy,
    recall_at_k,
    rmse,
)
from ..metrics._ranking import missed_at_k
from ._columns import distinct_ids, take_rows
from ._pairs import RatedPairs
from ._protocols import Protocol

_BLOCK = 256  # users whose scores of the whole catalogue are held at once
_QUANTILES = (0.1, 0.5, 0.9)
_RANKING = {"ndcg": ndcg_at_k, "recall": recall_at_k, "hit_rate": hit_rate_at_k}


class GlobalMean(BaseEstimator):
    """Predicts the mean of the training ratings for everybody and everything."""

    def __init__(self, item_column=1):
        self.item_column = item_column

    def fit(self, X, y):
        """Take the mean of the ratings, and the items as the catalogue."""
        self.global_mean_ = np.mean(y, dtype=np.float64)
        self.items_, _ = distinct_ids(X, self.item_column, "item_column")
        return self

    def forget_users(self):
        """Return itself: it knows nobody."""
        return self

    def personalize(self, X, y):
        """Return itself: it learns nothing about anybody."""
        return self

    def predict(self, X):
        """Predict the mean, shape (n_rows,)."""
        return np.full(len(X), self.global_mean_)


def contestants(estimator) -> dict[str, BaseEstimator]:
    """The baselines and the estimator, unfitted, by name; none minds unknown users."""
    parameters = estimator.get_params(deep=False)
    quiet = {"unknown_user": "baseline"} if "unknown_user" in parameters else {}
    models = {"global_mean": GlobalMean(estimator.item_column)}
    if parameters.get("n_components", 0) != 0:
        models["bias_only"] = clone(estimator).set_params(n_components=0, **quiet)
    models[type(estimator).__name__] = clone(estimator).set_params(**quiet)
    return models


def grade(model, X, y, pairs: RatedPairs, held_out: Protocol) -> dict:
    """How well the held-out ratings are predicted.

    Parameters
    ----------
    model : estimator
        Fitted, and told what is to be revealed.
    X : table of shape (n_ratings, n_columns)
    y : ndarray of shape (n_ratings,)
    pairs : RatedPairs
    held_out : Protocol

    Returns
    -------
    dict
    """
    query = np.flatnonzero(held_out.query)
    users, y_true, y_pred = pairs.users[query], y[query], model.predict(take_rows(X, query))
    shown = np.unique(pairs.users[held_out.shown])
    by_client = aggregate(rmse, y_true, y_pred, users, quantiles=_QUANTILES)
    return {
        "n_train": int(np.count_nonzero(held_out.train)),
        "n_test": len(query),
        "n_test_users": len(np.unique(users)),
        "n_unknown_users": len(np.setdiff1d(users, shown)),
        "rmse": by_client["by_ratings"],
        "mae": mae(y_true, y_pred),
        "rating_accuracy": rating_accuracy(y_true, y_pred),
        "rmse_by_clients": by_client["by_clients"],
        **{f"rmse_quantile_{q}": by_client[f"quantile_{q}"] for q in _QUANTILES},
    }


def grade_ranking(model, y, pairs: RatedPairs, held_out: Protocol, relevant_rating, k) -> dict:
    """How good the recommendations are, with the whole catalogue as candidates.

    Parameters
    ----------
    model : estimator
        Fitted, and told what is to be revealed.
    y : ndarray of shape (n_ratings,)
    pairs : RatedPairs
    held_out : Protocol
    relevant_rating : float
        Held-out items that were rated at least this are relevant.
    k : int

    Returns
    -------
    dict
    """
    test_users = np.unique(pairs.users[held_out.query])
    rows, columns = _places(test_users, pairs), _columns(model, pairs)
    shape = (len(test_users), len(model.items_))

    def matrix(chosen):
        at = rows[chosen], columns[chosen]
        kept = (at[0] >= 0) & (at[1] >= 0)
        at = at[0][kept], at[1][kept]
        marks = sparse.csr_array((np.ones(len(at[0])), at), shape=shape)
        return (marks > 0).astype(np.float64)

    seen, relevant = matrix(held_out.shown), matrix(held_out.query & (y >= relevant_rating))
    relevant -= relevant.multiply(seen)
    values: dict[str, list] = {name: [] for name in _RANKING}
    missed = np.ones(shape[1])
    for start in range(0, shape[0], _BLOCK):
        block = slice(start, start + _BLOCK)
        scores = _scores(model, pairs.user_ids[test_users[block]])
        for name, metric in _RANKING.items():
            values[name].append(metric(scores, relevant[block], seen[block], k=k, average=False))
        missed *= missed_at_k(scores, seen[block], k)
    marks = {name: _mean(np.concatenate(parts)) for name, parts in values.items()}
    return marks | {"coverage": float(np.mean(1 - missed))}


def _places(test_users: np.ndarray, pairs: RatedPairs) -> np.ndarray:
    """Position of every rating's user among those to predict, -1 for the others."""
    places = np.full(len(pairs.user_ids), -1)
    places[test_users] = np.arange(len(test_users))
    return places[pairs.users]


def _columns(model, pairs: RatedPairs) -> np.ndarray:
    """Position of every rating's item in the model's catalogue, -1 for what is not there."""
    return _positions(model.items_, pairs.item_ids)[pairs.items]


def _positions(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Position of the wanted ids among ids, -1 where they are not."""
    places = {identifier: position for position, identifier in enumerate(ids.tolist())}
    return np.array([places.get(identifier, -1) for identifier in wanted.tolist()])


def _scores(model, user_ids: np.ndarray) -> np.ndarray:
    """What the catalogue is ranked by, shape (n_users, n_items): as `recommend` does it."""
    if isinstance(model, GlobalMean):
        return np.zeros((len(user_ids), len(model.items_)))
    return bounds_of(fitted_of(model), user_ids)


def _mean(values: np.ndarray) -> float:
    """Mean of the users that have a value."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")
