"""From parameters and a table to a fitted record: parts, exchanges before round 1, the loop."""

from ._fit import Face, fit, partial_fit
from ._reading import unharmed

__all__ = ["Face", "fit", "partial_fit", "unharmed"]
