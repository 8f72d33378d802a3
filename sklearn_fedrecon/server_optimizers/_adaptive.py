"""Server steps with a memory of gradients and of their squares: Adam and Yogi."""

from __future__ import annotations

import numpy as np

from ._gradient import DECAY, RATE, GradientOptimizer, over_root


class Adam(GradientOptimizer):
    """Steps along a running mean of gradients, over the root of one of their squares.

    In round ``t``, from 1, with ``m <- m + (1 - beta_1) (gradient - m)`` and ``v <- v + (1 -
    beta_2) (gradient**2 - v)``, the step is ``learning_rate * sqrt(1 - beta_2**t) / (1 -
    beta_1**t) * m / (sqrt(v) + epsilon)``.

    Parameters
    ----------
    learning_rate : float, default=0.01
        Step size.
    beta_1 : float, default=0.9
        Decay of the mean of gradients, in [0, 1).
    beta_2 : float, default=0.999
        Decay of the mean of squares, in [0, 1).
    epsilon : float, default=1e-7
        Added to the root.

    Examples
    --------
    >>> from sklearn_fedrecon.server_optimizers import Adam
    >>> Adam(learning_rate=0.03)
    Adam(learning_rate=0.03)
    """

    _parameter_constraints = {  # noqa: RUF012
        "learning_rate": RATE,
        "beta_1": DECAY,
        "beta_2": DECAY,
        "epsilon": RATE,
    }

    def __init__(
        self,
        learning_rate: float = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
    ):
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def _slots(self) -> dict[str, float]:
        return {"mean": 0.0, "preconditioner": 0.0}

    def _step(self, gradient, slots, number):
        mean = slots["mean"] + (gradient - slots["mean"]) * (1 - self.beta_1)
        squares = self._squares(slots["preconditioner"], np.square(gradient))
        correction = np.sqrt(1 - self.beta_2**number) / (1 - self.beta_1**number)
        step = over_root(mean, np.sqrt(squares) + self.epsilon)
        after = {"mean": mean, "preconditioner": squares}
        return self.learning_rate * correction * step, after

    def _squares(self, old: np.ndarray, squared: np.ndarray) -> np.ndarray:
        """The running mean of squared gradients after one more."""
        return old + (squared - old) * (1 - self.beta_2)


class Yogi(Adam):
    """As Adam, with squares that move by steps of the size of the gradient's.

    ``v <- v + (1 - beta_2) sign(gradient**2 - v) gradient**2``: ``v`` shrinks slowly where
    Adam forgets fast.

    Parameters
    ----------
    learning_rate : float, default=0.1
        Step size; usually larger than that of Adam.
    beta_1 : float, default=0.9
        Decay of the mean of gradients, in [0, 1).
    beta_2 : float, default=0.999
        Speed of the squares, in [0, 1).
    epsilon : float, default=1e-3
        Added to the root.
    initial_preconditioner_value : float, default=1e-6
        What ``v`` starts from.

    References
    ----------
    Zaheer et al., "Adaptive Methods for Nonconvex Optimization", NeurIPS 2018.

    Examples
    --------
    >>> from sklearn_fedrecon.server_optimizers import Yogi
    >>> Yogi(learning_rate=0.3)
    Yogi(learning_rate=0.3)
    """

    _parameter_constraints = Adam._parameter_constraints | {"initial_preconditioner_value": RATE}

    def __init__(
        self,
        learning_rate: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-3,
        initial_preconditioner_value: float = 1e-6,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon)
        self.initial_preconditioner_value = initial_preconditioner_value

    def _slots(self) -> dict[str, float]:
        return {"mean": 0.0, "preconditioner": self.initial_preconditioner_value}

    def _squares(self, old: np.ndarray, squared: np.ndarray) -> np.ndarray:
        """The squares after one more squared gradient."""
        return old + (1 - self.beta_2) * np.sign(squared - old) * squared
