"""Updates in factored form against their rows spelt out, one at a time."""

from dataclasses import replace

import numpy as np
import pytest

from sklearn_fedrecon._types import ClientUpdates, ItemRows, Pattern, SecondMoment, Shrinkage

N_ITEMS, K = 8, 2
LENGTHS = [3, 0, 2, 4]
N_ROWS, N_CLIENTS = sum(LENGTHS), len(LENGTHS)


def make(*, moments=True, explicit=False, bias=True, shared=False, dtype="float64", seed=0):
    """Four clients; the second sends no rows, nobody any of the last item. Factors come twice."""
    random = np.random.default_rng(seed)

    def draw(*shape):
        return random.normal(size=shape).astype(dtype)

    coefficients, vectors, counts = draw(N_ROWS), draw(N_CLIENTS, K), np.abs(draw(N_ROWS))
    shrinkage = Shrinkage(counts, np.abs(draw(N_CLIENTS, K)), draw(N_ITEMS, K))
    rows = {
        "item_factors": ItemRows(
            coefficients,
            vectors,
            shrinkage if moments else None,
            draw(N_ROWS, K) if explicit else None,
        ),
        "further_factors": ItemRows(draw(N_ROWS), draw(N_CLIENTS, 3)),
    }
    if explicit:
        rows["explicit_factors"] = ItemRows(None, explicit=draw(N_ROWS, 1))
    if bias:
        rows["item_bias"] = ItemRows(coefficients if shared else draw(N_ROWS))
    if moments:
        rows["counts"] = ItemRows(counts if shared else counts.copy())
    return ClientUpdates(
        Pattern(
            np.cumsum([0, *LENGTHS]),
            np.concatenate([random.permutation(N_ITEMS - 1)[:n] for n in LENGTHS]),
            N_ITEMS,
        ),
        np.array([1.0, 2.0, 0.5, 3.0]),
        rows,
        {"noise": draw(N_CLIENTS), "pair": draw(N_CLIENTS, 2)},
        {"second_moment": SecondMoment(vectors, shrinkage.variances)} if moments else {},
        {"loss": draw(N_CLIENTS)},
    )


FORMS = [
    {"moments": m, "explicit": e, "bias": b, "shared": s}
    for m in (0, 1)
    for e in (0, 1)
    for b in (0, 1)
    for s in (0, 1)
]


def row_of(rows, updates, client, row):
    """One row, by the definition in the docstring of `ItemRows`."""
    value = 0.0
    if rows.coefficients is not None:
        vector = 1.0 if rows.vectors is None else rows.vectors[client]
        value = rows.coefficients[row] * vector
    if rows.shrinkage is not None:
        shrinkage, item = rows.shrinkage, updates.pattern.items[row]
        shrunk = shrinkage.counts[row] * shrinkage.variances[client]
        value = value - shrunk * shrinkage.table[item]
    return value if rows.explicit is None else value + rows.explicit[row]


def matrix_of(moment, client):
    vector = moment.vectors[client]
    return np.outer(vector, vector) + np.diag(moment.variances[client])


def messages(updates):
    """Everything that each client sends: pairs (name, item or None, number or array)."""
    for client in range(N_CLIENTS):
        sent = []
        for row in range(updates.pattern.indptr[client], updates.pattern.indptr[client + 1]):
            for name, rows in updates.rows.items():
                item = updates.pattern.items[row]
                sent.append((name, item, row_of(rows, updates, client, row)))
        for name, values in updates.statistics.items():
            sent.append((name, None, values[client]))
        for name, moment in updates.moments.items():
            sent.append((name, None, matrix_of(moment, client)))
        yield sent


def loops(updates, weights=None):
    """Sums of all messages, one number after the other."""
    weights = updates.weights if weights is None else weights
    sums = {
        name: np.zeros((N_ITEMS,) if rows.width is None else (N_ITEMS, rows.width))
        for name, rows in updates.rows.items()
    }
    for weight, sent in zip(weights, messages(updates), strict=True):
        for name, item, value in sent:
            if item is None:
                sums[name] = sums.get(name, 0.0) + weight * np.asarray(value)
            else:
                sums[name][item] += weight * value
    return sums


