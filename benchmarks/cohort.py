"""One round of a sampled cohort: sampling, the round, bookkeeping and history.

Milliseconds of CPU between one round's entry in the history and the next, one thread, the
first rounds not counted. The population only grows the table of the ratings; a round should
not notice it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from sklearn_fedrecon._distribution import ChunkMap
from sklearn_fedrecon._training._history import History
from sklearn_fedrecon._training._loop import Schedule, simulate
from sklearn_fedrecon._types import ClientRatings, LoopState
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.sampling import FixedSampling

from ._data import ITEMS_1M, encoded, movielens
from ._measure import one_thread
from ._table import Table
from .round import Round

COHORTS = (10, 100, 1000)
POPULATIONS = (10_000, 100_000, 1_000_000)
RATINGS_PER_USER = 20
WARM_UP = 5


def run(options) -> Iterator[Table]:
    components = options.components or (16, 32)
    rounds = options.repeats or 50
    result = Table(
        f"One round of a cohort, CPU milliseconds, medians of {rounds} rounds",
        ["data", "users", "cohort", "n_components", "ratings", "CPU ms", "wall ms", "worst ms"],
    )
    for name, ratings in populations(options):
        for size in COHORTS:
            for k in components:
                figures = rounds_of(ratings, size, k, rounds)
                result.rows.append([name, ratings.n_clients, size, k, *figures])
    result.notes.append(f"{ITEMS_1M:,} items in make_ratings; one thread, float32")
    yield result


def populations(options) -> Iterator[tuple[str, ClientRatings]]:
    """The shape of a million ratings, then ever more users of few ratings each."""
    if options.movielens:
        bunch = movielens(options.movielens)
        yield f"MovieLens {options.movielens}", encoded(bunch.data, bunch.target)
        return
    yield "make_ratings()", encoded(*make_ratings(random_state=0, return_X_y=True))
    for n_users in options.users or POPULATIONS:
        X, y = make_ratings(
            n_users, ITEMS_1M, RATINGS_PER_USER * n_users, random_state=0, return_X_y=True
        )
        ratings = encoded(X, y)
        del X, y
        yield f"make_ratings, {RATINGS_PER_USER} each", ratings


def rounds_of(ratings: ClientRatings, size: int, n_components: int, n_rounds: int) -> list:
    """Ratings of a cohort, and milliseconds of a round: CPU, wall, and the slowest's CPU."""
    start = Round(ratings, n_components)
    schedule = Schedule(FixedSampling(size), n_rounds + WARM_UP, seed=0, tol=None)
    loop = LoopState(start.state)
    history, cpu, wall = History(), [time.process_time()], [time.perf_counter()]
    with one_thread(), ChunkMap(1) as mapper:
        sums = mapper.summed(start.parts.aggregator.combine)
        for _, report in simulate(ratings, loop, start.parts, schedule, sums):
            history.add(report)
            cpu.append(time.process_time())
            wall.append(time.perf_counter())
    milliseconds = 1e3 * np.diff(cpu)[WARM_UP:]
    rated = int(np.median(history.columns()["ratings"]))
    return [
        rated,
        float(np.median(milliseconds)),
        float(np.median(1e3 * np.diff(wall)[WARM_UP:])),
        float(milliseconds.max()),
    ]
