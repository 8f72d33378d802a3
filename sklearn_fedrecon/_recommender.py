"""What a fitted recommender is asked for: docstrings, and one line a method."""

from __future__ import annotations

from typing import Any, Literal, Self, overload

import numpy as np
from sklearn.utils import Bunch

from ._answers import (
    copy_with,
    explain,
    fitted_of,
    most_informative_items,
    personalized,
    popular_items,
    predict,
    recommend,
    reconstruct_user,
    server_model,
    similar_items,
)
from ._fitted import FittedAttributes

Pair = tuple[np.ndarray, np.ndarray]
Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
Frame = Any  # pandas.DataFrame, of a package that not everybody has
Off = Literal[False]
On = Literal[True]


class Recommender(FittedAttributes):
    """Methods of a fitted estimator; none of them writes to it."""

    rating_scale: Any

    def __sklearn_is_fitted__(self) -> bool:
        """Whether a fit has ended: one that failed leaves nothing behind."""
        return hasattr(self, "_fitted")

    @overload
    def predict(self, X: Any, return_std: Off = False) -> np.ndarray: ...
    @overload
    def predict(self, X: Any, return_std: On) -> Pair: ...
    def predict(self, X, return_std=False):
        """Predict ratings.

        A known user is predicted from what is stored of it, an unknown one from the item
        and the mean of the users' prior. An unknown item is predicted from the user's bias.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_rows, n_columns)
            Table of users and items.
        return_std : bool, default=False
            Whether to return the standard deviation of a new rating too.

        Returns
        -------
        y : ndarray of shape (n_rows,)
            Predicted ratings, clipped to ``rating_scale`` where one was declared.
        y_std : ndarray of shape (n_rows,)
            Only with ``return_std=True``.

        Raises
        ------
        ValueError
            If users are unknown and ``unknown_user="error"``, or if ``return_std=True`` and
            the parts give no posterior variances.

        Warns
        -----
        ColdStartWarning
            If more than half of the rows belong to unknown users.
        """
        return predict(fitted_of(self), self, X, return_std=return_std)

    def reconstruct_user(self, items: Any, ratings: Any, sample_weight: Any = None) -> Bunch:
        """Rebuild one user from ratings, as its device would; nothing is stored.

        Parameters
        ----------
        items : array-like of shape (n_ratings,)
            Ids of the items that the user rated, each once. Empty: the prior.
        ratings : array-like of shape (n_ratings,)
            The user's ratings.
        sample_weight : array-like of shape (n_ratings,), default=None
            Weights of the ratings.

        Returns
        -------
        user : Bunch
            ``rated_items`` (n_ratings,), ``factors`` (n_components,), ``bias`` (float) and
            ``variance`` (n_components + fit_bias,), None where the parts give none. It can
            be handed to `recommend`.

        Raises
        ------
        ValueError
            If items are unknown (they are named) or repeated, lengths differ, or ratings
            are not valid.
        """
        return reconstruct_user(fitted_of(self), self, items, ratings, sample_weight)

    def personalize(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Return a copy that also knows the users of a table, the items left as they are.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_ratings, n_columns)
            All ratings of these users. What was stored of them is replaced. Ratings of
            items that the server does not know are left out: there is nothing to rebuild
            a user from.
        y : array-like of shape (n_ratings,)
            Ratings.
        sample_weight : array-like of shape (n_ratings,), default=None
            Weights of the ratings.

        Returns
        -------
        model : FederatedReconstructionMF
            Shallow copy; this estimator is not changed.
        """
        return copy_with(self, personalized(fitted_of(self), self, X, y, sample_weight))

    def forget_users(self) -> Self:
        """Return a copy with the server side only: what a deployment would hold.

        Returns
        -------
        model : FederatedReconstructionMF
            Shallow copy that knows no user.
        """
        return copy_with(self, fitted_of(self).without_users())

    def server_model(self) -> dict[str, np.ndarray]:
        """Return what a server would send to a device that is to serve its user.

        Nothing of a user is in it, but it was fitted to users' ratings: see the guide on
        what leaves a device. `save_model` writes the same arrays under the same names.

        Returns
        -------
        arrays : dict of str to ndarray
            Copies. ``items`` (n_items,), the ids; ``item_factors`` (n_items, n_components) and
            ``item_bias`` (n_items,), and their posterior variances ``item_variance`` and
            ``item_bias_variance`` where the parts give them; ``global_mean`` and
            ``noise_variance``, both (); ``user_prior_mean`` and ``user_prior_variance``
            (n_components + fit_bias,); and ``rating_scale`` (2,) where one was declared.
        """
        return server_model(fitted_of(self), self.rating_scale)

    @overload
    def recommend(
        self,
        user: Any,
        n: int = ...,
        *,
        exclude: Any = ...,
        candidates: Any = ...,
        caution: float | None = ...,
        return_std: Off = ...,
        as_frame: Off = ...,
    ) -> Pair: ...
    @overload
    def recommend(
        self,
        user: Any,
        n: int = ...,
        *,
        exclude: Any = ...,
        candidates: Any = ...,
        caution: float | None = ...,
        return_std: On,
        as_frame: Off = ...,
    ) -> Triple: ...
    @overload
    def recommend(
        self,
        user: Any,
        n: int = ...,
        *,
        exclude: Any = ...,
        candidates: Any = ...,
        caution: float | None = ...,
        return_std: bool = ...,
        as_frame: On,
    ) -> Frame: ...
    def recommend(
        self,
        user,
        n=10,
        *,
        exclude="rated",
        candidates=None,
        caution=None,
        return_std=False,
        as_frame=False,
    ):
        """Recommend items to one user or to many, best first.

        Items are ranked by a lower bound: the predicted rating less ``caution`` standard
        deviations of what is not known of the user and of the item. By the predicted rating
        alone, items that hardly anybody has rated come first.

        Parameters
        ----------
        user : id, dict of item to rating, Bunch, or array-like of them of shape (n_users,)
            One user: the id of a known one, ratings typed in (``{}`` for somebody without
            any) or what `reconstruct_user` returned. Several users: known ones by their
            ids in a list, an array or a column of a frame; others in a list of dicts or
            Bunches. A Series must have the default index: with ids of items as its index
            it would be ratings of one user, which are a dict.
        n : int, default=10
            Number of items. One user is given fewer where there are no more.
        exclude : "rated", None or array-like of item ids, default="rated"
            Items to leave out besides those that a user is known to have rated; None leaves
            nothing out, not even these.
        candidates : array-like of item ids, default=None
            Items to choose from. None: all.
        caution : float, default=None
            Standard deviations to take off to rank by; 0 ranks by the predicted rating. None:
            3 where the parts give posterior variances, otherwise 0.
        return_std : bool, default=False
            Whether to return the standard deviations too.
        as_frame : bool, default=False
            Whether to return a pandas.DataFrame with a row a recommendation.

        Returns
        -------
        items : ndarray of shape (n,) or (n_users, n)
            Item ids.
        scores : ndarray of shape (n,) or (n_users, n)
            Predicted ratings, not clipped, so that they tell items apart. They need not
            descend: see ``caution``. Items of equal rank are in the order of ``items_``.
        deviations : ndarray of shape (n,) or (n_users, n)
            Only with ``return_std=True``: standard deviations of the expected rating. A single
            rating scatters more, by the noise: see `predict`.
        frame : DataFrame of shape (n_recommendations, 2 to 4)
            Only with ``as_frame=True``, instead of the arrays. The columns of ids have the
            names that they had in X; that of the users is there where ``user`` is several,
            with places in the list, from 0, for users who have no id.

        Raises
        ------
        ValueError
            If a user or an item is unknown, if ``n`` is not positive, if ``caution`` or
            deviations are asked for and the parts give no variances, if ``user`` is nested
            or a Series with an index of its own, if fewer than ``n`` items are left for one
            of several users and arrays were asked for, or if two columns of the frame would
            have one name.
        """
        return recommend(
            fitted_of(self),
            self,
            user,
            n,
            exclude=exclude,
            candidates=candidates,
            caution=caution,
            return_std=return_std,
            as_frame=as_frame,
        )

    @overload
    def similar_items(self, item: Any, n: int = ..., *, as_frame: Off = ...) -> Pair: ...
    @overload
    def similar_items(self, item: Any, n: int = ..., *, as_frame: On) -> Frame: ...
    def similar_items(self, item, n=10, *, as_frame=False):
        """Items whose factors point in the same direction.

        Parameters
        ----------
        item : id or list of ids
            Known items.
        n : int, default=10
            Number of items for each.
        as_frame : bool, default=False
            Whether to return a pandas.DataFrame.

        Returns
        -------
        items : ndarray of shape (n_similar,) or (n_asked, n_similar)
            Item ids, most similar first, the item itself left out.
        similarities : ndarray of shape (n_similar,) or (n_asked, n_similar)
            Expected cosine of the angle between the factors, each scaled by the users' spread
            along its component: what is not known of an item counts in its length, so that
            few ratings are no close likeness. At most 1; 0 for an item that nobody has rated.
        frame : DataFrame of shape (n_rows, 2 or 3)
            Only with ``as_frame=True``, instead of the arrays. Several items asked for are in a
            column of their own, those found beside them in ``similar``.

        Raises
        ------
        ValueError
            If an item is unknown, ``n`` is not positive, or the model has no factors.
        """
        return similar_items(fitted_of(self), self, item, n, as_frame=as_frame)

    @overload
    def popular_items(
        self, n: int = ..., *, by: str = ..., candidates: Any = ..., as_frame: Off = ...
    ) -> Pair: ...
    @overload
    def popular_items(
        self, n: int = ..., *, by: str = ..., candidates: Any = ..., as_frame: On
    ) -> Frame: ...
    def popular_items(self, n=10, *, by="ratings", candidates=None, as_frame=False):
        """Items for everybody, the same whoever asks: the ranking to beat.

        Parameters
        ----------
        n : int, default=10
            Number of items; fewer are returned where there are no more.
        by : {"ratings", "bias"}, default="ratings"
            "ratings": those rated most often, by sample weight, as far as the server has
            been told. "bias": those that are rated highest by all, which is what a model
            without factors recommends. An item with few ratings has a small bias.
        candidates : array-like of item ids, default=None
            Items to choose from. None: all.
        as_frame : bool, default=False
            Whether to return a pandas.DataFrame.

        Returns
        -------
        items : ndarray of shape (n_popular,)
            Item ids, most popular first.
        values : ndarray of shape (n_popular,)
            Number of ratings (with sampled cohorts: an estimate), or the bias in units of
            the ratings.
        frame : DataFrame of shape (n_popular, 2)
            Only with ``as_frame=True``, instead of the arrays.

        Raises
        ------
        ValueError
            If ``by`` is neither, if the server optimizer does not count ratings and they
            are asked for, if an item is unknown, or if ``n`` is not positive.
        """
        return popular_items(
            fitted_of(self), self, n, by=by, candidates=candidates, as_frame=as_frame
        )

    def explain(self, items: Any, ratings: Any, item: Any) -> Bunch:
        """Tell which of a user's own ratings speak for an item, and how strongly.

        In closed form the prediction is linear in the ratings. Each rating adds what it
        differs from what the average user would have given, times a weight that depends on
        which items were rated, not on the ratings.

        Parameters
        ----------
        items : array-like of shape (n_ratings,)
            Ids of the items that the user rated, each once.
        ratings : array-like of shape (n_ratings,)
            The user's ratings.
        item : id
            The item to explain the prediction of.

        Returns
        -------
        explanation : Bunch
            ``rated_items``, ``ratings`` and ``contributions``, each (n_ratings,), what speaks
            most for the item first; ``baseline`` (float), what is predicted for somebody
            without ratings; and ``prediction`` (float), the baseline and all contributions
            together, not clipped.

        Raises
        ------
        ValueError
            As in `reconstruct_user`, and if the item is unknown or the reconstruction has
            no closed form.
        """
        return explain(fitted_of(self), self, items, ratings, item)

    @overload
    def most_informative_items(
        self,
        items: Any = ...,
        ratings: Any = ...,
        n: int = ...,
        *,
        candidates: Any = ...,
        as_frame: Off = ...,
    ) -> Pair: ...
    @overload
    def most_informative_items(
        self,
        items: Any = ...,
        ratings: Any = ...,
        n: int = ...,
        *,
        candidates: Any = ...,
        as_frame: On,
    ) -> Frame: ...
    def most_informative_items(
        self, items=(), ratings=(), n=10, *, candidates=None, as_frame=False
    ):
        """Items to ask a user about next, in the order to ask them.

        An item is worth what its rating is expected to take off the variance of the
        predictions, on average over the catalogue. With the posterior covariance ``S`` of
        the user, the rows ``x_j`` of all items, and the variance ``t_i`` of a rating of
        item ``i`` that is not the user's (noise, and what is not known of the item)::

            gain_i = mean_j (x_j' S x_i)^2 / (t_i + x_i' S x_i)

        The second item is worth what it adds to the first, and so on. What somebody will
        answer does not matter; whether somebody can answer does: `popular_items` makes
        ``candidates`` that many know.

        Parameters
        ----------
        items : array-like of shape (n_ratings,), default=()
            Ids of the items that the user has rated.
        ratings : array-like of shape (n_ratings,), default=()
            The user's ratings.
        n : int, default=10
            Number of items; fewer are returned where there are no more.
        candidates : array-like of item ids, default=None
            Items to choose from. None: all. Those rated are left out.
        as_frame : bool, default=False
            Whether to return a pandas.DataFrame.

        Returns
        -------
        items : ndarray of shape (n_asked,)
            Item ids, the most informative first.
        gains : ndarray of shape (n_asked,)
            Expected reduction of the mean variance, in squared units of the ratings.
        frame : DataFrame of shape (n_asked, 2)
            Only with ``as_frame=True``, instead of the arrays.

        Raises
        ------
        ValueError
            As in `reconstruct_user`, and if a candidate is unknown, ``n`` is not positive
            or the reconstruction gives no posterior variances.

        References
        ----------
        D. A. Cohn, Z. Ghahramani and M. I. Jordan, "Active Learning with Statistical
        Models", Journal of Artificial Intelligence Research 4, 1996.
        """
        return most_informative_items(
            fitted_of(self), self, items, ratings, n, candidates=candidates, as_frame=as_frame
        )
