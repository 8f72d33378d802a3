"""Seeds: one root, named streams, nothing that depends on the order of execution."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """The uses of randomness; each has its own streams."""

    ITEM_FACTORS = 0
    SAMPLING = 1
    DROPOUT = 2
    SPLIT = 3
    USER_FACTORS = 4
    VALIDATION = 5


def root_seed(random_state: np.random.RandomState) -> int:
    """Draw the root entropy of a fit from a RandomState."""
    return int(random_state.randint(np.iinfo(np.int32).max))


def generator(seed: int, stream: Stream, round: int = 0, client: int = 0) -> np.random.Generator:
    """Generator of one stream, round and client.

    Spawn keys are used because lists of entropy collide: ``SeedSequence(5)`` equals
    ``SeedSequence([5, 0])``.
    """
    key = (int(stream), int(round), int(client))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def client_words(
    seed: int, stream: Stream, round: int, clients: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """Random words of many clients at once, each from its own stream.

    Word ``j`` of a client depends on the seed, the stream, the round, the client and ``j``,
    never on who else is asked for. A generator for every client would cost more than what
    it is used for; this is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), started for
    each client from a hash of its key.

    Parameters
    ----------
    seed : int
    stream : Stream
    round : int
    clients : ndarray of shape (n_clients,)
    lengths : ndarray of shape (n_clients,)
        Words that each client needs.

    Returns
    -------
    words : ndarray of shape (lengths.sum(),), uint64
        Client by client.
    """
    root = np.random.SeedSequence(seed, spawn_key=(int(stream), int(round)))
    key = root.generate_state(1, np.uint64)
    start = _mixed(key ^ _mixed((clients.astype(np.uint64) + np.uint64(1)) * _GOLDEN))
    counts = np.arange(1, lengths.sum() + 1, dtype=np.uint64)
    counts -= np.repeat(np.cumsum(lengths) - lengths, lengths).astype(np.uint64)
    return _mixed(np.repeat(start, lengths) + counts * _GOLDEN)


def _mixed(words: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64: a bijection in which every bit depends on every bit."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
