"""Chunks computed by the workers of a ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from .._optional import optional_module
from .._types import ClientRatings
from ._remote import Job, RemoteWorkers


class RayWorkers(RemoteWorkers):
    """Puts ratings into the object store once a fit and the model once a round.

    Every machine gets a copy of a shard when it first computes it, and keeps it while there is
    room. A task whose worker dies is repeated by ray; objects outlive workers, as the store is
    another process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ray = optional_module("ray", "ray", "The joblib backend 'ray'")
        if not self._ray.is_initialized():
            self._ray.init()

    @property
    def n_workers(self) -> int:
        """Processors of the whole cluster."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def _send(self, pieces: list[ClientRatings]) -> list:
        return [self._ray.put(piece) for piece in pieces]

    def _broadcast(self, job: Job) -> Any:
        return self._ray.put(job)

    def _submit(self, task: Callable, *arguments) -> Any:
        return _remote(task).remote(*arguments)

    def _fetch(self, handles: list) -> list:
        return self._ray.get(handles)

    def _is_lost(self, handle) -> bool:
        return False


@cache
def _remote(task: Callable) -> Any:
    """The same function as a task of ray, which repeats it where a worker dies: three times."""
    import ray

    return ray.remote(num_cpus=1)(task)
