"""Support and query: which of its ratings a client reconstructs from and learns from.

A split also says how a device goes through its ratings: in which order, in batches of
which size, and how many at most. Only the last batch of a client can be short, so the
batches of a half are the batches that it is cut into again.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator

from ._compat import Interval, StrOptions
from ._random import Stream, client_words
from ._types import ClientRatings, DeviceContext

_COUNT = [Interval(Integral, 1, None, closed="left"), None]
_SHUFFLE = ["boolean", StrOptions({"once"})]


class _Split(BaseEstimator):
    """What the splits share: how a device goes through its ratings."""

    gives = ("the support",)

    def whole(self, ratings: ClientRatings, context: DeviceContext) -> ClientRatings:
        """Return all ratings in the order in which a device would process them.

        Parameters
        ----------
        ratings : ClientRatings
        context : DeviceContext

        Returns
        -------
        ratings : ClientRatings
        """
        return self._processed(ratings, context, None)

    def used(self, ratings: ClientRatings, context: DeviceContext) -> ClientRatings:
        """Return the ratings that a device trains with, in the order of processing.

        Parameters
        ----------
        ratings : ClientRatings
        context : DeviceContext

        Returns
        -------
        ratings : ClientRatings
            At most ``max_ratings`` a client.
        """
        return self._processed(ratings, context, self.max_ratings)

    def _processed(
        self, ratings: ClientRatings, context: DeviceContext, limit: int | None
    ) -> ClientRatings:
        """Ratings in the order of processing, untouched where any order is as good."""
        if self.batch_size is None and limit is None:
            return ratings
        if self.shuffle:
            ratings = self._shuffled(ratings, context)
        if limit is not None:
            ratings = ratings.first(limit)
        return replace(ratings, batch_size=self.batch_size)

    def _shuffled(self, ratings: ClientRatings, context: DeviceContext) -> ClientRatings:
        """Every client's ratings in random order."""
        number = 0 if self.shuffle == "once" else context.round
        lengths = ratings.lengths
        words = client_words(context.seed, Stream.SPLIT, number, ratings.clients, lengths)
        owners = np.repeat(np.arange(ratings.n_clients, dtype=np.uint64), lengths)
        half = np.uint64(32)
        rows = np.argsort((owners << half) | (words >> half), kind="stable")
        return ratings.pick(rows, ratings.indptr)


class NoSplit(_Split):
    """All ratings of a client serve both as support and as query.

    Natural for closed-form reconstruction, whose posterior variance accounts for the
    ratings having been used.

    Parameters
    ----------
    batch_size : int, default=None
        Ratings of a minibatch; None takes all ratings of a client at once.
    max_ratings : int, default=None
        Ratings that a client trains with at most; None is all. Serving uses all.
    shuffle : bool or "once", default=True
        Whether every client shuffles its ratings anew in each round, once and for all, or
        never. Without batches and without a limit, the order does not matter and is kept.

    Examples
    --------
    >>> from sklearn_fedrecon.splitting import NoSplit
    >>> NoSplit(batch_size=5, max_ratings=300)
    NoSplit(batch_size=5, max_ratings=300)
    """

    _parameter_constraints = {  # noqa: RUF012
        "batch_size": _COUNT,
        "max_ratings": _COUNT,
        "shuffle": _SHUFFLE,
    }

    def __init__(self, batch_size=None, max_ratings=None, shuffle=True):
        self.batch_size = batch_size
        self.max_ratings = max_ratings
        self.shuffle = shuffle

    def split(
        self, ratings: ClientRatings, context: DeviceContext
    ) -> tuple[ClientRatings, ClientRatings]:
        """Return the ratings twice.

        Parameters
        ----------
        ratings : ClientRatings
        context : DeviceContext

        Returns
        -------
        support, query : ClientRatings
        """
        used = self.used(ratings, context)
        return used, used


