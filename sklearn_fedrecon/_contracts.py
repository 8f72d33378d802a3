"""What each station of a round is given, gives, and must not do.

Parts are objects with hyper-parameters only, `sklearn.base.BaseEstimator` by custom: they are
cloned, shown and saved by their parameters. State goes in and comes out as named arrays. None
of them writes to what it is given. What runs on a device reads the model, that device's own
ratings and a `DeviceContext`; what runs on the server reads sums and a `ServerContext`, never a
rating or a user. Every part may say by class attributes what it ``needs`` and ``gives``:
`check_parts` compares them before any work is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from ._types import (
    Aggregate,
    ClientRatings,
    ClientUpdates,
    DeviceContext,
    Outcome,
    PartialSum,
    Prepared,
    ServerContext,
    ServerModel,
    UserStates,
)

State = dict[str, np.ndarray]


class Exchange(Protocol):
    """A question to all clients before round 1, of which there may be any number.

    The mean of the ratings is one. The answers take the way of a round's: through the
    aggregator, counted in bytes.
    """

    name: str

    def ask(self, model: ServerModel | None, state: State) -> State:
        """Say on the server what clients are sent; None stands for no model as yet.

        Parameters
        ----------
        model : ServerModel or None
        state : dict of str to ndarray
            What the exchanges before have concluded.

        Returns
        -------
        message : dict of str to ndarray
        """

    def answer(
        self, ratings: ClientRatings, message: State, context: DeviceContext
    ) -> ClientUpdates:
        """Compute on devices what a chunk of clients sends back.

        Parameters
        ----------
        ratings : ClientRatings
        message : dict of str to ndarray
        context : DeviceContext

        Returns
        -------
        updates : ClientUpdates
        """

    def conclude(
        self, total: Aggregate, model: ServerModel | None, state: State
    ) -> tuple[ServerModel | None, State]:
        """Make on the server of the answers what it wants to know.

        Parameters
        ----------
        total : Aggregate
        model : ServerModel or None
        state : dict of str to ndarray

        Returns
        -------
        model : ServerModel or None
        state : dict of str to ndarray
        """


class Split(Protocol):
    """Which of its ratings a client reconstructs from and which it learns from; on devices."""

    def split(
        self, ratings: ClientRatings, context: DeviceContext
    ) -> tuple[ClientRatings, ClientRatings]:
        """Deal the ratings of each client out; both halves have all clients.

        Parameters
        ----------
        ratings : ClientRatings
        context : DeviceContext

        Returns
        -------
        support, query : ClientRatings
        """

    def whole(self, ratings: ClientRatings, context: DeviceContext) -> ClientRatings:
        """Return all ratings in the order in which a device would process them, to be served.

        Parameters
        ----------
        ratings : ClientRatings
        context : DeviceContext

        Returns
        -------
        ratings : ClientRatings
        """


class Reconstruction(Protocol):
    """R of Algorithm 1: users from their own ratings, items frozen; on devices.

    Also offers ``initial_model``, and says by ``merges_duplicates`` whether it wants one rating
    an item, and by ``needs_scale`` whether its first model depends on the spread of the ratings.
    """

    merges_duplicates: bool
    needs_scale: bool

    def initial_model(
        self,
        n_items: int,
        n_components: int,
        *,
        fit_bias: bool,
        global_mean: float,
        scale: float,
        dtype: type,
        seed: int,
    ) -> ServerModel:
        """Return the model before the first round, from numbers alone.

        Parameters
        ----------
        n_items : int
        n_components : int
        fit_bias : bool
        global_mean : float
            In the unit of the ratings.
        scale : float
            Standard deviation of the ratings.
        dtype : type
        seed : int

        Returns
        -------
        model : ServerModel
        """

    def prepare(self, model: ServerModel) -> Prepared:
        """Compute once a round what serves for all clients.

        Parameters
        ----------
        model : ServerModel

        Returns
        -------
        prepared : Prepared
        """

    def reconstruct(
        self, support: ClientRatings, prepared: Prepared, context: DeviceContext
    ) -> UserStates:
        """Rebuild many users at once; one unseen user is a cohort of one.

        What a user becomes depends on nobody else in ``support``.

        Parameters
        ----------
        support : ClientRatings
        prepared : Prepared
        context : DeviceContext

        Returns
        -------
        users : UserStates
        """


class ClientUpdate(Protocol):
    """What clients send for the items, with the users frozen; on devices.

    Says by ``learns_global_mean`` whether its clients can update the mean.
    """

    learns_global_mean: bool

    def update(
        self, query: ClientRatings, users: UserStates, prepared: Prepared, context: DeviceContext
    ) -> ClientUpdates:
        """Compute the messages of a chunk of clients.

        Parameters
        ----------
        query : ClientRatings
        users : UserStates
            The same clients, rebuilt from their support.
        prepared : Prepared
        context : DeviceContext

        Returns
        -------
        updates : ClientUpdates
        """


class Aggregator(Protocol):
    """What becomes of many clients' updates on their way to the server."""

    def init(self, model: ServerModel) -> State:
        """Return the state before the first round.

        Parameters
        ----------
        model : ServerModel

        Returns
        -------
        state : dict of str to ndarray
        """

    def encode(self, updates: ClientUpdates, context: DeviceContext) -> PartialSum:
        """Sum a chunk of clients, on their side.

        Parameters
        ----------
        updates : ClientUpdates
        context : DeviceContext

        Returns
        -------
        partial : PartialSum
        """

    def combine(self, partials: Iterable[PartialSum]) -> PartialSum:
        """Add sums up in their order; also where the clients are, two at a time.

        Parameters
        ----------
        partials : iterable of PartialSum

        Returns
        -------
        total : PartialSum
        """

    def finish(self, total: PartialSum, state: State, context: ServerContext) -> Outcome:
        """Make of the sum what the server steps along, on the server, once a round.

        Parameters
        ----------
        total : PartialSum
        state : dict of str to ndarray
        context : ServerContext

        Returns
        -------
        outcome : Outcome
        """


