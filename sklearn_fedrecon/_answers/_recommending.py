"""Items for users: recommendations, neighbours of an item, and what everybody likes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from .._encoding import check_ids
from .._optional import as_frame as to_frame
from ._several_users import are_typed_in, labels, refuse_labelled, refuse_nested


class RecommendingMixin:
    """Rankings that a fitted `FederatedReconstructionMF` gives; none of them writes to it."""

    def recommend(self, user, n=10, *, exclude="rated", candidates=None, as_frame=False):
        """Recommend items to one user or to many, best first.

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
            Items to leave out. "rated" leaves out those that a user is known to have
            rated.
        candidates : array-like of item ids, default=None
            Items to choose from. None: all.
        as_frame : bool, default=False
            Whether to return a pandas.DataFrame with a row a recommendation.

        Returns
        -------
        items : ndarray of shape (n,) or (n_users, n)
            Item ids.
        scores : ndarray of shape (n,) or (n_users, n)
            Predicted ratings, not clipped, so that they tell items apart. Items of equal
            score are in the order of ``items_``.
        frame : DataFrame of shape (n_recommendations, 2 or 3)
            Only with ``as_frame=True``, instead of the arrays. The columns of ids have the
            names that they had in X; that of the users is there where ``user`` is several,
            with places in the list, from 0, for users who have no id.

        Raises
        ------
        ValueError
            If a user or an item is unknown, if ``n`` is not positive, if ``user`` is nested
            or a Series with an index of its own, if fewer than ``n`` items are left for one
            of several users and arrays were asked for, or if two columns of the frame would
            have one name.
        """
        check_is_fitted(self)
        allowed = self._allowed_items(exclude, candidates)
        several = self._is_several(user)
        users = self._each_user(user) if several else [self._user_for_serving(user)]
        ranked = []
        for factors, bias, rated in users:
            kept = allowed.copy()
            if isinstance(exclude, str):
                kept[rated] = False
            scores = self.global_mean_ + bias + self.item_bias_ + self.item_factors_ @ factors
            ranked.append(self._best(scores, kept, n))
        if as_frame:
            return self._recommendation_frame(user if several else None, ranked)
        if not several:
            return ranked[0]
        self._check_rows(user, ranked, n)
        return tuple(np.stack(rows) for rows in zip(*ranked, strict=True))

    def similar_items(self, item, n=10, *, as_frame=False):
        """Items whose factors point in the same direction.

        Parameters
        ----------
        item : id
            A known item.
        n : int, default=10
            Number of items.
        as_frame : bool, default=False
            Whether to return a pandas.DataFrame.

        Returns
        -------
        items : ndarray of shape (n_similar,)
            Item ids, most similar first, the item itself left out.
        similarities : ndarray of shape (n_similar,)
            Cosine of the angle between the factors, each scaled by the users' spread along
            its component; 0 for an item without factors.
        frame : DataFrame of shape (n_similar, 2)
            Only with ``as_frame=True``, instead of the arrays.

        Raises
        ------
        ValueError
            If the item is unknown, ``n`` is not positive, or the model has no factors.
        """
        check_is_fitted(self)
        if self.item_factors_.shape[1] == 0:
            raise ValueError(
                "similar_items compares factors, and a model with n_components=0 has none: fit "
                "with n_components of 1 or more."
            )
        index = self._item_indices([item], "item")[0]
        spread = np.sqrt(self.user_prior_variance_[: self.item_factors_.shape[1]])
        factors = self.item_factors_ * spread
        lengths = np.linalg.norm(factors, axis=1)
        dots, products = factors @ factors[index], lengths * lengths[index]
        cosines = np.divide(dots, products, out=np.zeros_like(dots), where=products > 0)
        allowed = np.arange(len(cosines)) != index
        return self._ranking(*self._best(cosines, allowed, n), "similarity", as_frame)

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
        check_is_fitted(self)
        allowed = self._allowed_items(None, candidates)
        return self._ranking(*self._best(self._popularity(by), allowed, n), by, as_frame)

    def _popularity(self, by: str) -> np.ndarray:
        """Number of ratings or bias of every item, shape (n_items,)."""
        if by == "bias":
            return self.item_bias_
        if by != "ratings":
            raise ValueError(f"by={by!r}: expected 'ratings' or 'bias'.")
        counts = self._state.optimizer.get("counts")
        if counts is None:
            raise ValueError(
                "by='ratings' needs a server that is told how often items are rated, which "
                f"server_optimizer={self.server_optimizer!r} is not: use by='bias'."
            )
        return counts

    def _allowed_items(self, exclude, candidates) -> np.ndarray:
        """Which items may be recommended to everybody, shape (n_items,), bool."""
        allowed = np.ones(len(self.items_), dtype=bool)
        if candidates is not None:
            allowed[:] = False
            allowed[self._item_indices(candidates, "candidates")] = True
        if isinstance(exclude, str) and exclude != "rated":
            raise ValueError(f"exclude={exclude!r}: expected 'rated', None or a list of item ids.")
        if exclude is not None and not isinstance(exclude, str):
            allowed[self._item_indices(exclude, "exclude")] = False
        return allowed

    def _best(self, scores, allowed, n):
        """Ids and scores of the ``n`` highest, ties in the order of the catalogue."""
        n = self._check_number(n)
        indices = np.flatnonzero(allowed)
        order = indices[np.argsort(-scores[indices], kind="stable")[:n]]
        return self.items_[order], scores[order]

    def _check_number(self, n) -> int:
        """Refuse what is not a number of items."""
        if not isinstance(n, Integral) or n < 1:
            raise ValueError(f"n={n!r} items were asked for; expected a whole number, 1 or more.")
        return n

    def _item_indices(self, items, name):
        """Indices of known items."""
        return self._item_index.encode_known(check_ids(items, name)) if len(items) else []

    def _is_several(self, user) -> bool:
        """Whether ids of several users are meant, not one user."""
        if isinstance(user, tuple):  # which can be an id
            return self._user_index.kind != "objects of type tuple"
        refuse_labelled(user)
        return isinstance(user, list) or np.ndim(getattr(user, "__array__", lambda: 0)()) > 0

    def _each_user(self, users) -> Iterator[tuple[np.ndarray, Any, np.ndarray]]:
        """Factors, bias and rated items of several users, one after the other."""
        if len(users) == 0:
            raise ValueError("user is an empty list: expected one user at least.")
        refuse_nested(users, self._user_index.kind)
        if are_typed_in(users):
            yield from map(self._user_for_serving, users)
            return
        for index in self._user_index.encode_known(check_ids(users, "user")):
            yield self._known_for_serving(index)

    def _user_for_serving(self, user) -> tuple[np.ndarray, Any, np.ndarray]:
        """Factors, bias and rated items of one user, of whatever kind."""
        if isinstance(user, Mapping) and not isinstance(user, Bunch):
            user = self.reconstruct_user(list(user.keys()), list(user.values()))
        if isinstance(user, Bunch):
            return user.factors, user.bias, self._item_indices(user.rated_items, "rated_items")
        index = self._user_index.encode(check_ids([user], "user"))[0]
        if index < 0:
            raise ValueError(
                f"user {user!r} is not known: pass the ratings, {{item: rating}}, or what "
                "reconstruct_user(items, ratings) returned, or personalize(X, y) first."
            )
        return self._known_for_serving(index)

    def _known_for_serving(self, index: int) -> tuple[np.ndarray, Any, np.ndarray]:
        """Factors, bias and rated items of a known user."""
        start, stop = self._rated[0][index : index + 2]
        return self.user_factors_[index], self.user_bias_[index], self._rated[1][start:stop]

    def _check_rows(self, users, ranked: list, n: int) -> None:
        """Refuse rows of different lengths, which make no array."""
        lengths = np.array([len(items) for items, _ in ranked])
        if (lengths < n).any():
            shortest = lengths.argmin()
            whom = labels(users).tolist()[shortest]
            raise ValueError(
                f"n={n}, but for {np.count_nonzero(lengths < n)} of {len(lengths)} users fewer "
                f"items are left, for {whom!r} only {lengths[shortest]}: lower n to that, or "
                "pass as_frame=True, which returns the rows that there are."
            )

    def _id_names(self) -> tuple[str, str]:
        """Names of the columns of users and items, as in X where it had names."""
        names = getattr(self, "feature_names_in_", None)
        found = []
        for column, name in ((self.user_column, "user"), (self.item_column, "item")):
            if not isinstance(column, str) and names is not None:
                column = names[column]
            found.append(column if isinstance(column, str) else name)
        return tuple(found)

    def _ranking(self, items, values, name: str, as_frame: bool):
        """Items and what they are ranked by, as a pair of arrays or as a frame."""
        if not as_frame:
            return items, values
        return _frame([(self._id_names()[1], items), (name, values)])

    def _recommendation_frame(self, users, ranked: list):
        """A row a recommendation; the user comes first where there are several."""
        user_name, item_name = self._id_names()
        items = np.concatenate([items for items, _ in ranked])
        scores = np.concatenate([scores for _, scores in ranked])
        columns = [(item_name, items), ("score", scores)]
        if users is not None:
            lengths = [len(items) for items, _ in ranked]
            columns.insert(0, (user_name, np.repeat(labels(users), lengths)))
        return _frame(columns)


def _frame(columns: list[tuple[str, np.ndarray]]):
    """A frame, unless two of its columns have one name."""
    names = [name for name, _ in columns]
    if len(set(names)) < len(names):
        raise ValueError(
            f"as_frame=True would make columns {names}, two of one name: fit with other names "
            "of the columns of X, or take the arrays."
        )
    return to_frame(columns)
