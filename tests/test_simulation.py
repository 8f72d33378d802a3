"""The loop over rounds with scripted parts; what comes before and after."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_fedrecon._round import RoundParts, ServerState
from sklearn_fedrecon._training import _simulation
from sklearn_fedrecon._training._population import (
    HeldOut,
    first_exchange,
    held_out_rmse,
    rebuild_users,
)
from sklearn_fedrecon._training._simulation import Schedule, simulate, timed_round
from sklearn_fedrecon._types import (
    ClientRatings,
    PartialSum,
    RoundContext,
    ServerModel,
    UserStates,
)
from sklearn_fedrecon.communication import model_bytes
from sklearn_fedrecon.sampling import FixedSampling, PoissonSampling

N_CLIENTS, N_ITEMS = 12, 5


def make_ratings(n_clients=N_CLIENTS, *, dtype="float64", weights=False, scatter=False):
    random = np.random.default_rng(0)
    lengths = random.integers(1, N_ITEMS + 1, n_clients)
    n = lengths.sum()
    return ClientRatings(
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.concatenate([random.permutation(N_ITEMS)[:k] for k in lengths]).astype(np.int32),
        values=random.normal(3.5, 1.0, n).astype(dtype),
        n_items=N_ITEMS,
        clients=np.arange(n_clients),
        weights=random.uniform(0.5, 3, n).astype(dtype) if weights else None,
        scatter=random.uniform(0, 1, n).astype(dtype) if scatter else None,
    )


def start():
    """A model whose global mean counts the steps of the server."""
    model = ServerModel(
        item_factors=np.zeros((N_ITEMS, 1)),
        item_bias=np.zeros(N_ITEMS),
        global_mean=0.0,
        fit_bias=True,
        user_prior_mean=np.zeros(2),
        user_prior_variance=np.ones(2),
    )
    return ServerState(model, {}, {})


class Script:
    """All stations at once; every round reports what the script says."""

    def __init__(self, losses=(), **reports):
        self.losses, self.reports, self.contexts, self.cohorts = losses, reports, [], []

    def split(self, ratings, context):
        return ratings, ratings

    def reconstruct(self, support, model, context):
        return None

    def update(self, query, users, model, context):
        return query

    def encode(self, updates, context):
        return PartialSum({}, 1.0, {"clients": updates.clients.tolist()})

    def combine(self, partials):
        return next(iter(partials))

    def finish(self, total, state, context):
        self.contexts.append(context)
        self.cohorts.append(total.measurements["clients"])
        number = len(self.contexts) - 1
        loss = self.losses[number] if self.losses else 1.0 / (1 + number)
        measured = {"loss": loss, "batches": 1.0, "finite": True, "rejected": 0.0}
        return {}, state, measured | self.reports.get(f"round_{number}", {})

    def apply(self, model, aggregate, state, context):
        return replace(model, global_mean=model.global_mean + 1), state


def run(script, schedule, *, held_out=None, ratings=None):
    """States and reports of all rounds."""
    parts = RoundParts(script, script, script, script, script)
    results = simulate(
        make_ratings() if ratings is None else ratings,
        start(),
        parts,
        schedule,
        lambda step, cohort: [step(cohort)],
        held_out,
    )
    return list(results)


def schedule(max_rounds=20, sampler=None, **options):
    return Schedule(sampler or FixedSampling(), max_rounds, seed=3, **options)


# --- how long ----------------------------------------------------------------------------------


def test_all_rounds_of_the_schedule():
    script = Script()
    results = run(script, schedule(4, first_round=7))
    assert [report.round for _, report in results] == [7, 8, 9, 10]
    assert [state.model.global_mean for state, _ in results] == [1, 2, 3, 4]
    assert script.contexts == [RoundContext(t, N_CLIENTS, 1.0, 3) for t in range(7, 11)]


@pytest.mark.parametrize(
    ("losses", "rounds"),
    [
        ([10, 5, 4, 4, 4, 4, 4, 4], 6),  # stays where it is for three rounds
        ([10, 5, 4, 3.999, 3.998, 3.997, 3, 2], 6),  # hardly moves
        ([10, 5, 4, 4.5, 5, 5.5, 6, 6.5], 8),  # rises, but moves
        ([10, 5, 4, 4, 4, 5, 5, 5], 8),  # two rounds are not three
        ([4, 4, 4, 4, 4, 4, 4, 4], 4),  # no round before the first to compare with
        ([0, 0, 0, 0, 0, 0, 0, 0], 4),
    ],
)
def test_the_loss_of_all_clients_has_to_move(losses, rounds):
    results = run(Script(losses), schedule(8, tol=1e-3, patience=3))
    assert len(results) == rounds


@pytest.mark.parametrize(
    ("schedule", "rounds"),
    [
        (schedule(8, tol=None, patience=3), 8),
        (schedule(8, FixedSampling(6), tol=1e-3, patience=3), 8),  # the loss of a sample is noise
        (schedule(8, FixedSampling(12), tol=1e-3, patience=3), 4),
    ],
    ids=["no tolerance", "cohort", "cohort of all"],
)
def test_when_the_loss_is_looked_at(schedule, rounds):
    assert len(run(Script([4] * 8), schedule)) == rounds


@pytest.mark.parametrize(
    ("errors", "rounds"),
    [
        ([5, 4, 3, 3, 3, 3, 3, 3], 6),
        ([5, 4, 3, 4, 5, 6, 2, 1], 6),  # what rises is no improvement
        ([5, 4, 3, 2.999, 2.998, 2.997, 1, 1], 6),  # too little, each less than a thousandth
        ([5, 4, 3, 3.5, 3.5, 2.5, 3, 3], 8),
    ],
)
@pytest.mark.parametrize("sampler", [FixedSampling(), FixedSampling(6)])
def test_the_held_out_error_has_to_improve(errors, rounds, sampler, monkeypatch):
    script = Script([4] * 8)
    monkeypatch.setattr(_simulation, "held_out_rmse", lambda *_: errors[len(script.contexts) - 1])
    results = run(script, schedule(8, sampler, tol=1e-3, patience=3), held_out=object())
    assert [report.measurements["validation_rmse"] for _, report in results] == errors[:rounds]


# --- divergence --------------------------------------------------------------------------------


class Learner(Script):
    """Takes steps of a size that the user chose; predicting the mean would cost 1."""

    learning_rate = 0.25

    def finish(self, total, state, context):
        aggregate, state, measured = super().finish(total, state, context)
        return aggregate, state, {"baseline_error": 1.0, "baseline_weight": 1.0, **measured}


@pytest.mark.parametrize(
    "script",
    [
        Learner([1.0, 0.9, 0.8, 5.5, 0.7]),
        Learner([1.0, 0.9, 0.8, 0.9, np.inf, 0.7]),
        Learner([1.0, 0.9, 0.8, 0.85], round_3={"rejected": 7.0}),
        Learner([1.0, 0.9, 0.8, 0.85], round_3={"finite": False}),
    ],
    ids=["loss", "infinite loss", "most clients", "the aggregate"],
)
def test_divergence_ends_the_training_with_the_best_model(script):
    # Losses are those of the model that a round begins with: after two steps it was best.
    with pytest.warns(ConvergenceWarning, match=r"diverged in round [45];.*lowest training loss"):
        results = run(script, schedule())
    assert len(results) in (4, 5)
    assert results[-1][0].model.global_mean == 2


def test_the_last_step_is_judged_too():
    with pytest.warns(ConvergenceWarning, match="diverged in round 3"):
        results = run(Learner([1.0, 0.9, 0.8, 11.0]), schedule(3))
    assert len(results) == 3
    assert results[-1][0].model.global_mean == 2
    assert run(Learner([1.0, 0.9, 0.8, 4.5]), schedule(3))[-1][0].model.global_mean == 3


def test_a_bad_start_is_no_divergence_but_an_absurd_one_is():
    assert len(run(Learner([20.0, 9.0, 5.0, 1.0, 1.0]), schedule(4, tol=None))) == 4
    with pytest.warns(ConvergenceWarning, match="diverged in round 1"):
        run(Learner([1001.0]), schedule(4))


def test_a_few_rejected_clients_do_not_end_the_training():
    results = run(Learner([1.0] * 6, round_2={"rejected": 6.0, "loss": np.nan}), schedule(5))
    assert [report.measurements["rejected_clients"] for _, report in results] == [0, 0, 6, 0, 0]


def test_parts_that_solve_for_their_steps_are_not_watched():
    assert len(run(Script([1e-9, 5.0, 1.0, 1e9]), schedule(4, tol=None))) == 4


def test_ratings_of_zero_are_no_scale():
    zero = {f"round_{t}": {"baseline_error": 0.0} for t in range(5)}
    assert len(run(Learner([0.0, 1e-9, 5.0, 1.0, 1.0], **zero), schedule(4, tol=None))) == 4


def test_divergence_names_what_to_lower():
    with pytest.warns(ConvergenceWarning, match="Lower .*server_optimizer__learning_rate=0.25"):
        run(Learner(round_0={"finite": False}), schedule())


# --- cohorts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [FixedSampling(5), PoissonSampling(0.4)])
def test_the_cohort_of_the_sampler_takes_part(sampler):
    script = Script()
    results = run(script, schedule(10, sampler))
    expected = [
        sampler.sample(N_CLIENTS, RoundContext(t, N_CLIENTS, 1.0, 3)).tolist() for t in range(10)
    ]
    assert script.cohorts == [cohort for cohort in expected if cohort]
    assert [report.clients for _, report in results] == [*map(len, expected)]
    lengths = make_ratings().lengths
    ratings = [lengths[cohort].sum() for cohort in expected]
    assert [report.ratings for _, report in results] == ratings
    assert {context.rate for context in script.contexts} == {sampler.rate(N_CLIENTS)}


def test_who_drops_out_has_downloaded_the_model():
    sampler = FixedSampling(8, dropout=0.5)
    results = run(Script(), schedule(10, sampler))
    model = model_bytes(start().model)
    assert [report.measurements["bytes_down"] for _, report in results] == [8 * model] * 10
    assert len({report.clients for _, report in results}) > 1


def test_an_empty_cohort_is_recorded_and_changes_nothing():
    script = Script()
    results = run(script, schedule(12, PoissonSampling(1)))
    empty = [t for t, (_, report) in enumerate(results) if report.clients == 0]
    assert empty
    for t in empty:
        state, report = results[t]
        before = results[t - 1][0] if t else start()
        assert state.model.global_mean == before.model.global_mean
        assert np.isnan(report.measurements["loss"])
        assert report.measurements["bytes_up"] == report.measurements["bytes_down"] == 0


def test_report_of_a_round():
    script = Script(
        [6.0],
        round_0={
            "batches": 4.0,
            "squared_error": 18.0,
            "examples": 2.0,
            "sent_indices": 7.0,
            "sent_numbers": 9.0,
        },
    )
    parts, ratings = RoundParts(script, script, script, script, script), make_ratings()
    context = RoundContext(2, 50, 0.3, 0)
    state, report = timed_round(
        ratings, 20, start(), parts, context, lambda step, cohort: [step(cohort)]
    )
    assert state.model.global_mean == 1
    assert (report.round, report.clients, report.ratings) == (2, N_CLIENTS, ratings.n_ratings)
    numbers = dict(report.measurements)
    assert min(numbers.pop("cpu_seconds"), numbers.pop("wall_seconds")) >= 0
    assert numbers == {
        "loss": 1.5,
        "training_rmse": 3.0,
        "rejected_clients": 0,
        "finite": True,
        "bytes_down": 20 * model_bytes(state.model),
        "bytes_up": 7 * 4 + 9 * 8,
    }


# --- before the rounds and after ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("scatter", [False, True])
def test_first_exchange(dtype, weights, scatter):
    ratings = make_ratings(dtype=dtype, weights=weights, scatter=scatter)
    values, w = ratings.values.astype(float), ratings.rating_weights().astype(float)
    mean = (w * values).sum() / w.sum()
    squares = (w * (values - mean) ** 2).sum()
    squares += ratings.scatter.astype(float).sum() if scatter else 0.0
    expected = mean, np.sqrt(squares / w.sum())
    np.testing.assert_allclose(first_exchange(ratings), expected, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e-3, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", [False, True])
def test_equal_ratings_have_no_scale(value, dtype, weights):
    ratings = make_ratings(dtype=dtype, weights=weights)
    ratings = replace(ratings, values=np.full(ratings.n_ratings, value, dtype))
    mean, scale = first_exchange(ratings)
    assert mean == pytest.approx(value, rel=1e-6)
    assert scale == 1.0


class Servant:
    """Rebuilds a user as its first rating, its client number and the round's."""

    def __init__(self, variances=False):
        self.variances = variances

    def whole(self, ratings, context):
        return replace(ratings, values=ratings.values * 10)

    def reconstruct(self, ratings, model, context):
        first = ratings.values[ratings.indptr[:-1]]
        number = np.full(len(first), context.round + context.n_clients)
        states = np.column_stack([first, ratings.clients + 0.0, number])
        return UserStates(states, states + 0.5 if self.variances else None, support="dropped")


