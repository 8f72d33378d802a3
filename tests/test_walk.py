"""The walk of the ratings that `docs/architecture.md` describes, followed call by call."""

import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
LAST_WITH_RATINGS = "_round.answer"


def described():
    """Stations as the page lists them, in order."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition("## The walk of the ratings")
    section, _, _ = section.partition("\n## ")
    return re.findall(r"^\d+\. `([\w.]+)`", section, re.MULTILINE)


def name_of(code):
    """`_training._fit.fit` of a function of the package, None of others."""
    path = Path(code.co_filename)
    package = ROOT / "sklearn_fedrecon"
    if not path.is_relative_to(package):
        return None
    module = ".".join(path.relative_to(package).with_suffix("").parts)
    return f"{module}.{code.co_qualname}"


def holds(value, expected, depth=3):
    """Whether an argument holds these numbers, in whatever order."""
    if isinstance(value, np.ndarray):
        if value.shape != expected.shape or value.dtype.kind != "f":
            return False
        return bool(np.allclose(np.sort(value), np.sort(expected)))
    if depth == 0:
        return False
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, entry.name) for entry in fields(value)]
    elif isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(holds(one, expected, depth - 1) for one in value)
    return False


@pytest.fixture(scope="module")
def walk():
    """First call of every function of the package: its order, its callers, its arguments."""
    X, y = make_ratings(n_users=40, n_items=30, n_ratings=400, random_state=0, return_X_y=True)
    y = y + np.linspace(0, 0.4, len(y))  # no two ratings alike
    calls = {}

    def watch(frame, event, argument):
        name = name_of(frame.f_code) if event == "call" else None
        if name is None or name in calls:
            return
        callers, outer = [], frame.f_back
        while outer is not None:
            callers.append(name_of(outer.f_code))
            outer = outer.f_back
        arguments = list(frame.f_locals.values())
        calls[name] = (set(callers), any(holds(value, y) for value in arguments))

    model = FederatedReconstructionMF(2, max_iter=2, dtype="float64", random_state=0)
    sys.setprofile(watch)
    try:
        model.fit(X, y).predict(X[:1])
    finally:
        sys.setprofile(None)
    return calls


def test_at_most_ten_stations():
    assert 5 < len(described()) <= 10


def test_every_station_is_passed_in_this_order(walk):
    order = list(walk)
    assert [name for name in order if name in described()] == described()


def test_every_station_is_called_by_one_before_it(walk):
    stations = described()
    for position, name in enumerate(stations[1:-1], start=1):
        callers, _ = walk[name]
        assert callers & set(stations[:position]), f"{name} is not on the way"
    assert walk[stations[-1]][0].isdisjoint(stations)  # a prediction is asked for, not made by fit


def test_ratings_are_at_every_station_up_to_the_devices_and_at_none_of_the_server(walk):
    stations = described()
    last = stations.index(LAST_WITH_RATINGS)
    with_ratings = {name for name in stations if walk[name][1]}
    assert set(stations[: last + 1]) <= with_ratings
    assert "_round.conclude" not in with_ratings
    assert "_answers._predicting.predict" not in with_ratings
    server = {name: seen for name, (_, seen) in walk.items() if "server_optimizers" in name}
    assert len(server) > 3
    assert not any(server.values())
