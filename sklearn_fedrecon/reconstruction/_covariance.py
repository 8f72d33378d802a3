"""How sure a reconstruction in closed form is of one user."""

from __future__ import annotations

import numpy as np

from .._types import ClientRatings


def inverse_gram(ratings: ClientRatings, design: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Inverse of ``diag(diagonal) + sum w x x'`` over all ratings, in float64.

    Parameters
    ----------
    ratings : ClientRatings
        Of one client.
    design : ndarray of shape (n_items, d)
        The rows ``x_i``.
    diagonal : ndarray of shape (d,)

    Returns
    -------
    inverse : ndarray of shape (d, d)
    """
    x = design[ratings.items].astype(np.float64)
    gram = (x * ratings.rating_weights()[:, None]).T @ x
    return np.linalg.inv(gram + np.diag(diagonal.astype(np.float64)))
