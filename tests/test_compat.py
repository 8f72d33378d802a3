"""Callbacks in a round loop, where scikit-learn has them and where not; the BLAS limit."""

import threading
from typing import ClassVar

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GridSearchCV
from sklearn.utils.fixes import parse_version
from threadpoolctl import threadpool_info, threadpool_limits

from sklearn_fedrecon._compat import (
    CallbackSupportMixin,
    FitCallbacks,
    _fit_context,
    single_threaded_blas,
)

needs_callbacks = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="callbacks came with scikit-learn 1.9",
)
X, y = np.zeros((6, 1)), np.arange(6.0)


class Loop(CallbackSupportMixin, RegressorMixin, BaseEstimator):
    """Predicts the number of rounds; written as the docstring of `_compat` says."""

    _parameter_constraints: ClassVar = {"max_iter": [int]}

    def __init__(self, max_iter=4):
        self.max_iter = max_iter

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        callbacks = FitCallbacks(self, self.max_iter, X=X, y=y, sample_weight=sample_weight)
        for number in range(self.max_iter):
            callbacks.round_begin()
            if callbacks.round_end(lambda: {"n_iter_": number + 1}):  # noqa: B023
                break
        self.n_iter_ = number + 1
        callbacks.fit_end()
        return self

    def predict(self, X):
        return np.full(len(X), float(self.n_iter_))


def named(context):
    """Name of a task, of rounds with the number, which is not in the name."""
    return f"round {context.task_id}" if context.task_name == "round" else context.task_name


class Recorder:
    """Notes every call; asks to stop after a number of rounds."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.calls = []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(f"begin {named(context)}")

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.calls.append(f"end {named(context)}")
        self.seen = X, y, metadata
        self.estimator = fitted_estimator
        is_round = context.task_name == "round"
        self.unfitted = not hasattr(estimator, "n_iter_") if is_round else self.unfitted
        return is_round and fitted_estimator.n_iter_ == self.stop_after


def test_loop_without_callbacks():
    assert Loop().fit(X, y).n_iter_ == 4


@needs_callbacks
def test_hooks_are_called_in_order_around_every_round():
    recorder, weights = Recorder(), np.ones(6)
    model = Loop(max_iter=2).set_callbacks(recorder).fit(X, y, sample_weight=weights)
    rounds = ["begin round 0", "end round 0", "begin round 1", "end round 1"]
    assert recorder.calls == ["setup", "begin fit", *rounds, "end fit", "teardown"]
    assert recorder.seen[0] is X
    assert recorder.seen[1] is y
    assert recorder.seen[2] == {"sample_weight": weights}
    assert recorder.unfitted
    assert recorder.estimator is not model
    assert recorder.estimator.predict(X).tolist() == [2.0] * 6


@needs_callbacks
def test_callback_can_stop_the_fit():
    recorder = Recorder(stop_after=3)
    assert Loop(max_iter=9).set_callbacks(recorder).fit(X, y).n_iter_ == 3
    assert recorder.calls[-3:] == ["end round 2", "end fit", "teardown"]


@needs_callbacks
def test_callbacks_are_torn_down_after_an_error():
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("from the callback")

    failing = Failing()
    with pytest.raises(RuntimeError, match="from the callback"):
        Loop().set_callbacks(failing).fit(X, y)
    assert failing.calls == ["setup", "begin fit", "begin round 0", "teardown"]


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_monitor_follows_every_round_of_a_search(n_jobs):
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring="neg_mean_absolute_error")
    loop = Loop().set_callbacks(monitor)
    search = GridSearchCV(loop, {"max_iter": [2, 3]}, cv=2, n_jobs=n_jobs).fit(X, y)
    rows = monitor.get_logs().data
    loops = [row for row in rows if row["estimator_name"] == "Loop"]
    assert {row["task_name"] for row in loops} <= {"fit", "round"}
    names = [row["task_id"] for row in loops if row["task_name"] == "round"]
    best = search.best_params_["max_iter"]
    for number, count in ((0, 5), (1, 5), (2, 2 + (best == 3))):
        assert names.count(number) == count


def test_estimator_without_support_has_no_hooks():
    callbacks = FitCallbacks(BaseEstimator(), 3)
    callbacks.round_begin()
    assert callbacks.round_end(lambda: pytest.fail("nobody asked")) is False
    callbacks.fit_end()
    assert not callbacks.active


def blas_threads():
    """Thread limits of the loaded BLAS libraries."""
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("this BLAS does not take two threads")
        yield


@pytest.mark.usefixtures("two_threads")
def test_blas_is_limited_inside_only():
    with single_threaded_blas():
        assert blas_threads() == {1}
        with single_threaded_blas():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with pytest.raises(RuntimeError), single_threaded_blas():
        raise RuntimeError
    assert blas_threads() == {2}


def test_fits_that_overlap_in_threads_restore_the_limit_of_blas():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before, first_in, second_in = threads(), threading.Event(), threading.Event()

    def first():
        with single_threaded_blas():
            first_in.set()
            second_in.wait(10)

    def second():
        first_in.wait(10)
        with single_threaded_blas():
            second_in.set()
            worker.join(10)  # the first one in is the first one out
            assert threads() == [1] * len(before)

    worker = threading.Thread(target=first)
    worker.start()
    second()
    assert threads() == before
