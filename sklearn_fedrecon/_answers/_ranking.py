"""The best items for many users at once: one product, a partial selection, exact scores.

Products of matrices round differently for one user and for many. So they only select: whoever
could be among the best is scored again, each pair on its own, and what is returned does not
depend on who else is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._fitted import Fitted
from .._types import ServerModel

_BLOCK = 1 << 22  # scores that are looked at together


@dataclass(frozen=True)
class Askers:
    """Users who are to be recommended something.

    Attributes
    ----------
    factors : ndarray of shape (n_users, k)
    bias : ndarray of shape (n_users,)
    variances : ndarray of shape (n_users, d) or None
    rated : list of ndarray
        Indices of the items that each has rated.
    """

    factors: np.ndarray
    bias: np.ndarray
    variances: np.ndarray | None
    rated: list[np.ndarray]

    def span(self, start: int, stop: int) -> Askers:
        """Some of them."""
        part = slice(start, stop)
        variances = None if self.variances is None else self.variances[part]
        return Askers(self.factors[part], self.bias[part], variances, self.rated[part])


@dataclass(frozen=True)
class Ranked:
    """Items of every user, best first; users one after the other.

    Attributes
    ----------
    lengths : ndarray of shape (n_users,)
        How many items each user is given.
    items : ndarray of shape (lengths.sum(),)
        Indices.
    scores : ndarray of shape (lengths.sum(),)
        Predicted ratings.
    deviations : ndarray of shape (lengths.sum(),) or None
        Standard deviations of what is expected; a rating scatters about it.
    """

    lengths: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    deviations: np.ndarray | None


def rank(
    fitted: Fitted,
    askers: Askers,
    n: int,
    allowed: np.ndarray,
    *,
    caution: float,
    hide_rated: bool,
    deviations: bool,
) -> Ranked:
    """Rank items by the predicted rating less so many standard deviations.

    Parameters
    ----------
    fitted : Fitted
    askers : Askers
    n : int
        Items for each user; fewer where there are no more.
    allowed : ndarray of shape (n_items,), bool
        Items for everybody.
    caution : float
        Standard deviations to take off.
    hide_rated : bool
        Whether users are not given what they have rated.
    deviations : bool
        Whether standard deviations are wanted.

    Returns
    -------
    ranked : Ranked
    """
    columns = np.flatnonzero(allowed)
    place = np.full(len(allowed), -1)
    place[columns] = np.arange(len(columns))
    tables = _Tables(fitted.model, columns if len(columns) < len(allowed) else slice(None))
    step, blocks = max(1, _BLOCK // max(1, len(columns))), []
    for start in range(0, len(askers.bias), step):
        some = askers.span(start, start + step)
        bounds = tables.bounds(some, caution)
        if hide_rated:
            _hide(bounds, [place[rated] for rated in some.rated])
        users, places = _candidates(bounds, n)
        blocks.append(_exact(fitted.model, some, users, columns[places], n, caution, deviations))
    return Ranked(*map(_joined, zip(*blocks, strict=True)))


def all_bounds(fitted: Fitted, askers: Askers, allowed: np.ndarray, caution: float) -> np.ndarray:
    """Predicted ratings less so many standard deviations, of every user and allowed item.

    Parameters
    ----------
    fitted : Fitted
    askers : Askers
    allowed : ndarray of shape (n_items,), bool
    caution : float

    Returns
    -------
    bounds : ndarray of shape (n_users, n_allowed)
    """
    return _Tables(fitted.model, np.flatnonzero(allowed)).bounds(askers, caution)


class _Tables:
    """What the items' side of a product is, for some of the items."""

    def __init__(self, model: ServerModel, columns: np.ndarray | slice):
        self._model = model
        self._offsets = model.offsets()[columns]
        self._factors = model.item_factors[columns]
        self._columns = columns

    def bounds(self, askers: Askers, caution: float) -> np.ndarray:
        """Scores less ``caution`` standard deviations, (n_users, n_columns), nearly exact."""
        scores = askers.factors @ self._factors.T
        scores += self._offsets
        if caution and askers.variances is not None:
            scores -= caution * np.sqrt(self._variances(askers))
        scores += askers.bias[:, None]
        return scores

    def _variances(self, askers: Askers) -> np.ndarray:
        """Variances of what is expected, (n_users, n_columns)."""
        model, k = self._model, self._model.n_components
        spread = askers.variances[:, :k]
        total = spread @ np.square(self._factors).T
        total += (np.square(askers.factors) + spread) @ model.item_variance[self._columns].T
        total += model.item_bias_variance[self._columns]
        total += askers.variances[:, k:].sum(axis=1)[:, None]
        return total


def _hide(bounds: np.ndarray, places: list[np.ndarray]) -> None:
    """Put what users have rated out of reach."""
    users = np.repeat(np.arange(len(places)), [len(own) for own in places])
    own = np.concatenate(places)
    bounds[users[own >= 0], own[own >= 0]] = -np.inf


def _candidates(bounds: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of user and column that may be among the ``n`` best of the user."""
    width = bounds.shape[1]
    if n >= width:
        return np.nonzero(bounds > -np.inf)
    least = np.partition(bounds, width - n, axis=1)[:, width - n]
    slack = 64 * np.finfo(bounds.dtype).eps * (1 + np.abs(least))  # of products, in whatever order
    with np.errstate(invalid="ignore"):  # of a user who is left less than n items
        enough = np.where(least > -np.inf, least - slack, np.finfo(bounds.dtype).min)
    return np.nonzero(bounds >= enough[:, None])


def _exact(
    model: ServerModel,
    askers: Askers,
    users: np.ndarray,
    items: np.ndarray,
    n: int,
    caution: float,
    deviations: bool,
) -> tuple:
    """Scores of pairs, each on its own, and the ``n`` best of every user."""
    u, v = askers.factors[users], model.item_factors[items]
    scores = model.global_mean + askers.bias[users] + model.item_bias[items]
    scores = scores + np.einsum("rj,rj->r", u, v)
    bound, spread = scores, None
    if askers.variances is not None and (caution or deviations):
        k, s = model.n_components, askers.variances[users]
        total = model.item_bias_variance[items] + s[:, k:].sum(axis=1)
        total = total + np.einsum("rj,rj->r", np.square(v), s[:, :k])
        total += np.einsum("rj,rj->r", model.item_variance[items], np.square(u) + s[:, :k])
        spread = np.sqrt(total)
        bound = scores - caution * spread
    order = np.lexsort((items, -bound, users))  # ties in the order of the catalogue
    starts = np.searchsorted(users, np.arange(len(askers.bias)))
    kept = order[np.arange(len(users)) - starts[users] < n]
    lengths = np.bincount(users[kept], minlength=len(askers.bias))
    wanted = spread[kept] if deviations and spread is not None else None
    return lengths, items[kept], scores[kept], wanted


def _joined(parts: tuple) -> np.ndarray | None:
    return None if parts[0] is None else np.concatenate(parts)