class ServerOptimizer(Protocol):
    """How the server steps."""

    def init(self, model: ServerModel) -> State:
        """Return the state before the first round.

        Parameters
        ----------
        model : ServerModel

        Returns
        -------
        state : dict of str to ndarray
        """

    def apply(
        self, model: ServerModel, aggregate: Aggregate, state: State, context: ServerContext
    ) -> tuple[ServerModel, State]:
        """Take one step; what comes out is ready to be shown, sent and stepped from.

        Parameters
        ----------
        model : ServerModel
        aggregate : Aggregate
        state : dict of str to ndarray
        context : ServerContext

        Returns
        -------
        model : ServerModel
        state : dict of str to ndarray
        """


class Sampler(Protocol):
    """Which clients are asked in a round, and which of them answer; on the server."""

    def rate(self, n_clients: int) -> float:
        """Return the share of the population that is expected to answer.

        Parameters
        ----------
        n_clients : int

        Returns
        -------
        rate : float
        """

    def sample(self, n_clients: int, context: ServerContext) -> np.ndarray:
        """Draw the cohort of a round, in ascending order.

        Parameters
        ----------
        n_clients : int
        context : ServerContext

        Returns
        -------
        clients : ndarray of shape (n_sampled,)
        """

    def survivors(self, clients: np.ndarray, context: ServerContext) -> np.ndarray:
        """Return those of a cohort that answer, in the same order.

        Parameters
        ----------
        clients : ndarray of shape (n_sampled,)
        context : ServerContext

        Returns
        -------
        clients : ndarray of shape (n_survivors,)
        """


# In the order of a round; where the prior of the users becomes a station, it is named here.
STATIONS = {
    "sampling": Sampler,
    "support_query": Split,
    "reconstruction": Reconstruction,
    "client_update": ClientUpdate,
    "aggregator": Aggregator,
    "server_optimizer": ServerOptimizer,
}
# Who has to give what a station needs; "aggregator" passes on what it lets through.
_GIVERS = {
    "sampling": (),
    "support_query": ("sampling",),
    "reconstruction": ("support_query",),
    "client_update": ("reconstruction",),
    "aggregator": ("client_update", "sampling"),
    "server_optimizer": ("client_update",),
}


def methods(station: str) -> list[str]:
    """Names of the methods that a part for a station must have.

    Parameters
    ----------
    station : str
        A key of `STATIONS`.

    Returns
    -------
    names : list of str
    """
    return [name for name, value in vars(STATIONS[station]).items() if _is_contract(name, value)]


def _is_contract(name: str, value: Any) -> bool:
    return callable(value) and not name.startswith("_")


def check_methods(station: str, part: Any) -> None:
    """Refuse a part that has not every method of its station.

    Parameters
    ----------
    station : str
        A key of `STATIONS`.
    part : object

    Raises
    ------
    ValueError
    """
    missing = [name for name in methods(station) if not callable(getattr(part, name, None))]
    if missing:
        raise ValueError(
            f"{station}={part!r} has no method {' and '.join(map(repr, missing))}: use a name, or "
            f"an object that has {', '.join(methods(station))}."
        )


def check_parts(parts: dict[str, Any]) -> None:
    """Refuse parts that are incomplete or do not work together.

    A part names what it hands on (``gives``) and what it must be handed (``needs``); an
    aggregator that does not let everything through names what it does (``passes``).

    Parameters
    ----------
    parts : dict of str to part
        A part for every key of `STATIONS`.

    Raises
    ------
    ValueError
        In one sentence, with what is needed and what was given.
    """
    for station, part in parts.items():
        check_methods(station, part)
    for taker, lacking, givers in _disagreements(parts):
        who = " and ".join(map(repr, givers)) or "nothing before it"
        does = "do" if len(givers) > 1 else "does"
        raise ValueError(
            f"{type(taker).__name__} needs {' and '.join(sorted(lacking))}, which {who} {does} "
            "not give: choose a partner that does, or 'auto'."
        )


def _disagreements(parts: dict[str, Any]) -> Iterator[tuple[Any, set[str], list[Any]]]:
    """Parts that lack something, what, and who could have given it."""
    passes = getattr(parts["aggregator"], "passes", None)
    for station, givers in _GIVERS.items():
        needed = set(getattr(parts[station], "needs", ()))
        given = {name for giver in givers for name in getattr(parts[giver], "gives", ())}
        if needed - given:
            yield parts[station], needed - given, [parts[giver] for giver in givers]
        if station == "server_optimizer" and passes is not None and needed - set(passes):
            yield parts[station], needed - set(passes), [parts["aggregator"]]
