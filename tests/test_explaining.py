"""Explanations against perturbed ratings, interviews against inverted matrices."""

import numpy as np
import pytest

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.reconstruction import RidgeReconstruction

OWN_ITEMS, OWN_RATINGS = [31, 4, 17, 8], np.array([5.0, 1.0, 4.0, 2.0])
SETTINGS = [
    {},
    {"fit_bias": False},
    {"n_components": 0},
    {"reconstruction": RidgeReconstruction(alpha=2.0), "client_update": "sgd"},
]


def fitted(ratings, **settings):
    defaults = {"n_components": 3, "max_iter": 4, "dtype": "float64", "random_state": 0}
    return FederatedReconstructionMF(**defaults | settings).fit(ratings.data, ratings.target)


@pytest.fixture(scope="module")
def model(small_ratings):
    return fitted(small_ratings)


def predicted(model, items, ratings, item):
    """What the model predicts for the user with these ratings."""
    user = model.reconstruct_user(items, ratings)
    return model.recommend(user, 1, exclude=None, candidates=[item])[1][0]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("item", [0, 17])
def test_contributions_are_what_each_rating_moves_the_prediction(small_ratings, settings, item):
    model = fitted(small_ratings, **settings)
    found = model.explain(OWN_ITEMS, OWN_RATINGS, item)
    prediction = predicted(model, OWN_ITEMS, OWN_RATINGS, item)
    contributions = dict(zip(found.rated_items.tolist(), found.contributions, strict=True))
    for position, rated in enumerate(OWN_ITEMS):
        moved = OWN_RATINGS.copy()
        moved[position] += 1.0
        slope = predicted(model, OWN_ITEMS, moved, item) - prediction
        from_anybody = predicted(model, [], [], rated)
        expected = slope * (OWN_RATINGS[position] - from_anybody)
        assert contributions[rated] == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("settings", SETTINGS)
def test_contributions_add_up_to_the_prediction(small_ratings, settings):
    model = fitted(small_ratings, **settings)
    found = model.explain(OWN_ITEMS, OWN_RATINGS, 25)
    assert found.baseline == pytest.approx(predicted(model, [], [], 25), rel=1e-12)
    assert found.baseline + found.contributions.sum() == pytest.approx(
        predicted(model, OWN_ITEMS, OWN_RATINGS, 25), rel=1e-10
    )
    assert found.prediction == found.baseline + found.contributions.sum()


def test_what_speaks_most_for_the_item_comes_first(model):
    found = model.explain(OWN_ITEMS, OWN_RATINGS, 25)
    assert (np.diff(found.contributions) <= 0).all()
    own = dict(zip(OWN_ITEMS, OWN_RATINGS, strict=True))
    assert {item: own[item] for item in found.rated_items.tolist()} == dict(
        zip(found.rated_items.tolist(), found.ratings, strict=True)
    )


def test_without_ratings_there_is_the_baseline_alone(model):
    found = model.explain([], [], 25)
    assert len(found.contributions) == 0
    assert found.prediction == found.baseline


def loop_gains(model, rated, candidates):
    """Gain of every candidate, by inverting the posterior precision once more for each."""
    k = model.n_components
    noise, n_items = model.noise_variance_, len(model.items_)
    rows = [np.append(model.item_factors_[i], 1.0) for i in range(n_items)]
    precision = np.diag(1 / model.user_prior_variance_)
    right = precision @ model.user_prior_mean_
    for item, rating in rated.items():
        spread = np.diag(np.append(model.item_variance_[item], 0.0))
        precision = precision + (np.outer(rows[item], rows[item]) + spread) / noise
        right = right + rows[item] * (rating - model.global_mean_ - model.item_bias_[item]) / noise
    user, variance = np.linalg.solve(precision, right), 1 / np.diag(precision)

    def variance_of_predictions(covariance):
        return np.mean([row @ covariance @ row for row in rows])

    def not_the_users(item):
        of_factors = model.item_variance_[item] @ (user[:k] ** 2 + variance[:k])
        return noise + model.item_bias_variance_[item] + of_factors

    def best_first(precision, left, chosen):
        if not left or len(chosen) == 4:
            return chosen
        now = variance_of_predictions(np.linalg.inv(precision))
        after = {
            item: precision + np.outer(rows[item], rows[item]) / not_the_users(item)
            for item in left
        }
        gains = {
            item: now - variance_of_predictions(np.linalg.inv(answered))
            for item, answered in after.items()
        }
        best = max(gains, key=gains.get)
        return best_first(after[best], left - {best}, [*chosen, (best, gains[best])])

    return best_first(precision, set(candidates) - rated.keys(), [])


