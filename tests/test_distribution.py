"""Where chunks are computed must not show: how cohorts are cut, added up, placed and sent.

The engines of dask and ray have tests of their own, on clusters of processes. Here the part
that both share runs on an engine of this file, which forgets what it holds when it is told to.
"""

import os
import pickle
import threading
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from threadpoolctl import threadpool_info

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._distribution import ChunkMap, _chunks, _map
from sklearn_fedrecon._distribution._chunks import (
    concatenate,
    cut,
    cut_chunks,
    n_chunks,
    tree_sum,
)
from sklearn_fedrecon._distribution._joblib import Caller, JoblibWorkers
from sklearn_fedrecon._distribution._remote import PlacedRatings, RemoteWorkers
from sklearn_fedrecon._types import ClientRatings, is_mapped
from sklearn_fedrecon.client_update import JointUpdate
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.reconstruction import SGDReconstruction

N_ITEMS = 5


def some_ratings(n_clients=30, seed=0, *, weights=False, n_items=N_ITEMS):
    random = np.random.default_rng(seed)
    lengths = random.integers(0, n_items + 1, n_clients)
    n_ratings = lengths.sum()
    return ClientRatings(
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.concatenate([random.permutation(n_items)[:k] for k in lengths]).astype(np.int32),
        values=random.normal(3.5, 1.0, n_ratings),
        n_items=n_items,
        clients=10 * np.arange(n_clients),
        weights=random.uniform(0.5, 3, n_ratings) if weights else None,
    )


def assert_same_ratings(ratings, expected):
    for name in ("indptr", "items", "values", "clients", "weights", "scatter"):
        found, wanted = getattr(ratings, name), getattr(expected, name)
        assert (found is None) == (wanted is None), name
        if wanted is not None:
            assert found.dtype == wanted.dtype, name
            np.testing.assert_array_equal(found, wanted, err_msg=name)


def assert_same_model(one, other):
    for name in ("item_factors_", "item_bias_", "user_factors_", "user_bias_", "users_"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# --- how cohorts are cut and added up ----------------------------------------------------------


def nested(partials):
    """The tree of the sum, spelt out as its definition says."""
    if len(partials) == 1:
        return partials[0]
    half = 1 << (len(partials) - 1).bit_length() - 1
    return (nested(partials[:half]), nested(partials[half:]))


@pytest.mark.parametrize("n", range(1, 35))
def test_sums_are_added_as_a_tree(n):
    assert tree_sum(tuple, map(str, range(n))) == nested([str(number) for number in range(n)])


@pytest.mark.parametrize("n", range(1, 35))
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_the_tree_does_not_show_who_added_aligned_runs(n, width):
    partials = [str(number) for number in range(n)]
    runs = [partials[start : start + width] for start in range(0, n, width)]
    assert tree_sum(tuple, (tree_sum(tuple, run) for run in runs)) == tree_sum(tuple, partials)


def test_a_tree_is_better_than_a_row_of_sums():
    numbers = np.random.default_rng(0).random(2**14).astype(np.float32)
    exact = numbers.astype(np.float64).sum()
    row = np.float32(0)
    for number in numbers:
        row += number
    assert abs(tree_sum(sum, numbers) - exact) < abs(row - exact) / 10


@pytest.mark.parametrize("size", [10, 40, 300])
@pytest.mark.parametrize("n_workers", [1, 2, 3, 16])
def test_chunks_do_not_depend_on_the_workers(monkeypatch, size, n_workers):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", size)
    ratings = some_ratings(200)
    shards = cut(ratings.indptr, N_ITEMS, n_workers)
    spans = [(shard, ratings.span(shard.start, shard.stop)) for shard in shards]
    chunks = [chunk for shard, span in spans for chunk in shard.chunks(span)]
    expected = [ratings.span(*bounds) for bounds in pairwise(cut_chunks(ratings.indptr, N_ITEMS))]
    assert len(chunks) == len(expected) >= ratings.n_ratings / size / 2
    for chunk, wanted in zip(chunks, expected, strict=True):
        assert_same_ratings(chunk, wanted)
    widths = {len(shard.bounds) - 1 for shard in shards[:-1]}
    assert len(widths) <= 1
    assert all(width & (width - 1) == 0 for width in widths)
    assert len(shards) == len(expected) or 4 * n_workers < len(shards) <= 8 * n_workers


@pytest.mark.parametrize(
    ("n_ratings", "n_items", "expected"),
    [
        (0, 10, 1),
        (1, 10, 1),
        (1000, 10, 1),
        (1001, 10, 2),
        (2001, 10, 4),
        (4000, 8192, 4),
        (4000, 16384, 2),
        (4001, 16384, 4),
    ],
)
def test_chunks_are_as_many_as_a_power_of_two(monkeypatch, n_ratings, n_items, expected):
    """A large catalogue has larger ones, as each sends a sum for every item."""
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 1000)
    assert n_chunks(n_ratings, n_items) == expected


