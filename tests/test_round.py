"""One round with parts simple enough to be worked out by hand."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from sklearn_fedrecon._round import Question, RoundParts, answer, conclude, run_round, serve
from sklearn_fedrecon._types import (
    Aggregate,
    ClientRatings,
    DeviceContext,
    Outcome,
    PartialSum,
    ServerContext,
    ServerState,
    UserStates,
)

DEVICES = DeviceContext(round=4, seed=1)
SERVER = ServerContext(round=4, rate=0.5, n_clients=9, seed=1)
MODEL = {"slope": 2.0}


class Steps(np.ndarray):
    """Updates that are numbers; what is measured beside them is noted."""

    def measured(self, **measurements):
        self.noted = measurements
        return self


class Toy:
    """All five stations; they work on numbers and note what they are called with.

    A client's support is its first rating, its query the last. A user is the support times the
    slope of the model, its update the query less that; the server adds the mean to the slope.
    """

    def __init__(self, *, steps=True):
        self.steps, self.calls = steps, []

    def note(self, name, context):
        server = name in ("finish", "apply")
        assert context == (SERVER if server else DEVICES)  # neither side sees the other's
        self.calls.append(name)

    def split(self, ratings, context):
        self.note("split", context)
        return ratings.values[ratings.indptr[:-1]], ratings.values[ratings.indptr[1:] - 1]

    def prepare(self, model):
        assert model == MODEL
        self.calls.append("prepare")
        return model["slope"] * 1000

    def reconstruct(self, support, prepared, context):
        self.note("reconstruct", context)
        return support * (prepared / 1000)

    def update(self, query, users, prepared, context):
        self.note("update", context)
        assert prepared == 2000
        return (query - users).view(Steps)

    def encode(self, updates, context):
        self.note("encode", context)
        measured = {"sent": len(updates), "ratings": sum(updates.noted["ratings"])}
        total = float(np.sum(updates))
        return PartialSum({}, {"step": total}, float(len(updates)), len(updates), measured)

    def combine(self, partials):
        self.calls.append("combine")
        total = PartialSum({}, {"step": 0.0}, 0.0, 0, {"sent": 0, "ratings": 0})
        for partial in partials:
            total = total + partial
        return total

    def finish(self, total, state, context):
        self.note("finish", context)
        assert state == {"aggregator": 1}
        mean = {"step": total.statistics["step"] / total.client_weight}
        aggregate = Aggregate({}, mean, total.client_weight) if self.steps else None
        return Outcome(aggregate, {"aggregator": 2}, total.measurements)

    def apply(self, model, aggregate, state, context):
        self.note("apply", context)
        assert state == {"optimizer": 1}
        return {"slope": model["slope"] + float(aggregate.statistics["step"])}, {"optimizer": 2}


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
    in_chunks = lambda step, cohort: map(step, cohort.chunks(size))  # noqa: E731
    return run_round(ratings, start(), parts, DEVICES, SERVER, in_chunks)


@pytest.mark.parametrize("size", [1, 100])
def test_a_round_is_algorithm_1(ratings, size):
    state, outcome = run(ratings, Toy(), size)
    steps = [3 - 1 * 2.0, 20 - 10 * 2.0, 5 - 5 * 2.0]
    assert state.model == {"slope": 2.0 + sum(steps) / 3}
    assert (state.aggregator, state.optimizer) == ({"aggregator": 2}, {"optimizer": 2})
    assert outcome.measurements == {"sent": 3, "ratings": 6}


def test_stations_in_their_order(ratings):
    toy = Toy()
    run(ratings, toy, 100)
    device = ["prepare", "split", "reconstruct", "update", "encode"]
    assert toy.calls == ["combine", *device, "finish", "apply"]


def test_a_model_is_prepared_once_a_round(ratings):
    toy = Toy()
    run(ratings, toy, 1)
    assert toy.calls.count("split") == 3
    assert toy.calls.count("prepare") == 1


def test_only_a_partial_sum_leaves_the_devices(ratings):
    toy = Toy()
    sent = answer(ratings, Question(MODEL, RoundParts(toy, toy, toy, toy, toy), DEVICES))
    assert isinstance(sent, PartialSum)
    assert toy.calls == ["prepare", "split", "reconstruct", "update", "encode"]


def test_without_an_aggregate_the_server_takes_no_step_but_the_aggregator_remembers(ratings):
    toy = Toy(steps=False)
    state, outcome = run(ratings, toy, 100)
    assert outcome.aggregate is None
    assert state == ServerState(MODEL, {"aggregator": 2}, {"optimizer": 1})
    assert "apply" not in toy.calls


def test_whoever_carries_the_answers_the_round_is_the_same(ratings):
    parts = RoundParts(*[Toy()] * 5)
    question = pickle.loads(pickle.dumps(Question(MODEL, parts, DEVICES)))
    toy = question.parts.split
    answers = [answer(clients, question) for clients in ratings.chunks(1)]
    answers = pickle.loads(pickle.dumps(answers))
    state, _ = conclude(answers, start(), parts, SERVER)
    expected, _ = run(ratings, Toy(), 1)
    assert state == expected
    assert toy.calls.count("split") == 3


def test_what_was_prepared_does_not_travel():
    question = Question(MODEL, RoundParts(*[Toy()] * 5), DEVICES)
    assert question.prepared == 2000
    assert "prepared" not in vars(pickle.loads(pickle.dumps(question)))


class Servant(Toy):
    """Rebuilds a user as its first rating, its client's number and whether it is served."""

    def whole(self, ratings, context):
        return replace(ratings, values=ratings.values * 10)

    def reconstruct(self, support, prepared, context):
        states = np.column_stack([support.values[support.indptr[:-1]], support.clients])
        assert context.serving
        return UserStates(states, states + 0.5, support="dropped")


def test_users_are_served_as_if_alone(ratings):
    servant, serving = Servant(), DeviceContext(0, 1, serving=True)
    users = serve(ratings, Question(MODEL, RoundParts(*[servant] * 5), serving))
    # Whoever it is, the device has the key of client 0.
    assert users.states.tolist() == [[10.0, 0.0], [100.0, 0.0], [50.0, 0.0]]
    assert users.variances is not None
    assert users.support is None
