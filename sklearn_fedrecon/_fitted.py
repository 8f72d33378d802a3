"""The fitted attributes: the server's on one side, those of the devices on the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ._encoding import IdIndex
from ._round import ServerState
from ._types import ClientRatings, RoundReport, ServerModel, UserStates, starts_and_end

SERVER_FIELDS = {
    "item_factors_": "item_factors",
    "item_bias_": "item_bias",
    "item_variance_": "item_variance",
    "item_bias_variance_": "item_bias_variance",
    "global_mean_": "global_mean",
    "noise_variance_": "noise_variance",
    "user_prior_mean_": "user_prior_mean",
    "user_prior_variance_": "user_prior_variance",
}


class FittedStateMixin:
    """Sets fitted attributes from a model and users, and reads them back.

    Server side: ``item_factors_`` ... ``items_``, ``history_``, ``n_iter_``, and privately
    the state that further rounds continue from. Device side, simulated: ``users_``,
    ``user_factors_``, ``user_bias_``, ``user_variance_``, and privately which items each
    known user rated. No rating is kept.
    """

    def _server_attributes(self, state: ServerState, items: IdIndex) -> dict[str, Any]:
        """Attributes of the server side."""
        fields = {name: getattr(state.model, field) for name, field in SERVER_FIELDS.items()}
        return fields | {"items_": items.ids, "_item_index": items, "_state": state}

    def _device_attributes(
        self,
        users: IdIndex,
        states: UserStates,
        rated: tuple[np.ndarray, np.ndarray],
        n_components: int,
    ) -> dict[str, Any]:
        """Attributes of the devices; ``rated`` is the ``indptr`` and items of all ratings."""
        return {
            "users_": users.ids,
            "user_factors_": states.factors(n_components),
            "user_bias_": states.bias(n_components),
            "user_variance_": states.variances,
            "_user_index": users,
            "_rated": rated,
        }

    def _no_devices(self) -> dict[str, Any]:
        """Attributes of the devices when there are none."""
        model = self._state.model
        states = np.empty((0, len(model.user_prior_mean)), dtype=model.dtype)
        nobody = UserStates(states, None if model.item_variance is None else states)
        rated = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32)
        users = IdIndex(np.empty(0, dtype=np.int64), "user")
        return self._device_attributes(users, nobody, rated, model.n_components)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether a fit has ended: one that failed leaves ``n_features_in_`` behind."""
        return hasattr(self, "_state")

    def _set(self, attributes: dict[str, Any]) -> None:
        """Set the fitted attributes, all at once."""
        for name, value in attributes.items():
            setattr(self, name, value)

    def _known_states(self) -> UserStates:
        """The stored users, factors and bias side by side again."""
        parts = [self.user_factors_]
        if self._state.model.fit_bias:
            parts.append(self.user_bias_[:, None])
        return UserStates(np.hstack(parts), self.user_variance_)

    def _merged_devices(
        self, users: IdIndex, rebuilt: UserStates, rated: ClientRatings
    ) -> dict[str, Any]:
        """Attributes of the devices after some users were rebuilt.

        ``users`` are all users; ``rated`` and ``rebuilt`` are those of ``rated.clients``,
        and replace what was stored of them.
        """
        old = self._known_states()
        n_old, n_users = len(old.states), len(users.ids)

        def place(stored, new):
            if new is None:
                return None
            merged = np.empty((n_users, new.shape[1]), dtype=new.dtype)
            merged[:n_old] = stored
            merged[rated.clients] = new
            return merged

        states = UserStates(
            place(old.states, rebuilt.states), place(old.variances, rebuilt.variances)
        )
        everything = _replace_rows(self._rated, n_users, rated)
        k = self._state.model.n_components
        return self._device_attributes(users, states, everything, k)


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


class History:
    """Collects reports of rounds as columns."""

    def __init__(self, before: dict[str, np.ndarray] | None = None):
        self._columns = {name: list(values) for name, values in (before or {}).items()}

    def __len__(self) -> int:
        return len(self._columns.get("round", ()))

    def add(self, report: RoundReport, extra_bytes_up: int = 0) -> None:
        """Append a round; the exchange before the first round is part of it."""
        row = {"round": report.round + 1, "clients": report.clients, "ratings": report.ratings}
        row |= report.measurements
        row["bytes_up"] += extra_bytes_up
        missing = [float("nan")] * len(self)
        for name in row.keys() | self._columns.keys():
            self._columns.setdefault(name, list(missing)).append(row.get(name, float("nan")))
        self._columns = {
            name: self._columns[name] for name in [*row, *(self._columns.keys() - row.keys())]
        }

    def columns(self) -> dict[str, np.ndarray]:
        """The history as arrays, a column a measurement."""
        return {name: np.asarray(values) for name, values in self._columns.items()}

    @staticmethod
    def line(report: RoundReport, last: int) -> str:
        """One tidy line about a round, columns below each other, within 80 characters."""
        numbers = report.measurements
        error = f"RMSE {numbers['training_rmse']:.4f}"
        if "validation_rmse" in numbers:
            error += f" (held out {numbers['validation_rmse']:.4f})"
        megabytes = (numbers["bytes_down"] + numbers["bytes_up"]) / 1e6
        return (
            f"round {report.round + 1:>{len(str(last))}}/{last} {report.clients:>6} clients  "
            f"{error} {megabytes:>7.1f} MB {numbers['wall_seconds']:>6.2f} s"
        )


def extended(state: ServerState, fresh: ServerModel, optimizer) -> ServerState:
    """Let new items join, after those known, with their prior.

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
    old, n_new = state.model, fresh.n_items - state.model.n_items
    k, dtype = old.n_components, old.dtype

    def grow(name, value):
        before = getattr(old, name)
        if before is None:
            return None
        shape = (n_new, *before.shape[1:])
        return np.concatenate([before, np.broadcast_to(np.asarray(value, dtype), shape)])

    factors = fresh.item_factors[-n_new:] if old.item_variance is None else np.zeros((n_new, k))
    model = replace(
        old,
        item_factors=grow("item_factors", factors),
        item_bias=grow("item_bias", 0.0),
        item_variance=grow("item_variance", old.item_prior_variance),
        item_bias_variance=grow("item_bias_variance", old.item_bias_prior_variance),
    )
    started = optimizer.init(model)
    for name, value in state.optimizer.items():
        if value.shape != started[name].shape:
            started[name][: len(value)] = value
        else:
            started[name] = value
    return ServerState(model, state.aggregator, started)
