"""Ragged clients in padded blocks of similar length, and the batched kernels on them.

A block holds so few ratings that its rows of the design matrix stay in the cache between
the gather, the Gram matrices and the residuals; nothing of size (ratings x components)
exists outside one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ._scratch import scratch
from ._systems import solve_systems
from ._types import ClientRatings, ServerModel, SupportStatistics, UserStates

BLOCK_SIZE = 8192  # ratings that are predicted, or stepped through, at once
_BLOCK_NUMBERS = 1 << 18  # of the design matrix of a block, at most
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
    for start, stop in client_groups(ratings.n_clients, d + 1):
        group = PaddedGroup(ratings, table, targets, start, stop)
        systems, clients = group.systems(), slice(start, stop)
        diagonal = np.einsum("cjj->cj", systems[:, :d, :d])  # a view
        diagonal += ridge if extra is None else ridge + extra[clients]
        systems[:, d, :d] += ridge * prior_mean
        diagonals[clients] = diagonal
        states[clients] = solve_systems(systems)
        residuals[group.ratings] = group.residuals(states[clients])
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
    """Neighbours with about the same number of ratings, padded to the longest.

    Attributes
    ----------
    clients : slice
        Their positions in the group.
    places : slice
        Where their padded ratings are among those of the group.
    shape : tuple of (int, int)
        Clients, and padded ratings of each.
    n_pieces : int
        Equal pieces that the ratings of a client are multiplied in.
    """

    clients: slice
    places: slice
    shape: tuple[int, int]
    n_pieces: int


class PaddedGroup:
    """Rows of the design matrix of a group of clients, in blocks that stay in the cache.

    Padding is rows of zeros. What can be done for all blocks at once is: the fewer and the
    longer the operations, the less do workers wait for each other.

    Parameters
    ----------
    ratings : ClientRatings
        Clients in ascending order of their number of ratings.
    table : ndarray of shape (n_items + 1, d + 1)
    targets : ndarray of shape (n_ratings,)
    start, stop : int
        The clients of the group.

    Attributes
    ----------
    ratings : slice
        Positions of the group's ratings.
    blocks : list of Block
    """

    def __init__(
        self,
        ratings: ClientRatings,
        table: np.ndarray,
        targets: np.ndarray,
        start: int,
        stop: int,
    ):
        indptr = ratings.indptr[start : stop + 1]
        self.ratings = slice(indptr[0], indptr[-1])
        self._table, self._width, self._targets = table, table.shape[1], targets[self.ratings]
        lengths = np.diff(indptr)
        self.blocks = self._cut(lengths)
        n_clients, longest = np.array([block.shape for block in self.blocks]).T
        padded = np.repeat(longest, n_clients)
        begins = np.cumsum(padded) - padded
        self._places = np.arange(len(self._targets))
        self._places += np.repeat(begins - (indptr[:-1] - indptr[0]), lengths)
        self._size = self.blocks[-1].places.stop
        self._items = self._pad(ratings.items[self.ratings], fill=len(table) - 1)
        self._weights = None if ratings.weights is None else ratings.weights[self.ratings]
        shape = (int(max(n_clients * longest)), self._width)
        self._buffer = scratch("rows", shape, table.dtype)

    def _cut(self, lengths: np.ndarray) -> list[Block]:
        """Blocks of the clients of the group, in their order."""
        size = _BLOCK_NUMBERS // self._width  # padded ratings
        piece = max(1, _SMALL_PRODUCT // self._width**2)
        cuts, stop = [], len(lengths)
        while stop > 0:
            longest = int(lengths[stop - 1])
            n_pieces = 1 if self._width >= _SYRK_WIDTH else max(1, -(-longest // piece))
            longest = -(-longest // n_pieces) * n_pieces
            start = max(0, stop - max(1, size // max(1, longest)))
            cuts.append((start, stop, longest, n_pieces))
            stop = start
        blocks, place = [], 0
        for start, stop, longest, n_pieces in reversed(cuts):
            end = place + (stop - start) * longest
            shape = (stop - start, longest)
            blocks.append(Block(slice(start, stop), slice(place, end), shape, n_pieces))
            place = end
        return blocks

    def _pad(self, values: np.ndarray, fill: float = 0) -> np.ndarray:
        """Numbers of the group's ratings, with padding, one block after the other."""
        padded = np.full(self._size, fill, dtype=values.dtype)
        padded[self._places] = values
        return padded

    def systems(self) -> np.ndarray:
        """Sums of ``w x x'`` and, below and beside them, of ``w y x``.

        Returns
        -------
        systems : ndarray of shape (n_group, d + 1, d + 1)
            The last column may be anything. Working memory, see `_scratch.py`.
        """
        shape = (self.blocks[-1].clients.stop, self._width, self._width)
        systems = scratch("systems", shape, self._table.dtype)
        targets = self._pad(self._targets)
        roots = None if self._weights is None else self._pad(np.sqrt(self._weights))
        for block in self.blocks:
            x = self._rows(block)
            x[:, :, -1] = targets[block.places].reshape(block.shape)
            if roots is not None:
                x *= roots[block.places].reshape(*block.shape, 1)
            _multiply(x, block.n_pieces, out=systems[block.clients])
        return systems

    def residuals(self, states: np.ndarray) -> np.ndarray:
        """``y - x . z`` of the group's ratings, shape (n_ratings,)."""
        predictions = np.empty(self._size, dtype=self._table.dtype)
        for block in self.blocks:
            out = predictions[block.places].reshape(*block.shape, 1)
            np.matmul(self._rows(block)[:, :, :-1], states[block.clients, :, None], out=out)
        found = np.take(predictions, self._places)
        return np.subtract(self._targets, found, out=found)

    def _rows(self, block: Block) -> np.ndarray:
        """Rows of a block's ratings, (n_block, longest, d + 1); overwritten by the next."""
        items = self._items[block.places].reshape(block.shape)
        out = self._buffer[: items.size].reshape(*block.shape, self._width)
        return np.take(self._table, items, axis=0, out=out, mode="clip")


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
