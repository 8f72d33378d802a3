"""What a fit leaves behind: one record, the attributes that show it, and its users rebuilt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from ._compat import warn_caller
from ._encoding import IdIndex
from ._round import Question, RoundParts, serve
from ._types import (
    ClientRatings,
    DeviceContext,
    LoopState,
    ServerModel,
    ServerState,
    UserStates,
    fitted_attributes,
    starts_and_end,
)


@dataclass(frozen=True)
class Devices:
    """What the simulated devices hold. No rating is kept.

    Attributes
    ----------
    users : IdIndex
    states : UserStates
    rated : tuple of (ndarray of shape (n_users + 1,), ndarray)
        ``indptr`` and indices of the items that each user rated.
    """

    users: IdIndex
    states: UserStates
    rated: tuple[np.ndarray, np.ndarray]

    @classmethod
    def nobody(cls, model: ServerModel) -> Devices:
        """No devices at all."""
        states = np.empty((0, len(model.user_prior_mean)), dtype=model.dtype)
        users = UserStates(states, None if model.item_variance is None else states)
        rated = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32)
        return cls(IdIndex(np.empty(0, dtype=np.int64), "user"), users, rated)

    def warn_if_fewer(self, rated: ClientRatings) -> None:
        """Warn where known users come with fewer ratings than before.

        Parameters
        ----------
        rated : ClientRatings
            Their ratings, which replace what was stored of them.
        """
        starts, _ = self.rated
        known = rated.clients < len(starts) - 1
        before = np.diff(starts)[rated.clients[known]]
        fewer = np.flatnonzero(rated.lengths[known] < before)
        if len(fewer):
            position = fewer[0]
            now = rated.lengths[known][position]
            (user,) = self.users.ids[rated.clients[known][position : position + 1]].tolist()
            warn_caller(
                f"{len(fewer)} known user(s) come with fewer ratings than before, the first is "
                f"{user!r} with {now} after {before[position]}: a user is rebuilt from the "
                "ratings given alone. Pass all ratings of these users, the old ones and the new.",
                UserWarning,
            )

    def with_users(self, users: IdIndex, rebuilt: UserStates, rated: ClientRatings) -> Devices:
        """The devices after some users were rebuilt.

        Parameters
        ----------
        users : IdIndex
            All users, those known in front.
        rebuilt : UserStates
            Those of ``rated.clients``; they replace what was stored of them.
        rated : ClientRatings

        Returns
        -------
        devices : Devices
        """
        n_old, n_users = len(self.states.states), len(users.ids)

        def place(stored, new):
            if new is None:
                return None
            merged = np.empty((n_users, new.shape[1]), dtype=new.dtype)
            merged[:n_old] = stored
            merged[rated.clients] = new
            return merged

        states = UserStates(
            place(self.states.states, rebuilt.states),
            place(self.states.variances, rebuilt.variances),
        )
        return Devices(users, states, _replace_rows(self.rated, n_users, rated))


def _replace_rows(
    stored: tuple[np.ndarray, np.ndarray], n_users: int, new: ClientRatings
) -> tuple[np.ndarray, np.ndarray]:
    """The ``indptr`` and rated items of all users, where ``new`` replaces those of its clients."""
    indptr, items = stored
    lengths = np.zeros(n_users, dtype=np.int64)
    lengths[: len(indptr) - 1] = np.diff(indptr)
    kept = np.ones(n_users, dtype=bool)
    kept[new.clients] = False
    old_rows = np.repeat(kept[: len(indptr) - 1], np.diff(indptr))
    lengths[new.clients] = new.lengths
    full = starts_and_end(lengths)
    merged = np.empty(full[-1], dtype=np.int32)
    is_new = np.repeat(~kept, lengths)
    merged[~is_new] = items[old_rows]
    order = np.argsort(new.clients, kind="stable")
    merged[is_new] = new.take(order).items
    return full, merged


class FittedAttributes:
    """Attributes of a fitted estimator, for who reads types; `Fitted.attributes` sets them."""

    item_factors_: np.ndarray
    item_bias_: np.ndarray
    item_variance_: np.ndarray | None
    item_bias_variance_: np.ndarray | None
    global_mean_: float
    noise_variance_: float
    user_prior_mean_: np.ndarray
    user_prior_variance_: np.ndarray
    items_: np.ndarray
    n_iter_: int
    exchanges_: dict[str, np.ndarray]
    history_: dict[str, np.ndarray]
    users_: np.ndarray
    user_factors_: np.ndarray
    user_bias_: np.ndarray
    user_variance_: np.ndarray | None
    n_features_in_: int
    feature_names_in_: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """All that a fitted estimator answers from and goes on from; replaced whole, never changed.

    Attributes
    ----------
    loop : LoopState
        The server, and what the loop over rounds remembers.
    items : IdIndex
        The catalogue.
    devices : Devices
    parts : RoundParts
    seed : int
    history : dict of str to ndarray of shape (n_rounds,)
    exchanges : dict of str to ndarray of shape (n_exchanges,)
    target_dtype : dtype
        Type of the ratings, and so of predictions.
    """

    loop: LoopState
    items: IdIndex
    devices: Devices
    parts: RoundParts
    seed: int
    history: dict[str, np.ndarray]
    exchanges: dict[str, np.ndarray] = field(default_factory=dict)
    target_dtype: np.dtype = np.dtype(np.float64)  # noqa: RUF009

    @property
    def model(self) -> ServerModel:
        """The model that answers."""
        return self.loop.kept.model

    @cached_property
    def question(self) -> Question:
        """What a device is sent that is to serve its user; prepared once for all of them."""
        return Question(self.model, self.parts, DeviceContext(0, self.seed, serving=True))

    def __getstate__(self) -> dict[str, Any]:
        """All but the question, so that a model that has answered is the same file."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def without_users(self) -> Fitted:
        """The server side alone: what a deployment would hold."""
        return replace(self, devices=Devices.nobody(self.model))

    def attributes(self) -> dict[str, Any]:
        """Fitted attributes of an estimator, this record among them."""
        devices, k = self.devices, self.model.n_components
        return fitted_attributes(self.model) | {
            "items_": self.items.ids,
            "users_": devices.users.ids,
            "user_factors_": devices.states.factors(k),
            "user_bias_": devices.states.bias(k),
            "user_variance_": devices.states.variances,
            "exchanges_": self.exchanges,
            "history_": self.history,
            "n_iter_": len(self.history["round"]),
            "_fitted": self,
        }


