"""Every warning points at the line of the caller, whatever that line calls."""

import ast
import warnings
from pathlib import Path

import numpy as np
import pytest

import sklearn_fedrecon
from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._compat import warn_caller
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.model_selection import ReconstructionScorer, UserKFold
from sklearn_fedrecon.splitting import BatchParitySplit


@pytest.fixture(scope="module")
def table():
    return make_ratings(n_users=40, n_items=30, n_ratings=400, random_state=0, return_X_y=True)


def new(**options):
    return FederatedReconstructionMF(2, max_iter=2, random_state=0, **options)


def cold_start(X, y):
    new().fit(X, y).predict(X + np.array([1000, 0]))


def nobody_updates(X, y):
    new(reconstruction="sgd", support_query=BatchParitySplit(1000)).fit(X, y)


def groups(X, y):
    next(UserKFold(2).split(X, y, groups=X[:, 0]))


def known_users(X, y):
    some = X[:, 0] < 20
    ReconstructionScorer()(new().fit(X, y), X[some], y[some])


def equal_ratings(X, y):
    new().fit(X, np.full(len(y), 4.0))


def nobody_came(X, y):
    new(clients_per_round=1e-6, sampling="poisson").fit(X, y)


def fewer_ratings(X, y):
    new().fit(X, y).partial_fit(X[:1], y[:1])


def fewer_ratings_served(X, y):
    new().fit(X, y).personalize(X[:1], y[:1])


MESSAGES = {
    cold_start: "rows belong to users that are not known",
    nobody_updates: "No round updated the items",
    groups: "groups is ignored by UserKFold",
    known_users: "users to score were in training",
    equal_ratings: "All 400 ratings are 4: .* implicit feedback",
    nobody_came: r"Nobody took part in any of the 2 round\(s\)",
    fewer_ratings: r"1 known user\(s\) come with fewer .*, the first is 0 with 1 after",
    fewer_ratings_served: "fewer ratings than before",
}


@pytest.mark.parametrize(("call", "message"), MESSAGES.items())
def test_what_is_said(table, call, message):
    with pytest.warns(UserWarning, match=message):
        call(*table)


@pytest.mark.filterwarnings("error")
def test_what_is_in_order_is_not_warned_of(table):
    X, y = table
    new().fit(X[:1], y[:1])  # one rating is equal to itself
    new().fit(X, np.where(np.arange(len(y)) == 7, 3.0, 4.0))
    model = new().fit(X, y)
    both = X[:, 0] < 2
    model.personalize(X[both], y[both])  # all of their ratings, once more
    newcomer = np.array([[1000, 3]])
    model.personalize(newcomer, [2.0]).partial_fit(newcomer, [3.0])
    model.forget_users().partial_fit(X[:1], y[:1])  # who was forgotten has nothing to lose


@pytest.mark.parametrize("call", MESSAGES)
def test_the_line_is_the_callers(table, call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*table)
    assert caught
    lines = {(Path(warning.filename).name, warning.lineno) for warning in caught}
    own = {(Path(__file__).name, call.__code__.co_firstlineno + k) for k in (1, 2)}
    assert lines <= own


def test_through_code_that_is_no_file():
    with pytest.warns(UserWarning, match="careful") as caught:
        exec(compile("call()", "<notebook>", "exec"), {"call": lambda: warn("careful")})
    assert caught[0].filename == __file__

    def warn_from_inside():
        exec(compile("warn_caller('careful', UserWarning)", package_file("_fitted"), "exec"),
             {"warn_caller": warn_caller})  # fmt: skip

    with pytest.warns(UserWarning, match="careful") as caught:
        warn_from_inside()
    assert caught[0].filename == __file__


def warn(message):
    exec(
        compile(f"warn_caller({message!r}, UserWarning)", package_file("_round"), "exec"),
        {"warn_caller": warn_caller},
    )


def package_file(name):
    return str(Path(sklearn_fedrecon.__file__).parent / f"{name}.py")


def test_nobody_counts_frames():
    """`warnings.warn` with a number of frames points elsewhere once somebody moves a line."""
    root = Path(sklearn_fedrecon.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name == "warnings.warn" and path.name != "_compat.py":
                found.append(f"{path.relative_to(root)}:{node.lineno}")
    assert found == []
