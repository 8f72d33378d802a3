"""What a fitted model answers: ratings and their uncertainty, users that come and go."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import KFold, cross_val_score

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.exceptions import ColdStartWarning

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


def own_ratings(table, user):
    X, y = table
    return X[X[:, 0] == user, 1], y[X[:, 0] == user]


# --- predict -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_bias", [True, False])
@pytest.mark.parametrize("n_components", [0, 3])
def test_known_and_unknown_users_and_items(table, fit_bias, n_components):
    model = new(fit_bias=fit_bias, n_components=n_components, dtype="float64").fit(*table)
    user, item = model.users_[7], model.items_[11]
    mean, v, b = model.global_mean_, model.item_factors_[11], model.item_bias_[11]
    u, c = model.user_factors_[7], model.user_bias_[7]
    average_user = model.user_prior_mean_[-1] if fit_bias else 0.0
    rows = [[user, item], [NOBODY, item], [user, NOTHING], [NOBODY, NOTHING]]
    expected = [mean + b + c + u @ v, mean + b + average_user, mean + c, mean + average_user]
    np.testing.assert_allclose(model.predict(rows), expected, rtol=1e-12)
    assert (c != 0) == fit_bias


def test_variance_of_a_prediction(table):
    model = new(dtype="float64", fit_bias=True).fit(*table)
    k = 3
    item_prior = model.item_variance_.max()  # an item without ratings is as uncertain as any
    for user, item in [(4, 9), (NOBODY, 9), (4, NOTHING), (NOBODY, NOTHING)]:
        _, (std,) = model.predict([[user, item], [4, 9]], return_std=True)[0:1] + (
            model.predict([[user, item], [4, 9]], return_std=True)[1][:1],
        )
        if user == NOBODY:
            z, s = model.user_prior_mean_, model.user_prior_variance_
        else:
            z, s = np.append(model.user_factors_[user], 0), model.user_variance_[user]
        if item == NOTHING:
            assert std**2 > model.noise_variance_ + s[k]
            continue
        v, kappa = model.item_factors_[item], model.item_variance_[item]
        variance = model.noise_variance_ + np.sum(v**2 * s[:k]) + s[k]
        variance += np.sum(kappa * (z[:k] ** 2 + s[:k])) + model.item_bias_variance_[item]
        assert std == pytest.approx(np.sqrt(variance), rel=1e-12)
    assert item_prior > 0
