"""How the error fell, and at what expense."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._plotting import AxesMixin, show_legend, style

_LABELS = {
    "round": "Round",
    "bytes": "Megabytes sent so far, down and up",
    "seconds": "Seconds so far",
}
_ERRORS = {"training_rmse": "training", "validation_rmse": "held-out users"}


class RoundHistoryDisplay(AxesMixin):
    """Errors round by round: of the training and, where there are any, of held-out users.

    Parameters
    ----------
    history : dict of str to ndarray of shape (n_rounds,)
        ``history_`` of a fitted estimator.
    name : str, default=None
        Name of the estimator, for the legend.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Artist
        A line for each error that was drawn, by the column of the history.
    ax_ : matplotlib Axes
        Axes that were drawn on.
    figure_ : matplotlib Figure
        Figure that these belong to.

    See Also
    --------
    ReconstructionCurveDisplay : Error against the number of ratings revealed.

    Examples
    --------
    >>> from sklearn_fedrecon import FederatedReconstructionMF
    >>> from sklearn_fedrecon.datasets import make_ratings
    >>> from sklearn_fedrecon.inspection import RoundHistoryDisplay
    >>> X, y = make_ratings(
    ...     n_users=80, n_items=40, n_ratings=1600, random_state=0, return_X_y=True
    ... )
    >>> model = FederatedReconstructionMF(2, max_iter=5, early_stopping=True, random_state=0)
    >>> display = RoundHistoryDisplay.from_estimator(model.fit(X, y), x="bytes")
    >>> list(display.lines_)
    ['training_rmse', 'validation_rmse']
    """

    def __init__(self, *, history, name=None):
        self.history = history
        self.name = name

    @classmethod
    def from_estimator(cls, estimator, *, x="round", ax=None, name=None, line_kwargs=None):
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted, with a ``history_``.
        x : {"round", "bytes", "seconds"}, default="round"
            What the errors are drawn against.
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        name : str, default=None
            Name for the legend. None: that of the class.
        line_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.plot``.

        Returns
        -------
        display : RoundHistoryDisplay
            With what was drawn.
        """
        check_is_fitted(estimator)
        name = type(estimator).__name__ if name is None else name
        return cls.from_history(estimator.history_, x=x, ax=ax, name=name, line_kwargs=line_kwargs)

    @classmethod
    def from_history(cls, history, *, x="round", ax=None, name=None, line_kwargs=None):
        """Draw a history.

        Parameters
        ----------
        history : dict of str to ndarray of shape (n_rounds,), or DataFrame
            ``history_`` of a fitted estimator.
        x : {"round", "bytes", "seconds"}, default="round"
            What the errors are drawn against.
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        name : str, default=None
            Name for the legend.
        line_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.plot``.

        Returns
        -------
        display : RoundHistoryDisplay
            With what was drawn.
        """
        history = {column: np.asarray(history[column]) for column in history}
        return cls(history=history, name=name).plot(ax, x=x, line_kwargs=line_kwargs)

    def plot(self, ax=None, *, x="round", name=None, line_kwargs=None):
        """Draw the errors.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        x : {"round", "bytes", "seconds"}, default="round"
            What the errors are drawn against. Bytes and seconds add up over the rounds.
        name : str, default=None
            Name for the legend. None: the one stored.
        line_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.plot``.

        Returns
        -------
        display : RoundHistoryDisplay
            With what was drawn.
        """
        positions = self._positions(x)
        ax = self._use_axes(ax)
        name, self.lines_, color = self.name if name is None else name, {}, None
        for column, what in _ERRORS.items():
            if column not in self.history:
                continue
            dashes = "-" if column == "training_rmse" else "--"
            label = what if name is None else f"{name}, {what}"
            defaults = {"linestyle": dashes, "marker": ".", "label": label}
            if color is not None:
                defaults["color"] = color
            keywords = style(defaults, line_kwargs)
            (line,) = ax.plot(positions, self.history[column], **keywords)
            self.lines_[column], color = line, line.get_color()
        ax.set(xlabel=_LABELS[x], ylabel="RMSE")
        show_legend(ax)
        return self

    def _positions(self, x: str) -> np.ndarray:
        """Where on the horizontal axis the rounds are, shape (n_rounds,)."""
        if x not in _LABELS:
            raise ValueError(f"x={x!r}: expected one of {list(_LABELS)}.")
        if x == "round":
            return self.history["round"]
        if x == "seconds":
            return np.cumsum(self.history["wall_seconds"])
        return np.cumsum(self.history["bytes_down"] + self.history["bytes_up"]) / 1e6
