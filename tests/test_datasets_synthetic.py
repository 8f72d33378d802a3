"""make_ratings against what it promises, oracle_predict against the conditional Gaussian."""

import sys

import numpy as np
import pytest

from sklearn_fedrecon.datasets import make_ratings, oracle_predict

SMALL = {"n_users": 50, "n_items": 30, "n_ratings": 600}


def root_mean_square(differences):
    return np.sqrt(np.mean(differences**2))


@pytest.fixture(scope="module")
def default_ratings():
    return make_ratings(random_state=0)


# -- the default shape --------------------------------------------------------------------------


def test_default_shape_and_skew(default_ratings):
    assert default_ratings.data.shape == (1_000_000, 2)
    per_user = np.bincount(default_ratings.data[:, 0], minlength=6040)
    assert len(per_user) == 6040
    assert (per_user.min(), per_user.max()) == (20, 0.6 * 3706 // 1)
    # Scaling and clipping hardly move the spread of the logarithms off 1.
    assert np.log(per_user).std() == pytest.approx(0.95, abs=0.07)
    assert len(default_ratings.item_bias) == 3706


def test_default_figures(default_ratings):
    y, scale = default_ratings.target, default_ratings.rating_scale
    assert y.std() == pytest.approx(1.04, abs=0.015)
    floor = root_mean_square(default_ratings.expected_ratings.clip(*scale) - y)
    assert floor == pytest.approx(0.794, abs=0.005)


def test_default_oracle_figure(default_ratings):
    X, y = default_ratings.data, default_ratings.target
    revealed = np.random.default_rng(0).random(len(y)) < 0.5
    predictions = oracle_predict(default_ratings, X[revealed], y[revealed], X[~revealed])
    assert root_mean_square(predictions - y[~revealed]) == pytest.approx(0.832, abs=0.005)


# -- who rates what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes",
    [
        SMALL,
        {"n_users": 1, "n_items": 1, "n_ratings": 1},
        {"n_users": 7, "n_items": 9, "n_ratings": 7},
        {"n_users": 7, "n_items": 9, "n_ratings": 63, "max_ratings_per_user": 9},
        {"n_users": 40, "n_items": 500, "n_ratings": 4321},
        {"n_users": 40, "n_items": 500, "n_ratings": 3, "min_ratings_per_user": 0},
        {"n_users": 40, "n_items": 500, "n_ratings": 900, "activity_std": 10.0},
    ],
)
def test_exact_number_of_distinct_pairs_in_order(sizes):
    ratings = make_ratings(**sizes, random_state=3)
    users, items = ratings.data.T
    pairs = users * sizes["n_items"] + items
    assert len(pairs) == len(ratings.target) == sizes["n_ratings"]
    assert (np.diff(pairs) > 0).all()
    assert ratings.data.dtype == np.int64
    assert 0 <= users.min() <= users.max() < sizes["n_users"]
    assert 0 <= items.min() <= items.max() < sizes["n_items"]


def test_limits_are_kept_and_small_data_lower_the_default_minimum():
    per_user = np.bincount(make_ratings(**SMALL, random_state=0).data[:, 0], minlength=50)
    assert per_user.min() == 6
    assert per_user.max() == 18
    per_user = np.bincount(
        make_ratings(
            **SMALL, min_ratings_per_user=10, max_ratings_per_user=14, random_state=0
        ).data[:, 0]
    )
    assert (per_user.min(), per_user.max()) == (10, 14)


def test_no_spread_of_activity_gives_equal_shares():
    users = make_ratings(**SMALL, activity_std=0, random_state=0).data[:, 0]
    np.testing.assert_array_equal(np.bincount(users), np.full(50, 12))


def test_two_draws_without_replacement_follow_popularity():
    n_users, n_items = 30_000, 4
    ratings = make_ratings(
        n_users, n_items, 2 * n_users, activity_std=0, random_state=0, popularity_exponent=1.5
    )
    p = ratings.item_popularity
    np.testing.assert_allclose(p.sum(), 1)
    np.testing.assert_allclose(np.sort(p)[::-1] / p.max(), np.arange(1, 5) ** -1.5)
    first, second = ratings.data[:, 1].reshape(n_users, 2).T
    for i in range(n_items):
        for j in range(i + 1, n_items):
            expected = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
            observed = np.mean((first == i) & (second == j))
            assert observed == pytest.approx(expected, abs=4 * np.sqrt(expected / n_users))


