"""
Who is badly served
===================

Claim: the error over all ratings says little about the users who are served worst, and users with
few ratings are served worse: not only by chance.

Most ratings belong to few users. An average over ratings is an average over what *they* get.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.inspection import ClientErrorDisplay
from sklearn_fedrecon.metrics import aggregate, per_client, rmse

ratings = make_ratings(
    n_users=1000,
    n_items=300,
    n_ratings=40_000,
    n_components=4,
    spectrum="flat",
    component_variance=1.0,
    noise_std=0.5,
    min_ratings_per_user=4,
    random_state=0,
)
X, X_test, y, y_test = train_test_split(
    ratings.data, ratings.target, test_size=0.3, random_state=0
)
model = FederatedReconstructionMF(4, random_state=0).fit(X, y)

# %%
# One number for all ratings, one for the average user, and the best and worst tenth of users:

predicted = model.predict(X_test)
for name, value in aggregate(rmse, y_test, predicted, X_test[:, 0]).items():
    print(f"{name:<15}{value:.3f}")

# %%
# Every user is a point. The line is the median of groups of users with similarly many ratings.

_, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
display = ClientErrorDisplay.from_estimator(model, X_test, y_test, ax=axes[0])
display.plot(axes[1], kind="distribution")

# %%
# A user with five held-out ratings can be badly off by chance. So compare groups, by one error
# over all held-out ratings of each; and deal the same errors out to the ratings in random order,
# which shows what chance alone makes of single users.

few = display.n_ratings <= np.quantile(display.n_ratings, 0.25)
worst = display.errors >= np.quantile(display.errors, 0.9)
of_few = np.isin(X_test[:, 0], display.clients[few])
error_of_few = rmse(y_test[of_few], predicted[of_few])
error_of_others = rmse(y_test[~of_few], predicted[~of_few])

rng, by_chance = np.random.default_rng(0), []
for _ in range(20):
    dealt = per_client(
        rmse, rng.permutation(y_test - predicted), np.zeros(len(y_test)), X_test[:, 0]
    )
    unlucky = dealt["value"] >= np.quantile(dealt["value"], 0.9)
    by_chance.append(few[unlucky].mean())

print(f"RMSE of the quarter of users with fewest ratings: {error_of_few:.3f}")
print(f"RMSE of the others:                               {error_of_others:.3f}")
print(f"Share of the worst tenth that has so few:         {few[worst].mean():.0%}")
print(f"The same if errors were dealt at random:          {np.mean(by_chance):.0%}")
