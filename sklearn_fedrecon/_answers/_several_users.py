"""What may stand for several users in one call, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from .._encoding import check_ids


def refuse_labelled(user) -> None:
    """Refuse a pandas.Series whose index may be the items, and its values ratings."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(user, pandas.Series):
        return
    index = user.index
    if not isinstance(index, pandas.RangeIndex) or (index.start, index.step) != (0, 1):
        raise ValueError(
            "user is a Series with an index of its own, which may be ratings by item or ids of "
            "users: for ratings pass a dict: series.to_dict(), for ids series.to_list()."
        )


def are_typed_in(users) -> bool:
    """Whether several users are given by ratings or factors; some of them is refused."""
    typed = sum(isinstance(user, Mapping) for user in users)
    if 0 < typed < len(users):
        raise ValueError(
            f"user holds {typed} dicts or Bunches and {len(users) - typed} ids: expected only "
            "ids, or only users given by ratings. Call recommend once for each kind."
        )
    return typed > 0


def labels(users) -> np.ndarray:
    """Ids of several users, or their places where they have none."""
    return np.arange(len(users)) if are_typed_in(users) else check_ids(users, "user")


def refuse_nested(users, kind_of_ids: str) -> None:
    """Refuse what is neither one user nor a row of users."""
    kinds = (list, set, np.ndarray)
    if kind_of_ids != "objects of type tuple":
        kinds += (tuple,)
    one_row = isinstance(users, list | tuple) or np.ndim(users) == 1
    if not one_row or any(isinstance(user, kinds) for user in users):
        raise ValueError(
            f"user is a {type(users).__name__} of rows: expected the ids in one list, or, "
            "for ratings typed in, a list with a dict {item: rating} for each user."
        )
