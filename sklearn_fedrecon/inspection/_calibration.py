"""Whether the standard deviations mean what they say."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri
from sklearn.utils import check_consistent_length, column_or_1d

from ._plotting import AxesMixin, show_legend, style

LEVELS = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2).tolist())


class CalibrationDisplay(AxesMixin):
    """Share of the ratings inside predictive intervals, against the share that should be.

    An interval of level ``p`` is the prediction plus and minus as many standard deviations
    as hold ``p`` of a normal distribution. Below the diagonal, the deviations are too small.

    Parameters
    ----------
    levels : ndarray of shape (n_levels,)
        Shares that should be inside.
    coverage : ndarray of shape (n_levels,)
        Shares that are.
    name : str, default=None
        Name of the estimator, for the legend.

    Attributes
    ----------
    line_ : matplotlib Artist
        Coverage against level.
    diagonal_ : matplotlib Artist
        Where it should be.
    ax_ : matplotlib Axes
        Axes that were drawn on.
    figure_ : matplotlib Figure
        Figure that these belong to.

    Notes
    -----
    Ratings that are whole numbers, or clipped at the ends of a scale, are not normal: whole
    stars lie inside or outside an interval together, which makes steps.

    Examples
    --------
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn_fedrecon import FederatedReconstructionMF
    >>> from sklearn_fedrecon.datasets import make_ratings
    >>> from sklearn_fedrecon.inspection import CalibrationDisplay
    >>> ratings = make_ratings(
    ...     n_users=80, n_items=40, n_ratings=1600, rounded=False, random_state=0
    ... )
    >>> X, X_test, y, y_test = train_test_split(ratings.data, ratings.target, random_state=0)
    >>> model = FederatedReconstructionMF(2, random_state=0).fit(X, y)
    >>> display = CalibrationDisplay.from_estimator(model, X_test, y_test, levels=[0.5, 0.9])
    >>> display.coverage.shape
    (2,)
    """

    def __init__(self, *, levels, coverage, name=None):
        self.levels = levels
        self.coverage = coverage
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, levels=LEVELS, ax=None, name=None, line_kwargs=None
    ):
        """Predict ratings that were held out, with deviations, and draw the coverage.

        Parameters
        ----------
        estimator : estimator
            Fitted; its ``predict`` takes ``return_std=True``.
        X : {array-like, dataframe} of shape (n_ratings, n_columns)
            Table of held-out ratings.
        y : array-like of shape (n_ratings,)
            These ratings.
        levels : array-like of shape (n_levels,), default=(0.05, 0.1, ..., 0.95)
            Shares that should be inside, in (0, 1).
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        name : str, default=None
            Name for the legend. None: that of the class.
        line_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.plot``.

        Returns
        -------
        display : CalibrationDisplay
            With what was drawn.
        """
        y_pred, y_std = estimator.predict(X, return_std=True)
        name = type(estimator).__name__ if name is None else name
        return cls.from_predictions(
            y, y_pred, y_std, levels=levels, ax=ax, name=name, line_kwargs=line_kwargs
        )

    @classmethod
    def from_predictions(
        cls, y_true, y_pred, y_std, *, levels=LEVELS, ax=None, name=None, line_kwargs=None
    ):
        """Draw the coverage of predictions that are there already.

        Parameters
        ----------
        y_true : array-like of shape (n_ratings,)
            Ratings.
        y_pred : array-like of shape (n_ratings,)
            Their predictions.
        y_std : array-like of shape (n_ratings,)
            Standard deviations of these.
        levels : array-like of shape (n_levels,), default=(0.05, 0.1, ..., 0.95)
            Shares that should be inside, in (0, 1).
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        name : str, default=None
            Name for the legend.
        line_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.plot``.

        Returns
        -------
        display : CalibrationDisplay
            With what was drawn.
        """
        y_true, y_pred, y_std = map(column_or_1d, (y_true, y_pred, y_std))
        check_consistent_length(y_true, y_pred, y_std)
        if not (y_std > 0).all():
            raise ValueError("y_std holds values that are not positive.")
        levels = np.unique(np.asarray(levels, dtype=float))
        if len(levels) == 0 or levels[0] <= 0 or levels[-1] >= 1:
            raise ValueError(f"levels={levels}: expected shares between 0 and 1.")
        deviations = np.abs(y_true - y_pred) / y_std
        inside = deviations[:, None] <= ndtri((1 + levels) / 2)
        display = cls(levels=levels, coverage=inside.mean(axis=0), name=name)
        return display.plot(ax, line_kwargs=line_kwargs)

    def plot(self, ax=None, *, name=None, line_kwargs=None):
        """Draw the coverage.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        name : str, default=None
            Name for the legend. None: the one stored.
        line_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.plot``.

        Returns
        -------
        display : CalibrationDisplay
            With what was drawn.
        """
        ax = self._use_axes(ax)
        (self.diagonal_,) = ax.plot([0, 1], [0, 1], color="grey", linestyle=":", zorder=0)
        defaults = {"marker": ".", "label": self.name if name is None else name}
        (self.line_,) = ax.plot(self.levels, self.coverage, **style(defaults, line_kwargs))
        ax.set(xlabel="level of the interval", ylabel="share of ratings inside", aspect="equal")
        show_legend(ax)
        return self
