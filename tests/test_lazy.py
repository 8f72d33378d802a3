"""`import sklearn_fedrecon` is enough for everything public, and imports no more than it needs."""

import subprocess
import sys

import pytest

import sklearn_fedrecon


def printed(program):
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return finished.stdout.strip()


@pytest.mark.parametrize("name", sklearn_fedrecon.__all__)
def test_every_public_name_is_there_after_the_import_alone(name):
    found = getattr(sklearn_fedrecon, name)
    assert found.__name__.rpartition(".")[2] == name
    assert name in dir(sklearn_fedrecon)


def test_in_a_fresh_interpreter():
    names = ", ".join(f"sklearn_fedrecon.{name}" for name in sklearn_fedrecon.__all__)
    n_names = len(sklearn_fedrecon.__all__)
    assert printed(f"import sklearn_fedrecon; print(len([{names}]))") == str(n_names)
    star = "from sklearn_fedrecon import *; print(inspection.HistoryDisplay is not None)"
    assert printed(star.replace("HistoryDisplay", "RoundHistoryDisplay")) == "True"


def test_what_is_not_asked_for_is_not_imported():
    lazy = ("inspection", "metrics", "model_selection", "persistence", "presets", "matplotlib")
    program = f"""
import sys, sklearn_fedrecon
loaded = [n for n in {lazy} if n in sys.modules or f"sklearn_fedrecon.{{n}}" in sys.modules]
print(loaded)
"""
    assert printed(program) == "[]"


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'metric'"):
        sklearn_fedrecon.metric  # noqa: B018
