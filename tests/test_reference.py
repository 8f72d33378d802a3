"""The fast code against the plain loops of `reference.py`, and what both must have in common."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from sklearn.utils import check_random_state

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._distribution import _chunks
from sklearn_fedrecon._kernels import _padding
from sklearn_fedrecon._kernels._blocks import BLOCK_SIZE
from sklearn_fedrecon._random import root_seed
from sklearn_fedrecon._round import Question, RoundParts, run_round, serve
from sklearn_fedrecon._training._exchanges import RatingMean, RatingScale, run_exchanges
from sklearn_fedrecon._types import (
    Aggregate,
    ClientRatings,
    DeviceContext,
    Prepared,
    ServerContext,
    ServerState,
)
from sklearn_fedrecon.aggregation import Mean
from sklearn_fedrecon.client_update import VariationalUpdate
from sklearn_fedrecon.reconstruction import VariationalReconstruction
from sklearn_fedrecon.sampling import FixedSampling, PoissonSampling
from sklearn_fedrecon.server_optimizers import NaturalGradient
from sklearn_fedrecon.splitting import BatchParitySplit, NoSplit, RandomSplit

N_CLIENTS, N_ITEMS = 9, 14
TOLERANCE = 1e-10  # of the largest number of an array
EVERYTHING = 10**9  # a chunk size


# --- the same ratings in both forms ------------------------------------------------------------


def table(seed=0, n_clients=N_CLIENTS, n_items=N_ITEMS, *, weights=False, repeats=False):
    """Rows (client, item, rating, weight); the middle client has none, the last item nobody."""
    random = np.random.default_rng(seed)
    taste, appeal = random.normal(size=(n_clients, 2)), random.normal(size=(n_items, 2))
    rows = []
    for client in range(n_clients):
        if client == n_clients // 2:
            continue
        for item in random.permutation(n_items - 1)[: random.integers(1, n_items)]:
            for _ in range(random.integers(1, 4) if repeats else 1):
                value = 3.5 + 0.7 * taste[client] @ appeal[item] + random.normal(scale=0.5)
                weight = random.choice([0.25, 1.0, 3.0]) if weights else 1.0
                rows.append((client, int(item), float(value), float(weight)))
    return rows


def loops(rows, n_clients=N_CLIENTS):
    """Lists of ratings, for the reference."""
    return [
        reference.merge([row[1:] for row in rows if row[0] == client])
        for client in range(n_clients)
    ]


def arrays(clients, n_items=N_ITEMS, dtype="float64"):
    """The same as arrays, for the fast code."""
    flat = [rating for ratings in clients for rating in ratings]
    weights = np.array([rating.weight for rating in flat], dtype=dtype)
    scatter = np.array([rating.scatter for rating in flat], dtype=dtype)
    return ClientRatings(
        indptr=np.cumsum([0, *map(len, clients)]),
        items=np.array([rating.item for rating in flat], dtype=np.int32),
        values=np.array([rating.value for rating in flat], dtype=dtype),
        n_items=n_items,
        clients=np.arange(len(clients)),
        weights=None if (weights == 1).all() else weights,
        scatter=scatter if scatter.any() else None,
    )


class EveryOther:
    """Support and query by position in the list of a client."""

    gives = ("the support",)

    def __init__(self, support=slice(0, None, 2), query=slice(1, None, 2)):
        self.support, self.query = support, query

    def split(self, ratings, context):
        return self.pick(ratings, self.support), self.pick(ratings, self.query)

    @staticmethod
    def pick(ratings, positions):
        bounds = zip(ratings.indptr[:-1], ratings.indptr[1:], strict=True)
        rows = [np.arange(start, stop)[positions] for start, stop in bounds]
        return ratings.pick(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))


def first_exchange(ratings):
    """Mean and standard deviation, as clients are asked for them; one where it is negligible."""
    asked = [RatingMean(), RatingScale()]
    _, found, _ = run_exchanges(asked, ratings, Mean(), 0, in_chunks(50))
    negligible = 10 * np.finfo(ratings.values.dtype).eps * abs(found["mean"])
    return found["mean"], found["scale"] if found["scale"] > negligible else 1.0


def both(ratings, client):
    """Support and query where nothing is split."""
    return ratings, ratings


def alone(split, context):
    """What a split gives a client that is handed to it on its own, as lists."""

    def pair(ratings, client):
        one = replace(arrays([ratings]), clients=np.array([client]))
        by_item = {rating.item: rating for rating in ratings}
        return [[by_item[item] for item in half.items] for half in split.split(one, context)]

    return pair


# --- both at once ------------------------------------------------------------------------------


class Race:
    """The fast code and the loops, side by side from the same start."""

    def __init__(
        self, clients, n_items=N_ITEMS, n_components=3, *, fit_bias=True, split=None, variance=None
    ):
        self.clients, self.ratings = clients, arrays(clients, n_items)
        self.parts = parts(split or NoSplit())
        mean, measured = reference.first_exchange(clients)
        variance = measured if variance is None else variance
        model = self.parts.reconstruction.initial_model(
            n_items,
            n_components,
            fit_bias=fit_bias,
            global_mean=mean,
            scale=np.sqrt(variance),
            dtype=np.float64,
            seed=7,
        )
        self.state = ServerState(model, {}, self.parts.server_optimizer.init(model))
        self.loops = reference.Model(list(model.item_factors), mean, variance, fit_bias)

    def round(self, t, cohort=None, rate=1.0, *, streaming=False, size=EVERYTHING, split=both):
        """One round of both, and a comparison of all that they keep."""
        cohort = range(len(self.clients)) if cohort is None else cohort
        self.loops = reference.one_round(
            self.loops, [split(self.clients[c], c) for c in cohort], rate, streaming
        )
        contexts = DeviceContext(t, 7), ServerContext(t, rate, len(self.clients), 7, streaming)
        ratings = self.ratings.take(np.array(cohort))
        self.state, _ = run_round(ratings, self.state, self.parts, *contexts, in_chunks(size))
        assert_same(self.state, self.loops)


def parts(split):
    return RoundParts(
        split, VariationalReconstruction(), VariationalUpdate(), Mean(), NaturalGradient()
    )


def contents(record):
    """Fields of a model, or the dict of a part's state."""
    return record if isinstance(record, dict) else vars(record)


