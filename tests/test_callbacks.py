"""scikit-learn's callbacks, and a user's own, see every round: alone and inside searches."""

import io
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklearn_fedrecon import FederatedReconstructionMF
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


def scores_of_rounds(log):
    """Scores by round of every fit, in order."""
    fits = {}
    for row in log.data:
        if row["task_name"] == "round":
            fits.setdefault(row["parent_task_id_path"], []).append(row)
    return [
        [row["r2"] for row in sorted(rows, key=lambda r: r["task_id"])] for rows in fits.values()
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
