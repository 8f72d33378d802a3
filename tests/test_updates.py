"""Updates in factored form against their rows spelt out, one at a time."""

from dataclasses import replace

import numpy as np
import pytest

from sklearn_fedrecon._types._updates import ClientUpdates

N_ITEMS, K = 8, 2
LENGTHS = [3, 0, 2, 4]
N_ROWS, N_CLIENTS = sum(LENGTHS), len(LENGTHS)


def make(*, moments=True, explicit=False, bias=True, dtype="float64", seed=0):
    """Four clients; the second sends no rows."""
    random = np.random.default_rng(seed)

    def draw(*shape):
        return random.normal(size=shape).astype(dtype)

    return ClientUpdates(
        indptr=np.cumsum([0, *LENGTHS]),
        items=np.concatenate([random.permutation(N_ITEMS)[:n] for n in LENGTHS]),
        coefficients=draw(N_ROWS),
        vectors=draw(N_CLIENTS, K),
        item_factors=draw(N_ITEMS, K),
        weights=np.array([1.0, 2.0, 0.5, 3.0]),
        bias=draw(N_ROWS) if bias else None,
        counts=np.abs(draw(N_ROWS)) if moments else None,
        variances=np.abs(draw(N_CLIENTS, K)) if moments else None,
        explicit=draw(N_ROWS, K) if explicit else None,
        statistics={"noise": draw(N_CLIENTS), "pair": draw(N_CLIENTS, 2)},
        measurements={"loss": draw(N_CLIENTS)},
    )


FORMS = [{"moments": m, "explicit": e, "bias": b} for m in (0, 1) for e in (0, 1) for b in (0, 1)]


def loops(updates):
    """Rows, and the sums of all messages, by the definition in the class's docstring."""
    rows, sums = np.zeros((N_ROWS, K)), np.zeros((N_ITEMS, K))
    bias, counts, moment = np.zeros(N_ITEMS), np.zeros(N_ITEMS), np.zeros((K, K))
    for client in range(N_CLIENTS):
        weight, u = updates.weights[client], updates.vectors[client]
        for row in range(updates.indptr[client], updates.indptr[client + 1]):
            item = updates.items[row]
            rows[row] = updates.coefficients[row] * u
            if updates.variances is not None:
                s, v = updates.variances[client], updates.item_factors[item]
                rows[row] -= updates.counts[row] * s * v
            if updates.explicit is not None:
                rows[row] += updates.explicit[row]
            sums[item] += weight * rows[row]
            bias[item] += weight * (0 if updates.bias is None else updates.bias[row])
            counts[item] += weight * (0 if updates.counts is None else updates.counts[row])
        if updates.variances is not None:
            moment += weight * (np.outer(u, u) + np.diag(updates.variances[client]))
    return rows, sums, bias, counts, moment


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_rows_and_sums(form):
    updates = make(**form)
    rows, factors, bias, counts, moment = loops(updates)
    np.testing.assert_allclose(updates.rows(), rows, rtol=1e-12, atol=1e-14)
    expected = {"item_factors": factors}
    if form["bias"]:
        expected["item_bias"] = bias
    if form["moments"]:
        expected |= {"counts": counts, "second_moment": moment}
    for name, values in updates.statistics.items():
        expected[name] = sum(w * v for w, v in zip(updates.weights, values, strict=True))
    sums = updates.sum()
    assert sums.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(sums[name], value, rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_sums_are_in_double_precision(form):
    sums = make(**form, dtype="float32").sum()
    assert {value.dtype for value in sums.values()} == {np.dtype("float64")}


def test_owners():
    assert make().owners().tolist() == [0, 0, 0, 2, 2, 3, 3, 3, 3]


def test_everything_finite():
    assert make(explicit=True).finite().tolist() == [True] * N_CLIENTS


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name",
    ["coefficients", "bias", "counts", "explicit", "vectors", "variances", "weights", "pair"],
)
def test_one_bad_number_convicts_its_client_alone(name, bad):
    updates = make(explicit=True)
    statistics = {key: values.copy() for key, values in updates.statistics.items()}
    values = statistics["pair"] if name == "pair" else getattr(updates, name).copy()
    by_client = len(values) == N_CLIENTS
    values.reshape(len(values), -1)[2 if by_client else 4, -1] = bad  # row 4 is of client 2
    broken = (
        replace(updates, statistics=statistics)
        if name == "pair"
        else replace(updates, **{name: values})
    )
    assert broken.finite().tolist() == [True, True, False, True]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_clients_that_are_not_kept_count_for_nothing(form):
    updates = make(**form)
    mask = np.array([True, True, False, True])
    kept = updates.keep(mask)
    without = loops(replace(updates, weights=np.where(mask, updates.weights, 0.0)))
    for name, expected in zip(
        ["item_factors", "item_bias", "counts", "second_moment"], without[1:], strict=True
    ):
        if name in kept.sum():
            np.testing.assert_allclose(kept.sum()[name], expected, rtol=1e-12, atol=1e-14)
    assert kept.weights.tolist() == [1, 2, 0, 3]
    assert kept.rows()[3:5].tolist() == [[0, 0], [0, 0]]


def test_bad_numbers_do_not_survive_being_left_out():
    updates = make(explicit=True)
    vectors = updates.vectors.copy()
    vectors[2] = np.nan
    kept = replace(updates, vectors=vectors).keep(np.array([True, True, False, True]))
    assert all(np.isfinite(value).all() for value in kept.sum().values())


@pytest.mark.parametrize(
    ("form", "row", "client"),
    [
        # a row: k numbers, and one each for bias and count; a client: statistics and moments
        ({"moments": True, "bias": True}, K + 2, 1 + 2 + K * (K + 1) // 2),
        ({"moments": True, "bias": False}, K + 1, 1 + 2 + K * (K + 1) // 2),
        ({"moments": False, "bias": True}, K + 1, 1 + 2),
        ({"moments": False, "bias": False}, K, 1 + 2),
    ],
)
def test_message_size(form, row, client):
    assert make(**form).message_size() == (N_ROWS, N_ROWS * row + N_CLIENTS * client)


def test_partial_sum_carries_weight_size_and_measurements():
    updates = make()
    partial = updates.partial_sum()
    for name, value in updates.sum().items():
        assert np.array_equal(partial.sums[name], value)
    assert partial.weight == 6.5
    indices, numbers = updates.message_size()
    assert partial.measurements == {
        "loss": pytest.approx(updates.measurements["loss"].sum()),
        "sent_indices": indices,
        "sent_numbers": numbers,
    }
