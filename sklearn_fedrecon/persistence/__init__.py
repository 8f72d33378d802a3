"""Fitted models in files: no pickle, nothing in them is run when they are read.

A file is a NumPy archive (``.npz``): ``numpy.load(path, allow_pickle=False)`` reads it where
nothing else is installed.
"""

from ._model import load_model, save_model

__all__ = ["load_model", "save_model"]
