"""The yardstick: the core of a round with all clients, in plain NumPy.

What somebody writes who knows NumPy and wants the result today: users of about the same
number of ratings are padded and masked, their Gram matrices are one `matmul`, their systems
one `numpy.linalg.solve`, and the sums for the items are two sparse products. There is no
split, no check, no aggregation, no server and no report in it: only the arithmetic that
every round has to do. It is never tuned, so that ratios to it stay comparable.
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
) -> tuple[np.ndarray, np.ndarray]:
    """Rebuild all users, and sum their messages about the item factors and biases.

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

    Returns
    -------
    gradient : ndarray of shape (n_items, k)
    states : ndarray of shape (n_clients, k + 1)
    """
    n_items, k = factors.shape
    design = np.hstack([factors, np.ones((n_items, 1), factors.dtype)])
    spread = np.hstack([item_variance, np.zeros((n_items, 1), factors.dtype)])
    states = np.empty((ratings.n_clients, k + 1), factors.dtype)
    variances = np.empty_like(states)
    errors = np.empty(ratings.n_ratings, factors.dtype)
    for clients in blocks(ratings.lengths):
        lengths = ratings.lengths[clients]
        offsets = np.arange(lengths.max())
        mask = offsets < lengths[:, None]
        positions = np.where(mask, ratings.indptr[clients][:, None] + offsets, 0)
        items = ratings.items[positions]
        x = design[items] * mask[:, :, None]
        y = residuals[positions] * mask
        gram = np.matmul(x.transpose(0, 2, 1), x)
        extra = np.einsum("clk,cl->ck", spread[items], mask.astype(factors.dtype))
        gram[:, np.arange(k + 1), np.arange(k + 1)] += ridge + extra
        right = np.einsum("clk,cl->ck", x, y)
        z = np.linalg.solve(gram, right[:, :, None])[:, :, 0]
        states[clients] = z
        variances[clients] = noise / np.einsum("ckk->ck", gram)
        errors[positions[mask]] = (y - np.einsum("clk,ck->cl", x, z))[mask]
    shape = (ratings.n_clients, n_items)
    error = sparse.csr_matrix((errors, ratings.items, ratings.indptr), shape)
    rated = sparse.csr_matrix((np.ones_like(errors), ratings.items, ratings.indptr), shape)
    gradient = error.T @ states[:, :k] - factors * (rated.T @ variances[:, :k])
    return gradient, states


def blocks(lengths: np.ndarray):
    """Clients in order of length, as many at a time as make ``BLOCK`` padded ratings."""
    order = np.argsort(-lengths)
    while len(order):
        size = max(1, BLOCK // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]
