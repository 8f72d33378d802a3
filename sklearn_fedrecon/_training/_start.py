"""Where the loop over rounds starts: from numbers, from clients' answers, from an earlier fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .._encoding import scale_bounds
from .._round import RoundParts
from .._types import ClientRatings, LoopState, ServerModel, ServerState, grown
from ._exchanges import RatingMean, RatingScale, run_exchanges


def exchanges_of(settings: Any, parts: RoundParts) -> list:
    """What has to be asked of clients because nobody declared it."""
    wants_mean = settings.global_mean == "federated"
    wants_scale = parts.reconstruction.needs_scale and (
        wants_mean or settings.rating_scale is None
    )
    return [RatingMean()] * (wants_mean or wants_scale) + [RatingScale()] * wants_scale


def first_state(
    settings: Any, population: ClientRatings, parts: RoundParts, seed: int, map_chunks: Callable
) -> tuple[ServerState, dict[str, np.ndarray]]:
    """Run the exchanges, and make the state before the first round of what they conclude.

    Parameters
    ----------
    settings : estimator
    population : ClientRatings
        Or what `ChunkMap.place` made of it.
    parts : RoundParts
    seed : int
    map_chunks : callable

    Returns
    -------
    state : ServerState
    costs : dict of str to ndarray of shape (n_exchanges,)
    """
    asked = exchanges_of(settings, parts)
    _, found, costs = run_exchanges(asked, population, parts.aggregator, seed, map_chunks)
    mean, scale = _mean_and_scale(settings, found, np.dtype(settings.dtype))
    model = first_model(settings, parts, seed, mean, scale, population.n_items)
    return ServerState(
        model, parts.aggregator.init(model), parts.server_optimizer.init(model)
    ), costs


def _mean_and_scale(settings: Any, found: dict, dtype: np.dtype) -> tuple[float, float]:
    """Of the ratings: declared, found by exchanges, or no matter."""
    mean, scale = float(found.get("mean", 0.0)), 1.0
    if "scale" in found:
        negligible = 10 * np.finfo(dtype).eps * abs(mean)
        scale = float(found["scale"]) if found["scale"] > negligible else 1.0
    elif settings.rating_scale is not None:
        low, high = scale_bounds(settings.rating_scale)
        scale = (high - low) / 4
    if settings.global_mean != "federated":
        mean = 0.0 if settings.global_mean == "learned" else float(settings.global_mean)
    return mean, scale


def first_model(
    settings: Any, parts: RoundParts, seed: int, mean: float, scale: float, n_items: int
) -> ServerModel:
    """The model before the first round; no rating is needed for it.

    Parameters
    ----------
    settings : estimator
    parts : RoundParts
    seed : int
    mean, scale : float
        Global mean, and standard deviation of the ratings.
    n_items : int
        Size of the catalogue.

    Returns
    -------
    model : ServerModel
    """
    model = parts.reconstruction.initial_model(
        n_items,
        settings.n_components,
        fit_bias=settings.fit_bias,
        global_mean=mean,
        scale=scale,
        dtype=settings.dtype,
        seed=seed,
    )
    return replace(model, learn_global_mean=settings.global_mean == "learned")


def resumed(
    settings: Any, loop: LoopState, n_items: int, parts: RoundParts, seed: int, data: str
) -> LoopState:
    """The loop to go on with.

    On the same ratings it goes on as if it had not stopped. On others, what it remembers was
    measured on what is no longer there: only the server that was handed over is kept, with
    room for new items.

    Parameters
    ----------
    settings : estimator
    loop : LoopState
    n_items : int
        Size of the catalogue, that of new items included.
    parts : RoundParts
    seed : int
    data : str
        Fingerprint of the ratings.

    Returns
    -------
    loop : LoopState

    Raises
    ------
    ValueError
        If parameters are not those that the state was made with.
    """
    _check_resumable(settings, loop.kept, parts)
    if data and data == loop.data:
        return loop
    state = loop.kept
    if n_items > state.model.n_items:
        model = state.model
        prior = model.item_prior_variance
        scale = 1.0 if prior is None or not prior.size else math.sqrt(prior.mean())
        fresh = first_model(settings, parts, seed, model.global_mean, scale, n_items)
        state = extended(state, fresh, parts.server_optimizer)
    return LoopState(state, loop.round, data=data)


def extended(state: ServerState, fresh: ServerModel, optimizer: Any) -> ServerState:
    """Let new items join, after those known.

    Parameters
    ----------
    state : ServerState
    fresh : ServerModel
        An initial model of the new, larger size.
    optimizer : server optimizer
        Its state grows by the rows that it starts with.

    Returns
    -------
    state : ServerState
    """
    model = grown(state.model, fresh)
    started = optimizer.init(model)
    for name, value in state.optimizer.items():
        if value.shape != started[name].shape:
            started[name][: len(value)] = value
        else:
            started[name] = value
    return ServerState(model, state.aggregator, started)


def _check_resumable(settings: Any, state: ServerState, parts: RoundParts) -> None:
    """Refuse to go on with parameters that the state was not made with."""
    model = state.model
    learned = "learned" if model.learn_global_mean else model.global_mean
    asked = settings.global_mean
    if asked == "federated" and not model.learn_global_mean:
        asked = learned
    for name, now, then in (
        ("n_components", settings.n_components, model.n_components),
        ("fit_bias", bool(settings.fit_bias), model.fit_bias),
        ("dtype", str(np.dtype(settings.dtype)), str(model.dtype)),
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
