"""What scikit-learn users rely on, on ratings where it means something.

The common tests have about one rating a user; here 40 users have many ratings each.
"""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from joblib import parallel_config
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import DataConversionWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import r2_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    ShuffleSplit,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._distribution import _chunks
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.server_optimizers import NaturalGradient
from sklearn_fedrecon.splitting import RandomSplit

CONFIGURATIONS = {
    "all clients": {},
    "cohort": {"clients_per_round": 15},
    "Poisson": {"clients_per_round": 0.4, "sampling": "poisson", "client_dropout": 0.1},
    "split": {"support_query": RandomSplit(0.6), "clients_per_round": 0.5},
    "bias only": {"n_components": 0},
    "no bias": {"fit_bias": False, "dtype": "float64"},
    "early stopping": {"early_stopping": True, "max_iter": 20},
}
each_configuration = pytest.mark.parametrize(
    "options", CONFIGURATIONS.values(), ids=CONFIGURATIONS
)


def new(**options):
    return FederatedReconstructionMF(**{"n_components": 4, "random_state": 0, **options})


@pytest.fixture(scope="module")
def table():
    """Users, items and ratings of 40 users; about 20 ratings each."""
    return make_ratings(n_users=40, n_items=50, n_ratings=800, random_state=1, return_X_y=True)


@pytest.fixture(scope="module")
def frame(table):
    """The same as a frame with a column too many, and users that are strings."""
    X, _ = table
    return pd.DataFrame(
        {
            "time": np.arange(len(X))[::-1] + 0.5,
            "film": X[:, 1],
            "person": [f"person {user:02}" for user in X[:, 0]],
        }
    )


def fitted_arrays(model):
    """All fitted attributes that are arrays or numbers, time aside."""
    found = {}
    for name, value in vars(model).items():
        if name.endswith("_") and isinstance(value, np.ndarray | float | int):
            found[name] = np.asarray(value)
    for name, column in model.history_.items():
        if "seconds" not in name:
            found[f"history_[{name}]"] = column
    return found


def assert_identical(one, two):
    """Fitted attributes are the same bits of the same types."""
    first, second = fitted_arrays(one), fitted_arrays(two)
    assert first.keys() == second.keys()
    assert "item_factors_" in first
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name, strict=True)


# --- the same model from the same ratings ------------------------------------------------------


@each_configuration
def test_weights_are_repeated_rows(table, options):
    X, y = table
    weights = np.random.default_rng(0).integers(0, 4, len(y))
    repeated = np.repeat(np.arange(len(y)), weights)
    weighted = new(**options).fit(X, y, sample_weight=weights)
    assert_identical(weighted, new(**options).fit(X[repeated], y[repeated]))


@each_configuration
def test_weight_zero_is_no_row(table, options):
    X, y = table
    # One user and one item disappear altogether.
    weights = 0.5 + np.random.default_rng(0).integers(0, 3, len(y))
    weights[(X[:, 0] == 7) | (X[:, 1] == X[0, 1])] = 0
    kept = weights > 0
    weighted = new(**options).fit(X, y, sample_weight=weights)
    assert_identical(weighted, new(**options).fit(X[kept], y[kept], sample_weight=weights[kept]))
    assert 7 not in weighted.users_
    assert X[0, 1] not in weighted.items_


def test_weights_do_something(table):
    X, y = table
    weights = 1.0 + (X[:, 0] < 20)
    difference = new().fit(X, y).predict(X) - new().fit(X, y, sample_weight=weights).predict(X)
    assert np.abs(difference).max() > 1e-3


@each_configuration
def test_order_of_the_rows(table, options):
    X, y = table
    order = np.random.default_rng(0).permutation(len(y))
    assert_identical(new(**options).fit(X, y), new(**options).fit(X[order], y[order]))


@pytest.mark.parametrize("n_jobs", [2, 4, -1])
@each_configuration
def test_number_of_jobs(table, options, n_jobs, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)
    X, y = table
    one = new(**options, n_jobs=1).fit(X, y)
    assert_identical(one, new(**options, n_jobs=n_jobs).fit(X, y))


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_backends(table, backend, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)
    X, y = table
    with parallel_config(backend, n_jobs=2):
        shared = new(max_iter=3).fit(X, y)
    assert_identical(new(max_iter=3).fit(X, y), shared)


@each_configuration
def test_fitting_again(table, options):
    X, y = table
    model = new(**options).fit(X, y)
    first = copy.copy(model)
    assert_identical(first, model.fit(X, y))


