"""Fits on a cluster of dask: the same bits, ratings sent once, workers that die on the way.

The cluster is real: a scheduler, and two workers that are processes under their nannies.
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
from sklearn_fedrecon._distribution._dask import DaskWorkers
from sklearn_fedrecon._distribution._joblib import Caller
from sklearn_fedrecon.client_update import JointUpdate, VariationalUpdate
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.reconstruction import SGDReconstruction
from sklearn_fedrecon.server_optimizers import NaturalGradient

distributed = pytest.importorskip("distributed", reason="needs dask and distributed")
pytestmark = pytest.mark.filterwarnings("default")  # those of the event loop are not ours

PARTS = {
    "variational": {},
    "cohorts": {"clients_per_round": 60},
    "sgd": {"reconstruction": SGDReconstruction(learning_rate=0.01)},
    "joint": {"reconstruction": "ridge", "client_update": JointUpdate(learning_rate=0.01)},
}


@pytest.fixture(scope="module")
def client():
    import cloudpickle
    import dask

    this = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(this)  # workers cannot import it
    # Work that is stolen takes its ratings along: how much travels would be left to chance.
    with (
        dask.config.set({"distributed.scheduler.work-stealing": False}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
    cloudpickle.unregister_pickle_by_value(this)


@pytest.fixture
def two_workers(client):
    """The client of the cluster, with both of its workers, whoever died before."""
    client.wait_for_workers(2, timeout=30)
    return client


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)


@pytest.fixture(scope="module")
def table():
    return make_ratings(n_users=100, n_items=50, n_ratings=2500, random_state=0, return_X_y=True)


def new(**parameters):
    settings = {"n_components": 4, "max_iter": 3, "tol": None, "random_state": 0}
    return FederatedReconstructionMF(**settings | parameters)


def fit_on_dask(model, X, y):
    with parallel_config("dask"):
        return model.fit(X, y)


def assert_same_model(one, other):
    for name in ("item_factors_", "item_bias_", "user_factors_", "user_bias_", "users_"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("parameters", PARTS.values(), ids=PARTS)
def test_fit_has_the_same_bits(two_workers, table, parameters):
    expected = new(**parameters, n_jobs=1).fit(*table)
    assert_same_model(fit_on_dask(new(**parameters), *table), expected)


class Signing(VariationalUpdate):
    """Whoever computes an update leaves a file with its number."""

    def __init__(self, folder=None):
        self.folder = folder

    def update(self, ratings, users, model, context):
        with open(os.path.join(self.folder, str(os.getpid())), "a"):
            pass
        return super().update(ratings, users, model, context)


def test_all_workers_compute_and_nobody_else(two_workers, table, tmp_path):
    fit_on_dask(new(client_update=Signing(folder=str(tmp_path))), *table)
    signed = {int(name) for name in os.listdir(tmp_path)}
    assert signed == set(two_workers.run(os.getpid).values())


@pytest.mark.parametrize("n_jobs", [None, 2, -1, 1])
def test_who_computes(two_workers, n_jobs):
    with parallel_config("dask"):
        workers = _map.workers(n_jobs)
    assert type(workers) is (Caller if n_jobs == 1 else DaskWorkers)
    assert n_jobs == 1 or workers.n_workers == 2


def test_a_task_of_the_cluster_computes_itself(two_workers):
    def kind():
        with parallel_config("dask"):
            return type(_map.workers(2)).__name__

    assert two_workers.submit(kind).result() == "Caller"


def test_fits_of_a_search_are_tasks_themselves(two_workers, table):
    def search():
        splits = ShuffleSplit(2, random_state=0)
        return GridSearchCV(new(), {"n_components": [1, 3]}, cv=splits)

    expected = search().fit(*table)
    found = fit_on_dask(search(), *table)
    scores = found.cv_results_["mean_test_score"]
    # Workers do not see the small chunks of this process.
    np.testing.assert_allclose(scores, expected.cv_results_["mean_test_score"], rtol=1e-5)
    assert_same_model(found.best_estimator_, expected.best_estimator_)


# --- what travels ------------------------------------------------------------------------------


def bytes_written():
    """Bytes that this process has written to others since it was first asked."""
    from distributed.comm import tcp

    if not hasattr(tcp, "bytes_written"):
        tcp.bytes_written, write = 0, tcp.TCP.write

        async def counting(self, *arguments, **options):
            n_bytes = await write(self, *arguments, **options)
            tcp.bytes_written += n_bytes
            return n_bytes

        tcp.TCP.write = counting
    return tcp.bytes_written


def traffic_of(client, ratings, **parameters):
    """Bytes that processes write to each other in a fit of one round, and in each further one."""
    totals = []
    for max_iter in (1, 6):
        before = bytes_written() + sum(client.run(bytes_written).values())
        fit_on_dask(new(max_iter=max_iter, **parameters), *ratings)
        after = bytes_written() + sum(client.run(bytes_written).values())
        totals.append(after - before)
    return totals[0], (totals[1] - totals[0]) / 5


def test_what_a_round_sends_does_not_grow_with_the_ratings(two_workers, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 2000)
    first, further = [], []
    for n_users in (500, 4000):
        ratings = make_ratings(
            n_users=n_users, n_items=400, n_ratings=80 * n_users, random_state=0, return_X_y=True
        )
        n_bytes = traffic_of(two_workers, ratings, n_components=16)
        first.append(n_bytes[0])
        further.append(n_bytes[1])
    more_ratings = 80 * (4000 - 500) * 8
    assert first[1] - first[0] > more_ratings  # once
    assert further[1] - further[0] < more_ratings / 4


def test_of_a_cohort_only_positions_travel(two_workers, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 2000)
    ratings = make_ratings(
        n_users=4000, n_items=200, n_ratings=320_000, random_state=0, return_X_y=True
    )
    _, further = traffic_of(two_workers, ratings, clients_per_round=0.8)
    assert further < 0.8 * 320_000 * 8 / 2


# --- workers that die --------------------------------------------------------------------------


class Killing(NaturalGradient):
    """The server kills a worker, between the second round and the third."""

    def apply(self, model, aggregate, state, context):
        if context.round == 1:
            pids = distributed.default_client().run(os.getpid)
            os.kill(min(pids.values()), signal.SIGKILL)
        return super().apply(model, aggregate, state, context)


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
def test_a_worker_killed_between_rounds_loses_nothing(two_workers, table, settings):
    expected = new(**settings).fit(*table)
    pids = set(two_workers.run(os.getpid).values())
    model = fit_on_dask(new(**settings, server_optimizer=Killing()), *table)
    two_workers.wait_for_workers(2, timeout=30)
    assert len(pids & set(two_workers.run(os.getpid).values())) == 1
    assert_same_model(model, expected)


@pytest.mark.parametrize("settings", [{}, {"clients_per_round": 60}], ids=["all", "cohorts"])
def test_a_worker_killed_in_a_round_loses_nothing(two_workers, table, settings, tmp_path):
    expected = new(**settings).fit(*table)
    pids = set(two_workers.run(os.getpid).values())
    dying = Dying(path=str(tmp_path / "died"))
    model = fit_on_dask(new(**settings, client_update=dying), *table)
    two_workers.wait_for_workers(2, timeout=30)
    assert len(pids & set(two_workers.run(os.getpid).values())) == 1
    assert_same_model(model, expected)
