"""Ragged clients, padded to a common length with their likes.

A block holds so few ratings that its rows of the design matrix stay in the cache between the
gather and what they are multiplied with; nothing of size (ratings x components) exists outside
one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._types import ClientRatings
from ._scratch import scratch

_BLOCK_NUMBERS = 1 << 18  # of the design matrix of a block, at most


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
        Equal pieces that the ratings of a client are to be multiplied in.
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
        The rows, as `ServerModel.table` has them.
    start, stop : int
        The clients of the group.
    even : bool
        Whether all clients are padded to one more than the longest has, or each block as far
        as its own longest.
    piece : int or None
        Ratings of a client that are to be multiplied at once, at most; None is all.

    Attributes
    ----------
    ratings : slice
        Positions of the group's ratings.
    values : ndarray of shape (n_group_ratings,)
    blocks : list of Block
    size : int
        Padded ratings of the group.
    roots : ndarray of shape (size,) or None
        Square roots of the weights, padded.
    """

    def __init__(
        self,
        ratings: ClientRatings,
        table: np.ndarray,
        start: int,
        stop: int,
        *,
        even: bool = False,
        piece: int | None = None,
    ):
        indptr = ratings.indptr[start : stop + 1]
        self.ratings = slice(indptr[0], indptr[-1])
        self.values = ratings.values[self.ratings]
        self._table = table
        lengths = np.diff(indptr)
        self.blocks = self._cut(lengths, even, piece)
        self.size = self.blocks[-1].places.stop
        n_clients, longest = np.array([block.shape for block in self.blocks]).T
        padded = np.repeat(longest, n_clients)
        begins = np.cumsum(padded) - padded
        self._places = np.arange(len(self.values))
        self._places += np.repeat(begins - (indptr[:-1] - indptr[0]), lengths)
        self._items = self.pad(ratings.items[self.ratings], fill=len(table) - 1)
        weights = ratings.weights
        self.roots = None if weights is None else self.pad(np.sqrt(weights[self.ratings]))
        shape = (int(max(n_clients * longest)), table.shape[1])
        self._buffer = scratch("rows", shape, table.dtype)

    @property
    def n_clients(self) -> int:
        """Number of clients of the group."""
        return self.blocks[-1].clients.stop

    @property
    def width(self) -> int:
        """Length ``d + 1`` of a row."""
        return self._table.shape[1]

    def _cut(self, lengths: np.ndarray, even: bool, piece: int | None) -> list[Block]:
        """Blocks of the clients of the group, in their order."""
        size = _BLOCK_NUMBERS // self._table.shape[1]  # padded ratings
        cuts, stop = [], len(lengths)
        while stop > 0:
            longest = int(lengths[-1]) + 1 if even else int(lengths[stop - 1])
            n_pieces = 1 if piece is None else max(1, -(-longest // piece))
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

    def pad(self, values: np.ndarray, fill: float = 0) -> np.ndarray:
        """Numbers of the group's ratings, with padding, one block after the other."""
        padded = np.full(self.size, fill, dtype=values.dtype)
        padded[self._places] = values
        return padded

    def without_padding(self, padded: np.ndarray) -> np.ndarray:
        """The numbers that belong to a rating, in the order of the ratings."""
        return np.take(padded, self._places)

    def rows(self, block: Block) -> np.ndarray:
        """Rows of a block's ratings, (n_block, longest, d + 1); overwritten by the next."""
        items = self._items[block.places].reshape(block.shape)
        out = self._buffer[: items.size].reshape(*block.shape, self._table.shape[1])
        return np.take(self._table, items, axis=0, out=out, mode="clip")
