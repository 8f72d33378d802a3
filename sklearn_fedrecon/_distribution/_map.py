"""The engine that joblib's active backend names, behind one face."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any

from joblib import effective_n_jobs
from joblib.parallel import get_active_backend

from .._compat import single_threaded_blas
from .._types import ClientRatings, PartialSum
from ._joblib import Caller, JoblibWorkers


class ChunkMap:
    """Client steps over chunks of clients, shared where there is enough to share.

    One set of workers serves all rounds. Ratings are placed with them once; then only models
    and sums travel. The result does not depend on the workers.

    Parameters
    ----------
    n_jobs : int or None
        As everywhere in scikit-learn; threads unless a joblib backend is chosen.
    """

    def __init__(self, n_jobs: int | None = None):
        self.n_jobs = n_jobs

    def __enter__(self) -> ChunkMap:
        with ExitStack() as stack:
            stack.enter_context(single_threaded_blas())
            self._workers = stack.enter_context(workers(self.n_jobs))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._exit.__exit__(*exception)

    def place(self, ratings: ClientRatings) -> Any:
        """Ratings as the workers have them, to be mapped over many times.

        Parameters
        ----------
        ratings : ClientRatings

        Returns
        -------
        placed : ClientRatings or PlacedRatings
            Has ``n_clients``, ``n_ratings``, ``clients`` and ``take``.
        """
        return self._workers.place(ratings)

    def __call__(self, step: Callable[[ClientRatings], Any], cohort: Any) -> Iterable:
        """Results of every chunk, in order."""
        return self._workers.results(step, cohort)

    def summed(self, combine: Callable[[list[PartialSum]], PartialSum]) -> Callable:
        """Return a map that hands back one sum of all chunks.

        Parameters
        ----------
        combine : callable
            Makes one partial sum of a list of two.

        Returns
        -------
        map_chunks : callable
            Of a step and a cohort, as this object, with a list of one.
        """
        return partial(self._total, combine)

    def _total(self, combine: Callable, step: Callable, cohort: Any) -> list[PartialSum]:
        return [self._workers.total(step, combine, cohort)]


def workers(n_jobs: int | None) -> Caller:
    """Workers of the engine that is asked for by ``n_jobs`` and joblib's active backend.

    Parameters
    ----------
    n_jobs : int or None

    Returns
    -------
    workers : Caller
        The caller alone where nobody could help, or where the caller is itself a task of dask
        or ray: whatever made it one shares out the work already.
    """
    backend, _ = get_active_backend(prefer="threads")
    if n_jobs is None:
        _, n_jobs = get_active_backend()  # with a preference, joblib would forget the number
    if n_jobs is None:
        n_jobs = getattr(backend, "default_n_jobs", 1)
    if n_jobs == 1 or _is_task_of_dask():
        return Caller()
    engine = type(backend).__name__
    if engine == "DaskDistributedBackend":
        from ._dask import DaskWorkers

        return DaskWorkers(backend.client)
    if engine == "RayBackend":
        from ._ray import RayWorkers

        return RayWorkers()
    threads = getattr(backend, "supports_sharedmem", False)
    n_workers = effective_n_jobs(n_jobs)
    if n_workers == 1:
        return Caller()
    return JoblibWorkers(n_jobs, n_workers, threads=threads)


def _is_task_of_dask() -> bool:
    """Whether this thread computes a task of a dask worker."""
    worker = sys.modules.get("distributed.worker")
    return worker is not None and hasattr(worker.thread_state, "execution_state")