def assert_sums(updates, expected):
    rows, statistics = updates.sum()
    assert rows.keys() | statistics.keys() == expected.keys()
    for name, value in expected.items():
        found = (rows | statistics)[name]
        np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_sums(form):
    updates = make(**form)
    assert_sums(updates, loops(updates))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_rows_spelt_out(form):
    updates = make(**form)
    owners = updates.pattern.owners()
    for rows in updates.rows.values():
        expected = [row_of(rows, updates, owners[row], row) for row in range(N_ROWS)]
        np.testing.assert_allclose(rows.spelt_out(updates.pattern), expected, rtol=1e-14)
        some = rows.spelt_out(updates.pattern, slice(2, 5))
        np.testing.assert_allclose(some, expected[2:5], rtol=1e-14)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_square_norms_are_those_of_the_whole_message(form, monkeypatch):
    monkeypatch.setattr("sklearn_fedrecon._types._rows._BLOCK", 2)
    updates = make(**form)
    expected = [sum(np.sum(np.square(value)) for *_, value in sent) for sent in messages(updates)]
    np.testing.assert_allclose(updates.square_norms(), expected, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("twice", [False, True])
def test_scaled_messages(form, twice):
    updates, factors = make(**form), np.array([0.5, 2.0, 0.0, 3.0])
    scaled = updates.scaled(factors)
    if twice:
        scaled, factors = scaled.scaled(factors), factors**2
    assert_sums(scaled, loops(updates, updates.weights * factors))
    np.testing.assert_allclose(
        scaled.square_norms(), updates.square_norms() * factors**2, rtol=1e-12
    )
    assert scaled.message_size() == updates.message_size()
    assert scaled.finite().all()


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_sums_are_in_double_precision(form):
    rows, statistics = make(**form, dtype="float32").sum()
    sums = [*rows.values(), *statistics.values()]
    assert {value.dtype for value in sums} == {np.dtype("float64")}


def test_owners():
    pattern = make().pattern
    assert pattern.owners().tolist() == [0, 0, 0, 2, 2, 3, 3, 3, 3]
    assert pattern.client_sums(np.ones(N_ROWS)).tolist() == LENGTHS


def test_everything_finite():
    assert make(explicit=True).finite().tolist() == [True] * N_CLIENTS


def arrays_of(updates):
    """Every array that a client may fill with nonsense, and whether it has a row a client."""
    yield updates.weights, True
    for values in updates.statistics.values():
        yield values, True
    for moment in updates.moments.values():
        yield from [(moment.vectors, True), (moment.variances, True)]
    for rows in updates.rows.values():
        yield from [(values, True) for values in rows.by_client()]
        yield from [(values, False) for values in rows.by_row()]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", range(len(list(arrays_of(make(explicit=True))))))
def test_one_bad_number_convicts_its_client_alone(position, bad):
    updates = make(explicit=True)
    values, by_client = list(arrays_of(updates))[position]
    values.reshape(len(values), -1)[2 if by_client else 4, -1] = bad  # row 4 is of client 2
    assert updates.finite().tolist() == [True, True, False, True]
    kept = updates.keep(updates.finite())
    assert kept.finite().all()
    rows, statistics = kept.sum()
    assert all(np.isfinite(value).all() for value in [*rows.values(), *statistics.values()])


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_clients_that_are_not_kept_count_for_nothing(form):
    updates = make(**form)
    mask = np.array([True, True, False, True])
    kept = updates.keep(mask)
    assert_sums(kept, loops(updates, np.where(mask, updates.weights, 0.0)))
    assert kept.weights.tolist() == [1, 2, 0, 3]
    for rows in kept.rows.values():
        assert not rows.spelt_out(kept.pattern)[3:5].any()


@pytest.mark.parametrize("form", [{"shared": True}, {"shared": True, "moments": False}])
def test_rows_that_share_their_coefficients_still_do(form):
    updates = make(**form)
    for changed in (updates.keep(np.ones(N_CLIENTS, bool)), updates.scaled(np.ones(N_CLIENTS))):
        factors, bias = changed.rows["item_factors"], changed.rows["item_bias"]
        assert factors.coefficients is bias.coefficients


@pytest.mark.parametrize(
    ("form", "row", "client"),
    [
        # a row: 2 + 3 numbers, and one each for bias and count; a client: statistics and moments
        ({"moments": True, "bias": True}, K + 3 + 2, 1 + 2 + K * (K + 1) // 2),
        ({"moments": True, "bias": False}, K + 3 + 1, 1 + 2 + K * (K + 1) // 2),
        ({"moments": False, "bias": True}, K + 3 + 1, 1 + 2),
        ({"moments": False, "bias": False}, K + 3, 1 + 2),
    ],
)
def test_message_size(form, row, client):
    assert make(**form).message_size() == (N_ROWS, N_ROWS * row + N_CLIENTS * client)


def test_a_message_without_rows():
    updates = make()
    nothing = Pattern(np.zeros(N_CLIENTS + 1, dtype=np.int64), updates.pattern.items[:0], N_ITEMS)
    alone = replace(updates, pattern=nothing, rows={}, moments={})
    rows, statistics = alone.sum()
    assert rows == {}
    np.testing.assert_allclose(statistics["pair"], updates.weights @ updates.statistics["pair"])
    assert alone.message_size() == (0, N_CLIENTS * 3)


def test_partial_sum_carries_weight_size_and_measurements():
    updates = make().measured(ratings=np.array(LENGTHS))
    partial = updates.partial_sum()
    rows, statistics = updates.sum()
    for expected, found in ((rows, partial.rows), (statistics, partial.statistics)):
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert np.array_equal(found[name], value)
    assert (partial.client_weight, partial.n_clients) == (6.5, N_CLIENTS)
    indices, numbers = updates.message_size()
    assert partial.measurements == {
        "loss": pytest.approx(updates.measurements["loss"].sum()),
        "ratings": N_ROWS,
        "sent_indices": indices,
        "sent_numbers": numbers,
    }