def test_popularity_is_dealt_out_to_ids_at_random():
    tops = {make_ratings(**SMALL, random_state=s).item_popularity.argmax() for s in range(20)}
    assert len(tops) > 5


# -- the ratings and their truth ----------------------------------------------------------------


def test_expected_ratings_by_plain_loop():
    truth = make_ratings(**SMALL, n_components=3, random_state=0)
    for (user, item), expected in zip(truth.data, truth.expected_ratings, strict=True):
        products = sum(truth.user_factors[user, k] * truth.item_factors[item, k] for k in range(3))
        bias = truth.user_bias[user] + truth.item_bias[item]
        assert expected == pytest.approx(truth.global_mean + bias + products, abs=1e-12)


def test_expected_ratings_do_not_depend_on_blocks(monkeypatch):
    from sklearn_fedrecon.datasets import _base

    whole = make_ratings(**SMALL, random_state=0).expected_ratings
    monkeypatch.setattr(_base, "_ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(make_ratings(**SMALL, random_state=0).expected_ratings, whole)


def test_raw_ratings_are_neither_rounded_nor_clipped():
    sizes = {"n_users": 300, "n_items": 200, "n_ratings": 20_000}
    raw = make_ratings(**sizes, rounded=False, noise_std=0.6, random_state=0)
    noise = raw.target - raw.expected_ratings
    assert noise.std() == pytest.approx(0.6, rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert raw.rating_scale is None
    assert raw.target.max() > 5
    rounded = make_ratings(**sizes, noise_std=0.6, rating_scale=(2, 4), random_state=0)
    np.testing.assert_array_equal(rounded.target, np.clip(np.rint(raw.target), 2, 4))
    assert rounded.rating_scale == (2.0, 4.0)


def test_truth_has_the_variances_it_names():
    truth = make_ratings(
        n_users=20_000,
        n_items=20_000,
        n_ratings=20_000,
        max_ratings_per_user=1,
        n_components=3,
        user_bias_std=0.7,
        item_bias_std=0.2,
        popularity_exponent=0,
        random_state=0,
    )
    products = truth.user_factors * truth.item_factors
    np.testing.assert_allclose(products.var(axis=0), truth.component_variances, rtol=0.08)
    np.testing.assert_allclose(
        truth.user_factors.var(axis=0), truth.component_variances, rtol=0.05
    )
    assert truth.user_bias.std() == pytest.approx(0.7, rel=0.03)
    assert truth.item_bias.std() == pytest.approx(0.2, rel=0.03)
    assert (truth.user_bias_std, truth.item_bias_std, truth.noise_std) == (0.7, 0.2, 0.8)


@pytest.mark.parametrize(
    ("spectrum", "variances"),
    [
        ("decaying", np.array([12, 6, 4, 3]) * 0.3 / 25),
        ("flat", np.full(4, 0.075)),
        ([0.1, 0, 0.2, 5], np.array([0.1, 0, 0.2, 5])),
    ],
)
def test_spectrum(spectrum, variances):
    truth = make_ratings(
        **SMALL, n_components=4, spectrum=spectrum, component_variance=0.3, random_state=0
    )
    np.testing.assert_allclose(truth.component_variances, variances)
    assert ((truth.user_factors == 0) == (variances == 0)).all()


@pytest.mark.parametrize("spectrum", ["decaying", "flat", []])
def test_no_components(spectrum):
    truth = make_ratings(**SMALL, n_components=0, spectrum=spectrum, random_state=0)
    users, items = truth.data.T
    np.testing.assert_allclose(
        truth.expected_ratings, 3.58 + truth.user_bias[users] + truth.item_bias[items]
    )
    assert truth.user_factors.shape == (50, 0)


# -- seeds --------------------------------------------------------------------------------------


def test_random_state_determines_everything():
    first, again, other = (make_ratings(**SMALL, random_state=s) for s in (0, 0, 1))
    for name in set(first) - {"frame", "feature_names", "target_names", "DESCR", "rating_scale"}:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first.data, other.data)
    assert not np.array_equal(first.item_factors, other.item_factors)
    state = np.random.RandomState(0)
    np.testing.assert_array_equal(make_ratings(**SMALL, random_state=state).target, first.target)
    assert not np.array_equal(make_ratings(**SMALL, random_state=state).target, first.target)


def test_another_noise_keeps_truth_and_choices():
    quiet, loud = (make_ratings(**SMALL, noise_std=s, random_state=0) for s in (0, 2))
    np.testing.assert_array_equal(quiet.data, loud.data)
    np.testing.assert_array_equal(quiet.expected_ratings, loud.expected_ratings)
    np.testing.assert_array_equal(quiet.target, np.rint(quiet.expected_ratings).clip(1, 5))


# -- forms --------------------------------------------------------------------------------------


def test_return_X_y_and_as_frame():
    bunch = make_ratings(**SMALL, random_state=0)
    assert bunch.frame is None
    X, y = make_ratings(**SMALL, random_state=0, return_X_y=True)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)
    framed = make_ratings(**SMALL, random_state=0, as_frame=True)
    assert list(framed.frame) == framed.feature_names + framed.target_names
    assert list(framed.data) == ["user", "item"]
    np.testing.assert_array_equal(framed.data, bunch.data)
    np.testing.assert_array_equal(framed.target, bunch.target)
    assert framed.target.name == "rating"
    X, y = make_ratings(**SMALL, random_state=0, return_X_y=True, as_frame=True)
    assert X.equals(framed.data)
    assert y.equals(framed.target)


