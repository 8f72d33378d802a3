"""Chunks computed here, or by the threads or processes of a joblib backend."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from joblib import wrap_non_picklable_objects

from .._compat import Parallel, delayed, single_threaded_blas
from .._types import ClientRatings, is_mapped
from ._chunks import Shard, cut, cut_chunks, is_one_chunk, tree_sum


class Caller:
    """Computes one chunk after the other in the thread that asks."""

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *exception) -> None:
        pass

    def place(self, ratings: ClientRatings) -> ClientRatings:
        """Ratings are where they are needed."""
        return ratings

    def results(self, step: Callable, ratings: ClientRatings) -> Iterable:
        """Results of all chunks, in order."""
        return map(step, ratings.spans(cut_chunks(ratings.indptr, ratings.n_items)))

    def total(self, step: Callable, combine: Callable, ratings: ClientRatings) -> Any:
        """Sum of the results of all chunks."""
        return tree_sum(combine, self.results(step, ratings))


class JoblibWorkers(Caller):
    """Shares shards among the workers of a joblib backend on this machine.

    Threads read the ratings where they are. Processes read them from files that all of them
    map into memory, written once, so that what a task is sent is the step with the model. A
    cohort too small for two chunks stays with the caller.

    Parameters
    ----------
    n_jobs : int or None
    n_workers : int
        What ``n_jobs`` amounts to.
    threads : bool
        Whether workers share this memory.
    """

    def __init__(self, n_jobs: int | None, n_workers: int, *, threads: bool):
        self._n_workers, self._threads = n_workers, threads
        # joblib looks for results every 10 ms, which is as long as a task of threads takes.
        self._pool = ThreadPoolExecutor(n_workers) if threads else Parallel(n_jobs=n_jobs)
        self._exit = ExitStack()

    def __enter__(self) -> JoblibWorkers:
        if self._threads:  # loky keeps its processes anyway; its pool would keep all models
            self._exit.enter_context(self._pool)
        return self

    def __exit__(self, *exception) -> None:
        self._exit.close()

    def place(self, ratings: ClientRatings) -> ClientRatings:
        """Ratings as the workers can read them without being sent any."""
        if self._threads or is_one_chunk(ratings):
            return ratings
        folder = tempfile.TemporaryDirectory(prefix="fedrecon-", ignore_cleanup_errors=True)
        return _mapped(ratings, Path(self._exit.enter_context(folder)))

    def results(self, step: Callable, ratings: ClientRatings) -> Iterable:
        """Results of all chunks, in order."""
        if is_one_chunk(ratings):
            return super().results(step, ratings)
        return chain.from_iterable(self._run(_results, ratings, step))

    def total(self, step: Callable, combine: Callable, ratings: ClientRatings) -> Any:
        """Sum of the results of all chunks."""
        if is_one_chunk(ratings):
            return super().total(step, combine, ratings)
        return tree_sum(combine, self._run(_total, ratings, step, combine))

    def _run(self, task: Callable, ratings: ClientRatings, *arguments) -> list:
        """What a task makes of every shard, in order."""
        shards = cut(ratings.indptr, ratings.n_items, self._n_workers)
        parts = [ratings.span(shard.start, shard.stop) for shard in shards]
        if self._threads:
            return list(self._pool.map(lambda *own: task(*own, *arguments), shards, parts))
        # As bytes: joblib would map a large array of the model, and where two calls send the
        # same, a process done with the first may delete the file that the second relies on.
        arguments = [wrap_non_picklable_objects(one, keep_wrapper=False) for one in arguments]
        run = delayed(_with_one_blas_thread)
        return self._pool(
            run(task, shard, part, *arguments) for shard, part in zip(shards, parts, strict=True)
        )


def _with_one_blas_thread(task: Callable, *arguments) -> Any:
    with single_threaded_blas():
        return task(*arguments)


def _results(shard: Shard, ratings: ClientRatings, step: Callable) -> list:
    return [step(chunk) for chunk in shard.chunks(ratings)]


def _total(shard: Shard, ratings: ClientRatings, step: Callable, combine: Callable) -> Any:
    return tree_sum(combine, map(step, shard.chunks(ratings)))


def _mapped(ratings: ClientRatings, folder: Path) -> ClientRatings:
    """The same ratings, with arrays that are files, mapped into memory: new ones in ``folder``."""
    columns = {}
    for field in fields(ratings):
        values = getattr(ratings, field.name)
        if isinstance(values, np.ndarray) and not is_mapped(values):
            path = folder / f"{field.name}.npy"
            np.save(path, values)
            columns[field.name] = np.load(path, mmap_mode="r")
    return replace(ratings, **columns)
