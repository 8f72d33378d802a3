"""What dask and ray have in common: ratings placed once, sums added where they are."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from .._compat import single_threaded_blas
from .._types import ClientRatings, starts_and_end
from ._chunks import Shard, concatenate, cut, is_one_chunk, tree_sum
from ._joblib import Caller

_ATTEMPTS = 10  # to finish a round while workers are being lost
_PAUSE = 0.2  # seconds between two of them


@dataclass(frozen=True)
class Job:
    """What all workers are sent in a round: the step with the model, and how sums are added."""

    step: Callable
    combine: Callable | None = None


class PlacedRatings:
    """Ratings that are with the workers; `ClientRatings` as far as a simulation looks at it.

    Parameters
    ----------
    ratings : ClientRatings
        The same ratings, here.
    shards : list of Shard
        How they were cut.
    """

    def __init__(self, ratings: ClientRatings, shards: list[Shard]):
        self.ratings, self.shards = ratings, shards
        self.handles: list = [None] * len(shards)
        self.n_clients, self.n_ratings = ratings.n_clients, ratings.n_ratings
        self.n_items, self.clients = ratings.n_items, ratings.clients
        self._stops = np.array([shard.stop for shard in shards])

    def shard_ratings(self, number: int) -> ClientRatings:
        """Ratings of one shard."""
        return self.ratings.span(self.shards[number].start, self.shards[number].stop)

    def take(self, positions: np.ndarray) -> PlacedCohort:
        """Only the clients at ``positions``, ascending."""
        return PlacedCohort(self, positions)

    def here(self) -> ClientRatings:
        """The ratings in this process."""
        return self.ratings

    def tasks(self, n_workers: int) -> Iterable[tuple[Shard, list]]:
        """Shards, each with the pieces that it is made of: all of a placed shard here."""
        return ((shard, [(number, None)]) for number, shard in enumerate(self.shards))

    def pieces(self, positions: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """In which placed shards clients are, and where in them."""
        numbers = np.searchsorted(self._stops, positions, side="right")
        runs = np.split(positions, np.flatnonzero(np.diff(numbers)) + 1)
        return [
            (number, run - self.shards[number].start)
            for number, run in zip(np.unique(numbers).tolist(), runs, strict=True)
        ]


class PlacedCohort:
    """Some of the clients whose ratings are with the workers: nothing but their positions.

    Parameters
    ----------
    placed : PlacedRatings
    positions : ndarray of shape (n_clients,)
        Ascending.
    """

    def __init__(self, placed: PlacedRatings, positions: np.ndarray):
        self.placed, self._positions = placed, positions
        lengths = placed.ratings.indptr[positions + 1] - placed.ratings.indptr[positions]
        self._indptr = starts_and_end(lengths)
        self.n_clients, self.n_ratings = len(positions), int(self._indptr[-1])
        self.n_items = placed.n_items

    def here(self) -> ClientRatings:
        """The ratings in this process."""
        return self.placed.ratings.take(self._positions)

    def tasks(self, n_workers: int) -> Iterable[tuple[Shard, list]]:
        """Shards, each with the pieces that it is made of: parts of placed shards."""
        for shard in cut(self._indptr, self.n_items, n_workers):
            yield shard, self.placed.pieces(self._positions[shard.start : shard.stop])


class RemoteWorkers(Caller):
    """Shares shards among workers that have been given the ratings before.

    A round sends them the step with the model, and whose turn it is where that is not
    everybody's; back comes one sum. What is too small for two chunks stays with the caller.
    If ratings, models or sums are lost with a worker, the ratings lost are placed again, and
    the round is repeated.

    An engine says how objects travel, and what it raises when they are ``lost``.
    """

    n_workers: int
    lost: tuple[type[Exception], ...] = ()

    def __init__(self) -> None:
        self._placed: list[PlacedRatings] = []

    @abstractmethod
    def _send(self, pieces: list[ClientRatings]) -> list:
        """Place ratings with workers, neighbours together; return a handle of each."""

    @abstractmethod
    def _broadcast(self, job: Job) -> Any:
        """Send a job to all workers and return its handle."""

    @abstractmethod
    def _submit(self, task: Callable, *arguments) -> Any:
        """Have a task computed; handles among its arguments stand for what they name."""

    @abstractmethod
    def _fetch(self, handles: list) -> list:
        """Wait for results and return them."""

    @abstractmethod
    def _is_lost(self, handle) -> bool:
        """Whether what a handle names has been lost with a worker."""

    def __exit__(self, *exception) -> None:
        self._placed.clear()

    def place(self, ratings: ClientRatings) -> ClientRatings | PlacedRatings:
        """Ratings to be sent when they are first needed, unless they are one chunk."""
        if is_one_chunk(ratings):
            return ratings
        for placed in self._placed:
            if placed.ratings is ratings:
                return placed
        placed = PlacedRatings(ratings, cut(ratings.indptr, ratings.n_items, self.n_workers))
        self._placed.append(placed)
        return placed

    def results(self, step: Callable, cohort) -> Iterable:
        """Results of all chunks, in order."""
        if is_one_chunk(cohort):
            return super().results(step, _here(cohort))

        def attempt(placed):
            job = self._broadcast(Job(step))
            return chain.from_iterable(self._fetch(self._start(placed, job, shard_results)))

        return self._repeat(attempt, cohort)

    def total(self, step: Callable, combine: Callable, cohort) -> Any:
        """Sum of the results of all chunks, added up by the workers."""
        if is_one_chunk(cohort):
            return super().total(step, combine, _here(cohort))

        def attempt(placed):
            job = self._broadcast(Job(step, combine))
            sums = self._start(placed, job, shard_total)
            root = tree_sum(lambda pair: self._submit(merged, job, *pair), sums)
            return self._fetch([root])[0]

        return self._repeat(attempt, cohort)

    def _start(self, cohort, job, task: Callable) -> list:
        """Start a task for every shard of a cohort; return their handles."""
        placed = cohort if isinstance(cohort, PlacedRatings) else cohort.placed
        handles = []
        for shard, pieces in cohort.tasks(self.n_workers):
            parts = [placed.handles[number] for number, _ in pieces]
            parts = [
                part if positions is None else self._submit(taken, part, positions)
                for part, (_, positions) in zip(parts, pieces, strict=True)
            ]
            handles.append(self._submit(task, job, shard, *parts))
        return handles

    def _repeat(self, attempt: Callable, cohort) -> Any:
        """Make attempts until one gets through; place again what was lost."""
        cohort = self.place(cohort) if isinstance(cohort, ClientRatings) else cohort
        placed = cohort if isinstance(cohort, PlacedRatings) else cohort.placed
        for pause in [_PAUSE] * (_ATTEMPTS - 1):
            try:
                self._place_missing(placed)
                return attempt(cohort)
            except self.lost:
                time.sleep(pause)
        self._place_missing(placed)
        return attempt(cohort)

    def _place_missing(self, placed: PlacedRatings) -> None:
        """Send the ratings of shards that no worker has."""
        numbers = [n for n, h in enumerate(placed.handles) if h is None or self._is_lost(h)]
        if not numbers:
            return
        sent = self._send([placed.shard_ratings(number) for number in numbers])
        for number, handle in zip(numbers, sent, strict=True):
            placed.handles[number] = handle


def _here(cohort) -> ClientRatings:
    return cohort if isinstance(cohort, ClientRatings) else cohort.here()


def taken(ratings: ClientRatings, positions: np.ndarray) -> ClientRatings:
    """Ratings of some clients of a shard, where the shard is."""
    return ratings.take(positions)


def shard_results(job: Job, shard: Shard, *pieces: ClientRatings) -> list:
    """Results of the chunks of a shard."""
    with single_threaded_blas():
        return [job.step(chunk) for chunk in shard.chunks(concatenate(list(pieces)))]


def shard_total(job: Job, shard: Shard, *pieces: ClientRatings) -> Any:
    """Sum over the chunks of a shard."""
    with single_threaded_blas():
        return tree_sum(job.combine, map(job.step, shard.chunks(concatenate(list(pieces)))))


def merged(job: Job, left: Any, right: Any) -> Any:
    """One sum of two."""
    return job.combine([left, right])
