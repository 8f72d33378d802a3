"""The loop's state as named arrays, and back, with every shape checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._types import (
    Guard,
    LoopState,
    Progress,
    ServerModel,
    ServerState,
    check_array,
    restored_model,
    stored_arrays,
)

_LAST, _GUARD, _LOOP = "last.", "guard.", "loop."


def loop_arrays(loop: LoopState) -> dict[str, np.ndarray]:
    """What the loop remembers as arrays.

    The state that a fit hands over is there under the names of the model's fields; others have
    a prefix, and are there only where they are others.

    Parameters
    ----------
    loop : LoopState

    Returns
    -------
    arrays : dict of str to ndarray
    """
    arrays = _state_arrays(loop.kept, "")
    if loop.server is not loop.kept:
        arrays |= _state_arrays(loop.server, _LAST)
    if loop.guard.best is not None:
        arrays |= _state_arrays(loop.guard.best, _GUARD)
    numbers = {
        "round": loop.round,
        "best_error": loop.best_error if loop.best is not None else np.nan,
        "last_loss": loop.progress.last,
        "waited": loop.progress.waited,
        "lowest_loss": loop.guard.lowest,
        "baseline": loop.guard.baseline,
    }
    return arrays | {f"{_LOOP}{name}": np.asarray(value) for name, value in numbers.items()}


def restored_loop(arrays: dict[str, np.ndarray], n_items: int, data: str, parts: Any) -> LoopState:
    """The loop that `loop_arrays` was given.

    Parameters
    ----------
    arrays : dict of str to ndarray
    n_items : int
        Size of the catalogue.
    data : str
        Fingerprint of the ratings.
    parts : RoundParts
        What states have to fit.

    Returns
    -------
    loop : LoopState

    Raises
    ------
    ValueError
        If an array is missing, or has not the shape, type or range that it must have.
    """
    kept = _restored_state(arrays, "", n_items, parts)
    has = {prefix: any(name.startswith(prefix) for name in arrays) for prefix in (_LAST, _GUARD)}
    server = _restored_state(arrays, _LAST, n_items, parts) if has[_LAST] else kept
    watched = _restored_state(arrays, _GUARD, n_items, parts) if has[_GUARD] else None
    number = {
        name: _number(f"{_LOOP}{name}", arrays)
        for name in ("round", "best_error", "last_loss", "waited", "lowest_loss", "baseline")
    }
    has_best = not np.isnan(number["best_error"])
    if has[_LAST] and not has_best:
        raise ValueError("it has a last state beside the best one, and no error of the best")
    return LoopState(
        server,
        int(number["round"]),
        best=kept if has_best else None,
        best_error=number["best_error"] if has_best else float("inf"),
        progress=Progress(number["last_loss"], int(number["waited"])),
        guard=Guard(number["lowest_loss"], number["baseline"], watched),
        data=data,
    )


def _number(name: str, arrays: dict[str, np.ndarray]) -> Any:
    """A number, which may be infinite or NaN."""
    value = arrays.get(name)
    if value is None or value.shape != () or value.dtype.kind not in "fi":
        raise ValueError(f"it has no number {name!r}")
    return value.item()


def _state_arrays(state: ServerState, prefix: str) -> dict[str, np.ndarray]:
    """A server's state as arrays; those of the model have the names of its fields."""
    arrays = stored_arrays(state.model)
    arrays |= {f"aggregator.{name}": np.asarray(v) for name, v in state.aggregator.items()}
    arrays |= {f"optimizer.{name}": np.asarray(v) for name, v in state.optimizer.items()}
    return {f"{prefix}{name}": value for name, value in arrays.items()}


def _restored_state(
    arrays: dict[str, np.ndarray], prefix: str, n_items: int, parts: Any
) -> ServerState:
    """The state that `_state_arrays` was given; its memory must fit the parts."""
    model = restored_model(ServerModel, arrays, n_items, prefix)
    memory = {}
    for station in ("aggregator", "optimizer"):
        before = f"{prefix}{station}."
        memory[station] = {
            name[len(before) :]: value for name, value in arrays.items() if name.startswith(before)
        }
    for station, part in (("aggregator", parts.aggregator), ("optimizer", parts.server_optimizer)):
        _check_memory(station, memory[station], part.init(model))
    return ServerState(model, memory["aggregator"], memory["optimizer"])


def _check_memory(
    station: str, memory: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> None:
    """Refuse what a part of the server remembers that does not fit the part."""
    if expected.keys() != memory.keys():
        raise ValueError(f"the {station} remembers {sorted(memory)}")
    for name, value in memory.items():
        check_array(f"{station}.{name}", value, np.shape(expected[name]), "fi")
