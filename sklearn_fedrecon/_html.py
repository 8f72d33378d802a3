"""Where the documentation of an estimator is, for scikit-learn's HTML representation."""

from __future__ import annotations

import functools
from importlib import metadata
from typing import Any

_PACKAGE = "sklearn_fedrecon"
_OF_DEVICES = {"users_", "user_factors_", "user_bias_", "user_variance_"}


class _NotShown:
    """Stands for the values of what lives on devices."""

    def __repr__(self) -> str:
        return "(on the devices)"


class DocumentationLinkMixin:
    """Links an estimator to its page; without a link there are no tooltips either.

    The site is the project URL "Documentation" in the metadata of the installed package.
    While there is none, links stay on the page that shows them.
    """

    _doc_link_module = _PACKAGE

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Fitted attributes to be shown, without what is a user's own.

        A notebook is passed around: nobody who only looks at a model should find in it who its
        users are.
        """
        shown = super()._get_fitted_attr_html(doc_link)  # type: ignore[misc]
        for name in _OF_DEVICES & shown.keys():
            shown[name]["value"] = _NotShown()
        return shown

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
