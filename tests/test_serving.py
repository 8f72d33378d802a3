"""What a fitted model answers: ratings and their uncertainty, users that come and go."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import KFold, cross_val_score

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.exceptions import ColdStartWarning
from sklearn_fedrecon.model_selection import UserKFold

NOBODY, NOTHING = 999, 888  # a user and an item that are not in the ratings


def new(**options):
    return FederatedReconstructionMF(**{"n_components": 3, "random_state": 0, **options})


@pytest.fixture(scope="module")
def table():
    """Ratings of 90 users, in no order; more users than are solved one at a time."""
    X, y = make_ratings(n_users=90, n_items=60, n_ratings=2200, random_state=2, return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return X[order], y[order]


@pytest.fixture(scope="module")
def model(table):
    return new(dtype="float64").fit(*table)


def ratings_of(table, users):
    """The rows of some users."""
    X, y = table
    rows = np.isin(X[:, 0], users)
    return X[rows], y[rows]


def server_side(model):
    """Fitted attributes that are not the users'."""
    users = ("users_", "user_factors_", "user_bias_", "user_variance_")
    return {
        name: value
        for name, value in vars(model).items()
        if name.endswith("_") and not name.startswith("_") and name not in users
    }


# --- predict -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_bias", [True, False])
@pytest.mark.parametrize("n_components", [0, 3])
def test_known_and_unknown_users_and_items(table, fit_bias, n_components):
    model = new(fit_bias=fit_bias, n_components=n_components, dtype="float64").fit(*table)
    user, item = model.users_[7], model.items_[11]
    mean, v, b = model.global_mean_, model.item_factors_[11], model.item_bias_[11]
    u, c = model.user_factors_[7], model.user_bias_[7]
    average_user = model.user_prior_mean_[-1] if fit_bias else 0.0
    rows = [[user, item], [NOBODY, item], [user, NOTHING], [NOBODY, NOTHING], [user, item]]
    expected = [mean + b + c + u @ v, mean + b + average_user, mean + c, mean + average_user]
    np.testing.assert_allclose(model.predict(rows)[:4], expected, rtol=1e-12)
    assert (b != 0) == (c != 0) == fit_bias


@pytest.mark.parametrize("fit_bias", [True, False])
def test_variance_of_a_new_rating(table, fit_bias):
    model = new(fit_bias=fit_bias, dtype="float64", unknown_user="baseline").fit(*table)
    inside, rows = model._fitted.model, [[4, 9], [NOBODY, 9], [4, NOTHING], [NOBODY, NOTHING]]
    for (user, item), std in zip(rows, model.predict(rows, return_std=True)[1], strict=True):
        u, s = np.zeros(3), model.user_prior_variance_
        if user == 4:
            u, s = model.user_factors_[4], model.user_variance_[4]
        v, kappa = np.zeros(3), inside.item_prior_variance
        beta = inside.item_bias_prior_variance if fit_bias else 0.0
        if item == 9:
            v, kappa = model.item_factors_[9], model.item_variance_[9]
            beta = model.item_bias_variance_[9]
        variance = model.noise_variance_ + np.sum(v**2 * s[:3]) + np.sum(s[3:])
        variance += np.sum(kappa * (u**2 + s[:3])) + beta
        assert std == pytest.approx(np.sqrt(variance), rel=1e-12)


def test_long_tables_are_predicted_in_parts(model, monkeypatch):
    rows = np.column_stack([np.arange(100), np.arange(100)[::-1]])
    whole = model.predict(rows, return_std=True)
    monkeypatch.setattr("sklearn_fedrecon._answers._predicting._ROWS", 7)
    assert np.array_equal(model.predict(rows, return_std=True), whole)