def test_chunks_are_even_shares_of_the_work(monkeypatch):
    """Clients with few ratings take longer than their ratings say."""
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 10_000)
    lengths = np.repeat([10, 500], [2000, 40])
    bounds = np.array(cut_chunks(np.concatenate([[0], np.cumsum(lengths)]), N_ITEMS))
    assert len(bounds) == 5
    ratings, clients = np.add.reduceat(lengths, bounds[:-1]), np.diff(bounds)
    loads = ratings + _chunks._CLIENT_LOAD * clients
    assert loads.max() < 1.02 * loads.mean()
    assert ratings.max() > 1.5 * ratings.mean()


def test_nobody_is_cut_into_no_chunks():
    assert cut_chunks(np.array([0]), N_ITEMS) == [0]


@pytest.mark.parametrize("weights", [False, True])
def test_pieces_of_ratings_are_put_together_again(weights):
    ratings = some_ratings(weights=weights)
    pieces = [ratings.span(0, 4), ratings.span(4, 5), ratings.span(5, 30)]
    assert_same_ratings(concatenate(pieces), ratings)
    assert concatenate(pieces[:1]) is pieces[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_cohort_is_found_in_the_shards(monkeypatch, seed):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 10)
    ratings = some_ratings(100, weights=True)
    placed = PlacedRatings(ratings, cut(ratings.indptr, N_ITEMS, 2))
    random = np.random.default_rng(seed)
    positions = np.flatnonzero(random.random(100) < random.uniform(0, 0.5))
    positions = np.union1d(positions, [99])
    pieces = placed.pieces(positions)
    assert len({number for number, _ in pieces}) == len(pieces)
    found = [placed.shard_ratings(number).take(within) for number, within in pieces]
    assert_same_ratings(concatenate(found), ratings.take(positions))


# --- workers of joblib -------------------------------------------------------------------------


def summed(chunk):
    """A step that shows its chunk."""
    return chunk.clients.tolist(), float(chunk.values.sum())


def added(pair):
    return pair[0] + pair[1]


@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing", None])
@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1])
def test_chunks_come_back_in_order(n_jobs, backend, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 3)
    ratings = some_ratings(150)
    bounds = cut_chunks(ratings.indptr, N_ITEMS)
    expected = [summed(ratings.span(*chunk)) for chunk in pairwise(bounds)]
    assert len(expected) > 32
    with parallel_config(backend) if backend else parallel_config(), ChunkMap(n_jobs) as mapper:
        placed = mapper.place(ratings)
        assert list(mapper(summed, ratings)) == expected
        assert list(mapper(summed, placed)) == expected  # the pool serves all rounds
        [total] = mapper.summed(added)(summed, placed)
    assert total == tree_sum(added, expected)


@pytest.mark.parametrize(
    ("context", "n_jobs", "kind", "threads"),
    [
        ({}, None, Caller, None),
        ({}, 1, Caller, None),
        ({}, 2, JoblibWorkers, True),
        ({"n_jobs": 2}, None, JoblibWorkers, True),
        ({"backend": "threading", "n_jobs": 2}, None, JoblibWorkers, True),
        ({"backend": "threading"}, None, Caller, None),
        ({"backend": "loky"}, None, Caller, None),
        ({"backend": "loky"}, 2, JoblibWorkers, False),
        ({"backend": "loky", "n_jobs": 2}, None, JoblibWorkers, False),
        ({"backend": "loky", "n_jobs": 2}, 1, Caller, None),
        ({"backend": "sequential", "n_jobs": 2}, None, Caller, None),
    ],
)
def test_who_computes(context, n_jobs, kind, threads):
    with parallel_config(**context):
        workers = _map.workers(n_jobs)
    assert type(workers) is kind
    assert getattr(workers, "_threads", None) == threads


