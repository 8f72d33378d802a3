"""Optional packages: found when they are there, missed with advice that works."""

import sys

import numpy as np
import pytest

from sklearn_fedrecon._optional import as_frame, optional_module


def test_what_is_installed_is_imported():
    assert optional_module("numpy.linalg", "plots", "A test") is np.linalg


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("pandas", "pandas", "pandas"), ("matplotlib.pyplot", "matplotlib", "plots")],
)
def test_the_error_names_the_package_and_the_extra(monkeypatch, name, package, extra):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError) as caught:
        optional_module(name, extra, "Drawing")
    message = str(caught.value)
    assert message.startswith(f"Drawing needs {package}, which is not installed")
    assert f"pip install {package}," in message
    assert f"extra [{extra}]" in message
    # Whether this project is on an index is nothing that an error can know.
    assert "pip install sklearn" not in message.replace('"', "")


def test_as_frame_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"as_frame=True needs pandas.*pip install pandas,"):
        as_frame([("user", np.arange(2))])


def test_a_frame_may_have_two_columns_of_one_name():
    frame = as_frame([("id", np.array(["a", "b"])), ("id", np.array([1, 2]))])
    assert frame.columns.tolist() == ["id", "id"]
    assert frame.values.tolist() == [["a", 1], ["b", 2]]