@pytest.mark.parametrize("clients_per_round", [None, 200])
@pytest.mark.parametrize("seen", [True, False], ids=["known users", "unseen users"])
def test_intervals_are_calibrated(clients_per_round, seen):
    X, y = make_ratings(
        n_users=800,
        n_items=500,
        n_ratings=80_000,
        n_components=6,
        rounded=False,
        random_state=0,
        return_X_y=True,
    )
    random = np.random.default_rng(0)
    test = random.random(len(y)) < 0.2 if seen else (X[:, 0] % 5 == 0)
    model = new(n_components=6, clients_per_round=clients_per_round).fit(X[~test], y[~test])
    X, y = X[test], y[test]
    if not seen:
        revealed = random.random(len(y)) < 0.5
        model = model.personalize(X[revealed], y[revealed])
        X, y = X[~revealed], y[~revealed]
    predicted, std = model.predict(X, return_std=True)
    errors = np.abs(y - predicted) / std
    assert len(errors) > 5000
    assert 0.64 < np.mean(errors < 1.0) < 0.72
    assert 0.93 < np.mean(errors < 1.96) < 0.97
    assert np.std(std) > 0.01  # it tells ratings apart


def test_less_is_known_of_who_rated_less(table, model):
    X, _ = table
    counts = np.bincount(X[:, 0])
    few, many = counts.argmin(), counts.argmax()
    rows = [[few, 3], [many, 3], [NOBODY, 3]]
    _, (std_few, std_many, std_nobody) = model.predict(rows, return_std=True)
    assert std_many < std_few < std_nobody


@pytest.mark.parametrize("scale", [(1, 5), [2.5, 3.5]])
def test_predictions_are_within_the_declared_scale(table, scale):
    X, y = table
    y = np.clip(y, *scale)
    free, clipped = new().fit(X, y), new(rating_scale=scale).fit(X, y)
    raw = free.predict(X)
    assert raw.min() < scale[0] or raw.max() > scale[1]
    np.testing.assert_array_equal(clipped.predict(X), np.clip(raw, *scale))
    np.testing.assert_array_equal(
        clipped.predict(X, return_std=True)[1], free.predict(X, return_std=True)[1]
    )


# --- users that are not known ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unknown", "known", "warned"), [(0, 1, 0), (1, 1, 0), (2, 2, 0), (2, 1, 1), (1, 0, 1)]
)
def test_warning_when_most_users_are_unknown(model, unknown, known, warned):
    rows = [[NOBODY, 1]] * unknown + [[3, 1]] * known
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.predict(rows)
    assert [warning.category for warning in caught] == [ColdStartWarning] * warned
    if warned:
        total = unknown + known
        assert f"{unknown} of {total} rows belong to users" in str(caught[0].message)
        assert caught[0].filename == __file__


def test_unknown_items_are_no_reason_to_warn(model):
    assert np.isfinite(model.predict([[3, NOTHING], [4, NOTHING]])).all()


def test_unknown_users_without_a_warning(table):
    quiet = new(unknown_user="baseline").fit(*table)
    with pytest.warns(ColdStartWarning):
        warned = new().fit(*table).predict([[NOBODY, 1]])
    assert np.array_equal(quiet.predict([[NOBODY, 1]]), warned)


def test_cross_validation_by_users_is_noticed(table):
    # The trap: each fold grades the cold start. Shuffled rows and split users are fine.
    X, y = table
    with pytest.warns(ColdStartWarning, match="shuffle rows or use UserKFold"):
        cross_val_score(new(), X, y, cv=UserKFold(3))
    cross_val_score(new(), X, y, cv=KFold(3, shuffle=True, random_state=0))


