"""How the server turns an aggregate into the next model."""

from ._natural_gradient import NaturalGradient

__all__ = ["NaturalGradient"]
