"""What each further rating of somebody new is worth."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d

from ..metrics import rmse
from ..model_selection._columns import take_rows
from ..model_selection._pairs import RatedPairs, check_seed
from ..model_selection._reveal import last_step, reveal
from ..model_selection._scorer import warn_if_known
from ._plotting import AxesMixin, count_axis, show_legend, style

_STEPS = (0, 1, 2, 5, 10, 20, 50, 100)


class ReconstructionCurveDisplay(AxesMixin):
    """Error for unseen users against the number of their ratings that are revealed.

    The left end, nothing revealed, is the cold start. All points are errors on the same
    ratings of the same users, and what is revealed at one point is revealed at the next.

    Parameters
    ----------
    n_revealed : ndarray of shape (n_points,)
        Numbers of ratings revealed of every user.
    errors : ndarray of shape (n_points,)
        Error at each.
    n_users : int
        Users that the errors are of.
    metric_name : str, default="rmse"
        What the errors are, for the axis.
    name : str, default=None
        Name of the estimator, for the legend.

    Attributes
    ----------
    line_ : matplotlib Artist
        The curve.
    ax_ : matplotlib Axes
        Axes that were drawn on.
    figure_ : matplotlib Figure
        Figure that these belong to.

    See Also
    --------
    sklearn_fedrecon.model_selection.ReconstructionScorer : One point of it, for searches.

    Examples
    --------
    >>> from sklearn_fedrecon import FederatedReconstructionMF
    >>> from sklearn_fedrecon.datasets import make_ratings
    >>> from sklearn_fedrecon.inspection import ReconstructionCurveDisplay
    >>> X, y = make_ratings(
    ...     n_users=80, n_items=40, n_ratings=1600, random_state=0, return_X_y=True
    ... )
    >>> seen = X[:, 0] < 60
    >>> model = FederatedReconstructionMF(2, random_state=0).fit(X[seen], y[seen])
    >>> display = ReconstructionCurveDisplay.from_estimator(
    ...     model, X[~seen], y[~seen], n_revealed=(0, 1, 2, 5)
    ... )
    >>> bool(display.errors[-1] < display.errors[0])
    True
    """

    def __init__(self, *, n_revealed, errors, n_users, metric_name="rmse", name=None):
        self.n_revealed = n_revealed
        self.errors = errors
        self.n_users = n_users
        self.metric_name = metric_name
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        n_revealed="auto",
        metric=rmse,
        random_state=0,
        ax=None,
        name=None,
        line_kwargs=None,
    ):
        """Reveal ratings of unseen users step by step, and draw the error on the others.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``forget_users`` and ``personalize``, or a Pipeline or search that
            ends in one.
        X : {array-like, dataframe} of shape (n_ratings, n_columns)
            Ratings table of users who were not in training.
        y : array-like of shape (n_ratings,)
            Their ratings.
        n_revealed : "auto" or sequence of int, default="auto"
            Numbers of ratings to reveal. Users without one more than the largest are left
            out. "auto": 0, 1, 2, 5, 10, ... up to what half of the users can show.
        metric : callable, default=rmse
            ``metric(y_true, y_pred)`` that returns a number.
        random_state : int, default=0
            Seed of the order in which a user's ratings are revealed.
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        name : str, default=None
            Name for the legend. None: that of the class.
        line_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.plot``.

        Returns
        -------
        display : ReconstructionCurveDisplay
            With what was drawn.

        Raises
        ------
        ValueError
            If no user has enough ratings.

        Warns
        -----
        KnownUsersWarning
            If some of the users were in training.
        """
        check_seed(random_state, "Two estimators would be shown different ratings.")
        check_consistent_length(X, y)
        y = column_or_1d(y)
        model, table = last_step(estimator, X)
        pairs = RatedPairs.from_table(table, model.user_column, model.item_column)
        warn_if_known(model, pairs.user_ids)
        ranks, counts = pairs.random_ranks(random_state)
        steps = _steps(n_revealed, np.unique(np.column_stack([pairs.users, counts]), axis=0)[:, 1])
        query = np.flatnonzero(ranks >= steps[-1])
        answers, errors = take_rows(table, query), []
        for step in steps:
            shown = reveal(model, table, y, None, (ranks < step) & (counts > steps[-1]))
            shown.set_params(unknown_user="baseline")
            errors.append(metric(y[query], shown.predict(answers)))
        display = cls(
            n_revealed=steps,
            errors=np.array(errors),
            n_users=len(np.unique(pairs.users[query])),
            metric_name=getattr(metric, "__name__", "error"),
            name=type(model).__name__ if name is None else name,
        )
        return display.plot(ax, line_kwargs=line_kwargs)

    def plot(self, ax=None, *, name=None, line_kwargs=None):
        """Draw the curve.

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
        display : ReconstructionCurveDisplay
            With what was drawn.
        """
        ax = self._use_axes(ax)
        defaults = {"marker": "o", "label": self.name if name is None else name}
        (self.line_,) = ax.plot(self.n_revealed, self.errors, **style(defaults, line_kwargs))
        count_axis(ax, self.n_revealed)
        ax.set_xticks(self.n_revealed)
        ax.minorticks_off()
        ax.set(xlabel="ratings revealed of an unseen user", ylabel=self.metric_name)
        show_legend(ax)
        return self


def _steps(n_revealed: str | Sequence[int], counts: np.ndarray) -> np.ndarray:
    """Numbers of ratings to reveal, in ascending order, given those that users have."""
    if isinstance(n_revealed, str) and n_revealed == "auto":
        return np.array([step for step in _STEPS if step == 0 or np.median(counts) > step])
    valid = isinstance(n_revealed, list | tuple | range | np.ndarray) and len(n_revealed) > 0
    if not valid or not all(isinstance(step, Integral) and step >= 0 for step in n_revealed):
        raise ValueError(
            f"n_revealed={n_revealed!r}: expected 'auto', or numbers of ratings of 0 and more."
        )
    steps = np.unique(n_revealed)
    if counts.max() <= steps[-1]:
        raise ValueError(
            f"n_revealed goes up to {steps[-1]}, but no user has more than {counts.max()} rated "
            "items, and one must be left to predict: reveal fewer."
        )
    return steps
