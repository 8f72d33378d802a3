"""What the displays share: axes, styles, and matplotlib only where it is needed."""

from __future__ import annotations

import numpy as np

from .._optional import optional_module

_SHORT = {
    "c": "color",
    "lw": "linewidth",
    "ls": "linestyle",
    "ms": "markersize",
    "fc": "facecolor",
    "horizontalalignment": "ha",
}


class AxesMixin:
    """Sets ``ax_`` and ``figure_``."""

    def _use_axes(self, ax):
        """Axes to draw on: those given, or those of a new figure."""
        pyplot = optional_module("matplotlib.pyplot", "plots", f"{type(self).__name__}.plot")
        if ax is None:
            _, ax = pyplot.subplots()
        self.ax_, self.figure_ = ax, ax.figure
        return ax


def style(defaults: dict, given: dict | None) -> dict:
    """Keywords for matplotlib: what was given, by any of its names, before the defaults.

    Parameters
    ----------
    defaults : dict
    given : dict or None

    Returns
    -------
    keywords : dict
    """
    return defaults | {_SHORT.get(name, name): value for name, value in (given or {}).items()}


def count_axis(ax, counts: np.ndarray) -> None:
    """Show counts on a logarithmic axis that has a place for zero where there is one.

    Parameters
    ----------
    ax : matplotlib Axes
    counts : ndarray of shape (n,)
    """
    if len(counts) and np.min(counts) > 0:
        ax.set_xscale("log")
    else:
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xlim(left=-0.2)
    ax.xaxis.set_major_formatter("{x:.0f}")


def show_legend(ax) -> None:
    """A legend where something has a label."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="best")
