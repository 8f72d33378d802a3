"""Training that goes on: cohorts that are handed in, and warm starts."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import root_mean_squared_error

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._training._parts import build_parts
from sklearn_fedrecon._training._start import extended
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.server_optimizers import SGD

ITEM_ARRAYS = ("item_factors_", "item_bias_")
USER_ARRAYS = ("user_factors_", "user_bias_", "user_variance_")
ALL_ARRAYS = (*ITEM_ARRAYS, *USER_ARRAYS, "item_variance_", "item_bias_variance_")


def new(**options):
    return FederatedReconstructionMF(**{"n_components": 4, "random_state": 0, **options})


@pytest.fixture(scope="module")
def table():
    """Ratings of 80 users and 60 items, sorted by user."""
    return make_ratings(n_users=80, n_items=60, n_ratings=2000, random_state=3, return_X_y=True)


def ratings_of(table, users):
    X, y = table
    rows = np.isin(X[:, 0], users)
    return X[rows], y[rows]


def assert_same(one, two, names=ALL_ARRAYS):
    for name in names:
        np.testing.assert_array_equal(getattr(two, name), getattr(one, name), err_msg=name)


def without_time(history):
    return {name: column for name, column in history.items() if "seconds" not in name}


# --- partial_fit -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"fit_bias": False}, {"n_components": 0}])
def test_the_first_call_is_a_fit_of_one_round(table, options):
    first = new(**options, dtype="float64").partial_fit(*table)
    one_round = new(**options, dtype="float64", max_iter=1).fit(*table)
    for name in ALL_ARRAYS:  # sums are the same but for the order of their terms
        expected = getattr(one_round, name)
        np.testing.assert_allclose(getattr(first, name), expected, atol=1e-10, err_msg=name)
    assert first.noise_variance_ == pytest.approx(one_round.noise_variance_, rel=1e-12)
    assert first.n_iter_ == 1
    for name, column in without_time(one_round.history_).items():
        np.testing.assert_allclose(first.history_[name], column, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("first", ["fit", "partial_fit"])
@pytest.mark.parametrize("total_users", [None, 80, 5000])
def test_items_that_the_cohort_did_not_rate_do_not_move(table, first, total_users):
    model = getattr(new(), first)(*table)
    before = {name: getattr(model, name).copy() for name in ITEM_ARRAYS}
    X, y = ratings_of(table, [3, 7])
    untouched = ~np.isin(model.items_, X[:, 1])
    assert untouched.sum() > 10
    model.partial_fit(X, y, total_users=total_users)
    for name, value in before.items():
        assert np.array_equal(getattr(model, name)[untouched], value[untouched]), name
        assert (getattr(model, name)[~untouched] != value[~untouched]).all(), name


def test_other_users_keep_the_state_that_they_have(table):
    model = new().fit(*table)
    before = {name: getattr(model, name).copy() for name in USER_ARRAYS}
    model.partial_fit(*ratings_of(table, [3, 7]))
    others = ~np.isin(np.arange(80), [3, 7])
    for name, value in before.items():
        assert np.array_equal(getattr(model, name)[others], value[others]), name
        assert (getattr(model, name)[~others] != value[~others]).any(axis=-1).all(), name


def test_the_cohort_is_rebuilt_with_the_new_items(table):
    model = new(dtype="float64").fit(*table)
    X, y = ratings_of(table, [3, 7])
    model.partial_fit(X, y)
    for user in (3, 7):
        own = X[:, 0] == user
        rebuilt = model.reconstruct_user(X[own, 1], y[own])
        np.testing.assert_allclose(model.user_factors_[user], rebuilt.factors, rtol=1e-10)


@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
def test_new_users_and_items_join_at_the_end(table):
    X, y = table
    X = X.copy()
    X[X[:, 0] == 79, 0] = -5  # they would come first in order
    X[X[:, 1] == 59, 1] = -7
    early = (X[:, 0] < 40) & (X[:, 0] >= 0) & (X[:, 1] >= 0)
    model = new().fit(X[early], y[early])
    n_users, n_items = len(model.users_), len(model.items_)
    factors = model.item_factors_.copy()
    late = ~early
    model.partial_fit(X[late], y[late])
    assert model.users_[:n_users].tolist() == sorted(set(X[early, 0]))
    assert model.items_[:n_items].tolist() == sorted(set(X[early, 1]))
    assert set(model.users_) == set(X[:, 0])
    assert set(model.items_) == set(X[:, 1])
    assert model.items_[n_items] == -7
    assert model.item_factors_.shape == (len(model.items_), 4)
    assert model.user_factors_.shape == (len(model.users_), 4)
    assert not np.array_equal(model.item_factors_[:n_items], factors)
    assert np.isfinite(model.predict(X)).all()
    rated = set(model.items_) - set(model.recommend(-5, n=100)[0])
    assert rated == set(X[X[:, 0] == -5, 1])


@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
def test_a_new_item_starts_from_its_prior(table):
    # One weightless rating tells next to nothing: the item stays where it begins.
    model = new(dtype="float64").fit(*table)
    prior = model._fitted.model.item_prior_variance
    model.partial_fit([[3, 777]], [3.0], sample_weight=[1e-9], total_users=80)
    assert model.items_[-1] == 777
    np.testing.assert_allclose(model.item_factors_[-1], 0, atol=1e-8)
    np.testing.assert_allclose(model.item_bias_[-1], 0, atol=1e-8)
    np.testing.assert_allclose(model.item_variance_[-1], prior, rtol=1e-6)
    assert len(set(prior.tolist())) == 4  # a prior for each component


@pytest.mark.parametrize("reconstruction", ["variational", "sgd"])
def test_items_join_a_state_at_its_end(table, reconstruction):
    model = new(reconstruction=reconstruction, max_iter=2).fit(*table)
    parts, old = build_parts(model), model._fitted.loop.server
    fresh = parts.reconstruction.initial_model(
        63, 4, fit_bias=True, global_mean=0.0, scale=1.0, dtype="float32", seed=0
    )
    joined = extended(old, fresh, parts.server_optimizer)
    for name, before in vars(old.model).items():
        if np.ndim(before) and len(before) == 60:
            assert np.array_equal(getattr(joined.model, name)[:60], before), name
            assert len(getattr(joined.model, name)) == 63, name
    assert not joined.model.item_bias[60:].any()
    if reconstruction == "variational":  # the posterior without ratings is the prior
        assert not joined.model.item_factors[60:].any()
        assert (joined.model.item_variance[60:] == old.model.item_prior_variance).all()
        prior = np.float32(old.model.item_bias_prior_variance)
        assert (joined.model.item_bias_variance[60:] == prior).all()
    else:  # from zero, no gradient would ever move them
        assert np.array_equal(joined.model.item_factors[60:], fresh.item_factors[60:])
    for name, before in old.optimizer.items():
        after = joined.optimizer[name]
        if np.ndim(before) and len(before) == 60:
            assert np.array_equal(after[:60], before), name
            assert not after[60:].any(), name
        else:
            assert np.array_equal(after, before), name


def test_items_of_the_catalogue_are_there_from_the_start(table):
    model = new(items=np.arange(100)).partial_fit(*ratings_of(table, range(20)))
    assert model.items_.tolist() == list(range(100))
    model.partial_fit(*ratings_of(table, range(20, 40)))
    assert model.items_.tolist() == list(range(100))
    assert np.isfinite(model.predict([[3, 99]])).all()


def test_total_users_scales_what_the_cohort_says(table):
    """Ten clients of a hundred stand for ten times as many ratings as ten of ten."""
    cohort = ratings_of(table, range(10))
    all_there_are = new(dtype="float64").partial_fit(*cohort, total_users=10)
    of_a_hundred = new(dtype="float64").partial_fit(*cohort, total_users=100)
    # In the first round the prior precision is one over the variance of the ratings.
    prior = 1 / np.var(cohort[1])
    few, many = (1 / model.item_bias_variance_ - prior for model in (all_there_are, of_a_hundred))
    np.testing.assert_allclose(many, 10 * few, rtol=1e-9)


def test_cohort_after_cohort_learns_as_much_as_fit():
    X, y = make_ratings(n_users=400, n_items=80, n_ratings=16_000, random_state=0, return_X_y=True)
    test = np.random.default_rng(0).random(len(y)) < 0.1
    train = X[~test], y[~test]
    model, random = new(), np.random.default_rng(1)
    for _ in range(5):
        for users in np.array_split(random.permutation(400), 10):
            model.partial_fit(*ratings_of(train, users), total_users=400)
    streamed = root_mean_squared_error(y[test], model.predict(X[test]))
    fitted = root_mean_squared_error(y[test], new().fit(*train).predict(X[test]))
    nothing = root_mean_squared_error(y[test], np.full(test.sum(), y[~test].mean()))
    assert streamed < fitted + 0.15 * (nothing - fitted)


def test_the_history_goes_on(table):
    model = new(max_iter=3).fit(*table)
    model.partial_fit(*ratings_of(table, [3, 7])).partial_fit(*ratings_of(table, range(20)))
    assert model.n_iter_ == 5
    history = pd.DataFrame(model.history_)
    assert history["round"].tolist() == [1, 2, 3, 4, 5]
    assert history["clients"].tolist() == [80, 80, 80, 2, 20]
    lengths = [len(ratings_of(table, users)[1]) for users in (range(80), [3, 7], range(20))]
    assert history["ratings"].tolist() == [lengths[0]] * 3 + lengths[1:]
    assert history.notna().to_numpy().all()


def test_partial_fit_of_every_user_is_like_another_round(table):
    """Axes stay in place while users are streamed; otherwise it is the round that fit does."""
    model = new(max_iter=9, dtype="float64").fit(*table).partial_fit(*table)
    ten = new(max_iter=10, dtype="float64").fit(*table)
    np.testing.assert_allclose(model.predict(table[0]), ten.predict(table[0]), atol=0.03)


@pytest.mark.parametrize("first", [3, 0])
def test_the_same_calls_give_the_same_model(table, first):
    def trained():
        model = new()
        if first:
            model.set_params(max_iter=first).fit(*table)
        for users in (range(0, 30), range(20, 60), range(50, 80)):
            model.partial_fit(*ratings_of(table, users), total_users=90)
        return model

    assert_same(trained(), trained())


def test_fit_forgets_what_was_streamed(table):
    model = new(max_iter=3).partial_fit(*ratings_of(table, [1, 2])).fit(*table)
    assert_same(new(max_iter=3).fit(*table), model)
    assert len(model.history_["round"]) == model.n_iter_ == 3


# --- warm start --------------------------------------------------------------------------------

SAMPLING = [
    {},
    {"clients_per_round": 20},
    {"clients_per_round": 0.3, "sampling": "poisson", "client_dropout": 0.2},
    {"dtype": "float64", "fit_bias": False},
]


@pytest.mark.parametrize("options", SAMPLING)
@pytest.mark.parametrize("split", [1, 5, 9])
def test_two_fits_are_one(table, options, split):
    whole = new(**options, max_iter=10, tol=None).fit(*table)
    parts = new(**options, max_iter=split, tol=None, warm_start=True).fit(*table)
    parts.set_params(max_iter=10 - split).fit(*table)
    assert_same(whole, parts)
    assert parts.n_iter_ == 10
    np.testing.assert_equal(without_time(parts.history_), without_time(whole.history_))


def test_without_warm_start_a_fit_begins_anew(table):
    model = new(max_iter=4).fit(*table).fit(*table)
    assert model.n_iter_ == 4
    assert_same(new(max_iter=4).fit(*table), model)


def test_warm_start_on_other_ratings(table):
    model = new(max_iter=3, warm_start=True).fit(*ratings_of(table, range(40)))
    seen = model.items_
    model.fit(*ratings_of(table, range(30, 80)))
    assert model.users_.tolist() == list(range(30, 80))
    assert model.items_[: len(seen)].tolist() == seen.tolist()
    assert model.n_iter_ == 6


def test_warm_start_with_early_stopping(table):
    options = {"early_stopping": True, "max_iter": 4, "warm_start": True, "tol": None}
    model = new(**options).fit(*table)
    model.set_params(early_stopping=False).fit(*table)
    held_out = pd.DataFrame(model.history_)["validation_rmse"]
    assert held_out.notna().tolist() == [True] * 4 + [False] * 4


def test_warm_start_after_partial_fit(table):
    model = new(max_iter=2, warm_start=True).fit(*table).partial_fit(*ratings_of(table, [3]))
    factors = model.item_factors_.copy()
    model.fit(*table)
    assert model.n_iter_ == 5
    assert model.users_.tolist() == list(range(80))
    assert not np.array_equal(model.item_factors_, factors)


# --- cohorts of fit ----------------------------------------------------------------------------


def test_an_empty_cohort_is_a_round_that_changes_nothing(table):
    """A round in which nobody comes: with it or without it, the model is the same."""
    options = {"clients_per_round": 1, "sampling": "poisson", "tol": None}
    sizes = new(**options, max_iter=30).fit(*table).history_["clients"]
    empty = np.flatnonzero(sizes == 0)
    assert len(empty) > 3
    assert sizes.max() > 1
    t = empty[empty > 0][0]
    before = new(**options, max_iter=int(t)).fit(*table)
    after = new(**options, max_iter=int(t) + 1).fit(*table)
    assert_same(before, after)
    history = after.history_
    assert history["round"][-1] == t + 1
    assert history["bytes_up"][-1] == history["bytes_down"][-1] == history["ratings"][-1] == 0
    assert np.isnan(history["loss"][-1])


def test_who_drops_out_sends_nothing(table):
    model = new(clients_per_round=40, client_dropout=0.5, max_iter=40, tol=None).fit(*table)
    clients = model.history_["clients"]
    assert clients.max() < 40
    assert clients.mean() == pytest.approx(20, abs=1.5)
    down = model.history_["bytes_down"]
    assert (down == down[0]).all()  # they had downloaded the model
    up = model.history_["bytes_up"][1:]
    assert np.corrcoef(up, model.history_["ratings"][1:])[0, 1] > 0.99


def test_all_clients_can_drop_out(table):
    X, y = ratings_of(table, [1, 2])
    model = new(client_dropout=0.9, max_iter=10, tol=None).fit(X, y)
    assert model.history_["clients"].min() == 0
    assert np.isfinite(model.predict(X)).all()


def test_items_of_ridge_join_in_the_unit_of_the_ratings():
    X = np.array([(user, item) for user in range(12) for item in range(10)])
    y = 1000.0 * (1 + (X.sum(axis=1) % 5))
    model = FederatedReconstructionMF(
        3, reconstruction="ridge", support_query="none", warm_start=True, max_iter=1, tol=None
    )
    model.set_params(server_optimizer=SGD(learning_rate=0.0), random_state=0)
    first = model.fit(X[X[:, 1] < 5], y[X[:, 1] < 5]).item_factors_.std()
    joined = model.fit(X, y).item_factors_[5:].std()
    assert 0.3 < joined / first < 3