def test_description_names_the_size_and_the_scale():
    description = make_ratings(**SMALL, rating_scale=(0, 9), random_state=0).DESCR
    assert "600 ratings of 30 items by 50 users" in description
    assert "clipped to 0..9" in description


def test_as_frame_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install pandas.*\[pandas\]"):
        make_ratings(**SMALL, as_frame=True)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_users": 0}, "n_users"),
        ({"n_items": -3}, "n_items"),
        ({"n_ratings": 0}, "n_ratings"),
        ({"n_ratings": 901}, "50 users with 9 to 18 ratings"),
        ({"n_ratings": 600, "min_ratings_per_user": 13}, "13 to 18 ratings"),
        ({"max_ratings_per_user": 31}, "max_ratings_per_user"),
        ({"min_ratings_per_user": 19}, "min_ratings_per_user"),
        ({"n_components": -1}, "n_components"),
        ({"spectrum": "steep"}, "'decaying', 'flat'.*'steep'"),
        ({"spectrum": [0.1, 0.1]}, r"shape \(2,\) but n_components=20"),
        ({"spectrum": [-0.1] * 20}, "variances, finite and >= 0"),
        ({"component_variance": -1}, "component_variance"),
        ({"component_variance": np.inf}, "component_variance"),
        ({"user_bias_std": -1}, "user_bias_std"),
        ({"item_bias_std": np.nan}, "item_bias_std"),
        ({"global_mean": np.inf}, "global_mean must be finite"),
        ({"noise_std": -0.1}, "noise_std"),
        ({"activity_std": 11}, "activity_std"),
        ({"activity_std": np.nan}, "activity_std"),
        ({"popularity_exponent": -1}, "popularity_exponent"),
        ({"rating_scale": (5, 1)}, "lowest < highest"),
        ({"rating_scale": None}, "rounded=False"),
        ({"rating_scale": (1, 2, 3)}, "rating_scale"),
    ],
)
def test_parameters_out_of_range(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_ratings(**{**SMALL, **parameters})


@pytest.mark.parametrize("name", ["n_users", "n_ratings", "n_components", "max_ratings_per_user"])
def test_parameters_that_must_be_whole_numbers(name):
    with pytest.raises(TypeError, match=name):
        make_ratings(**{**SMALL, name: 12.0})


# -- the oracle ---------------------------------------------------------------------------------


def conditional_gaussian(truth, X_support, y_support, x_query):
    """Mean of one rating given the support ratings of its user, from covariances of ratings."""
    user, item = x_query
    mine = X_support[:, 0] == user
    items = np.append(X_support[mine, 1], item)
    V = truth.item_factors[items]
    covariance = V @ np.diag(truth.component_variances) @ V.T + truth.user_bias_std**2
    noise = truth.noise_std**2 + (0 if truth.rating_scale is None else 1 / 12)
    known = covariance[:-1, :-1] + noise * np.eye(mine.sum())
    mean = truth.global_mean + truth.item_bias[items]
    weights = np.linalg.pinv(known, rcond=1e-9, hermitian=True) @ covariance[:-1, -1]
    return mean[-1] + weights @ (y_support[mine] - mean[:-1])


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_components": 3},
        {"n_components": 3, "rounded": False},
        {"n_components": 0, "rounded": False},
        {"n_components": 2, "user_bias_std": 0, "rounded": False},
        {"n_components": 2, "spectrum": [0.3, 0], "rounded": False},
        {"n_components": 2, "noise_std": 0, "rounded": False},
    ],
)
def test_oracle_is_the_conditional_mean(parameters):
    truth = make_ratings(n_users=12, n_items=10, n_ratings=60, random_state=0, **parameters)
    order = np.random.default_rng(0).permutation(60)
    X, y = truth.data[order], truth.target[order]
    predictions = oracle_predict(truth, X[:30], y[:30], X[30:])
    expected = [conditional_gaussian(truth, X[:30], y[:30], x) for x in X[30:]]
    if truth.rating_scale is not None:
        expected = np.clip(expected, *truth.rating_scale)
    np.testing.assert_allclose(predictions, expected, rtol=1e-6)