@pytest.mark.parametrize("variances", [False, True])
@pytest.mark.parametrize("size", [1, 10**6])
def test_users_are_rebuilt_as_if_alone(variances, size):
    servant = Servant(variances)
    parts = RoundParts(servant, servant, None, None, None)
    ratings = make_ratings()
    users = rebuild_users(
        ratings, start().model, parts, 0, lambda step, clients: map(step, clients.chunks(size))
    )
    first = 10 * ratings.values[ratings.indptr[:-1]]
    # Whoever it is, the device has the key of client 0 in round 0 of a population of one.
    assert users.states.tolist() == [[value, 0.0, 1.0] for value in first]
    assert (users.variances is not None) == variances
    assert users.support is None


@pytest.mark.parametrize("weights", [False, True])
def test_held_out_error(weights):
    support, query = make_ratings(), make_ratings(weights=weights)
    model = replace(
        start().model,
        item_factors=np.arange(N_ITEMS, dtype=float)[:, None],
        item_bias=np.linspace(-1, 1, N_ITEMS),
        global_mean=3.0,
    )

    class Halves(Servant):
        def reconstruct(self, ratings, model, context):
            return UserStates(super().reconstruct(ratings, model, context).states[:, :2] / 100)

    parts = RoundParts(Halves(), Halves(), None, None, None)
    context = RoundContext(0, N_CLIENTS, 1.0, 0)
    error = held_out_rmse(HeldOut(support, query), ServerState(model, {}, {}), parts, context)
    total = 0.0
    for row, (owner, item) in enumerate(zip(query.owners(), query.items, strict=True)):
        factor, bias = support.values[support.indptr[owner]] / 10, owner / 100
        predicted = 3.0 + (-1 + 0.5 * item) + bias + factor * item
        total += query.rating_weights()[row] * (query.values[row] - predicted) ** 2
    assert error == pytest.approx(np.sqrt(total / query.rating_weights().sum()), rel=1e-12)
