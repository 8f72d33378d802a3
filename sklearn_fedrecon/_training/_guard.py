"""Whether training got away: for parts that take steps of a size chosen by the user."""

from __future__ import annotations

from dataclasses import replace

from sklearn.exceptions import ConvergenceWarning

from .._compat import warn_caller
from .._round import RoundParts
from .._types import Guard, RoundReport, ServerState


class DivergenceGuard:
    """Judges rounds by their reports; what it has to remember is a `Guard`.

    Parts without a learning rate solve for their steps, and are not watched. Training has
    diverged when the aggregate or the messages of most clients are not finite, or when the
    loss is five times the lowest so far and five times what predicting the global mean would
    cost, or a thousand times the latter.

    Parameters
    ----------
    parts : RoundParts
    """

    def __init__(self, parts: RoundParts):
        self._rates = [
            f"{role}__learning_rate={part.learning_rate}"
            for role, part in vars(parts).items()
            if hasattr(part, "learning_rate")
        ]

    @property
    def watches(self) -> bool:
        """Whether there is a step size that could be too large."""
        return bool(self._rates)

    def judge(
        self, memory: Guard, report: RoundReport, entered: ServerState
    ) -> tuple[Guard, bool]:
        """Judge a round.

        Parameters
        ----------
        memory : Guard
        report : RoundReport
        entered : ServerState
            The state that the round began with.

        Returns
        -------
        memory : Guard
        diverged : bool
        """
        numbers = report.measurements
        if not self.watches or report.clients == 0:
            return memory, False
        # A few broken clients are not the fault of a step size; most of them at once are.
        if not numbers["finite"] or 2 * numbers["rejected_clients"] > report.clients:
            return memory, True
        loss, baseline = numbers["loss"], max(memory.baseline, report.baseline)
        memory = replace(memory, baseline=baseline)
        if loss <= memory.lowest:
            memory = replace(memory, lowest=loss, best=entered)
        # Both: a bad start is worse than the mean and improves; a good model may lose a little.
        grown = loss > 5 * baseline and loss > 5 * memory.lowest
        return memory, bool(baseline and (grown or loss > 1000 * baseline))

    def warn(self, number: int) -> None:
        """Name the round that diverged, and what to lower."""
        warn_caller(
            f"Training diverged in round {number + 1}; the model of the lowest training loss so "
            f"far is kept. Lower {' or '.join(self._rates)}.",
            ConvergenceWarning,
        )
