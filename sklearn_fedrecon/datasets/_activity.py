"""Who rates how much, and what: the skew of real ratings."""

import numbers

import numpy as np
from sklearn.utils import check_scalar


def activity_limits(n_users, n_items, n_ratings, fewest, most):
    """Fewest and most ratings of a user, checked against the total asked for.

    Parameters
    ----------
    n_users, n_items, n_ratings : int
        Size of the data.
    fewest, most : int or None
        Limits asked for; None for the defaults, 20 and 60 % of the items, less where the data
        are small.

    Returns
    -------
    fewest, most : int
        The limits, with ``n_users * fewest <= n_ratings <= n_users * most``.
    """
    if most is None:
        most = max(1, n_items * 3 // 5)
    if fewest is None:
        fewest = min(20, most, max(1, n_ratings // n_users // 2))
    check_scalar(most, "max_ratings_per_user", numbers.Integral, min_val=1, max_val=n_items)
    check_scalar(fewest, "min_ratings_per_user", numbers.Integral, min_val=0, max_val=most)
    if not n_users * fewest <= n_ratings <= n_users * most:
        raise ValueError(
            f"n_ratings={n_ratings} does not fit: {n_users} users with {fewest} to {most} ratings "
            f"each give {n_users * fewest} to {n_users * most}. Change n_ratings, n_users or "
            "n_items, or set min_ratings_per_user or max_ratings_per_user (at most n_items)."
        )
    return fewest, most


def scale_to_total(activity, total, fewest, most):
    """Whole numbers in proportion to `activity`, between the limits, that add up to `total`.

    Parameters
    ----------
    activity : ndarray of shape (n_users,)
        Positive numbers.
    total : int
        The sum of the counts.
    fewest, most : int
        Limits of every count.

    Returns
    -------
    counts : ndarray of shape (n_users,)
        Ratings of every user: the fractions lost are given back to the users who lost most.
    """
    low, high = 0.0, most / activity.min()
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(middle * activity, fewest, most).sum() < total:
            low = middle
        else:
            high = middle
    wanted = np.clip(high * activity, fewest, most)
    counts = np.floor(wanted).astype(np.int64)
    largest_fractions = np.argsort(counts - wanted, kind="stable")
    counts[largest_fractions[: total - counts.sum()]] += 1
    return counts


def choose_items(counts, popularity, rng):
    """Distinct items for every user, sorted within the user.

    Parameters
    ----------
    counts : ndarray of shape (n_users,)
        How many items each user rates.
    popularity : ndarray of shape (n_items,)
        Weights, in proportion to the probability of the first draw.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    items : ndarray of shape (counts.sum(),)
        Item indices, user after user.

    Notes
    -----
    The `count` smallest of exponential waiting times with rates `popularity` are a weighted
    sample without replacement.
    """
    chosen = np.empty(counts.sum(), dtype=np.int64)
    start = 0
    for count in counts:
        waiting_times = rng.standard_exponential(len(popularity)) / popularity
        first = np.argpartition(waiting_times, max(count - 1, 0))[:count]
        chosen[start : start + count] = np.sort(first)
        start += count
    return chosen