def test_random_state(table):
    X, y = table
    cohort = {"clients_per_round": 10, "max_iter": 5}
    seeded = new(**cohort, random_state=3).fit(X, y)
    assert_identical(seeded, new(**cohort, random_state=np.random.RandomState(3)).fit(X, y))
    for other in (4, None):
        different = new(**cohort, random_state=other).fit(X, y)
        assert not np.array_equal(different.item_factors_, seeded.item_factors_)


def test_a_random_state_that_is_shared_moves_on(table):
    X, y = table
    random = np.random.RandomState(0)
    one, two = (new(random_state=random, max_iter=1).fit(X, y) for _ in range(2))
    assert not np.array_equal(one.item_factors_, two.item_factors_)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint16", "float64", "object", "U4"])
def test_type_and_layout_of_the_ids(table, dtype, order):
    X, y = table
    same = np.asarray(X.astype(dtype), order=order)
    model, other = new(max_iter=3).fit(X, y), new(max_iter=3).fit(same, y)
    if dtype == "U4":  # in another order: only what does not depend on it
        np.testing.assert_allclose(other.global_mean_, model.global_mean_, rtol=1e-6)
        assert set(other.users_) == set(map(str, model.users_))
    else:
        np.testing.assert_array_equal(other.predict(same), model.predict(X))


# --- predictions -------------------------------------------------------------------------------


@each_configuration
def test_a_prediction_does_not_depend_on_the_other_rows(table, options):
    X, y = table
    model = new(**options).fit(X[:700], y[:700])
    whole, std = model.predict(X, return_std=True)
    order = np.random.default_rng(0).permutation(len(X))
    assert np.array_equal(model.predict(X[order]), whole[order])
    assert np.array_equal(model.predict(X[order], return_std=True)[1], std[order])
    singly = np.concatenate([model.predict(row[None]) for row in X[:50]])
    assert np.array_equal(singly, whole[:50])


def test_predictions_are_the_model(table):
    X, y = table
    model = new(dtype="float64").fit(X, y)
    users, items = (np.searchsorted(model.users_, X[:, 0]), np.searchsorted(model.items_, X[:, 1]))
    for row in range(0, len(X), 37):
        u, i = users[row], items[row]
        expected = model.global_mean_ + model.item_bias_[i] + model.user_bias_[u]
        expected += model.item_factors_[i] @ model.user_factors_[u]
        assert model.predict(X[row : row + 1])[0] == pytest.approx(expected, rel=1e-12)


def test_score_is_r2(table):
    X, y = table
    weights = np.random.default_rng(0).uniform(size=len(y))
    model = new().fit(X, y)
    assert model.score(X, y) == r2_score(y, model.predict(X))
    weighted = r2_score(y, model.predict(X), sample_weight=weights)
    assert model.score(X, y, sample_weight=weights) == weighted


