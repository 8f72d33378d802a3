"""The yardstick: the core of a round with all clients, in plain NumPy.

What somebody writes who knows NumPy and wants the result today: users of about the same
number of ratings are padded, their Gram matrices are one `matmul`, their systems one
`numpy.linalg.solve`, and the sums for the items are sparse products. There is no split, no
check, no aggregation, no server and no report in it: only the arithmetic that every round
has to do. It is never tuned, so that ratios to it stay comparable.

Padding is told from ratings by a mask, or, a little less plainly, by a row of zeros in the
table of the items that padding points to; both are timed.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from sklearn_fedrecon._types import ClientRatings

BLOCK = 8192  # padded ratings


def plain_round(
    ratings: ClientRatings,
    factors: np.ndarray,
    item_variance: np.ndarray,
    residuals: np.ndarray,
    noise: float,
    ridge: float,
    *,
    zero_row: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Rebuild all users, and sum their messages about the item factors.

    Parameters
    ----------
    ratings : ClientRatings
    factors : ndarray of shape (n_items, k)
    item_variance : ndarray of shape (n_items, k)
        Posterior variances of the factors.
    residuals : ndarray of shape (n_ratings,)
        Ratings less global mean and item bias.
    noise, ridge : float
        Noise variance, and that over the prior variance of a user.
    zero_row : bool
        Whether padding is a row of zeros instead of masked.

    Returns
    -------
    gradient : ndarray of shape (n_items, k)
    states : ndarray of shape (n_clients, k + 1)
    """
    n_items, k = factors.shape
    shape = (ratings.n_clients, n_items)
    ones = np.ones(ratings.n_ratings, factors.dtype)
    rated = sparse.csr_matrix((ones, ratings.items, ratings.indptr), shape)
    extra = np.zeros((ratings.n_clients, k + 1), factors.dtype)
    extra[:, :k] = rated @ item_variance
    design = np.zeros((n_items + 1, k + 1), factors.dtype)
    design[:-1, :k], design[:-1, k] = factors, 1
    items = np.append(ratings.items, n_items)
    residuals = np.append(residuals, factors.dtype.type(0))
    states, variances = np.empty_like(extra), np.empty_like(extra)
    errors = np.empty_like(residuals)
    for clients in blocks(ratings.lengths):
        lengths = ratings.lengths[clients]
        offsets = np.arange(lengths.max())
        mask = offsets < lengths[:, None]
        positions = ratings.indptr[clients][:, None] + offsets
        positions[~mask] = ratings.n_ratings if zero_row else 0
        x, y = design[items[positions]], residuals[positions]
        if not zero_row:
            x, y = x * mask[:, :, None], y * mask
        gram = np.matmul(x.transpose(0, 2, 1), x)
        gram[:, np.arange(k + 1), np.arange(k + 1)] += ridge + extra[clients]
        right = np.matmul(y[:, None, :], x)[:, 0]
        z = np.linalg.solve(gram, right[:, :, None])
        states[clients] = z[:, :, 0]
        variances[clients] = noise / np.einsum("ckk->ck", gram)
        errors[positions[mask]] = (y - np.matmul(x, z)[:, :, 0])[mask]
    error = sparse.csr_matrix((errors[:-1], ratings.items, ratings.indptr), shape)
    gradient = error.T @ states[:, :k] - factors * (rated.T @ variances[:, :k])
    return gradient, states


def blocks(lengths: np.ndarray):
    """Clients in order of length, as many at a time as make ``BLOCK`` padded ratings."""
    order = np.argsort(-lengths)
    while len(order):
        size = max(1, BLOCK // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]
