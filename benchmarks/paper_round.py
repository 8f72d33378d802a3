"""What a round of the paper's size costs: 100 clients, 50 components, batches of 5.

At most 50 steps reconstruct and 50 update, on as many users, items and ratings as MovieLens
1M has. The published step sizes are for MovieLens and diverge on these made-up ratings, whose
most popular items more users rated: the steps of the reconstruction are halved, at the same
cost. The CPU seconds are those that the estimator records of every round; BLAS runs on one
thread. Run it as `python benchmarks/paper_round.py`.
"""

import platform

import numpy as np
import sklearn

from sklearn_fedrecon import make_ratings
from sklearn_fedrecon.client_update import JointUpdate
from sklearn_fedrecon.presets import paper_movielens

ROUNDS = 100


def main():
    X, y = make_ratings(
        n_users=6040, n_items=3706, n_ratings=1_000_209, random_state=0, return_X_y=True
    )
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, "
        f"scikit-learn {sklearn.__version__}, {platform.machine()}"
    )
    for name, changed in (("paper", {}), ("joint", {"client_update": JointUpdate(max_steps=50)})):
        model = paper_movielens(
            max_iter=ROUNDS, random_state=0, reconstruction__learning_rate=0.05, **changed
        ).fit(X, y)
        milliseconds = 1e3 * model.history_["cpu_seconds"]
        low, middle, high = np.percentile(milliseconds, [10, 50, 90])
        ratings = np.mean(model.history_["ratings"])
        print(
            f"{name}: {middle:.1f} ms CPU a round (10% to 90%: {low:.1f} to {high:.1f}), "
            f"{ROUNDS} rounds, {ratings:.0f} ratings in a cohort"
        )


if __name__ == "__main__":
    main()
