"""What a fit does: how long it runs, what it keeps and reports, and how good it is."""

import io
import math
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import root_mean_squared_error

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.client_update import SGDUpdate
from sklearn_fedrecon.datasets import make_ratings, oracle_predict
from sklearn_fedrecon.splitting import NoSplit

N_USERS, N_ITEMS = 80, 60


def new(**options):
    return FederatedReconstructionMF(**{"n_components": 4, "random_state": 0, **options})


@pytest.fixture(scope="module")
def table():
    """Ratings of 80 users and 60 items; ids are not indices."""
    X, y = make_ratings(N_USERS, N_ITEMS, 2000, random_state=4, return_X_y=True)
    return X * 7 + [1000, 3], y


# --- what is kept ------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, 5, 100])
@pytest.mark.parametrize("fit_bias", [True, False])
def test_shapes(table, k, fit_bias):
    model = new(n_components=k, fit_bias=fit_bias).fit(*table)
    shapes = {
        "item_factors_": (N_ITEMS, k),
        "item_variance_": (N_ITEMS, k),
        "item_bias_": (N_ITEMS,),
        "item_bias_variance_": (N_ITEMS,),
        "user_prior_mean_": (k + fit_bias,),
        "user_prior_variance_": (k + fit_bias,),
        "items_": (N_ITEMS,),
        "users_": (N_USERS,),
        "user_factors_": (N_USERS, k),
        "user_bias_": (N_USERS,),
        "user_variance_": (N_USERS, k + fit_bias),
    }
    assert {name: getattr(model, name).shape for name in shapes} == shapes
    assert isinstance(model.global_mean_, float)
    assert isinstance(model.noise_variance_, float)
    assert model.n_features_in_ == 2
    if not fit_bias:
        assert not model.item_bias_.any()
        assert not model.user_bias_.any()


def test_every_documented_attribute_is_there_and_no_other(table):
    documented = re.findall(
        r"^    (\w+_) : ", FederatedReconstructionMF.__doc__, flags=re.MULTILINE
    )
    X = pd.DataFrame(table[0], columns=["user", "item"])
    model = new().fit(X, table[1])
    public = [name for name in vars(model) if name.endswith("_") and not name.startswith("_")]
    assert set(public) == set(documented)


def test_ids_are_those_of_the_table(table):
    X, _ = table
    model = new().fit(*table)
    assert model.users_.tolist() == sorted(set(X[:, 0]))
    assert model.items_.tolist() == sorted(set(X[:, 1]))


def test_components_are_ordered_by_what_they_explain():
    X, y = make_ratings(300, 80, 12_000, random_state=0, return_X_y=True)
    for seed in range(5):
        model = new(n_components=6, random_state=seed).fit(X, y)
        counts = np.bincount(X[:, 1], minlength=80)
        explained = model.user_prior_variance_[:6] * (counts @ model.item_factors_**2)
        assert (np.diff(explained) <= 1e-6 * explained[0]).all()


def test_a_declared_catalogue(table):
    X, y = table
    catalogue = np.arange(0, 600)[::-1]
    model = new(items=catalogue, dtype="float64").fit(X, y)
    seen = np.isin(model.items_, X[:, 1])
    assert model.items_.tolist() == list(range(600))
    # Whoever never was rated has what the prior says, and tells of it.
    np.testing.assert_allclose(model.item_factors_[~seen], 0, atol=1e-12)
    np.testing.assert_allclose(model.item_bias_[~seen], 0, atol=1e-12)
    assert (model.item_variance_[~seen].min(axis=0) > model.item_variance_[seen]).all()
    user = X[0, 0]
    expected = model.global_mean_ + model.user_bias_[model.users_ == user]
    assert model.predict([[user, 4]]) == pytest.approx(expected, rel=1e-9)
    assert 4 not in X[:, 1]


def test_an_undeclared_catalogue_is_what_was_rated(table):
    X, y = table
    named, free = new(items=np.unique(X[:, 1])).fit(X, y), new().fit(X, y)
    assert np.array_equal(named.item_factors_, free.item_factors_)


