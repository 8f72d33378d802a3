"""What a user's own ratings say: why an item is predicted so, and what to ask next.

Both are questions that the closed form of the reconstruction answers exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._fitted import Fitted
from .._types import ClientRatings
from ._asking import allowed_items, check_number, item_indices, ranking
from ._rebuilding import one_client, rebuilt


def explain(fitted: Fitted, settings: Any, items: Any, ratings: Any, item: Any) -> Bunch:
    """See `Recommender.explain`."""
    target = item_indices(fitted, [item], "item")[0]
    _, rated = one_client(fitted, settings.rating_scale, items, ratings)
    model, prepared = fitted.model, fitted.question.prepared
    design, prior = prepared.design.astype(np.float64), model.user_prior_mean
    weights = rated.rating_weights() / model.noise_variance
    influence = design[rated.items] @ _user_covariance(fitted, rated) @ design[target]
    surprise = prepared.residuals(rated) - design[rated.items] @ prior
    contributions = weights * influence * surprise
    order = np.argsort(-contributions, kind="stable")
    contributions = contributions[order]
    baseline = float(model.global_mean + model.item_bias[target] + design[target] @ prior)
    return Bunch(
        rated_items=fitted.items.ids[rated.items[order]],
        ratings=rated.values[order],
        contributions=contributions,
        baseline=baseline,
        prediction=baseline + float(contributions.sum()),
    )


def most_informative_items(
    fitted: Fitted, settings: Any, items: Any, ratings: Any, n: int, *, candidates: Any, as_frame
):
    """See `Recommender.most_informative_items`."""
    _, rated = one_client(fitted, settings.rating_scale, items, ratings)
    covariance = _user_covariance(fitted, rated)
    design = fitted.question.prepared.design.astype(np.float64)
    noise = _noise_of_new_ratings(fitted, settings, rated)
    target = design.T @ design / len(design)
    allowed = allowed_items(fitted, None, candidates)
    allowed[rated.items] = False
    asked, gained = [], []
    for _ in range(min(check_number(n), np.count_nonzero(allowed))):
        reach = design @ covariance
        spread = noise + np.einsum("ij,ij->i", reach, design)
        gains = np.einsum("ij,jk,ik->i", reach, target, reach, optimize=True) / spread
        best = int(np.flatnonzero(allowed)[gains[allowed].argmax()])
        asked.append(best)
        gained.append(gains[best])
        covariance = covariance - np.outer(reach[best], reach[best]) / spread[best]
        allowed[best] = False
    asked = np.asarray(asked, dtype=np.int64)
    return ranking(settings, fitted.items.ids[asked], np.asarray(gained), "gain", as_frame)


def _user_covariance(fitted: Fitted, rated: ClientRatings) -> np.ndarray:
    """Posterior covariance of one user, shape (d, d), float64."""
    reconstruction = fitted.parts.reconstruction
    if not hasattr(reconstruction, "covariance"):
        raise ValueError(
            f"{reconstruction!r} rebuilds users step by step; this needs one in closed "
            "form: fit with reconstruction='variational'."
        )
    return reconstruction.covariance(rated, fitted.question.prepared)


def _noise_of_new_ratings(fitted: Fitted, settings: Any, rated: ClientRatings) -> np.ndarray:
    """Variance of a rating that knowing the user would leave, shape (n_items,)."""
    model, user = fitted.model, rebuilt(fitted, rated, settings.n_jobs)
    if model.item_variance is None or user.variances is None:
        raise ValueError(
            f"{fitted.parts.reconstruction!r} gives no posterior variances, which "
            "tell how informative an item is: use reconstruction='variational'."
        )
    k = model.n_components
    moments = np.square(user.states[0, :k]) + user.variances[0, :k]
    unknown = model.item_bias_variance + model.item_variance @ moments
    return model.noise_variance + unknown.astype(np.float64)
