"""Chunks computed by the workers of a dask.distributed cluster."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from .._types import ClientRatings
from ._remote import Job, RemoteWorkers

_PATIENCE = 60  # seconds for a cluster without workers to get one


@dataclass(frozen=True)
class Held:
    """A future, and the address of the worker that is to hold what it stands for."""

    future: Any
    home: str | None = None


class DaskWorkers(RemoteWorkers):
    """Scatters ratings once a fit and the model once a round.

    Ratings of neighbours go to the same worker, and tasks go to where their first ratings or
    sums are: most sums are added where they were made. Left to itself, dask would move ratings
    to whoever has nothing to do; it still may, by stealing work, where that pays.

    What a worker takes with it when it dies is not recomputed by dask, as nobody told it how:
    dask cancels all tasks that need it, or closes the connection that it came by.

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

    def _send(self, pieces: list[ClientRatings]) -> list[Held]:
        self._client.wait_for_workers(1, timeout=_PATIENCE)
        threads = self._client.nthreads()
        homes = [address for address, n_threads in threads.items() for _ in range(n_threads)]
        handles = []
        for number, home in enumerate(homes):
            first, last = (len(pieces) * end // len(homes) for end in (number, number + 1))
            ours = pieces[first:last]
            handles += self._scatter_to(home, ours) if ours else []
        return handles

    def _scatter_to(self, home: str, pieces: list[ClientRatings]) -> list[Held]:
        try:
            futures = self._client.scatter(pieces, workers=[home], hash=False)
        except KeyError as error:
            raise CancelledError(f"The worker at {home} is no longer there.") from error
        return [Held(future, home) for future in futures]

    def _broadcast(self, job: Job) -> Held:
        # To one worker; the others ask it. A broadcast never ends if a worker dies during it.
        return Held(self._client.scatter(job, hash=False))

    def _submit(self, task: Callable, *arguments) -> Held:
        held = [argument for argument in arguments if isinstance(argument, Held)]
        home = next((handle.home for handle in held if handle.home is not None), None)
        plain = (a.future if isinstance(a, Held) else a for a in arguments)
        future = self._client.submit(
            task, *plain, pure=False, workers=home, allow_other_workers=home is not None
        )
        return Held(future, home)

    def _fetch(self, handles: list[Held]) -> list:
        return self._client.gather([handle.future for handle in handles])

    def _is_lost(self, handle: Held) -> bool:
        return handle.future.status != "finished"
