"""Measures of rating prediction and of ranking, per client and over all of them.

Rating metrics compare vectors of ratings and predictions. Ranking metrics take scores of
the whole catalogue: candidates are all items but those that a client had rated when the
model was fitted, and ties are broken by expectation over random orders.
"""

from ._ranking import (
    coverage_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    recall_at_k,
)
from ._rating import aggregate, mae, per_client, rating_accuracy, rmse

__all__ = [
    "aggregate",
    "coverage_at_k",
    "hit_rate_at_k",
    "mae",
    "ndcg_at_k",
    "per_client",
    "rating_accuracy",
    "recall_at_k",
    "rmse",
]
