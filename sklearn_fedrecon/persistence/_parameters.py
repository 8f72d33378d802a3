"""Parameters of an estimator as JSON: plain values, and parts of this package."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from .. import aggregation, client_update, reconstruction, server_optimizers, splitting

MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (aggregation, client_update, reconstruction, server_optimizers, splitting)
}
_SEQUENCES = {"list": list, "tuple": tuple, "array": np.ndarray}


def to_plain(name: str, value: Any) -> Any:
    """A parameter as what JSON can hold.

    Parameters
    ----------
    name : str
        Of the parameter, for the error.
    value : object

    Returns
    -------
    plain : None, bool, int, float, str, list or dict

    Raises
    ------
    TypeError
        If the value is of a kind that cannot be written without pickle.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, list | tuple | np.ndarray) and np.ndim(value) == 1:
        kind = next(name for name, kind in _SEQUENCES.items() if isinstance(value, kind))
        return {kind: [to_plain(name, element) for element in value]}
    if isinstance(value, BaseEstimator) and _class_of(_path(value)) is type(value):
        part: Any = value
        parameters = part.get_params(deep=False)
        plain = {key: to_plain(f"{name}__{key}", item) for key, item in parameters.items()}
        return {"part": _path(part), "parameters": plain}
    raise TypeError(
        f"{name}={value!r} cannot be saved: a file without pickle holds numbers, strings, lists "
        "of them and the parts of sklearn_fedrecon. Set the parameter to one of these before "
        "saving."
    )


def from_plain(plain: Any) -> Any:
    """What `to_plain` was given.

    Parameters
    ----------
    plain : None, bool, int, float, str or dict

    Returns
    -------
    value : object

    Raises
    ------
    ValueError
        If a part is not one of this package.
    """
    if not isinstance(plain, dict):
        return plain
    if "part" in plain:
        kind = _class_of(plain["part"])
        if kind is None:
            raise ValueError(f"part {plain['part']!r} is none of this version")
        return kind(**{key: from_plain(item) for key, item in plain["parameters"].items()})
    kind, elements = next(iter(plain.items()))
    values = [from_plain(element) for element in elements]
    return np.array(values) if kind == "array" else _SEQUENCES[kind](values)


def _path(part: Any) -> str:
    """Where a part of this package is found, as in "splitting.RandomSplit"."""
    for name, module in MODULES.items():
        if getattr(module, type(part).__name__, None) is type(part):
            return f"{name}.{type(part).__name__}"
    return ""


def _class_of(path: str) -> type | None:
    """The part at a path, and nothing else that could be named."""
    module_name, _, name = path.partition(".")
    module = MODULES.get(module_name)
    if module is None:
        return None
    kind = getattr(module, name, None)
    if name.startswith("_") or not isinstance(kind, type) or not issubclass(kind, BaseEstimator):
        return None
    return kind if kind.__module__.startswith(module.__name__) else None
