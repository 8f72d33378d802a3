"""Server steps of the gradient optimizers, all through one table."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_fedrecon._types import Aggregate, ServerContext, ServerModel
from sklearn_fedrecon.server_optimizers import SGD, Adagrad, Adam, Yogi

CONTEXT = ServerContext(round=0, rate=1.0, n_clients=10, seed=0)
ARRAYS = ("item_factors", "item_bias", "global_mean", "user_prior_mean")


def sgd(gradients, rate):
    return rate * gradients[-1]


def momentum(gradients, rate):
    n = len(gradients)
    return rate * sum(0.9 ** (n - 1 - t) * g for t, g in enumerate(gradients))


def adagrad(gradients, rate):
    return rate * gradients[-1] / np.sqrt(0.1 + sum(g**2 for g in gradients) + 1e-7)


def adam(gradients, rate, v=0.0, epsilon=1e-7, *, yogi=False):
    n, m = len(gradients), 0.0
    for g in gradients:
        m = 0.9 * m + 0.1 * g
        v = v + 0.001 * np.sign(g**2 - v) * g**2 if yogi else 0.999 * v + 0.001 * g**2
    return rate * np.sqrt(1 - 0.999**n) / (1 - 0.9**n) * m / (np.sqrt(v) + epsilon)


def yogi(gradients, rate):
    return adam(gradients, rate, v=1e-6, epsilon=1e-3, yogi=True)


# optimizer, and the step of one number in the last of the rounds with these gradients
TABLE = [
    pytest.param(SGD(0.7), sgd, id="sgd"),
    pytest.param(SGD(0.7, momentum=0.9), momentum, id="momentum"),
    pytest.param(Adagrad(0.7), adagrad, id="adagrad"),
    pytest.param(Adam(0.7), adam, id="adam"),
    pytest.param(Yogi(0.7), yogi, id="yogi"),
]


def random_model(dtype="float64"):
    random = np.random.default_rng(0)
    return ServerModel(
        item_factors=random.normal(size=(6, 2)).astype(dtype),
        item_bias=random.normal(size=6).astype(dtype),
        global_mean=3.5,
        fit_bias=True,
        user_prior_mean=random.normal(size=3).astype(dtype),
        user_prior_variance=np.ones(3, dtype),
    )


def random_deltas(seed, weight=1.0):
    random = np.random.default_rng(seed)
    rows = {"item_factors": random.normal(size=(6, 2)), "item_bias": random.normal(size=6)}
    statistics = {"global_mean": random.normal(), "user_prior_mean": random.normal(size=3)}
    return Aggregate(rows, statistics, weight)


def delta(aggregate, name):
    return (aggregate.rows | aggregate.statistics)[name]


@pytest.mark.parametrize(("optimizer", "step"), TABLE)
def test_steps_follow_the_rule(optimizer, step):
    model = random_model()
    state = optimizer.init(model)
    seen = []
    for t in range(5):
        seen.append(random_deltas(t))
        before = model
        model, state = optimizer.apply(model, seen[-1], state, CONTEXT)
        for name in ARRAYS:
            expected = getattr(before, name) - step([-delta(one, name) for one in seen], 0.7)
            np.testing.assert_allclose(getattr(model, name), expected, rtol=1e-12)


@pytest.mark.parametrize(("optimizer", "step"), TABLE)
def test_only_what_clients_trained_moves(optimizer, step):
    model, state = random_model(), optimizer.init(random_model())
    trained = Aggregate({"item_factors": random_deltas(0).rows["item_factors"]}, {}, 1.0)
    after, _ = optimizer.apply(model, trained, state, CONTEXT)
    assert not np.array_equal(after.item_factors, model.item_factors)
    assert after.global_mean == model.global_mean
    assert after.item_bias is model.item_bias
    assert after.user_prior_mean is model.user_prior_mean


@pytest.mark.parametrize(("optimizer", "step"), TABLE)
def test_items_rest_that_a_cohort_handed_in_does_not_contain(optimizer, step):
    model = random_model()
    model, state = optimizer.apply(model, random_deltas(0), optimizer.init(model), CONTEXT)
    deltas = random_deltas(1)
    absent = np.array([1, 4])
    deltas.rows["item_factors"][absent], deltas.rows["item_bias"][absent] = 0, 0
    deltas.rows["item_factors"][3] = 0  # only its bias moves: it is there
    streaming = replace(CONTEXT, streaming=True)
    after, kept = optimizer.apply(model, deltas, state, streaming)
    sampled, forgotten = optimizer.apply(model, deltas, state, CONTEXT)
    for name in ("item_factors", "item_bias"):
        np.testing.assert_array_equal(getattr(after, name)[absent], getattr(model, name)[absent])
        present = np.setdiff1d(np.arange(6), absent)
        expected = getattr(sampled, name)[present]
        np.testing.assert_array_equal(getattr(after, name)[present], expected)
        for key in (key for key in state if key.endswith(name)):
            np.testing.assert_array_equal(kept[key][absent], state[key][absent])
            np.testing.assert_array_equal(kept[key][present], forgotten[key][present])


@pytest.mark.parametrize(("optimizer", "step"), TABLE)
def test_a_round_without_weight_is_no_round(optimizer, step):
    model = random_model()
    model, state = optimizer.apply(model, random_deltas(0), optimizer.init(model), CONTEXT)
    nothing = random_deltas(1, weight=0.0)
    after, kept = optimizer.apply(model, nothing, state, CONTEXT)
    assert after is model
    assert kept is state


@pytest.mark.parametrize(("optimizer", "step"), TABLE)
def test_state_is_arrays_that_apply_does_not_write_to(optimizer, step):
    model = random_model("float32")
    state = optimizer.init(model)
    kept = {name: value.copy() for name, value in state.items()}
    after, moved = optimizer.apply(model, random_deltas(0), state, CONTEXT)
    assert moved.keys() == state.keys()
    for name, value in state.items():
        assert isinstance(moved[name], np.ndarray)
        assert moved[name].shape == value.shape
        np.testing.assert_array_equal(value, kept[name])
    assert after.dtype == "float32"
    assert after.item_bias.dtype == "float32"
    assert isinstance(after.global_mean, float)


@pytest.mark.parametrize(("optimizer", "step"), TABLE)
def test_same_parameters_same_step(optimizer, step):
    model, deltas = random_model(), random_deltas(0)
    twin = clone(optimizer)
    one, _ = optimizer.apply(model, deltas, optimizer.init(model), CONTEXT)
    two, _ = twin.apply(model, deltas, twin.init(model), CONTEXT)
    np.testing.assert_array_equal(one.item_factors, two.item_factors)


@pytest.mark.parametrize(
    "optimizer",
    [Adagrad(initial_preconditioner_value=0.0, epsilon=0.0), Adam(epsilon=0.0)],
)
def test_what_never_moved_stays_without_any_floor(optimizer):
    model, deltas = random_model(), random_deltas(0)
    deltas.rows["item_factors"][2] = 0
    after, _ = optimizer.apply(model, deltas, optimizer.init(model), CONTEXT)
    np.testing.assert_array_equal(after.item_factors[2], model.item_factors[2])
    assert np.isfinite(after.item_factors).all()


def test_a_step_beyond_the_range_of_the_type_does_not_warn():
    model, deltas = random_model("float32"), random_deltas(0)
    after, _ = SGD(1e300).apply(model, deltas, {"round": np.asarray(0)}, CONTEXT)
    assert np.isinf(after.item_factors).any()