# --- one user ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_bias", [True, False])
def test_reconstruction_is_the_posterior(table, fit_bias):
    model = new(fit_bias=fit_bias, dtype="float64").fit(*table)
    items, ratings = [5, 3, 20, 41], np.array([4.0, 1.0, 5.0, 2.0])
    weights = np.array([1.0, 2.0, 0.5, 1.0])
    x, kappa = model.item_factors_[items], model.item_variance_[items]
    if fit_bias:
        x, kappa = np.column_stack([x, np.ones(4)]), np.column_stack([kappa, np.zeros(4)])
    residuals = ratings - model.global_mean_ - model.item_bias_[items]
    prior = 1 / model.user_prior_variance_
    A = np.diag(prior) + (x.T * weights) @ x / model.noise_variance_
    A += np.diag(weights @ kappa) / model.noise_variance_
    right = prior * model.user_prior_mean_ + (weights * residuals) @ x / model.noise_variance_
    z = np.linalg.solve(A, right)
    user = model.reconstruct_user(items, ratings, sample_weight=weights)
    np.testing.assert_allclose(user.factors, z[:3], rtol=1e-10)
    assert user.bias == pytest.approx(z[3] if fit_bias else 0.0, rel=1e-10)
    np.testing.assert_allclose(user.variance, 1 / np.diag(A), rtol=1e-12)
    assert list(user.rated_items) == items


def test_items_lie_row_by_row_in_memory(model):
    """Otherwise whoever gathers a few of them copies all of them first."""
    server = model._fitted.model
    assert server.item_factors.flags.c_contiguous
    assert server.item_variance.flags.c_contiguous


def test_a_stored_user_is_the_user_rebuilt(table, model):
    for position in range(0, 90, 11):
        X, y = ratings_of(table, model.users_[position])
        user = model.reconstruct_user(X[:, 1], y)
        np.testing.assert_allclose(user.factors, model.user_factors_[position], rtol=1e-9)
        assert user.bias == pytest.approx(model.user_bias_[position], rel=1e-9)
        np.testing.assert_allclose(user.variance, model.user_variance_[position], rtol=1e-9)


def test_without_ratings_a_user_is_the_prior(model):
    for nothing in ([], (), np.array([])):
        user = model.reconstruct_user(nothing, nothing)
        np.testing.assert_allclose(user.factors, model.user_prior_mean_[:3], atol=1e-15)
        assert user.bias == pytest.approx(model.user_prior_mean_[3], rel=1e-12)
        np.testing.assert_allclose(user.variance, model.user_prior_variance_, rtol=1e-12)
        assert len(user.rated_items) == 0


def test_weight_zero_is_no_rating(model):
    weighted = model.reconstruct_user([1, 2, 3], [5, 1, 4], sample_weight=[1, 0, 1])
    without = model.reconstruct_user([1, 3], [5, 4])
    assert np.array_equal(weighted.factors, without.factors)
    assert weighted.bias == without.bias
    assert weighted.rated_items.tolist() == [1, 3]


@pytest.mark.parametrize("n_ratings", [1, 5, 20])
def test_ratings_may_come_in_any_order(model, n_ratings):
    items, ratings = np.arange(n_ratings), 1 + np.arange(n_ratings) % 5
    one = model.reconstruct_user(items, ratings)
    two = model.reconstruct_user(items[::-1], ratings[::-1])
    assert np.array_equal(one.factors, two.factors)


def test_a_user_typed_in_is_recommended_what_it_would_rate_highest(table, model):
    user = model.reconstruct_user([2, 9, 30], [5, 1, 5])
    items, scores = model.recommend(user, n=100, caution=0)
    assert sorted(items) == sorted(set(model.items_) - {2, 9, 30})
    known = model.personalize([[NOBODY, 2], [NOBODY, 9], [NOBODY, 30]], [5, 1, 5])
    predicted = known.predict([[NOBODY, item] for item in items])
    np.testing.assert_allclose(scores, predicted, rtol=1e-12)
    assert (np.diff(scores) <= 0).all()
    assert np.array_equal(known.recommend(NOBODY, n=100, caution=0)[0], items)


def test_scores_are_not_clipped(table):
    model = new(rating_scale=(1, 5)).fit(*table)
    user = model.reconstruct_user(model.items_[:30], [5.0] * 30)
    _, scores = model.recommend(user, exclude=None)
    assert scores.max() > 5


# --- users that come ---------------------------------------------------------------------------


