"""What clients are asked outside of rounds: before the first, beside them, and after the last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .._kernels._blocks import linear_predictions
from .._round import RoundParts, ServerState
from .._types import ClientRatings, RoundContext, ServerModel, UserStates

_EXCHANGE_SIZE = 1 << 17  # ratings that the first exchange takes at once


@dataclass(frozen=True)
class HeldOut:
    """Clients that never train: rebuilt from ``support``, judged on ``query``."""

    support: ClientRatings
    query: ClientRatings


def first_exchange(ratings: ClientRatings) -> tuple[float, float]:
    """Mean and standard deviation of all ratings, from three numbers of every client.

    Each client sends its weight, its mean and its sum of squares about that mean; the server
    sees those of many clients merged into three numbers.

    Parameters
    ----------
    ratings : ClientRatings

    Returns
    -------
    mean : float
    scale : float
        One where the ratings are all equal.
    """
    messages = [_moments(chunk) for chunk in ratings.chunks(_EXCHANGE_SIZE)]
    weight, mean, squares = _merged(*(np.array(column) for column in zip(*messages, strict=True)))
    scale = np.sqrt(squares / weight)
    negligible = 10 * np.finfo(ratings.values.dtype).eps * abs(mean)
    return float(mean), float(scale) if scale > negligible else 1.0


def _moments(ratings: ClientRatings) -> tuple[float, float, float]:
    """Weight, mean and sum of squares about it, of all clients of a chunk together."""
    owners, n = ratings.owners(), ratings.n_clients
    weights = ratings.rating_weights().astype(np.float64)
    weight = np.bincount(owners, weights, minlength=n)
    sums = np.bincount(owners, weights * ratings.values, minlength=n)
    means = np.divide(sums, weight, out=np.zeros(n), where=weight > 0)
    squares = np.bincount(owners, weights * (ratings.values - means[owners]) ** 2, minlength=n)
    if ratings.scatter is not None:
        squares += np.bincount(owners, ratings.scatter, minlength=n)
    return _merged(weight, means, squares)


def _merged(
    weights: np.ndarray, means: np.ndarray, squares: np.ndarray
) -> tuple[float, float, float]:
    """Weight, mean and squares of several groups together; without cancellation."""
    weight = weights.sum()
    mean = weights @ means / weight if weight > 0 else 0.0
    return weight, mean, squares.sum() + weights @ (means - mean) ** 2


@np.errstate(over="ignore", invalid="ignore")  # where training diverges, so does this
def held_out_rmse(
    held_out: HeldOut, state: ServerState, parts: RoundParts, context: RoundContext
) -> float:
    """Root mean squared error on the query of users rebuilt from their support.

    Parameters
    ----------
    held_out : HeldOut
    state : ServerState
    parts : RoundParts
    context : RoundContext

    Returns
    -------
    rmse : float
    """
    model, query = state.model, held_out.query
    support = parts.split.whole(held_out.support, context)
    users = parts.reconstruction.reconstruct(support, model, context)
    predicted = linear_predictions(query, model.design(), users.states)
    errors = np.square(model.residuals(query) - predicted)
    return float(np.sqrt(np.average(errors, weights=query.weights)))


def rebuild_users(
    ratings: ClientRatings, model: ServerModel, parts: RoundParts, seed: int, map_chunks: Callable
) -> UserStates:
    """Rebuild every client from all of its ratings, as a device does to be served.

    The seed does not depend on who the client is: rebuilding a stored user alone gives
    what is stored.

    Parameters
    ----------
    ratings : ClientRatings
    model : ServerModel
    parts : RoundParts
    seed : int
    map_chunks : callable

    Returns
    -------
    users : UserStates

    Raises
    ------
    ValueError
        If a reconstruction by gradient steps overflows.
    """
    context = RoundContext(round=0, n_clients=1, rate=1.0, seed=seed)
    step = partial(_serve, model=model, parts=parts, context=context)
    served = list(map_chunks(step, ratings))
    known = [users.variances for users in served if users.variances is not None]
    states = np.concatenate([users.states for users in served])
    if not np.isfinite(states).all():
        raise ValueError(
            f"Users rebuilt by {parts.reconstruction!r} are not finite: its steps are too large "
            "for this model and these ratings. Lower reconstruction__learning_rate, or fit anew."
        )
    return UserStates(states, np.concatenate(known) if known else None)


@np.errstate(over="ignore", invalid="ignore")  # the caller looks at the outcome
def _serve(ratings, model, parts, context) -> UserStates:
    """Rebuild a chunk of clients, all with the key of the same one; drop the by-products."""
    anonymous = replace(ratings, clients=np.zeros_like(ratings.clients))
    whole = parts.split.whole(anonymous, context)
    users = parts.reconstruction.reconstruct(whole, model, context)
    return UserStates(users.states, users.variances)
