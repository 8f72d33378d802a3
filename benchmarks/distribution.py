"""Rounds with all clients on workers of joblib, dask and ray: seconds, and what travels.

All engines have a worker for each core of this machine and alternate; ratings have been placed
with the workers before. CPU seconds are those of this process and of all that it started: they
say what an engine costs on a machine that has other things to do as well. Bytes on dask are
those that all processes write to each other; on ray, those put into its store and got from it,
as several workers of a machine share one copy there. Engines that are not installed are left
out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from joblib import parallel_config

from sklearn_fedrecon._distribution import ChunkMap
from sklearn_fedrecon._types import ClientRatings
from sklearn_fedrecon.datasets import make_ratings

from ._data import encoded, table
from ._table import Table
from .round import Round

WORKERS = os.cpu_count() or 1
RATINGS = (500_000, 1_000_000, 4_000_000)
ITEMS = 3706
IN_A_ROW = 4  # rounds of an engine's turn that are timed, after one that is not
MEGA = 1e6


def run(options) -> Iterator[Table]:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with ExitStack() as stack:
        engines = {"one thread": ({}, 1), "threads": ({}, -1), "loky": ({"backend": "loky"}, -1)}
        client = stack.enter_context(dask_cluster())
        ray = stack.enter_context(ray_cluster())
        engines |= {"dask": ({"backend": "dask"}, -1)} if client else {}
        engines |= {"ray": ({"backend": "ray"}, -1)} if ray else {}
        yield seconds(options, engines)
        meters = {"dask": lambda: written(client)} if client else {}
        meters |= {"ray": stack.enter_context(counted(ray))} if ray else {}
        yield megabytes(options, engines, meters)


@contextmanager
def dask_cluster() -> Iterator:
    """Client of a cluster with a process for each core; None without dask."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        yield None
        return
    settings = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**settings, silence_logs=50) as cluster, Client(cluster) as client:
        yield client


@contextmanager
def ray_cluster() -> Iterator:
    """The module of ray, started with a worker for each core; None without ray."""
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        yield None
        return
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    register_ray()
    yield ray
    ray.shutdown()


class PlacedRound(Round):
    """A round over and over, of ratings that the workers of an engine have."""

    def __init__(self, ratings: ClientRatings, n_components: int, mapper: ChunkMap):
        super().__init__(ratings, n_components)
        self.ratings, self.mapper = mapper.place(ratings), mapper

    def __call__(self) -> None:
        self.run(self.mapper)


def seconds(options, engines: dict) -> Table:
    """Wall seconds of a round, for each engine."""
    repeats, load = options.repeats or 5, os.getloadavg()[0]
    result = Table(
        f"Seconds of a round, wall and CPU, {WORKERS} workers, medians of {repeats}",
        ["ratings", "items", "n_components", "seconds", *engines],
    )
    for n_ratings in options.ratings or (*RATINGS, *([20_000_000] if options.large else [])):
        X, y, _ = table(options, n_ratings)
        ratings = encoded(X, y).by_length()
        del X, y
        for k in options.components or (16, 64):
            with ExitStack() as stack:
                rounds = {
                    engine: PlacedRound(ratings, k, stack.enter_context(mapper(*settings)))
                    for engine, settings in engines.items()
                }
                walls, cpus = alternate(rounds, repeats)
            what = ratings.n_ratings, int(ratings.n_items), k
            result.rows += [[*what, "wall", *walls], [*what, "CPU", *cpus]]
    result.notes.append(
        "placing the ratings is not counted; the bits are the same: see tests; load average of "
        f"the machine when it began: {load:.1f}"
    )
    return result


def alternate(rounds: dict[str, PlacedRound], repeats: int) -> tuple[list, list]:
    """Medians of wall and CPU seconds of each engine, which take turns."""
    taken = {engine: [] for engine in rounds}
    for _ in range(repeats):
        for engine, one in rounds.items():
            one()
            cpu, wall = cpu_of_family(), time.perf_counter()
            for _ in range(IN_A_ROW):
                one()
            spent = time.perf_counter() - wall, cpu_of_family() - cpu
            taken[engine].append(np.divide(spent, IN_A_ROW))
    medians = [np.median(values, axis=0).tolist() for values in taken.values()]
    return tuple(map(list, zip(*medians, strict=True)))


def cpu_of_family() -> float:
    """CPU seconds of this process and all that descend from it, on Linux, in hundredths."""
    parents, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended by now
            fields = path.read_text().rpartition(") ")[2].split()
            pid, ticks = int(path.parent.name), int(fields[11]) + int(fields[12])
            parents[pid], seconds[pid] = int(fields[1]), ticks / os.sysconf("SC_CLK_TCK")
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(seconds[pid] for pid in family)


@contextmanager
def mapper(context: dict, n_jobs: int) -> Iterator[ChunkMap]:
    """A map over chunks on the engine that a joblib context asks for."""
    with parallel_config(**context), ChunkMap(n_jobs) as opened:
        yield opened


def megabytes(options, engines: dict, meters: dict[str, Callable[[], int]]) -> Table:
    """Bytes that travel when ratings are placed, and in every round after that."""
    result = Table(
        f"What travels, MB, {WORKERS} workers, catalogue of {ITEMS:,} items",
        ["engine", "ratings", "their size", "n_components", "model", "sums", "once", "a round"],
    )
    for n_ratings in RATINGS:
        X, y = make_ratings(n_ratings // 165, ITEMS, n_ratings, random_state=0, return_X_y=True)
        ratings = encoded(X, y).by_length()
        size = (ratings.items.nbytes + ratings.values.nbytes) / MEGA
        for k in options.components or (16, 64):
            for engine, meter in meters.items():
                with mapper(*engines[engine]) as opened:
                    one = PlacedRound(ratings, k, opened)
                    first, further = traffic(one, meter)
                model, sums = ITEMS * (2 * k + 2) * 4 / MEGA, ITEMS * (k + 2) * 8 / MEGA
                once = (first - further) / MEGA
                row = [engine, len(y), size, k, model, sums, once, further / MEGA]
                result.rows.append(row)
    result.notes.append("model: one copy, float32; sums: those of one chunk, float64")
    return result


def traffic(one: PlacedRound, meter: Callable[[], int], rounds: int = 5) -> tuple[int, int]:
    """Bytes of the first round, which places the ratings, and of a further one."""
    before = meter()
    one()
    first = meter()
    for _ in range(rounds):
        one()
    return first - before, (meter() - first) // rounds


def written(client) -> int:
    """Bytes that the processes of a dask cluster have written since this was first asked."""
    return bytes_written() + sum(client.run(bytes_written).values())


def bytes_written() -> int:
    """Bytes that this process has written since it was first asked."""
    from distributed.comm import tcp

    if not hasattr(tcp, "bytes_written"):
        tcp.bytes_written, write = 0, tcp.TCP.write

        async def counting(self, *arguments, **options):
            n_bytes = await write(self, *arguments, **options)
            tcp.bytes_written += n_bytes
            return n_bytes

        tcp.TCP.write = counting
    return tcp.bytes_written


@contextmanager
def counted(ray) -> Iterator[Callable[[], int]]:
    """Context in which ray counts what is put into its store and got from it."""
    from ray import cloudpickle

    total, put, get = [0], ray.put, ray.get

    def counting_put(value):
        total[0] += len(cloudpickle.dumps(value))
        return put(value)

    def counting_get(handles):
        values = get(handles)
        total[0] += len(cloudpickle.dumps(values))
        return values

    ray.put, ray.get = counting_put, counting_get
    yield lambda: total[0]
    ray.put, ray.get = put, get
