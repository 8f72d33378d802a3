"""The protocol of the paper's experiment, and the baselines written for it."""

from types import SimpleNamespace

import numpy as np
import pytest
from reference_sgd import Model, User, reconstruct, update
from sklearn.base import clone
from sklearn.linear_model import Ridge

from benchmarks import paper_reproduction
from benchmarks._pooled import PooledSGD
from benchmarks._unseen import judge, learning_curve, serve, split_users
from benchmarks.paper_round import EPOCHS, ITEM_RATE, STEPS, USER_RATE, PlainLoops
from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.presets import federated_averaging, paper_movielens

SLOW = {"n_components": 4, "clients_per_round": 20, "reconstruction__learning_rate": 0.05}


@pytest.fixture(scope="module")
def experiment(small_ratings):
    return split_users(small_ratings.data, small_ratings.target, seed=0)


def users_of(experiment, rows):
    return set(experiment.X[rows, 0].tolist())


def test_nobody_is_in_two_groups(experiment):
    groups = [users_of(experiment, experiment.train)]
    for held_out in (experiment.validation, experiment.test):
        groups.append(users_of(experiment, held_out.support))
        assert users_of(experiment, held_out.query) <= groups[-1]
        assert not set(held_out.support.tolist()) & set(held_out.query.tolist())
    assert [len(group) for group in groups] == [96, 12, 12]
    assert len(set.union(*groups)) == 120