def test_oracle_without_noise_is_exact():
    truth = make_ratings(
        n_users=20,
        n_items=30,
        n_ratings=360,
        n_components=2,
        noise_std=0,
        rounded=False,
        random_state=0,
    )
    predictions = oracle_predict(truth, truth.data, truth.target, truth.data)
    np.testing.assert_allclose(predictions, truth.expected_ratings, atol=1e-6)


@pytest.mark.parametrize("supported", [False, True])
def test_oracle_of_a_user_without_support_is_the_prior_mean(supported):
    truth = make_ratings(**SMALL, rounded=False, random_state=0)
    others = truth.data[:, 0] != 7
    rows = others if supported else np.zeros(600, dtype=bool)
    predictions = oracle_predict(truth, truth.data[rows], truth.target[rows], truth.data[~others])
    items = truth.data[~others, 1]
    np.testing.assert_allclose(predictions, truth.global_mean + truth.item_bias[items])


def test_oracle_reads_frames_and_stays_on_the_scale():
    arrays = make_ratings(**SMALL, item_bias_std=3, random_state=0)
    frames = make_ratings(**SMALL, item_bias_std=3, random_state=0, as_frame=True)
    predictions = oracle_predict(arrays, arrays.data, arrays.target, arrays.data)
    np.testing.assert_array_equal(
        oracle_predict(frames, frames.data, frames.target, frames.data), predictions
    )
    assert (predictions.min(), predictions.max()) == (1, 5)


@pytest.mark.parametrize(
    ("X_support", "y_support", "X_query", "message"),
    [
        ([[0, 0]], [1, 2], [[0, 0]], r"y_support has shape \(2,\)"),
        ([[50, 0]], [1], [[0, 0]], "X_support has user ids from 50 to 50.*0 to 49"),
        ([[0, 0]], [1], [[0, 1], [0, -1]], "X_query has item ids from -1 to 1.*0 to 29"),
        ([[0, 0, 0]], [1], [[0, 0]], r"X_support must be whole numbers of shape \(n_rows, 2\)"),
        ([[0, 0]], [1], [[0.5, 0]], "X_query must be whole numbers"),
        ([[0, 0]], [1], [0, 0], "X_query must be"),
    ],
)
def test_oracle_rejects(X_support, y_support, X_query, message):
    with pytest.raises(ValueError, match=message):
        oracle_predict(make_ratings(**SMALL, random_state=0), X_support, y_support, X_query)
