"""Fits on a cluster of ray: the same bits, ratings sent once, a worker that dies on the way.

Starting ray takes as long as many of the other tests together, so pytest does not look for
tests in a file of this name: run them by ``python -m pytest tests/on_ray.py``.
"""

import os
import signal
import sys

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, ShuffleSplit

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._distribution import _chunks, _map
from sklearn_fedrecon._distribution._joblib import Caller
from sklearn_fedrecon._distribution._ray import RayWorkers
from sklearn_fedrecon.client_update import JointUpdate, VariationalUpdate
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.reconstruction import SGDReconstruction

pytestmark = pytest.mark.filterwarnings("default")  # those of ray are not ours

PARTS = {
    "variational": {},
    "cohorts": {"clients_per_round": 60},
    "sgd": {"reconstruction": SGDReconstruction(learning_rate=0.01)},
    "joint": {"reconstruction": "ridge", "client_update": JointUpdate(learning_rate=0.01)},
}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Ray with two workers; nothing of it is written outside its temporary folder."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray = pytest.importorskip("ray", reason="needs ray")
        from ray import cloudpickle
        from ray.util.joblib import register_ray

        this = sys.modules[__name__]
        cloudpickle.register_pickle_by_value(this)  # workers cannot import it
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        register_ray()
        yield ray
        ray.shutdown()
        cloudpickle.unregister_pickle_by_value(this)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)


@pytest.fixture(scope="module")
def table():
    return make_ratings(n_users=100, n_items=50, n_ratings=2500, random_state=0, return_X_y=True)


def new(**parameters):
    settings = {"n_components": 4, "max_iter": 3, "tol": None, "random_state": 0}
    return FederatedReconstructionMF(**settings | parameters)


def fit_on_ray(model, X, y):
    with parallel_config("ray", n_jobs=-1):
        return model.fit(X, y)


def assert_same_model(one, other):
    for name in ("item_factors_", "item_bias_", "user_factors_", "user_bias_", "users_"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("parameters", PARTS.values(), ids=PARTS)
def test_fit_has_the_same_bits(table, parameters):
    expected = new(**parameters, n_jobs=1).fit(*table)
    assert_same_model(fit_on_ray(new(**parameters), *table), expected)


@pytest.mark.parametrize(
    ("n_jobs", "kind"), [(None, Caller), (1, Caller), (2, RayWorkers), (-1, RayWorkers)]
)
def test_who_computes(n_jobs, kind):
    with parallel_config("ray"):
        workers = _map.workers(n_jobs)
    assert type(workers) is kind
    assert kind is Caller or workers.n_workers == 2


class Signing(VariationalUpdate):
    """Whoever computes an update leaves a file with its number."""

    def __init__(self, folder=None):
        self.folder = folder

    def update(self, ratings, users, model, context):
        with open(os.path.join(self.folder, str(os.getpid())), "a"):
            pass
        return super().update(ratings, users, model, context)


def test_other_processes_compute(table, tmp_path):
    fit_on_ray(new(client_update=Signing(folder=str(tmp_path))), *table)
    signed = set(os.listdir(tmp_path))
    assert signed
    assert str(os.getpid()) not in signed


def test_fits_of_a_search_are_tasks_themselves(table):
    def search():
        splits = ShuffleSplit(2, random_state=0)
        return GridSearchCV(new(), {"n_components": [1, 3]}, cv=splits)

    expected = search().fit(*table)
    found = fit_on_ray(search(), *table)
    scores = found.cv_results_["mean_test_score"]
    # Workers do not see the small chunks of this process.
    np.testing.assert_allclose(scores, expected.cv_results_["mean_test_score"], rtol=1e-5)
    assert_same_model(found.best_estimator_, expected.best_estimator_)


# --- what travels ------------------------------------------------------------------------------


def traffic_of(ray, ratings, **parameters):
    """Bytes put into the store and got from it in a fit of one round, and in each further one."""
    from ray import cloudpickle

    totals = []
    for max_iter in (1, 6):
        n_bytes = []
        put, get = ray.put, ray.get

        def counted_put(value, put=put, n_bytes=n_bytes):
            n_bytes.append(len(cloudpickle.dumps(value)))
            return put(value)

        def counted_get(handles, get=get, n_bytes=n_bytes):
            values = get(handles)
            n_bytes.append(len(cloudpickle.dumps(values)))
            return values

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray, "put", counted_put)
            patch.setattr(ray, "get", counted_get)
            fit_on_ray(new(max_iter=max_iter, **parameters), *ratings)
        totals.append(sum(n_bytes))
    return totals[0], (totals[1] - totals[0]) / 5


@pytest.mark.parametrize("settings", [{}, {"clients_per_round": 0.8}], ids=["all", "cohorts"])
def test_what_a_round_sends_does_not_grow_with_the_ratings(cluster, monkeypatch, settings):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 2000)
    first, further = [], []
    for n_users in (500, 2000):
        ratings = make_ratings(
            n_users=n_users, n_items=200, n_ratings=80 * n_users, random_state=0, return_X_y=True
        )
        n_bytes = traffic_of(cluster, ratings, **settings)
        first.append(n_bytes[0])
        further.append(n_bytes[1])
    assert first[1] - first[0] > 80 * 1500 * 8  # once
    assert further[1] == pytest.approx(further[0], rel=0.01)


# --- a worker that dies ------------------------------------------------------------------------


class Dying(VariationalUpdate):
    """The first worker that comes to the second round dies in the middle of it."""

    def __init__(self, path=None):
        self.path = path

    def update(self, ratings, users, model, context):
        if context.round == 1:
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().update(ratings, users, model, context)


@pytest.mark.parametrize("settings", [{}, {"clients_per_round": 60}], ids=["all", "cohorts"])
def test_a_worker_killed_in_a_round_loses_nothing(table, settings, tmp_path):
    expected = new(**settings).fit(*table)
    path = tmp_path / "died"
    model = fit_on_ray(new(**settings, client_update=Dying(path=str(path))), *table)
    assert path.exists()
    assert_same_model(model, expected)
