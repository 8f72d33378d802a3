"""The model at the end of a Pipeline or search, and what it is allowed to know."""

from __future__ import annotations

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ._columns import take_rows


def last_step(estimator, X) -> tuple:
    """The estimator at the end of searches and Pipelines, and the table as it sees it."""
    check_is_fitted(estimator)
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            X = estimator[:-1].transform(X) if len(estimator) > 1 else X
            estimator = estimator[-1]
        else:
            break
    if not can_reconstruct(estimator):
        raise TypeError(
            "ReconstructionScorer needs an estimator with personalize and forget_users, such "
            "as FederatedReconstructionMF, or a Pipeline or search that ends in one; "
            f"got {estimator!r}."
        )
    return estimator, X


def can_reconstruct(estimator) -> bool:
    """Whether an estimator can forget users and be told of new ones."""
    return hasattr(estimator, "personalize") and hasattr(estimator, "forget_users")


def reveal(model, X, y, weights, support: np.ndarray):
    """A copy of the model that knows of its users the given rows and nothing else.

    Parameters
    ----------
    model : estimator
        Fitted, with ``forget_users`` and ``personalize``.
    X : table of shape (n_ratings, n_columns)
    y : ndarray of shape (n_ratings,)
    weights : ndarray of shape (n_ratings,) or None
    support : ndarray of shape (n_ratings,), bool
        Rows to reveal.

    Returns
    -------
    estimator
        Users with nothing revealed are predicted from the cold start, without an error
        even where the model asks for one, and without a warning if it is all of them.
    """
    model = model.forget_users()
    rows = np.flatnonzero(support)
    if len(rows):
        options = {} if weights is None else {"sample_weight": weights[rows]}
        model = model.personalize(take_rows(X, rows), y[rows], **options)
    if model.get_params(deep=False).get("unknown_user", "baseline") != "baseline":
        model.set_params(unknown_user="warn" if len(rows) else "baseline")
    return model
