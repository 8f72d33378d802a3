"""The server step of the variational algorithm."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from .._compat import Interval
from .._types import Aggregate, ServerContext, ServerModel, permuted, rotated

_FLOOR = 1e-8  # relative; keeps constant ratings and single users finite


class NaturalGradient(BaseEstimator):
    """Natural-gradient step on the items, and empirical Bayes for all variances.

    Every item shares one curvature matrix ``M``, the second moment of the users, scaled
    by the item's own number of raters: the progress of alternating least squares for the
    upload of a gradient. With the sums ``g_i``, ``e_i`` and ``n_i`` over the cohort::

        M = Q diag(w) Q',  V <- V Q,  g <- g Q
        p_i = n_i w / sigma2 + lam_v
        v_i <- v_i + rho (g_i / sigma2 - lam_v v_i) / p_i,  kappa_i = 1 / p_i

    and the same for the biases with ``q_i = n_i / sigma2 + lam_b``. With all clients
    ``rho`` is 1. With a sampled cohort the sums are scaled by the inverse of the rate,
    ``M``, ``sigma2``, the mean user bias and ``n_i`` are running averages, and the prior
    pulls at an item as often as its raters take part. After each step the components are put
    in the order of the variance that they explain.

    Parameters
    ----------
    step_size : float, default=0.3
        In (0, 1]: ``rho`` of the first round with a sampled cohort; later ``step_size * (1 + t /
        step_delay) ** -step_decay``, where ``t`` counts the cohorts of the present rate
        that everything seen so far amounts to.
    step_delay : float, default=10.0
        Rounds before the step shrinks.
    step_decay : float, default=0.7
        Exponent with which it shrinks.

    Examples
    --------
    >>> from sklearn_fedrecon.server_optimizers import NaturalGradient
    >>> NaturalGradient(step_size=0.2)
    NaturalGradient(step_size=0.2)
    """

    needs = ("sufficient statistics",)
    _parameter_constraints = {  # noqa: RUF012
        "step_size": [Interval(Real, 0, 1, closed="right")],
        "step_delay": [Interval(Real, 0, None, closed="neither")],
        "step_decay": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(self, step_size: float = 0.3, step_delay: float = 10.0, step_decay: float = 0.7):
        self.step_size = step_size
        self.step_delay = step_delay
        self.step_decay = step_decay

    def init(self, model: ServerModel) -> dict[str, np.ndarray]:
        """Return the state before the first round.

        Parameters
        ----------
        model : ServerModel

        Returns
        -------
        state : dict of str to ndarray
            ``participation`` (rounds, each times its rate), the running averages
            ``counts`` of shape (n_items,), ``moment`` of shape (k, k), ``bias_mean``,
            ``bias_square`` and ``noise``, and the floor ``unit`` of variances.
        """
        k = model.n_components
        return {
            "participation": np.asarray(0.0),
            "counts": np.zeros(model.n_items),
            "moment": np.zeros((k, k)),
            "bias_mean": np.asarray(0.0),
            "bias_square": np.asarray(0.0),
            "noise": np.asarray(0.0),
            "unit": np.asarray(float(model.noise_variance)),
        }

    def apply(
        self,
        model: ServerModel,
        aggregate: Aggregate,
        state: dict[str, np.ndarray],
        context: ServerContext,
    ) -> tuple[ServerModel, dict[str, np.ndarray]]:
        """Take one step.

        Parameters
        ----------
        model : ServerModel
        aggregate : Aggregate
            Means over the clients of what `VariationalUpdate` sends.
        state : dict of str to ndarray
        context : ServerContext

        Returns
        -------
        model : ServerModel
        state : dict of str to ndarray
        """
        if not aggregate.statistics["rating_weight"] > 0:  # nobody had a rating to learn from
            return model, state
        step, memory = self._step_sizes(state, context)
        # The order matters: the new noise and the users' new spread, but the items' prior of
        # before. By the new prior an item would be pulled by what it is itself a part of.
        state = _running_averages(state, aggregate, memory, context)
        noise = max(float(state["noise"]), _FLOOR * float(state["unit"]))
        scale = aggregate.client_weight / context.rate
        pull = _prior_pull(scale * aggregate.rows["counts"], state["counts"], context) * step
        per_noise = step * scale / noise
        gradient = (aggregate.rows["item_factors"] * per_noise).astype(model.dtype)
        spread, axes = _principal_axes(state["moment"], rotate=not context.streaming)
        if axes is not None:
            axes = axes.astype(model.dtype)
            model, gradient = rotated(model, axes), gradient @ axes
            state["moment"] = np.diag(spread)
        spread = np.maximum(spread, _FLOOR * state["unit"])
        fields = _new_factors(model, gradient, pull, spread / noise, state)
        if model.fit_bias:
            sums = aggregate.rows["item_bias"] * per_noise
            fields |= _new_biases(model, sums, pull, noise, state)
        model = replace(model, **fields, **_new_users(model, state, spread, noise))
        # Users that were not handed in keep the states that they have: no axis may move.
        return (model, state) if context.streaming else _in_order(model, state)

    def _step_sizes(self, state: dict, context: ServerContext) -> tuple[float, float]:
        """Step of the items and weight of the newest term of the running averages."""
        if context.rate >= 1:
            return 1.0, 1.0
        t = float(state["participation"]) / context.rate
        step = self.step_size * (1 + t / self.step_delay) ** -self.step_decay
        # The first cohorts are averaged evenly: a fixed weight would keep what was there before
        # anybody was heard of.
        return step, max(step, 1 / (t + 1))


def _running_averages(
    state: dict, aggregate: Aggregate, memory: float, context: ServerContext
) -> dict[str, np.ndarray]:
    """Mix this round's moments, noise and counts into those remembered."""
    means = aggregate.statistics
    now = {
        "counts": aggregate.rows["counts"] * (aggregate.client_weight / context.rate),
        "moment": means["second_moment"],
        "bias_mean": means.get("bias_mean", state["bias_mean"]),
        "bias_square": means.get("bias_square", state["bias_square"]),
        "noise": means["noise"] / means["rating_weight"],
    }
    mixed = {name: (1 - memory) * state[name] + memory * now[name] for name in now}
    return state | mixed | {"participation": state["participation"] + context.rate}


