"""`fit` and `partial_fit`: from parameters and a table to a `Fitted` record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from .._compat import FitCallbacks, warn_caller
from .._contracts import Sampler
from .._distribution import ChunkMap
from .._fitted import Devices, Fitted, rebuild_users
from .._random import root_seed
from .._round import RoundParts
from .._types import ClientRatings, LoopState, RoundReport, ServerContext, UserStates
from ._guard import DivergenceGuard
from ._history import History
from ._loop import Schedule, guarded_round, simulate
from ._parts import build_parts, build_sampler
from ._reading import Encoded, encode, fingerprint, unharmed, warn_if_equal
from ._start import first_state, resumed
from ._validation import HeldOut, hold_out


@dataclass(frozen=True)
class Face:
    """The estimator that is seen fitting: its callbacks watch, its attributes are set.

    Attributes
    ----------
    estimator : estimator
    given : dict
        The arguments of `fit`, as the caller gave them.
    attributes : callable
        Fitted attributes of the estimator from a `Fitted` record.
    """

    estimator: Any
    given: dict[str, Any] = field(default_factory=dict)
    attributes: Callable[[Fitted], dict[str, Any]] = Fitted.attributes

    def set(self, fitted: Fitted) -> None:
        """Set all fitted attributes, in one step that nothing can interrupt."""
        vars(self.estimator).update(self.attributes(fitted))


@dataclass(frozen=True)
class Run:
    """What the steps of one fit share.

    Attributes
    ----------
    settings : estimator
    data : Encoded
    parts : RoundParts
    seed : int
    history : History
    mapper : ChunkMap
    before : Fitted or None
        What is gone on from.
    streaming : bool
        Whether users that are not in ``data`` keep the state that they have.
    """

    settings: Any
    data: Encoded
    parts: RoundParts
    seed: int
    history: History
    mapper: ChunkMap
    before: Fitted | None = None
    streaming: bool = False

    @property
    def summed(self) -> Callable:
        """Maps a client step over the chunks of a cohort, and hands back one sum."""
        return self.mapper.summed(self.parts.aggregator.combine)


def fit(settings: Any, X: Any, y: Any, sample_weight: Any, face: Face) -> None:
    """Run the rounds on training data and set the fitted attributes.

    Parameters
    ----------
    settings : FederatedReconstructionMF
        Its parameters say what to do.
    X : {array-like, dataframe, ClientDataset} of shape (n_ratings, n_columns)
    y : array-like of shape (n_ratings,)
    sample_weight : array-like of shape (n_ratings,) or None
    face : Face
    """
    sampler = build_sampler(settings)
    parts = build_parts(settings, sampler)
    before = getattr(settings, "_fitted", None) if settings.warm_start else None
    with unharmed(face.estimator):
        known = before.items if before else None
        data = encode(settings, X, y, sample_weight, parts, items=known)
        warn_if_equal(data.ratings)
        seed = before.seed if before else root_seed(check_random_state(settings.random_state))
        history = History(before.history if before else None)
        train, held_out = hold_out(settings, data.ratings, data.users.ids, seed)
        schedule = _schedule(settings, sampler, train.n_clients, seed)
        callbacks = FitCallbacks(face.estimator, schedule.max_rounds, **face.given)
        with ChunkMap(settings.n_jobs) as mapper:
            run = Run(settings, data, parts, seed, history, mapper, before)
            face.set(_trained(run, train, held_out, schedule, callbacks, face))
    callbacks.fit_end()


def _trained(
    run: Run,
    train: ClientRatings,
    held_out: HeldOut | None,
    schedule: Schedule,
    callbacks: FitCallbacks,
    face: Face,
) -> Fitted:
    """Run the rounds, tell who watches, and return what they leave behind."""
    # Clients of similar length are solved together: in that order once, and not in every round.
    # A sampled cohort is put in order by itself, as it is in the order of the clients.
    population = train.by_length() if schedule.sampler.rate(train.n_clients) >= 1 else train
    served = population if train is run.data.ratings else run.data.ratings
    placed = run.mapper.place(population)
    halves = (held_out.support, held_out.query) if held_out else ()
    loop, costs = _started(run, placed, fingerprint(train, *halves))
    last = loop.round + schedule.max_rounds
    finished = partial(_finished, run, served, costs)
    rounds = simulate(
        placed, loop, run.parts, schedule, run.summed, held_out, callbacks.round_begin
    )
    for loop, report in rounds:
        _record(run, report, last)
        if callbacks.round_end(lambda loop=loop: face.attributes(finished(loop))):
            break
    _warn_if_idle(run.history)
    return finished(loop)


def partial_fit(
    settings: Any, X: Any, y: Any, sample_weight: Any, total_users: int | None
) -> None:
    """Run one round with the users given as its cohort, and set the fitted attributes.

    Parameters
    ----------
    settings : FederatedReconstructionMF
    X : {array-like, dataframe} of shape (n_ratings, n_columns)
    y : array-like of shape (n_ratings,)
    sample_weight : array-like of shape (n_ratings,) or None
    total_users : int or None
    """
    if hasattr(X, "client_ratings"):
        raise TypeError(
            "partial_fit takes tables: go through `dataset.chunks()`, and pass the data, "
            "target and sample_weight of each."
        )
    parts, before = build_parts(settings), getattr(settings, "_fitted", None)
    with unharmed(settings):
        known = {"users": before.devices.users, "items": before.items} if before else {}
        data = encode(settings, X, y, sample_weight, parts, reset=before is None, **known)
        population = _population(total_users, len(data.users))
        if before is not None:
            before.devices.warn_if_fewer(data.ratings)
        seed = before.seed if before else root_seed(check_random_state(settings.random_state))
        history = History(before.history if before else None)
        with ChunkMap(settings.n_jobs) as mapper:
            run = Run(settings, data, parts, seed, history, mapper, before, before is not None)
            Face(settings).set(_one_round(run, population))


def _one_round(run: Run, population: int) -> Fitted:
    """One round with everybody in the data; nothing is remembered of the loop but its state."""
    cohort, placed = run.data.ratings, run.mapper.place(run.data.ratings)
    loop, costs = _started(run, placed, data="")
    rate = cohort.n_clients / population
    context = ServerContext(loop.round, rate, population, run.seed, streaming=run.streaming)
    loop, report, _ = guarded_round(
        DivergenceGuard(run.parts),
        placed,
        cohort.n_clients,
        loop,
        run.parts,
        context,
        run.summed,
        last=True,
    )
    _record(run, report, report.round + 1)
    # A loss of some clients is no measure for the loss of others: only the server is handed on.
    return _finished(run, cohort, costs, LoopState(loop.server, loop.round))


def _schedule(settings: Any, sampler: Sampler, n_clients: int, seed: int) -> Schedule:
    """How many rounds to run, and when to stop before."""
    rounds = settings.max_iter
    if rounds is None:
        participations = round(10 / sampler.rate(n_clients), 9)  # 10 / (1 / 49) > 490
        rounds = min(500, math.ceil(participations))
    return Schedule(sampler, rounds, seed, settings.tol, settings.n_iter_no_change)


def _population(total_users: int | None, known: int) -> int:
    """Size of the population that a cohort handed in belongs to."""
    if total_users is None:
        return known
    if not isinstance(total_users, Integral):
        raise TypeError(
            f"total_users={total_users!r} has to be a number of users, or None for all users "
            "known."
        )
    if total_users < known:
        raise ValueError(
            f"total_users={total_users} is less than the {known} users known by now: it is "
            "the size of the whole population, or None for all users known."
        )
    return int(total_users)


def _started(run: Run, placed: ClientRatings, data: str) -> tuple[LoopState, dict]:
    """The loop before its next round, and what the exchanges before the first one cost."""
    if run.before is not None:
        n_items = len(run.data.items)
        before = run.before
        loop = resumed(run.settings, before.loop, n_items, run.parts, run.seed, data)
        return loop, before.exchanges
    state, costs = first_state(run.settings, placed, run.parts, run.seed, run.summed)
    return LoopState(state, data=data), costs


def _record(run: Run, report: RoundReport, last: int) -> None:
    """Keep what a round did, and show it."""
    run.history.add(report)
    if run.settings.verbose:
        print(History.line(report, last), flush=True)  # a notebook or a pipe shows it now


def _finished(run: Run, served: ClientRatings, costs: dict, loop: LoopState) -> Fitted:
    """What a fit leaves behind that ends here: every user of X is rebuilt.

    ``served`` are the ratings of the data, their clients maybe in another order. Other users of
    a streaming run keep the states that they have.
    """
    data, nobody = run.data, Devices.nobody(loop.kept.model)
    history, seed = run.history.columns(), run.seed
    fitted = Fitted(loop, data.items, nobody, run.parts, seed, history, costs, data.target_dtype)
    users = rebuild_users(fitted.question, run.mapper.place(served), run.mapper)
    if served is not data.ratings:
        users = users.take(np.argsort(served.clients))
    return replace(fitted, devices=_devices(run, users))


def _devices(run: Run, users: UserStates) -> Devices:
    """What devices hold after the fit; those of a streaming run join the ones known."""
    data = run.data
    if run.streaming and run.before is not None:
        return run.before.devices.with_users(data.users, users, data.ratings)
    return Devices(data.users, users, (data.ratings.indptr, data.ratings.items))


def _warn_if_idle(history: History) -> None:
    """Say so where clients took part, and none had a rating to learn from."""
    columns = history.columns()
    if not columns["clients"].any():
        warn_caller(
            f"Nobody took part in any of the {len(history)} round(s), so that nothing was "
            "learned: the cohorts were all empty. Raise clients_per_round or max_iter, lower "
            "client_dropout, or use sampling='fixed'.",
            ConvergenceWarning,
        )
    elif np.isnan(columns["training_rmse"]).all():
        warn_caller(
            "No round updated the items: the clients had no rating left for their query, from "
            "which items are updated. Use smaller batches or a smaller support fraction, users "
            "with more ratings, or support_query='none'.",
            ConvergenceWarning,
        )
