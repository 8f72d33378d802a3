"""From a table to a trained server: the steps that `fit` and `partial_fit` share."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._distribution import ChunkMap
from .._fitted import History, extended
from .._random import Stream, generator
from .._round import RoundParts, ServerState
from .._types import ClientRatings, RoundContext, RoundReport, ServerModel, UserStates
from ..splitting import RandomSplit
from ._population import HeldOut, first_exchange, rebuild_users
from ._reading import Encoded, ReadingMixin
from ._simulation import Schedule, simulate

_EXCHANGE_BYTES = 3 * 8  # of a client before the first round: weight, mean and squares


@dataclass(frozen=True)
class Run:
    """What the steps of one fit share.

    Attributes
    ----------
    data : Encoded
    served : ClientRatings
        The ratings of ``data``, their clients maybe in another order.
    parts : RoundParts
    seed : int
    history : History
    mapper : ChunkMap
    streaming : bool
        Whether users that are not in ``data`` keep the state that they have.
    """

    data: Encoded
    served: ClientRatings
    parts: RoundParts
    seed: int
    history: History
    mapper: ChunkMap
    streaming: bool = False


class TrainingMixin(ReadingMixin):
    """Steps from ``X, y`` to a `ServerState`; reads parameters, sets no attribute."""

    def _first_model(self, ratings: ClientRatings, parts: RoundParts, seed: int) -> ServerModel:
        """The model before the first round."""
        mean, scale = 0.0, 1.0
        if self._exchanges(parts):
            mean, scale = first_exchange(ratings)
        elif self.rating_scale is not None:
            low, high = self._scale_bounds()
            scale = (high - low) / 4
        if self.global_mean != "federated":
            mean = 0.0 if self.global_mean == "learned" else float(self.global_mean)
        model = parts.reconstruction.initial_model(
            ratings.n_items,
            self.n_components,
            fit_bias=self.fit_bias,
            global_mean=mean,
            scale=scale,
            dtype=self.dtype,
            seed=seed,
        )
        return replace(model, learn_global_mean=self.global_mean == "learned")

    def _exchanges(self, parts: RoundParts) -> bool:
        """Whether the mean or the scale comes from clients, not from declared numbers."""
        asks_scale = parts.reconstruction.needs_scale and self.rating_scale is None
        return self.global_mean == "federated" or asks_scale

    def _start(self, ratings: ClientRatings, parts: RoundParts, seed: int) -> ServerState:
        """The state before the first round."""
        model = self._first_model(ratings, parts, seed)
        return ServerState(model, parts.aggregator.init(model), parts.server_optimizer.init(model))

    def _resume(self, state: ServerState, n_items: int, parts: RoundParts) -> ServerState:
        """The state to go on from, with room for new items."""
        model = state.model
        self._check_resumable(state, parts)
        if n_items == model.n_items:
            return state
        fresh = parts.reconstruction.initial_model(
            n_items,
            model.n_components,
            fit_bias=model.fit_bias,
            global_mean=model.global_mean,
            scale=math.sqrt(model.item_prior_variance),
            dtype=self.dtype,
            seed=self._seed,
        )
        return extended(state, fresh, parts.server_optimizer)

    def _check_resumable(self, state: ServerState, parts: RoundParts) -> None:
        """Refuse to go on with parameters that the state was not made with."""
        model = state.model
        learned = "learned" if model.learn_global_mean else model.global_mean
        asked = self.global_mean
        if asked == "federated" and not model.learn_global_mean:
            asked = learned
        for name, now, then in (
            ("n_components", self.n_components, model.n_components),
            ("fit_bias", bool(self.fit_bias), model.fit_bias),
            ("dtype", str(np.dtype(self.dtype)), str(model.dtype)),
            ("global_mean", asked, learned),
        ):
            if now != then:
                raise ValueError(
                    f"{name} is {now!r} and was {then!r} in the fit to continue from: set it "
                    "back, or fit anew with warm_start=False."
                )
        if parts.server_optimizer.init(model).keys() != state.optimizer.keys():
            raise ValueError(
                f"{parts.server_optimizer!r} cannot continue from what the server optimizer of "
                f"the fit before remembered ({', '.join(state.optimizer)}): set the parts back, "
                "or fit anew with warm_start=False."
            )

    def _hold_out(
        self, ratings: ClientRatings, parts: RoundParts, seed: int
    ) -> tuple[ClientRatings, HeldOut | None]:
        """Clients to train on, and those held out where early stopping asks for it."""
        if not self.early_stopping:
            return ratings, None
        n_held = math.ceil(self.validation_fraction * ratings.n_clients)
        if n_held >= ratings.n_clients:
            raise ValueError(
                f"early_stopping holds out {n_held} of {ratings.n_clients} users (validation_"
                f"fraction={self.validation_fraction}, n_samples={ratings.n_ratings}), which "
                "leaves nobody to train on: switch it off or lower validation_fraction."
            )
        order = generator(seed, Stream.VALIDATION).permutation(ratings.n_clients)
        held, train = np.sort(order[:n_held]), np.sort(order[n_held:])
        context = RoundContext(0, ratings.n_clients, 1.0, seed)
        # RandomSplit rounds its first half up: a user with one rating is judged on it.
        query, support = RandomSplit(0.5).split(ratings.take(held), context)
        return ratings.take(train), HeldOut(support, query)

    def _schedule(self, sampler, n_clients: int, seed: int, done: int) -> Schedule:
        """How many rounds to run, and when to stop before."""
        rounds = self.max_iter
        if rounds is None:
            participations = round(10 / sampler.rate(n_clients), 9)  # 10 / (1 / 49) > 490
            rounds = min(500, math.ceil(participations))
        return Schedule(sampler, rounds, seed, done, self.tol, self.n_iter_no_change)

    def _population(self, total_users: int | None, data: Encoded) -> int:
        """Size of the population that a cohort handed in belongs to."""
        known = len(data.users)
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

    def _run_rounds(
        self, run: Run, state: ServerState, population, schedule: Schedule, held_out, callbacks
    ) -> ServerState:
        """Run the rounds, tell who watches, and return the state to keep."""
        best, best_error = None, np.inf
        last = schedule.first_round + schedule.max_rounds
        placed = run.mapper.place(population)
        summed = run.mapper.summed(run.parts.aggregator.combine)
        rounds = simulate(
            placed, state, run.parts, schedule, summed, held_out, callbacks.round_begin
        )
        for state, report in rounds:
            self._record(run, report, population.n_clients, last)
            error = report.measurements.get("validation_rmse", np.inf)
            if error < best_error:
                best, best_error = state, error
            if callbacks.round_end(partial(self._finish, run, state)):
                break
        _warn_if_idle(run.history)
        return state if best is None else best

    def _record(self, run: Run, report: RoundReport, n_clients: int, last: int) -> None:
        """Keep what a round did, and show it."""
        first = report.round == 0 and self._exchanges(run.parts)
        run.history.add(report, _EXCHANGE_BYTES * n_clients if first else 0)
        if self.verbose:
            print(History.line(report, last), flush=True)  # a notebook or a pipe shows it now

    def _finish(self, run: Run, state: ServerState) -> dict:
        """Fitted attributes after the last round: every user of X is rebuilt.

        Other users of a streaming run keep the state that they have, so its axes stay.
        Otherwise axes are put in order; a warm start goes on from what was before that.
        """
        model, optimizer = state.model, state.optimizer
        if not run.streaming:
            model, optimizer = run.parts.server_optimizer.finalize(model, optimizer)
        users = rebuild_users(run.mapper.place(run.served), model, run.parts, run.seed, run.mapper)
        if run.served is not run.data.ratings:
            users = users.take(np.argsort(run.served.clients))
        server = ServerState(model, state.aggregator, optimizer)
        return {
            **self._server_attributes(server, run.data.items),
            **self._devices_after(run, users, model.n_components),
            "history_": run.history.columns(),
            "n_iter_": len(run.history),
            "_parts": run.parts,
            "_seed": run.seed,
            "_target_dtype": run.data.target_dtype,
            "_trained": state,
        }

    def _devices_after(self, run: Run, users: UserStates, n_components: int) -> dict:
        """Attributes of the devices; those of a streaming run join the ones known."""
        data = run.data
        if run.streaming:
            return self._merged_devices(data.users, users, data.ratings)
        rated = data.ratings.indptr, data.ratings.items
        return self._device_attributes(data.users, users, rated, n_components)


def _warn_if_idle(history: History) -> None:
    """Say so where clients took part, and none had a rating to learn from."""
    columns = history.columns()
    if columns["clients"].any() and np.isnan(columns["training_rmse"]).all():
        warnings.warn(
            "No round updated the items: the clients had no rating left for their query, from "
            "which items are updated. Use smaller batches or a smaller support fraction, users "
            "with more ratings, or support_query='none'.",
            ConvergenceWarning,
            stacklevel=4,
        )
