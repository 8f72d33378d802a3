"""Fits that go on, fits that are refused or interrupted, and fits by other means."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_fedrecon import (
    FederatedReconstructionMF,
    FederatedReconstructionTransformer,
    load_model,
    save_model,
)
from sklearn_fedrecon._answers import copy_with
from sklearn_fedrecon._distribution import _map
from sklearn_fedrecon._fitted import fitted_from
from sklearn_fedrecon._random import root_seed
from sklearn_fedrecon._round import Question, answer, conclude
from sklearn_fedrecon._training import _loop
from sklearn_fedrecon._training._history import History, round_report
from sklearn_fedrecon._training._parts import build_parts
from sklearn_fedrecon._training._reading import encode
from sklearn_fedrecon._training._start import first_model
from sklearn_fedrecon._types import DeviceContext, ServerContext, ServerState
from sklearn_fedrecon.client_update import SGDUpdate
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.server_optimizers import SGD


@pytest.fixture(scope="module")
def table():
    """Ratings of 80 users and 60 items, with names in a frame."""
    X, y = make_ratings(n_users=80, n_items=60, n_ratings=2000, random_state=3, return_X_y=True)
    return pd.DataFrame(X, columns=["reader", "book"]), y


def new(**options):
    return FederatedReconstructionMF(**{"n_components": 4, "random_state": 0, **options})


def public(estimator):
    """Fitted attributes, clocks aside."""
    found = {name: value for name, value in vars(estimator).items() if name.endswith("_")}
    for name in ("history_", "exchanges_"):
        columns = found[name]
        found[name] = {key: value for key, value in columns.items() if "seconds" not in key}
    return found


def assert_same(one, two):
    one, two = public(one), public(two)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_equal(two[name], value, err_msg=name)


# --- two fits are one --------------------------------------------------------------------------

STOPPING = {
    "tolerance": {"tol": 3e-3, "n_iter_no_change": 2},
    "early stopping": {"early_stopping": True, "tol": 1e-3, "n_iter_no_change": 3},
    "cohorts": {"early_stopping": True, "clients_per_round": 25, "n_iter_no_change": 4},
    "guard": {
        "reconstruction": "sgd",
        "reconstruction__learning_rate": 0.05,
        "client_update": SGDUpdate(learning_rate=0.05),
        "server_optimizer": SGD(learning_rate=0.9, momentum=0.5),
        "early_stopping": True,
        "tol": 1e-3,
    },
    "published": {"reconstruction": "sgd", "client_update": SGDUpdate(learning_rate=0.1)},
}


def with_parts(options, **more):
    nested = {name: value for name, value in options.items() if "__" in name}
    plain = {name: value for name, value in options.items() if "__" not in name}
    if "reconstruction__learning_rate" in nested:
        from sklearn_fedrecon.reconstruction import SGDReconstruction

        plain["reconstruction"] = SGDReconstruction(
            learning_rate=nested["reconstruction__learning_rate"]
        )
    return new(**plain, **more)


@pytest.mark.parametrize("options", STOPPING.values(), ids=STOPPING)
@pytest.mark.parametrize("split", [1, 4, 9])
@pytest.mark.parametrize("saved", [False, True])
def test_two_fits_are_one_with_all_that_decides_when_to_stop(
    table, options, split, saved, tmp_path
):
    whole = with_parts(options, max_iter=10).fit(*table)
    parts = with_parts(options, max_iter=split, warm_start=True).fit(*table)
    if saved:
        save_model(parts, tmp_path / "model.npz", users=True)
        parts = load_model(tmp_path / "model.npz")
    if parts.n_iter_ == split < whole.n_iter_:
        parts.set_params(max_iter=10 - split).fit(*table)
    assert_same(whole, parts)


def test_the_patience_goes_on(table):
    """A fit that stopped has nothing left to wait for: the next one looks once, and stops."""
    options = {"tol": 0.5, "n_iter_no_change": 3, "max_iter": 10, "warm_start": True}
    model = new(**options).fit(*table)
    stopped = model.n_iter_
    assert stopped < 10
    assert model.fit(*table).n_iter_ == stopped + 1


def test_on_other_ratings_progress_is_measured_anew(table):
    X, y = table
    options = {"tol": 0.5, "n_iter_no_change": 3, "max_iter": 10, "warm_start": True}
    model = new(**options).fit(X, y)
    stopped = model.n_iter_
    others = new(**options).fit(X, y[::-1])
    assert model.fit(X, y[::-1]).n_iter_ - stopped == others.n_iter_


def test_the_best_model_on_other_users_is_no_best_model(table):
    X, y = table
    model = new(early_stopping=True, max_iter=4, warm_start=True, tol=None).fit(X, y)
    assert model._fitted.loop.best is not None
    first = model._fitted.loop.kept
    model.set_params(early_stopping=False, max_iter=1).fit(X, y)
    assert model._fitted.loop.best is None
    assert model._fitted.loop.kept is not first
    assert model._fitted.loop.round == 5


# --- a fit that is refused or interrupted ------------------------------------------------------

REFUSED = {
    "an id is missing": lambda X, y: (X.assign(reader=np.nan), y),
    "a rating is infinite": lambda X, y: (X, np.where(np.arange(len(y)) == 5, np.inf, y)),
    "no ratings": lambda X, y: (X, None),
    "other lengths": lambda X, y: (X, y[1:]),
    "too few columns": lambda X, y: (X[["reader"]], y),
    "a list of numbers": lambda X, y: (list(range(len(y))), y),
}
CALLS = {
    "fit": lambda model, X, y: model.fit(X, y),
    "warm fit": lambda model, X, y: model.set_params(warm_start=True).fit(X, y),
    "partial_fit": lambda model, X, y: model.partial_fit(X, y),
}


@pytest.mark.parametrize("damage", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_fit_that_is_refused_leaves_the_model_usable(table, damage, call):
    X, y = table
    model = new(max_iter=2).fit(X, y)
    before, expected = dict(vars(model)), model.predict(X)
    wider = X.assign(other=1.0)[["other", "reader", "book"]]
    with pytest.raises((ValueError, TypeError)):
        call(model.set_params(), *damage(wider, y))
    after = dict(vars(model))
    assert after.pop("warm_start") in (True, False)
    before.pop("warm_start")
    assert after.keys() == before.keys()
    assert all(after[name] is value for name, value in before.items())
    np.testing.assert_array_equal(model.predict(X), expected)


def interrupt(*_, **__):
    raise KeyboardInterrupt


PLACES = {
    "before the first round": ("_training._start", "first_model"),
    "in a round": ("_training._loop", "run_round"),
    "when users are rebuilt": ("_training._fit", "rebuild_users"),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("n_columns", [2, 3])
def test_a_fit_that_is_interrupted_leaves_the_model_usable(table, monkeypatch, place, n_columns):
    X, y = table
    model = new(max_iter=2).fit(X, y)
    before, expected = dict(vars(model)), model.predict(X)
    other = X if n_columns == 2 else X.assign(other=1.0)
    module, name = place
    monkeypatch.setattr(f"sklearn_fedrecon.{module}.{name}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(other, y + 1)
    monkeypatch.undo()
    assert vars(model) == before
    np.testing.assert_array_equal(model.predict(X), expected)
    assert model.n_features_in_ == 2


def test_a_first_fit_that_is_interrupted_leaves_nothing(table, monkeypatch):
    model = new()
    before = dict(vars(model))
    monkeypatch.setattr(_loop, "run_round", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*table)
    assert vars(model) == before
    monkeypatch.undo()
    assert_same(model.fit(*table), new().fit(*table))


@pytest.mark.filterwarnings("ignore:All .* ratings are")
def test_a_transformer_whose_refit_is_refused_goes_on(monkeypatch):
    matrix = np.array([[5, 4, np.nan], [4, np.nan, 1], [np.nan, 2, 5], [2, 1, 4]])
    model = FederatedReconstructionTransformer(1, random_state=0).fit(matrix)
    before, expected = dict(vars(model)), model.transform(matrix)
    with pytest.raises(ValueError, match="holds no rating"):
        model.fit(np.full((5, 4), np.nan))
    with pytest.raises(ValueError, match="infinity"):
        model.fit(np.full((5, 2), np.inf))
    monkeypatch.setattr(_loop, "run_round", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(np.ones((4, 7)))
    monkeypatch.undo()
    assert vars(model) == before
    np.testing.assert_array_equal(model.transform(matrix), expected)


def test_workers_are_let_go_when_a_fit_is_interrupted(table, monkeypatch):
    left = []
    engine = _map.workers

    def watched(n_jobs):
        workers = engine(n_jobs)
        leave = type(workers).__exit__
        monkeypatch.setattr(
            type(workers), "__exit__", lambda self, *e: (left.append(e[0]), leave(self, *e))[1]
        )
        return workers

    monkeypatch.setattr(_map, "workers", watched)
    monkeypatch.setattr(_loop, "run_round", interrupt)
    with pytest.raises(KeyboardInterrupt):
        new(n_jobs=2).fit(*table)
    assert left == [KeyboardInterrupt]


# --- a transport of somebody's own -------------------------------------------------------------


def test_a_round_can_be_driven_by_any_transport(table):
    """Questions and answers through bytes, the estimator from what the server then holds."""
    X, y = table
    settings = new(max_iter=4, tol=None, dtype="float64", global_mean=3.5, rating_scale=(0.5, 5))
    expected = settings.fit(X, y)
    ours = new(max_iter=4, tol=None, dtype="float64", global_mean=3.5, rating_scale=(0.5, 5))
    parts = build_parts(ours)
    seed = root_seed(np.random.RandomState(0))
    data = encode(new(dtype="float64"), X, y, None, parts)

    # The server: a model from numbers and the size of the catalogue.
    model = first_model(ours, parts, seed, 3.5, 4.5 / 4, len(data.items))
    state = ServerState(model, parts.aggregator.init(model), parts.server_optimizer.init(model))
    history = History()
    for number in range(4):
        question = pickle.dumps(Question(state.model, parts, DeviceContext(number, seed)))
        answers = [
            pickle.dumps(answer(device, pickle.loads(question)))
            for device in data.ratings.by_length().chunks(150)
        ]
        context = ServerContext(number, 1.0, data.ratings.n_clients, seed)
        sent = state.model
        state, outcome = conclude(map(pickle.loads, answers), state, parts, context)
        report = round_report(number, sent, outcome.measurements, data.ratings.n_clients)
        history.add(report)

    record = fitted_from(state, data.items.ids, parts, history.columns(), seed)
    model = copy_with(ours, record)
    np.testing.assert_allclose(model.item_factors_, expected.item_factors_, rtol=1e-9, atol=1e-12)
    for name, column in history.columns().items():
        np.testing.assert_allclose(column, expected.history_[name], rtol=1e-9)
    assert len(model.users_) == 0
    served = model.personalize(X.to_numpy(), y)
    np.testing.assert_allclose(served.predict(X.to_numpy()), expected.predict(X), rtol=1e-9)
    with pytest.raises(ValueError, match="items names 59 items, and the model has 60"):
        fitted_from(state, data.items.ids[1:], parts, history.columns())


# --- warnings ----------------------------------------------------------------------------------


def test_a_divergence_while_searching_points_at_the_search(table):
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    diverging = new(
        reconstruction="sgd", client_update=SGDUpdate(learning_rate=50.0), unknown_user="baseline"
    )
    X, y = table
    for call in (
        lambda: diverging.fit(X, y),
        lambda: make_pipeline(FunctionTransformer(), diverging).fit(X, y),
        lambda: cross_val_score(diverging, X, y, cv=2),
    ):
        with pytest.warns(ConvergenceWarning, match="diverged") as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}
