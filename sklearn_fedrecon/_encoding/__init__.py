"""From a ratings table to `ClientRatings`: the only place that sees X.

A ratings table has a row a rating; two of its columns are the ids of users and items, named
by ``user_column`` and ``item_column``. What the other columns hold is never looked at.

An estimator goes through it in this order::

    users, items, y, weights = read_rows(self, X, y, sample_weight, reset=True)
    user_index, item_index = IdIndex.fit(users, "user"), IdIndex.fit(items, "item")
    ratings = encode_ratings(
        user_index.encode(users), item_index.encode(items), y, weights,
        n_users=len(user_index), n_items=len(item_index), dtype="float32",
    )
"""

from ._ids import check_ids, id_keys
from ._index import IdIndex
from ._ratings import check_digits, encode_ratings
from ._table import check_table, read_columns, read_rows
from ._targets import check_scale, check_targets, drop_zero_weight, scale_bounds

__all__ = [
    "IdIndex",
    "check_digits",
    "check_ids",
    "check_scale",
    "check_table",
    "check_targets",
    "drop_zero_weight",
    "encode_ratings",
    "id_keys",
    "read_columns",
    "read_rows",
    "scale_bounds",
]
