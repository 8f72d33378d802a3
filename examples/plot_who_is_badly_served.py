"""
Who is badly served
===================

Claim: the error over all ratings says little about the users who are served worst, and those
are mostly users with few ratings.

Most ratings belong to few users. An average over ratings is an average over what *they* get.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.inspection import ClientErrorDisplay
from sklearn_fedrecon.metrics import aggregate, rmse

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
few = display.n_ratings <= np.quantile(display.n_ratings, 0.25)
worst = display.errors >= np.quantile(display.errors, 0.9)
print(f"Median error of the quarter with fewest ratings: {np.median(display.errors[few]):.3f}")
print(f"Median error of the others:                      {np.median(display.errors[~few]):.3f}")
print(f"Share of the worst tenth that has so few:        {few[worst].mean():.0%}")
