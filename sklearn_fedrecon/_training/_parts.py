"""From the estimator's parameters to the parts of a round: names, defaults, partners.

A part that others depend on says what it is by class attributes: ``gives`` names what it
hands on, ``needs`` what it must be handed.
"""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from .._contracts import Sampler, check_methods, check_parts
from .._round import RoundParts
from ..aggregation import Mean
from ..client_update import GradientUpdate, JointUpdate, SGDUpdate, VariationalUpdate
from ..reconstruction import RidgeReconstruction, SGDReconstruction, VariationalReconstruction
from ..sampling import FixedSampling, PoissonSampling
from ..server_optimizers import SGD, Adagrad, Adam, NaturalGradient, Yogi
from ..splitting import BatchParitySplit, NoSplit, RandomSplit

ALIASES = {
    "reconstruction": {
        "variational": VariationalReconstruction,
        "ridge": RidgeReconstruction,
        "sgd": SGDReconstruction,
    },
    "client_update": {
        "variational": VariationalUpdate,
        "sgd": SGDUpdate,
        "gradient": GradientUpdate,
        "joint": JointUpdate,
    },
    "aggregator": {"mean": Mean},
    "server_optimizer": {
        "natural_gradient": NaturalGradient,
        "sgd": SGD,
        "adagrad": Adagrad,
        "adam": Adam,
        "yogi": Yogi,
    },
    "support_query": {"none": NoSplit, "batch_parity": BatchParitySplit, "random": RandomSplit},
    "sampling": {"fixed": FixedSampling, "poisson": PoissonSampling},
}
ROLES = ("support_query", "reconstruction", "client_update", "aggregator", "server_optimizer")
PARTNERS = {
    VariationalReconstruction: {
        "support_query": "none",
        "client_update": "variational",
        "server_optimizer": "natural_gradient",
    },
    RidgeReconstruction: {
        "support_query": "random",
        "client_update": "sgd",
        "server_optimizer": "adam",
    },
    SGDReconstruction: {
        "support_query": "batch_parity",
        "client_update": "sgd",
        "server_optimizer": "sgd",
    },
}


def build_parts(estimator: Any, sampler: Sampler | None = None) -> RoundParts:
    """Return the parts that an estimator's parameters describe.

    Parameters
    ----------
    estimator : FederatedReconstructionMF
    sampler : Sampler or None
        What `build_sampler` returned; None builds one, to see whether it fits the parts.

    Returns
    -------
    parts : RoundParts

    Raises
    ------
    ValueError
        If a string names no part, or if parts do not work together.
    """
    kinds = type(_build("reconstruction", estimator.reconstruction, None)).__mro__
    partners = next((PARTNERS[kind] for kind in kinds if kind in PARTNERS), {})
    stations = {"sampling": build_sampler(estimator) if sampler is None else sampler}
    for role in ROLES:
        stations[role] = _build(role, getattr(estimator, role), partners.get(role))
    check_parts(stations)
    parts = RoundParts(stations["support_query"], *(stations[role] for role in ROLES[1:]))
    if estimator.global_mean == "learned" and not parts.client_update.learns_global_mean:
        raise ValueError(
            f"global_mean='learned' needs clients that update the mean, which "
            f"{parts.client_update!r} does not: use 'federated', a number, or SGD parts."
        )
    return parts


def build_sampler(estimator: Any) -> Sampler:
    """Return the sampler that an estimator's parameters describe.

    Parameters
    ----------
    estimator : FederatedReconstructionMF

    Returns
    -------
    sampler : Sampler
    """
    kind = ALIASES["sampling"][estimator.sampling]
    return kind(estimator.clients_per_round, estimator.client_dropout)


def _build(role: str, value, partner: str | None):
    """One part from an alias, 'auto' or an object, which is cloned; its parameters checked."""
    if not isinstance(value, str):
        check_methods(role, value)
        part = clone(value)
    else:
        value = partner if value == "auto" and partner is not None else value
        if value not in ALIASES[role]:
            known = sorted(ALIASES[role])
            raise ValueError(f"{role}={value!r} names no part: use one of {known}, or an object.")
        part = ALIASES[role][value]()
    if hasattr(part, "_parameter_constraints"):
        part._validate_params()
    return part
