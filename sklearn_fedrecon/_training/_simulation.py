"""The loop over rounds: sample, run the round, account for it, evaluate, stop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._round import RoundParts, ServerState, run_round
from .._types import ClientRatings, PartialSum, RoundContext, RoundReport
from ..communication import message_bytes, model_bytes
from ._population import HeldOut, held_out_rmse


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
        If the training diverges; the last state is that of the lowest training loss.
    """
    sampler, n_clients = schedule.sampler, ratings.n_clients
    rate, guard = sampler.rate(n_clients), DivergenceGuard(parts)
    progress = _Progress(schedule, watching=held_out is not None or rate >= 1)
    stop = schedule.first_round + schedule.max_rounds
    for number in range(schedule.first_round, stop):
        round_begin()
        context = RoundContext(number, n_clients, rate, schedule.seed)
        sampled = sampler.sample(n_clients, context)
        cohort = sampler.survivors(sampled, context)
        everybody = len(cohort) == n_clients
        members = ratings if everybody else ratings.take(cohort)
        after, report, diverged = guarded_round(
            guard, members, len(sampled), state, context, map_chunks, last=number + 1 == stop
        )
        if diverged:
            yield after, report
            return
        if held_out is not None:
            error = held_out_rmse(held_out, after, parts, context)
            report = replace(report, measurements=report.measurements | {"validation_rmse": error})
        yield after, report
        state = after
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
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is rejected
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
    baseline = _ratio(measured, "baseline_error", "baseline_weight")
    return state, RoundReport(context.round, cohort.n_clients, cohort.n_ratings, numbers, baseline)


def guarded_round(
    guard: DivergenceGuard,
    cohort: ClientRatings,
    n_sampled: int,
    state: ServerState,
    context: RoundContext,
    map_chunks: Callable[..., Iterable[PartialSum]],
    *,
    last: bool,
) -> tuple[ServerState, RoundReport, bool]:
    """Run one round and judge the training by it.

    Parameters
    ----------
    guard : DivergenceGuard
    cohort : ClientRatings
    n_sampled : int
    state : ServerState
    context : RoundContext
    map_chunks : callable
    last : bool
        Whether no round will follow that would judge the state after this one.

    Returns
    -------
    state : ServerState
        If training has diverged, of which it warns, the one of the lowest loss.
    report : RoundReport
    diverged : bool
    """
    after, report = timed_round(cohort, n_sampled, state, guard.parts, context, map_chunks)
    diverged = guard.diverged(report, state)
    if last and not diverged:
        diverged = guard.fails(after, cohort, context, map_chunks)
    if not diverged:
        return after, report, False
    guard.warn(context.round)
    return guard.best or state, report, True


class DivergenceGuard:
    """Watches the training of parts that take steps of a size chosen by the user.

    Parts without a learning rate solve for their steps, and are not watched. Training has
    diverged when the aggregate or the messages of most clients are not finite, or when the
    loss is five times the lowest so far and five times what predicting the global mean would
    cost, or a thousand times the latter.

    Parameters
    ----------
    parts : RoundParts
    """

    def __init__(self, parts: RoundParts):
        self.parts = parts
        self._rates = [
            f"{role}__learning_rate={part.learning_rate}"
            for role, part in vars(parts).items()
            if hasattr(part, "learning_rate")
        ]
        self._lowest, self._baseline = np.inf, 0.0
        self.best = None

    def diverged(self, report: RoundReport, entered: ServerState) -> bool:
        """Judge a round by its report; ``entered`` is the state that it began with.

        The state that began the round of the lowest loss is kept as ``best``.
        """
        numbers = report.measurements
        if not self._rates or report.clients == 0:
            return False
        if not numbers["finite"] or 2 * numbers["rejected_clients"] > report.clients:
            return True
        loss, self._baseline = numbers["loss"], max(self._baseline, report.baseline)
        if loss <= self._lowest:
            self._lowest, self.best = loss, entered
        if not self._baseline:
            return False
        grown = loss > 5 * self._baseline and loss > 5 * self._lowest
        return bool(grown or loss > 1000 * self._baseline)

    def fails(
        self,
        state: ServerState,
        members: ClientRatings,
        context: RoundContext,
        map_chunks: Callable,
    ) -> bool:
        """Judge the state after the last round by one more round, which is thrown away."""
        if not self._rates:
            return False
        _, trial = timed_round(members, 0, state, self.parts, context, map_chunks)
        return self.diverged(trial, state)

    def warn(self, number: int) -> None:
        """Name the round that diverged, and what to lower."""
        warnings.warn(
            f"Training diverged in round {number + 1}; the model of the lowest training loss so "
            f"far is kept. Lower {' or '.join(self._rates)}.",
            ConvergenceWarning,
            stacklevel=4,
        )


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
