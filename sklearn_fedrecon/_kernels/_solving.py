"""Two ways to a ridge regression for every client of a padded group.

By components: systems of as many unknowns as a state has numbers. By ratings: the dual form,
with an unknown for each rating, which is the faster for clients that have fewer ratings than
that.
"""

from __future__ import annotations

import numpy as np

from ._padding import PaddedGroup
from ._scratch import scratch
from ._systems import solve_systems

_SMALL_PRODUCT = 10**6  # multiplications up to which OpenBLAS does without packing
_SYRK_WIDTH = 90  # from it on, half of the multiplications is worth more than that


# --- by components -----------------------------------------------------------------------------


def solve_by_components(
    group: PaddedGroup, penalty: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve ``(diag(penalty_c) + sum w x x') z = right + sum w x y`` for every client.

    Parameters
    ----------
    group : PaddedGroup
    penalty : ndarray of shape (n_group, d)
    right : ndarray of shape (d,)

    Returns
    -------
    states, diagonals : ndarray of shape (n_group, d)
    residuals : ndarray of shape (n_group_ratings,)
    """
    d, systems = len(right), gram_matrices(group)
    diagonals = np.einsum("cjj->cj", systems[:, :d, :d])  # a view
    diagonals += penalty
    systems[:, d, :d] += right
    diagonals = diagonals.copy()
    factors = _with_offset(solve_systems(systems))
    predictions = np.empty(group.size, dtype=systems.dtype)
    for block in group.blocks:
        _predict(group.rows(block), factors[block.clients], predictions[block.places])
    return factors[:, :-1], diagonals, _residuals(group, predictions)


def largest_piece(width: int) -> int | None:
    """Ratings of a client that `gram_matrices` should multiply at once; None is all.

    Products of two shapes are computed by GEMM, which for small ones is faster than SYRK,
    although it computes both triangles.
    """
    return None if width >= _SYRK_WIDTH else max(1, _SMALL_PRODUCT // width**2)


def gram_matrices(group: PaddedGroup) -> np.ndarray:
    """Sums of ``w x x'`` and, below them, of ``w y x``, where ``y`` is a rating less its offset.

    Returns
    -------
    systems : ndarray of shape (n_group, d + 1, d + 1)
        The last column may be anything. Working memory, see `_scratch.py`.
    """
    values = group.pad(group.values)
    width = group.width
    systems = scratch("systems", (group.n_clients, width, width), values.dtype)
    for block in group.blocks:
        x = group.rows(block)
        x[:, :, -1] += values[block.places].reshape(block.shape)
        if group.roots is not None:
            x *= group.roots[block.places].reshape(*block.shape, 1)
        _multiply(x, block.n_pieces, out=systems[block.clients])
    return systems


def _multiply(x: np.ndarray, n_pieces: int, out: np.ndarray) -> None:
    """Products ``x' x`` of many matrices; the last column may be left out."""
    n, _, width = x.shape
    if width >= _SYRK_WIDTH:
        np.matmul(x.swapaxes(1, 2), x, out=out)
    elif n_pieces == 1:
        np.matmul(x.swapaxes(1, 2), x[:, :, :-1], out=out[:, :, :-1])
    else:
        pieces = x.reshape(n * n_pieces, -1, width)
        products = np.matmul(pieces.swapaxes(1, 2), pieces[:, :, :-1])
        products = products.reshape(n, n_pieces, width, width - 1)
        np.add.reduce(products, axis=1, out=out[:, :, :-1])


def _with_offset(states: np.ndarray) -> np.ndarray:
    """States, each with what minus the offset in a row of the table is to be multiplied with."""
    factors = np.full((len(states), states.shape[1] + 1), -1, dtype=states.dtype)
    factors[:, :-1] = states
    return factors


def _predict(x: np.ndarray, factors: np.ndarray, out: np.ndarray) -> None:
    """Predictions of the ratings of a block, as a flat array."""
    np.matmul(x, factors[:, :, None], out=out.reshape(*x.shape[:2], 1))


def _residuals(group: PaddedGroup, predictions: np.ndarray) -> np.ndarray:
    """Ratings less padded predictions."""
    found = group.without_padding(predictions)
    return np.subtract(group.values, found, out=found)


# --- by ratings --------------------------------------------------------------------------------


def solve_by_ratings(
    group: PaddedGroup, penalty: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve the same as `solve_by_components`, with an unknown for each rating.

    With ``z_0 = right / penalty`` and ``P = diag(penalty)``, for weights of one::

        (1 + X P^-1 X') a = y - X z_0,    z = z_0 + P^-1 X' a

    The group is padded evenly: the last row of every client is not a rating, and here stands
    for ``z_0``. All else that is given and returned is as there.
    """
    systems, diagonals = dual_systems(group, penalty, right)
    n_clients, longest = systems.shape[0], systems.shape[2]
    solutions = np.zeros((n_clients, longest + 1), dtype=systems.dtype)
    solutions[:, :-1] = solve_systems(systems)
    if group.roots is not None:
        solutions *= group.roots.reshape(solutions.shape)
    factors = _with_offset(penalty)
    predictions = np.empty(group.size, dtype=systems.dtype)
    for block in group.blocks:
        x, clients = group.rows(block), block.clients
        sums = np.matmul(solutions[clients, None], x)[:, 0, :-1]
        factors[clients, :-1] = (sums + right) / penalty[clients]
        _predict(x, factors[clients], predictions[block.places])
    return factors[:, :-1], diagonals, _residuals(group, predictions)


def dual_systems(
    group: PaddedGroup, penalty: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Systems of `solve_by_ratings`, and the diagonals of those by components.

    Parameters
    ----------
    group : PaddedGroup
        Padded evenly.
    penalty : ndarray of shape (n_group, d)
    right : ndarray of shape (d,)

    Returns
    -------
    systems : ndarray of shape (n_group, longest + 1, longest)
        Right sides are the last rows. Working memory, see `_scratch.py`.
    diagonals : ndarray of shape (n_group, d)
    """
    longest, width = group.blocks[0].shape[1] - 1, group.width
    shape = (group.n_clients, longest + 1, longest)
    systems = scratch("systems", shape, penalty.dtype)
    targets = group.pad(group.values).reshape(-1, longest + 1)
    scales = np.zeros((group.n_clients, 1, width), dtype=penalty.dtype)
    scales[:, 0, :-1] = np.sqrt(1 / penalty)
    is_rating = np.ones((1, longest + 1), dtype=penalty.dtype)
    is_rating[:, -1] = 0
    diagonals = np.empty_like(penalty)
    for block in group.blocks:
        x, own = group.rows(block), scales[block.clients]
        targets[block.clients] += x[:, :, -1]
        if group.roots is not None:
            x *= group.roots[block.places].reshape(*block.shape, 1)
        x *= own
        x[:, -1, :-1] = right * own[:, 0, :-1]
        np.matmul(x, x[:, :-1].swapaxes(1, 2), out=systems[block.clients])
        np.square(x, out=x)
        diagonals[block.clients] = np.matmul(is_rating, x)[:, 0, :-1]
    diagonals += 1
    diagonals *= penalty
    if group.roots is not None:
        targets *= group.roots.reshape(targets.shape)
    np.subtract(targets[:, :-1], systems[:, -1], out=systems[:, -1])
    np.einsum("cjj->cj", systems[:, :-1])[...] += 1
    return systems, diagonals