def blas_threads(chunk):
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_step_has_one_blas_thread(n_jobs, backend, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 10)
    with parallel_config(backend), ChunkMap(n_jobs) as mapper:
        threads = list(mapper(blas_threads, some_ratings()))
    assert len(threads) > 1
    assert {number for chunk in threads for number in chunk} == {1}


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_what_is_too_small_to_share_stays_with_the_caller(backend):
    here = threading.current_thread()
    with parallel_config(backend), ChunkMap(2) as mapper:
        ratings = some_ratings()
        assert mapper.place(ratings) is ratings
        assert list(mapper(lambda _: threading.current_thread(), ratings)) == [here]
        total = mapper.summed(None)(lambda _: threading.current_thread(), ratings)
        assert total == [here]


def test_threads_read_the_ratings_where_they_are(monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 10)
    with ChunkMap(2) as mapper:
        ratings = some_ratings()
        assert mapper.place(ratings) is ratings


def test_processes_read_the_ratings_from_a_file(monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 10)
    ratings = some_ratings(weights=True)
    with parallel_config("loky"), ChunkMap(2) as mapper:
        placed = mapper.place(ratings)
        assert_same_ratings(placed, ratings)
        assert isinstance(placed.items, np.memmap)
        path = Path(placed.items.filename)
        assert path.exists()
        with pytest.raises(ValueError, match="read-only"):
            placed.values[0] = 1
    assert not path.exists()


PARTS = {
    "variational": {},
    "cohorts": {"clients_per_round": 60},
    "ridge": {"reconstruction": "ridge"},
    "gradient": {"reconstruction": "ridge", "client_update": "gradient"},
    "sgd": {"reconstruction": SGDReconstruction(learning_rate=0.01)},
    "joint": {"reconstruction": "ridge", "client_update": JointUpdate(learning_rate=0.01)},
}


@pytest.fixture(scope="module")
def table():
    return make_ratings(n_users=100, n_items=50, n_ratings=2500, random_state=0, return_X_y=True)


def new(**parameters):
    settings = {"n_components": 4, "max_iter": 3, "tol": None, "random_state": 0}
    return FederatedReconstructionMF(**settings | parameters)


@pytest.mark.parametrize(("backend", "n_jobs"), [("threading", 2), ("threading", 3), ("loky", 2)])
@pytest.mark.parametrize("parameters", PARTS.values(), ids=PARTS)
def test_fit_has_the_same_bits(table, monkeypatch, parameters, n_jobs, backend):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)
    expected = new(**parameters, n_jobs=1).fit(*table)
    with parallel_config(backend):
        model = new(**parameters, n_jobs=n_jobs).fit(*table)
    assert_same_model(model, expected)


def test_partial_fit_has_the_same_bits(table, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)
    X, y = table
    first = X[:, 0] < 60
    models = []
    for n_jobs in (1, 2):
        model = new(n_jobs=n_jobs).partial_fit(X[first], y[first])
        models.append(model.partial_fit(X[~first], y[~first]))
    assert_same_model(*models)


def test_early_stopping_has_the_same_bits(table, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)
    settings = {"early_stopping": True, "max_iter": 10, "tol": 1e-3}
    expected = new(**settings).fit(*table)
    with parallel_config("loky", n_jobs=2):
        assert_same_model(new(**settings).fit(*table), expected)


@pytest.mark.parametrize("name", ["variational", "sgd", "joint"])
def test_processes_are_sent_a_large_model(table, monkeypatch, name):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)
    monkeypatch.setattr(_chunks, "_MANY_ITEMS", 10**6)
    catalogue = np.arange(70_000)  # of 4 components in float32: 1.1 MB
    expected = new(**PARTS[name], items=catalogue).fit(*table)
    with parallel_config("loky"):
        model = new(**PARTS[name], items=catalogue, n_jobs=2).fit(*table)
    assert model.item_factors_.nbytes > 2**20
    assert_same_model(model, expected)


def test_what_processes_are_sent_is_no_file_that_another_may_delete(monkeypatch):
    """joblib would map the array, and lose the file between two calls that send the same."""
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 10)
    large = np.zeros(2**18)  # 2 MB
    with parallel_config("loky", n_jobs=2, max_nbytes="1M"), ChunkMap() as mapper:
        ratings = mapper.place(some_ratings())
        for _ in range(2):
            mapped = list(mapper(partial(which_are_mapped, large=large), ratings))
            assert len(mapped) > 1
            assert mapped == [(True, False)] * len(mapped)


def which_are_mapped(ratings, large):
    return is_mapped(ratings.items), is_mapped(large)


