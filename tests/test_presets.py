"""Published configurations, through the estimator."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold

from sklearn_fedrecon import FederatedReconstructionMF, presets
from sklearn_fedrecon.client_update import SGDUpdate
from sklearn_fedrecon.reconstruction import SGDReconstruction
from sklearn_fedrecon.server_optimizers import SGD, Adam
from sklearn_fedrecon.splitting import BatchParitySplit

PRESETS = [getattr(presets, name) for name in presets.__all__]
SMALL = {"n_components": 4, "clients_per_round": 20, "max_iter": 12, "random_state": 0}


@pytest.fixture
def rated(small_ratings):
    return small_ratings.data, small_ratings.target


def test_paper_has_the_published_values():
    model = presets.paper_movielens()
    expected = {
        "n_components": 50,
        "fit_bias": False,
        "global_mean": 0.0,
        "clients_per_round": 100,
        "max_iter": 500,
        "reconstruction__n_epochs": 5,
        "reconstruction__max_steps": 50,
        "reconstruction__learning_rate": 0.1,
        "reconstruction__init": "uniform",
        "client_update__n_epochs": 1,
        "client_update__max_steps": 50,
        "client_update__learning_rate": 0.5,
        "client_update__client_weights": "examples",
        "server_optimizer__learning_rate": 1.0,
        "server_optimizer__momentum": None,
        "support_query__batch_size": 5,
        "support_query__max_ratings": 300,
        "support_query__shuffle": "once",
    }
    parameters = model.get_params()
    assert {name: parameters[name] for name in expected} == expected


def test_tutorial_has_the_published_values():
    parameters = presets.tff_tutorial().get_params()
    expected = {
        "n_components": 50,
        "clients_per_round": 50,
        "max_iter": 20,
        "reconstruction__n_epochs": 1,
        "reconstruction__max_steps": None,
        "reconstruction__learning_rate": 0.1,
        "client_update__max_steps": None,
        "client_update__learning_rate": 0.5,
        "server_optimizer__learning_rate": 1.0,
        "support_query__batch_size": 5,
        "support_query__max_ratings": 300,
    }
    assert {name: parameters[name] for name in expected} == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_are_set_on_top(preset):
    model = preset(n_components=3, reconstruction__learning_rate=0.05, server_optimizer=Adam())
    assert model.n_components == 3
    assert model.reconstruction.learning_rate == 0.05
    assert isinstance(model.server_optimizer, Adam)
    assert preset().n_components == 50


@pytest.mark.parametrize("preset", PRESETS)
def test_fits_and_serves_a_user_that_never_took_part(preset, rated):
    X, y = rated
    model = preset(**SMALL).fit(X, y)
    error = model.history_["training_rmse"]
    assert error[-3:].mean() < error[:3].mean()
    assert not model.history_["rejected_clients"].any()
    assert model.item_variance_ is None
    assert model.user_variance_ is None
    new = model.reconstruct_user(items=model.items_[:5], ratings=[5, 1, 4, 2, 3])
    assert np.isfinite(new.factors).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_same_seed_same_result_for_any_order_of_the_rows(preset, rated):
    X, y = rated
    order = np.random.default_rng(0).permutation(len(y))
    one = preset(**SMALL).fit(X, y)
    two = clone(one).fit(X[order], y[order])
    np.testing.assert_array_equal(one.item_factors_, two.item_factors_)
    np.testing.assert_array_equal(one.user_factors_, two.user_factors_)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_stored_user_is_the_one_that_its_ratings_rebuild(preset, rated):
    X, y = rated
    model = preset(**SMALL).fit(X, y)
    mine = X[:, 0] == model.users_[7]
    rebuilt = model.reconstruct_user(items=X[mine, 1], ratings=y[mine])
    np.testing.assert_allclose(rebuilt.factors, model.user_factors_[7], rtol=1e-5, atol=1e-6)


def test_what_clients_may_learn_is_learned(rated):
    X, y = rated
    model = presets.paper_movielens(fit_bias=True, global_mean="learned", **SMALL).fit(X, y)
    assert 1 < model.global_mean_ < 5
    assert model.item_bias_.any()
    assert model.user_bias_.any()


def test_averaging_learns_where_users_start(rated):
    X, y = rated
    model = presets.federated_averaging(**SMALL).fit(X, y)
    assert np.abs(model.user_prior_mean_).max() > 0.05  # beyond where it started
    same = presets.federated_averaging(reconstruction__n_epochs=0, **SMALL).fit(X, y)
    np.testing.assert_array_equal(same.item_factors_, model.item_factors_)
    np.testing.assert_array_equal(
        same.user_factors_, np.tile(same.user_prior_mean_, (len(same.users_), 1))
    )


def test_parameters_of_parts_can_be_searched(rated):
    X, y = rated
    search = GridSearchCV(
        presets.paper_movielens(client_update__learning_rate=0.1, **SMALL),
        {
            "server_optimizer": [SGD(1.0), Adam(0.03)],
            "server_optimizer__learning_rate": [0.01, 0.3],
            "client_update__max_steps": [1, 50],
        },
        cv=KFold(2, shuffle=True, random_state=0),
    ).fit(X, y)
    assert len(np.unique(search.cv_results_["mean_test_score"])) == 8
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("part", "rate"),
    [("client_update", 1e6), ("server_optimizer", 1e6), ("reconstruction", 50.0)],
)
def test_divergence_is_caught(part, rate, rated):
    X, y = rated
    model = presets.paper_movielens(**SMALL).set_params(**{f"{part}__learning_rate": rate})
    with pytest.warns(ConvergenceWarning, match=rf"in round \d+.*{part}__learning_rate={rate}"):
        model.fit(X, y)
    assert model.n_iter_ < 12
    assert np.isfinite(model.item_factors_).all()
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("part", ["client_update", "server_optimizer"])
def test_divergence_of_the_only_round_is_caught(part, rated):
    X, y = rated
    settings = SMALL | {"max_iter": 1, f"{part}__learning_rate": 1e30}
    with pytest.warns(ConvergenceWarning, match=rf"in round 1;.*{part}__learning_rate=1e\+30"):
        model = presets.paper_movielens(**settings).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("rate", [1e5, 1e30])
def test_divergence_of_a_streamed_cohort_is_caught(rate, rated):
    X, y = rated
    model = presets.paper_movielens(**SMALL).fit(X, y)
    before = model.item_factors_
    model.set_params(client_update__learning_rate=rate)
    with pytest.warns(ConvergenceWarning, match=r"in round 13;.*client_update__learning_rate"):
        model.partial_fit(X, y)
    np.testing.assert_array_equal(model.item_factors_, before)


@pytest.mark.parametrize("random_state", range(10))
def test_no_false_alarm_where_nearly_all_ratings_are_equal(random_state):
    X = np.array([(user, item) for user in range(30) for item in range(20)])
    y = np.append(np.full(599, 3.0), 5.0)
    model = FederatedReconstructionMF(clients_per_round=0.5, random_state=random_state).fit(X, y)
    assert model.n_iter_ == 20
    sgd = model.set_params(reconstruction="sgd", clients_per_round=1, max_iter=30).fit(X, y)
    assert sgd.n_iter_ == 30


def test_items_rest_that_a_streamed_cohort_did_not_rate(rated):
    X, y = rated
    model = presets.paper_movielens(server_optimizer=Adam(), **SMALL).fit(X, y)
    before = dict(zip(model.items_.tolist(), model.item_factors_.copy(), strict=True))
    cohort = np.isin(X[:, 0], model.users_[:2])
    model.partial_fit(X[cohort], y[cohort])
    after = dict(zip(model.items_.tolist(), model.item_factors_, strict=True))
    moved = {item for item, row in after.items() if not np.array_equal(row, before[item])}
    assert moved
    assert moved <= set(X[cohort, 1].tolist())


def test_a_published_part_stands_alone():
    """Parts are estimators: what is printed makes them again."""
    parts = [
        SGDReconstruction(n_epochs=5, max_steps=50),
        SGDUpdate(max_steps=50),
        BatchParitySplit(batch_size=5, max_ratings=300, shuffle="once"),
    ]
    names = {kind.__name__: kind for kind in map(type, parts)}
    for part in parts:
        assert eval(repr(part), names).get_params() == part.get_params()