def _principal_axes(moment: np.ndarray, *, rotate: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Variances of the users along the axes, and the axes (k, k).

    Each stands where the old axis stood that it is nearest to: these were in order, so there is
    seldom a component to be moved after the step. Without rotation the present axes are kept,
    and None is returned for them.
    """
    if not rotate or len(moment) == 0:
        return np.diag(moment).copy(), None
    spread, axes = np.linalg.eigh(moment)
    nearest = np.abs(axes).argmax(axis=0)
    signs = np.where(axes[nearest, np.arange(len(axes))] < 0, -1.0, 1.0)
    order = np.argsort(nearest, kind="stable")
    return spread[order], (axes * signs)[:, order]


def _prior_pull(sums: np.ndarray, counts: np.ndarray, context: ServerContext) -> np.ndarray:
    """Share of the prior that acts on each item in this round, shape (n_items,).

    Its mean over rounds is one. An item that the cohort does not contain rests; one that
    nobody is known to have rated goes to its prior, unless the cohort was handed in.
    """
    nobody = 0.0 if context.streaming else 1.0
    return np.divide(sums, counts, out=np.full(len(counts), nobody), where=counts > 0)


def _posterior(values, gradient, precision, prior_precision, pull):
    """Step towards the posterior mean of items, and its variance.

    They are written over ``gradient`` and ``precision``.
    """
    precision += prior_precision
    variance = np.reciprocal(precision, out=precision)
    gradient -= (pull * prior_precision) * values
    gradient *= variance
    gradient += values
    return gradient, variance


def _new_factors(
    model: ServerModel, gradient: np.ndarray, pull: np.ndarray, curvature: np.ndarray, state: dict
) -> dict[str, Any]:
    """Fields of the model: new factors, and their prior from the items that were seen.

    ``curvature`` is what one rating adds to the precision of each component, (k,).
    """
    dtype, counts = model.dtype, state["counts"]
    factors, variance = _posterior(
        model.item_factors,
        gradient,
        np.outer(counts.astype(dtype), curvature.astype(dtype)),
        1.0 / np.asarray(model.item_prior_variance),
        pull[:, None].astype(dtype),
    )
    seen = (counts > 0).astype(dtype)
    prior = (seen @ np.square(factors) + seen @ variance) / seen.sum(dtype=dtype)
    return {
        "item_factors": factors,
        "item_variance": variance,
        "item_prior_variance": np.maximum(prior, dtype.type(_FLOOR)),
    }


def _new_biases(
    model: ServerModel, gradient: np.ndarray, pull: np.ndarray, noise: float, state: dict
) -> dict[str, Any]:
    """Fields of the model: new item biases, and their prior from the items that were seen."""
    seen = state["counts"] > 0
    bias, variance = _posterior(
        model.item_bias.astype(np.float64),
        gradient,
        state["counts"] / noise,
        1.0 / model.item_bias_prior_variance,
        pull,
    )
    prior = np.mean(np.square(bias[seen]) + variance[seen])
    return {
        "item_bias": bias.astype(model.dtype),
        "item_bias_variance": variance.astype(model.dtype),
        "item_bias_prior_variance": max(float(prior), _FLOOR * float(state["unit"])),
    }


def _new_users(
    model: ServerModel, state: dict, spread: np.ndarray, noise: float
) -> dict[str, Any]:
    """Fields of the model: the noise and the users' prior of ``state``."""
    mean, variance = np.zeros(len(spread)), spread
    if model.fit_bias:
        centre, floor = float(state["bias_mean"]), _FLOOR * float(state["unit"])
        mean = np.append(mean, centre)
        variance = np.append(spread, max(float(state["bias_square"]) - centre**2, floor))
    return {
        "noise_variance": noise,
        "user_prior_mean": mean.astype(model.dtype),
        "user_prior_variance": variance.astype(model.dtype),
    }


def _in_order(model: ServerModel, state: dict) -> tuple[ServerModel, dict[str, np.ndarray]]:
    """Order the components by the variance of the ratings that they explain.

    By that of the users alone the order would be another: it says nothing of the items.
    """
    k, counts = model.n_components, state["counts"].astype(model.dtype)
    explained = model.user_prior_variance[:k] * (counts @ np.square(model.item_factors))
    order = np.argsort(-explained, kind="stable")
    if (order == np.arange(k)).all():
        return model, state
    return permuted(model, order), state | {"moment": state["moment"][np.ix_(order, order)]}
