"""The loop over rounds with scripted parts; what comes before and after."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_fedrecon._fitted import rebuild_users
from sklearn_fedrecon._round import Question, RoundParts
from sklearn_fedrecon._training import _loop
from sklearn_fedrecon._training._exchanges import RatingMean, RatingScale, run_exchanges
from sklearn_fedrecon._training._guard import DivergenceGuard
from sklearn_fedrecon._training._loop import Schedule, simulate, timed_round
from sklearn_fedrecon._training._start import _mean_and_scale
from sklearn_fedrecon._training._validation import HeldOut, held_out_rmse, hold_out
from sklearn_fedrecon._types import (
    Aggregate,
    ClientRatings,
    DeviceContext,
    Guard,
    LoopState,
    Outcome,
    PartialSum,
    Prepared,
    RoundReport,
    ServerContext,
    ServerModel,
    ServerState,
    UserStates,
)
from sklearn_fedrecon.aggregation import Mean
from sklearn_fedrecon.communication import model_bytes
from sklearn_fedrecon.sampling import FixedSampling, PoissonSampling
from sklearn_fedrecon.splitting import RandomSplit

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


class Answer:
    """Updates that say who sent them."""

    def __init__(self, query):
        self.clients = query.clients

    def measured(self, ratings):
        self.lengths = ratings
        return self


class Script:
    """All stations at once; every round reports what the script says."""

    def __init__(self, losses=(), **reports):
        self.losses, self.reports, self.contexts, self.cohorts = losses, reports, [], []

    def split(self, ratings, context):
        return ratings, ratings

    def prepare(self, model):
        return model

    def reconstruct(self, support, prepared, context):
        return None

    def update(self, query, users, prepared, context):
        return Answer(query)

    def encode(self, updates, context):
        measured = {"cohort": updates.clients.tolist(), "ratings": sum(updates.lengths)}
        return PartialSum({}, {}, 1.0, len(updates.clients), measured)

    def combine(self, partials):
        return next(iter(partials))

    def finish(self, total, state, context):
        self.contexts.append(context)
        self.cohorts.append(total.measurements["cohort"])
        number = len(self.contexts) - 1
        loss = self.losses[number] if self.losses else 1.0 / (1 + number)
        measured = {"loss": loss, "batches": 1.0, "finite": True, "rejected": 0.0}
        measured |= {"clients": total.n_clients, "ratings": total.measurements["ratings"]}
        measured |= self.reports.get(f"round_{number}", {})
        aggregate = Aggregate({}, {}, 1.0) if measured["finite"] else None
        return Outcome(aggregate, state, measured)

    def apply(self, model, aggregate, state, context):
        return replace(model, global_mean=model.global_mean + 1), state


def run(script, schedule, *, held_out=None, ratings=None, loop=None):
    """What the loop remembers, and reports, of all rounds."""
    parts = RoundParts(script, script, script, script, script)
    results = simulate(
        make_ratings() if ratings is None else ratings,
        loop or LoopState(start()),
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
    results = run(script, schedule(4), loop=LoopState(start(), round=7))
    assert [report.round for _, report in results] == [7, 8, 9, 10]
    assert [loop.server.model.global_mean for loop, _ in results] == [1, 2, 3, 4]
    assert [loop.round for loop, _ in results] == [8, 9, 10, 11]
    assert script.contexts == [ServerContext(t, 1.0, N_CLIENTS, 3) for t in range(7, 11)]


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
    monkeypatch.setattr(_loop, "held_out_rmse", lambda *_: errors[len(script.contexts) - 1])
    results = run(script, schedule(8, sampler, tol=1e-3, patience=3), held_out=object())
    assert [report.measurements["validation_rmse"] for _, report in results] == errors[:rounds]
    best = int(np.argmin(errors[:rounds]))
    last, _ = results[-1]
    assert last.best_error == errors[best]
    assert last.kept.model.global_mean == 1 + best
    assert last.server.model.global_mean == rounds


@pytest.mark.parametrize("stop", range(1, 8))
@pytest.mark.parametrize(
    ("losses", "errors"),
    [
        ([10, 5, 4, 4, 4, 4, 4, 4], None),
        ([10, 5, 4, 4.5, 4.5, 4.5, 6, 6.5], None),
        ([4] * 8, [5, 4, 3, 3.5, 3.5, 2.5, 3, 3]),
        ([4] * 8, [5, 4, 3, 4, 5, 6, 2, 1]),
        ([1.0, 0.9, 0.8, 0.9, 5.5, 0.7, 0.7, 0.7], None),
    ],
)
@pytest.mark.filterwarnings("ignore:Training diverged")
def test_a_loop_that_goes_on_is_a_loop_that_never_stopped(losses, errors, stop, monkeypatch):
    def rounds(script, max_rounds, loop=None):
        numbers = errors or [None] * 8
        monkeypatch.setattr(
            _loop, "held_out_rmse", lambda *context: numbers[context[-1]], raising=True
        )
        options = {"tol": 1e-3, "patience": 3}
        held_out = object() if errors else None
        return run(script, schedule(max_rounds, **options), held_out=held_out, loop=loop)

    class Numbered(Learner):  # the loss of a round goes by its number, trials included
        def finish(self, total, state, context):
            self.contexts = [context] * context.round
            return super().finish(total, state, context)

    whole = rounds(Numbered(losses), 8)
    first = rounds(Numbered(losses), stop)
    ended = len(first) < stop or len(whole) == len(first)  # nothing was left to do
    second = [] if ended else rounds(Numbered(losses), 8 - stop, loop=first[-1][0])
    assert len(first) + len(second) == len(whole)
    assert remembered((second or first)[-1][0]) == remembered(whole[-1][0])


def remembered(loop):
    """All of it in plain numbers; a state is told by its steps."""
    server, best, watched = (
        None if state is None else state.model.global_mean
        for state in (loop.server, loop.best, loop.guard.best)
    )
    numbers = (loop.round, loop.best_error, loop.guard.lowest, loop.guard.baseline)
    return server, best, watched, numbers, loop.progress


# --- divergence --------------------------------------------------------------------------------


class Learner(Script):
    """Takes steps of a size that the user chose; predicting the mean would cost 1."""

    learning_rate = 0.25

    def finish(self, total, state, context):
        outcome = super().finish(total, state, context)
        measured = {"baseline_error": 1.0, "baseline_weight": 1.0, **outcome.measurements}
        return replace(outcome, measurements=measured)


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
    assert results[-1][0].server.model.global_mean == 2


def test_the_last_step_is_judged_too():
    with pytest.warns(ConvergenceWarning, match="diverged in round 3"):
        results = run(Learner([1.0, 0.9, 0.8, 11.0]), schedule(3))
    assert len(results) == 3
    assert results[-1][0].server.model.global_mean == 2
    assert run(Learner([1.0, 0.9, 0.8, 4.5]), schedule(3))[-1][0].server.model.global_mean == 3


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


@pytest.mark.parametrize(("loss", "diverged"), [(5.0, False), (5.01, True), (np.inf, True)])
def test_the_guard_by_its_numbers(loss, diverged):
    script = Learner()
    guard = DivergenceGuard(RoundParts(script, script, script, script, script))
    assert guard.watches
    numbers = {"finite": True, "rejected_clients": 0}

    def judged(memory, loss, baseline):
        report = RoundReport(0, 3, 9, {**numbers, "loss": loss}, baseline)
        return guard.judge(memory, report, start())

    # What predicting the mean would cost is not measured in every round: NaN says nothing.
    memory, _ = judged(Guard(), 1.0, float("nan"))
    assert (memory.baseline, memory.lowest) == (0.0, 1.0)
    memory, _ = judged(memory, 1.0, 1.0)
    assert memory.baseline == 1.0
    after, found = judged(memory, loss, float("nan"))
    assert found == diverged
    assert (after.baseline, after.lowest) == (1.0, 1.0)


def test_divergence_names_what_to_lower():
    with pytest.warns(ConvergenceWarning, match="Lower .*server_optimizer__learning_rate=0.25"):
        run(Learner(round_0={"finite": False}), schedule())


# --- cohorts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [FixedSampling(5), PoissonSampling(0.4)])
def test_the_cohort_of_the_sampler_takes_part(sampler):
    script = Script()
    results = run(script, schedule(10, sampler))
    expected = [
        sampler.sample(N_CLIENTS, ServerContext(t, 1.0, N_CLIENTS, 3)).tolist() for t in range(10)
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
        loop, report = results[t]
        before = results[t - 1][0].server if t else start()
        assert loop.server.model.global_mean == before.model.global_mean
        assert np.isnan(report.measurements["loss"])
        assert report.measurements["bytes_up"] == report.measurements["bytes_down"] == 0
        assert report.measurements["finite"]


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
    context = ServerContext(2, 0.3, 50, 0)
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


class Settings:
    """Of an estimator that nobody declared anything to."""

    global_mean, rating_scale = "federated", None


def first_exchange(ratings, size=7):
    """Mean and scale of the ratings, as the first model is made with, and what it cost."""
    asked = [RatingMean(), RatingScale()]
    _, found, costs = run_exchanges(
        asked, ratings, Mean(), 0, lambda step, clients: map(step, clients.chunks(size))
    )
    return _mean_and_scale(Settings, found, ratings.values.dtype), costs


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
    found, costs = first_exchange(ratings)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # Two numbers of each client up in each; down nothing, and then the mean.
    assert costs["bytes_up"].tolist() == [2 * 8 * N_CLIENTS] * 2
    assert costs["bytes_down"].tolist() == [0, 8 * N_CLIENTS]
    assert costs["clients"].tolist() == [N_CLIENTS] * 2
    for clock in ("cpu_seconds", "wall_seconds"):
        assert ((costs[clock] >= 0) & (costs[clock] < 60)).all()


def test_a_large_mean_leaves_the_scale_its_digits():
    ratings = make_ratings()
    shifted = replace(ratings, values=ratings.values + 1e8)
    (_, expected), _ = first_exchange(ratings)
    (_, scale), _ = first_exchange(shifted)
    assert scale == pytest.approx(expected, rel=1e-7)


def test_an_exchange_that_does_not_add_up_is_refused():
    ratings = make_ratings()
    ratings.values[:] = 1e308
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="exchange of the mean of"):
        first_exchange(ratings)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e-3, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", [False, True])
def test_equal_ratings_have_no_scale(value, dtype, weights):
    ratings = make_ratings(dtype=dtype, weights=weights)
    ratings = replace(ratings, values=np.full(ratings.n_ratings, value, dtype))
    (mean, scale), _ = first_exchange(ratings)
    assert mean == pytest.approx(value, rel=1e-6)
    assert scale == 1.0


class Servant:
    """Rebuilds a user as its first rating and its client number."""

    def whole(self, ratings, context):
        return replace(ratings, values=ratings.values * 10)

    def prepare(self, model):
        return Prepared.of(model)

    def reconstruct(self, support, prepared, context):
        return UserStates(np.column_stack([support.values[support.indptr[:-1]], support.clients]))


def test_users_that_overflow_are_refused():
    class Overflows(Servant):
        def reconstruct(self, support, prepared, context):
            states = super().reconstruct(support, prepared, context).states
            states[3, 0] = np.inf
            return UserStates(states)

    parts = RoundParts(Overflows(), Overflows(), None, None, None)
    question = Question(start().model, parts, DeviceContext(0, 0, serving=True))
    with pytest.raises(ValueError, match="are not finite: its steps are too large"):
        rebuild_users(question, make_ratings(), lambda step, clients: [step(clients)])


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
        def reconstruct(self, support, prepared, context):
            assert context == DeviceContext(0, 0, serving=True)
            return UserStates(super().reconstruct(support, prepared, context).states / 100)

    parts = RoundParts(Halves(), Halves(), None, None, None)
    error = held_out_rmse(HeldOut(support, query), model, parts, 0, 0)
    total = 0.0
    for row, (owner, item) in enumerate(zip(query.owners(), query.items, strict=True)):
        factor, bias = support.values[support.indptr[owner]] / 10, owner / 100
        predicted = 3.0 + (-1 + 0.5 * item) + bias + factor * item
        total += query.rating_weights()[row] * (query.values[row] - predicted) ** 2
    assert error == pytest.approx(np.sqrt(total / query.rating_weights().sum()), rel=1e-12)


class EarlyStopping:
    early_stopping, validation_fraction = True, 0.3


@pytest.mark.parametrize("ids", [np.arange(N_CLIENTS) * 7, np.array(list("abcdefghijkl"), object)])
def test_a_new_user_moves_nobody_in_or_out_of_the_hold_out(ids):
    ratings = make_ratings()
    train, held_out = hold_out(EarlyStopping, ratings, ids, seed=1)
    everybody = np.concatenate([train.clients, np.setdiff1d(np.arange(N_CLIENTS), train.clients)])
    assert sorted(everybody) == list(range(N_CLIENTS))
    assert train.n_clients + held_out.support.n_clients == N_CLIENTS
    both = held_out.support.n_ratings + held_out.query.n_ratings + train.n_ratings
    assert both == ratings.n_ratings
    rest = np.delete(np.arange(N_CLIENTS), 4)
    fewer, judged = hold_out(EarlyStopping, ratings.take(rest), ids[rest], seed=1)
    assert set(fewer.clients) == set(train.clients) - {4}
    held = np.setdiff1d(np.arange(N_CLIENTS), train.clients)
    if 4 in train.clients:  # the same halves of the same users
        assert judged.query.values.tolist() == held_out.query.values.tolist()
    assert 0 < len(held) < N_CLIENTS


def test_held_out_users_are_judged_on_the_larger_half():
    ratings, ids = make_ratings(), np.arange(N_CLIENTS) * 7
    train, held_out = hold_out(EarlyStopping, ratings, ids, seed=5)
    held = np.setdiff1d(np.arange(N_CLIENTS), train.clients)
    assert held_out.query.lengths.tolist() == (-(-ratings.lengths[held] // 2)).tolist()
    assert held_out.support.lengths.tolist() == (ratings.lengths[held] // 2).tolist()
    by_id = replace(ratings.take(held), clients=ids[held])
    query, support = RandomSplit(0.5).split(by_id, DeviceContext(0, 5))
    assert query.values.tolist() == held_out.query.values.tolist()
    assert support.values.tolist() == held_out.support.values.tolist()


def test_the_share_held_out_is_that_asked_for():
    ids = np.arange(20_000)
    ratings = ClientRatings(
        np.arange(20_001), np.zeros(20_000, np.int32), np.ones(20_000), 1, np.arange(20_000)
    )
    _, held_out = hold_out(EarlyStopping, ratings, ids, seed=0)
    assert held_out.query.n_clients == pytest.approx(6000, abs=4 * 65)


@pytest.mark.parametrize("n_clients", [2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_somebody_is_held_out_and_somebody_is_left(n_clients, seed):
    ratings = make_ratings(n_clients)
    train, held_out = hold_out(EarlyStopping, ratings, np.arange(n_clients), seed)
    assert train.n_clients >= 1
    assert held_out.query.n_clients >= 1
