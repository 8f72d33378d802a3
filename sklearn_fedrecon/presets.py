"""Published configurations, as estimators.

Each function returns an unfitted `FederatedReconstructionMF` whose parts have the published
values; what is passed is set on top, nested parameters included. Which users and ratings it
is fitted on stays with the caller.

References
----------
Singhal et al., "Federated Reconstruction: Partially Local Federated Learning", NeurIPS 2021,
arXiv:2102.03448.
"""

from __future__ import annotations

from typing import Any

from ._estimator import FederatedReconstructionMF
from .client_update import JointUpdate, SGDUpdate
from .reconstruction import SGDReconstruction
from .server_optimizers import SGD
from .splitting import BatchParitySplit, RandomSplit

__all__ = ["federated_averaging", "paper_movielens", "tff_tutorial"]

_PLAIN: dict[str, Any] = {"n_components": 50, "fit_bias": False, "global_mean": 0.0, "tol": None}


def paper_movielens(**parameters) -> FederatedReconstructionMF:
    """Return the configuration of the paper's MovieLens 1M experiment.

    Ratings from 1 to 5 as they are, at most 300 a user, 50 components, no biases; 500 rounds
    of 100 clients; batches of 5, of which every other one reconstructs. Users are rebuilt by
    at most 5 epochs and 50 steps of SGD at 0.1, items updated by one epoch of at most 50 steps
    at 0.5, the server takes the mean, weighted by query ratings. The experiment trains on 80%
    of the users, and validates and tests on 10% each.

    These step sizes suit that data set. Where items are rated more unevenly they can diverge,
    as on `make_ratings` at its default size; then lower
    ``reconstruction__learning_rate``.

    Parameters
    ----------
    **parameters : dict
        Parameters of the estimator to set differently, ``part__parameter`` included.

    Returns
    -------
    estimator : FederatedReconstructionMF

    Examples
    --------
    >>> from sklearn_fedrecon.presets import paper_movielens
    >>> model = paper_movielens(max_iter=100, client_update__learning_rate=0.25)
    >>> model.client_update
    SGDUpdate(learning_rate=0.25, max_steps=50)
    """
    return FederatedReconstructionMF(
        **_PLAIN,
        reconstruction=SGDReconstruction(n_epochs=5, max_steps=50, learning_rate=0.1),
        client_update=SGDUpdate(n_epochs=1, max_steps=50, learning_rate=0.5),
        server_optimizer=SGD(learning_rate=1.0),
        support_query=BatchParitySplit(batch_size=5, max_ratings=300, shuffle="once"),
        clients_per_round=100,
        max_iter=500,
    ).set_params(**parameters)


def tff_tutorial(**parameters) -> FederatedReconstructionMF:
    """Return the configuration of TensorFlow Federated's tutorial on matrix factorization.

    As the paper's, but for 20 rounds of 50 clients and one epoch without a limit to the steps,
    for users as for items; ratings are shuffled anew in each round. The tutorial takes the
    first 2,000 users of MovieLens 1M. It shuffles at each pass, so that its halves overlap;
    here they never do.

    Parameters
    ----------
    **parameters : dict
        Parameters of the estimator to set differently, ``part__parameter`` included.

    Returns
    -------
    estimator : FederatedReconstructionMF

    Examples
    --------
    >>> from sklearn_fedrecon.presets import tff_tutorial
    >>> tff_tutorial(random_state=0).support_query
    BatchParitySplit(max_ratings=300)
    """
    return FederatedReconstructionMF(
        **_PLAIN,
        reconstruction=SGDReconstruction(n_epochs=1, learning_rate=0.1),
        client_update=SGDUpdate(n_epochs=1, learning_rate=0.5),
        server_optimizer=SGD(learning_rate=1.0),
        support_query=BatchParitySplit(batch_size=5, max_ratings=300),
        clients_per_round=50,
        max_iter=20,
    ).set_params(**parameters)


def federated_averaging(**parameters) -> FederatedReconstructionMF:
    """Return Federated Averaging on all parameters, with fine-tuning: the paper's baseline.

    One user's factor is a global parameter like the items': clients start from it, train it
    and the items together on all their ratings, and the server averages both. Whom it serves
    starts from the averaged factor and fine-tunes it by SGD on their own ratings; with
    ``reconstruction__n_epochs=0`` everybody gets that factor itself. All else is as in
    `paper_movielens`.

    Parameters
    ----------
    **parameters : dict
        Parameters of the estimator to set differently, ``part__parameter`` included.

    Returns
    -------
    estimator : FederatedReconstructionMF

    Examples
    --------
    >>> from sklearn_fedrecon.presets import federated_averaging
    >>> federated_averaging().client_update
    JointUpdate(learn_initial_user=True, max_steps=50)
    """
    return paper_movielens(
        reconstruction__init="server",
        client_update=JointUpdate(n_epochs=1, max_steps=50, learn_initial_user=True),
        support_query=RandomSplit(support_fraction=0.0, batch_size=5, max_ratings=300),
    ).set_params(**parameters)
