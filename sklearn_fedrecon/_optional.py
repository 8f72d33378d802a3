"""Packages that not everybody has installed: imported when needed, missed with advice."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np


def optional_module(name: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    name : str
        Dotted name of the module.
    extra : str
        The extra of this package that installs it.
    purpose : str
        What was asked for; the beginning of the error.

    Returns
    -------
    module : module

    Raises
    ------
    ImportError
        If the package is not installed, naming what installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"{purpose} needs {package}, which is not installed: pip install {package}, "
            f"or install this package with its extra [{extra}]."
        ) from error


def as_frame(columns: list[tuple[str, np.ndarray]]):
    """Columns side by side in a pandas.DataFrame, names as they are, even twice the same.

    Parameters
    ----------
    columns : list of (str, ndarray of shape (n_rows,))

    Returns
    -------
    frame : DataFrame of shape (n_rows, n_columns)
    """
    pandas = optional_module("pandas", "pandas", "as_frame=True")
    frame = pandas.DataFrame(dict(enumerate(values for _, values in columns)))
    frame.columns = [name for name, _ in columns]
    return frame