@pytest.mark.parametrize(
    "options", [{"n_components": 4}, {"fit_bias": False}, {"n_components": 0}]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stored_user_is_the_user_rebuilt_from_its_ratings(table, options, dtype):
    X, y = table
    model, rounding = new(**options, dtype=dtype).fit(X, y), float(np.finfo(dtype).eps) ** 0.7
    for position in range(0, 40, 3):
        own = X[:, 0] == model.users_[position]
        user = model.reconstruct_user(X[own, 1], y[own])
        np.testing.assert_allclose(user.factors, model.user_factors_[position], atol=rounding)
        assert user.bias == pytest.approx(model.user_bias_[position], abs=rounding)
        np.testing.assert_allclose(user.variance, model.user_variance_[position], rtol=rounding)


@each_configuration
def test_what_was_forgotten_can_be_rebuilt(table, options):
    X, y = table
    weights = np.random.default_rng(0).integers(1, 4, len(y))
    model = new(**options).fit(X, y, sample_weight=weights)
    again = model.forget_users().personalize(X, y, sample_weight=weights)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize("arithmetic", ["float32", "float64"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [("float32", "float32"), ("float64", "float64"), ("int64", "float64"), ("int8", "float64")],
)
def test_types(table, arithmetic, given, expected):
    X, y = table
    model = new(dtype=arithmetic).fit(X, y.astype(given))
    predicted, std = model.predict(X, return_std=True)
    assert predicted.dtype == std.dtype == expected
    arrays = ("item_factors_", "item_bias_", "item_variance_", "item_bias_variance_")
    arrays += ("user_factors_", "user_bias_", "user_variance_")
    arrays += ("user_prior_mean_", "user_prior_variance_")
    assert {getattr(model, name).dtype for name in arrays} == {np.dtype(arithmetic)}
    assert model.reconstruct_user(X[:0, 1], []).factors.dtype == arithmetic


def test_single_precision_is_accurate(table):
    X, y = table
    single, double = new().fit(X, y), new(dtype="float64").fit(X, y)
    np.testing.assert_allclose(single.predict(X), double.predict(X), atol=1e-3)


# --- nothing is changed ------------------------------------------------------------------------

READERS = {
    "predict": lambda model, X, y: model.predict(X, return_std=True),
    "score": lambda model, X, y: model.score(X, y),
    "reconstruct_user": lambda model, X, y: model.reconstruct_user(X[:5, 1], y[:5]),
    "personalize": lambda model, X, y: model.personalize(X[:200], y[:200]),
    "personalize and go on": lambda model, X, y: model.personalize(X[:200], y[:200]).partial_fit(
        X[:300], y[:300]
    ),
    "forget_users": lambda model, X, y: model.forget_users(),
    "forget_users and go on": lambda model, X, y: model.forget_users().partial_fit(X, y),
    "recommend": lambda model, X, y: model.recommend(3),
    "similar_items": lambda model, X, y: model.similar_items(3),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
def test_reading_changes_nothing(table, reader):
    X, y = table
    model = new().fit(X, y)
    before, same = pickle.dumps(model), dict(vars(model))
    reader(model, X, y)
    assert vars(model).keys() == same.keys()
    assert all(vars(model)[name] is value for name, value in same.items())
    assert pickle.dumps(model) == before


def test_fit_does_not_change_parameters_or_data(table):
    X, y = table
    part, catalogue = NaturalGradient(step_size=0.2), np.arange(50)
    model = new(server_optimizer=part, items=catalogue, rating_scale=(1, 5), clients_per_round=9)
    parameters = model.get_params()
    arrays = X.copy(), y.copy(), np.ones(len(y))
    for array in (*arrays, catalogue):
        array.flags.writeable = False
    model.fit(*arrays).partial_fit(*arrays)
    assert model.get_params() == parameters
    assert model.server_optimizer is part
    assert set(vars(part)) == {"step_size", "step_delay", "step_decay"}


def test_memory_maps_that_cannot_be_written(table, tmp_path):
    X, y = table
    arrays = [X, y, np.ones(len(y))]
    joblib.dump(arrays, tmp_path / "ratings")
    mapped = joblib.load(tmp_path / "ratings", mmap_mode="r")
    assert all(isinstance(array, np.memmap) for array in mapped)
    model = new(clients_per_round=0.5).fit(*mapped)
    assert_identical(model, new(clients_per_round=0.5).fit(*arrays))
    model.partial_fit(*mapped)
    assert model.personalize(*mapped).score(*mapped) > 0


# --- cloning, pickling, parameters -------------------------------------------------------------


@each_configuration
def test_clone(table, options):
    X, y = table
    model = new(**options).fit(X, y)
    unfitted = clone(model)
    assert not [name for name in vars(unfitted) if name not in model.get_params(deep=False)]
    assert repr(unfitted) == repr(model)
    assert_identical(unfitted.fit(X, y), model)


@pytest.mark.parametrize("ids", ["numbers", "strings"])
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
def test_pickle_and_joblib(table, ids, tmp_path):
    X, y = table
    X = X if ids == "numbers" else X.astype(str)
    model = new().fit(X, y)
    joblib.dump(model, tmp_path / "model")
    copies = {
        "pickle": pickle.loads(pickle.dumps(model)),
        "joblib": joblib.load(tmp_path / "model"),
        "mapped": joblib.load(tmp_path / "model", mmap_mode="r"),
    }
    assert isinstance(copies["mapped"].item_factors_, np.memmap)
    rows = np.vstack([X, [[X[0, 0], "999"], ["999", X[0, 1]]]]).astype(X.dtype)
    again = copy.copy(model).partial_fit(X[:100], y[:100])
    for name, other in copies.items():
        assert_identical(model, other)
        for one, two in zip(
            *(m.predict(rows, return_std=True) for m in (model, other)), strict=True
        ):
            assert np.array_equal(one, two), name
        assert np.array_equal(model.recommend(X[0, 0])[0], other.recommend(X[0, 0])[0])
        personal = other.personalize(X[:50], y[:50])
        assert np.array_equal(personal.predict(X), model.personalize(X[:50], y[:50]).predict(X))
        assert_identical(again, other.partial_fit(X[:100], y[:100]))


def test_nested_parameters(table):
    X, y = table
    model = new(server_optimizer=NaturalGradient(), clients_per_round=10, max_iter=5)
    model.set_params(server_optimizer__step_size=0.9, n_components=2)
    direct = new(
        server_optimizer=NaturalGradient(step_size=0.9),
        clients_per_round=10,
        max_iter=5,
        n_components=2,
    )
    assert_identical(model.fit(X, y), direct.fit(X, y))
    assert model.get_params()["server_optimizer__step_size"] == 0.9


def test_an_alias_is_the_part_with_its_defaults(table):
    X, y = table
    named = new(
        reconstruction="variational",
        client_update="variational",
        aggregator="mean",
        server_optimizer="natural_gradient",
        support_query="none",
        clients_per_round=10,
    )
    part = new(server_optimizer=NaturalGradient(), clients_per_round=10)
    auto = new(clients_per_round=10).fit(X, y)
    assert_identical(auto, named.fit(X, y))
    assert_identical(auto, part.fit(X, y))


def test_html_repr(table):
    X, y = table
    shown = new().fit(X, y)._repr_html_()
    assert "FederatedReconstructionMF" in shown
    assert "n_components" in shown


# --- tables ------------------------------------------------------------------------------------

LIBRARIES = {
    "pandas": lambda frame: frame,
    "pandas with arrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "pandas with categories": lambda frame: frame.astype({"person": "category"}),
    "polars": lambda frame: pl.DataFrame({name: frame[name].to_numpy() for name in frame}),
    "pyarrow": pa.Table.from_pandas,
}


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_frames_with_names(table, frame, library):
    _, y = table
    given = library(frame)
    model = new(user_column="person", item_column="film").fit(given, y)
    same = new().fit(frame[["person", "film"]].to_numpy(), y)
    assert model.feature_names_in_.tolist() == ["time", "film", "person"]
    assert model.n_features_in_ == 3
    assert list(model.users_) == sorted(set(frame["person"]))
    assert np.array_equal(model.predict(given), same.predict(frame[["person", "film"]].to_numpy()))
    assert model.score(given, y) == r2_score(y, model.predict(given))
    known = model.forget_users().personalize(given, y)
    assert np.array_equal(known.predict(given), model.predict(given))
    assert model.partial_fit(given, y).n_iter_ == 11


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_frames_by_position(frame, table, library):
    _, y = table
    model = new(user_column=2, item_column=1).fit(library(frame), y)
    named = new(user_column="person", item_column="film").fit(library(frame), y)
    assert_identical(model, named)


def test_other_columns_are_not_looked_at(frame, table):
    _, y = table
    odd = frame.assign(time=[None, np.nan, "late", pd.NaT] * (len(frame) // 4))
    model = new(user_column="person", item_column="film")
    assert_identical(clone(model).fit(frame, y), clone(model).fit(odd, y))


def test_lists(table):
    X, y = table
    assert_identical(new().fit(X.tolist(), y.tolist()), new().fit(X, y))


def test_ratings_as_a_column(table):
    X, y = table
    model = new().fit(X, pd.Series(y, index=np.arange(len(y))[::-1]))
    assert_identical(model, new().fit(X, y))
    with pytest.warns(DataConversionWarning, match="column-vector"):
        model = new().fit(X, y[:, None])
    assert_identical(model, new().fit(X, y))


def test_columns_in_another_order_are_refused(frame, table):
    _, y = table
    model = new(user_column="person", item_column="film").fit(frame, y)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["person", "film", "time"]])


# --- searches, pipelines, metadata -------------------------------------------------------------

SHUFFLED = KFold(3, shuffle=True, random_state=0)


@pytest.mark.parametrize(("outer", "inner"), [(None, None), (2, None), (None, 2), (2, 2)])
def test_grid_search(table, outer, inner):
    X, y = table
    grid = {"n_components": [0, 2], "dtype": ["float64"]}
    search = GridSearchCV(new(n_jobs=inner), grid, cv=SHUFFLED, n_jobs=outer).fit(X, y)
    train, test = next(SHUFFLED.split(X))
    expected = new(n_components=2, dtype="float64").fit(X[train], y[train])
    score = expected.score(X[test], y[test])
    assert search.cv_results_["split0_test_score"][1] == pytest.approx(score, rel=1e-12)
    assert search.predict(X).shape == y.shape


def test_grid_search_over_parts(table):
    X, y = table
    model = new(server_optimizer=NaturalGradient(), clients_per_round=0.3, max_iter=5)
    grid = {"server_optimizer__step_size": [0.01, 0.5]}
    search = GridSearchCV(model, grid, cv=SHUFFLED).fit(X, y)
    assert search.best_params_ == {"server_optimizer__step_size": 0.5}


def test_cross_validation(table):
    X, y = table
    scores = cross_validate(
        new(), X, y, cv=SHUFFLED, scoring=["r2", "neg_root_mean_squared_error"], n_jobs=2
    )
    assert (scores["test_neg_root_mean_squared_error"] < 0).all()
    predicted = cross_val_predict(new(), X, y, cv=SHUFFLED)
    train, test = next(SHUFFLED.split(X))
    assert np.array_equal(predicted[test], new().fit(X[train], y[train]).predict(X[test]))


def test_learning_curve(table):
    X, y = table
    sizes, train, test = learning_curve(
        new(), X, y, cv=ShuffleSplit(2, random_state=0), train_sizes=[0.3, 1.0], shuffle=True
    )
    assert sizes.tolist() == [216, 720]
    assert test.mean(axis=1)[1] > test.mean(axis=1)[0]
    assert np.isfinite(train).all()


@pytest.mark.parametrize("resource", ["max_iter", "n_samples"])
def test_halving(table, resource):
    X, y = table
    search = HalvingGridSearchCV(
        new(),
        {"n_components": [0, 1, 4]},
        resource=resource,
        min_resources=3 if resource == "max_iter" else 200,
        max_resources=9 if resource == "max_iter" else 800,
        cv=SHUFFLED,
        random_state=0,
        factor=3 if resource == "max_iter" else 2,
    ).fit(X, y)
    assert search.n_iterations_ > 1
    assert search.n_remaining_candidates_ < 3
    if resource == "max_iter":
        assert search.best_estimator_.n_iter_ == 9


def test_pipeline(table):
    X, y = table
    pipeline = Pipeline([("same", FunctionTransformer()), ("model", new())]).fit(X, y)
    assert np.array_equal(pipeline.predict(X), new().fit(X, y).predict(X))
    std = pipeline.predict(X, return_std=True)[1]
    assert np.array_equal(std, new().fit(X, y).predict(X, return_std=True)[1])


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_column_transformer_lets_string_users_pass(frame, table, output):
    _, y = table
    columns = ColumnTransformer(
        [
            ("user", "passthrough", ["person"]),
            ("item", FunctionTransformer(feature_names_out="one-to-one"), ["film"]),
        ],
        verbose_feature_names_out=False,
    ).set_output(transform=output)
    pipeline = make_pipeline(columns, new()).fit(frame, y)
    assert list(pipeline[-1].users_) == sorted(set(frame["person"]))
    direct = new().fit(frame[["person", "film"]], y)
    assert np.array_equal(pipeline.predict(frame), direct.predict(frame[["person", "film"]]))
    named = getattr(pipeline[-1], "feature_names_in_", None)
    assert (named is None) if output == "default" else named.tolist() == ["person", "film"]


def test_metadata_routing(table):
    X, y = table
    weights = np.random.default_rng(0).uniform(0.1, 3, len(y))
    train, test = next(SHUFFLED.split(X))
    model = new().fit(X[train], y[train], sample_weight=weights[train])
    weighted = model.score(X[test], y[test], sample_weight=weights[test])
    with config_context(enable_metadata_routing=True):
        asking = new().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), asking)
        search = GridSearchCV(
            pipeline, {"federatedreconstructionmf__n_components": [4]}, cv=SHUFFLED
        )
        search.fit(X, y, sample_weight=weights)
        ignoring = new().set_fit_request(sample_weight=False)
        unweighted = make_pipeline(FunctionTransformer(), ignoring).fit(X, y)
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(weighted, rel=1e-12)
    assert_identical(search.best_estimator_[-1], new().fit(X, y, sample_weight=weights))
    assert_identical(unweighted[-1], new().fit(X, y))


def test_weights_without_metadata_routing(table):
    X, y = table
    weights = np.random.default_rng(0).uniform(0.1, 3, len(y))
    weighted = new().fit(X, y, sample_weight=weights)
    search = GridSearchCV(new(), {"n_components": [4]}, cv=SHUFFLED)
    assert_identical(search.fit(X, y, sample_weight=weights).best_estimator_, weighted)
    pipeline = make_pipeline(FunctionTransformer(), new())
    pipeline.fit(X, y, federatedreconstructionmf__sample_weight=weights)
    assert_identical(pipeline[-1], weighted)


def test_requests_that_can_be_made():
    requests = new().get_metadata_routing()
    assert set(requests.fit.requests) == {"sample_weight"}
    assert set(requests.partial_fit.requests) == {"sample_weight", "total_users"}
    assert set(requests.score.requests) == {"sample_weight"}
    assert set(requests.predict.requests) == {"return_std"}
