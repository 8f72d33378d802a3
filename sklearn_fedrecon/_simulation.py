"""The loop over rounds: sample, run the round, account for it, evaluate, stop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ._population import HeldOut, held_out_rmse
from ._round import RoundParts, ServerState, run_round
from ._types import ClientRatings, PartialSum, RoundContext, RoundReport
from .communication import message_bytes, model_bytes

_DIVERGED = 1e3  # times the loss of the first round


@dataclass(frozen=True)
class Schedule:
    """How long to go on, with which clients.

    Attributes
    ----------
    sampler : FixedSampling
    max_rounds : int
    seed : int
    first_round : int
        Number of the first round, the number of rounds already done.
    tol : float or None
        Smallest relative improvement that counts; None never stops early.
    patience : int
        Rounds without improvement (without a change of the loss) before stopping.
    """

    sampler: object
    max_rounds: int
    seed: int
    first_round: int = 0
    tol: float | None = None
    patience: int = 5


def simulate(
    ratings: ClientRatings,
    state: ServerState,
    parts: RoundParts,
    schedule: Schedule,
    map_chunks: Callable[..., Iterable[PartialSum]],
    held_out: HeldOut | None = None,
    round_begin: Callable[[], None] = lambda: None,
) -> Iterator[tuple[ServerState, RoundReport]]:
    """Run rounds until the schedule, the tolerance or divergence ends them.

    Parameters
    ----------
    ratings : ClientRatings
        The population, or what `ChunkMap.place` made of it.
    state : ServerState
        Where to start.
    parts : RoundParts
    schedule : Schedule
    map_chunks : callable
        Maps a client step over the chunks of a cohort.
    held_out : HeldOut or None
        Clients to evaluate every round; their error then decides when to stop.
    round_begin : callable
        Called before each round.

    Yields
    ------
    state : ServerState
    report : RoundReport

    Warns
    -----
    ConvergenceWarning
        If the training diverges; the last state is the one before it did.
    """
    sampler, n_clients = schedule.sampler, ratings.n_clients
    rate, before, first_loss = sampler.rate(n_clients), state, None
    progress = _Progress(schedule, watching=held_out is not None or rate >= 1)
    for number in range(schedule.first_round, schedule.first_round + schedule.max_rounds):
        round_begin()
        context = RoundContext(number, n_clients, rate, schedule.seed)
        sampled = sampler.sample(n_clients, context)
        cohort = sampler.survivors(sampled, context)
        everybody = len(cohort) == n_clients
        members = ratings if everybody else ratings.take(cohort)
        after, report = timed_round(members, len(sampled), state, parts, context, map_chunks)
        if first_loss is None and np.isfinite(report.measurements["loss"]):
            first_loss = report.measurements["loss"]
        if _diverged(report, first_loss):
            _warn_diverged(number, parts)
            yield before, report
            return
        if held_out is not None:
            error = held_out_rmse(held_out, after, parts, context)
            report = replace(report, measurements=report.measurements | {"validation_rmse": error})
        yield after, report
        before, state = state, after
        if progress.exhausted(report):
            return


def timed_round(
    cohort: ClientRatings,
    n_sampled: int,
    state: ServerState,
    parts: RoundParts,
    context: RoundContext,
    map_chunks: Callable[..., Iterable[PartialSum]],
) -> tuple[ServerState, RoundReport]:
    """Run one round and account for it; an empty cohort changes nothing.

    Parameters
    ----------
    cohort : ClientRatings
        The clients that answer.
    n_sampled : int
        Clients that downloaded the model.
    state : ServerState
    parts : RoundParts
    context : RoundContext
    map_chunks : callable

    Returns
    -------
    state : ServerState
    report : RoundReport
    """
    cpu, wall = time.process_time(), time.perf_counter()
    measured = {"finite": True}
    if cohort.n_clients:
        state, measured = run_round(cohort, state, parts, context, map_chunks)
    dtype = state.model.dtype
    sent = measured.get("sent_indices", 0), measured.get("sent_numbers", 0)
    numbers = {
        "loss": _ratio(measured, "loss", "batches"),
        "training_rmse": _ratio(measured, "squared_error", "examples") ** 0.5,
        "rejected_clients": int(measured.get("rejected", 0)),
        "finite": bool(measured["finite"]),
        "bytes_down": n_sampled * model_bytes(state.model),
        "bytes_up": message_bytes(*sent, dtype.itemsize),
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
    }
    return state, RoundReport(context.round, cohort.n_clients, cohort.n_ratings, numbers)


class _Progress:
    """Whether rounds still get anywhere.

    The held-out error has to improve. The loss of all clients only has to move: it may well
    rise for a while as the priors are estimated.
    """

    def __init__(self, schedule: Schedule, *, watching: bool):
        self._tol, self._patience = schedule.tol if watching else None, schedule.patience
        self._best, self._last = np.inf, np.nan
        self._waited = 0

    def exhausted(self, report: RoundReport) -> bool:
        if self._tol is None:
            return False
        self._waited = 0 if self._moved(report.measurements) else self._waited + 1
        return self._waited >= self._patience

    def _moved(self, numbers: dict) -> bool:
        loss, error = numbers["loss"], numbers.get("validation_rmse")
        if error is None:
            before, self._last = self._last, loss
            return not abs(loss - before) <= self._tol * abs(before)
        before, self._best = self._best, min(self._best, error)
        return not error >= before * (1 - self._tol)


def _ratio(measured: dict, total: str, count: str) -> float:
    """Mean from two sums; NaN where nothing was counted."""
    return measured[total] / measured[count] if measured.get(count) else float("nan")


def _diverged(report: RoundReport, first_loss: float | None) -> bool:
    """Whether messages are not finite, or the loss is out of all proportion."""
    numbers = report.measurements
    broken = numbers["rejected_clients"] > 0 or not numbers["finite"]
    return broken or bool(first_loss and numbers["loss"] > _DIVERGED * first_loss)


def _warn_diverged(number: int, parts: RoundParts) -> None:
    """Name the round, and the parameters to lower."""
    rates = [
        f"{role}__learning_rate={part.learning_rate}"
        for role, part in vars(parts).items()
        if hasattr(part, "learning_rate")
    ]
    warnings.warn(
        f"Training diverged in round {number + 1}; the model of the last sound round is kept. "
        f"Lower {' or '.join(rates) if rates else 'the step sizes'}.",
        ConvergenceWarning,
        stacklevel=3,
    )
