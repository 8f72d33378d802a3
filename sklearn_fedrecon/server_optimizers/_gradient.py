"""Server steps along the mean update of the clients: what they share, SGD and Adagrad.

All take minus the mean delta of the clients for a gradient, of each array that clients
train: Federated Averaging with plain SGD, "FedOpt" otherwise. The rules and the constants
are those of TensorFlow Federated.

References
----------
Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from .._compat import Interval
from .._types import Aggregate, ServerContext, ServerModel

_BY_ITEM = ("item_factors", "item_bias")
_TRAINABLE = (*_BY_ITEM, "global_mean", "user_prior_mean")
RATE = [Interval(Real, 0, None, closed="left")]
DECAY = [Interval(Real, 0, 1, closed="left")]


class GradientOptimizer(BaseEstimator):
    """What the optimizers share: they differ in slots and in the step of one array."""

    needs = ("item deltas",)

    def init(self, model: ServerModel) -> dict[str, np.ndarray]:
        """Return the state before the first round.

        Parameters
        ----------
        model : ServerModel

        Returns
        -------
        state : dict of str to ndarray
            ``round``, and for every slot of the optimizer and array of the model, an array
            of that array's shape.
        """
        state = {"round": np.asarray(0)}
        for slot, start in self._slots().items():
            for name in _TRAINABLE:
                shape = np.shape(getattr(model, name))
                state[f"{slot}_{name}"] = np.full(shape, float(start))
        return state

    def apply(
        self,
        model: ServerModel,
        aggregate: Aggregate,
        state: dict[str, np.ndarray],
        context: ServerContext,
    ) -> tuple[ServerModel, dict[str, np.ndarray]]:
        """Take one step; none where no client had anything to say.

        Parameters
        ----------
        model : ServerModel
        aggregate : Aggregate
            Mean deltas of the arrays that clients trained, by name.
        state : dict of str to ndarray
        context : ServerContext
            Items that a cohort handed in does not contain rest, momentum or not.

        Returns
        -------
        model : ServerModel
        state : dict of str to ndarray
        """
        if aggregate.client_weight == 0:  # no step of the momentum either, as published
            return model, state
        deltas = aggregate.rows | aggregate.statistics
        number = np.asarray(state["round"] + 1)
        values, moved = {}, {"round": number}
        resting = _resting(aggregate.rows) if context.streaming else None
        for name in (name for name in _TRAINABLE if name in deltas):
            value = np.asarray(getattr(model, name), dtype=np.float64)
            slots = {slot: state[f"{slot}_{name}"] for slot in self._slots()}
            step, after = self._step(-deltas[name], slots, int(number))
            if resting is not None and name in _BY_ITEM:
                step[resting] = 0
                for slot, old in slots.items():
                    after[slot][resting] = old[resting]
            values[name] = value - step
            moved |= {f"{slot}_{name}": np.asarray(after[slot]) for slot in slots}
        return _with_values(model, values), state | moved


class SGD(GradientOptimizer):
    """Gradient descent, with momentum or without: Federated Averaging.

    The step is ``learning_rate * m`` with ``m <- momentum * m + gradient``.

    Parameters
    ----------
    learning_rate : float, default=1.0
        Step size. With 1 and without momentum, the model moves to the clients' mean.
    momentum : float, default=None
        Decay of past gradients, in [0, 1). None is 0.

    Examples
    --------
    >>> from sklearn_fedrecon.server_optimizers import SGD
    >>> SGD(learning_rate=0.5, momentum=0.9)
    SGD(learning_rate=0.5, momentum=0.9)
    """

    _parameter_constraints = {"learning_rate": RATE, "momentum": [*DECAY, None]}  # noqa: RUF012

    def __init__(self, learning_rate: float = 1.0, momentum: float | None = None):
        self.learning_rate = learning_rate
        self.momentum = momentum

    def _slots(self) -> dict[str, float]:
        return {"momentum": 0.0} if self.momentum else {}

    def _step(self, gradient, slots, number):
        if not slots:
            return self.learning_rate * gradient, {}
        velocity = self.momentum * slots["momentum"] + gradient
        return self.learning_rate * velocity, {"momentum": velocity}


class Adagrad(GradientOptimizer):
    """Steps over the root of all past squared gradients.

    The step is ``learning_rate * gradient / sqrt(v + epsilon)`` with ``v <- v +
    gradient**2``.

    Parameters
    ----------
    learning_rate : float, default=0.1
        Step size.
    initial_preconditioner_value : float, default=0.1
        What ``v`` starts from.
    epsilon : float, default=1e-7
        Added below the root.

    Examples
    --------
    >>> from sklearn_fedrecon.server_optimizers import Adagrad
    >>> Adagrad(learning_rate=0.5)
    Adagrad(learning_rate=0.5)
    """

    _parameter_constraints = {  # noqa: RUF012
        "learning_rate": RATE,
        "initial_preconditioner_value": RATE,
        "epsilon": RATE,
    }

    def __init__(
        self,
        learning_rate: float = 0.1,
        initial_preconditioner_value: float = 0.1,
        epsilon: float = 1e-7,
    ):
        self.learning_rate = learning_rate
        self.initial_preconditioner_value = initial_preconditioner_value
        self.epsilon = epsilon

    def _slots(self) -> dict[str, float]:
        return {"preconditioner": self.initial_preconditioner_value}

    def _step(self, gradient, slots, number):
        squares = slots["preconditioner"] + np.square(gradient)
        step = over_root(gradient, np.sqrt(squares + self.epsilon))
        return self.learning_rate * step, {"preconditioner": squares}


def over_root(gradient: np.ndarray, root: np.ndarray) -> np.ndarray:
    """The quotient, zero where both are: what never moved stays."""
    return np.divide(gradient, root, out=np.zeros_like(root), where=root > 0)


def _resting(rows: dict[str, np.ndarray]) -> np.ndarray:
    """Which items the cohort did not touch, shape (n_items,)."""
    moved = [(row != 0).reshape(len(row), -1).any(axis=1) for row in rows.values()]
    return ~np.any(moved, axis=0)


def _with_values(model: ServerModel, values: dict[str, np.ndarray]) -> ServerModel:
    """Return the model with new arrays, in its own type."""
    with np.errstate(over="ignore"):
        fields: dict[str, Any] = {n: value.astype(model.dtype) for n, value in values.items()}
    if "global_mean" in values:
        fields["global_mean"] = float(values["global_mean"])
    return replace(model, **fields)
