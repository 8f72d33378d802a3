"""Every public object explains itself: numpydoc's rules, and an example that is run."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from numpydoc.validate import validate

import sklearn_fedrecon

REFERENCE = Path(__file__).parents[1] / "docs" / "api.md"
IGNORED = {
    "GL01",  # the summary stands on the line of the opening quotes, as in PEP 257
    "ES01",  # an extended summary only where there is something to add
    "SA01",  # the page of a module is its "See Also"
    "SS05",  # takes the plural of a noun ("Bytes of ...") for a verb
    "RT02",  # returned values have names, as in scikit-learn
    "RT03",  # and the name and the type often say it all
}
IGNORED_FOR_METHODS = {"EX01"}  # the class shows its methods in one example
# The stations of a round pass on records (`model : ServerModel`) that are described once,
# where they are defined; a sentence beside each would repeat that.
STATIONS = {
    "aggregation",
    "client_update",
    "communication",
    "reconstruction",
    "sampling",
    "server_optimizers",
    "splitting",
}
IGNORED_FOR_STATIONS = {"PR07"}


def public_modules():
    """The package and every module below it whose path has no underscore."""
    prefix = f"{sklearn_fedrecon.__name__}."
    names = [info.name for info in pkgutil.walk_packages(sklearn_fedrecon.__path__, prefix)]
    public = [name for name in names if "._" not in name]
    return [sklearn_fedrecon, *map(importlib.import_module, public)]


def public_names(module):
    """What `__all__` lists, or else the public classes and functions written there."""
    written = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return getattr(module, "__all__", written)


def public_objects():
    """Dotted name of every public class and function, under its shortest path."""
    found = {}
    for module in public_modules():
        for name in public_names(module):
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                found.setdefault(value, f"{module.__name__}.{name}")
    return sorted(found.values())


def own_members(cls):
    """Public methods and properties that the package itself wrote."""
    for name, value in inspect.getmembers(cls):
        function = value.fget if isinstance(value, property) else inspect.unwrap(value)
        module = getattr(function, "__module__", None) or ""
        if not name.startswith("_") and module.startswith(sklearn_fedrecon.__name__):
            yield name


def public_methods():
    """Dotted name of every public method of every public class."""
    for dotted in public_objects():
        value = resolve(dotted)
        if inspect.isclass(value):
            yield from (f"{dotted}.{name}" for name in own_members(value))


def resolve(dotted):
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def complaints(dotted, ignored):
    if dotted.split(".")[1] in STATIONS:
        ignored = ignored | IGNORED_FOR_STATIONS
    return [f"{code} {text}" for code, text in validate(dotted)["errors"] if code not in ignored]


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_module_says_what_is_public(module):
    names = public_names(module)
    assert module.__doc__
    assert len(names) == len(set(names))
    assert all(hasattr(module, name) for name in names)


@pytest.mark.parametrize("dotted", public_objects())
def test_object_is_documented(dotted):
    assert complaints(dotted, IGNORED) == []


@pytest.mark.parametrize("dotted", list(public_methods()))
def test_method_is_documented(dotted):
    assert complaints(dotted, IGNORED | IGNORED_FOR_METHODS) == []


def test_every_module_is_in_the_reference():
    listed = re.findall(r"^   (\w+)$", REFERENCE.read_text(), re.MULTILINE)
    missing = {module.__name__.partition(".")[2] for module in public_modules()} - {"", *listed}
    assert not missing, f"add {sorted(missing)} to {REFERENCE}"


@pytest.mark.parametrize("dotted", public_objects())
def test_object_shows_an_example(dotted):
    document = inspect.getdoc(resolve(dotted))
    _, heading, example = document.partition("Examples\n--------\n")
    assert heading, f"{dotted} has no section Examples"
    assert ">>> " in example
