"""Clients that never train: held out to say when to stop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._encoding import id_keys
from .._kernels._blocks import linear_predictions
from .._random import Stream, client_words
from .._round import RoundParts
from .._types import ClientRatings, DeviceContext, ServerModel
from ..splitting import RandomSplit


@dataclass(frozen=True)
class HeldOut:
    """Clients that never train: rebuilt from ``support``, judged on ``query``."""

    support: ClientRatings
    query: ClientRatings


def hold_out(
    settings: Any, ratings: ClientRatings, users: np.ndarray, seed: int
) -> tuple[ClientRatings, HeldOut | None]:
    """Clients to train on, and those held out where early stopping asks for it.

    Each is held out, or not, by its own id and the seed: who joins or leaves moves nobody
    else. One at least is held out, and one left.

    Parameters
    ----------
    settings : estimator
        Has ``early_stopping`` and ``validation_fraction``.
    ratings : ClientRatings
    users : ndarray of shape (n_clients,)
        Ids of the clients.
    seed : int

    Returns
    -------
    train : ClientRatings
    held_out : HeldOut or None
    """
    if not settings.early_stopping:
        return ratings, None
    if ratings.n_clients < 2:
        raise ValueError(
            f"early_stopping holds out a user, and there is {ratings.n_clients} (n_samples="
            f"{ratings.n_ratings}), which leaves nobody to train on: switch it off, or fit "
            "more users."
        )
    keys = id_keys(users)
    words = client_words(seed, Stream.VALIDATION, 0, keys, np.ones(len(keys), dtype=np.int64))
    drawn = (words >> np.uint64(11)) * 2.0**-53
    is_held = drawn < settings.validation_fraction
    is_held[drawn.argmin()], is_held[drawn.argmax()] = True, False
    held = np.flatnonzero(is_held)
    # Keyed by id here too: the same half of a user's ratings, whoever else there is.
    judged = replace(ratings.take(held), clients=keys[held].view(np.int64))
    # RandomSplit rounds its first half up: a user with one rating is judged on it.
    query, support = RandomSplit(0.5).split(judged, DeviceContext(0, seed))
    return ratings.take(np.flatnonzero(~is_held)), HeldOut(support, query)


@np.errstate(over="ignore", invalid="ignore")  # where training diverges, so does this
def held_out_rmse(
    held_out: HeldOut, model: ServerModel, parts: RoundParts, seed: int, number: int
) -> float:
    """Root mean squared error on the query of users rebuilt from their support.

    Parameters
    ----------
    held_out : HeldOut
    model : ServerModel
    parts : RoundParts
    seed : int
    number : int
        Of the round, from 0.

    Returns
    -------
    rmse : float
    """
    context, query = DeviceContext(number, seed, serving=True), held_out.query
    prepared = parts.reconstruction.prepare(model)
    support = parts.split.whole(held_out.support, context)
    users = parts.reconstruction.reconstruct(support, prepared, context)
    predicted = linear_predictions(query, prepared.design, users.states)
    errors = np.square(prepared.residuals(query) - predicted)
    return float(np.sqrt(np.average(errors, weights=query.weights)))
