"""
What it costs to leave the ratings where they are
=================================================

Claim: on these ratings, the federated model predicts as well as a factorization of the whole
table in one place, whose penalty was chosen on the very ratings it is judged by.

The other model is alternating least squares, written out below: it needs every rating of an
item at the same place. Two limits stand beside them: what a model that knows nobody can do, and
the noise, which no model can get under.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings, oracle_predict
from sklearn_fedrecon.metrics import rmse

N_USERS, N_ITEMS, K = 500, 200, 8
ratings = make_ratings(N_USERS, N_ITEMS, 30_000, component_variance=0.5, random_state=0)
X, X_test, y, y_test = train_test_split(
    ratings.data, ratings.target, test_size=0.2, random_state=0
)

# %%
# Alternating least squares, with the biases as two more components of the factors.


def solve(own, others, fixed, values, penalty):
    """Ridge regression of the ratings of each user on its items, or the other way round."""
    solved = np.zeros((own.max() + 1, others.shape[1]))
    for one in range(len(solved)):
        mine = own == one
        rows = others[fixed[mine]]
        gram = rows.T @ rows + penalty * np.eye(rows.shape[1])
        solved[one] = np.linalg.solve(gram, rows.T @ values[mine])
    return solved


def alternating_least_squares(penalty, n_rounds=10):
    users, items = X.T
    mean, values = y.mean(), y - y.mean()
    factors = np.random.default_rng(0).normal(0, 0.1, (N_ITEMS, K))
    item_bias = np.zeros(N_ITEMS)
    for _ in range(n_rounds):
        design = np.column_stack([factors, np.ones(N_ITEMS)])
        of_users = solve(users, design, items, values - item_bias[items], penalty)
        own = np.column_stack([of_users[:, :K], np.ones(len(of_users))])
        of_items = solve(items, own, users, values - of_users[users, K], penalty)
        factors, item_bias = of_items[:, :K], of_items[:, K]
    return lambda users, items: (
        mean
        + item_bias[items]
        + of_users[users, K]
        + np.einsum("rk,rk->r", factors[items], of_users[users, :K])
    )


penalties = [2.0, 4.0, 8.0, 16.0]
centralized = {p: rmse(y_test, alternating_least_squares(p)(*X_test.T)) for p in penalties}

# %%
# The federated model has nothing to choose.

federated = FederatedReconstructionMF(K, random_state=0).fit(X, y)
biases = FederatedReconstructionMF(0, random_state=0).fit(X, y)
noise = np.clip(ratings.expected_ratings, 1, 5) - ratings.target

errors = {
    "biases only": rmse(y_test, biases.predict(X_test)),
    **{f"centralized, penalty {p:g}": error for p, error in centralized.items()},
    "federated": rmse(y_test, federated.predict(X_test)),
    "oracle that knows the items": rmse(y_test, oracle_predict(ratings, X, y, X_test)),
    "noise": np.sqrt(np.mean(noise**2)),
}
for name, error in errors.items():
    print(f"{name:<30}{error:.4f}")

# %%
_, ax = plt.subplots(layout="constrained")
bars = ax.barh(list(errors), list(errors.values()))
ax.bar_label(bars, fmt="%.3f", padding=3)
ax.invert_yaxis()
ax.set(xlabel="RMSE on held-out ratings", xlim=(0.7, 1.05))
