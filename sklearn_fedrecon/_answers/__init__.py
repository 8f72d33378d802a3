"""What a fitted model is asked for: functions of a `Fitted` record, which they only read.

``settings`` is the estimator whose parameters say how to answer: how ratings are clipped, what
is done about unknown users, how many workers rebuild users.
"""

from ._asking import clipped, copy_with, fitted_of, item_indices
from ._explaining import explain, most_informative_items
from ._predicting import predict
from ._rebuilding import personalized, rebuilt, reconstruct_user, server_model
from ._recommending import bounds_of, popular_items, recommend, similar_items

__all__ = [
    "bounds_of",
    "clipped",
    "copy_with",
    "explain",
    "fitted_of",
    "item_indices",
    "most_informative_items",
    "personalized",
    "popular_items",
    "predict",
    "rebuilt",
    "recommend",
    "reconstruct_user",
    "server_model",
    "similar_items",
]
