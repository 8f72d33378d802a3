"""The published algorithm equals what TensorFlow Federated computed, number by number.

The cases were run by TensorFlow Federated 0.87.0: three rounds each, from given item
factors, with every client's ratings in a given order and a constant initial user. The
tests enter at the round, with ordered ratings: `fit` would sort, check and shuffle them.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_fedrecon._round import Question, RoundParts, answer, run_round
from sklearn_fedrecon._types import ClientRatings, DeviceContext, ServerContext, ServerState
from sklearn_fedrecon.aggregation import Mean
from sklearn_fedrecon.client_update import SGDUpdate
from sklearn_fedrecon.reconstruction import SGDReconstruction
from sklearn_fedrecon.server_optimizers import SGD, Adagrad, Adam, Yogi
from sklearn_fedrecon.splitting import BatchParitySplit, NoSplit

FIXTURE = json.loads((Path(__file__).parent / "data" / "tff_fedrecon.json").read_text())
CASES = {case["name"]: case for case in FIXTURE["cases"]}
TOLERANCE = 1e-5
SERVER_OPTIMIZERS = {
    "server_momentum": SGD(learning_rate=0.5, momentum=0.9),
    "server_adagrad": Adagrad(learning_rate=0.1),
    "server_adam": Adam(learning_rate=0.1),
    "server_yogi": Yogi(learning_rate=0.1),
}
BROKEN_CLIENT = {"nan_client": 2}


def client_ratings(dtype, broken=None):
    """The fixture's clients, each in its own order; ``broken`` rated NaN throughout."""
    lengths = [len(client["items"]) for client in FIXTURE["clients"]]
    values = [np.array(client["ratings"], dtype) for client in FIXTURE["clients"]]
    if broken is not None:
        values[broken][:] = np.nan
    return ClientRatings(
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.concatenate([client["items"] for client in FIXTURE["clients"]]),
        values=np.concatenate(values),
        n_items=FIXTURE["n_items"],
        clients=np.arange(len(lengths)),
    )


def parts_of(case):
    """The package's parts for a case."""
    settings, name = case["split"], case["name"]
    split = BatchParitySplit if settings["split_dataset"] else NoSplit
    return RoundParts(
        split=split(batch_size=FIXTURE["batch_size"], shuffle=False),
        reconstruction=SGDReconstruction(
            n_epochs=settings["recon_epochs"],
            max_steps=settings["recon_steps_max"],
            learning_rate=0.1,
            init=FIXTURE["user_factors_init"],
        ),
        client_update=SGDUpdate(
            n_epochs=settings["post_recon_epochs"],
            max_steps=settings["post_recon_steps_max"],
            learning_rate=0.5,
            client_weights="uniform" if name == "sgd_uniform" else "examples",
        ),
        aggregator=Mean(),
        server_optimizer=SERVER_OPTIMIZERS.get(name, SGD(learning_rate=1.0)),
    )


def first_model(parts, dtype, *, biased):
    """The model before the first round; all biases are learned, or there are none."""
    model = parts.reconstruction.initial_model(
        FIXTURE["n_items"],
        FIXTURE["n_components"],
        fit_bias=biased,
        global_mean=0.0,
        scale=1.0,
        dtype=dtype,
        seed=0,
    )
    factors = np.array(FIXTURE["item_factors_init"], dtype)
    return replace(model, item_factors=factors, learn_global_mean=biased)


def metrics(measured):
    """Count, root mean squared error and loss, as they are reported."""
    return [
        measured["examples"],
        np.sqrt(measured["squared_error"] / measured["examples"]),
        measured["loss"] / measured["batches"],
    ]


def assert_equal(actual, expected):
    np.testing.assert_allclose(actual, np.squeeze(expected), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_every_round_equals_tensorflow_federated(name, dtype):
    case, devices = CASES[name], DeviceContext(round=0, seed=0)
    parts, ratings = parts_of(case), client_ratings(dtype, BROKEN_CLIENT.get(name))
    biased = bool(case["rounds"][0]["other"])
    model = first_model(parts, dtype, biased=biased)
    state = ServerState(model, {}, parts.server_optimizer.init(model))
    for number, expected in enumerate(case["rounds"]):
        devices = DeviceContext(number, seed=0)
        server = ServerContext(number, rate=1.0, n_clients=8, seed=0)
        state, outcome = run_round(ratings, state, parts, devices, server, lambda f, r: [f(r)])
        measured = outcome.measurements
        assert_equal(state.model.item_factors, expected["item_factors"])
        if biased:
            item_bias, global_mean = expected["other"]
            assert_equal(state.model.item_bias, item_bias)
            assert_equal(state.model.global_mean, global_mean)
        assert_equal(metrics(measured), list(expected["metrics"].values()))
        assert measured["rejected"] == (name in BROKEN_CLIENT)

    standing = clone(parts.client_update).set_params(learning_rate=0.0)
    question = Question(state.model, replace(parts, client_update=standing), devices)
    evaluated = answer(ratings, question)
    assert_equal(metrics(evaluated.measurements), list(case["evaluation"].values()))


def test_the_fixture_is_as_described():
    assert len(CASES) == 10
    assert all(len(case["rounds"]) == 3 for case in CASES.values())
    items = FIXTURE["clients"][4]["items"]
    assert items.count(1) == 2  # the item that repeats, in different batches
    assert items.index(1) // 4 != (len(items) - 1 - items[::-1].index(1)) // 4
