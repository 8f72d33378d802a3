"""Minibatches of many clients, so that all clients of a cohort take a step together.

Steps are sequential, clients are not: step ``t`` of every client is one operation on
arrays of shape (clients, batch size). Clients stand in the order of their number of
ratings, and so of steps, so that those who are done drop off the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .._types import ClientRatings
from ._blocks import BLOCK_SIZE


@dataclass(frozen=True)
class StepBlock:
    """Clients that step together, and a table with their batches as its rows.

    Attributes
    ----------
    clients : ndarray of shape (n_block,)
        Positions of the clients, those with most steps first.
    positions : ndarray of shape (n_batches, width)
        Positions of the ratings of each batch; padding points one past the last rating.
    shares : ndarray of shape (n_batches, width)
        Weight of each rating over that of its batch, zero for padding: the loss of a batch
        is a mean.
    weights : ndarray of shape (n_batches,)
        Weight of each batch.
    first : ndarray of shape (n_block,)
        The first batch of each client.
    n_batches : ndarray of shape (n_block,)
        Batches of each client; epochs go through them again, in the same order.
    n_steps : ndarray of shape (n_block,)
        Steps of each client, over all epochs.
    """

    clients: np.ndarray
    positions: np.ndarray
    shares: np.ndarray
    weights: np.ndarray
    first: np.ndarray
    n_batches: np.ndarray
    n_steps: np.ndarray

    def steps(self) -> Iterator[np.ndarray]:
        """Yield the batch of each client, step by step.

        Yields
        ------
        batches : ndarray of shape (n_active,)
            Those of the first ``n_active`` clients; the others are done.
        """
        for step in range(self.n_steps.max(initial=0)):
            n_active = np.count_nonzero(self.n_steps > step)
            yield self.first[:n_active] + step % self.n_batches[:n_active]


def count_steps(
    ratings: ClientRatings, n_epochs: int, max_steps: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Batches that each client uses, and steps over all epochs.

    Parameters
    ----------
    ratings : ClientRatings
    n_epochs : int
        Passes over the batches of a client.
    max_steps : int or None
        Limit to the steps of all epochs together.

    Returns
    -------
    n_batches, n_steps : ndarray of shape (n_clients,)
    """
    n_batches = -(-ratings.lengths // _batch_size(ratings))
    n_steps = n_batches * n_epochs
    if max_steps is not None:
        n_steps = np.minimum(n_steps, max_steps)
    return np.minimum(n_batches, n_steps), n_steps


def used_ratings(ratings: ClientRatings, n_epochs: int, max_steps: int | None) -> ClientRatings:
    """Only the ratings that are processed before the steps run out.

    Parameters
    ----------
    ratings : ClientRatings
    n_epochs : int
    max_steps : int or None

    Returns
    -------
    ratings : ClientRatings
    """
    n_batches, _ = count_steps(ratings, n_epochs, max_steps)
    kept = np.minimum(ratings.lengths, n_batches * _batch_size(ratings))
    if np.array_equal(kept, ratings.lengths):
        return ratings
    return ratings.first(kept)


def step_blocks(
    ratings: ClientRatings, n_epochs: int, max_steps: int | None
) -> Iterator[StepBlock]:
    """Blocks of clients whose batches of one step fit into the cache.

    Parameters
    ----------
    ratings : ClientRatings
    n_epochs : int
    max_steps : int or None

    Yields
    ------
    block : StepBlock
    """
    n_batches, n_steps = count_steps(ratings, n_epochs, max_steps)
    widths = np.minimum(ratings.lengths, _batch_size(ratings))
    order = np.argsort(-ratings.lengths, kind="stable")
    order = order[n_steps[order] > 0]
    start = 0
    while start < len(order):
        stop = start + max(1, BLOCK_SIZE // int(widths[order[start]]))
        clients = order[start:stop]
        yield _step_block(ratings, clients, n_batches[clients], n_steps[clients])
        start = stop


def _step_block(
    ratings: ClientRatings, clients: np.ndarray, n_batches: np.ndarray, n_steps: np.ndarray
) -> StepBlock:
    """Cut the ratings of ``clients`` into rows of one table."""
    size = _batch_size(ratings)
    first = np.cumsum(n_batches) - n_batches
    within = np.arange(n_batches.sum()) - np.repeat(first, n_batches)
    starts = np.repeat(ratings.indptr[clients], n_batches) + within * size
    stops = np.minimum(starts + size, np.repeat(ratings.indptr[clients + 1], n_batches))
    positions = starts[:, None] + np.arange((stops - starts).max())
    padding = positions >= stops[:, None]
    positions[padding] = ratings.n_ratings
    weights = np.append(ratings.rating_weights(), 0)[positions]
    totals = weights.sum(axis=1, dtype=np.float64)
    shares = weights / np.where(totals > 0, totals, 1)[:, None]
    dtype = ratings.values.dtype
    return StepBlock(clients, positions, shares.astype(dtype), totals, first, n_batches, n_steps)


def _batch_size(ratings: ClientRatings) -> int:
    """Ratings of a batch; all of the longest client where there are no batches."""
    return ratings.batch_size or max(1, int(ratings.lengths.max(initial=1)))
