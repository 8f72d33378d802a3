"""R of Algorithm 1: rebuild users from their own ratings, with the items frozen."""

from ._ridge import RidgeReconstruction
from ._sgd import SGDReconstruction
from ._variational import VariationalReconstruction

__all__ = ["RidgeReconstruction", "SGDReconstruction", "VariationalReconstruction"]
