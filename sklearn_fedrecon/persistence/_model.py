"""A fitted estimator to a file and back."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._encoding import IdIndex, check_ids, scale_bounds
from .._estimator import FederatedReconstructionMF
from .._fitted import Devices, Fitted
from .._training._parts import build_parts
from .._types import ServerModel, UserStates, check_array
from ._archive import damaged, read_archive, write_archive
from ._parameters import from_plain, to_plain
from ._state import loop_arrays, restored_loop

FORMAT, VERSION = "sklearn_fedrecon model", 2
# Whatever code makes of values that it does not expect: nested too deep, too large, empty.
_OF_A_BAD_FILE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
)
_HISTORY, _EXCHANGES = "history.", "exchanges."


def save_model(estimator: Any, path: Any, *, users: bool = False) -> None:
    """Save a fitted estimator, without pickle.

    The file holds the server side: the items, the prior of the users, the history, the
    parameters, and what further rounds continue from. The arrays of
    `FederatedReconstructionMF.server_model` are in it under their names, for devices that
    have nothing but NumPy. It is written beside ``path`` first and then put in its place,
    so that there is never half a file.

    Parameters
    ----------
    estimator : FederatedReconstructionMF
        Fitted.
    path : str or path-like
        The file, by custom ending in ``.npz``. One that exists is replaced.
    users : bool, default=False
        Whether to save what the simulated devices hold as well: ids, factors, biases and
        variances of all users, and which items each rated. Such a file is personal data:
        it tells who is who and what they like, and ratings can be estimated from it.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    FileNotFoundError
        If the folder is not there.
    ValueError
        If parameters that choose parts were changed since the fit.
    TypeError
        If a parameter or an id is of a kind that cannot be written without pickle.

    See Also
    --------
    load_model : Read such a file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_fedrecon import FederatedReconstructionMF
    >>> from sklearn_fedrecon.datasets import make_ratings
    >>> from sklearn_fedrecon.persistence import load_model, save_model
    >>> X, y = make_ratings(
    ...     n_users=80, n_items=40, n_ratings=1600, random_state=0, return_X_y=True
    ... )
    >>> model = FederatedReconstructionMF(n_components=4, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, Path(folder) / "model.npz")
    ...     loaded = load_model(Path(folder) / "model.npz")
    >>> loaded.reconstruct_user([3, 5], [5, 1]).factors.shape
    (4,)
    >>> len(loaded.users_)
    0
    """
    if not isinstance(estimator, FederatedReconstructionMF):
        raise TypeError(f"Expected a FederatedReconstructionMF; got {estimator!r}.")
    check_is_fitted(estimator)
    fitted = estimator._fitted
    if repr(build_parts(estimator)) != repr(fitted.parts):
        raise ValueError(
            f"The parts were changed since the fit, which was made by {fitted.parts!r}; a "
            "file says one thing only: set the parameters back, or fit again."
        )
    arrays, id_kinds = _fitted_arrays(estimator, fitted, users=users)
    about = _about(estimator, fitted)
    about["ids_as_objects"] = sorted(name for name, kind in id_kinds.items() if kind == "O")
    text = json.dumps(about, allow_nan=False, sort_keys=True).encode()
    write_archive(path, arrays | {"about": np.frombuffer(text, np.uint8)})


def load_model(path: Any) -> FederatedReconstructionMF:
    """Load what `save_model` wrote.

    Nothing in a file is run. A file ends in the SHA-256 of all bytes before it, so one that
    was cut off, added to or changed in any bit is refused. The checksum does not tell who
    wrote it: somebody who can change the file can make another checksum. What was changed in
    that way is refused where shapes, types or ranges do not fit together, and only there.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    estimator : FederatedReconstructionMF
        It predicts, and goes on training, bit for bit like the one that was saved. Without
        the users, where these were not saved.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is not what it should be, with the reason.

    See Also
    --------
    save_model : Write such a file.

    Examples
    --------
    >>> from sklearn_fedrecon.persistence import load_model
    >>> load_model("nothing.npz")
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    arrays = read_archive(path)
    try:
        about = json.loads(arrays.pop("about").tobytes())
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']!r}")
        if about["version"] == VERSION:
            return _restored(arrays, about)
    except _OF_A_BAD_FILE as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    raise ValueError(
        f"{os.fspath(path)!r} has version {about['version']} of the format, and this release "
        f"reads version {VERSION}: install the release of sklearn-fedrecon that wrote it."
    )


