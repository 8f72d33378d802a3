"""From what the caller gives, tables or ratings on disk, to ratings by client."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .._compat import validate_data
from .._encoding import (
    IdIndex,
    check_ids,
    check_table,
    check_targets,
    drop_zero_weight,
    encode_ratings,
)
from .._round import RoundParts
from .._types import ClientRatings
from ..datasets import ClientDataset


@dataclass(frozen=True)
class Encoded:
    """Training data inside: ratings by client, and what the indices stand for."""

    ratings: ClientRatings
    users: IdIndex
    items: IdIndex
    target_dtype: np.dtype


class ReadingMixin:
    """Steps from ``X, y`` to `Encoded`; reads parameters, sets what scikit-learn checks of X."""

    def _encode(
        self, X, y, sample_weight, parts: RoundParts, *, reset, known=None, streaming=False
    ) -> Encoded:
        """Check and encode a training table; ``known`` are earlier (users, items)."""
        if isinstance(X, ClientDataset) and streaming:
            raise TypeError(
                "partial_fit takes tables: go through `dataset.chunks()`, and pass the data, "
                "target and sample_weight of each."
            )
        if isinstance(X, ClientDataset):
            _, old_items = known or (None, None)
            return self._encode_stored(X, y, sample_weight, parts, old_items)
        users, items, values, weights = self._checked_rows(X, y, sample_weight, reset=reset)
        old_users, old_items = known or (None, None)
        user_index = old_users.union(users) if old_users else IdIndex.fit(users, "user")
        item_index = self._catalogue(items, old_items)
        ratings = encode_ratings(
            user_index.encode(users),
            item_index.encode_known(items),
            values,
            weights,
            n_items=len(item_index.ids),
            merge=parts.reconstruction.merges_duplicates,
            dtype=self.dtype,
        )
        return Encoded(ratings, user_index, item_index, values.dtype)

    def _checked_rows(self, X, y, sample_weight, *, reset: bool) -> tuple:
        """Ids of users and items, ratings and weights of the rows that count."""
        users, items = check_table(self, X, reset=reset)
        y, weights = check_targets(y, sample_weight, len(users))
        self._check_scale(y)
        return drop_zero_weight(users, items, y, weights)

    def _encode_stored(
        self, dataset: ClientDataset, y, sample_weight, parts: RoundParts, old_items
    ) -> Encoded:
        """Take ratings as they are on disk; copy only what has to become something else."""
        if y is not None or sample_weight is not None:
            raise TypeError(
                "A ClientDataset has its ratings and weights with it: leave y and sample_weight "
                "out."
            )
        if dataset.merged and not parts.reconstruction.merges_duplicates:
            raise ValueError(
                f"{dataset!r} holds means where somebody had rated an item more than once, but "
                f"{parts.reconstruction!r} takes ratings one by one: save it again without "
                "repeated ratings, or fit the table."
            )
        validate_data(self, dataset, reset=True, skip_check_array=True)
        self._check_scale(np.array(dataset.rating_range))
        items = self._catalogue(dataset.items, old_items)
        ratings = dataset.client_ratings(self.dtype)
        places = items.encode(dataset.items)
        if len(items) > len(places) or (places[1:] < places[:-1]).any():
            columns = places[ratings.items].astype(np.int32)
            ratings = replace(ratings, items=columns, n_items=len(items))
        return Encoded(ratings, IdIndex(dataset.users, "user"), items, dataset.target_dtype)

    def _catalogue(self, items: np.ndarray, known: IdIndex | None) -> IdIndex:
        """Items that can be rated: the declared catalogue, or those that were."""
        if self.items is None:
            return known.union(items) if known else IdIndex.fit(items, "item")
        declared = check_ids(self.items, "items")
        catalogue = IdIndex.fit(declared, "item")
        if len(catalogue.ids) < len(declared):
            repeated = len(declared) - len(catalogue.ids)
            raise ValueError(f"items, the catalogue, names {repeated} item(s) more than once.")
        unknown = items[catalogue.encode(items) < 0]
        if len(unknown):
            shown = ", ".join(map(repr, np.unique(unknown)[:5].tolist()))
            raise ValueError(
                f"X rates items that are not in the catalogue declared by `items`: {shown}. "
                "Add them to `items`, drop their rows, or leave `items` out."
            )
        return known.union(declared) if known else catalogue

    def _check_scale(self, y: np.ndarray) -> None:
        """Refuse ratings outside a declared scale."""
        if self.rating_scale is None:
            return
        low, high = self._scale_bounds()
        if y.min() < low or y.max() > high:
            raise ValueError(
                f"Ratings from {y.min():g} to {y.max():g} do not fit rating_scale=({low:g}, "
                f"{high:g}): correct them, or declare the scale that they have."
            )

    def _scale_bounds(self) -> tuple[float, float]:
        """Lowest and highest rating."""
        bounds = np.asarray(self.rating_scale)
        numbers = bounds.shape == (2,) and bounds.dtype.kind in "iuf"
        if not numbers or not np.isfinite(bounds).all() or bounds[0] >= bounds[1]:
            raise ValueError(
                f"rating_scale={self.rating_scale!r}: expected two numbers, the lowest and the "
                "highest rating."
            )
        return float(bounds[0]), float(bounds[1])
