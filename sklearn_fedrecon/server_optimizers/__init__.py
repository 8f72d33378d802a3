"""How the server turns an aggregate into the next model."""

from ._adaptive import Adam, Yogi
from ._gradient import SGD, Adagrad
from ._natural_gradient import NaturalGradient

__all__ = ["SGD", "Adagrad", "Adam", "NaturalGradient", "Yogi"]
