"""What a second worker brings: full rounds, and cohorts too small to share.

Wall seconds of a round with `n_jobs` workers (threads), and the speed-up over one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

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
    result = Table(
        f"Scaling with n_jobs, {name}: wall seconds of a round, medians of {repeats}",
        ["clients", "n_components", *(f"n_jobs={n}" for n in workers), "speed-up"],
    )
    random = np.random.default_rng(0)
    for k in options.components or (16, 32, 64):
        for size in (ratings.n_clients, 1000, 100):
            chosen = np.sort(random.permutation(ratings.n_clients)[:size])
            cohort = ratings.by_length() if size == ratings.n_clients else ratings.take(chosen)
            timings = measure(Round(cohort, k), workers, repeats, calls=max(4, 1000 // size))
            walls = [timing.wall_median for timing in timings]
            result.rows.append([cohort.n_clients, k, *walls, walls[0] / min(walls[1:], default=1)])
    result.notes.append("results are the same bits: see tests")
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
