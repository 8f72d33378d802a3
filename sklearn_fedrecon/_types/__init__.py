"""The vocabulary of a round: frozen records that are sliced and summed, no algorithms.

Everything that happens on a device speaks of `ClientRatings`, `UserStates` and
`ClientUpdates`; all that a server ever sees is a `PartialSum`.
"""

from ._loop import Guard, LoopState, Progress
from ._model import Prepared, ServerModel
from ._ratings import (
    ClientRatings,
    chunk_bounds,
    clients_by_items,
    is_mapped,
    items_by_clients,
    starts_and_end,
)
from ._records import (
    Aggregate,
    DeviceContext,
    Outcome,
    PartialSum,
    RoundReport,
    ServerContext,
    ServerState,
    SupportStatistics,
    UserStates,
)
from ._rows import ItemRows, Pattern, SecondMoment, Shrinkage
from ._schema import (
    check_array,
    fitted_attributes,
    grown,
    numbers_sent,
    permuted,
    restored_model,
    rotated,
    schema,
    served_arrays,
    stored_arrays,
)
from ._updates import ClientUpdates

__all__ = [
    "Aggregate",
    "ClientRatings",
    "ClientUpdates",
    "DeviceContext",
    "Guard",
    "ItemRows",
    "LoopState",
    "Outcome",
    "PartialSum",
    "Pattern",
    "Prepared",
    "Progress",
    "RoundReport",
    "SecondMoment",
    "ServerContext",
    "ServerModel",
    "ServerState",
    "Shrinkage",
    "SupportStatistics",
    "UserStates",
    "check_array",
    "chunk_bounds",
    "clients_by_items",
    "fitted_attributes",
    "grown",
    "is_mapped",
    "items_by_clients",
    "numbers_sent",
    "permuted",
    "restored_model",
    "rotated",
    "schema",
    "served_arrays",
    "starts_and_end",
    "stored_arrays",
]
