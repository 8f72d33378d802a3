"""The vocabulary of a round: frozen records that are sliced and summed, no algorithms.

Everything that happens on a device speaks of `ClientRatings`, `UserStates` and
`ClientUpdates`; all that a server ever sees is a `PartialSum`.
"""

from ._model import ServerModel
from ._ratings import (
    ClientRatings,
    chunk_bounds,
    clients_by_items,
    is_mapped,
    items_by_clients,
    starts_and_end,
)
from ._records import PartialSum, RoundContext, RoundReport, SupportStatistics, UserStates

__all__ = [
    "ClientRatings",
    "PartialSum",
    "RoundContext",
    "RoundReport",
    "ServerModel",
    "SupportStatistics",
    "UserStates",
    "chunk_bounds",
    "clients_by_items",
    "is_mapped",
    "items_by_clients",
    "starts_and_end",
]
