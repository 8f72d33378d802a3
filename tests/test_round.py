"""One round with parts simple enough to be worked out by hand."""

import numpy as np
import pytest

from sklearn_fedrecon._round import RoundParts, ServerState, on_devices, run_round
from sklearn_fedrecon._types import ClientRatings, PartialSum, RoundContext

CONTEXT = RoundContext(round=4, n_clients=9, rate=0.5, seed=1)
MODEL = {"slope": 2.0}


class Toy:
    """All five stations; they work on numbers and note what they are called with.

    A client's support is its first rating, its query the last. A user is the support times the
    slope of the model, its update the query less that; the server adds the mean to the slope.
    """

    def __init__(self, *, finite=True):
        self.finite, self.calls = finite, []

    def note(self, name, context):
        assert context is CONTEXT
        self.calls.append(name)

    def split(self, ratings, context):
        self.note("split", context)
        return ratings.values[ratings.indptr[:-1]], ratings.values[ratings.indptr[1:] - 1]

    def reconstruct(self, support, model, context):
        self.note("reconstruct", context)
        return support * model["slope"]

    def update(self, query, users, model, context):
        self.note("update", context)
        assert model is MODEL
        return query - users

    def encode(self, updates, context):
        self.note("encode", context)
        return PartialSum({"step": updates.sum()}, float(len(updates)), {"sent": len(updates)})

    def combine(self, partials):
        self.calls.append("combine")
        total = PartialSum({"step": np.zeros(())}, 0.0, {"sent": 0})
        for partial in partials:
            total = total + partial
        return total

    def finish(self, total, state, context):
        self.note("finish", context)
        assert state == {"aggregator": 1}
        mean = {"step": total.sums["step"] / total.weight}
        return mean, {"aggregator": 2}, {**total.measurements, "finite": self.finite}

    def apply(self, model, aggregate, state, context):
        self.note("apply", context)
        assert state == {"optimizer": 1}
        return {"slope": model["slope"] + float(aggregate["step"])}, {"optimizer": 2}


@pytest.fixture
def ratings():
    """Three clients with first and last ratings (1, 3), (10, 20) and (5, 5)."""
    return ClientRatings(
        indptr=np.array([0, 3, 5, 6]),
        items=np.zeros(6, dtype=np.int32),
        values=np.array([1.0, 2.0, 3.0, 10.0, 20.0, 5.0]),
        n_items=1,
        clients=np.arange(3),
    )


def start():
    return ServerState(MODEL, {"aggregator": 1}, {"optimizer": 1})


def run(ratings, toy, size):
    parts = RoundParts(toy, toy, toy, toy, toy)
    return run_round(
        ratings, start(), parts, CONTEXT, lambda step, cohort: map(step, cohort.chunks(size))
    )


@pytest.mark.parametrize("size", [1, 100])
def test_a_round_is_algorithm_1(ratings, size):
    state, measured = run(ratings, Toy(), size)
    steps = [3 - 1 * 2.0, 20 - 10 * 2.0, 5 - 5 * 2.0]
    assert state.model == {"slope": 2.0 + sum(steps) / 3}
    assert (state.aggregator, state.optimizer) == ({"aggregator": 2}, {"optimizer": 2})
    assert measured == {"sent": 3, "finite": True}


def test_stations_in_their_order(ratings):
    toy = Toy()
    run(ratings, toy, 100)
    device = ["split", "reconstruct", "update", "encode"]
    assert toy.calls == ["combine", *device, "finish", "apply"]


def test_only_a_partial_sum_leaves_the_devices(ratings):
    toy = Toy()
    sent = on_devices(ratings, MODEL, RoundParts(toy, toy, toy, toy, toy), CONTEXT)
    assert isinstance(sent, PartialSum)
    assert toy.calls == ["split", "reconstruct", "update", "encode"]


def test_an_aggregate_that_is_not_finite_leaves_the_server_as_it_was(ratings):
    toy = Toy(finite=False)
    before = start()
    state, measured = run(ratings, toy, 100)
    assert state == before
    assert not measured["finite"]
    assert "apply" not in toy.calls
