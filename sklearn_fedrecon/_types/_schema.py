"""What every array of the model is, said once, where its field is declared.

A field of `ServerModel` is declared with `array` or `number`. Everything that goes through all
of them follows from what is said there: fitted attributes, what devices are sent and its bytes,
files and their checks, new items, another order of the components. So an array more is a line
more, in `_model.py` (`tests/test_schema.py` counts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np

ITEM, COMPONENT, STATE = "item", "component", "user state"  # axes; a state is (factor, bias)
SERVING, TRAINING = "serving", "training"  # when devices are sent a field: always, or in rounds

Model = TypeVar("Model")


@dataclass(frozen=True)
class Spec:
    """What there is to know of a field.

    Attributes
    ----------
    axes : tuple of {ITEM, COMPONENT, STATE}
        Empty for a number.
    kinds : str
        Kinds of type that it may have.
    attribute : str or None
        Fitted attribute of the estimator that shows it.
    sent : {SERVING, TRAINING} or None
        When devices are sent it; None stays on the server.
    above, least : float or None
        It is greater than the one, and not less than the other.
    optional : bool
        Whether it may be None.
    of_bias : bool
        Whether it means nothing where biases are not fitted.
    turns : bool
        Whether it turns with the axes of the components. Posterior variances, each along an axis,
        do not: whoever turns the axes computes them anew.
    spread : bool
        Whether it turns as variances of a prior do: along a new axis they are what the old ones
        project to.
    joins : callable or None
        What a new item starts with, from the model and a fresh one of the larger catalogue;
        something that fits the rows of the new items.
    """

    axes: tuple[str, ...] = ()
    kinds: str = "f"
    attribute: str | None = None
    sent: str | None = None
    above: float | None = None
    least: float | None = None
    optional: bool = False
    of_bias: bool = False
    turns: bool = False
    spread: bool = False
    joins: Callable[[Any, Any], Any] | None = None


def array(*axes: str, **spec) -> Any:
    """Declare a field that is an array with these axes."""
    default = {"default": None} if spec.get("optional") else {}
    return field(metadata={"spec": Spec(axes, **spec)}, **default)


def number(*, kinds: str = "f", default: Any = ..., **spec) -> Any:
    """Declare a field that is a number."""
    default = {} if default is ... else {"default": default}
    return field(metadata={"spec": Spec(kinds=kinds, **spec)}, **default)


@cache
def schema(kind: type) -> dict[str, Spec]:
    """What each field of a class of models is."""
    return {entry.name: entry.metadata["spec"] for entry in fields(kind)}


def _present(model: Any) -> Iterator[tuple[str, Spec, Any]]:
    """The fields that are not None, with their values."""
    for name, spec in schema(type(model)).items():
        value = getattr(model, name)
        if value is not None:
            yield name, spec, value


# --- shown, sent, stored -------------------------------------------------------------------------


def fitted_attributes(model: Any) -> dict[str, Any]:
    """Fitted attributes that show a model, None where it has no such array."""
    return {
        spec.attribute: getattr(model, name)
        for name, spec in schema(type(model)).items()
        if spec.attribute is not None
    }


def served_arrays(model: Any) -> dict[str, np.ndarray]:
    """Copies of what a device needs that serves its user, by the names of the fields."""
    return {name: np.array(v) for name, spec, v in _present(model) if spec.sent == SERVING}


def numbers_sent(model: Any) -> int:
    """How many numbers a client downloads in a round."""
    return sum(
        np.size(value)
        for _, spec, value in _present(model)
        if spec.sent and not (spec.of_bias and not model.fit_bias)
    )


def stored_arrays(model: Any) -> dict[str, np.ndarray]:
    """All that a model is, as arrays, by the names of the fields."""
    return {name: np.asarray(value) for name, _, value in _present(model)}


def restored_model(
    kind: type[Model], arrays: Mapping[str, np.ndarray], n_items: int, prefix: str = ""
) -> Model:
    """The model that `stored_arrays` was given.

    Parameters
    ----------
    kind : type
        The class of the model.
    arrays : mapping of str to ndarray
    n_items : int
        Size of the catalogue.
    prefix : str
        Before the name of each array, also in errors.

    Returns
    -------
    model : ServerModel

    Raises
    ------
    ValueError
        If an array is missing, or has not the shape, type or range that it must have.
    """
    values = {}
    for name, spec in schema(kind).items():
        values[name] = arrays.get(f"{prefix}{name}")
        if values[name] is None and not spec.optional:
            raise ValueError(f"it has no array {prefix + name!r}")
        if values[name] is not None and not spec.axes:
            values[name] = check_array(prefix + name, values[name], (), spec.kinds).item()
    factors = values["item_factors"]
    k = factors.shape[1] if factors.ndim == 2 else 0
    sizes = {ITEM: n_items, COMPONENT: k, STATE: k + values["fit_bias"]}
    for name, spec in schema(kind).items():
        if values[name] is not None:
            _check(prefix + name, values[name], spec, sizes, factors.dtype)
    return kind(**values)


def _check(name: str, value: Any, spec: Spec, sizes: dict[str, int], dtype: np.dtype) -> None:
    """Refuse a value that its field cannot have."""
    if spec.axes:
        check_array(name, value, tuple(sizes[axis] for axis in spec.axes), spec.kinds)
        if value.dtype != dtype:
            raise ValueError(f"array {name!r} is not of the type of the item factors")
    if spec.above is not None and np.any(np.less_equal(value, spec.above)):
        raise ValueError(f"{name!r} is not above {spec.above:g}")
    if spec.least is not None and np.any(np.less(value, spec.least)):
        raise ValueError(f"{name!r} is less than {spec.least:g}")


def check_array(name: str, value: np.ndarray, shape: tuple, kinds: str) -> np.ndarray:
    """Return an array if it has the shape and one of the kinds of type, and is finite."""
    if value.shape != shape or value.dtype.kind not in kinds:
        raise ValueError(
            f"array {name!r} has type {value.dtype} and shape {value.shape}, expected {shape}"
        )
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ValueError(f"array {name!r} holds values that are not finite")
    return value


# --- other items, other axes ---------------------------------------------------------------------


def grown(model: Model, fresh: Model) -> Model:
    """Let new items join after those known.

    Parameters
    ----------
    model : ServerModel
    fresh : ServerModel
        A first model of the larger catalogue.

    Returns
    -------
    model : ServerModel
    """
    n_new = fresh.n_items - model.n_items
    larger = {}
    for name, spec, value in _present(model):
        if spec.axes[:1] == (ITEM,):
            start = np.asarray(spec.joins(model, fresh), value.dtype)
            rows = np.broadcast_to(start, (n_new, *value.shape[1:]))
            larger[name] = np.concatenate([value, rows])
    return replace(model, **larger)


def permuted(model: Model, order: np.ndarray) -> Model:
    """The same model with its components in another order.

    Parameters
    ----------
    model : ServerModel
    order : ndarray of shape (k,)
        The component that comes first, second, ...

    Returns
    -------
    model : ServerModel
    """
    places = {COMPONENT: order, STATE: _of_states(order, model)}
    moved = {}
    for name, spec, value in _present(model):
        for axis, kind in enumerate(spec.axes):
            if kind in places:  # np.take: row by row in memory, so that gathers stay cheap
                moved[name] = np.take(moved.get(name, value), places[kind], axis=axis)
    return replace(model, **moved)


def _of_states(order: np.ndarray, model: Any) -> np.ndarray:
    """The same order for users' states, whose bias stays last."""
    return np.concatenate([order, np.arange(len(order), len(model.user_prior_mean))])


def rotated(model: Model, axes: np.ndarray) -> Model:
    """The model with components along other axes, variances left to be computed anew.

    Parameters
    ----------
    model : ServerModel
    axes : ndarray of shape (k, k)
        Orthogonal; a column for each new component.

    Returns
    -------
    model : ServerModel
    """
    moved = {}
    for name, spec, value in _present(model):
        if spec.spread:
            moved[name] = value @ np.square(axes)
        elif spec.turns and spec.axes[-1] == COMPONENT:
            moved[name] = value @ axes
        elif spec.turns:
            k = len(axes)
            moved[name] = np.concatenate([value[:k] @ axes, value[k:]])
    return replace(model, **moved)
