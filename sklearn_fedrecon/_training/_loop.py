"""The loop over rounds: sample, run the round, account for it, evaluate, stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from .._contracts import Sampler
from .._round import RoundParts, run_round
from .._types import (
    ClientRatings,
    DeviceContext,
    LoopState,
    PartialSum,
    Progress,
    RoundReport,
    ServerContext,
    ServerState,
)
from ._guard import DivergenceGuard
from ._history import round_report
from ._validation import HeldOut, held_out_rmse


@dataclass(frozen=True)
class Schedule:
    """How long to go on, with which clients.

    Attributes
    ----------
    sampler : Sampler
    max_rounds : int
    seed : int
    tol : float or None
        Smallest relative improvement that counts; None never stops early.
    patience : int
        Rounds without improvement (without a change of the loss) before stopping.
    """

    sampler: Sampler
    max_rounds: int
    seed: int
    tol: float | None = None
    patience: int = 5


def simulate(
    ratings: ClientRatings,
    loop: LoopState,
    parts: RoundParts,
    schedule: Schedule,
    map_chunks: Callable[..., Iterable[PartialSum]],
    held_out: HeldOut | None = None,
    round_begin: Callable[[], None] = lambda: None,
) -> Iterator[tuple[LoopState, RoundReport]]:
    """Run rounds until the schedule, the tolerance or divergence ends them.

    Parameters
    ----------
    ratings : ClientRatings
        The population, or what `ChunkMap.place` made of it.
    loop : LoopState
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
    loop : LoopState
        After the round: whoever goes on from it goes on to the bit.
    report : RoundReport

    Warns
    -----
    ConvergenceWarning
        If the training diverges; the last state is that of the lowest training loss.
    """
    sampler, n_clients = schedule.sampler, ratings.n_clients
    rate, guard = sampler.rate(n_clients), DivergenceGuard(parts)
    tol = schedule.tol if held_out is not None or rate >= 1 else None
    stop = loop.round + schedule.max_rounds
    for number in range(loop.round, stop):
        round_begin()
        context = ServerContext(number, rate, n_clients, schedule.seed)
        sampled = sampler.sample(n_clients, context)
        cohort = sampler.survivors(sampled, context)
        members = ratings if len(cohort) == n_clients else ratings.take(cohort)
        loop, report, diverged = guarded_round(
            guard, members, len(sampled), loop, parts, context, map_chunks, last=number + 1 == stop
        )
        if diverged:
            yield loop, report
            return
        if held_out is not None:
            error = held_out_rmse(held_out, loop.server.model, parts, schedule.seed, number)
            report = replace(report, measurements=report.measurements | {"validation_rmse": error})
        loop = _noted(loop, report, tol)
        yield loop, report
        if tol is not None and loop.progress.waited >= schedule.patience:
            return


def timed_round(
    cohort: ClientRatings,
    n_sampled: int,
    state: ServerState,
    parts: RoundParts,
    context: ServerContext,
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
    context : ServerContext
    map_chunks : callable

    Returns
    -------
    state : ServerState
    report : RoundReport
    """
    cpu, wall = time.process_time(), time.perf_counter()
    sent, measured = state.model, {}
    if cohort.n_clients:
        devices = DeviceContext(context.round, context.seed)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is rejected
            state, outcome = run_round(cohort, state, parts, devices, context, map_chunks)
        measured = outcome.measurements
    report = round_report(context.round, sent, measured, n_sampled)
    seconds = {
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
    }
    return state, replace(report, measurements=report.measurements | seconds)


def guarded_round(
    guard: DivergenceGuard,
    cohort: ClientRatings,
    n_sampled: int,
    loop: LoopState,
    parts: RoundParts,
    context: ServerContext,
    map_chunks: Callable[..., Iterable[PartialSum]],
    *,
    last: bool,
) -> tuple[LoopState, RoundReport, bool]:
    """Run one round and judge the training by it.

    Parameters
    ----------
    guard : DivergenceGuard
    cohort : ClientRatings
    n_sampled : int
    loop : LoopState
    parts : RoundParts
    context : ServerContext
    map_chunks : callable
    last : bool
        Whether no round will follow that would judge the state after this one: one more is
        tried then and thrown away, and nothing of it is remembered.

    Returns
    -------
    loop : LoopState
        If training has diverged, of which it warns, with the state of the lowest loss.
    report : RoundReport
    diverged : bool
    """
    before = loop.server
    after, report = timed_round(cohort, n_sampled, before, parts, context, map_chunks)
    memory, diverged = guard.judge(loop.guard, report, before)
    # A loss is that of the model a round begins with: nobody has seen what the last step did.
    if last and not diverged and guard.watches:
        _, trial = timed_round(cohort, 0, after, parts, context, map_chunks)
        _, diverged = guard.judge(memory, trial, after)
    if diverged:
        guard.warn(context.round)
        after = memory.best or before
    loop = replace(loop, server=after, round=context.round + 1, guard=memory)
    return loop, report, diverged


def _noted(loop: LoopState, report: RoundReport, tol: float | None) -> LoopState:
    """Remember what a round says of the progress, and the best state on held-out users.

    The held-out error has to improve. The loss of all clients only has to move: it may well
    rise for a while as the priors are estimated.
    """
    loss, error = report.measurements["loss"], report.measurements.get("validation_rmse")
    last, waited = loop.progress.last, loop.progress.waited
    if tol is not None:
        if error is None:
            moved = not abs(loss - last) <= tol * abs(last)
        else:
            moved = not error >= loop.best_error * (1 - tol)
        waited = 0 if moved else waited + 1
    loop = replace(loop, progress=Progress(loss, waited))
    if error is not None and error < loop.best_error:
        loop = replace(loop, best=loop.server, best_error=error)
    return loop
