"""What a notebook shows: parameters and fitted attributes, each explained where one points."""

import html
import inspect
import pickle
import re
from html.parser import HTMLParser
from importlib import metadata

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.fixes import parse_version

from sklearn_fedrecon import FederatedReconstructionMF, FederatedReconstructionTransformer
from sklearn_fedrecon._html import documentation_site

needs_tooltips = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="tooltips came with scikit-learn 1.9",
)
ESTIMATORS = [FederatedReconstructionMF, FederatedReconstructionTransformer]


@needs_tooltips
def test_a_notebook_shows_nobody():
    ids = [f"alice{number}@example.org" for number in range(4)]
    table = np.array([[user, f"book {i}"] for user in ids for i in range(3)], dtype=object)
    ratings = np.arange(12) % 5 + 1.0
    quiet = {"max_iter": 2, "unknown_user": "baseline", "random_state": 0}
    model = FederatedReconstructionMF(2, **quiet).fit(table, ratings)
    search = GridSearchCV(model, {"n_components": [1]}, cv=2).fit(table, ratings)
    for shown in (model, make_pipeline(model), search, model.personalize(table, ratings)):
        text = shown._repr_html_()
        assert "alice" not in text
        assert "users_" in text
        assert "on the devices" in text
    assert "book 0" in model._repr_html_()  # the catalogue is public


def fitted(kind):
    X = np.array([[u, i] for u in range(6) for i in range(5) if (u + i) % 3])
    y = 1.0 + (X.sum(axis=1) * 7) % 5
    matrix = np.full((6, 5), np.nan)
    matrix[tuple(X.T)] = y
    model = kind(2, max_iter=2, random_state=0)
    return model.fit(X, y) if kind is FederatedReconstructionMF else model.fit(matrix)


def section(kind, name):
    """Names and descriptions in a section of the docstring."""
    docscrape = pytest.importorskip("numpydoc.docscrape", reason="needs numpydoc")
    entries = docscrape.NumpyDocString(inspect.getdoc(kind))[name]
    return {entry.name: " ".join(entry.desc) for entry in entries}


class Tooltips(HTMLParser):
    """Collects links and the text that appears when one points at them."""

    def __init__(self):
        super().__init__()
        self.found, self.texts = [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "a" and "param-doc-link" in attributes.get("class", ""):
            self.found.append([attributes.get("href"), ""])
        if tag == "br" and self.found:
            self.found[-1][1] += " "

    def handle_data(self, data):
        if self.found:
            self.found[-1][1] += data


def tooltips(estimator):
    parser = Tooltips()
    parser.feed(estimator._repr_html_())
    return {
        words[0]: (address, " ".join(words))
        for address, text in parser.found
        if (words := text.split())
    }


@needs_tooltips
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_every_parameter_has_a_tooltip(kind):
    shown = tooltips(kind())
    described = section(kind, "Parameters")
    assert described.keys() == kind().get_params(deep=False).keys()
    for name, description in described.items():
        assert re.sub(r"\s+", " ", description) in shown[name][1]


@needs_tooltips
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_every_fitted_attribute_is_shown_and_documented(kind):
    model = fitted(kind)
    shown = tooltips(model)
    attributes = {name for name in vars(model) if re.fullmatch(r"[a-z]\w*_", name)}
    assert attributes <= section(kind, "Attributes").keys()
    assert attributes - {"user_variance_", "item_variance_", "estimator_"} <= shown.keys()


@needs_tooltips
def test_shapes_of_attributes_are_shown():
    assert "ndarray[float32](5, 2)" in html.unescape(
        fitted(FederatedReconstructionMF)._repr_html_()
    )


def test_no_rating_is_among_the_attributes():
    """A rating of 4711 stars would be seen if it were kept anywhere, shown or not."""
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    model = FederatedReconstructionMF(1, max_iter=1).fit(X, [4711.0, 1.0, 2.0, 3.0])
    assert "4711" not in model._repr_html_()
    content = pickle.dumps(model)
    for dtype in ("f4", "f8", "i8"):
        assert np.array(4711.0, dtype).tobytes() not in content


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_without_a_site_links_stay_on_the_page(kind, monkeypatch):
    monkeypatch.setattr("sklearn_fedrecon._html.documentation_site", lambda: None)
    assert kind()._get_doc_link() == f"#sklearn_fedrecon.{kind.__name__}"
    assert not re.findall(r'href="(?!#sklearn_fedrecon)', kind()._repr_html_())


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_links_lead_to_the_site_once_there_is_one(kind, monkeypatch):
    monkeypatch.setattr("sklearn_fedrecon._html.documentation_site", lambda: "https://a.test/b/")
    expected = f"https://a.test/b/api/sklearn_fedrecon.{kind.__name__}.html"
    assert kind()._get_doc_link() == expected
    assert expected in kind()._repr_html_()


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (None, None),
        (["Source, https://a.test/source"], None),
        (["Source, https://a.test/s", "Documentation, https://a.test/b"], "https://a.test/b"),
    ],
)
def test_the_site_is_the_one_in_the_metadata(monkeypatch, addresses, expected):
    class Metadata:
        def get_all(self, name):
            assert name == "Project-URL"
            return addresses

    monkeypatch.setattr(metadata, "metadata", lambda name: Metadata())
    documentation_site.cache_clear()
    try:
        assert documentation_site() == expected
    finally:
        documentation_site.cache_clear()


def test_an_uninstalled_checkout_has_no_site(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    documentation_site.cache_clear()
    try:
        assert documentation_site() is None
    finally:
        documentation_site.cache_clear()


def test_links_survive_clone_pipelines_and_representation():
    pipeline = make_pipeline(FederatedReconstructionTransformer(3), LogisticRegression())
    text = clone(pipeline)._repr_html_()
    assert "FederatedReconstructionTransformer" in text
    assert "LogisticRegression" in text
    assert repr(FederatedReconstructionTransformer(3)) == (
        "FederatedReconstructionTransformer(n_components=3)"
    )
