"""From the estimator's parameters to parts: names, partners, and what is refused."""

import itertools

import pytest

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._training._parts import ALIASES, PARTNERS, _build, build_parts
from sklearn_fedrecon.client_update import JointUpdate, SGDUpdate, VariationalUpdate
from sklearn_fedrecon.reconstruction import (
    RidgeReconstruction,
    SGDReconstruction,
    VariationalReconstruction,
)
from sklearn_fedrecon.server_optimizers import SGD, Adam, NaturalGradient
from sklearn_fedrecon.splitting import BatchParitySplit, NoSplit, RandomSplit

ROLES = ("reconstruction", "client_update", "server_optimizer", "support_query")


def kinds(**parameters):
    parts = build_parts(FederatedReconstructionMF(**parameters))
    chain = (parts.split, parts.reconstruction, parts.client_update, parts.server_optimizer)
    return tuple(map(type, chain))


@pytest.mark.parametrize(
    ("reconstruction", "expected"),
    [
        (
            "variational",
            (NoSplit, VariationalReconstruction, VariationalUpdate, NaturalGradient),
        ),
        ("ridge", (RandomSplit, RidgeReconstruction, SGDUpdate, Adam)),
        ("sgd", (BatchParitySplit, SGDReconstruction, SGDUpdate, SGD)),
        (SGDReconstruction(3), (BatchParitySplit, SGDReconstruction, SGDUpdate, SGD)),
    ],
)
def test_auto_is_the_natural_partner(reconstruction, expected):
    assert kinds(reconstruction=reconstruction) == expected


def test_a_subclass_has_the_partners_of_its_base():
    class Mine(RidgeReconstruction):
        pass

    assert kinds(reconstruction=Mine()) == (RandomSplit, Mine, SGDUpdate, Adam)


@pytest.mark.parametrize("role", ROLES)
def test_every_name_makes_a_part_with_valid_defaults(role):
    for name, kind in ALIASES[role].items():
        part = _build(role, name, None)
        assert type(part) is kind
        assert part.get_params() == kind().get_params()


def test_parts_are_copies():
    update = SGDUpdate()
    estimator = FederatedReconstructionMF(reconstruction="sgd", client_update=update)
    assert build_parts(estimator).client_update is not update


def works(reconstruction, update, optimizer):
    """Spelt out: the variational statistics go together, the deltas with any gradient step."""
    if update == "variational":
        return reconstruction == "variational" and optimizer == "natural_gradient"
    return optimizer != "natural_gradient"


@pytest.mark.parametrize(
    ("reconstruction", "update", "optimizer"),
    list(itertools.product(*(ALIASES[role] for role in ROLES[:3]))),
)
def test_what_makes_no_sense_is_refused(reconstruction, update, optimizer, small_ratings):
    estimator = FederatedReconstructionMF(
        n_components=2,
        reconstruction=reconstruction,
        client_update=update,
        server_optimizer=optimizer,
        max_iter=2,
        random_state=0,
    )
    if works(reconstruction, update, optimizer):
        estimator.fit(small_ratings.data, small_ratings.target)
        assert estimator.n_iter_ == 2
    else:
        with pytest.raises(ValueError, match=r"needs .* does not give: choose a partner that"):
            estimator.fit(small_ratings.data, small_ratings.target)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"reconstruction": "ridge", "server_optimizer": "natural_gradient"},
            r"NaturalGradient needs sufficient statistics, which SGDUpdate\(\) does not give",
        ),
        (
            {"reconstruction": "sgd", "client_update": "variational"},
            r"VariationalUpdate needs posterior variances, which SGDReconstruction\(\) does not",
        ),
        (
            {
                "reconstruction": "sgd",
                "client_update": JointUpdate(learn_initial_user=True),
            },
            r"JointUpdate needs a start from the server, which SGDReconstruction\(\) does not",
        ),
        ({"reconstruction": "sdg"}, r"reconstruction='sdg' names no part: use one of \['ridge'"),
        ({"client_update": "adam"}, r"client_update='adam' names no part"),
        (
            {"reconstruction": SGDReconstruction(learning_rate=-1.0)},
            r"'learning_rate' parameter of SGDReconstruction must be a float in the range",
        ),
        (
            {"reconstruction": "sgd", "support_query": BatchParitySplit(batch_size=0)},
            r"'batch_size' parameter of BatchParitySplit must be an int in the range",
        ),
        (
            {"reconstruction": "sgd", "server_optimizer": SGD(momentum=1.0)},
            r"'momentum' parameter of SGD must be a float in the range",
        ),
        (
            {"reconstruction": "sgd", "client_update": SGDUpdate(client_weights="ratings")},
            r"'client_weights' parameter of SGDUpdate must be a str among",
        ),
    ],
)
def test_refusals_say_what_to_do(parameters, message, small_ratings):
    estimator = FederatedReconstructionMF(**parameters)
    with pytest.raises(ValueError, match=message):
        estimator.fit(small_ratings.data, small_ratings.target)
    assert not hasattr(estimator, "items_")


@pytest.mark.parametrize("role", ROLES)
def test_an_object_of_another_role_is_refused(role):
    stranger = NoSplit() if role != "support_query" else SGD()
    with pytest.raises(ValueError, match=f"{role}=.* has no method"):
        build_parts(FederatedReconstructionMF(**{role: stranger}))


def test_every_partner_has_a_name():
    for partners in PARTNERS.values():
        for role, name in partners.items():
            assert name in ALIASES[role]
