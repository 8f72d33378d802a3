"""Sphinx configuration; builds without network and without warnings."""

import re
from importlib import metadata

from docutils import nodes
from sphinx.util.nodes import make_refnode
from sphinx_gallery.sorting import ExplicitOrder

project = "sklearn-fedrecon"
author = "The sklearn-fedrecon developers"
copyright = f"2026, {author}"
release = metadata.version("sklearn-fedrecon")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/*.ipynb"]
templates_path = ["_templates"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # numpydoc states the types
autosummary_ignore_module_all = False
numpydoc_show_class_members = False  # the template of a class does
default_role = "autolink"
nitpicky = True

READING_ORDER = [
    "quickstart.py",
    "plot_unseen_users.py",
    "plot_grid_search_over_users.py",
    "plot_cold_start_interview.py",
    "plot_federated_against_centralized.py",
    "plot_communication_against_accuracy.py",
    "plot_who_is_badly_served.py",
    "plot_paper_reproduction.py",
    "plot_larger_than_memory.py",
    "*",
]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": ExplicitOrder(READING_ORDER),
    "filename_pattern": r"\.py$",  # all are executed
    "ignore_pattern": r"device\.py$",  # shown as it is, in the guide
    "show_memory": False,
    "download_all_examples": False,
}

html_theme = "pydata_sphinx_theme"
html_title = project
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["narrow.css"]


SCIKIT_LEARN_LABELS = {  # in docstrings that are inherited
    "metadata_routing": "metadata_routing.html",
    "r2_score": "modules/model_evaluation.html#r2-score",
}


def link_scikit_learn(app, env, node, content):
    """Link names and terms of scikit-learn to its site, without fetching an inventory."""
    site, target = "https://scikit-learn.org/stable", node.get("reftarget", "")
    if node.get("refdomain") == "py" and target.startswith("sklearn."):
        address = f"{site}/modules/generated/{target}.html"
    elif node.get("reftype") == "term":
        address = f"{site}/glossary.html#term-{target.replace(' ', '-')}"
    elif node.get("reftype") == "ref" and target in SCIKIT_LEARN_LABELS:
        address = f"{site}/{SCIKIT_LEARN_LABELS[target]}"
    else:
        return None
    return nodes.reference("", "", content, internal=False, refuri=address)


def link_short_name(app, env, node, content):
    """Link `Name` from any module, where only one documented object is called so."""
    if node.get("refdomain") != "py":
        return None
    ending = "." + node["reftarget"].rpartition(".")[2]
    found = [
        (entry.docname, name)
        for name, entry in env.get_domain("py").objects.items()
        if name.endswith(ending) and not entry.aliased
    ]
    if len(found) != 1:
        return None
    return make_refnode(app.builder, node["refdoc"], *found[0], content)


def escape_fitted_names(app, what, name, obj, options, lines):
    """Keep `shape (n_iter_,)` from being read as a link to a target "n_iter"."""
    lines[:] = [re.sub(r"(?<=[(\s])(\w+_)(?=,\))", r"``\1``", line) for line in lines]


def skip_metadata_requests(app, what, name, obj, skip, options):
    """Leave out what scikit-learn adds to whatever has a `fit`, `score` or `split`."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app):
    app.connect("missing-reference", link_scikit_learn)
    app.connect("missing-reference", link_short_name)
    app.connect("autodoc-process-docstring", escape_fitted_names)
    app.connect("autodoc-skip-member", skip_metadata_requests)