@pytest.mark.parametrize("weighted", [False, True])
def test_federated_mean(table, weighted):
    X, y = table
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y)) if weighted else None
    model = new().fit(X, y, sample_weight=weights)
    assert model.global_mean_ == pytest.approx(np.average(y, weights=weights), rel=1e-6)


def test_a_public_mean_is_used_as_it_is(table):
    X, y = table
    model = new(global_mean=3, rating_scale=(1, 5)).fit(X, y)
    assert model.global_mean_ == 3.0
    federated = new().fit(X, y)
    # The biases make up for it.
    gap = model.predict(X) - federated.predict(X)
    assert np.sqrt(np.mean(gap**2)) < 0.1


def test_a_public_start_needs_no_exchange(table):
    # With mean and scale declared, nothing is asked of clients before the first round.
    X, y = table
    public = new(global_mean=3.0, rating_scale=(1, 5), max_iter=1).fit(X, y)
    asked = new(global_mean=3.0, max_iter=1).fit(X, y)
    assert public.exchanges_ == {}
    assert asked.exchanges_["exchange"].tolist() == ["mean of the ratings", "scale of the ratings"]
    assert asked.exchanges_["bytes_up"].tolist() == [2 * 8 * N_USERS] * 2
    assert asked.exchanges_["bytes_down"].tolist() == [0, 8 * N_USERS]
    assert asked.history_["bytes_up"][0] == public.history_["bytes_up"][0]


@pytest.mark.parametrize(("reconstruction", "asked"), [("ridge", 2), ("sgd", 0)])
def test_only_parts_that_use_the_scale_ask_for_it(table, reconstruction, asked):
    X, y = table
    model = new(reconstruction=reconstruction, global_mean=3.5, max_iter=2, tol=None)
    model.set_params(
        support_query=NoSplit(batch_size=5), client_update=SGDUpdate(learning_rate=0.01)
    )
    assert len(model.fit(X, y).exchanges_.get("exchange", ())) == asked


# --- what is reported --------------------------------------------------------------------------


def test_history_is_a_frame(table):
    X, y = table
    frame = pd.DataFrame(new(max_iter=4).fit(X, y).history_)
    assert list(frame) == [
        "round",
        "clients",
        "ratings",
        "loss",
        "training_rmse",
        "rejected_clients",
        "finite",
        "bytes_down",
        "bytes_up",
        "cpu_seconds",
        "wall_seconds",
    ]
    assert frame["round"].tolist() == [1, 2, 3, 4]
    assert frame["clients"].tolist() == [N_USERS] * 4
    assert frame["ratings"].tolist() == [2000] * 4
    assert frame["finite"].tolist() == [True] * 4
    assert frame["rejected_clients"].tolist() == [0] * 4
    assert frame.notna().to_numpy().all()
    integers = ["round", "clients", "ratings", "bytes_down", "bytes_up", "rejected_clients"]
    assert all(frame[name].dtype.kind == "i" for name in integers)


@pytest.mark.parametrize("weighted", [False, True])
def test_training_error_is_that_of_the_model_sent_out(table, weighted):
    X, y = table
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y)) if weighted else None
    model = new(dtype="float64").fit(X, y, sample_weight=weights)
    before = root_mean_squared_error(y, model.predict(X), sample_weight=weights)
    model.partial_fit(X, y, sample_weight=weights)
    assert model.history_["training_rmse"][-1] == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize("fit_bias", [True, False])
