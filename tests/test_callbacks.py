"""scikit-learn's callbacks, and a user's own, see every round: alone and inside searches.

First those of the estimator, then those of the transformer.
"""

import io
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from sklearn_fedrecon import FederatedReconstructionMF, FederatedReconstructionTransformer
from sklearn_fedrecon.model_selection import ReconstructionScorer, UserKFold

callback = pytest.importorskip(
    "sklearn.callback", reason="callbacks came with scikit-learn 1.9", exc_type=ImportError
)

ROUNDS = 6


@pytest.fixture
def table(small_ratings):
    return small_ratings.data, small_ratings.target


@pytest.fixture
def model():
    return FederatedReconstructionMF(2, max_iter=ROUNDS, tol=None, random_state=0)


class StopAfter:
    """A user's own early stopping, by the number of the round."""

    def __init__(self, n_rounds):
        self.n_rounds = n_rounds

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        return context.parent is not None and context.task_id + 1 >= self.n_rounds


class StopWhenWorse(StopAfter):
    """A user's own early stopping, by the error on ratings that were set aside."""

    def __init__(self, X, y):
        self.X, self.y = X, y
        self.errors = []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.parent is None:  # the fit as a whole, which ends after the last round
            return False
        self.errors.append(np.mean((fitted_estimator.predict(self.X) - self.y) ** 2))
        return len(self.errors) > 1 and self.errors[-1] > self.errors[-2]


def scores_of_rounds(log, score="r2"):
    """Scores by round of every fit, in order."""
    fits = {}
    for row in log.data:
        if row["task_name"] == "round":
            fits.setdefault(row["parent_task_id_path"], []).append(row)
    return [
        [row[score] for row in sorted(rows, key=lambda r: r["task_id"])] for rows in fits.values()
    ]


def test_a_monitor_scores_the_model_of_every_round(model, table):
    monitor = callback.ScoringMonitor(scoring="r2")
    model.set_callbacks(monitor).fit(*table)
    (scores,) = scores_of_rounds(monitor.get_logs())
    expected = [
        FederatedReconstructionMF(2, max_iter=n, tol=None, random_state=0)
        .fit(*table)
        .score(*table)
        for n in range(1, ROUNDS + 1)
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_callbacks_change_nothing(model, table):
    plain = clone(model).fit(*table)
    model.set_callbacks(callback.ScoringMonitor(scoring="r2"), StopAfter(100)).fit(*table)
    np.testing.assert_array_equal(model.item_factors_, plain.item_factors_)
    np.testing.assert_array_equal(model.predict(table[0]), plain.predict(table[0]))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_callback_stops_after_the_round_it_says(model, table, early_stopping):
    model.set_params(early_stopping=early_stopping).set_callbacks(StopAfter(3)).fit(*table)
    assert model.n_iter_ == len(model.history_["round"]) == 3
    model.set_params(max_iter=3)
    stopped = model.predict(table[0])
    np.testing.assert_array_equal(stopped, clone(model).fit(*table).predict(table[0]))


def test_a_callback_stops_by_its_own_error(table):
    X, y = table
    aside = np.arange(len(y)) % 5 == 0
    stop = StopWhenWorse(X[aside], y[aside])
    model = FederatedReconstructionMF(8, max_iter=60, tol=None, random_state=0)
    model.set_callbacks(stop).fit(X[~aside], y[~aside])
    assert 1 < model.n_iter_ == len(stop.errors) < 60
    assert stop.errors[-1] > stop.errors[-2]
    assert (np.diff(stop.errors[:-1]) <= 0).all()
    last = np.mean((model.predict(X[aside]) - y[aside]) ** 2)
    assert last == pytest.approx(stop.errors[-1], rel=1e-6)


def search(model, n_jobs):
    return GridSearchCV(
        model,
        {"n_components": [0, 2]},
        cv=UserKFold(2, random_state=0),
        scoring=ReconstructionScorer(),
        n_jobs=n_jobs,
    )


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_callbacks_of_the_estimator_work_inside_a_search(model, table, n_jobs):
    monitor = callback.ScoringMonitor(scoring="r2")
    model.set_callbacks(monitor, StopAfter(4))
    grid = search(model, n_jobs).fit(*table)
    assert grid.best_estimator_.n_iter_ == 4
    scores = scores_of_rounds(monitor.get_logs())
    assert [len(rounds) for rounds in scores] == [4] * 5  # 2 candidates x 2 folds, and the refit
    assert all(len(set(rounds)) > 1 for rounds in scores)


def test_a_search_finds_the_same_with_and_without_workers(model, table):
    results = [
        search(clone(model).set_callbacks(StopAfter(4)), n_jobs).fit(*table).cv_results_
        for n_jobs in (1, 2)
    ]
    np.testing.assert_array_equal(*(result["mean_test_score"] for result in results))


@pytest.fixture
def shown(monkeypatch):
    """What a progress bar writes, read as text."""
    console = pytest.importorskip("rich.console", reason="progress bars need rich")
    output = io.StringIO()
    monkeypatch.setattr(
        "rich.progress.get_console",
        lambda: console.Console(file=output, force_terminal=True, width=120),
    )
    return lambda: re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.getvalue())


