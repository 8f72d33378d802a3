"""One round with all clients, as a ratio to the same arithmetic in plain NumPy.

The time of a round is that which the estimator records of it: rebuilding the users, their
messages, the sums, the server's step. The plain kernel (see `_plain.py`) does the first and
the last but one only. BLAS has one thread, rounds and kernels alternate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._distribution import ChunkMap
from sklearn_fedrecon._training._loop import timed_round
from sklearn_fedrecon._training._parts import build_parts
from sklearn_fedrecon._types import ClientRatings, Prepared, ServerContext, ServerState

from ._data import encoded, table
from ._measure import alternate, one_thread
from ._plain import plain_round
from ._table import Table

COMPONENTS = (8, 16, 32, 64, 128)
RATINGS = (100_000, 1_000_000)
LARGE = 20_000_000
REPEATS = 7


class Round:
    """A simulation that stands before a round, and can do it over and over."""

    def __init__(self, ratings: ClientRatings, n_components: int, n_jobs: int | None = None):
        self.parts = build_parts(FederatedReconstructionMF(n_components))
        mean, scale = float(ratings.values.mean()), float(ratings.values.std())
        self.model = self.parts.reconstruction.initial_model(
            ratings.n_items,
            n_components,
            fit_bias=True,
            global_mean=mean,
            scale=scale,
            dtype=ratings.values.dtype,
            seed=0,
        )
        self.ratings, self.n_jobs = ratings, n_jobs
        aggregator = self.parts.aggregator.init(self.model)
        self.state = ServerState(
            self.model, aggregator, self.parts.server_optimizer.init(self.model)
        )
        self.context = ServerContext(0, 1.0, ratings.n_clients, 0)

    def run(self, mapper: ChunkMap) -> ServerState:
        """The round; what comes after it is not kept."""
        ours, sums = self.ratings, mapper.summed(self.parts.aggregator.combine)
        state, _ = timed_round(ours, ours.n_clients, self.state, self.parts, self.context, sums)
        return state

    def advance(self, mapper: ChunkMap) -> None:
        """Keep the result: the variances of the items are zero before the first round."""
        self.state = self.run(mapper)

    def plain(self, *, zero_row: bool) -> None:
        """The arithmetic of the round in plain NumPy."""
        model = self.state.model
        noise = np.float32(model.noise_variance)
        plain_round(
            self.ratings,
            model.item_factors,
            model.item_variance,
            Prepared.of(model).residuals(self.ratings),
            noise,
            np.float32(noise / model.user_prior_variance[0]),
            zero_row=zero_row,
        )


def run(options) -> Iterator[Table]:
    sizes = options.ratings or (*RATINGS, *([LARGE] if options.large else []))
    for n_ratings in sizes[:1] if options.movielens else sizes:
        X, y, name = table(options, n_ratings)
        # `fit` puts the clients into this order once, before its rounds.
        ratings = encoded(X, y).by_length()
        del X, y
        yield one_size(ratings, name, options)


def one_size(ratings: ClientRatings, name: str, options) -> Table:
    repeats = options.repeats or (3 if ratings.n_ratings > 5_000_000 else REPEATS)
    result = Table(
        f"One round, {name}: {ratings.n_ratings:,} ratings, {ratings.n_clients:,} clients, "
        f"{ratings.n_items:,} items; CPU seconds, medians of {repeats}",
        ["n_components", "round", "wall", "ns/rating", "plain", "ratio", "zero row", "ratio"],
    )
    for k in options.components or COMPONENTS:
        candidate = Round(ratings, k)
        with one_thread(), ChunkMap(1) as mapper:
            candidate.advance(mapper)
            timings = alternate(
                {
                    "round": lambda c=candidate: c.run(mapper),
                    "plain": lambda c=candidate: c.plain(zero_row=False),
                    "zero row": lambda c=candidate: c.plain(zero_row=True),
                },
                repeats,
            )
        ours, plain, zero_row = (timings[kind] for kind in ("round", "plain", "zero row"))
        cpu = ours.cpu_median
        result.rows.append(
            [
                k,
                cpu,
                ours.wall_median,
                1e9 * cpu / ratings.n_ratings,
                plain.cpu_median,
                cpu / plain.cpu_median,
                zero_row.cpu_median,
                cpu / zero_row.cpu_median,
            ]
        )
    result.notes.append("float32, one thread; the plain kernels do less: see benchmarks/_plain.py")
    return result
