"""
A search that asks about unseen users
=====================================

Claim: a grid search that holds out users and scores with a plain scorer cannot tell good
settings from bad ones, because it grades the cold start. `ReconstructionScorer` reveals part of
each held-out user's ratings and grades what matters.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.model_selection import ReconstructionScorer, UserKFold

ratings = make_ratings(
    n_users=300,
    n_items=150,
    n_ratings=15_000,
    n_components=4,
    spectrum="flat",
    component_variance=0.6,
    random_state=0,
)
X, y = ratings.data, ratings.target
grid = {"n_components": [0, 1, 2, 3, 4, 6, 8]}

# %%
# The same folds of users for both searches. ``unknown_user="baseline"`` silences the warning
# that the plain search would give for good reason.


def search(scoring):
    estimator = FederatedReconstructionMF(unknown_user="baseline", random_state=0)
    cv = UserKFold(n_splits=4, random_state=0)
    return GridSearchCV(estimator, grid, cv=cv, scoring=scoring).fit(X, y)


searches = {
    "plain scorer": search("neg_root_mean_squared_error"),
    "ReconstructionScorer": search(ReconstructionScorer(support_size=0.5)),
}

# %%
_, ax = plt.subplots()
for name, found in searches.items():
    errors = -found.cv_results_["mean_test_score"]
    spread = found.cv_results_["std_test_score"] / np.sqrt(4)
    ax.errorbar(grid["n_components"], errors, spread, marker="o", capsize=3, label=name)
    print(f"{name:<22} best: {found.best_params_}, errors {np.round(errors, 3)}")
ax.set(xlabel="n_components", ylabel="RMSE on held-out users")
ax.legend()

# %%
# The ratings were drawn with four components. The estimator that the second search ends with
# is refitted on all users, and serves new ones as it is.

newcomer = searches["ReconstructionScorer"].best_estimator_.reconstruct_user([3, 14], [5, 1])
print(newcomer.factors.round(2))
