"""What a second worker brings: full rounds, and cohorts too small to share.

Wall seconds of a round with `n_jobs` workers (threads), and the speed-up over one. Beside it,
what the machine could do: as many processes that share nothing, with a round each, at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from multiprocessing import get_context
from statistics import mean

import numpy as np

from sklearn_fedrecon._distribution import ChunkMap

from ._data import encoded, table
from ._measure import Timing, busy_seconds
from ._table import Table
from .round import Round

TRIES = 10
TOLERATED = 0.1  # cores that others may use during a measurement
CLOCK = 0.02  # seconds that the count of busy seconds is good for


def run(options) -> Iterator[Table]:
    repeats = options.repeats or 9
    X, y, name = table(options, (options.ratings or (1_000_000,))[0])
    ratings = encoded(X, y)
    workers = [1, *range(2, 1 + min(8, os.cpu_count() or 1))]
    columns = [f"n_jobs={n}" for n in workers]
    result = Table(
        f"Scaling with n_jobs, {name}: wall seconds of a round, medians of {repeats}",
        ["clients", "n_components", *columns, "speed-up", "of processes"],
    )
    random = np.random.default_rng(0)
    for k in options.components or (16, 32, 64):
        for size in (ratings.n_clients, 1000, 100):
            chosen = np.sort(random.permutation(ratings.n_clients)[:size])
            cohort = ratings.by_length() if size == ratings.n_clients else ratings.take(chosen)
            candidate, calls = Round(cohort, k), max(4, 1000 // size)
            timings = measure(candidate, workers, repeats, calls)
            walls = [timing.wall_median for timing in timings]
            speed_up = walls[0] / min(walls[1:], default=walls[0])
            apart = workers[-1] * walls[0] / at_once(candidate, workers[-1], repeats, calls)
            result.rows.append([cohort.n_clients, k, *walls, speed_up, apart])
    result.notes.append("results are the same bits: see tests")
    result.notes.append(
        f"of processes: rounds that {workers[-1]} of them do at once, a round each, in the time "
        "of one round alone"
    )
    yield result


def measure(candidate: Round, workers: list[int], repeats: int, calls: int) -> list[Timing]:
    """Timings for each number of workers, in turn, each with a pool of its own.

    A measurement during which other programs used a tenth of a core or more is made again,
    up to ten times: wall seconds would tell of them.
    """
    timings = [Timing() for _ in workers]
    for n_jobs, timing in zip(workers * repeats, timings * repeats, strict=True):
        with ChunkMap(n_jobs) as mapper:
            candidate.run(mapper)
            for _ in range(TRIES):
                attempt, before, own = Timing(), busy_seconds(), time.process_time()
                with attempt.measure(calls):
                    for _ in range(calls):
                        candidate.run(mapper)
                others = busy_seconds() - before - (time.process_time() - own)
                if not others > TOLERATED * attempt.wall[0] * calls + CLOCK:
                    break
        timing.wall += attempt.wall
        timing.cpu += attempt.cpu
    return timings


def at_once(candidate: Round, n_processes: int, repeats: int, calls: int) -> float:
    """Wall seconds of a round while each process does one of its own."""
    context = get_context("fork")
    barrier, answers = context.Barrier(n_processes), context.SimpleQueue()
    arguments = (candidate, barrier, answers, repeats, calls)
    processes = [context.Process(target=_alone, args=arguments) for _ in range(n_processes)]
    for process in processes:
        process.start()
    walls = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return mean(walls)


def _alone(candidate: Round, barrier, answers, repeats: int, calls: int) -> None:
    timing = Timing()
    with ChunkMap(1) as mapper:
        candidate.run(mapper)
        for _ in range(repeats):
            barrier.wait()
            with timing.measure(calls):
                for _ in range(calls):
                    candidate.run(mapper)
    answers.put(timing.wall_median)
