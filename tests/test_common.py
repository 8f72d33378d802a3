"""What scikit-learn itself checks of an estimator: nothing skipped, nothing left to fail."""

import pytest
from sklearn.utils.estimator_checks import check_estimator

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.client_update import SGDUpdate
from sklearn_fedrecon.reconstruction import SGDReconstruction
from sklearn_fedrecon.splitting import RandomSplit

CONFIGURATIONS = {
    "default": {},
    "bias only": {"n_components": 0},
    "cohort": {"clients_per_round": 0.5, "dtype": "float64"},
    "early stopping": {"early_stopping": True},
    "Poisson without biases": {
        "fit_bias": False,
        "sampling": "poisson",
        "clients_per_round": 0.7,
        "client_dropout": 0.2,
    },
    "split and threads": {"support_query": RandomSplit(0.5), "n_jobs": 2},
    "ridge": {"reconstruction": "ridge", "dtype": "float64", "max_iter": 3},
    "steps of SGD": {
        "reconstruction": SGDReconstruction(learning_rate=0.05),
        "client_update": SGDUpdate(learning_rate=0.1),
        "server_optimizer": "adam",
        "global_mean": "learned",
        "dtype": "float64",
        "max_iter": 5,
    },
}


# In scikit-learn's tables nearly every user has one rating: a split leaves none to learn from.
@pytest.mark.filterwarnings("ignore:No round updated the items")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_check_estimator(name):
    estimator = FederatedReconstructionMF(**CONFIGURATIONS[name])
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = [
        f"{result['check_name']}: {result['status']}, {result['exception']!r}"
        for result in results
        if result["status"] != "passed"
    ]
    assert failed == []
    assert len(results) > 50
