"""Ratings and sample weights, validated as scikit-learn does."""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite, check_array, column_or_1d


def check_targets(y: Any, sample_weight: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Validate ratings and sample weights.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Finite numbers.
    sample_weight : array-like of shape (n_rows,), number or None
        Finite, non-negative, not all zero; one number is everybody's weight.
    n_rows : int
        Rows of X.

    Returns
    -------
    y : ndarray of shape (n_rows,), float32 or float64
        float32 only where it was given so.
    sample_weight : ndarray of shape (n_rows,), float64, or None
        None where none was given.

    Raises
    ------
    ValueError
        With what is wrong: missing, not a number, not finite, negative, another length.
    """
    if y is None:
        raise ValueError(
            "This estimator requires y to be passed, but the target y is None; y are the ratings, "
            "one for each row of X."
        )
    if np.ma.is_masked(y):
        raise ValueError("y contains masked values; drop these rows, or fill in ratings.")
    y = _as_floats(column_or_1d(y, warn=True))
    assert_all_finite(y, input_name="y")
    if len(y) != n_rows:
        raise ValueError(
            f"X and y have inconsistent numbers of samples: {n_rows} row(s) and {len(y)} "
            "rating(s); expected one rating for each row."
        )
    return y, None if sample_weight is None else _check_weights(sample_weight, n_rows)


def _as_floats(y: np.ndarray) -> np.ndarray:
    """Ratings as floats; text that looks like numbers is not converted."""
    if y.dtype in (np.float32, np.float64):
        return y
    strings = y.dtype.kind == "O" and any(isinstance(value, str | bytes) for value in y)
    if y.dtype.kind not in "biufO" or strings:
        raise ValueError(f"y holds {'text' if strings else y.dtype}; ratings have to be numbers.")
    try:
        with np.errstate(over="ignore"):
            return y.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"y contains values that are no finite numbers, or NA instead of NaN ({error}); "
            "ratings have to be numbers."
        ) from error


def _check_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    if isinstance(sample_weight, Number):
        sample_weight = np.full(n_rows, sample_weight)
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight has shape {weights.shape}; expected {(n_rows,)}, a weight for each "
            "row of X, or one number."
        )
    if (weights < 0).any():
        raise ValueError(
            f"Negative values in sample_weight, the smallest is {weights.min()}; expected "
            "weights of zero and more."
        )
    if not weights.any():
        raise ValueError("All values of sample_weight are zero; a weight has to be positive.")
    return weights


def scale_bounds(rating_scale: Any) -> tuple[float, float]:
    """Lowest and highest rating of a declared scale.

    Parameters
    ----------
    rating_scale : array-like of shape (2,)

    Returns
    -------
    low, high : float

    Raises
    ------
    ValueError
        If it is not two finite numbers, the smaller first.
    """
    bounds = np.asarray(rating_scale)
    numbers = bounds.shape == (2,) and bounds.dtype.kind in "iuf"
    if not numbers or not np.isfinite(bounds).all() or bounds[0] >= bounds[1]:
        raise ValueError(
            f"rating_scale={rating_scale!r}: expected two numbers, the lowest and the "
            "highest rating."
        )
    return float(bounds[0]), float(bounds[1])


def check_scale(y: np.ndarray, rating_scale: Any) -> None:
    """Refuse ratings outside a declared scale.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
    rating_scale : array-like of shape (2,) or None
        None allows everything.

    Raises
    ------
    ValueError
    """
    if rating_scale is None or len(y) == 0:
        return
    low, high = scale_bounds(rating_scale)
    if y.min() < low or y.max() > high:
        raise ValueError(
            f"Ratings from {y.min():g} to {y.max():g} do not fit rating_scale=({low:g}, "
            f"{high:g}): correct them, or declare the scale that they have."
        )


def drop_zero_weight(
    users: np.ndarray, items: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Leave out ratings of weight zero, before their ids are learned.

    Parameters
    ----------
    users, items, y : ndarray of shape (n_rows,)
        Raw ids and ratings.
    weights : ndarray of shape (n_rows,) or None
        Sample weights.

    Returns
    -------
    users, items, y, weights : ndarray of shape (n_ratings,)
        The rows of positive weight.
    """
    if weights is None or weights.all():
        return users, items, y, weights
    keep = weights != 0
    return users[keep], items[keep], y[keep], weights[keep]
