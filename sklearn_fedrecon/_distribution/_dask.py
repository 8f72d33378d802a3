"""Chunks computed by the workers of a dask.distributed cluster."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from .._types import ClientRatings
from ._remote import Job, RemoteWorkers

_PATIENCE = 60  # seconds for a cluster without workers to get one


class DaskWorkers(RemoteWorkers):
    """Scatters ratings once a fit and the model once a round.

    Ratings of neighbours go to the same worker, so that most sums are added where they were
    made. What a worker takes with it when it dies is not recomputed by dask, as nobody told it
    how: dask cancels all tasks that need it, or closes the connection that it came by.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client):
        from distributed.comm import CommClosedError

        super().__init__()
        self.lost = (CancelledError, CommClosedError)
        self._client = client

    @property
    def n_workers(self) -> int:
        """Threads of the whole cluster."""
        return max(1, sum(self._client.nthreads().values()))

    def _send(self, pieces: list[ClientRatings]) -> list:
        self._client.wait_for_workers(1, timeout=_PATIENCE)
        threads = self._client.nthreads()
        homes = [address for address, n_threads in threads.items() for _ in range(n_threads)]
        futures = []
        for number, home in enumerate(homes):
            first, last = (len(pieces) * end // len(homes) for end in (number, number + 1))
            ours = pieces[first:last]
            futures += self._scatter_to(home, ours) if ours else []
        return futures

    def _scatter_to(self, home: str, pieces: list[ClientRatings]) -> list:
        try:
            return self._client.scatter(pieces, workers=[home], hash=False)
        except KeyError as error:
            raise CancelledError(f"The worker at {home} is no longer there.") from error

    def _broadcast(self, job: Job) -> Any:
        # To one worker; the others ask it. A broadcast never ends if a worker dies during it.
        return self._client.scatter(job, hash=False)

    def _submit(self, task: Callable, *arguments) -> Any:
        return self._client.submit(task, *arguments, pure=False)

    def _fetch(self, handles: list) -> list:
        return self._client.gather(handles)

    def _is_lost(self, handle) -> bool:
        return handle.status != "finished"
