"""The state of a server as named arrays, and back, with every shape checked."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from .._round import ServerState
from .._types import ServerModel

_K, _D, _N = "k", "d", "n_items"
SHAPES = {
    "item_factors": (_N, _K),
    "item_bias": (_N,),
    "item_variance": (_N, _K),
    "item_bias_variance": (_N,),
    "user_prior_mean": (_D,),
    "user_prior_variance": (_D,),
}
_OPTIONAL = {"item_variance", "item_bias_variance"}
_POSITIVE = {"noise_variance", "user_prior_variance"}
_NOT_NEGATIVE = {"item_variance", "item_bias_variance"}


def state_arrays(state: ServerState, prefix: str) -> dict[str, np.ndarray]:
    """A server's state as arrays; those of the model have the names of its fields.

    Parameters
    ----------
    state : ServerState
    prefix : str
        Before every name.

    Returns
    -------
    arrays : dict of str to ndarray
    """
    model = {field.name: getattr(state.model, field.name) for field in fields(ServerModel)}
    arrays = {f"{prefix}{name}": value for name, value in model.items() if value is not None}
    arrays |= {f"{prefix}aggregator.{name}": value for name, value in state.aggregator.items()}
    arrays |= {f"{prefix}optimizer.{name}": value for name, value in state.optimizer.items()}
    return {name: np.asarray(value) for name, value in arrays.items()}


def restored_state(arrays: dict[str, np.ndarray], prefix: str, n_items: int) -> ServerState:
    """The state that `state_arrays` was given.

    Parameters
    ----------
    arrays : dict of str to ndarray
    prefix : str
    n_items : int
        Size of the catalogue.

    Returns
    -------
    state : ServerState

    Raises
    ------
    ValueError
        If an array is missing, or has not the shape, type or range that it must have.
    """
    model = {}
    for field in fields(ServerModel):
        name = f"{prefix}{field.name}"
        if name in arrays:
            value = arrays[name]
            model[field.name] = value if field.name in SHAPES else _scalar(name, value)
        elif field.name not in _OPTIONAL:
            raise ValueError(f"it has no array {name!r}")
        else:
            model[field.name] = None
    _check_model(model, n_items)
    return ServerState(
        ServerModel(**model),
        _with_prefix(arrays, f"{prefix}aggregator."),
        _with_prefix(arrays, f"{prefix}optimizer."),
    )


def check_array(name: str, array: np.ndarray, shape: tuple, kinds: str) -> np.ndarray:
    """Return an array if it has the shape and one of the kinds of type, and is finite."""
    if array.shape != shape or array.dtype.kind not in kinds:
        raise ValueError(
            f"array {name!r} has type {array.dtype} and shape {array.shape}, expected {shape}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"array {name!r} holds values that are not finite")
    return array


def _scalar(name: str, value: np.ndarray) -> Any:
    """The Python number of a 0-d array."""
    return check_array(name, value, (), "fb").item()


def _check_model(model: dict[str, Any], n_items: int) -> None:
    """Refuse a model whose arrays do not fit together."""
    factors = model["item_factors"]
    k = factors.shape[1] if factors.ndim == 2 else 0
    sizes = {_N: n_items, _K: k, _D: k + model["fit_bias"]}
    for name, dimensions in SHAPES.items():
        if model[name] is not None:
            check_array(name, model[name], tuple(sizes[size] for size in dimensions), "f")
            if model[name].dtype != factors.dtype:
                raise ValueError(f"array {name!r} is not of the type of the item factors")
    for name in _POSITIVE:
        if np.any(np.less_equal(model[name], 0)):
            raise ValueError(f"{name!r} is not positive")
    for name in _NOT_NEGATIVE:
        if model[name] is not None and (model[name] < 0).any():
            raise ValueError(f"{name!r} is negative")


def _with_prefix(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Arrays below a prefix, without it."""
    return {
        name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)
    }