@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8)])
@pytest.mark.parametrize("k", [0, 4])
@pytest.mark.parametrize("cohort", [None, 15])
def test_bytes_by_hand(table, k, fit_bias, dtype, size, cohort):
    options = {"n_components": k, "fit_bias": fit_bias, "dtype": dtype}
    model = new(**options, clients_per_round=cohort, max_iter=3).fit(*table)
    history, clients = model.history_, cohort or N_USERS
    # Down: each item's factors and bias with their variances, the users' prior and the
    # global mean, noise variance and item prior. Everybody gets all of it.
    biases = 2 * N_ITEMS if fit_bias else 0
    down = 2 * N_ITEMS * k + biases + 2 * (k + fit_bias) + 3
    assert history["bytes_down"].tolist() == [clients * down * size] * 3
    # Up: a row with item, k + 1 sums and one for the bias; once, the second moments, noise
    # and weight, and two moments of the bias. What is asked before is in `exchanges_`.
    row, once = k + 1 + fit_bias, k * (k + 1) // 2 + 2 + 2 * fit_bias
    for t, ratings in enumerate(history["ratings"]):
        up = ratings * 4 + (ratings * row + clients * once) * size
        assert history["bytes_up"][t] == up


def test_a_line_a_round(table, capsys):
    model = new(max_iter=12, verbose=1).fit(*table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    pattern = r"round +(\d+)/12     80 clients  RMSE (\d\.\d{4}) +(\d+\.\d) MB +\d+\.\d\d s"
    found = [re.fullmatch(pattern, line) for line in lines]
    assert [int(match[1]) for match in found] == list(range(1, 13))
    sent = model.history_["bytes_down"] + model.history_["bytes_up"]
    for match, error, n_bytes in zip(found, model.history_["training_rmse"], sent, strict=True):
        assert float(match[2]) == pytest.approx(error, abs=5.1e-5)
        assert float(match[3]) == pytest.approx(n_bytes / 1e6, abs=0.051)
    assert len({*map(len, lines)}) == 1  # they line up


def test_the_held_out_error_is_shown(table, capsys):
    new(max_iter=2, early_stopping=True, verbose=1).fit(*table)
    shown = capsys.readouterr().out
    assert len(re.findall(r" RMSE \d\.\d{4} \(held out \d\.\d{4}\) ", shown)) == 2
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_nothing_is_shown_unless_asked_for(table, capsys):
    new().fit(*table).partial_fit(*table)
    assert capsys.readouterr().out == ""


# --- how long ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        ({}, 10),
        ({"clients_per_round": 1.0}, 10),
        ({"clients_per_round": 80}, 10),
        ({"clients_per_round": 40}, 20),
        ({"clients_per_round": 7}, 115),  # 10 * 80 / 7 = 114.3
        ({"clients_per_round": 0.3}, 34),  # 24 of 80, 33.3
        ({"clients_per_round": 0.3, "sampling": "poisson"}, 34),
        ({"clients_per_round": 1}, 500),  # not 800
        ({"client_dropout": 0.5}, 20),
        ({"clients_per_round": 40, "client_dropout": 0.5}, 40),
        ({"max_iter": 3, "clients_per_round": 40}, 3),
    ],
)
def test_rounds_give_everybody_ten_turns(table, options, rounds):
    assert new(n_components=1, **options).fit(*table).n_iter_ == rounds


@pytest.mark.parametrize(("n_users", "cohort"), [(49, 1), (61, 5), (77, 10), (98, 4)])
def test_rounds_are_counted_without_rounding_errors(n_users, cohort):
    # 10 / (1 / 49) is 490.00000000000006.
    X = np.column_stack([np.arange(n_users), np.zeros(n_users)])
    model = new(n_components=0, clients_per_round=cohort).fit(X, np.arange(n_users) % 5)
    assert model.n_iter_ == math.ceil(10 * n_users / cohort)


def test_the_tolerance_ends_what_has_settled(table):
    model = new(max_iter=400, n_components=1).fit(*table)
    losses = model.history_["loss"]
    changes = np.abs(np.diff(losses)) / losses[:-1]
    assert 10 < model.n_iter_ < 400
    assert (changes[-5:] <= 1e-4).all()
    assert changes[-6] > 1e-4
    patient = new(max_iter=400, n_components=1, n_iter_no_change=8).fit(*table)
    assert patient.n_iter_ == model.n_iter_ + 3
    settled = new(max_iter=400, n_components=1, tol=None).fit(*table)
    assert settled.n_iter_ == 400
    np.testing.assert_allclose(model.predict(table[0]), settled.predict(table[0]), atol=0.05)