def in_chunks(size):
    return lambda step, ratings: map(step, ratings.chunks(size))


def assert_close(actual, expected, name, unit=0.0):
    """Equality to the tolerance, relative to the largest number (or to a unit)."""
    expected = np.asarray(expected, dtype=np.float64)
    scale = max(np.abs(expected).max(initial=0.0), unit)
    np.testing.assert_allclose(
        actual, expected.reshape(np.shape(actual)), rtol=0, atol=TOLERANCE * scale, err_msg=name
    )


def assert_same(state, loops):
    """Every number that the server holds after a round."""
    model, memory, bias = state.model, state.optimizer, [loops.m_c] * loops.fit_bias
    assert_close(
        model.item_factors, loops.v, "item factors", unit=max(loops.lam_v**-0.5, default=1.0)
    )
    assert_close(model.item_bias, loops.b, "item bias", unit=loops.lam_b**-0.5)
    assert_close(model.item_variance, loops.kappa, "item variance")
    assert_close(model.item_bias_variance, loops.beta, "item bias variance")
    assert_close(model.noise_variance, loops.sigma2, "noise variance")
    prior_mean = np.append(np.zeros(len(loops.w)), bias)
    assert_close(model.user_prior_mean, prior_mean, "user prior mean", unit=loops.unit**0.5)
    prior_variance = np.append(loops.w, [loops.var_c] * loops.fit_bias)
    assert_close(model.user_prior_variance, prior_variance, "user prior variance")
    assert_close(model.item_prior_variance, 1 / loops.lam_v, "item prior variance")
    if loops.fit_bias:
        assert_close(model.item_bias_prior_variance, 1 / loops.lam_b, "bias prior variance")
    assert_close(memory["counts"], loops.n, "running counts")
    assert_close(memory["moment"], loops.M, "running moment")


