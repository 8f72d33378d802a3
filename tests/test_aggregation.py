"""The mean over clients, and what is left out of it."""

from dataclasses import replace

import numpy as np
import pytest

from sklearn_fedrecon._types import (
    ClientUpdates,
    DeviceContext,
    ItemRows,
    PartialSum,
    Pattern,
    ServerContext,
)
from sklearn_fedrecon.aggregation import Mean

DEVICES = DeviceContext(round=0, seed=0)
SERVER = ServerContext(round=0, rate=1.0, n_clients=10, seed=0)
ITEMS = [0, 2, 1, 2, 0]


def updates(weights=(1.0, 3.0, 2.0)):
    """Three clients that send 2, 1 and 2 rows for three items."""
    vectors = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, -6.0]])
    return ClientUpdates(
        Pattern(np.array([0, 2, 3, 5]), np.array(ITEMS), n_items=3),
        np.array(weights),
        rows={
            "item_factors": ItemRows(np.array([1.0, -2.0, 0.5, 3.0, 4.0]), vectors),
            "item_bias": ItemRows(np.arange(5.0)),
        },
        statistics={"noise": np.array([0.1, 0.2, 0.3])},
        measurements={"loss": np.array([1.0, 2.0, 3.0])},
    )


def aggregate(*chunks):
    """Everything from the devices to the mean; the state has to come through."""
    part, state = Mean(), {"kept": 1}
    total = part.combine([part.encode(chunk, DEVICES) for chunk in chunks])
    outcome = part.finish(total, state, SERVER)
    assert outcome.state is state
    return outcome.aggregate, outcome.measurements


def test_weighted_mean():
    mean, measured = aggregate(updates())
    rows = [[1, 2], [-2, -4], [1.5, 2], [15, -18], [20, -24]]
    factors, bias = np.zeros((3, 2)), np.zeros(3)
    for row, (item, weight) in enumerate(zip(ITEMS, [1, 1, 3, 2, 2], strict=True)):
        factors[item] += weight * np.array(rows[row]) / 6
        bias[item] += weight * row / 6
    np.testing.assert_allclose(mean.rows["item_factors"], factors, rtol=1e-14)
    np.testing.assert_allclose(mean.rows["item_bias"], bias, rtol=1e-14)
    assert mean.statistics["noise"] == pytest.approx((0.1 + 3 * 0.2 + 2 * 0.3) / 6)
    assert mean.client_weight == 6
    assert (measured["loss"], measured["rejected"], measured["finite"]) == (6.0, 0.0, True)


def test_small_weights_are_weights_too():
    light, _ = aggregate(updates(weights=(0.1, 0.3, 0.2)))
    heavy, _ = aggregate(updates())
    np.testing.assert_allclose(light.rows["item_bias"], heavy.rows["item_bias"], rtol=1e-14)
    assert light.client_weight == pytest.approx(0.6)


def test_chunks_are_added():
    one, _ = aggregate(updates())
    two, measured = aggregate(updates(), updates())
    for name, value in (one.rows | one.statistics).items():
        np.testing.assert_allclose((two.rows | two.statistics)[name], value, rtol=1e-14)
    assert (two.client_weight, measured["loss"], measured["clients"]) == (12, 12, 6)


def test_chunks_are_added_in_their_order():
    # In double precision the order shows: 1e16 + 1 - 1e16 is 0, and 1e16 - 1e16 + 1 is 1.
    def chunk(value):
        return PartialSum({}, {"a": np.array(value)}, 1.0, 1)

    part = Mean()
    assert part.combine(iter([chunk(1e16), chunk(1.0), chunk(-1e16)])).statistics["a"] == 0
    assert part.combine(iter([chunk(1e16), chunk(-1e16), chunk(1.0)])).statistics["a"] == 1


def test_a_client_that_is_not_finite_has_weight_zero():
    broken = updates()
    broken.rows["item_factors"].coefficients[2] = np.inf  # the only row of the second client
    mean, measured = aggregate(broken)
    without, _ = aggregate(updates(weights=(1.0, 0.0, 2.0)))
    assert mean.client_weight == without.client_weight
    for name, value in (without.rows | without.statistics).items():
        assert np.array_equal((mean.rows | mean.statistics)[name], value), name
    assert (measured["rejected"], measured["finite"]) == (1.0, True)


def test_weight_zero_in_total_means_zero():
    mean, measured = aggregate(updates(weights=(0.0, 0.0, 0.0)))
    assert mean.client_weight == 0
    assert all(not value.any() for value in (mean.rows | mean.statistics).values())
    assert measured["finite"]


def test_a_sum_that_overflows_is_reported():
    huge = replace(updates(), statistics={"noise": np.full(3, 1e308)})
    with np.errstate(over="ignore"):
        mean, measured = aggregate(huge, huge)
    assert mean is None  # the server takes no step
    assert not measured["finite"]


def test_no_state():
    assert Mean().init(None) == {}
