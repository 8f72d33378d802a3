"""
Somebody new is served as if they had been in training
======================================================

Claim: a user who was never in training, rebuilt from their ratings by `reconstruct_user` or
`personalize`, is predicted as well as if the same ratings had been in the training set.

A fifth of the users stays out of training. Their ratings are revealed one after the other, and
the error is measured on ratings that are never revealed.
"""

# %%
# sphinx_gallery_thumbnail_number = 2
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
# Now the comparison. The first ratings of each new user, in random order, are revealed to the
# model that was trained without these users; or they join the training set, and the model is
# trained again. Either way the ratings after the twentieth are predicted.

place = np.zeros(len(y), dtype=int)
rng = np.random.default_rng(0)
for user in np.unique(X[new, 0]):
    mine = X[:, 0] == user
    place[mine] = rng.permutation(np.count_nonzero(mine))
query = new & (place >= STEPS[-1])

rebuilt, in_training = [], []
for step in STEPS[1:]:
    shown = new & (place < step)
    served = model.personalize(X[shown], y[shown])
    rebuilt.append(rmse(y[query], served.predict(X[query])))
    trained = FederatedReconstructionMF(8, random_state=0).fit(X[~new | shown], y[~new | shown])
    in_training.append(rmse(y[query], trained.predict(X[query])))

n_users = len(np.unique(X[query, 0]))
ax = None
for name, values, line in [
    ("in training with the same ratings", in_training, {"lw": 5, "color": "lightgrey"}),
    ("rebuilt, never in training", rebuilt, {}),
]:
    display = ReconstructionCurveDisplay(
        n_revealed=STEPS[1:], errors=values, n_users=n_users, name=name
    )
    ax = display.plot(ax, line_kwargs=line).ax_
ax.set(title="Served as if they had been in training", xlabel="ratings of a user")

# %%
nobody = model.forget_users().set_params(unknown_user="baseline")
errors = {
    "cold start": rmse(y[query], nobody.predict(X[query])),
    "rebuilt, never in training": rebuilt[-1],
    "in training with the same ratings": in_training[-1],
}
for name, error in errors.items():
    print(f"{name:<35}{error:.3f}")
