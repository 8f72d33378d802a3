"""Where the documentation of an estimator is, for scikit-learn's HTML representation."""

from __future__ import annotations

import functools
from importlib import metadata

_PACKAGE = "sklearn_fedrecon"


class DocumentationLinkMixin:
    """Links an estimator to its page; without a link there are no tooltips either.

    The site is the project URL "Documentation" in the metadata of the installed package.
    While there is none, links stay on the page that shows them.
    """

    _doc_link_module = _PACKAGE

    @property
    def _doc_link_template(self) -> str:
        site = documentation_site()
        if site is None:
            return "#{estimator_module}.{estimator_name}"
        return site.rstrip("/") + "/api/{estimator_module}.{estimator_name}.html"


@functools.lru_cache(maxsize=1)
def documentation_site() -> str | None:
    """Address of the documentation, where the package has one.

    Returns
    -------
    address : str or None
    """
    try:
        addresses = metadata.metadata(_PACKAGE.replace("_", "-")).get_all("Project-URL") or []
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return None
    known = dict(address.split(", ", 1) for address in addresses)
    return known.get("Documentation")
