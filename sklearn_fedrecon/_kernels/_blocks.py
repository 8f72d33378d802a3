"""Ridge regressions, predictions and by-products of many clients at once.

Clients of similar length are solved together: those with few ratings by ratings, the others by
components (`_solving.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from .._types import ClientRatings, Prepared, SupportStatistics, UserStates
from ._padding import PaddedGroup
from ._solving import largest_piece, solve_by_components, solve_by_ratings
from ._systems import FEW_SYSTEMS

BLOCK_SIZE = 8192  # ratings that are predicted, or stepped through, at once
_GROUP_NUMBERS = 1 << 22  # of the systems that are solved together, at most
_GROUP_PAGES = 1792  # of memory that one column of all of them may touch, at most
_PAGE_NUMBERS = 1 << 10
_SHORT = 0.6  # ratings for each number of a state, up to which the dual form is faster
_SIMILAR = 0.8  # length of the shortest of those solved together, over that of the longest


def solve_users(
    ratings: ClientRatings,
    table: np.ndarray,
    ridge: np.ndarray,
    prior_mean: np.ndarray,
    extra: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ridge regression of every client's ratings on its items' rows.

    Solves ``(diag(ridge + extra_c) + sum w x x') z = ridge * prior_mean + sum w x y``, where
    ``y`` is a rating less the offset of its item.
    Clients in ascending order of their number of ratings are the fastest: others are put
    into that order first.

    Parameters
    ----------
    ratings : ClientRatings
    table : ndarray of shape (n_items + 1, d + 1)
        The rows ``x_i`` and minus the offsets, as `Prepared.table` has them.
    ridge : ndarray of shape (d,)
        Positive.
    prior_mean : ndarray of shape (d,)
    extra : ndarray of shape (n_clients, d) or None
        Further diagonal, client by client.

    Returns
    -------
    states : ndarray of shape (n_clients, d)
    diagonals : ndarray of shape (n_clients, d)
        Diagonals of the systems that were solved.
    residuals : ndarray of shape (n_ratings,)
        ``y - x . z``.
    """
    order = ratings.order_of_length()
    if order is not None:
        rows, indptr = ratings.rows_of(order)
        ordered, extra = ratings.pick(rows, indptr), None if extra is None else extra[order]
        solved = solve_users(ordered, table, ridge, prior_mean, extra)
        return tuple(
            _put(values, where) for values, where in zip(solved, (order, order, rows), strict=True)
        )
    d, dtype = len(ridge), table.dtype
    penalty = np.broadcast_to(ridge, (ratings.n_clients, d)) if extra is None else ridge + extra
    states = np.empty((ratings.n_clients, d), dtype=dtype)
    diagonals = np.empty_like(states)
    residuals = np.empty(ratings.n_ratings, dtype=dtype)
    for group, clients, solve in client_groups(ratings, table):
        solved = solve(group, penalty[clients], ridge * prior_mean)
        states[clients], diagonals[clients], residuals[group.ratings] = solved
    return states, diagonals, residuals


def _put(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Row ``j`` of ``values`` at position ``where[j]``."""
    placed = np.empty_like(values)
    placed[where] = values
    return placed


# --- who is solved together, and how -----------------------------------------------------------


def client_groups(
    ratings: ClientRatings, table: np.ndarray
) -> Iterator[tuple[PaddedGroup, slice, Callable]]:
    """Cut clients into groups whose systems are solved together.

    Parameters
    ----------
    ratings : ClientRatings
        Clients in ascending order of their number of ratings.
    table : ndarray of shape (n_items + 1, d + 1)

    Yields
    ------
    group : PaddedGroup
    clients : slice
        Their positions.
    solve : callable
        `solve_by_ratings` or `solve_by_components`.
    """
    lengths, width = ratings.lengths, table.shape[1]
    n_short = int(np.count_nonzero(is_short(lengths, width - 1)))
    if n_short < min(FEW_SYSTEMS, len(lengths)):  # not worth a group of their own
        n_short = 0
    for start, stop in _of_similar_length(lengths[:n_short]):
        group = PaddedGroup(ratings, table, start, stop, even=True)
        yield group, slice(start, stop), solve_by_ratings
    for start, stop in _of_similar_size(n_short, len(lengths), width):
        group = PaddedGroup(ratings, table, start, stop, piece=largest_piece(width))
        yield group, slice(start, stop), solve_by_components


def is_short(lengths: np.ndarray, d: int) -> np.ndarray:
    """Whether so few ratings are fewer unknowns than a state has, by enough to be worth it."""
    return lengths <= _SHORT * d


def _of_similar_size(start: int, stop: int, width: int) -> list[tuple[int, int]]:
    """As few groups as there can be: their systems, ``width`` squared, may take so much memory,
    and lie on so many pages as the processor knows the addresses of.
    """
    n_systems, numbers = stop - start, (stop - start) * width**2
    n_pages = min(n_systems, numbers // _PAGE_NUMBERS)
    n_groups = max(-(-numbers // _GROUP_NUMBERS), -(-n_pages // _GROUP_PAGES))
    n_groups = min(n_systems, n_groups)
    return list(pairwise(np.linspace(start, stop, n_groups + 1).astype(int).tolist()))


def _of_similar_length(lengths: np.ndarray) -> list[tuple[int, int]]:
    """Groups whose systems, as large as the longest needs them, are worth the padding."""
    bounds = [len(lengths)]
    while bounds[-1] > 0:
        stop = bounds[-1]
        longest = int(lengths[stop - 1])
        start = min(int(np.searchsorted(lengths, _SIMILAR * longest)), stop - FEW_SYSTEMS)
        start = max(start, stop - max(1, _GROUP_NUMBERS // (longest + 1) ** 2))
        bounds.append(start if start >= FEW_SYSTEMS else 0)
    return list(pairwise(reversed(bounds)))


# --- predictions and by-products ---------------------------------------------------------------


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
    ratings: ClientRatings, users: UserStates, prepared: Prepared
) -> SupportStatistics:
    """Residuals and squares of ``ratings`` under users that were rebuilt from others.

    Returns
    -------
    statistics : SupportStatistics
    """
    design = prepared.design
    residuals = prepared.residuals(ratings) - linear_predictions(ratings, design, users.states)
    weights = ratings.matrix(ratings.rating_weights())
    squares = weights @ np.square(design)
    variances = weights @ prepared.variances
    k = prepared.model.n_components
    squares[:, :k] += variances[:, :k]
    return SupportStatistics(ratings, residuals, squares, variances)