# --- every client in every round ---------------------------------------------------------------


@pytest.mark.parametrize("n_components", [0, 1, 5])
@pytest.mark.parametrize("fit_bias", [True, False])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("repeats", [False, True])
def test_rounds_of_all_clients(n_components, fit_bias, weights, repeats):
    clients = loops(table(weights=weights, repeats=repeats))
    race = Race(clients, n_components=n_components, fit_bias=fit_bias)
    for t in range(5):
        race.round(t)


@pytest.mark.parametrize("size", [1, 7, 50, EVERYTHING])
def test_chunk_size_does_not_matter(size):
    race = Race(loops(table(weights=True, repeats=True)))
    for t in range(4):
        race.round(t, size=size)


@pytest.mark.parametrize("n_components", [0, 1, 5, 16])
@pytest.mark.parametrize("fit_bias", [True, False])
def test_many_clients(n_components, fit_bias):
    n_clients = 150  # as many are solved in another way than a few
    clients = loops(table(n_clients=n_clients, weights=True, repeats=True), n_clients)
    clients[10] = clients[90] = []
    race = Race(clients, n_components=n_components, fit_bias=fit_bias)
    race.round(0)
    race.round(1, size=700)


@pytest.mark.parametrize("query", [None, slice(None)], ids=["no split", "query like support"])
def test_more_ratings_than_a_block_holds(query, monkeypatch):
    monkeypatch.setattr(_padding, "_BLOCK_NUMBERS", 1 << 12)
    clients = loops(table(n_clients=120, n_items=160), 120)
    assert sum(map(len, clients)) > BLOCK_SIZE
    split = None if query is None else EveryOther(slice(None), query)
    race = Race(clients, n_items=160, n_components=4, split=split)
    for t in range(2):
        race.round(t)


@pytest.mark.parametrize(
    ("support", "query"),
    [
        (slice(0, None, 2), slice(1, None, 2)),
        (slice(0, None, 2), slice(None)),
        (slice(None), slice(1, None, 2)),
    ],
    ids=["disjoint", "query holds the support", "support holds the query"],
)
@pytest.mark.parametrize("fit_bias", [True, False])
def test_support_and_query(support, query, fit_bias):
    clients = loops(table(weights=True, repeats=True))
    race = Race(clients, fit_bias=fit_bias, split=EveryOther(support, query))
    for t in range(5):
        race.round(t, size=20, split=lambda ratings, client: (ratings[support], ratings[query]))


@pytest.mark.parametrize("split", [RandomSplit(0.3), RandomSplit(0.5, max_ratings=6)])
def test_support_and_query_at_random(split):
    race = Race(loops(table(weights=True, repeats=True)), split=split)
    for t in range(5):
        race.round(t, size=20, split=alone(split, DeviceContext(t, 7)))