def test_a_cohort_has_no_loss_to_watch(table):
    model = new(max_iter=60, n_components=0, clients_per_round=0.9, tol=0.5).fit(*table)
    assert model.n_iter_ == 60


# --- early stopping ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(table):
    return new(random_state=3, early_stopping=True, max_iter=200).fit(*table)


def test_early_stopping_holds_out_users(table, stopped):
    (n_train,) = set(stopped.history_["clients"])
    assert 0 < N_USERS - n_train < 20  # each is held out with probability .1
    assert stopped.exchanges_["clients"].tolist() == [n_train] * 2  # nobody else is asked
    more = new(early_stopping=True, validation_fraction=0.25, max_iter=2).fit(*table)
    assert N_USERS - n_train < N_USERS - more.history_["clients"][0] < 35


def test_a_new_user_moves_nobody_in_or_out_of_training(table):
    """Everybody else counts as before, though the user comes first and all others move up."""
    X, y = table
    before = new(early_stopping=True, max_iter=1).fit(X, y).history_
    joined = np.vstack([[[-1, item] for item in (3, 5, 8)], X])
    after = new(early_stopping=True, max_iter=1).fit(joined, [1, 2, 3, *y]).history_
    grown = after["clients"][0] - before["clients"][0]
    assert (grown, after["ratings"][0] - before["ratings"][0]) in ((0, 0), (1, 3))


def test_early_stopping_waits(stopped):
    errors = stopped.history_["validation_rmse"]
    assert stopped.n_iter_ == len(errors) < 200
    before = np.minimum.accumulate(errors)[:-1]
    improved = errors[1:] < before * (1 - 1e-4)
    assert not improved[-5:].any()
    assert improved[-6]


def test_early_stopping_keeps_the_best_model(table, stopped):
    best = int(stopped.history_["validation_rmse"].argmin()) + 1
    assert best < stopped.n_iter_
    short = new(random_state=3, early_stopping=True, max_iter=best, tol=None).fit(*table)
    for name in ("item_factors_", "item_bias_", "user_factors_", "user_variance_"):
        assert np.array_equal(getattr(short, name), getattr(stopped, name)), name
    assert short.noise_variance_ == stopped.noise_variance_


def test_held_out_users_are_known_in_the_end(table, stopped):
    X, y = table
    assert stopped.users_.tolist() == sorted(set(X[:, 0]))
    for position in range(0, N_USERS, 5):
        own = X[:, 0] == stopped.users_[position]
        rebuilt = stopped.reconstruct_user(X[own, 1], y[own])
        np.testing.assert_allclose(
            stopped.user_factors_[position], rebuilt.factors, rtol=1e-3, atol=1e-5
        )


def test_early_stopping_with_one_rating_a_user():
    X = np.column_stack([np.arange(60), np.arange(60) % 6])
    y = 1.0 + X[:, 1] % 5
    model = new(early_stopping=True).fit(X, y)
    # Held-out users reveal nothing: they are judged by what their items are rated.
    assert np.isfinite(model.history_["validation_rmse"]).all()
    assert model.history_["validation_rmse"][-1] < model.history_["validation_rmse"][0]


def test_early_stopping_with_cohorts(table):
    model = new(early_stopping=True, clients_per_round=20, max_iter=100).fit(*table)
    assert model.n_iter_ < 100
    assert set(model.history_["clients"]) == {20}


# --- units and edges ---------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [20.0, 0.01])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", [{}, {"clients_per_round": 20}, {"fit_bias": False}, {"n_components": 0}], ids=str
)
def test_ratings_have_no_unit(table, factor, dtype, options):
    X, y = table
    one = new(dtype=dtype, **options).fit(X, y)
    other = new(dtype=dtype, **options).fit(X, factor * y)
    predicted, std = one.predict(X, return_std=True)
    scaled, scaled_std = other.predict(X, return_std=True)
    assert one.n_iter_ == other.n_iter_
    np.testing.assert_allclose(scaled, factor * predicted, rtol=1e-3)
    np.testing.assert_allclose(scaled_std, factor * std, rtol=1e-3)


