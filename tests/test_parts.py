"""From the estimator's parameters to parts: names, partners, and what is refused."""

import inspect
import itertools
from dataclasses import replace

import numpy as np
import pytest

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._contracts import STATIONS, check_parts, methods
from sklearn_fedrecon._training._parts import (
    ALIASES,
    PARTNERS,
    _build,
    build_parts,
    build_sampler,
)
from sklearn_fedrecon.aggregation import Mean
from sklearn_fedrecon.client_update import JointUpdate, SGDUpdate, VariationalUpdate
from sklearn_fedrecon.reconstruction import (
    RidgeReconstruction,
    SGDReconstruction,
    VariationalReconstruction,
)
from sklearn_fedrecon.sampling import PoissonSampling
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


# --- every station -----------------------------------------------------------------------------


def all_parts(**parameters):
    """A part for every station, as an estimator would have them."""
    estimator = FederatedReconstructionMF(**parameters)
    parts = build_parts(estimator)
    return {
        "sampling": build_sampler(estimator),
        "support_query": parts.split,
        "reconstruction": parts.reconstruction,
        "client_update": parts.client_update,
        "aggregator": parts.aggregator,
        "server_optimizer": parts.server_optimizer,
    }


class Without:
    """A part that lacks one method."""

    def __init__(self, part, name):
        self.part, self.missing = part, name

    def __getattr__(self, name):
        if name == self.missing:
            raise AttributeError(name)
        return getattr(self.part, name)

    def __repr__(self):
        return "Without()"


@pytest.mark.parametrize("reconstruction", ["variational", "ridge", "sgd"])
def test_the_parts_of_the_package_keep_their_contracts(reconstruction):
    parts = all_parts(reconstruction=reconstruction)
    check_parts(parts)
    assert parts.keys() == STATIONS.keys()
    for station, protocol in STATIONS.items():
        for name in methods(station):
            promised = list(inspect.signature(getattr(protocol, name)).parameters)[1:]
            kept = list(inspect.signature(getattr(parts[station], name)).parameters)
            assert kept == promised, f"{station}.{name}"


@pytest.mark.parametrize(
    ("station", "name"), [(station, name) for station in STATIONS for name in methods(station)]
)
def test_a_part_without_a_method_of_its_station_is_refused(station, name):
    parts = all_parts()
    parts[station] = Without(parts[station], name)
    with pytest.raises(ValueError, match=rf"{station}=Without\(\) has no method '{name}': use a"):
        check_parts(parts)


class Wants:
    """A part that needs what nobody gives."""

    def __init__(self, part):
        self.part, self.needs = part, (*getattr(part, "needs", ()), "the moon")

    def __getattr__(self, name):
        return getattr(self.part, name)

    def __repr__(self):
        return "Wants()"


@pytest.mark.parametrize("station", STATIONS)
def test_what_any_station_needs_has_to_be_given(station):
    parts = all_parts()
    parts[station] = Wants(parts[station])
    with pytest.raises(ValueError, match=r"Wants needs the moon, which .* do(es)? not give"):
        check_parts(parts)


def test_an_aggregator_may_want_cohorts_of_a_kind_and_let_through_not_everything():
    class Poisson(Mean):
        needs = ("independent clients",)

    class Deltas(Mean):
        passes = ("item deltas",)

    parts = all_parts() | {"aggregator": Poisson()}
    with pytest.raises(ValueError, match=r"Poisson needs .* FixedSampling\(\) do not"):
        check_parts(parts)
    check_parts(parts | {"sampling": PoissonSampling(0.1)})
    with pytest.raises(ValueError, match=r"NaturalGradient needs sufficient st.*Deltas\(\) does"):
        check_parts(all_parts() | {"aggregator": Deltas()})
    check_parts(all_parts(reconstruction="sgd") | {"aggregator": Deltas()})


def test_an_aggregator_of_ones_own_takes_part_in_a_fit(small_ratings):
    class Counting(Mean):
        """Counts the rounds in its state."""

        def init(self, model):
            return {"rounds": np.zeros(())}

        def finish(self, total, state, context):
            outcome = super().finish(total, state, context)
            return replace(outcome, state={"rounds": state["rounds"] + 1})

    model = FederatedReconstructionMF(2, aggregator=Counting(), max_iter=3, random_state=0)
    model.fit(small_ratings.data, small_ratings.target)
    assert model._fitted.loop.server.aggregator == {"rounds": 3}
    plain = FederatedReconstructionMF(2, max_iter=3, random_state=0)
    plain.fit(small_ratings.data, small_ratings.target)
    np.testing.assert_array_equal(model.item_factors_, plain.item_factors_)
