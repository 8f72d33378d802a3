"""The model: what the server holds and sends."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ._ratings import ClientRatings
from ._schema import COMPONENT, ITEM, SERVING, STATE, TRAINING, array, number


def _new_factors(model: ServerModel, fresh: ServerModel) -> np.ndarray | float:
    """Of new items: the mean of their prior, or, for point estimates, drawn as at the start."""
    return 0.0 if model.item_variance is not None else fresh.item_factors[model.n_items :]


@dataclass(frozen=True)
class ServerModel:
    """All that the server holds, and all that it sends.

    ``k`` is the number of components and ``d`` the length of a user's state: ``k``, and
    one more for the user's bias when biases are fitted. How a field is shown, sent, stored,
    and what becomes of it when items join or axes turn, is declared with it (`Spec`).

    Attributes
    ----------
    item_factors : ndarray of shape (n_items, k)
    item_bias : ndarray of shape (n_items,)
    global_mean : float
    fit_bias : bool
        Whether users and items have a bias.
    user_prior_mean : ndarray of shape (d,)
    user_prior_variance : ndarray of shape (d,)
    item_variance : ndarray of shape (n_items, k) or None
        Posterior variances; None where the algorithm keeps point estimates.
    item_bias_variance : ndarray of shape (n_items,) or None
    noise_variance : float
    item_prior_variance : ndarray of shape (k,)
    item_bias_prior_variance : float
    learn_global_mean : bool
        Whether clients update the global mean.
    """

    item_factors: np.ndarray = array(
        ITEM, COMPONENT, attribute="item_factors_", sent=SERVING, turns=True, joins=_new_factors
    )
    item_bias: np.ndarray = array(
        ITEM, attribute="item_bias_", sent=SERVING, of_bias=True, joins=lambda *_: 0.0
    )
    global_mean: float = number(attribute="global_mean_", sent=SERVING)
    fit_bias: bool = number(kinds="b")
    user_prior_mean: np.ndarray = array(
        STATE, attribute="user_prior_mean_", sent=SERVING, turns=True
    )
    user_prior_variance: np.ndarray = array(
        STATE, attribute="user_prior_variance_", sent=SERVING, above=0
    )
    item_variance: np.ndarray | None = array(
        *(ITEM, COMPONENT),
        attribute="item_variance_",
        sent=SERVING,
        least=0,
        optional=True,
        joins=lambda model, _: model.item_prior_variance,
    )
    item_bias_variance: np.ndarray | None = array(
        ITEM,
        attribute="item_bias_variance_",
        sent=SERVING,
        least=0,
        optional=True,
        of_bias=True,
        joins=lambda model, _: model.item_bias_prior_variance,
    )
    noise_variance: float = number(default=1.0, attribute="noise_variance_", sent=SERVING, above=0)
    item_prior_variance: np.ndarray | None = array(COMPONENT, above=0, optional=True, spread=True)
    item_bias_prior_variance: float = number(default=1.0, above=0)
    learn_global_mean: bool = number(default=False, kinds="b", sent=TRAINING)

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

    def offsets(self) -> np.ndarray:
        """What every item's ratings have in common, shape (n_items,): mean and item bias."""
        return self.item_bias + self.dtype.type(self.global_mean)


@dataclass(frozen=True)
class Prepared:
    """What devices make of the model once a round, whichever clients they compute.

    Attributes
    ----------
    model : ServerModel
    table : ndarray of shape (n_items + 1, d + 1)
        The rows of `design`, each with minus the offset of its item after it, and a last row
        of zeros for padding: one gather brings all that a rating needs.
    further : dict of str to ndarray
        Tables of a reconstruction's own.
    """

    model: ServerModel
    table: np.ndarray
    further: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ServerModel) -> Prepared:
        """The tables that every reconstruction needs.

        Parameters
        ----------
        model : ServerModel

        Returns
        -------
        prepared : Prepared
        """
        k = model.n_components
        shape = model.n_items + 1, len(model.user_prior_mean) + 1
        table = np.zeros(shape, dtype=model.dtype)
        table[:-1, :k] = model.item_factors
        table[:-1, k:-1] = 1
        table[:-1, -1] = -model.offsets()
        return cls(model, table)

    @property
    def design(self) -> np.ndarray:
        """Item rows ``x_i`` (n_items, d): the factors, and a one where biases are fitted."""
        return self.table[:-1, :-1]

    @cached_property
    def variances(self) -> np.ndarray:
        """Posterior variances of the items, those of the biases last, (n_items, k + 1)."""
        model = self.model
        return np.column_stack([model.item_variance, model.item_bias_variance])

    def residuals(self, ratings: ClientRatings) -> np.ndarray:
        """Ratings less global mean and item bias, shape (n_ratings,)."""
        return ratings.values + self.table[ratings.items, -1]