def _fitted_arrays(
    estimator: FederatedReconstructionMF, fitted: Fitted, *, users: bool
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Everything that is an array, and the kinds of type that the ids had."""
    ids = {"items": fitted.items.ids}
    if estimator.items is not None:
        ids["parameter.items"] = check_ids(estimator.items, "items")
    arrays: dict[str, np.ndarray] = {}
    id_kinds: dict[str, str] = {}
    if users:
        ids["users"] = fitted.devices.users.ids
        arrays |= _device_arrays(fitted.devices)
    for name, values in ids.items():
        arrays[name], id_kinds[name] = _packed_ids(name, values)
    arrays |= loop_arrays(fitted.loop)
    for prefix, columns in ((_HISTORY, fitted.history), (_EXCHANGES, fitted.exchanges)):
        arrays |= {f"{prefix}{name}": column for name, column in columns.items()}
    if estimator.rating_scale is not None:
        arrays["rating_scale"] = np.array(scale_bounds(estimator.rating_scale))
    return arrays, id_kinds


def _about(estimator: FederatedReconstructionMF, fitted: Fitted) -> dict[str, Any]:
    """Everything else, as JSON can hold it."""
    parameters = estimator.get_params(deep=False)
    parameters.pop("items")
    names = getattr(estimator, "feature_names_in_", None)
    return {
        "format": FORMAT,
        "version": VERSION,
        "parameters": {name: to_plain(name, value) for name, value in parameters.items()},
        "history": list(fitted.history),
        "exchanges": list(fitted.exchanges),
        "n_features_in": estimator.n_features_in_,
        "feature_names_in": None if names is None else names.tolist(),
        "seed": fitted.seed,
        "data": fitted.loop.data,
        "target_dtype": np.dtype(fitted.target_dtype).name,
    }


def _packed_ids(name: str, ids: np.ndarray) -> tuple[np.ndarray, str]:
    """Ids as an array without objects, and the kind of type that they had."""
    if ids.dtype.kind != "O":
        return ids, ids.dtype.kind
    packed = np.array(ids.tolist())
    if packed.dtype.kind not in "US" or not np.array_equal(packed.astype(object), ids):
        raise TypeError(
            f"{name}: ids of type {type(ids[0]).__name__} such as {ids[0]!r} cannot be saved "
            "without pickle: fit with numbers or strings (that do not end in a null)."
        )
    return packed, "O"


def _device_arrays(devices: Devices) -> dict[str, np.ndarray]:
    """What the simulated devices hold, users' ids aside."""
    (indptr, items), states = devices.rated, devices.states
    arrays = {"user_states": states.states, "rated_starts": indptr, "rated_items": items}
    return arrays if states.variances is None else arrays | {"user_variance": states.variances}


def _restored(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> FederatedReconstructionMF:
    """The estimator; every error of what follows is one of the file."""
    ids = {name: arrays[name] for name in ("items", "users", "parameter.items") if name in arrays}
    ids |= {name: ids[name].astype(object) for name in about["ids_as_objects"]}
    parameters = {name: from_plain(plain) for name, plain in about["parameters"].items()}
    estimator = FederatedReconstructionMF(**parameters, items=ids.get("parameter.items"))
    estimator._validate_params()
    items, parts = _index(ids["items"], "item"), build_parts(estimator)
    loop = restored_loop(arrays, len(items), str(about["data"]), parts)
    fitted = Fitted(
        loop,
        items,
        Devices.nobody(loop.kept.model),
        parts,
        int(about["seed"]),
        {name: arrays[f"{_HISTORY}{name}"] for name in about["history"]},
        {name: arrays[f"{_EXCHANGES}{name}"] for name in about["exchanges"]},
        np.dtype(about["target_dtype"]),
    )
    if "users" in ids:
        users = _index(ids["users"], "user")
        fitted = replace(fitted, devices=_devices(arrays, users, fitted.model))
    width = int(about["n_features_in"])
    estimator.__dict__.update(fitted.attributes(), n_features_in_=width)
    if about["feature_names_in"] is not None:
        estimator.feature_names_in_ = np.array(about["feature_names_in"], dtype=object)
    return estimator


def _index(ids: np.ndarray, name: str) -> IdIndex:
    """Index of ids that must be valid and distinct."""
    checked = check_ids(ids, name)
    if len(IdIndex.fit(checked, name)) < len(checked):
        raise ValueError(f"it names {name}s more than once")
    return IdIndex(checked, name)


def _devices(arrays: dict[str, np.ndarray], users: IdIndex, model: ServerModel) -> Devices:
    """The simulated devices."""
    shape = (len(users), len(model.user_prior_mean))
    states = check_array("user_states", arrays["user_states"], shape, "f")
    variances = arrays.get("user_variance")
    if (variances is None) != (model.item_variance is None):
        raise ValueError("only one of users and items has variances")
    if variances is not None:
        check_array("user_variance", variances, shape, "f")
    indptr = check_array("rated_starts", arrays["rated_starts"], (len(users) + 1,), "i")
    rated = arrays["rated_items"]
    check_array("rated_items", rated, (int(indptr[-1]),), "i")
    inside = len(rated) == 0 or (rated.min() >= 0 and rated.max() < model.n_items)
    if indptr[0] != 0 or (np.diff(indptr) < 0).any() or not inside:
        raise ValueError("it says of users that they rated what there is not")
    return Devices(users, UserStates(states, variances), (indptr, rated))
