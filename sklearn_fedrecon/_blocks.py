"""Ragged clients in padded blocks of similar length, and the batched kernels on them.

A block holds so few ratings that its rows of the design matrix stay in the cache between
the gather, the Gram matrices and the residuals; nothing of size (ratings x components)
exists outside one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ._types import ClientRatings, ServerModel, SupportStatistics, UserStates

BLOCK_SIZE = 8192  # padded ratings of a block


def length_blocks(lengths: np.ndarray, size: int = BLOCK_SIZE) -> Iterator[np.ndarray]:
    """Positions of clients of similar length whose padded ratings are about ``size``.

    Parameters
    ----------
    lengths : ndarray of shape (n_clients,)
    size : int
        Padded ratings of a block; a longer client is a block of its own.

    Yields
    ------
    clients : ndarray of shape (n_block,)
    """
    order = np.argsort(lengths, kind="stable")
    stop = len(order)
    while stop > 0:
        longest = max(1, int(lengths[order[stop - 1]]))
        start = max(0, stop - max(1, size // longest))
        yield order[start:stop]
        stop = start


def padded_positions(ratings: ClientRatings, clients: np.ndarray) -> np.ndarray:
    """Positions of the ratings of ``clients``, shape (n_block, longest).

    Padding points at ``n_ratings``, one past the end, where callers keep a zero.
    """
    lengths = ratings.indptr[clients + 1] - ratings.indptr[clients]
    offsets = np.arange(lengths.max(initial=0))
    positions = ratings.indptr[clients][:, None] + offsets
    positions[offsets >= lengths[:, None]] = ratings.n_ratings
    return positions


def solve_users(
    ratings: ClientRatings,
    design: np.ndarray,
    targets: np.ndarray,
    ridge: np.ndarray,
    prior_mean: np.ndarray,
    extra: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ridge regression of every client's targets on its items' rows.

    Solves ``(diag(ridge + extra_c) + sum w x x') z = ridge * prior_mean + sum w x y``.

    Parameters
    ----------
    ratings : ClientRatings
    design : ndarray of shape (n_items, d)
        The rows ``x_i``.
    targets : ndarray of shape (n_ratings,)
        The values ``y``.
    ridge : ndarray of shape (d,)
    prior_mean : ndarray of shape (d,)
    extra : ndarray of shape (n_clients, d) or None
        Further diagonal, client by client.

    Returns
    -------
    states : ndarray of shape (n_clients, d)
    diagonals : ndarray of shape (n_clients, d)
        Diagonals of the systems that were solved.
    residuals : ndarray of shape (n_ratings,)
    """
    d, dtype = design.shape[1], design.dtype
    rows = np.vstack([design, np.zeros((1, d), dtype=dtype)])
    items = np.append(ratings.items, ratings.n_items)
    targets = np.append(targets, dtype.type(0))
    roots = None if ratings.weights is None else np.append(np.sqrt(ratings.weights), dtype.type(0))
    states = np.empty((ratings.n_clients, d), dtype=dtype)
    diagonals = np.empty_like(states)
    residuals = np.empty(ratings.n_ratings + 1, dtype=dtype)
    for clients in length_blocks(ratings.lengths):
        positions = padded_positions(ratings, clients)
        x, y = np.take(rows, items[positions], axis=0), targets[positions]
        scaled_x, scaled_y = x, y
        if roots is not None:
            root = roots[positions]
            scaled_x, scaled_y = x * root[:, :, None], y * root
        gram = np.matmul(scaled_x.swapaxes(1, 2), scaled_x)
        diagonal = np.einsum("cjj->cj", gram)  # a view
        diagonal += ridge if extra is None else ridge + extra[clients]
        right = np.matmul(scaled_y[:, None, :], scaled_x)[:, 0] + ridge * prior_mean
        z = np.linalg.solve(gram, right[:, :, None])
        states[clients], diagonals[clients] = z[:, :, 0], diagonal
        residuals[positions] = y - np.matmul(x, z)[:, :, 0]
    return states, diagonals, residuals[:-1]


def inverse_gram(
    ratings: ClientRatings, design: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
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


def linear_predictions(
    ratings: ClientRatings, design: np.ndarray, states: np.ndarray
) -> np.ndarray:
    """``x_i . z_c`` for every rating, shape (n_ratings,), block by block."""
    predictions = np.empty(ratings.n_ratings, dtype=design.dtype)
    owners = ratings.owners()
    for start in range(0, ratings.n_ratings, BLOCK_SIZE):
        part = slice(start, start + BLOCK_SIZE)
        x, z = design[ratings.items[part]], states[owners[part]]
        predictions[part] = np.einsum("rj,rj->r", x, z)
    return predictions


def support_statistics(
    ratings: ClientRatings, users: UserStates, model: ServerModel
) -> SupportStatistics:
    """Residuals and squares of ``ratings`` under users that were rebuilt from others.

    Returns
    -------
    statistics : SupportStatistics
    """
    design = model.design()
    residuals = model.residuals(ratings) - linear_predictions(ratings, design, users.states)
    weights = ratings.matrix(ratings.rating_weights())
    squares = weights @ np.square(design)
    variances = weights @ model.item_variance
    squares[:, : model.n_components] += variances
    return SupportStatistics(ratings, residuals, squares, variances)
