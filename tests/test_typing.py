"""What type checkers read of the package; mypy itself runs in CI, on `typed_usage.py` too."""

import inspect
import re
from pathlib import Path
from typing import get_overloads, get_type_hints

import pytest

import sklearn_fedrecon
from sklearn_fedrecon import FederatedReconstructionMF, FederatedReconstructionTransformer
from sklearn_fedrecon import datasets as data

ESTIMATORS = [FederatedReconstructionMF, FederatedReconstructionTransformer]


def documented(kind):
    """Names in the section "Attributes" of a class."""
    _, _, section = inspect.getdoc(kind).partition("Attributes\n----------\n")
    section, _, _ = section.partition("\n\n")
    return re.findall(r"^(\w+_) :", section, re.MULTILINE)


def test_the_package_says_that_it_is_typed():
    assert (Path(sklearn_fedrecon.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_every_fitted_attribute_is_declared_and_not_there_before_fit(kind):
    hints = get_type_hints(kind)
    names = documented(kind)
    assert len(names) > 5
    for name in names:
        assert name in hints, name
        assert not hasattr(kind(), name), name


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_every_parameter_and_every_method_has_types(kind):
    parameters = inspect.signature(kind).parameters.values()
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters)
    assert get_type_hints(kind.fit)["return"].__name__ == "Self"
    own = [name for name, value in vars(kind).items() if inspect.isfunction(value)]
    own += [name for name in dir(FederatedReconstructionMF) if name in ("recommend", "predict")]
    for name in own:
        method = getattr(kind, name, None)
        if name.startswith("_") or method is None or get_overloads(method):
            continue
        assert "return" in get_type_hints(method), name


@pytest.mark.parametrize(
    ("function", "number"),
    [
        (FederatedReconstructionMF.predict, 2),
        (FederatedReconstructionMF.recommend, 3),
        (FederatedReconstructionMF.similar_items, 2),
        (FederatedReconstructionMF.popular_items, 2),
        (FederatedReconstructionMF.most_informative_items, 2),
        (data.make_ratings, 2),
        (data.load_ratings, 2),
        (data.fetch_movielens, 2),
        (sklearn_fedrecon.metrics.ndcg_at_k, 2),
    ],
)
def test_where_an_argument_says_what_is_returned_there_are_overloads(function, number):
    overloads = get_overloads(function)
    assert len(overloads) == number
    returned = {str(get_type_hints(one)["return"]) for one in overloads}
    assert len(returned) == number
