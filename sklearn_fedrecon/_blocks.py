"""Ragged clients in padded blocks of similar length, and the batched kernels on them.

A block holds so few ratings that its rows of the design matrix stay in the cache between
the gather, the Gram matrices and the residuals; nothing of size (ratings x components)
exists outside one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ._systems import solve_systems
from ._types import ClientRatings, ServerModel, SupportStatistics, UserStates

BLOCK_SIZE = 8192  # padded ratings of a block, at most
_BLOCK_NUMBERS = 1 << 17  # of the design matrix of a block
_GROUP_NUMBERS = 1 << 21  # of the systems that are solved together
_SMALL_PRODUCT = 10**6  # multiplications up to which OpenBLAS does without packing
_SYRK_WIDTH = 90  # from it on, half of the multiplications is worth more than that


def solve_users(
    ratings: ClientRatings,
    table: np.ndarray,
    targets: np.ndarray,
    ridge: np.ndarray,
    prior_mean: np.ndarray,
    extra: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ridge regression of every client's targets on its items' rows.

    Solves ``(diag(ridge + extra_c) + sum w x x') z = ridge * prior_mean + sum w x y``.
    Clients in ascending order of their number of ratings are the fastest: others are put
    into that order first.

    Parameters
    ----------
    ratings : ClientRatings
    table : ndarray of shape (n_items + 1, d + 1)
        The rows ``x_i``, as `ServerModel.table` has them.
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
    order = ratings.order_of_length()
    if order is not None:
        rows, indptr = ratings.rows_of(order)
        ordered, extra = ratings.pick(rows, indptr), None if extra is None else extra[order]
        solved = solve_users(ordered, table, targets[rows], ridge, prior_mean, extra)
        return tuple(
            _put(values, where) for values, where in zip(solved, (order, order, rows), strict=True)
        )
    d, dtype = table.shape[1] - 1, table.dtype
    states = np.empty((ratings.n_clients, d), dtype=dtype)
    diagonals = np.empty_like(states)
    residuals = np.empty(ratings.n_ratings, dtype=dtype)
    padded = PaddedRows(ratings, table, targets)
    for start, stop in client_groups(ratings.n_clients, d + 1):
        group, blocks = slice(start, stop), padded.blocks(start, stop)
        systems = padded.systems(blocks)
        diagonal = np.einsum("cjj->cj", systems[:, :d, :d])  # a view
        diagonal += ridge if extra is None else ridge + extra[group]
        systems[:, d, :d] += ridge * prior_mean
        diagonals[group] = diagonal
        states[group] = solve_systems(systems)
        padded.residuals(blocks, states[group], out=residuals)
    return states, diagonals, residuals


def client_groups(n_clients: int, width: int) -> list[tuple[int, int]]:
    """First and last (exclusive) of the clients whose systems are solved together.

    As few groups of about the same size as there can be without systems, of ``width`` rows
    and columns, that leave the cache.
    """
    n_groups = min(n_clients, -(-n_clients * width**2 // _GROUP_NUMBERS))
    return list(pairwise(np.linspace(0, n_clients, n_groups + 1).astype(int).tolist()))


def _put(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Row ``j`` of ``values`` at position ``where[j]``."""
    placed = np.empty_like(values)
    placed[where] = values
    return placed


@dataclass(frozen=True)
class Block:
    """Clients with about the same number of ratings, padded to the longest.

    Attributes
    ----------
    clients : slice
        Their positions in the group of clients that is solved together.
    ratings : slice
        Positions of their ratings.
    items : ndarray of shape (n_block, longest)
        Items of their ratings; padding points one past the last item.
    mask : ndarray of shape (n_block, longest) or None
        What is not padding; None where nothing is.
    n_pieces : int
        Equal pieces that the ratings of a client are multiplied in.
    """

    clients: slice
    ratings: slice
    items: np.ndarray
    mask: np.ndarray | None
    n_pieces: int = 1

    def pad(self, values: np.ndarray, fill: float = 0) -> np.ndarray:
        """Numbers of all ratings in the shape of this block, (n_block, longest)."""
        return _pad(values[self.ratings], self.items.shape, self.mask, fill)


