"""U of Algorithm 1: what a client computes for the items from its rebuilt user."""

from ._joint import JointUpdate
from ._sgd import GradientUpdate, SGDUpdate
from ._variational import VariationalUpdate

__all__ = ["GradientUpdate", "JointUpdate", "SGDUpdate", "VariationalUpdate"]
