"""From the estimator's parameters to the parts of a round: names, defaults, partners.

A part that others depend on says what it is by class attributes: ``gives`` names what it
hands on, ``needs`` what it must be handed.
"""

from __future__ import annotations

from itertools import pairwise

from sklearn.base import clone

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
METHODS = {
    "reconstruction": "reconstruct",
    "client_update": "update",
    "aggregator": "encode",
    "server_optimizer": "apply",
    "support_query": "split",
}
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


def build_parts(estimator) -> RoundParts:
    """Return the parts that an estimator's parameters describe.

    Parameters
    ----------
    estimator : FederatedReconstructionMF

    Returns
    -------
    parts : RoundParts

    Raises
    ------
    ValueError
        If a string names no part, or if parts do not work together.
    """
    reconstruction = _build("reconstruction", estimator.reconstruction, None)
    partners = next(
        (PARTNERS[kind] for kind in type(reconstruction).__mro__ if kind in PARTNERS), {}
    )

    def build(role):
        return _build(role, getattr(estimator, role), partners.get(role))

    parts = RoundParts(
        split=build("support_query"),
        reconstruction=reconstruction,
        client_update=build("client_update"),
        aggregator=build("aggregator"),
        server_optimizer=build("server_optimizer"),
    )
    check_parts(parts)
    if estimator.global_mean == "learned" and not parts.client_update.learns_global_mean:
        raise ValueError(
            f"global_mean='learned' needs clients that update the mean, which "
            f"{parts.client_update!r} does not: use 'federated', a number, or SGD parts."
        )
    return parts


def build_sampler(estimator):
    """Return the sampler that an estimator's parameters describe.

    Parameters
    ----------
    estimator : FederatedReconstructionMF

    Returns
    -------
    sampler : FixedSampling
    """
    kind = ALIASES["sampling"][estimator.sampling]
    return kind(estimator.clients_per_round, estimator.client_dropout)


def check_parts(parts: RoundParts) -> None:
    """Refuse parts that do not work together.

    Each part names what it hands on (``gives``) and what it must be handed (``needs``).

    Parameters
    ----------
    parts : RoundParts

    Raises
    ------
    ValueError
        In one sentence, with what is needed and what was given.
    """
    chain = [parts.split, parts.reconstruction, parts.client_update, parts.server_optimizer]
    for giver, taker in pairwise(chain):
        missing = set(getattr(taker, "needs", ())) - set(getattr(giver, "gives", ()))
        if missing:
            raise ValueError(
                f"{type(taker).__name__} needs {' and '.join(sorted(missing))}, which "
                f"{giver!r} does not give: choose a partner that does, or 'auto'."
            )


def _build(role: str, value, partner: str | None):
    """One part from an alias, 'auto' or an object, which is cloned; its parameters checked."""
    if not isinstance(value, str):
        if not hasattr(value, METHODS[role]):
            raise ValueError(
                f"{role}={value!r} has no method {METHODS[role]!r}: use one of "
                f"{sorted(ALIASES[role])}, or an object that has it."
            )
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