def test_personalize_adds_users(table, model):
    X, y = ratings_of(table, range(60))
    some = new(dtype="float64").fit(X, y)
    later, ratings = ratings_of(table, range(60, 90))
    everybody = some.personalize(later, ratings)
    assert everybody.users_.tolist() == list(range(90))
    assert some.users_.tolist() == list(range(60))
    assert np.array_equal(everybody.predict(X), some.predict(X))
    for user in range(60, 90, 7):
        own, y = ratings_of(table, user)
        alone = some.reconstruct_user(own[:, 1], y)
        np.testing.assert_allclose(everybody.user_factors_[user], alone.factors, rtol=1e-9)
        rated = set(range(60)) - set(everybody.recommend(user, n=60)[0])
        assert rated == set(own[:, 1])
    np.testing.assert_equal(server_side(everybody), server_side(some))


@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
def test_personalize_replaces_users(table, model):
    revised = model.personalize([[5, 1], [5, 2], [NOBODY, 1]], [1, 5, 3])
    alone = model.reconstruct_user([1, 2], [1, 5])
    np.testing.assert_allclose(revised.user_factors_[5], alone.factors, rtol=1e-9)
    assert set(range(60)) - set(revised.recommend(5, n=60)[0]) == {1, 2}
    others = np.arange(90) != 5
    for name in ("user_factors_", "user_bias_", "user_variance_"):
        before, after = getattr(model, name), getattr(revised, name)
        assert np.array_equal(after[:90][others], before[others])
        assert not np.array_equal(after[5], before[5])
    X, _ = ratings_of(table, 6)
    assert set(range(60)) - set(revised.recommend(6, n=60)[0]) == set(X[:, 1])


def test_personalize_step_by_step(table, model):
    forgotten = model.forget_users()
    steps = forgotten
    for users in (range(50, 90), range(30), range(25, 50)):
        steps = steps.personalize(*ratings_of(table, users))
    np.testing.assert_allclose(steps.predict(table[0]), model.predict(table[0]), rtol=1e-9)
    assert set(steps.users_) == set(model.users_)
    assert len(forgotten.users_) == 0


def test_personalize_leaves_unknown_items_out(model):
    known = model.personalize([[NOBODY, 1], [NOBODY, NOTHING], [1000, NOTHING]], [5, 1, 4])
    alone = model.reconstruct_user([1], [5])
    np.testing.assert_allclose(known.user_factors_[-2], alone.factors, rtol=1e-9)
    prior = model.reconstruct_user([], [])
    np.testing.assert_allclose(known.user_factors_[-1], prior.factors, atol=1e-12)
    cold = model.global_mean_ + prior.bias + model.item_bias_[1]
    assert known.predict([[1000, 1]])[0] == pytest.approx(cold, rel=1e-9)
    assert np.array_equal(known.items_, model.items_)


def test_personalize_merges_a_pair_that_is_rated_twice(model):
    twice = model.personalize([[NOBODY, 1], [NOBODY, 1], [NOBODY, 2]], [1, 4, 2])
    once = model.reconstruct_user([1, 2], [2.5, 2], sample_weight=[2, 1])
    np.testing.assert_allclose(twice.user_factors_[-1], once.factors, rtol=1e-9)


def test_personalize_with_weights(model):
    weighted = model.personalize(
        [[NOBODY, 1], [NOBODY, 2], [1000, 3]], [1, 4, 2], sample_weight=[3, 1, 0]
    )
    alone = model.reconstruct_user([1, 2], [1, 4], sample_weight=[3, 1])
    np.testing.assert_allclose(weighted.user_factors_[-1], alone.factors, rtol=1e-9)
    assert 1000 not in weighted.users_


