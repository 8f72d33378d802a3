"""Working memory that a thread keeps from one chunk of clients to the next.

The C library gives large blocks that a thread frees back to the system, and asks for them
again; every page of them is then a fault, for which threads wait for each other.
"""

from __future__ import annotations

import math
import threading

import numpy as np

_MOST_BYTES = 1 << 25  # of an array that is kept


class _Kept(threading.local):
    def __init__(self):
        self.arrays: dict[str, np.ndarray] = {}


_kept = _Kept()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Array with anything in it, good until this thread asks for the same name again.

    Parameters
    ----------
    name : str
        What it is for.
    shape : tuple of int
    dtype : dtype

    Returns
    -------
    array : ndarray of shape ``shape``
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > _MOST_BYTES:
        return np.empty(shape, dtype=dtype)
    held = _kept.arrays.get(name)
    if held is None or held.nbytes < size:
        held = _kept.arrays[name] = np.empty(size, dtype=np.uint8)
    return held[:size].view(dtype).reshape(shape)
