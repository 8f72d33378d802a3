"""THE PAGE: one round of Federated Reconstruction, Algorithm 1 of the paper.

References
----------
Singhal et al., "Federated Reconstruction: Partially Local Federated Learning",
NeurIPS 2021, arXiv:2102.03448.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ._types import ClientRatings, PartialSum, RoundContext, ServerModel


@dataclass(frozen=True)
class RoundParts:
    """The stations of a round; each says for itself what it can work with."""

    split: Any
    reconstruction: Any
    client_update: Any
    aggregator: Any
    server_optimizer: Any


@dataclass(frozen=True)
class ServerState:
    """The model and what the server's own parts remember between rounds."""

    model: ServerModel
    aggregator: dict
    optimizer: dict


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is rejected on the way
def on_devices(
    clients: ClientRatings, model: ServerModel, parts: RoundParts, context: RoundContext
) -> PartialSum:
    """ClientUpdate of Algorithm 1, for a chunk of clients at once."""
    support, query = parts.split.split(clients, context)
    users = parts.reconstruction.reconstruct(support, model, context)
    updates = parts.client_update.update(query, users, model, context)
    return parts.aggregator.encode(updates, context)  # users are forgotten here


def run_round(
    cohort: ClientRatings,
    state: ServerState,
    parts: RoundParts,
    context: RoundContext,
    map_chunks: Callable[[Callable, ClientRatings], Iterable[PartialSum]],
) -> tuple[ServerState, dict]:
    """One round: the model goes out to the cohort, sums come back, the server steps."""
    client_step = partial(on_devices, model=state.model, parts=parts, context=context)
    total = parts.aggregator.combine(map_chunks(client_step, cohort))
    aggregate, aggregator, measured = parts.aggregator.finish(total, state.aggregator, context)
    if measured["finite"]:
        model, optimizer = parts.server_optimizer.apply(
            state.model, aggregate, state.optimizer, context
        )
        state = ServerState(model, aggregator, optimizer)
    return state, measured