def test_processes_are_those_of_other_calls(monkeypatch):
    """With settings of our own, joblib would end its processes and start others."""
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 10)
    with parallel_config("loky", n_jobs=2):
        before = set(Parallel()(delayed(process)() for _ in range(20)))
        with ChunkMap() as mapper:
            ours = set(mapper(process, mapper.place(some_ratings())))
        after = set(Parallel()(delayed(process)() for _ in range(20)))
    assert os.getpid() not in ours
    assert len(before | ours | after) == 2


def process(*_):
    time.sleep(0.01)  # so that there is work for both
    return os.getpid()


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_fits_of_a_search_may_share_their_rounds(backend):
    X, y = make_ratings(
        n_users=2000, n_items=500, n_ratings=550_000, random_state=0, return_X_y=True
    )
    assert len(y) > 2 * _chunks.CHUNK_SIZE  # other processes would not see it patched

    def search(n_jobs, n_inner):
        grid = {"n_components": [1, 2]}
        splits = ShuffleSplit(1, test_size=0.01, random_state=0)
        return GridSearchCV(new(n_jobs=n_inner), grid, cv=splits, n_jobs=n_jobs).fit(X, y)

    expected = search(None, None)
    with parallel_config(backend):
        found = search(2, 2)
    scores = found.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores, expected.cv_results_["mean_test_score"])
    assert_same_model(found.best_estimator_, expected.best_estimator_)


# --- what dask and ray share -------------------------------------------------------------------


class Lost(Exception):
    """A worker is gone, and what it held with it."""


