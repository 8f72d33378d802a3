"""How well ratings are predicted: over all ratings, and client by client.

`rmse`, `mae` and `rating_accuracy` compare vectors; `per_client` and `aggregate` apply one
of them (or any metric of scikit-learn's form) client by client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d


def rmse(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Root of the mean squared error.

    Parameters
    ----------
    y_true : array-like of shape (n_ratings,)
        Ratings.
    y_pred : array-like of shape (n_ratings,)
        Their predictions.
    sample_weight : array-like of shape (n_ratings,), default=None
        Non-negative weights of the ratings.

    Returns
    -------
    float
        The error, in units of the ratings. Best is 0.

    Examples
    --------
    >>> from sklearn_fedrecon.metrics import rmse
    >>> rmse([3.0, 5.0], [3.0, 4.0])
    0.7071...
    """
    errors, weights = _errors(y_true, y_pred, sample_weight)
    return float(np.sqrt(np.average(errors**2, weights=weights)))


def mae(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Mean absolute error.

    Parameters
    ----------
    y_true : array-like of shape (n_ratings,)
        Ratings.
    y_pred : array-like of shape (n_ratings,)
        Their predictions.
    sample_weight : array-like of shape (n_ratings,), default=None
        Non-negative weights of the ratings.

    Returns
    -------
    float
        The error, in units of the ratings. Best is 0.

    Examples
    --------
    >>> from sklearn_fedrecon.metrics import mae
    >>> mae([3.0, 5.0], [3.0, 4.0])
    0.5
    """
    errors, weights = _errors(y_true, y_pred, sample_weight)
    return float(np.average(np.abs(errors), weights=weights))


def rating_accuracy(
    y_true: Any, y_pred: Any, *, tolerance: float = 0.5, sample_weight: Any = None
) -> float:
    """Share of the predictions that miss by no more than a tolerance.

    With the default tolerance on whole-star ratings, a prediction counts where rounding
    it gives the rating: the "accuracy" of the Federated Reconstruction paper.

    Parameters
    ----------
    y_true : array-like of shape (n_ratings,)
        Ratings.
    y_pred : array-like of shape (n_ratings,)
        Their predictions.
    tolerance : float, default=0.5
        Largest absolute error that still counts, in units of the ratings.
    sample_weight : array-like of shape (n_ratings,), default=None
        Non-negative weights of the ratings.

    Returns
    -------
    float
        A share between 0 and 1. Best is 1.

    References
    ----------
    Singhal et al., "Federated Reconstruction: Partially Local Federated Learning",
    NeurIPS 2021.

    Examples
    --------
    >>> from sklearn_fedrecon.metrics import rating_accuracy
    >>> rating_accuracy([3.0, 5.0, 1.0, 2.0], [3.5, 4.4, 1.0, 2.1])
    0.75
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be a number of at least 0; got {tolerance!r}.")
    errors, weights = _errors(y_true, y_pred, sample_weight)
    return float(np.average(np.abs(errors) <= tolerance, weights=weights))


def per_client(
    metric: Callable, y_true: Any, y_pred: Any, clients: Any, *, sample_weight: Any = None
) -> dict:
    """Value of a rating metric for every client.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_pred)`` that returns a number: `rmse`, any regression metric of
        scikit-learn. It is passed ``sample_weight=`` where weights are given.
    y_true : array-like of shape (n_ratings,)
        Ratings.
    y_pred : array-like of shape (n_ratings,)
        Their predictions.
    clients : array-like of shape (n_ratings,)
        Id of the client that owns each rating.
    sample_weight : array-like of shape (n_ratings,), default=None
        Non-negative weights of the ratings. A rating of weight 0 counts as absent.

    Returns
    -------
    dict of str to ndarray of shape (n_clients,)
        Columns of a table, clients in sorted order: ``client`` (ids), ``value``,
        ``n_ratings``. ``pandas.DataFrame`` takes it as it is.

    Examples
    --------
    >>> from sklearn_fedrecon.metrics import mae, per_client
    >>> table = per_client(mae, [1, 2, 3], [1, 1, 5], clients=["b", "a", "b"])
    >>> table["client"].tolist(), table["value"].tolist(), table["n_ratings"].tolist()
    (['a', 'b'], [1.0, 1.0], [1, 2])
    """
    y_true, y_pred, weights = _vectors(y_true, y_pred, sample_weight)
    ids, inverse = _client_positions(clients, len(y_true))
    if weights is not None:
        kept = np.flatnonzero(weights)
        y_true, y_pred, weights = y_true[kept], y_pred[kept], weights[kept]
        ids, inverse = _client_positions(ids[inverse[kept]], len(kept))
    counts = np.bincount(inverse, minlength=len(ids))
    values = np.empty(len(ids))
    owned = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
    for client, rows in enumerate(owned):
        options = {} if weights is None else {"sample_weight": weights[rows]}
        values[client] = metric(y_true[rows], y_pred[rows], **options)
    return {"client": ids, "value": values, "n_ratings": counts}


def aggregate(
    metric: Callable,
    y_true,
    y_pred,
    clients,
    *,
    quantiles=(0.1, 0.5, 0.9),
    sample_weight=None,
) -> dict[str, float]:
    """A rating metric over all ratings, over all clients, and its spread over clients.

    The first number asks how well the average *rating* is predicted, the second how well
    the average *client* is served: where most clients own few ratings they differ.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_pred)`` that returns a number, see `per_client`.
    y_true : array-like of shape (n_ratings,)
        Ratings.
    y_pred : array-like of shape (n_ratings,)
        Their predictions.
    clients : array-like of shape (n_ratings,)
        Id of the client that owns each rating.
    quantiles : sequence of float, default=(0.1, 0.5, 0.9)
        Quantiles of the clients' values to report; every client counts once.
    sample_weight : array-like of shape (n_ratings,), default=None
        Non-negative weights of the ratings.

    Returns
    -------
    dict of str to float
        ``by_ratings`` (the metric of all ratings together, "micro"), ``by_clients`` (mean
        of the clients' values, "macro") and ``quantile_0.1``, ... as asked for.

    Examples
    --------
    >>> from sklearn_fedrecon.metrics import aggregate, mae
    >>> aggregate(mae, [1, 2, 3, 4], [1, 1, 3, 4], ["b", "a", "b", "b"], quantiles=[0.5])
    {'by_ratings': 0.25, 'by_clients': 0.5, 'quantile_0.5': 0.5}
    """
    values = per_client(metric, y_true, y_pred, clients, sample_weight=sample_weight)["value"]
    y_true, y_pred, weights = _vectors(y_true, y_pred, sample_weight)
    options = {} if weights is None else {"sample_weight": weights}
    spread = {f"quantile_{q}": float(np.quantile(values, q)) for q in quantiles}
    pooled = float(metric(y_true, y_pred, **options))
    return {"by_ratings": pooled, "by_clients": float(values.mean()), **spread}


def _errors(y_true, y_pred, sample_weight) -> tuple[np.ndarray, np.ndarray | None]:
    """Errors and weights of the ratings."""
    y_true, y_pred, weights = _vectors(y_true, y_pred, sample_weight)
    return y_pred - y_true, weights


def _vectors(y_true, y_pred, sample_weight) -> tuple:
    """Ratings, predictions and weights as finite float64 vectors of one length."""
    y_true, y_pred = _vector(y_true, "y_true"), _vector(y_pred, "y_pred")
    check_consistent_length(y_true, y_pred)
    if sample_weight is None:
        return y_true, y_pred, None
    weights = _vector(sample_weight, "sample_weight")
    check_consistent_length(y_true, weights)
    if weights.min() < 0 or not weights.any():
        raise ValueError(
            "sample_weight must hold weights of at least 0 that are not all 0; "
            f"got weights from {weights.min():g} to {weights.max():g}."
        )
    return y_true, y_pred, weights


def _vector(values, name: str) -> np.ndarray:
    """A finite float64 vector."""
    return column_or_1d(check_array(values, ensure_2d=False, dtype=np.float64, input_name=name))


def _client_positions(clients, n_ratings: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted client ids, and every rating's position among them."""
    clients = column_or_1d(clients)
    if len(clients) != n_ratings:
        raise ValueError(
            f"clients must name the owner of every rating; got {len(clients)} ids "
            f"for {n_ratings} ratings."
        )
    if clients.dtype.kind == "f" and np.isnan(clients).any():
        raise ValueError("clients contains NaN; name the client of every rating.")
    try:
        return np.unique(clients, return_inverse=True)
    except TypeError as error:
        raise ValueError(
            "clients mixes ids that cannot be compared, such as numbers and strings or None; "
            "make them one type."
        ) from error
