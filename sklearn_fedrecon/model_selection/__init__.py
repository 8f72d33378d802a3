"""Splitting, scoring and evaluating by users: the users of a test set are unseen users."""

from ._evaluate import evaluate
from ._scorer import KnownUsersWarning, ReconstructionScorer
from ._split import UserKFold

__all__ = ["KnownUsersWarning", "ReconstructionScorer", "UserKFold", "evaluate"]
