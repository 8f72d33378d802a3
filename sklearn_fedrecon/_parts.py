"""From the estimator's parameters to the parts of a round: names, defaults, partners.

A part that others depend on says what it is by class attributes: ``sends`` and ``gives``
name what it hands on, ``needs`` what it must be handed.
"""

from __future__ import annotations

from sklearn.base import clone

from ._round import RoundParts
from .aggregation import Mean
from .client_update import VariationalUpdate
from .reconstruction import VariationalReconstruction
from .sampling import FixedSampling, PoissonSampling
from .server_optimizers import NaturalGradient
from .splitting import NoSplit

ALIASES = {
    "reconstruction": {"variational": VariationalReconstruction},
    "client_update": {"variational": VariationalUpdate},
    "aggregator": {"mean": Mean},
    "server_optimizer": {"natural_gradient": NaturalGradient},
    "support_query": {"none": NoSplit},
    "sampling": {"fixed": FixedSampling, "poisson": PoissonSampling},
}
PARTNERS = {
    VariationalReconstruction: {
        "support_query": "none",
        "client_update": "variational",
        "server_optimizer": "natural_gradient",
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
    for giver, taker in zip(chain[:-1], chain[1:], strict=True):
        missing = set(taker.needs) - set(giver.gives)
        if missing:
            raise ValueError(
                f"{type(taker).__name__} needs {' and '.join(sorted(missing))}, which "
                f"{giver!r} does not give: choose a partner that does, or 'auto'."
            )


def _build(role: str, value, partner: str | None):
    """One part from an alias, 'auto' or an object, which is cloned."""
    if not isinstance(value, str):
        return clone(value)
    if value == "auto" and partner is not None:
        value = partner
    if value not in ALIASES[role]:
        known = sorted(ALIASES[role])
        raise ValueError(f"{role}={value!r} names no part: use one of {known}, or an object.")
    return ALIASES[role][value]()