def fitted_from(
    state: ServerState,
    items: np.ndarray,
    parts: RoundParts,
    history: dict[str, np.ndarray],
    seed: int = 0,
) -> Fitted:
    """The record of a server that was trained by whatever transport; it knows no user.

    Parameters
    ----------
    state : ServerState
    items : ndarray of shape (n_items,)
        Ids of the catalogue.
    parts : RoundParts
    history : dict of str to ndarray of shape (n_rounds,)
        With a column ``round`` at least.
    seed : int, default=0
        Of the random streams of the devices, if their parts have any.

    Returns
    -------
    fitted : Fitted

    Raises
    ------
    ValueError
        If there are not as many items as the model has.
    """
    index = IdIndex(items, "item")
    if len(index) != state.model.n_items:
        raise ValueError(
            f"items names {len(index)} items, and the model has {state.model.n_items}: expected "
            "the catalogue that it was trained with, in that order."
        )
    loop = LoopState(state, round=len(history["round"]))
    return Fitted(loop, index, Devices.nobody(state.model), parts, seed, history)


def rebuild_users(question: Question, ratings: ClientRatings, map_chunks: Callable) -> UserStates:
    """Rebuild every client from all of its ratings, as a device does to be served.

    Parameters
    ----------
    question : Question
    ratings : ClientRatings
        Or what `ChunkMap.place` made of them.
    map_chunks : callable

    Returns
    -------
    users : UserStates

    Raises
    ------
    ValueError
        If a reconstruction by gradient steps overflows.
    """
    served = list(map_chunks(partial(serve, question=question), ratings))
    known = [users.variances for users in served if users.variances is not None]
    states = np.concatenate([users.states for users in served])
    if not np.isfinite(states).all():
        raise ValueError(
            f"Users rebuilt by {question.parts.reconstruction!r} are not finite: its steps are "
            "too large for this model and these ratings. Lower reconstruction__learning_rate, or "
            "fit anew."
        )
    return UserStates(states, np.concatenate(known) if known else None)
