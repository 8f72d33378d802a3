"""One declaration of an array, and everything that follows from it."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest

from sklearn_fedrecon import _types
from sklearn_fedrecon._types import (
    ServerModel,
    fitted_attributes,
    grown,
    numbers_sent,
    permuted,
    restored_model,
    rotated,
    schema,
    served_arrays,
    stored_arrays,
)
from sklearn_fedrecon._types._schema import COMPONENT, ITEM, SERVING, STATE, array, number
from sklearn_fedrecon.communication import model_bytes

N, K = 5, 3


@dataclass(frozen=True)
class Larger(ServerModel):
    """The model with three arrays and a number more: a line each, and nothing else."""

    second: np.ndarray = array(
        *(ITEM, COMPONENT), attribute="second_", sent=SERVING, turns=True, optional=True,
        joins=lambda model, fresh: 7.0,
    )  # fmt: skip
    spread: np.ndarray = array(STATE, COMPONENT, attribute="spread_", optional=True, least=0)
    of_items: np.ndarray = array(ITEM, sent=SERVING, optional=True, joins=lambda *_: -1.0)
    depth: float = number(default=2.0, attribute="depth_", sent=SERVING, above=1)


def larger(*, fit_bias=True, n=N):
    random = np.random.default_rng(0)
    d = K + fit_bias
    return Larger(
        item_factors=random.normal(size=(n, K)),
        item_bias=random.normal(size=n),
        global_mean=3.0,
        fit_bias=fit_bias,
        user_prior_mean=random.normal(size=d),
        user_prior_variance=random.uniform(1, 2, d),
        item_variance=random.uniform(size=(n, K)),
        second=random.normal(size=(n, K)),
        spread=random.uniform(size=(d, K)),
        of_items=random.normal(size=n),
    )


def test_a_new_array_is_an_attribute_and_is_sent():
    model = larger()
    attributes = fitted_attributes(model)
    assert attributes["second_"] is model.second
    assert attributes["depth_"] == 2.0
    assert attributes["item_bias_variance_"] is None
    assert "of_items_" not in attributes
    served = served_arrays(model)
    assert {"second", "of_items", "depth"} <= served.keys()
    assert not {"spread", "item_bias_variance", "item_prior_variance"} & served.keys()
    assert not np.shares_memory(served["second"], model.second)


@pytest.mark.parametrize("fit_bias", [True, False])
def test_bytes_down_count_what_is_sent(fit_bias):
    model = larger(fit_bias=fit_bias)
    plain = ServerModel(
        **{entry.name: getattr(model, entry.name) for entry in fields(ServerModel)}
    )
    assert numbers_sent(model) - numbers_sent(plain) == N * K + N + 1
    assert model_bytes(model) == 8 * numbers_sent(model)
    d, biases = K + fit_bias, N * fit_bias
    # factors and variances, biases, both moments of the users, two numbers, and one in training
    assert numbers_sent(plain) == 2 * N * K + biases + 2 * d + 3


def test_a_new_array_comes_back_from_a_file():
    model = larger()
    arrays = {f"x.{name}": value for name, value in stored_arrays(model).items()}
    restored = restored_model(Larger, arrays, N, prefix="x.")
    for entry in fields(Larger):
        np.testing.assert_array_equal(getattr(restored, entry.name), getattr(model, entry.name))
    assert isinstance(restored.depth, float)
    assert isinstance(restored.fit_bias, bool)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("second", lambda a: a[:, :2], r"array 'x.second' has type float64 and shape \(5, 2\)"),
        ("of_items", lambda a: a[1:], "array 'x.of_items' has type"),
        ("spread", lambda a: a[:-1], r"'x.spread' has .* expected \(4, 3\)"),
        ("spread", lambda a: -a, "'x.spread' is less than 0"),
        ("second", lambda a: a.astype("f4"), "'x.second' is not of the type of the item factors"),
        ("second", lambda a: a * np.nan, "'x.second' holds values that are not finite"),
        ("depth", lambda a: a - 1, "'x.depth' is not above 1"),
        ("depth", lambda a: a[None], r"'x.depth' has type .* expected \(\)"),
        ("fit_bias", lambda a: a.astype(float), "'x.fit_bias' has type float64"),
    ],
)
def test_what_a_file_says_has_to_fit_the_declaration(name, damage, message):
    arrays = {f"x.{key}": value for key, value in stored_arrays(larger()).items()}
    arrays[f"x.{name}"] = damage(arrays[f"x.{name}"])
    with pytest.raises(ValueError, match=message):
        restored_model(Larger, arrays, N, prefix="x.")


@pytest.mark.parametrize("name", [e.name for e in fields(Larger) if e.default is not None])
def test_what_may_not_be_missing_is_missed(name):
    arrays = {key: value for key, value in stored_arrays(larger()).items() if key != name}
    with pytest.raises(ValueError, match=f"it has no array '{name}'"):
        restored_model(Larger, arrays, N)


def test_new_items_start_as_declared():
    model, fresh = larger(), larger(n=N + 2)
    joined = grown(model, fresh)
    assert joined.second[N:].tolist() == [[7.0] * K] * 2
    assert joined.of_items[N:].tolist() == [-1.0] * 2
    assert joined.spread is model.spread
    for entry in fields(Larger):
        before, after = getattr(model, entry.name), getattr(joined, entry.name)
        if schema(Larger)[entry.name].axes[:1] == (ITEM,) and before is not None:
            np.testing.assert_array_equal(after[:N], before)
            assert len(after) == N + 2


@pytest.mark.parametrize("fit_bias", [True, False])
def test_components_in_another_order(fit_bias):
    model, order = larger(fit_bias=fit_bias), np.array([2, 0, 1])
    moved = permuted(model, order)
    states = [2, 0, 1, *([3] if fit_bias else [])]
    np.testing.assert_array_equal(moved.second, model.second[:, order])
    np.testing.assert_array_equal(moved.item_variance, model.item_variance[:, order])
    np.testing.assert_array_equal(moved.spread, model.spread[np.ix_(states, order)])
    np.testing.assert_array_equal(moved.user_prior_variance, model.user_prior_variance[states])
    assert moved.of_items is model.of_items
    assert moved.second.flags.c_contiguous


@pytest.mark.parametrize("fit_bias", [True, False])
def test_rotating_the_components_changes_no_prediction(fit_bias):
    model = larger(fit_bias=fit_bias)
    axes, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(K, K)))
    turned = rotated(model, axes)
    before = model.item_factors @ model.user_prior_mean[:K]
    np.testing.assert_allclose(turned.item_factors @ turned.user_prior_mean[:K], before)
    np.testing.assert_allclose(turned.second, model.second @ axes)
    np.testing.assert_array_equal(turned.user_prior_mean[K:], model.user_prior_mean[K:])
    prior = replace(model, item_prior_variance=np.array([1.0, 2.0, 5.0]))
    along = axes.T @ np.diag(prior.item_prior_variance) @ axes
    np.testing.assert_allclose(rotated(prior, axes).item_prior_variance, np.diag(along))
    assert turned.item_variance is model.item_variance  # whoever turns them computes it anew


def test_a_declaration_is_all_there_is_to_an_array():
    """Outside the parts, which compute them, nobody names the model's arrays one by one."""
    declared = {name for name, spec in schema(ServerModel).items() if spec.axes}
    root = Path(_types.__file__).parents[1]
    places = {}
    for path in sorted(root.rglob("*.py")):
        names = {n for n in declared if f'"{n}"' in path.read_text(encoding="utf-8")}
        if len(names) >= 2:
            places[path.relative_to(root).parts[0]] = names
    parts = {"client_update", "server_optimizers"}
    assert places.keys() - parts == {"datasets"}, places  # the truth of synthetic ratings


def test_every_axis_of_the_model_is_declared_as_it_is():
    model = replace(larger(), item_bias_variance=np.ones(N), item_prior_variance=np.ones(K))
    sizes = {ITEM: N, COMPONENT: K, STATE: K + 1}
    for name, spec in schema(Larger).items():
        expected = tuple(sizes[axis] for axis in spec.axes)
        assert np.shape(getattr(model, name)) == expected, name
