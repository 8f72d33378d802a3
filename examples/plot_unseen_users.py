"""
Somebody new is served as if they had been in training
======================================================

Claim: a user who was never in training, rebuilt from their ratings by `reconstruct_user` or
`personalize`, is predicted as well as if the same ratings had been in the training set.

A fifth of the users stays out of training. Their ratings are revealed one after the other, and
the error is measured on ratings that are never revealed.
"""

# %%
import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.inspection import ReconstructionCurveDisplay
from sklearn_fedrecon.metrics import rmse

ratings = make_ratings(
    n_users=600, n_items=200, n_ratings=30_000, component_variance=0.5, random_state=0
)
X, y = ratings.data, ratings.target
new = X[:, 0] >= 480

model = FederatedReconstructionMF(8, random_state=0).fit(X[~new], y[~new])
biases = FederatedReconstructionMF(0, random_state=0).fit(X[~new], y[~new])

# %%
# The left end of the curve is the cold start: nothing is known of the user. From there, ratings
# help, and they help factors sooner than a bias alone.

STEPS = (0, 1, 2, 5, 10, 20)
curve = ReconstructionCurveDisplay.from_estimator(
    model, X[new], y[new], n_revealed=STEPS, name="factors and biases"
)
curve_of_biases = ReconstructionCurveDisplay.from_estimator(
    biases, X[new], y[new], n_revealed=STEPS, name="biases only", ax=curve.ax_
)
curve.ax_.set_title(f"{curve.n_users} users who were never in training")

# %%
# Now the comparison. Half of each new user's ratings either joins the training set, or is
# revealed to the model that was trained without them. The other half is predicted.

half = new & (np.random.default_rng(0).random(len(y)) < 0.5)
query = new & ~half

in_training = FederatedReconstructionMF(8, random_state=0).fit(X[~query], y[~query])
errors = {
    "cold start": rmse(
        y[query], model.forget_users().set_params(unknown_user="baseline").predict(X[query])
    ),
    "rebuilt, never in training": rmse(
        y[query], model.personalize(X[half], y[half]).predict(X[query])
    ),
    "in training with the same ratings": rmse(y[query], in_training.predict(X[query])),
}
for name, error in errors.items():
    print(f"{name:<35}{error:.3f}")