def test_unseen_users_are_served_better_than_by_the_items_alone(table):
    X, y = make_ratings(
        n_users=600, n_items=100, n_ratings=24_000, random_state=0, return_X_y=True
    )
    unseen = X[:, 0] >= 500
    model = new(unknown_user="baseline").fit(X[~unseen], y[~unseen])
    X, y = X[unseen], y[unseen]
    revealed = np.random.default_rng(0).random(len(y)) < 0.5
    cold = root_mean_squared_error(y[~revealed], model.predict(X[~revealed]))
    known = model.personalize(X[revealed], y[revealed])
    warm = root_mean_squared_error(y[~revealed], known.predict(X[~revealed]))
    assert warm < cold - 0.05


# --- users that go -----------------------------------------------------------------------------


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
def test_nothing_of_the_users_is_left(warm_start):
    """Neither an id, nor a number of a user, nor an array with a row a user."""
    random = np.random.default_rng(0)
    pairs = [
        [f"person-{u:03}", f"film-{random.integers(40)}"] for u in range(73) for _ in "." * 20
    ]
    X, y = np.array(pairs, dtype=object), random.normal(3, 1, len(pairs))
    model = new(warm_start=warm_start, max_iter=3, early_stopping=warm_start).fit(X, y)
    model.partial_fit(X[:50], y[:50])
    forgotten = model.forget_users()
    assert len(forgotten.users_) == len(forgotten.user_factors_) == 0
    assert len(forgotten.user_bias_) == len(forgotten.user_variance_) == 0
    before, left = pickle.dumps(model), pickle.dumps(forgotten)
    assert b"person-007" in before
    assert b"person-" not in left
    assert model.user_factors_[7].tobytes() in before
    assert not any(row.tobytes() in left for row in model.user_factors_)
    lengths = {array.shape[0] for array in arrays_within(vars(forgotten)) if array.ndim}
    assert not lengths & {73, 74, len(y)}
    assert lengths


def arrays_within(value, seen=None):
    """Every array that can be reached from a value, through whatever objects."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from arrays_within(inner, seen)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from arrays_within(inner, seen)
    elif hasattr(value, "__dict__"):
        yield from arrays_within(vars(value), seen)


def test_no_rating_is_kept():
    random = np.random.default_rng(0)
    X = np.column_stack([np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30)])
    y = random.normal(size=300)
    everything = pickle.dumps(new(dtype="float64").fit(X, y))
    assert not any(rating.tobytes() in everything for rating in y)
    single = pickle.dumps(new().fit(X, y.astype(np.float32)))
    assert not any(pair.tobytes() in single for pair in y.astype(np.float32).reshape(-1, 2))


def test_the_server_is_left_as_it_was(table, model):
    forgotten = model.forget_users()
    np.testing.assert_equal(server_side(forgotten), server_side(model))
    assert len(model.users_) == 90
    with pytest.warns(ColdStartWarning, match="1 of 1"):
        predicted = forgotten.predict([[5, 3]])
    assert predicted == pytest.approx(
        model.global_mean_ + model.item_bias_[3] + model.user_prior_mean_[-1], rel=1e-12
    )
    with pytest.raises(ValueError, match="user 5 is not known"):
        forgotten.recommend(5)


def test_who_is_forgotten_can_come_back_under_another_name(table, model):
    X, y = ratings_of(table, [5])
    strings = np.array([["somebody", item] for item in X[:, 1]], dtype=object)
    renamed = model.forget_users().personalize(strings, y)
    assert renamed.users_.tolist() == ["somebody"]
    np.testing.assert_allclose(renamed.user_factors_[0], model.user_factors_[5], rtol=1e-9)


def test_serving_goes_by_the_fit_not_by_parameters_set_since(small_ratings):
    X, y = small_ratings.data, small_ratings.target
    model = FederatedReconstructionMF(3, reconstruction="ridge", random_state=0).fit(X, y)
    before = model.reconstruct_user([1, 2, 3], [5, 4, 3]).factors
    model.set_params(reconstruction="variational")
    np.testing.assert_array_equal(model.reconstruct_user([1, 2, 3], [5, 4, 3]).factors, before)
    assert np.isfinite(model.personalize(X, y).predict(X)).all()
