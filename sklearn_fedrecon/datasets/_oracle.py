"""The best prediction that knows the truth of make_ratings."""

import numpy as np

from ._base import factor_products

_ROUNDING_VARIANCE = 1 / 12


def oracle_predict(truth, X_support, y_support, X_query):
    """Predict ratings knowing the item side, the prior and the noise of the truth.

    A user is known by the support ratings alone, exactly like a user who was never in training:
    factors and bias are the posterior mean given those ratings. No model that learned its items
    from ratings can be expected to do better, so the error of these predictions is what a
    federated reconstruction is measured against.

    Parameters
    ----------
    truth : :class:`~sklearn.utils.Bunch`
        What :func:`make_ratings` returned.
    X_support : array-like of shape (n_support, 2)
        User and item of the ratings that are revealed.
    y_support : array-like of shape (n_support,)
        The ratings that are revealed.
    X_query : array-like of shape (n_query, 2)
        User and item of the ratings to predict. A user without support ratings has the mean of
        the prior.

    Returns
    -------
    ndarray of shape (n_query,)
        Predicted ratings, clipped to ``truth.rating_scale`` where there is one.

    Raises
    ------
    ValueError
        If shapes do not match, or if an id is not one of the truth.

    See Also
    --------
    make_ratings : Draws the ratings and returns their truth.

    Notes
    -----
    With x the item's factors and a 1, P the prior variances of factors and bias, s2 the
    variance of noise and rounding, and y the ratings less global mean and item bias, the state
    of a user is ``inv(inv(P) + sum(x x') / s2) @ sum(x y) / s2``. Rounding is treated as noise
    of variance 1/12, and clipping of the ratings is not modelled.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_fedrecon.datasets import make_ratings, oracle_predict
    >>> ratings = make_ratings(n_users=100, n_items=80, n_ratings=2000, random_state=0)
    >>> revealed = np.random.default_rng(0).random(2000) < 0.5
    >>> X, y = ratings.data, ratings.target
    >>> predictions = oracle_predict(ratings, X[revealed], y[revealed], X[~revealed])
    >>> predictions.shape
    (993,)
    """
    support_users, support_items = _check_ids(X_support, truth, "X_support")
    query_users, query_items = _check_ids(X_query, truth, "X_query")
    y_support = np.asarray(y_support, dtype=float)
    if y_support.shape != support_users.shape:
        raise ValueError(
            f"y_support has shape {y_support.shape} but X_support has {len(support_users)} rows."
        )
    features = np.column_stack([truth.item_factors, np.ones(len(truth.item_bias))])
    residuals = y_support - truth.global_mean - truth.item_bias[support_items]
    states = _posterior_means(truth, features, support_users, support_items, residuals)
    predictions = truth.global_mean + truth.item_bias[query_items]
    predictions += factor_products(states, features, query_users, query_items)
    return predictions if truth.rating_scale is None else predictions.clip(*truth.rating_scale)


def _check_ids(X, truth, name):
    """User and item ids of `X` as two integer arrays of shape (n_rows,)."""
    ids = np.asarray(X)
    if ids.ndim != 2 or ids.shape[1] != 2 or ids.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be whole numbers of shape (n_rows, 2), user and item; got shape "
            f"{ids.shape} and dtype {ids.dtype}."
        )
    users, items = ids.T
    for kind, given, known in [
        ("user", users, len(truth.user_bias)),
        ("item", items, len(truth.item_bias)),
    ]:
        if len(given) and not 0 <= given.min() <= given.max() < known:
            raise ValueError(
                f"{name} has {kind} ids from {given.min()} to {given.max()}, but those of the "
                f"truth are 0 to {known - 1}."
            )
    return users, items


def _posterior_means(truth, features, users, items, residuals):
    """State of every user given the support ratings, shape (n_users, n_components + 1)."""
    prior_std = np.sqrt(np.append(truth.component_variances, truth.user_bias_std**2))
    noise_variance = truth.noise_std**2
    if truth.rating_scale is not None:
        noise_variance += _ROUNDING_VARIANCE
    states = np.zeros((len(truth.user_bias), len(prior_std)))
    if not len(users):
        return states
    order = np.argsort(users, kind="stable")
    supported, starts = np.unique(users[order], return_index=True)
    for user, rows in zip(supported, np.split(order, starts[1:]), strict=True):
        # In units of the prior, so that a variance of 0 needs no division.
        scaled = features[items[rows]] * prior_std
        precision = scaled.T @ scaled + noise_variance * np.eye(len(prior_std))
        solution = np.linalg.lstsq(precision, scaled.T @ residuals[rows], rcond=None)[0]
        states[user] = prior_std * solution
    return states