# --- cohorts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("per_round", range(1, N_CLIENTS + 1))
@pytest.mark.parametrize("fit_bias", [True, False])
def test_cohorts_of_fixed_size(per_round, fit_bias):
    race = Race(loops(table(weights=True)), fit_bias=fit_bias)
    sampler = FixedSampling(per_round)
    for t in range(12):
        context = ServerContext(t, per_round / N_CLIENTS, N_CLIENTS, seed=3)
        cohort = sampler.sample(N_CLIENTS, context)
        race.round(t, cohort, rate=sampler.rate(N_CLIENTS), size=5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_poisson_cohorts(share):
    race = Race(loops(table(repeats=True)))
    sampler = PoissonSampling(share)
    sizes = set()
    for t in range(12):
        cohort = sampler.sample(N_CLIENTS, ServerContext(t, share, N_CLIENTS, seed=3))
        if len(cohort):
            race.round(t, cohort, rate=share)
            sizes.add(len(cohort))
    assert len(sizes) > 1


def test_a_cohort_without_ratings_changes_nothing():
    # Its clients are there but have no rating: the noise would be nought by nought.
    race = Race(loops(table()))
    nobody = N_CLIENTS // 2
    assert not race.clients[nobody]
    race.round(0, [0, 1, 2], rate=1 / 3)
    before = race.state
    race.round(1, [nobody], rate=1 / 9)
    for name in ("model", "optimizer"):
        for key, value in contents(getattr(before, name)).items():
            assert np.array_equal(value, contents(getattr(race.state, name))[key]), key


def test_cohorts_with_support_and_query():
    race = Race(loops(table(weights=True)), split=EveryOther())
    for t in range(8):
        cohort = FixedSampling(6).sample(N_CLIENTS, ServerContext(t, 6 / 9, N_CLIENTS, seed=3))
        race.round(
            t, cohort, rate=6 / 9, split=lambda ratings, client: (ratings[::2], ratings[1::2])
        )


def test_an_item_that_was_never_met_goes_to_its_prior_at_the_pace_of_the_cohort():
    # Nobody rates the last item: what is left of its factor is the product of all 1 - rho.
    race = Race(loops(table()))
    length = np.linalg.norm(race.state.model.item_factors[-1])
    for t in range(3):
        race.round(t, [0, 1, 2], rate=1 / 3)
    kept = np.prod([1 - 0.3 * (1 + t / 10) ** -0.7 for t in range(3)])
    left = np.linalg.norm(race.state.model.item_factors[-1])
    np.testing.assert_allclose(left, kept * length, rtol=1e-12)


# --- cohorts that are handed in ----------------------------------------------------------------


@pytest.mark.parametrize("fit_bias", [True, False])
@pytest.mark.parametrize("rate", [2 / 9, 1.0], ids=["some clients", "all clients there are"])
def test_streaming_moves_only_what_the_cohort_contains(fit_bias, rate):
    race = Race(loops(table()), fit_bias=fit_bias)
    for t in range(3):
        race.round(t)
    cohort = [1, 8]
    rated = {rating.item for client in cohort for rating in race.clients[client]}
    others = np.array(sorted(set(range(N_ITEMS)) - rated))
    assert len(rated) > 2
    assert len(others) > 2
    for t in range(3, 6):
        before = race.state.model
        race.round(t, cohort, rate=rate, streaming=True)
        after = race.state.model
        assert np.array_equal(before.item_factors[others], after.item_factors[others])
        assert np.array_equal(before.item_bias[others], after.item_bias[others])
        moved = (before.item_factors != after.item_factors).any(axis=1)
        assert set(np.flatnonzero(moved)) == rated


def test_streaming_from_the_first_round():
    race = Race(loops(table()))
    for t, cohort in enumerate([[0, 1], [2], [3, 5], [6, 7, 8]]):
        race.round(t, cohort, rate=len(cohort) / N_CLIENTS, streaming=True)


# --- after the rounds --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [2, 3])
def test_components_are_put_in_order_and_users_rebuilt(seed):
    race = Race(loops(table(seed, weights=True, repeats=True)), n_components=5)
    for t in range(6):
        race.round(t, np.sort(np.arange(t, t + 4) % N_CLIENTS), rate=4 / N_CLIENTS)
    model = race.loops
    explained = model.w * sum(n * v**2 for n, v in zip(model.n, model.v, strict=True))
    assert (np.diff(explained) <= 0).all()
    assert (np.diff(model.w) > 0).any()  # the users' variances alone are in another order
    question = Question(race.state.model, race.parts, DeviceContext(0, 0, serving=True))
    users = serve(race.ratings, question)
    expected = [reference.reconstruct(ratings, race.loops) for ratings in race.clients]
    states = [np.append(user.u, user.c) for user in expected]
    assert_close(users.states, states, "users")
    assert_close(users.variances, [np.append(user.s, user.s_c) for user in expected], "variances")


def test_first_exchange():
    clients = loops(table(weights=True, repeats=True))
    mean, variance = reference.first_exchange(clients)
    rows = np.array([row[2:] for row in table(weights=True, repeats=True)])
    assert mean == pytest.approx(np.average(rows[:, 0], weights=rows[:, 1]), rel=1e-12)
    found = first_exchange(arrays(clients))
    np.testing.assert_allclose(found, (mean, variance**0.5), rtol=1e-12)


# --- floors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_components", [0, 1])
def test_equal_ratings_leave_no_variance(n_components):
    rows = [(client, item, 4.0, 1.0) for client in range(6) for item in range(5)]
    race = Race(loops(rows, 6), 5, n_components, variance=0.25)
    for t in range(30):
        race.round(t)
    reached = [race.loops.sigma2, race.loops.var_c, 1 / race.loops.lam_b]
    np.testing.assert_allclose(reached, 0.25e-8, rtol=1e-12)


def test_every_floor():
    # A server that is told of countless ratings without any variance.
    n, k = 10**13, 2
    model = VariationalReconstruction().initial_model(
        3, k, fit_bias=True, global_mean=0.0, scale=5.0, dtype=np.float64, seed=0
    )
    model = replace(model, item_factors=np.zeros((3, k)))
    optimizer = NaturalGradient()
    rows = {
        "item_factors": np.zeros((3, k)),
        "item_bias": np.zeros(3),
        "counts": np.full(3, float(n)),
    }
    statistics = {
        "second_moment": np.zeros((k, k)),
        "bias_mean": 0.0,
        "bias_square": 0.0,
        "noise": 0.0,
        "rating_weight": 3.0 * n,
    }
    aggregate, context = Aggregate(rows, statistics, 1.0), ServerContext(0, 1.0, 1, 0)
    model, memory = optimizer.apply(model, aggregate, optimizer.init(model), context)
    message = reference.Message({}, {}, dict.fromkeys(range(3), n), 0.0, np.zeros((k, k)), 0, 0)
    expected = reference.server_step(reference.Model(np.zeros((3, k)), 0.0, 25.0), message)
    assert_same(ServerState(model, {}, memory), expected)
    floors = [expected.sigma2, expected.var_c, 1 / expected.lam_b, *expected.w]
    np.testing.assert_allclose(floors, 25e-8, rtol=1e-12)
    np.testing.assert_allclose(1 / expected.lam_v, 1e-8, rtol=1e-12)


# --- the start has no scale, and nothing breaks at the edges ------------------------------------


def fit(ratings, rounds, *, n_components=3, per_round=None):
    """Model and users after some rounds of the fast code, in the type of the ratings."""
    stations, n_clients = parts(NoSplit()), ratings.n_clients
    mean, scale = first_exchange(ratings)
    model = stations.reconstruction.initial_model(
        ratings.n_items,
        n_components,
        fit_bias=True,
        global_mean=mean,
        scale=scale,
        dtype=ratings.values.dtype,
        seed=7,
    )
    state = ServerState(model, {}, stations.server_optimizer.init(model))
    sampler = FixedSampling(per_round)
    for t in range(rounds):
        devices = DeviceContext(t, 7)
        server = ServerContext(t, sampler.rate(n_clients), n_clients, 7)
        cohort = ratings.take(sampler.sample(n_clients, server))
        state, _ = run_round(cohort, state, stations, devices, server, in_chunks(EVERYTHING))
    prepared = Prepared.of(state.model)
    return prepared, stations.reconstruction.reconstruct(ratings, prepared, devices)


def predictions(ratings, rounds, **options):
    """Predictions of all users for all items, shape (n_clients, n_items)."""
    prepared, users = fit(ratings, rounds, **options)
    return prepared.model.offsets() + users.states @ prepared.design.T


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("per_round", [None, 20])
def test_scaling_the_ratings_scales_the_predictions(dtype, per_round):
    rows = table(n_clients=80)
    scaled = [(client, item, 20 * value, weight) for client, item, value, weight in rows]
    one = predictions(arrays(loops(rows, 80), dtype=dtype), 10, per_round=per_round)
    twenty = predictions(arrays(loops(scaled, 80), dtype=dtype), 10, per_round=per_round)
    assert np.ptp(one) > 1
    np.testing.assert_allclose(twenty / 20, one, rtol=1e-3)


@pytest.mark.parametrize("per_round", [None, 20])
def test_single_precision_is_enough(per_round):
    clients = loops(table(n_clients=80, weights=True, repeats=True), 80)
    single, double = (
        predictions(arrays(clients, dtype=dtype), 20, per_round=per_round)
        for dtype in ("float32", "float64")
    )
    np.testing.assert_allclose(single, double, rtol=1e-3)


EDGES = {
    "all ratings equal": [(client, item, 4.0, 1.0) for client in range(6) for item in range(5)],
    "all ratings of many users equal": [(c, i, 4.0, 1.0) for c in range(140) for i in range(3)],
    "one user": [(0, item, 1.0 + item, 1.0) for item in range(5)],
    "one item": [(client, 0, 1.0 + client, 1.0) for client in range(6)],
    "one rating": [(0, 0, 3.0, 1.0)],
    "one rating each": [(client, client, 1.0 + client, 1.0) for client in range(5)],
    "no noise": [(c, i, 1.0 + c + i, 1.0) for c in range(6) for i in range(5)],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rounds", [10, 500])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", EDGES)
def test_edges_stay_finite(name, sampled, rounds, dtype):
    rows = EDGES[name]
    n_clients, n_items = 1 + max(row[0] for row in rows), 1 + max(row[1] for row in rows)
    ratings = arrays(loops(rows, n_clients), n_items, dtype)
    prepared, users = fit(ratings, rounds, per_round=max(1, n_clients // 2) if sampled else None)
    model = prepared.model
    held = [value for value in vars(model).values() if not isinstance(value, bool)]
    assert all(np.isfinite(value).all() for value in [*held, users.states, users.variances])
    assert model.noise_variance > 0
    assert (model.user_prior_variance > 0).all()
    predicted = model.offsets() + users.states @ prepared.design.T
    low, high = min(row[2] for row in rows), max(row[2] for row in rows)
    slack = 1e-3 * high + 0.5 * (high - low)
    assert predicted.min() > low - slack
    assert predicted.max() < high + slack


# --- through the estimator ----------------------------------------------------------------------

USERS = np.array([f"user {number}" for number in range(N_CLIENTS)])
ITEMS = np.arange(N_ITEMS) * 10 - 50
MEASURED = {
    "item_factors_": "v",
    "item_bias_": "b",
    "item_variance_": "kappa",
    "item_bias_variance_": "beta",
    "noise_variance_": "sigma2",
    "global_mean_": "mu",
}


def as_table(rows, seed=0):
    """Table, ratings and weights with the ids of a person, shuffled."""
    rows = [rows[position] for position in np.random.default_rng(seed).permutation(len(rows))]
    X = np.empty((len(rows), 2), dtype=object)
    for column, ids in enumerate([USERS, ITEMS]):
        X[:, column] = [ids[row[column]] for row in rows]
    return X, np.array([row[2] for row in rows]), np.array([row[3] for row in rows])


def fitted(rows, weights, **parameters):
    """The estimator in float64 after a fit to shuffled rows, the catalogue being known."""
    parameters = {"n_components": 3, "max_iter": 6, "tol": None, "random_state": 5} | parameters
    estimator = FederatedReconstructionMF(dtype="float64", items=ITEMS, **parameters)
    X, y, sample_weight = as_table(rows)
    return estimator.fit(X, y, sample_weight if weights else None)


def simulated(
    rows,
    sampler=None,
    *,
    rate=None,
    split=None,
    fit_bias=True,
    n_components=3,
    rounds=6,
    n_items=N_ITEMS,
):
    """What the estimator has to have found: the model of the loops, and its users."""
    clients = [ratings for ratings in loops(rows) if ratings]
    n_clients, entropy = len(clients), root_seed(check_random_state(5))
    mean, variance = reference.first_exchange(clients)
    start = VariationalReconstruction().initial_model(
        n_items,
        n_components,
        fit_bias=fit_bias,
        global_mean=mean,
        scale=variance**0.5,
        dtype=np.float64,
        seed=entropy,
    )
    model = reference.Model(start.item_factors, mean, variance, fit_bias)
    sampler = sampler or FixedSampling()
    rate = rate or sampler.rate(n_clients)
    for t in range(rounds):
        context = ServerContext(t, rate, n_clients, entropy)
        cohort = sampler.survivors(sampler.sample(n_clients, context), context)
        pair = alone(split, DeviceContext(t, entropy)) if split else both
        model = reference.one_round(model, [pair(clients[c], c) for c in cohort], rate)
    return model, [reference.reconstruct(ratings, model) for ratings in clients]


def assert_fitted(estimator, model, users):
    """Every number that a fit shows, of the server and of the devices."""
    for attribute, name in MEASURED.items():
        assert_close(getattr(estimator, attribute), getattr(model, name), attribute)
    biases = range(model.fit_bias)
    moments = [*np.zeros(len(model.w)), *[model.m_c for _ in biases]]
    assert_close(estimator.user_prior_mean_, moments, "prior mean", unit=model.unit**0.5)
    moments = [*model.w, *[model.var_c for _ in biases]]
    assert_close(estimator.user_prior_variance_, moments, "prior variance")
    assert_close(estimator.user_factors_, [user.u for user in users], "user factors")
    assert_close(estimator.user_bias_, [user.c for user in users], "user bias")
    spread = [[*user.s, *[user.s_c for _ in biases]] for user in users]
    assert_close(estimator.user_variance_, spread, "user variance")


@pytest.mark.parametrize("n_components", [0, 1, 4])
@pytest.mark.parametrize("fit_bias", [True, False])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("clients_per_round", [None, 5])
def test_fit(clients_per_round, weights, fit_bias, n_components):
    rows = table(2, weights=weights, repeats=True)
    options = {"n_components": n_components, "fit_bias": fit_bias}
    estimator = fitted(rows, weights, clients_per_round=clients_per_round, **options)
    assert_fitted(estimator, *simulated(rows, FixedSampling(clients_per_round), **options))


@pytest.mark.parametrize("clients_per_round", [*range(1, N_CLIENTS), 0.5, 1.0])
def test_fit_with_cohorts(clients_per_round):
    rows = table(2, weights=True)
    estimator = fitted(rows, True, clients_per_round=clients_per_round)
    assert_fitted(estimator, *simulated(rows, FixedSampling(clients_per_round)))


@pytest.mark.parametrize(
    ("sampling", "sampler", "share"),
    [("fixed", FixedSampling, 2 / 8), ("poisson", PoissonSampling, 0.3)],
)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_fit_with_cohorts_that_vary(sampling, sampler, share, dropout):
    rows = table(2)
    estimator = fitted(
        rows, False, clients_per_round=0.3, sampling=sampling, client_dropout=dropout, max_iter=15
    )
    if (sampling, dropout) != ("fixed", 0.0):
        assert len(np.unique(estimator.history_["clients"])) > 1
    rate = share * (1 - dropout)  # 0.3 of the 8 users with ratings are 2
    assert_fitted(estimator, *simulated(rows, sampler(0.3, dropout), rate=rate, rounds=15))


@pytest.mark.parametrize(
    "split", [RandomSplit(0.4), BatchParitySplit(2)], ids=["random", "parity"]
)
@pytest.mark.parametrize("clients_per_round", [None, 6])
def test_fit_with_support_and_query(clients_per_round, split):
    rows = table(2, weights=True)
    estimator = fitted(rows, True, clients_per_round=clients_per_round, support_query=split)
    assert_fitted(estimator, *simulated(rows, FixedSampling(clients_per_round), split=split))


@pytest.mark.parametrize("clients_per_round", [None, 6])
def test_fit_with_workers(monkeypatch, clients_per_round):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 16)  # so that there is something to share
    rows = table(2, weights=True, repeats=True)
    expected = simulated(rows, FixedSampling(clients_per_round))
    estimators = [
        fitted(rows, True, clients_per_round=clients_per_round, n_jobs=n_jobs)
        for n_jobs in (1, 2, 4)
    ]
    for estimator in estimators:
        assert_fitted(estimator, *expected)
        assert np.array_equal(estimator.item_factors_, estimators[0].item_factors_)
        assert np.array_equal(estimator.user_factors_, estimators[0].user_factors_)


@pytest.mark.parametrize("fit_bias", [True, False])
def test_predictions_and_their_deviations(fit_bias):
    rows = table(2)
    estimator = fitted(rows, False, fit_bias=fit_bias)
    model, users = simulated(rows, fit_bias=fit_bias)
    users = dict(zip(estimator.users_, users, strict=True))
    items = dict(zip(ITEMS, range(N_ITEMS), strict=True))
    pairs = [(user, item) for user in [*users, "nobody"] for item in [*items, 7]]
    X = np.empty((len(pairs), 2), dtype=object)
    X[:, 0], X[:, 1] = zip(*pairs, strict=True)
    expected = [reference.predict(model, users.get(u), items.get(i)) for u, i in pairs]
    mean, deviation = estimator.predict(X, return_std=True)
    assert_close(mean, [pair[0] for pair in expected], "mean")
    assert_close(deviation, [pair[1] ** 0.5 for pair in expected], "deviation")
    user, other = estimator.users_[0], estimator.users_[1]
    one = estimator.predict(np.array([[user, 7], [other, 7]], dtype=object))
    assert_close(one, [model.mu + users[user].c, model.mu + users[other].c], "unknown item")


@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
def test_partial_fit_is_a_round_of_the_cohort_that_is_given():
    first, later = table(2), table(8)
    novice = N_CLIENTS // 2  # without ratings until now; and the last item gets its first ones
    later = [row for row in later if row[0] in (1, 3)]
    later += [(novice, item, 2.0 + item / 5, 1.0) for item in (0, 4, N_ITEMS - 1)]
    estimator = FederatedReconstructionMF(3, dtype="float64", max_iter=6, tol=None, random_state=5)
    X, y, _ = as_table(first)
    estimator.fit(X, y)
    known = estimator.item_factors_.copy()
    model, _ = simulated(first, n_items=N_ITEMS - 1)
    for given in range(2):
        X, y, _ = as_table(later, seed=given)
        estimator.partial_fit(X, y, total_users=20)
        if given == 0:
            model = with_new_item(model)
        cohort = [ratings for ratings in loops(later) if ratings]
        model = reference.one_round(
            model, [both(ratings, None) for ratings in cohort], 3 / 20, streaming=True
        )
        for attribute, name in MEASURED.items():
            assert_close(getattr(estimator, attribute), getattr(model, name), attribute)
    rated = {row[1] for row in later}
    others = [item for item in range(N_ITEMS - 1) if item not in rated]
    assert len(others) > 0
    assert np.array_equal(estimator.item_factors_[others], known[others])
    position = dict(zip(estimator.users_, range(N_CLIENTS), strict=True))
    for client in (1, 3, novice):
        user = reference.reconstruct(loops(later)[client], model)
        assert_close(estimator.user_factors_[position[USERS[client]]], user.u, "user factors")


def with_new_item(model):
    """The model with one more item, at its prior."""
    model.v.append(np.zeros(len(model.w)))
    model.b.append(0.0)
    model.kappa.append(1 / model.lam_v)
    model.beta.append(1 / model.lam_b)
    model.n.append(0.0)
    return model