class BatchParitySplit(_Split):
    """Batches 0, 2, 4, ... of a client reconstruct, batches 1, 3, 5, ... update: as published.

    A client with a single batch has an empty query: it sends nothing, with weight zero. The
    published code shuffles the ratings of a client once, so that the same half always
    reconstructs; this is ``shuffle="once"``.

    Parameters
    ----------
    batch_size : int, default=5
        Ratings of a minibatch.
    max_ratings : int, default=None
        Ratings that a client trains with at most; None is all. Serving uses all.
    shuffle : bool or "once", default=True
        Whether every client shuffles its ratings anew in each round, once and for all, or
        never.

    References
    ----------
    Singhal et al., "Federated Reconstruction: Partially Local Federated Learning",
    NeurIPS 2021, arXiv:2102.03448.

    Examples
    --------
    >>> from sklearn_fedrecon.splitting import BatchParitySplit
    >>> BatchParitySplit(max_ratings=300, shuffle="once")
    BatchParitySplit(max_ratings=300, shuffle='once')
    """

    _parameter_constraints = {  # noqa: RUF012
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_ratings": _COUNT,
        "shuffle": _SHUFFLE,
    }

    def __init__(self, batch_size: int = 5, max_ratings=None, shuffle=True):
        self.batch_size = batch_size
        self.max_ratings = max_ratings
        self.shuffle = shuffle

    def split(
        self, ratings: ClientRatings, context: DeviceContext
    ) -> tuple[ClientRatings, ClientRatings]:
        """Deal the batches of every client out to both halves in turn.

        Parameters
        ----------
        ratings : ClientRatings
        context : DeviceContext

        Returns
        -------
        support, query : ClientRatings
        """
        used = self.used(ratings, context)
        even = _ranks(used) // self.batch_size % 2 == 0
        return _selected(used, even), _selected(used, ~even)


class RandomSplit(_Split):
    """Each client deals its ratings out at random, anew in every round.

    Parameters
    ----------
    support_fraction : float, default=0.5
        Share of a client's ratings, rounded up, that reconstructs; the others update. 0
        reconstructs from nothing, None from everything and updates with everything: no
        split.
    batch_size : int, default=None
        Ratings of a minibatch; None takes all ratings of a half at once.
    max_ratings : int, default=None
        Ratings that a client trains with at most; None is all. Serving uses all.

    Examples
    --------
    >>> from sklearn_fedrecon.splitting import RandomSplit
    >>> RandomSplit(0.8)
    RandomSplit(support_fraction=0.8)
    """

    _parameter_constraints = {  # noqa: RUF012
        "support_fraction": [Interval(Real, 0, 1, closed="both"), None],
        "batch_size": _COUNT,
        "max_ratings": _COUNT,
    }
    shuffle = True

    def __init__(self, support_fraction=0.5, batch_size=None, max_ratings=None):
        self.support_fraction = support_fraction
        self.batch_size = batch_size
        self.max_ratings = max_ratings

    def split(
        self, ratings: ClientRatings, context: DeviceContext
    ) -> tuple[ClientRatings, ClientRatings]:
        """Deal the ratings of every client out to both halves.

        Parameters
        ----------
        ratings : ClientRatings
        context : DeviceContext

        Returns
        -------
        support, query : ClientRatings
        """
        if self.support_fraction is None:
            used = self.used(ratings, context)
            return used, used
        used = replace(self._shuffled(ratings, context), batch_size=self.batch_size)
        if self.max_ratings is not None:
            used = used.first(self.max_ratings)
        sizes = np.ceil(self.support_fraction * used.lengths - 1e-9)
        first = _ranks(used) < np.repeat(sizes, used.lengths)
        return _selected(used, first), _selected(used, ~first)


def _ranks(ratings: ClientRatings) -> np.ndarray:
    """Place of each rating among those of its client, from 0, shape (n_ratings,)."""
    return np.arange(ratings.n_ratings) - np.repeat(ratings.indptr[:-1], ratings.lengths)


def _selected(ratings: ClientRatings, mask: np.ndarray) -> ClientRatings:
    """The ratings in ``mask``, shape (n_ratings,), of the same clients."""
    before = np.concatenate([[0], np.cumsum(mask)])
    return ratings.pick(np.flatnonzero(mask), before[ratings.indptr].astype(np.int64))
