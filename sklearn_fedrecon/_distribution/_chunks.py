"""How a cohort is cut, and in which order its sums are added: the same for every engine.

A *chunk* is consecutive clients that are about a `n_chunks`-th of the work: what a step takes
at once. A *shard* is consecutive chunks, as many as a power of two says: what one task computes.
Neither the chunks nor the order of the sums depend on the shards, so shards may be cut to suit
the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._types import ClientRatings, chunk_bounds, starts_and_end

CHUNK_SIZE = 262144  # ratings of the unit of parallel work, at most, on average
_CLIENT_LOAD = 50  # ratings that take as long as what there is to do once for a client
_MANY_ITEMS = 8192  # above it, larger chunks: each sends a sum for every item
_SHARDS_PER_WORKER = 8  # that workers of different speed end together


def n_chunks(n_ratings: int, n_items: int) -> int:
    """In how many chunks a cohort is cut: a power of two.

    Parameters
    ----------
    n_ratings : int
        Of the cohort.
    n_items : int

    Returns
    -------
    n_chunks : int
    """
    largest, number = CHUNK_SIZE * max(1, n_items / _MANY_ITEMS), 1
    while n_ratings > number * largest:
        number *= 2
    return number


def is_one_chunk(cohort) -> bool:
    """Whether sharing a cohort would cost more than it saves.

    Parameters
    ----------
    cohort : ClientRatings, PlacedRatings or PlacedCohort

    Returns
    -------
    bool
    """
    return n_chunks(cohort.n_ratings, cohort.n_items) == 1


def cut_chunks(indptr: np.ndarray, n_items: int) -> list[int]:
    """Clients at which the chunks of a cohort begin and end: even shares of the work.

    Parameters
    ----------
    indptr : ndarray of shape (n_clients + 1,)
    n_items : int

    Returns
    -------
    bounds : list of int
        From 0 to ``n_clients``, ascending; of length 1 where there are no clients.
    """
    loads = indptr + _CLIENT_LOAD * np.arange(len(indptr))
    return chunk_bounds(loads, max(1, -(-int(loads[-1]) // n_chunks(int(indptr[-1]), n_items))))


@dataclass(frozen=True)
class Shard:
    """Consecutive clients of a cohort.

    Attributes
    ----------
    start, stop : int
        Positions of the clients in the cohort.
    bounds : tuple of int
        Where its chunks begin and end, counted from ``start``.
    """

    start: int
    stop: int
    bounds: tuple[int, ...]

    def chunks(self, ratings: ClientRatings) -> Iterator[ClientRatings]:
        """Yield the chunks of ``ratings``, those of the clients of this shard alone."""
        return ratings.spans(self.bounds)


def cut(indptr: np.ndarray, n_items: int, n_workers: int) -> list[Shard]:
    """Cut a cohort into shards.

    Parameters
    ----------
    indptr : ndarray of shape (n_clients + 1,)
    n_items : int
    n_workers : int

    Returns
    -------
    shards : list of Shard
        About `_SHARDS_PER_WORKER` for each worker, unless there are fewer chunks.
    """
    bounds, width = cut_chunks(indptr, n_items), 1
    while len(bounds) - 1 > _SHARDS_PER_WORKER * n_workers * width:
        width *= 2
    inner = [bounds[first : first + width + 1] for first in range(0, len(bounds) - 1, width)]
    return [Shard(b[0], b[-1], tuple(bound - b[0] for bound in b)) for b in inner]


def tree_sum(combine: Callable[[list], Any], partials: Iterable) -> Any:
    """Add sums up, neighbours first, as a binary tree over their positions.

    The sum of the first ``2**m`` of ``n`` partials, the largest power below ``n``, is added to
    the sum of the others, and each of the two is made in the same way. Aligned runs of a power
    of two can so be added elsewhere, and nothing changes.

    Parameters
    ----------
    combine : callable
        Makes one of a list of two.
    partials : iterable
        At least one.

    Returns
    -------
    total : object
    """
    stack: list[tuple[int, Any]] = []
    for value in partials:
        level = 0
        while stack and stack[-1][0] == level:
            value, level = combine([stack.pop()[1], value]), level + 1
        stack.append((level, value))
    total = stack.pop()[1]
    while stack:
        total = combine([stack.pop()[1], total])
    return total


def concatenate(pieces: list[ClientRatings]) -> ClientRatings:
    """Ratings of the clients of all pieces, in order.

    Parameters
    ----------
    pieces : list of ClientRatings
        At least one, of the same kind.

    Returns
    -------
    ratings : ClientRatings
    """
    if len(pieces) == 1:
        return pieces[0]

    def joined(name):
        columns = [getattr(piece, name) for piece in pieces]
        return None if columns[0] is None else np.concatenate(columns)

    names = ("items", "values", "clients", "weights", "scatter")
    indptr = starts_and_end(np.concatenate([piece.lengths for piece in pieces]))
    return replace(pieces[0], indptr=indptr, **{name: joined(name) for name in names})
