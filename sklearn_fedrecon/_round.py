"""THE PAGE: one round of Federated Reconstruction, Algorithm 1 of the paper.

A round is a `question` that goes out to a cohort, an `answer` of every chunk of clients, and
what the server makes of their sums: `conclude`. Whoever carries the one out and the others back
(threads, a cluster, a network) stands between; `run_round` is all three in a row.

References
----------
Singhal et al., "Federated Reconstruction: Partially Local Federated Learning",
NeurIPS 2021, arXiv:2102.03448.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from ._types import (
    ClientRatings,
    DeviceContext,
    Outcome,
    PartialSum,
    Prepared,
    ServerContext,
    ServerModel,
    ServerState,
    UserStates,
)


@dataclass(frozen=True)
class RoundParts:
    """The stations of a round; `_contracts` says what each is given, gives and must not do."""

    split: Any
    reconstruction: Any
    client_update: Any
    aggregator: Any
    server_optimizer: Any


@dataclass(frozen=True)
class Question:
    """What goes out to the cohort of a round."""

    model: ServerModel
    parts: RoundParts
    context: DeviceContext

    @cached_property
    def prepared(self) -> Prepared:
        """What devices make of the model once, whichever clients they compute."""
        return self.parts.reconstruction.prepare(self.model)

    def __getstate__(self) -> dict[str, Any]:
        """All but what is prepared: larger than the model, it is made again where it is used."""
        return {"model": self.model, "parts": self.parts, "context": self.context}


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is rejected on the way
def answer(clients: ClientRatings, question: Question) -> PartialSum:
    """ClientUpdate of Algorithm 1, for a chunk of clients at once."""
    parts, prepared, context = question.parts, question.prepared, question.context
    support, query = parts.split.split(clients, context)
    users = parts.reconstruction.reconstruct(support, prepared, context)
    updates = parts.client_update.update(query, users, prepared, context)
    updates = updates.measured(ratings=clients.lengths)  # all of them, used or not
    return parts.aggregator.encode(updates, context)  # users are forgotten here


def conclude(
    partials: Iterable[PartialSum], state: ServerState, parts: RoundParts, context: ServerContext
) -> tuple[ServerState, Outcome]:
    """What the server makes of the sums that came back: it steps, or says why not."""
    total = parts.aggregator.combine(partials)
    outcome = parts.aggregator.finish(total, state.aggregator, context)
    model, optimizer = state.model, state.optimizer
    if outcome.aggregate is not None:
        model, optimizer = parts.server_optimizer.apply(
            model, outcome.aggregate, optimizer, context
        )
    return ServerState(model, outcome.state, optimizer), outcome


def run_round(
    cohort: ClientRatings,
    state: ServerState,
    parts: RoundParts,
    devices: DeviceContext,
    server: ServerContext,
    map_chunks: Callable[[Callable, ClientRatings], Iterable[PartialSum]],
) -> tuple[ServerState, Outcome]:
    """One round: the model goes out to the cohort, sums come back, the server steps."""
    question = Question(state.model, parts, devices)
    return conclude(map_chunks(partial(answer, question=question), cohort), state, parts, server)


@np.errstate(over="ignore", invalid="ignore")  # the caller looks at the outcome
def serve(clients: ClientRatings, question: Question) -> UserStates:
    """Rebuild users from all of their ratings, as a device does to be served; no by-products.

    All have the random streams of the same client: a user that is rebuilt alone is the same.
    """
    anonymous = replace(clients, clients=np.zeros_like(clients.clients))
    whole = question.parts.split.whole(anonymous, question.context)
    users = question.parts.reconstruction.reconstruct(whole, question.prepared, question.context)
    return UserStates(users.states, users.variances)
