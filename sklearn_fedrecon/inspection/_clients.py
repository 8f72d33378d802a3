"""Who is served well, and who is not."""

from __future__ import annotations

import numpy as np

from ..metrics import per_client, rmse
from ..model_selection._columns import read_column
from ..model_selection._reveal import last_step
from ._plotting import AxesMixin, count_axis, style

_GROUP = 20  # clients of a group, at least


class ClientErrorDisplay(AxesMixin):
    """The error of every client: its distribution, or against the client's ratings.

    Parameters
    ----------
    clients : ndarray of shape (n_clients,)
        Ids.
    errors : ndarray of shape (n_clients,)
        Error of each, in units of the ratings.
    n_ratings : ndarray of shape (n_clients,)
        Ratings that each is known by.
    metric_name : str, default="rmse"
        What the errors are, for the axis.

    Attributes
    ----------
    scatter_ : matplotlib Artist or None
        The clients, where they are drawn against their ratings.
    line_ : matplotlib Artist or None
        Median error of groups of clients with similarly many ratings, of 20 clients at
        least; with ``kind="distribution"``, the median of all.
    bars_ : matplotlib Artist or None
        The bars of the distribution.
    ax_ : matplotlib Axes
        Axes that were drawn on.
    figure_ : matplotlib Figure
        Figure that these belong to.

    See Also
    --------
    sklearn_fedrecon.metrics.aggregate : The same in numbers.

    Notes
    -----
    The error of a client with few held-out ratings is an estimate from few: it scatters more,
    and its median is lower. Such clients are among the best and the worst more often than
    their share even where all are served alike. To compare groups of clients, take one error
    over all ratings of each group, or draw the same errors in shuffled order beside this.

    Examples
    --------
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn_fedrecon import FederatedReconstructionMF
    >>> from sklearn_fedrecon.datasets import make_ratings
    >>> from sklearn_fedrecon.inspection import ClientErrorDisplay
    >>> ratings = make_ratings(n_users=80, n_items=40, n_ratings=1600, random_state=0)
    >>> X, X_test, y, y_test = train_test_split(ratings.data, ratings.target, random_state=0)
    >>> model = FederatedReconstructionMF(2, random_state=0).fit(X, y)
    >>> display = ClientErrorDisplay.from_estimator(model, X_test, y_test)
    >>> display.errors.shape
    (80,)
    """

    def __init__(self, *, clients, errors, n_ratings, metric_name="rmse"):
        self.clients = clients
        self.errors = errors
        self.n_ratings = n_ratings
        self.metric_name = metric_name

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, metric=rmse, kind="against_ratings", ax=None, **styles
    ):
        """Predict ratings that were held out, and draw every client's error.

        Parameters
        ----------
        estimator : estimator
            Fitted, and told of the users to look at: see `personalize`.
        X : {array-like, dataframe} of shape (n_ratings, n_columns)
            Table of held-out ratings.
        y : array-like of shape (n_ratings,)
            These ratings.
        metric : callable, default=rmse
            ``metric(y_true, y_pred)`` that returns a number.
        kind : {"against_ratings", "distribution"}, default="against_ratings"
            What to draw. Against the number of ratings that the estimator knows of a user,
            0 where it is not known.
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        **styles : dict
            ``scatter_kwargs``, ``line_kwargs`` and ``bar_kwargs``, see `plot`.

        Returns
        -------
        display : ClientErrorDisplay
            With what was drawn.
        """
        model, table = last_step(estimator, X)
        clients = np.asarray(read_column(table, model.user_column, "user_column"))
        counts = dict(
            zip(model.users_.tolist(), np.diff(model._fitted.devices.rated[0]), strict=True)
        )
        return cls.from_predictions(
            y,
            model.predict(table),
            clients,
            n_ratings=counts,
            metric=metric,
            kind=kind,
            ax=ax,
            **styles,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true,
        y_pred,
        clients,
        *,
        n_ratings=None,
        metric=rmse,
        kind="against_ratings",
        ax=None,
        **styles,
    ):
        """Draw every client's error in predictions that are there already.

        Parameters
        ----------
        y_true : array-like of shape (n_ratings,)
            Ratings.
        y_pred : array-like of shape (n_ratings,)
            Their predictions.
        clients : array-like of shape (n_ratings,)
            Id of the client that owns each rating.
        n_ratings : dict of id to int, default=None
            Ratings that each client is known by. None: those here are counted.
        metric : callable, default=rmse
            ``metric(y_true, y_pred)`` that returns a number.
        kind : {"against_ratings", "distribution"}, default="against_ratings"
            What to draw.
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        **styles : dict
            ``scatter_kwargs``, ``line_kwargs`` and ``bar_kwargs``, see `plot`.

        Returns
        -------
        display : ClientErrorDisplay
            With what was drawn.
        """
        table = per_client(metric, y_true, y_pred, clients)
        counts = table["n_ratings"]
        if n_ratings is not None:
            counts = np.array([n_ratings.get(client, 0) for client in table["client"].tolist()])
        display = cls(
            clients=table["client"],
            errors=table["value"],
            n_ratings=counts,
            metric_name=getattr(metric, "__name__", "error"),
        )
        return display.plot(ax, kind=kind, **styles)

    def plot(
        self,
        ax=None,
        *,
        kind="against_ratings",
        scatter_kwargs=None,
        line_kwargs=None,
        bar_kwargs=None,
    ):
        """Draw the errors.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        kind : {"against_ratings", "distribution"}, default="against_ratings"
            A point a client and the medians of groups, or a histogram over clients.
        scatter_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.scatter``.
        line_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.plot``.
        bar_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.hist``.

        Returns
        -------
        display : ClientErrorDisplay
            With what was drawn.
        """
        if kind not in ("against_ratings", "distribution"):
            raise ValueError(f"kind={kind!r}: expected 'against_ratings' or 'distribution'.")
        ax = self._use_axes(ax)
        self.scatter_ = self.line_ = self.bars_ = None
        if kind == "distribution":
            _, _, self.bars_ = ax.hist(self.errors, **style({"bins": "auto"}, bar_kwargs))
            line = style({"color": "black", "label": "median client"}, line_kwargs)
            self.line_ = ax.axvline(np.median(self.errors), **line)
            ax.set(xlabel=self.metric_name, ylabel="clients")
        else:
            points = style({"s": 12, "alpha": 0.6, "linewidth": 0}, scatter_kwargs)
            self.scatter_ = ax.scatter(self.n_ratings, self.errors, **points)
            line = style({"color": "black", "label": "median of similar clients"}, line_kwargs)
            (self.line_,) = ax.plot(*self._medians(), **line)
            count_axis(ax, self.n_ratings)
            ax.set(xlabel="ratings of the client", ylabel=f"{self.metric_name} of the client")
        ax.legend(loc="best")
        return self

    def _medians(self) -> tuple[np.ndarray, np.ndarray]:
        """Median number of ratings and median error of groups of clients."""
        order = np.argsort(self.n_ratings, kind="stable")
        groups = np.array_split(order, min(10, max(1, len(order) // _GROUP)))
        medians = [(np.median(self.n_ratings[g]), np.median(self.errors[g])) for g in groups]
        return tuple(np.array(medians).T)