@pytest.mark.parametrize("rated", [{}, {31: 5.0, 4: 1.0, 17: 4.0}])
def test_most_informative_items_by_brute_force(model, rated):
    items, gains = model.most_informative_items(list(rated), list(rated.values()), n=4)
    expected = loop_gains(model, rated, range(60))
    assert items.tolist() == [item for item, _ in expected]
    np.testing.assert_allclose(gains, [gain for _, gain in expected], rtol=1e-7)


def test_interview_keeps_to_the_candidates_and_asks_nothing_twice(model):
    items, gains = model.most_informative_items([5], [3.0], candidates=[5, 6, 7, 8], n=10)
    assert sorted(items.tolist()) == [6, 7, 8]
    assert (gains > 0).all()


def test_answers_to_an_interview_tell_more_than_answers_at_random():
    """Users answer with noise and are then predicted everywhere."""
    truth = make_ratings(
        n_users=200,
        n_items=60,
        n_ratings=5000,
        n_components=4,
        spectrum="flat",
        component_variance=0.6,
        noise_std=0.6,
        rounded=False,
        random_state=0,
    )
    model = FederatedReconstructionMF(4, random_state=0).fit(truth.data, truth.target)
    expected = truth.global_mean + truth.item_bias + truth.user_bias[:, None]
    expected = expected + truth.user_factors @ truth.item_factors.T
    rng = np.random.default_rng(0)

    def error(questions):
        squares = []
        for row in expected:
            asked = questions()
            answers = row[asked] + truth.noise_std * rng.standard_normal(len(asked))
            found = model.reconstruct_user(asked, answers)
            scores = model.global_mean_ + model.item_bias_ + found.bias
            scores = scores + model.item_factors_ @ found.factors
            squares.append(np.mean((scores - row) ** 2))
        return np.sqrt(np.mean(squares))

    informative = model.most_informative_items(n=5)[0]
    assert error(lambda: informative) < 0.9 * error(lambda: rng.choice(60, 5, replace=False))


@pytest.mark.parametrize("method", ["explain", "most_informative_items"])
def test_steps_of_descent_have_no_closed_form(small_ratings, method):
    model = fitted(small_ratings, reconstruction="sgd", max_iter=1)
    question = {"explain": ([3], [4.0], 5), "most_informative_items": ([3], [4.0])}[method]
    with pytest.raises(ValueError, match="step by step; this needs one in closed form"):
        getattr(model, method)(*question)


def test_interviews_need_posterior_variances(small_ratings):
    model = fitted(small_ratings, **SETTINGS[3])
    with pytest.raises(ValueError, match="gives no posterior variances"):
        model.most_informative_items()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.explain([3], [4.0], 99), "unknown: 99"),
        (lambda m: m.explain([99], [4.0], 3), "unknown: 99"),
        (lambda m: m.explain([3, 3], [4.0, 5.0], 5), "repeats an item"),
        (lambda m: m.most_informative_items(n=0), "n=0 items"),
        (lambda m: m.most_informative_items(candidates=[99]), "unknown: 99"),
    ],
)
def test_questions_that_make_no_sense_are_refused(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
