"""Where the items are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._answers import fitted_of, item_indices
from ._plotting import AxesMixin, style


class ItemMapDisplay(AxesMixin):
    """Items by two of their components, some with their names.

    A component is scaled by how much users differ along it: a user one standard deviation
    from the mean likes an item at 0.3 better, or worse, by 0.3 of a rating. Components are
    ordered by the variance that they explain. Their signs mean nothing.

    Parameters
    ----------
    items : ndarray of shape (n_items,)
        Ids.
    positions : ndarray of shape (n_items, 2)
        Scaled components, in units of the ratings.
    labels : list of str
        A name for every item.
    n_labels : int, default=20
        Number of items to name at most, those farthest from the centre. A name that would
        overlap one of an item farther out is left out.
    components : tuple of (int, int), default=(0, 1)
        Which components these are, for the axes.

    Attributes
    ----------
    scatter_ : matplotlib Artist
        The items.
    texts_ : list of matplotlib Artist
        The names.
    ax_ : matplotlib Axes
        Axes that were drawn on.
    figure_ : matplotlib Figure
        Figure that these belong to.

    See Also
    --------
    sklearn_fedrecon.FederatedReconstructionMF.similar_items : Neighbours by all components.

    Examples
    --------
    >>> from sklearn_fedrecon import FederatedReconstructionMF
    >>> from sklearn_fedrecon.datasets import make_ratings
    >>> from sklearn_fedrecon.inspection import ItemMapDisplay
    >>> X, y = make_ratings(
    ...     n_users=80, n_items=40, n_ratings=1600, random_state=0, return_X_y=True
    ... )
    >>> model = FederatedReconstructionMF(2, random_state=0).fit(X, y)
    >>> display = ItemMapDisplay.from_estimator(model, n_labels=5)
    >>> len(display.texts_)
    5
    """

    def __init__(self, *, items, positions, labels, n_labels=20, components=(0, 1)):
        self.items = items
        self.positions = positions
        self.labels = labels
        self.n_labels = n_labels
        self.components = components

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        components=(0, 1),
        items=None,
        labels=None,
        n_labels=20,
        ax=None,
        scatter_kwargs=None,
        text_kwargs=None,
    ):
        """Draw the items of a fitted estimator.

        Parameters
        ----------
        estimator : FederatedReconstructionMF
            Fitted, with two components at least.
        components : tuple of (int, int), default=(0, 1)
            Components to draw, from 0, the one that explains most.
        items : array-like of item ids, default=None
            Items to draw. None: all.
        labels : dict of item id to str, default=None
            Names of items. None: their ids.
        n_labels : int, default=20
            Number of items to name at most, those farthest from the centre.
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        scatter_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.scatter``.
        text_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.annotate``.

        Returns
        -------
        display : ItemMapDisplay
            With what was drawn.

        Raises
        ------
        ValueError
            If there are no such components, or an item is unknown.
        """
        k = fitted_of(estimator).model.n_components
        columns = np.asarray(components)
        if columns.shape != (2,) or columns.min() < 0 or columns.max() >= k:
            raise ValueError(
                f"components={components!r}: expected two numbers from 0 to {k - 1}, for the "
                f"estimator has {k} component(s)."
            )
        indices = np.arange(len(estimator.items_))
        if items is not None:
            indices = item_indices(fitted_of(estimator), items, "items")
        spread = np.sqrt(estimator.user_prior_variance_[columns])
        ids = estimator.items_[indices]
        names = labels if isinstance(labels, Mapping) else {}
        display = cls(
            items=ids,
            positions=estimator.item_factors_[np.ix_(indices, columns)] * spread,
            labels=[str(names.get(item, item)) for item in ids.tolist()],
            n_labels=n_labels,
            components=tuple(columns.tolist()),
        )
        return display.plot(ax, scatter_kwargs=scatter_kwargs, text_kwargs=text_kwargs)

    def plot(self, ax=None, *, n_labels=None, scatter_kwargs=None, text_kwargs=None):
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.
        n_labels : int, default=None
            Number of items to name at most. None: the one stored.
        scatter_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.scatter``.
        text_kwargs : dict, default=None
            Keywords for ``matplotlib.pyplot.annotate``.

        Returns
        -------
        display : ItemMapDisplay
            With what was drawn.
        """
        ax = self._use_axes(ax)
        points = style({"s": 12, "alpha": 0.6, "linewidth": 0}, scatter_kwargs)
        self.scatter_ = ax.scatter(*self.positions.T, **points)
        ax.axhline(0, color="grey", linewidth=0.5, zorder=0)
        ax.axvline(0, color="grey", linewidth=0.5, zorder=0)
        first, second = self.components
        ax.set(xlabel=f"component {first}", ylabel=f"component {second}")
        self._name_farthest(self.n_labels if n_labels is None else n_labels, text_kwargs)
        return self

    def _name_farthest(self, n_labels: int, text_kwargs: dict | None) -> None:
        """Write the names that have room, those of the farthest items first."""
        self.figure_.draw_without_rendering()  # sizes are known after the layout only
        middle = sum(self.ax_.get_xlim()) / 2
        farthest = np.argsort(-np.linalg.norm(self.positions, axis=1), kind="stable")[:n_labels]
        self.texts_: list[Any] = []
        taken: list[Any] = []
        for place in farthest:
            right = self.positions[place, 0] > middle
            side = {"ha": "right", "xytext": (-3, 2)} if right else {"xytext": (3, 2)}
            text = style({"textcoords": "offset points", "size": 8} | side, text_kwargs)
            name = self.ax_.annotate(self.labels[place], self.positions[place], **text)
            box = name.get_window_extent()
            if box.count_overlaps(taken):
                name.remove()
            else:
                self.texts_.append(name)
                taken.append(box)