@pytest.mark.parametrize("count", [3, 5, 8, 23, 300, 999])
def test_batches_of_five_go_to_either_half_in_turn(count):
    X = np.column_stack([np.repeat(np.arange(10), count), np.tile(np.arange(count), 10)])
    held_out = split_users(X, np.ones(len(X)), seed=0).test
    used = min(count, 300)
    expected = 5 * (used // 10) + min(used % 10, 5)
    assert len(held_out.support) == expected
    assert len(held_out.query) == used - expected


@pytest.mark.parametrize(
    "model",
    [paper_movielens(**SLOW), FederatedReconstructionMF(3, clients_per_round=20)],
    ids=["paper", "variational"],
)
def test_a_curve_ends_where_a_single_fit_does(model, experiment):
    points, fitted = learning_curve(model, experiment, [2, 5, 9])
    rows, catalogue = experiment.train, np.arange(experiment.n_items)
    single = clone(model).set_params(max_iter=9, tol=None, items=catalogue, random_state=0)
    single.fit(experiment.X[rows], experiment.y[rows])
    np.testing.assert_array_equal(fitted.item_factors_, single.item_factors_)
    assert points[-1] == judge(
        lambda held_out: serve(single, experiment, held_out),
        experiment,
        9,
        megabytes_up=single.history_["bytes_up"].sum() / 1e6,
        cpu_seconds=points[-1].cpu_seconds,
    )
    assert [point.rounds for point in points] == [2, 5, 9]


def test_a_curve_ends_early_where_training_diverges(experiment):
    points, _ = learning_curve(
        paper_movielens(**SLOW, client_update__learning_rate=1e6), experiment, [1, 200]
    )
    assert len(points) < 2


def test_accuracy_and_clipping_are_as_described(experiment):
    truth, n_query = experiment.y, len(experiment.test.query)

    def predict(held_out):
        misses = np.where(np.arange(len(held_out.query)) % 2, 0.5, 100.0)
        return truth[held_out.query] + misses

    point = judge(predict, experiment, 1)
    assert point.accuracy == (n_query // 2) / n_query
    clipped = np.minimum(predict(experiment.test), truth.max()) - truth[experiment.test.query]
    assert point.clipped_rmse == pytest.approx(np.sqrt(np.mean(clipped**2)))
    assert point.rmse > 50


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (paper_movielens(), 3706 * 50 * 4),
        (paper_movielens(fit_bias=True), 3706 * 51 * 4),
        (federated_averaging(), (3706 * 50 + 50) * 4),
        (FederatedReconstructionMF(), (3706 * 18 + 16 * 17 // 2 + 4) * 4),
    ],
    ids=["paper", "biases", "averaging", "variational"],
)
def test_a_dense_message_has_a_row_for_every_item(model, expected):
    model.set_params(items=np.arange(3706), max_iter=1, clients_per_round=None)
    model.fit([[user, item] for user in range(2) for item in range(12)], [3.0, 4.0, 5.0] * 8)
    assert paper_reproduction.dense_bytes(model) == expected


@pytest.mark.parametrize("fit_bias", [False, True])
def test_a_user_of_the_pooled_baseline_is_ridge_regression(fit_bias):
    random, items = np.random.default_rng(0), np.array([4, 0, 2, 7])
    model = PooledSGD(3, fit_bias=fit_bias)
    for _ in model.epochs(np.array([0, 1, 0]), np.array([0, 1, 7]), np.array([3, 4, 5]), 9, 2):
        pass
    ratings = random.normal(3, 1, 4)
    x = model.items[items].astype(float)
    x = np.hstack([x, np.ones((4, 1))]) if fit_bias else x
    ridge = Ridge(alpha=4 * model.penalty, fit_intercept=False)
    ridge.fit(x, ratings - model.mean - model.item_bias[items])
    rebuilt = model.rebuild(items, ratings)
    np.testing.assert_allclose(rebuilt, ridge.coef_, rtol=1e-6, atol=1e-9)
    expected = ridge.predict(x) + model.mean + model.item_bias[items]
    np.testing.assert_allclose(model.predict(rebuilt, items), expected, rtol=1e-6)


def test_a_step_of_the_pooled_baseline_follows_the_gradient():
    users, items, ratings = np.array([0, 0, 1]), np.array([1, 2, 1]), np.array([3.0, 5.0, 1.0])
    model = PooledSGD(2, fit_bias=True, learning_rate=1e-3, penalty=0.3, batch_size=3)
    epochs = model.epochs(users, items, ratings, 3, 2)
    next(epochs)
    tables = [model._users, model.items, model._user_bias, model.item_bias]
    before = [table.astype(float) for table in tables]

    def loss(u, v, c, b):
        errors = ratings - float(model.mean) - b[items] - c[users] - (u[users] * v[items]).sum(1)
        squares = (u[users] ** 2).sum(1) + (v[items] ** 2).sum(1) + b[items] ** 2 + c[users] ** 2
        return (errors**2 + 0.3 * squares).sum() / 2

    next(epochs)
    for which, table in enumerate(tables):
        for place in np.ndindex(table.shape):
            sides = []
            for shift in (1e-5, -1e-5):
                moved = [one.copy() for one in before]
                moved[which][place] += shift
                sides.append(loss(*moved))
            gradient = (sides[0] - sides[1]) / 2e-5
            step = table[place] - before[which][place]
            assert step == pytest.approx(-1e-3 * gradient, rel=1e-3, abs=1e-6)


def test_the_loops_of_the_benchmark_are_the_published_round(small_ratings):
    loops = PlainLoops(small_ratings.data, small_ratings.target)
    support, query = next(halves for halves in loops.cohort() if halves[1])
    rows = loops.factors.astype(float)
    server = Model(rows.tolist(), [0.0] * len(rows))

    def rated(batches):
        return [[(i, r, 1.0) for i, r in zip(*batch, strict=True)] for batch in batches]

    loops._random = np.random.default_rng(5)
    user = loops.reconstruct(support)
    start = np.random.default_rng(5).uniform(-0.05, 0.05, rows.shape[1])
    steps = (rated(support) * EPOCHS)[:STEPS]
    expected = reconstruct(server, User(start.tolist()), steps, USER_RATE)
    np.testing.assert_allclose(user, expected.factor, atol=1e-5)
    local, _, report = update(server, expected, rated(query)[:STEPS], ITEM_RATE)
    moved = loops.update(query, user)
    assert set(moved) == report.touched
    for item, row in moved.items():
        np.testing.assert_allclose(row, local.factors[item], atol=1e-4)
    loops._random = np.random.default_rng(5)
    loops.round([(support, query), (support, [])])  # who has no query has no weight
    np.testing.assert_allclose(loops.factors, local.factors, atol=1e-4)


def test_tables_and_figure_have_every_method(experiment, tmp_path):
    pytest.importorskip("matplotlib")
    methods = paper_reproduction.methods(0.05, rounds=2, clients=20)
    results = [paper_reproduction.results_of(experiment, methods)]
    final = paper_reproduction.final_table("data", [experiment], results)
    assert {row[0] for row in final.rows} > set(methods)
    assert all(len(row) == len(final.columns) for row in final.rows)
    curves = paper_reproduction.rounds_table("RMSE", results, "rmse")
    assert {row[0] for row in curves.rows} == set(methods)
    paper_reproduction.draw(results, "data", tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").stat().st_size > 1000


def test_step_sizes_that_diverge_are_named(experiment, monkeypatch):
    fast = {
        name: model.set_params(client_update__learning_rate=1e4, n_components=3)
        for name, model in paper_reproduction.methods(0.05, rounds=30, clients=20).items()
        if name in (paper_reproduction.PAPER, paper_reproduction.FINE_TUNED)
    }
    monkeypatch.setattr(
        paper_reproduction, "methods", lambda *_: {n: clone(m) for n, m in fast.items()}
    )
    rows = paper_reproduction.step_sizes("data", experiment, 0.05, rounds=30).rows
    assert {cell for row in rows for cell in row[2:]} == {"diverges"}


def test_only_made_up_ratings_get_smaller_steps(monkeypatch):
    rates = []
    monkeypatch.setattr(paper_reproduction, "methods", lambda rate: rates.append(rate) or {})
    monkeypatch.setattr(paper_reproduction, "results_of", lambda *_: {})
    for name in ("final_table", "rounds_table", "step_sizes"):
        monkeypatch.setattr(paper_reproduction, name, lambda *_: None)
    X, y = np.indices((20, 20)).reshape(2, -1).T, np.ones(400)
    monkeypatch.setattr(paper_reproduction, "table", lambda *_: (X, y, "data"))
    for variant in (None, "1m"):
        options = SimpleNamespace(ratings=None, movielens=variant, repeats=1, figure=None)
        assert len(list(paper_reproduction.run(options))) == 4
    assert rates == [0.05, 0.1]