def _pad(values: np.ndarray, shape: tuple, mask: np.ndarray | None, fill: float) -> np.ndarray:
    """Consecutive ``values`` where ``mask`` is true, ``fill`` elsewhere."""
    if mask is None:
        return values.reshape(shape)
    padded = np.full(shape, fill, dtype=values.dtype)
    padded[mask] = values
    return padded


class PaddedRows:
    """Rows of the design matrix, client by client, in blocks that stay in the cache.

    Padding is rows of zeros. Each row ends with a place for the rating's target.

    Parameters
    ----------
    ratings : ClientRatings
        Clients in ascending order of their number of ratings.
    table : ndarray of shape (n_items + 1, d + 1)
    targets : ndarray of shape (n_ratings,)
    """

    def __init__(self, ratings: ClientRatings, table: np.ndarray, targets: np.ndarray):
        self._indptr, self._lengths = ratings.indptr, ratings.lengths
        self._items, self._targets = ratings.items.astype(np.intp), targets
        self._roots = None if ratings.weights is None else np.sqrt(ratings.weights)
        self._table, self._width = table, table.shape[1]
        self._size = min(BLOCK_SIZE, _BLOCK_NUMBERS // self._width)  # padded ratings
        longest = int(self._lengths.max(initial=1))
        self._piece = longest  # ratings that are multiplied at once
        if self._width < _SYRK_WIDTH:
            self._piece = max(1, _SMALL_PRODUCT // self._width**2)
        rows = max(self._size, longest + longest // self._piece)
        self._buffer = np.empty((rows, self._width), dtype=table.dtype)

    def blocks(self, start: int, stop: int) -> list[Block]:
        """Blocks of the clients ``start:stop``, which are one group."""
        blocks, first = [], start
        while stop > first:
            longest = int(self._lengths[stop - 1])
            n_pieces = max(1, -(-longest // self._piece))
            longest = -(-longest // n_pieces) * n_pieces
            start = max(first, stop - max(1, self._size // max(1, longest)))
            lengths = self._lengths[start:stop]
            mask = None if lengths[0] == longest else np.arange(longest) < lengths[:, None]
            ours = slice(self._indptr[start], self._indptr[stop])
            items = _pad(self._items[ours], (stop - start, longest), mask, len(self._table) - 1)
            blocks.append(Block(slice(start - first, stop - first), ours, items, mask, n_pieces))
            stop = start
        return blocks

    def systems(self, blocks: list[Block]) -> np.ndarray:
        """Sums of ``w x x'`` and, below and beside them, of ``w y x``.

        Returns
        -------
        systems : ndarray of shape (n_group, d + 1, d + 1)
            The last column may be anything.
        """
        shape = (blocks[0].clients.stop, self._width, self._width)
        systems = np.empty(shape, dtype=self._table.dtype)
        for block in blocks:
            x = self._rows(block)
            x[:, :, -1] = block.pad(self._targets)
            if self._roots is not None:
                x *= block.pad(self._roots)[:, :, None]
            _multiply(x, block.n_pieces, out=systems[block.clients])
        return systems

    def residuals(self, blocks: list[Block], states: np.ndarray, out: np.ndarray) -> None:
        """Write ``y - x . z`` of the ratings of ``blocks`` to their places in ``out``."""
        for block in blocks:
            x, z = self._rows(block)[:, :, :-1], states[block.clients, :, None]
            predictions = np.matmul(x, z)[:, :, 0]
            ours = predictions.ravel() if block.mask is None else predictions[block.mask]
            np.subtract(self._targets[block.ratings], ours, out=out[block.ratings])

    def _rows(self, block: Block) -> np.ndarray:
        """Rows of the ratings of a block, shape (n_block, longest, d + 1); good until the next."""
        out = self._buffer[: block.items.size].reshape(*block.items.shape, self._width)
        return np.take(self._table, block.items, axis=0, out=out, mode="clip")


def _multiply(x: np.ndarray, n_pieces: int, out: np.ndarray) -> None:
    """Products ``x' x`` of many matrices, the last column of the products left out.

    Products of two shapes are computed by GEMM, which for small ones is faster than SYRK,
    although it computes both triangles.
    """
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
