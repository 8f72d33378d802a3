"""The model: what the server holds and sends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ._ratings import ClientRatings


@dataclass(frozen=True)
class ServerModel:
    """All that the server holds, and all that it sends.

    ``k`` is the number of components and ``d`` the length of a user's state: ``k``, and
    one more for the user's bias when biases are fitted.

    Attributes
    ----------
    item_factors : ndarray of shape (n_items, k)
    item_bias : ndarray of shape (n_items,)
    global_mean : float
    fit_bias : bool
        Whether users and items have a bias.
    item_variance : ndarray of shape (n_items, k) or None
        Posterior variances; None where the algorithm keeps point estimates.
    item_bias_variance : ndarray of shape (n_items,) or None
    noise_variance : float
    user_prior_mean : ndarray of shape (d,)
    user_prior_variance : ndarray of shape (d,)
    item_prior_variance : float
    item_bias_prior_variance : float
    learn_global_mean : bool
        Whether clients update the global mean.
    """

    item_factors: np.ndarray
    item_bias: np.ndarray
    global_mean: float
    fit_bias: bool
    user_prior_mean: np.ndarray
    user_prior_variance: np.ndarray
    item_variance: np.ndarray | None = None
    item_bias_variance: np.ndarray | None = None
    noise_variance: float = 1.0
    item_prior_variance: float = 1.0
    item_bias_prior_variance: float = 1.0
    learn_global_mean: bool = False

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return self.item_factors.shape[0]

    @property
    def n_components(self) -> int:
        """Number of components ``k``."""
        return self.item_factors.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The type that the arithmetic is done in."""
        return self.item_factors.dtype

    @cached_property
    def table(self) -> np.ndarray:
        """The rows of `design`, each with minus the `offsets` of its item after it, and a last
        row of zeros for padding: shape (n_items + 1, d + 1).
        """
        table = np.zeros((self.n_items + 1, len(self.user_prior_mean) + 1), dtype=self.dtype)
        table[:-1, : self.n_components] = self.item_factors
        table[:-1, self.n_components : -1] = 1
        table[:-1, -1] = -self.offsets()
        return table

    def design(self) -> np.ndarray:
        """Item rows ``x_i`` (n_items, d): the factors, and a one where biases are fitted."""
        return self.table[:-1, :-1]

    def __getstate__(self) -> dict[str, Any]:
        """All but the table, which is made again where it is needed."""
        return {name: value for name, value in vars(self).items() if name != "table"}

    def offsets(self) -> np.ndarray:
        """What every item's ratings have in common, shape (n_items,): mean and item bias."""
        return self.item_bias + self.dtype.type(self.global_mean)

    def residuals(self, ratings: ClientRatings) -> np.ndarray:
        """Ratings less global mean and item bias, shape (n_ratings,)."""
        return ratings.values - np.take(self.offsets(), ratings.items)
