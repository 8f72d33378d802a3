"""What all clients are asked before round 1, when there is no model as yet to send them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._contracts import Aggregator, Exchange
from .._types import (
    Aggregate,
    ClientRatings,
    ClientUpdates,
    DeviceContext,
    PartialSum,
    Pattern,
    ServerContext,
    ServerModel,
)
from ..communication import message_bytes

_NUMBER = 8  # bytes: exchanges are in float64, whatever the arithmetic of the rounds


class RatingMean:
    """The mean of all ratings, from the weight and the sum of every client's own."""

    name = "mean of the ratings"

    def ask(self, model, state):
        """Ask for nothing that clients do not know."""
        return {}

    def answer(self, ratings: ClientRatings, message, context: DeviceContext) -> ClientUpdates:
        """Weight and weighted sum of the ratings of every client."""
        weights = ratings.rating_weights().astype(np.float64)
        return _numbers(ratings, total=weights * ratings.values, weight=weights)

    def conclude(self, total: Aggregate, model, state):
        """Divide."""
        mean = total.statistics["total"] / total.statistics["weight"]
        return model, state | {"mean": mean}


class RatingScale:
    """The standard deviation of all ratings, about the mean that clients are told.

    A question of its own, after that for the mean: from sums of squares about zero, sent along
    with the sums, ratings of a large mean would lose all digits of it.
    """

    name = "scale of the ratings"

    def ask(self, model, state):
        """Tell clients the mean."""
        return {"mean": state["mean"]}

    def answer(self, ratings: ClientRatings, message, context: DeviceContext) -> ClientUpdates:
        """Weight and sum of squares about the mean of every client."""
        weights = ratings.rating_weights().astype(np.float64)
        squares = weights * np.square(ratings.values.astype(np.float64) - message["mean"])
        if ratings.scatter is not None:
            squares += ratings.scatter
        return _numbers(ratings, squares=squares, weight=weights)

    def conclude(self, total: Aggregate, model, state):
        """One, where the ratings are all equal."""
        scale = np.sqrt(total.statistics["squares"] / total.statistics["weight"])
        return model, state | {"scale": scale}


def _numbers(ratings: ClientRatings, **per_rating: np.ndarray) -> ClientUpdates:
    """A message of numbers alone, each the sum over a client's own ratings."""
    nothing = np.zeros(0, dtype=ratings.items.dtype)
    pattern = Pattern(np.zeros(ratings.n_clients + 1, dtype=np.int64), nothing, ratings.n_items)
    sums = {name: ratings.client_sums(values) for name, values in per_rating.items()}
    return ClientUpdates(pattern, np.ones(ratings.n_clients), statistics=sums)


def run_exchanges(
    exchanges: list[Exchange],
    population: ClientRatings,
    aggregator: Aggregator,
    seed: int,
    map_chunks: Callable,
    model: ServerModel | None = None,
) -> tuple[ServerModel | None, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Ask all clients one question after the other.

    Parameters
    ----------
    exchanges : list of Exchange
    population : ClientRatings
        Or what `ChunkMap.place` made of it.
    aggregator : Aggregator
    seed : int
    map_chunks : callable
        Maps a client step over the chunks of a cohort.
    model : ServerModel or None

    Returns
    -------
    model : ServerModel or None
    state : dict of str to ndarray
        What the exchanges have concluded.
    costs : dict of str to ndarray of shape (n_exchanges,)
        A column a measurement.

    Raises
    ------
    ValueError
        If the answers to a question do not add up to finite numbers.
    """
    devices = DeviceContext(0, seed)
    server = ServerContext(0, 1.0, population.n_clients, seed)
    state: dict[str, np.ndarray] = {}
    rows = []
    for exchange in exchanges:
        cpu, wall = time.process_time(), time.perf_counter()
        message = exchange.ask(model, state)
        step = partial(_answer, exchange=exchange, message=message, context=devices)
        total = aggregator.combine(map_chunks(partial(step, aggregator=aggregator), population))
        outcome = aggregator.finish(total, aggregator.init(model), server)
        if outcome.aggregate is None:
            raise ValueError(
                f"The exchange of the {exchange.name} did not end in finite numbers: look for "
                "ratings or weights far larger than the others."
            )
        model, state = exchange.conclude(outcome.aggregate, model, state)
        rows.append(_costs(exchange, message, population.n_clients, outcome.measurements))
        rows[-1] |= {"cpu_seconds": time.process_time() - cpu}
        rows[-1] |= {"wall_seconds": time.perf_counter() - wall}
    names = rows[0] if rows else ()
    return model, state, {name: np.asarray([row[name] for row in rows]) for name in names}


def _answer(
    ratings: ClientRatings,
    exchange: Exchange,
    message: dict[str, np.ndarray],
    context: DeviceContext,
    aggregator: Aggregator,
) -> PartialSum:
    """What a chunk of clients sends back, on their side."""
    return aggregator.encode(exchange.answer(ratings, message, context), context)


def _costs(exchange: Exchange, message: dict, n_clients: int, measured: dict) -> dict[str, Any]:
    """A line about an exchange."""
    numbers_down = sum(np.size(value) for value in message.values())
    sent = measured["sent_indices"], measured["sent_numbers"]
    return {
        "exchange": exchange.name,
        "clients": n_clients,
        "bytes_down": n_clients * numbers_down * _NUMBER,
        "bytes_up": message_bytes(*sent, _NUMBER),
    }
