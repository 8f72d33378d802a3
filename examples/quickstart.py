"""Quickstart: recommend from ratings that stay with their users, in simulation.

    python examples/quickstart.py                             ratings drawn here, no network
    python examples/quickstart.py --movielens latest-small    real ratings, downloaded once

Fits by federated reconstruction, compares with two baselines on users that were in training
("seen") and on users that were not ("unseen"), and recommends for somebody new.
"""

import argparse

import numpy as np
from sklearn.model_selection import cross_val_score, train_test_split

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import fetch_movielens, make_ratings
from sklearn_fedrecon.metrics import rmse
from sklearn_fedrecon.model_selection import ReconstructionScorer, UserKFold

NEWCOMER = {
    "Alien (1979)": 5,
    "Terminator, The (1984)": 5,
    "Fargo (1996)": 4,
    "Toy Story (1995)": 2,
    "Titanic (1997)": 1,
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movielens", metavar="VARIANT", help="latest-small, 100k, 1m, ...")
    parser.add_argument("--data-home", help="folder that keeps downloads, see fetch_movielens")
    return parser.parse_args()


def load(variant, data_home):
    """Ratings, the title of every item, and the few ratings of somebody new."""
    if variant is None:
        ratings = make_ratings(n_users=1500, n_items=600, n_ratings=120_000, random_state=0)
        titles = {item: f"item {item}" for item in range(600)}
        popular = np.argsort(-ratings.item_popularity)[:5]
        return ratings, titles, dict(zip(popular.tolist(), NEWCOMER.values(), strict=True))
    ratings = fetch_movielens(variant, data_home=data_home)
    item_of = {title: item for item, title in ratings.item_titles.items()}
    newcomer = {item_of[title]: stars for title, stars in NEWCOMER.items()}
    return ratings, ratings.item_titles, newcomer


def compare(models, X, y):
    """Print the errors of several models on seen and on unseen users."""
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.1, random_state=0)
    print("\nRMSE                  seen users   unseen users")
    for name, model in models.items():
        # Seen: a tenth of the ratings is held out, of users who keep the others.
        seen = rmse(y_test, model.fit(X_train, y_train).predict(X_test))
        # Unseen: whole users are held out; half of their ratings is revealed to rebuild them.
        unseen = -cross_val_score(
            model, X, y, cv=UserKFold(random_state=0), scoring=ReconstructionScorer()
        ).mean()
        print(f"{name:<22}{seen:10.3f}   {unseen:12.3f}")


def main():
    arguments = parse_arguments()
    ratings, titles, newcomer = load(arguments.movielens, arguments.data_home)
    X, y = ratings.data, ratings.target
    n_users, n_items = (len(np.unique(column)) for column in X.T)
    print(f"{len(y):,} ratings of {n_items:,} items by {n_users:,} users\n")

    scale = {"rating_scale": (y.min(), y.max()), "random_state": 0}
    model = FederatedReconstructionMF(verbose=1, **scale).fit(X, y)

    baselines = {
        "global mean": FederatedReconstructionMF(0, fit_bias=False, **scale),
        "biases only": FederatedReconstructionMF(0, **scale),
    }
    factors = FederatedReconstructionMF(**scale)
    compare(baselines | {f"{factors.n_components} components": factors}, X, y)

    # Somebody new: rebuilt on the spot from a handful of ratings, nothing is trained or stored.
    user = model.reconstruct_user(list(newcomer), list(newcomer.values()))
    items, scores = model.recommend(user, n=5)
    print("\nSomebody new rated           Recommended")
    for (rated, stars), item, score in zip(newcomer.items(), items, scores, strict=True):
        print(f"{titles[rated]:<24}{stars:>4}   {titles[item]:<50.48}{score:.1f}")


if __name__ == "__main__":
    main()
