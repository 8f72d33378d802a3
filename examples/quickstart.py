"""
Quickstart: recommend from ratings that stay with their users
=============================================================

Claim: learned from ratings that stay with their users, item factors predict better than two
baselines, for users who were in training ("seen") and for users who were not ("unseen"); and
somebody new is recommended to from five ratings, without training.

Everything is simulated in one process::

    python examples/quickstart.py                             ratings drawn here, no network
    python examples/quickstart.py --movielens latest-small    real ratings, downloaded once
"""

# %%
import argparse

import numpy as np
from sklearn.model_selection import cross_val_score, train_test_split

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import fetch_movielens, make_ratings
from sklearn_fedrecon.metrics import rmse
from sklearn_fedrecon.model_selection import ReconstructionScorer, UserKFold

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--movielens", metavar="VARIANT", help="latest-small, 100k, 1m, ...")
parser.add_argument("--data-home", help="folder that keeps downloads, see fetch_movielens")
# A notebook has no file, and the arguments of its process are not meant for us.
arguments = parser.parse_args(None if "__file__" in globals() else [])

# %%
# The ratings: a row of ``X`` is a user and an item, ``y`` is what the user gave.

if arguments.movielens is None:
    ratings = make_ratings(n_users=1500, n_items=600, n_ratings=120_000, random_state=0)
    titles = {item: f"item {item}" for item in range(600)}
else:
    ratings = fetch_movielens(arguments.movielens, data_home=arguments.data_home)
    titles = ratings.item_titles
X, y = ratings.data, ratings.target
n_users, n_items = (len(np.unique(column)) for column in X.T)
print(f"{len(y):,} ratings of {n_items:,} items by {n_users:,} users\n")

# %%
# A fit is a few rounds. In each, every client rebuilds its user from the user's own ratings and
# sends an update of the item factors; the megabytes are what would travel.

scale = {"rating_scale": (y.min(), y.max()), "random_state": 0}
model = FederatedReconstructionMF(verbose=1, **scale)
model.fit(X, y)

# %%
# An error means little without baselines. It is measured in two ways: on a tenth of the
# ratings, of users who keep the others for training; and on users who are held out as a whole,
# half of whose ratings are revealed after training to rebuild them.

factors = FederatedReconstructionMF(**scale)
models = {
    "global mean": FederatedReconstructionMF(0, fit_bias=False, **scale),
    "biases only": FederatedReconstructionMF(0, **scale),
    f"{factors.n_components} components": factors,
}
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.1, random_state=0)
folds, scorer = UserKFold(random_state=0), ReconstructionScorer()

seen, unseen = {}, {}
print("\nRMSE                  seen users   unseen users")
for name, candidate in models.items():
    seen[name] = rmse(y_test, candidate.fit(X_train, y_train).predict(X_test))
    unseen[name] = -cross_val_score(candidate, X, y, cv=folds, scoring=scorer).mean()
    print(f"{name:<22}{seen[name]:10.3f}   {unseen[name]:12.3f}")

# %%
# Somebody new is rebuilt on the spot from a handful of ratings. Nothing is trained, and nothing
# is stored. The ratings drawn here have no titles, so their five most popular items stand in.

NEWCOMER = {
    "Alien (1979)": 5,
    "Terminator, The (1984)": 5,
    "Fargo (1996)": 4,
    "Toy Story (1995)": 2,
    "Titanic (1997)": 1,
}
if arguments.movielens is None:
    rated = np.argsort(-ratings.item_popularity)[:5].tolist()
else:
    item_of = {title: item for item, title in titles.items()}
    rated = [item_of[title] for title in NEWCOMER]
stars = list(NEWCOMER.values())

user = model.reconstruct_user(rated, stars)
items, scores = model.recommend(user, n=5)
print("\nSomebody new rated           Recommended")
for old, given, item, score in zip(rated, stars, items, scores, strict=True):
    print(f"{titles[old]:<24}{given:>4}   {titles[item]:<50.48}{score:.1f}")
