"""The paper's protocol: users in training, for validation and for test, and how they are judged.

Test users never train. Half of each one's ratings rebuilds the user, the other half is
predicted: batches of five ratings in turn, at most 300 ratings a user, in an order that is
shuffled once. All methods see the same halves.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sklearn_fedrecon.metrics import rating_accuracy, rmse

BATCH, MOST = 5, 300  # ratings of a batch, and of a user at most
OFTEN = 10  # training ratings from which an item counts as rated often
SHARES = (0.8, 0.9)  # users up to the first train, up to the second validate, the rest test


@dataclass(frozen=True)
class Halves:
    """Rows that rebuild the held-out users, and rows that are predicted."""

    support: np.ndarray
    query: np.ndarray


@dataclass(frozen=True)
class Experiment:
    """One split of the users of a table.

    Attributes
    ----------
    X : ndarray of shape (n_ratings, 2)
        Users and items as indices.
    y : ndarray of shape (n_ratings,)
    train : ndarray of shape (n_train,)
        Rows of the training users.
    validation, test : Halves
    seed : int
        Of the split, and of the models.
    """

    X: np.ndarray
    y: np.ndarray
    train: np.ndarray
    validation: Halves
    test: Halves
    seed: int

    @property
    def n_items(self) -> int:
        """Size of the catalogue: what anybody rated."""
        return int(self.X[:, 1].max()) + 1

    def often(self) -> np.ndarray:
        """Which test ratings are of items that were rated often, shape (n_query,)."""
        counts = np.bincount(self.X[self.train, 1], minlength=self.n_items)
        return counts[self.X[self.test.query, 1]] >= OFTEN


@dataclass(frozen=True)
class Point:
    """How well the test users are served, and what it took until then.

    Predictions are neither clipped nor rounded, but for ``clipped_rmse``.

    Attributes
    ----------
    rounds : int
    rmse, accuracy : float
        Over all test ratings; accuracy is the share that is missed by at most 0.5.
    clipped_rmse, often_rmse : float
        With predictions clipped to the scale; over items that were rated often.
    validation_rmse : float
    megabytes_up : float
        Upload of all clients so far, rows of rated items only, as `history_` counts it.
    cpu_seconds : float
    """

    rounds: int
    rmse: float
    accuracy: float
    clipped_rmse: float
    often_rmse: float
    validation_rmse: float
    megabytes_up: float = 0.0
    cpu_seconds: float = 0.0


def split_users(X: np.ndarray, y: np.ndarray, seed: int) -> Experiment:
    """Deal the users out: 80 % train, 10 % validate, 10 % test."""
    X = np.column_stack([np.unique(column, return_inverse=True)[1] for column in X.T])
    random = np.random.default_rng(seed)
    order = random.permutation(X[:, 0].max() + 1)
    cuts = [round(share * len(order)) for share in SHARES]
    train, validation, test = (
        np.flatnonzero(np.isin(X[:, 0], users)) for users in np.split(order, cuts)
    )
    return Experiment(X, y, train, halves(X, validation, random), halves(X, test, random), seed)


def halves(X: np.ndarray, rows: np.ndarray, random: np.random.Generator) -> Halves:
    """Deal each user's ratings out by batches, the first to the support."""
    rows = random.permutation(rows)
    rows = rows[np.argsort(X[rows, 0], kind="stable")]
    _, starts, counts = np.unique(X[rows, 0], return_index=True, return_counts=True)
    ranks = np.arange(len(rows)) - np.repeat(starts, counts)
    rows, ranks = rows[ranks < MOST], ranks[ranks < MOST]
    even = ranks // BATCH % 2 == 0
    return Halves(rows[even], rows[~even])


def judge(predict, experiment: Experiment, rounds: int, **spent) -> Point:
    """Point of a method; ``predict(halves)`` returns its predictions of the query."""
    y, test, validation = experiment.y, experiment.test, experiment.validation
    truth, predicted, often = y[test.query], predict(test), experiment.often()
    return Point(
        rounds,
        rmse=rmse(truth, predicted),
        accuracy=rating_accuracy(truth, predicted),
        clipped_rmse=rmse(truth, np.clip(predicted, y.min(), y.max())),
        often_rmse=rmse(truth[often], predicted[often]) if often.any() else float("nan"),
        validation_rmse=rmse(y[validation.query], predict(validation)),
        **spent,
    )


def serve(model, experiment: Experiment, held_out: Halves) -> np.ndarray:
    """Rebuild held-out users by a fitted estimator and predict, shape (n_query,)."""
    X, y, support = experiment.X, experiment.y, held_out.support
    served = model.forget_users().personalize(X[support], y[support])
    return served.predict(X[held_out.query])


def learning_curve(model, experiment: Experiment, checkpoints) -> tuple[list[Point], object]:
    """Judge an estimator after so many rounds each; a warm start continues to the next.

    Parameters
    ----------
    model : FederatedReconstructionMF
        Unfitted.
    experiment : Experiment
    checkpoints : iterable of int
        Numbers of rounds, ascending.

    Returns
    -------
    points : list of Point
        Ends early where the training diverges.
    model : FederatedReconstructionMF
        As fitted last.
    """
    X, y = experiment.X[experiment.train], experiment.y[experiment.train]
    catalogue = np.arange(experiment.n_items)
    model = clone(model).set_params(
        items=catalogue, random_state=experiment.seed, tol=None, warm_start=True
    )
    points, done = [], 0
    for rounds in checkpoints:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", ConvergenceWarning)
                model.set_params(max_iter=rounds - done).fit(X, y)
                point = judge(
                    lambda held_out: serve(model, experiment, held_out),
                    experiment,
                    rounds,
                    megabytes_up=float(model.history_["bytes_up"].sum()) / 1e6,
                    cpu_seconds=float(model.history_["cpu_seconds"].sum()),
                )
        except (ConvergenceWarning, ValueError) as error:
            if isinstance(error, ValueError) and "not finite" not in str(error):
                raise
            break
        points.append(point)
        done = rounds
    return points, model