def test_a_progress_bar_counts_the_rounds(model, table, shown):
    model.set_callbacks(callback.ProgressBar()).fit(*table)
    last = shown().rstrip().splitlines()[-1]
    assert re.search(r"FederatedReconstructionMF.*fit.*100%", last)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_progress_bar_shows_a_search(model, table, n_jobs, shown):
    search(model, n_jobs).set_callbacks(callback.ProgressBar()).fit(*table)
    lines = shown().splitlines()
    assert any(re.search(r"GridSearchCV.*100%", line) for line in lines)
    assert any(re.search(r"FederatedReconstructionMF.*100%", line) for line in lines)


def test_callbacks_pass_through_cross_validation(model, table):
    scores = cross_val_score(
        model.set_callbacks(StopAfter(2)),
        *table,
        cv=UserKFold(2, random_state=0),
        scoring=ReconstructionScorer(),
    )
    short = clone(model).set_params(max_iter=2)
    expected = cross_val_score(
        short, *table, cv=UserKFold(2, random_state=0), scoring=ReconstructionScorer()
    )
    np.testing.assert_array_equal(scores, expected)


class Recorder(StopAfter):
    """Writes down what it is told, and never stops a fit."""

    def __init__(self):
        self.hooks, self.tables, self.fitted, self.max_subtasks = [], [], [], []

    def setup(self, estimator, context):
        self.hooks.append("setup")

    def teardown(self, estimator, context):
        self.hooks.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.hooks.append(f"begin {context.task_name} of {context.estimator_name}")
        self.max_subtasks.append(context.max_subtasks)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.hooks.append(f"end {context.task_name} of {context.estimator_name}")
        self.tables.append((X, y))
        self.fitted.append(fitted_estimator)


class FailAfter(StopAfter):
    def on_fit_task_end(self, estimator, context):
        if super().on_fit_task_end(estimator, context):
            raise RuntimeError("from the callback")


def completion_error(transformer, X, y):
    """Error of the ratings in X after `transform` and back."""
    completed = transformer.inverse_transform(transformer.transform(X))
    return np.sqrt(np.nanmean((completed - X) ** 2))


@pytest.fixture
def matrix(small_ratings):
    X = np.full((120, 60), np.nan)
    X[tuple(small_ratings.data.T)] = small_ratings.target
    return X


@pytest.fixture
def transformer():
    return FederatedReconstructionTransformer(2, max_iter=ROUNDS, tol=None, random_state=0)


@pytest.mark.parametrize(
    ("parameters", "max_rounds"),
    [
        ({}, ROUNDS),
        ({"early_stopping": True}, ROUNDS),
        ({"tol": 0.1, "n_iter_no_change": 1, "max_iter": 50}, 50),
        ({"clients_per_round": 0.5, "max_iter": None}, 20),
    ],
)
def test_callbacks_of_the_transformer_see_each_of_its_rounds_once(
    transformer, matrix, parameters, max_rounds
):
    recorder = Recorder()
    transformer.set_params(**parameters).set_callbacks(recorder).fit(matrix)
    name = "FederatedReconstructionTransformer"
    rounds = [f"begin round of {name}", f"end round of {name}"] * transformer.n_iter_
    expected = ["setup", f"begin fit of {name}", *rounds, f"end fit of {name}", "teardown"]
    assert recorder.hooks == expected
    assert recorder.max_subtasks == [max_rounds] + [0] * transformer.n_iter_
    assert 1 < transformer.n_iter_ < 50