class Cluster(RemoteWorkers):
    """Two workers that are dictionaries; whatever is sent to them is pickled and weighed.

    Parameters
    ----------
    dies : dict of int to int
        Which worker forgets everything before which task, counted from 0.
    """

    n_workers = 2
    lost = (Lost,)

    def __init__(self, dies=None):
        super().__init__()
        self.dies = dict(dies or {})
        self.memory = {}
        self.sent = {"ratings": [], "jobs": [], "arguments": [], "results": []}
        self.n_tasks = 0

    def _store(self, worker, data, kind):
        self.sent[kind].append(len(data))
        name = (worker, object())
        self.memory[name] = data
        return name

    def _send(self, pieces):
        halves = np.repeat([0, 1], [len(pieces) // 2, len(pieces) - len(pieces) // 2])
        pairs = zip(halves.tolist(), pieces, strict=True)
        return [self._store(home, pickle.dumps(piece), "ratings") for home, piece in pairs]

    def _broadcast(self, job):
        return self._store(0, pickle.dumps(job), "jobs")

    def _submit(self, task, *arguments):
        worker = self.n_tasks % 2
        if self.n_tasks in self.dies:
            gone = self.dies.pop(self.n_tasks)
            self.memory = {name: data for name, data in self.memory.items() if name[0] != gone}
        self.n_tasks += 1
        plain = [argument for argument in arguments if not self._is_handle(argument)]
        self.sent["arguments"].append(len(pickle.dumps(plain)))
        held = [self._load(a) if self._is_handle(a) else a for a in arguments]
        name = (worker, object())
        self.memory[name] = pickle.dumps(task(*held))
        return name

    @staticmethod
    def _is_handle(argument):
        return isinstance(argument, tuple) and len(argument) == 2 and type(argument[1]) is object

    def _load(self, handle):
        if handle not in self.memory:
            raise Lost
        return pickle.loads(self.memory[handle])

    def _fetch(self, handles):
        self.sent["results"] += [len(self.memory.get(handle, "")) for handle in handles]
        return [self._load(handle) for handle in handles]

    def _is_lost(self, handle):
        return handle not in self.memory


def fit_on(cluster, monkeypatch, table, **parameters):
    monkeypatch.setattr(_map, "workers", lambda n_jobs: cluster)
    return new(**parameters).fit(*table)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("parameters", PARTS.values(), ids=PARTS)
def test_a_cluster_gives_the_same_bits(table, monkeypatch, parameters):
    expected = new(**parameters).fit(*table)
    model = fit_on(cluster := Cluster(), monkeypatch, table, **parameters)
    assert cluster.n_tasks > 0
    assert_same_model(model, expected)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("settings", [{}, {"clients_per_round": 60}])
def test_ratings_are_sent_once_a_fit(table, monkeypatch, settings):
    sent = []
    for max_iter in (1, 5):
        cluster = Cluster()
        fit_on(cluster, monkeypatch, table, max_iter=max_iter, **settings)
        sent.append(cluster.sent)
    assert sent[0]["ratings"] == sent[1]["ratings"]
    assert sum(sent[0]["ratings"]) > 2500 * 8
    assert [len(one["jobs"]) for one in sent] == [
        4,
        8,
    ]  # with two exchanges before, and a rebuilding after


@pytest.mark.usefixtures("small_chunks")
def test_what_a_round_sends_does_not_grow_with_the_ratings(monkeypatch):
    traffic = []
    for n_users in (400, 1600):
        ratings = make_ratings(
            n_users=n_users, n_items=50, n_ratings=20 * n_users, random_state=0, return_X_y=True
        )
        sums = []
        for max_iter in (1, 5):
            cluster = Cluster()
            fit_on(cluster, monkeypatch, ratings, max_iter=max_iter)
            sums.append({kind: sum(sizes) for kind, sizes in cluster.sent.items()})
        traffic.append({kind: sums[1][kind] - sums[0][kind] for kind in sums[0]})
    few, many = traffic
    assert few["ratings"] == many["ratings"] == 0
    assert few["jobs"] > 0
    assert many["jobs"] == pytest.approx(few["jobs"], rel=0.01)
    assert many["results"] == pytest.approx(few["results"], rel=0.01)
    # How a shard is cut into chunks: a number a chunk.
    assert many["arguments"] - few["arguments"] < 4 * 10 * (1600 - 400) * 20 / 100


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("settings", [{}, {"clients_per_round": 60}])
@pytest.mark.parametrize("worker", [0, 1])
@pytest.mark.parametrize("task", [0, 17, 30, 60])
def test_a_worker_that_dies_loses_nothing(table, monkeypatch, settings, worker, task):
    expected = new(**settings).fit(*table)
    cluster = Cluster(dies={task: worker})
    monkeypatch.setattr("sklearn_fedrecon._distribution._remote._PAUSE", 0)
    model = fit_on(cluster, monkeypatch, table, **settings)
    assert not cluster.dies, "nobody died"
    assert_same_model(model, expected)
    fit_on(healthy := Cluster(), monkeypatch, table, **settings)
    n_shards = len(healthy.sent["ratings"])
    assert n_shards < len(cluster.sent["ratings"]) < 2 * n_shards  # what it held, no more


@pytest.mark.usefixtures("small_chunks")
def test_a_cluster_that_loses_everything_is_given_up(table, monkeypatch):
    class Hopeless(Cluster):
        def _fetch(self, handles):
            raise Lost

    monkeypatch.setattr("sklearn_fedrecon._distribution._remote._PAUSE", 0)
    cluster = Hopeless()
    with pytest.raises(Lost):
        fit_on(cluster, monkeypatch, table)
    assert len(cluster.sent["jobs"]) == 10


@pytest.mark.usefixtures("small_chunks")
def test_an_error_in_a_step_is_not_tried_again(table, monkeypatch):
    class Broken(Cluster):
        def _submit(self, task, *arguments):
            raise ZeroDivisionError

    cluster = Broken()
    with pytest.raises(ZeroDivisionError):
        fit_on(cluster, monkeypatch, table)
    assert len(cluster.sent["jobs"]) == 1


def test_a_small_cohort_stays_with_the_caller(table, monkeypatch):
    expected = new(clients_per_round=3).fit(*table)
    cluster = Cluster()
    model = fit_on(cluster, monkeypatch, table, clients_per_round=3)
    assert cluster.n_tasks == 0
    assert_same_model(model, expected)


def test_a_small_cohort_of_many_clients_stays_with_the_caller(table, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 500)
    expected = new(clients_per_round=10).fit(*table)
    cluster = Cluster()
    model = fit_on(cluster, monkeypatch, table, clients_per_round=10)
    assert len(cluster.sent["jobs"]) == 3  # exchanges, and rebuilding all users in the end
    assert_same_model(model, expected)


@pytest.mark.usefixtures("small_chunks")
def test_served_users_are_shared_too(table, monkeypatch):
    X, y = table
    server = new().fit(X, y).forget_users()
    expected = server.personalize(X, y)
    monkeypatch.setattr(_map, "workers", lambda n_jobs: cluster)
    cluster = Cluster()
    assert_same_model(server.personalize(X, y), expected)
    assert cluster.n_tasks > 0


def test_records_know_their_size():
    """Engines place tasks by the size of what they need; a dataclass would count for nothing."""
    ratings = some_ratings()
    arrays = (ratings.indptr, ratings.items, ratings.values, ratings.clients)
    assert ratings.__sizeof__() == sum(array.nbytes for array in arrays)
    doubled = replace(ratings, weights=ratings.values)
    assert doubled.__sizeof__() == ratings.__sizeof__() + ratings.values.nbytes
