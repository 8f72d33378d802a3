"""Bytes down to and up from a cohort, as if every message were sent uncompressed."""

from __future__ import annotations

from ._types import ServerModel, numbers_sent

INDEX_BYTES = 4


def model_bytes(model: ServerModel) -> int:
    """Bytes of the model that one client downloads.

    The whole item side is sent to everybody: a client that asked for its own items only
    would tell the server which they are.

    Parameters
    ----------
    model : ServerModel

    Returns
    -------
    n_bytes : int

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_fedrecon._types import ServerModel
    >>> from sklearn_fedrecon.communication import model_bytes
    >>> model = ServerModel(
    ...     np.zeros((10, 2), "f4"), np.zeros(10, "f4"), 3.5, True, np.zeros(3), np.ones(3)
    ... )
    >>> model_bytes(model)
    156
    """
    return numbers_sent(model) * model.dtype.itemsize


def message_bytes(n_indices: float, n_numbers: float, itemsize: int) -> int:
    """Bytes of messages that name only the items a client rated.

    Parameters
    ----------
    n_indices : float
        Item indices sent.
    n_numbers : float
        Numbers sent.
    itemsize : int
        Bytes of a number.

    Returns
    -------
    n_bytes : int

    Examples
    --------
    >>> from sklearn_fedrecon.communication import message_bytes
    >>> message_bytes(10, 30, 4)
    160
    """
    return int(n_indices) * INDEX_BYTES + int(n_numbers) * itemsize