def test_a_callback_gets_a_fitted_transformer_after_every_round(transformer, matrix):
    recorder, frame, y = Recorder(), pd.DataFrame(matrix), np.arange(120)
    transformer.set_callbacks(recorder).fit(frame, y)
    assert all(X is frame and labels is y for X, labels in recorder.tables)
    *after_rounds, at_the_end = recorder.fitted
    assert len(after_rounds) == ROUNDS
    for n_rounds, fitted in enumerate(after_rounds, start=1):
        short = clone(transformer).set_callbacks().set_params(max_iter=n_rounds).fit(frame)
        assert type(fitted) is FederatedReconstructionTransformer
        assert vars(fitted).keys() >= vars(short).keys()
        assert fitted.n_iter_ == len(fitted.history_["round"]) == n_rounds
        assert len(fitted.estimator_.users_) == 0
        np.testing.assert_array_equal(fitted.transform(frame), short.transform(frame))
        np.testing.assert_array_equal(fitted.components_, short.components_)
    np.testing.assert_array_equal(at_the_end.transform(frame), transformer.transform(frame))


def test_the_transformer_is_fitted_at_the_end_and_not_before(transformer, matrix):
    class Look(StopAfter):
        fitted_rounds = ()

        def on_fit_task_end(self, estimator, context):
            self.fitted_rounds += (getattr(estimator, "n_iter_", None),)

    look = Look(None)
    transformer.set_callbacks(look).fit(matrix)
    assert look.fitted_rounds == (*[None] * ROUNDS, ROUNDS)


def test_callbacks_of_the_transformer_change_nothing(transformer, matrix):
    plain = clone(transformer).fit(matrix)
    users = transformer.set_callbacks(Recorder()).fit_transform(matrix)
    np.testing.assert_array_equal(users, plain.transform(matrix))
    assert vars(transformer).keys() - {"_skl_callbacks"} == vars(plain).keys()
    assert type(transformer.estimator_) is FederatedReconstructionMF
    assert vars(transformer.estimator_).keys() == vars(plain.estimator_).keys()


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_callback_stops_the_transformer(transformer, matrix, early_stopping):
    transformer.set_params(early_stopping=early_stopping).set_callbacks(StopAfter(3))
    users = transformer.fit_transform(matrix)
    assert transformer.n_iter_ == len(transformer.history_["round"]) == 3
    short = clone(transformer).set_callbacks().set_params(max_iter=3).fit(matrix)
    np.testing.assert_array_equal(users, short.transform(matrix))
    np.testing.assert_array_equal(
        transformer.inverse_transform(users), short.inverse_transform(users)
    )


def test_an_error_in_a_callback_ends_the_fit_of_the_transformer(transformer, matrix):
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="from the callback"):
        transformer.set_callbacks(recorder, FailAfter(2)).fit(matrix)
    assert recorder.hooks[-1] == "teardown"
    assert not hasattr(transformer, "components_")
    assert transformer.set_callbacks(StopAfter(2)).fit(matrix).n_iter_ == 2


def pipeline_search(transformer, n_jobs):
    pipeline = make_pipeline(transformer, LogisticRegression())
    grid = {"federatedreconstructiontransformer__n_components": [1, 2]}
    return GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_callbacks_of_the_transformer_work_in_a_pipeline_in_a_search(transformer, matrix, n_jobs):
    monitor = callback.ScoringMonitor(scoring={"error": completion_error})
    transformer.set_callbacks(monitor, StopAfter(4))
    search = pipeline_search(transformer, n_jobs).fit(matrix, np.arange(120) % 2)
    best = search.best_estimator_[0]
    assert best.n_iter_ == 4
    scores = scores_of_rounds(monitor.get_logs(), "error")
    assert [len(rounds) for rounds in scores] == [4] * 5  # 2 candidates x 2 folds, and the refit
    assert all(len(set(rounds)) == 4 for rounds in scores)
    refit = pytest.approx(completion_error(best, matrix, None), rel=1e-6)
    assert sum(rounds[-1] == refit for rounds in scores) == 1


def test_a_progress_bar_counts_the_rounds_of_the_transformer(transformer, matrix, shown):
    transformer.set_callbacks(callback.ProgressBar()).fit(matrix)
    last = shown().rstrip().splitlines()[-1]
    assert re.search(r"FederatedReconstructionTransformer.*fit.*100%", last)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_progress_bar_reaches_the_transformer_in_a_search(transformer, matrix, n_jobs, shown):
    bar = callback.ProgressBar(max_propagation_depth=None)
    pipeline_search(transformer, n_jobs).set_callbacks(bar).fit(matrix, np.arange(120) % 2)
    lines = shown().splitlines()
    assert any(re.search(r"GridSearchCV.*100%", line) for line in lines)
    assert any(re.search(r"FederatedReconstructionTransformer.*100%", line) for line in lines)
