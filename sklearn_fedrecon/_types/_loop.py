"""All that the loop over rounds remembers: whoever has it goes on as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass, field

from ._records import ServerState


@dataclass(frozen=True)
class Progress:
    """Whether rounds still get anywhere.

    Attributes
    ----------
    last : float
        Training loss of the round before; NaN before there is one.
    waited : int
        Rounds in a row without an improvement or a change that counts.
    """

    last: float = float("nan")
    waited: int = 0


@dataclass(frozen=True)
class Guard:
    """What divergence is told from.

    Attributes
    ----------
    lowest : float
        Lowest training loss so far.
    baseline : float
        Largest loss of predicting the global mean so far.
    best : ServerState or None
        The state that began the round of the lowest loss.
    """

    lowest: float = float("inf")
    baseline: float = 0.0
    best: ServerState | None = None


@dataclass(frozen=True)
class LoopState:
    """The loop between two rounds: arrays and numbers only, so that a file can hold it.

    Attributes
    ----------
    server : ServerState
        What the next round begins with.
    round : int
        Number of that round: rounds done.
    best : ServerState or None
        The state of the lowest error on held-out users.
    best_error : float
    progress : Progress
    guard : Guard
    data : str
        Fingerprint of the ratings that the rest was measured on; see `fingerprint`.
    """

    server: ServerState
    round: int = 0
    best: ServerState | None = None
    best_error: float = float("inf")
    progress: Progress = field(default_factory=Progress)
    guard: Guard = field(default_factory=Guard)
    data: str = ""

    @property
    def kept(self) -> ServerState:
        """The state that a fit which ends here hands over."""
        return self.server if self.best is None else self.best