def test_ratings_have_no_origin(table):
    X, y = table
    one, other = new(dtype="float64").fit(X, y), new(dtype="float64").fit(X, y + 100)
    np.testing.assert_allclose(other.predict(X), one.predict(X) + 100, rtol=1e-6)


@pytest.mark.parametrize("value", [3.0, 3.7, 0.0, -1e-6])
@pytest.mark.filterwarnings("ignore:All .* ratings are")
def test_constant_ratings_are_predicted(value):
    X = np.column_stack([np.repeat(np.arange(20), 5), np.tile(np.arange(5), 20)])
    for rounds in (10, 500):
        model = new(max_iter=rounds, tol=None).fit(X, np.full(100, value))
        np.testing.assert_allclose(model.predict(X), value, rtol=1e-6, atol=1e-12)
        assert np.isfinite(model.item_factors_).all()


def test_the_bias_only_model_is_two_way_ridge_regression(table):
    """At the end of many rounds, given the variances that were found."""
    X, y = table
    model = new(n_components=0, max_iter=300, tol=None, dtype="float64").fit(X, y)
    users, items = np.searchsorted(model.users_, X[:, 0]), np.searchsorted(model.items_, X[:, 1])
    design = np.zeros((len(y), N_USERS + N_ITEMS))
    design[np.arange(len(y)), users] = design[np.arange(len(y)), N_USERS + items] = 1
    noise, inside = model.noise_variance_, model._fitted.model
    ridge = np.repeat(
        [noise / model.user_prior_variance_[0], noise / inside.item_bias_prior_variance],
        [N_USERS, N_ITEMS],
    )
    prior = np.repeat([model.user_prior_mean_[0], 0.0], [N_USERS, N_ITEMS])
    gram = design.T @ design + np.diag(ridge)
    biases = np.linalg.solve(gram, design.T @ (y - model.global_mean_) + ridge * prior)
    np.testing.assert_allclose(model.user_bias_, biases[:N_USERS], atol=1e-6)
    np.testing.assert_allclose(model.item_bias_, biases[N_USERS:], atol=1e-6)


# --- how good ----------------------------------------------------------------------------------


def rmse(model, X, y):
    return root_mean_squared_error(y, model.predict(X))


@pytest.mark.parametrize("clients_per_round", [None, 100])
def test_unseen_users_are_served_nearly_as_well_as_possible(clients_per_round):
    truth = make_ratings(1500, 300, 120_000, random_state=0)
    X, y = truth.data, truth.target
    unseen = X[:, 0] % 10 == 0
    revealed = np.random.default_rng(0).random(len(y)) < 0.5
    support, query = unseen & revealed, unseen & ~revealed
    errors = []
    for n_components in (16, 0):
        model = FederatedReconstructionMF(
            n_components, clients_per_round=clients_per_round, rating_scale=(1, 5), random_state=0
        ).fit(X[~unseen], y[~unseen])
        known = model.personalize(X[support], y[support])
        errors.append(rmse(known, X[query], y[query]))
    best = oracle_predict(truth, X[support], y[support], X[query])
    oracle = root_mean_squared_error(y[query], best)
    assert errors[0] < 1.02 * oracle
    assert errors[1] > 1.035 * oracle  # biases alone are not enough


def test_movielens(movielens_zip):
    with zipfile.ZipFile(movielens_zip) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("ratings.csv")]
        text = io.TextIOWrapper(archive.open(name))
        ratings = np.loadtxt(text, delimiter=",", skiprows=1, usecols=(0, 1, 2))
    X, y = ratings[:, :2].astype(np.int64), ratings[:, 2]
    order = np.random.default_rng(0).permutation(len(y))
    train, test = np.split(order, [int(0.9 * len(y))])
    errors = {}
    for k in (16, 0):
        model = FederatedReconstructionMF(k, rating_scale=(0.5, 5), random_state=0)
        errors[k] = rmse(model.fit(X[train], y[train]), X[test], y[test])
    assert errors[16] <= 0.85
    assert errors[0] - errors[16] >= 0.02
