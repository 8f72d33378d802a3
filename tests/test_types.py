"""The records of a round: slicing ratings by client, what a model derives, adding sums."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from sklearn_fedrecon._types import (
    ClientRatings,
    PartialSum,
    Prepared,
    ServerModel,
    UserStates,
    items_by_clients,
)

LENGTHS = [2, 0, 3, 1, 4]


@pytest.fixture
def ratings():
    """Five clients, the second without ratings; every array tells its ratings apart."""
    n = sum(LENGTHS)
    return ClientRatings(
        indptr=np.cumsum([0, *LENGTHS]),
        items=np.array([4, 1, 0, 2, 5, 3, 0, 1, 2, 4], dtype=np.int32),
        values=np.arange(n) + 0.5,
        n_items=6,
        clients=np.array([10, 11, 12, 13, 14]),
        weights=np.arange(n) + 1.0,
        scatter=np.arange(n) / 10,
        batch_size=3,
    )


def as_lists(ratings):
    """Every client with its ratings, one tuple a rating."""
    columns = (ratings.items, ratings.values, ratings.weights, ratings.scatter)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    bounds = zip(ratings.indptr[:-1], ratings.indptr[1:], strict=True)
    return [
        (client, rows[start:stop])
        for client, (start, stop) in zip(ratings.clients.tolist(), bounds, strict=True)
    ]


def test_sizes_and_owners(ratings):
    assert (ratings.n_clients, ratings.n_ratings) == (5, 10)
    assert ratings.lengths.tolist() == LENGTHS
    assert ratings.owners().tolist() == [0, 0, 2, 2, 2, 3, 4, 4, 4, 4]


@pytest.mark.parametrize("counts", [0, 2, 9, np.array([1, 5, 0, 1, 3])])
def test_first_keeps_the_first_ratings_of_every_client(ratings, counts):
    limits = np.broadcast_to(counts, 5)
    expected = [
        (client, rows[:limit])
        for (client, rows), limit in zip(as_lists(ratings), limits, strict=True)
    ]
    assert as_lists(ratings.first(counts)) == expected
    assert ratings.first(counts).batch_size == 3


@pytest.mark.parametrize("positions", [[0, 1, 2, 3, 4], [4, 2], [1], [3, 3, 0], []])
def test_take_keeps_the_ratings_of_the_clients_taken(ratings, positions):
    taken = ratings.take(np.array(positions, dtype=int))
    everything = as_lists(ratings)
    assert as_lists(taken) == [everything[position] for position in positions]
    assert (taken.n_items, taken.batch_size) == (6, 3)


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (1, 3), (2, 2), (4, 5)])
def test_span_is_a_view_of_consecutive_clients(ratings, start, stop):
    part = ratings.span(start, stop)
    assert as_lists(part) == as_lists(ratings)[start:stop]
    assert part.n_ratings == 0 or np.shares_memory(part.values, ratings.values)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 1000])
def test_chunks_are_all_clients_in_order(ratings, size):
    chunks = list(ratings.chunks(size))
    assert [client for chunk in chunks for client in as_lists(chunk)] == as_lists(ratings)
    # One client is never cut, so a chunk can be larger by less than one client.
    assert all(chunk.n_ratings < size + max(LENGTHS) for chunk in chunks)
    assert len(chunks) <= -(-ratings.n_ratings // size) + 1


@pytest.mark.parametrize("positions", [[0, 1, 2, 3, 4], [1, 3, 0, 2, 4], [1], []])
def test_by_length(ratings, positions):
    some = ratings.take(np.array(positions, dtype=int))
    ordered = some.by_length()
    assert as_lists(ordered) == sorted(as_lists(some), key=lambda client: len(client[1]))
    assert (some.order_of_length() is None) == (ordered is some)
    assert ordered.order_of_length() is None


@pytest.mark.parametrize("positions", [[0, 1, 2, 3, 4], [2], [1]])
def test_sums_over_the_items_of_a_client(ratings, positions):
    some, table = ratings.take(np.array(positions)), np.arange(12.0).reshape(6, 2)
    expected = [
        sum((weight * table[item] for item, _, weight, _ in rated), np.zeros(2))
        for _, rated in as_lists(some)
    ]
    np.testing.assert_allclose(some.sum_rows(table), expected, rtol=1e-14)


def test_chunks_without_any_rating(ratings):
    nobody = ratings.take(np.array([1, 1]))
    assert [chunk.n_clients for chunk in nobody.chunks(4)] == [2]
    assert list(ratings.take(np.array([], dtype=int)).chunks(4)) == []


@pytest.mark.parametrize("optional", ["weights", "scatter"])
def test_what_is_not_there_stays_so(ratings, optional):
    without = replace(ratings, **{optional: None})
    for part in (without.take(np.array([2, 0])), without.span(0, 2), *without.chunks(4)):
        assert getattr(part, optional) is None


def test_weights_are_one_unless_given(ratings):
    assert ratings.rating_weights() is ratings.weights
    ones = replace(ratings, weights=None).rating_weights()
    assert ones.tolist() == [1.0] * 10


def test_matrix_has_a_row_a_client(ratings):
    dense = np.zeros((5, 6))
    for row, (_, rated) in enumerate(as_lists(ratings)):
        for item, value, _, _ in rated:
            dense[row, item] = value
    matrix = ratings.matrix(ratings.values)
    assert np.array_equal(matrix.toarray(), dense)
    transposed = items_by_clients(ratings.values, ratings.items, ratings.indptr, 6)
    assert np.array_equal(transposed.toarray(), dense.T)
    assert np.array_equal(transposed @ np.eye(5), dense.T)


def test_matrices_of_a_span_copy_nothing(ratings):
    part = ratings.span(0, 2)  # less than half, which a constructor of SciPy copies
    by_client = part.matrix(part.values)
    by_item = items_by_clients(part.values, part.items, part.indptr, part.n_items)
    for matrix in (by_client, by_item):
        assert np.shares_memory(matrix.data, ratings.values)
        assert np.shares_memory(matrix.indices, ratings.items)


def model(*, fit_bias, dtype="float32"):
    return ServerModel(
        item_factors=np.arange(12, dtype=dtype).reshape(6, 2),
        item_bias=np.linspace(0, 1, 6).astype(dtype),
        global_mean=3.25,
        fit_bias=fit_bias,
        user_prior_mean=np.zeros(2 + fit_bias, dtype=dtype),
        user_prior_variance=np.ones(2 + fit_bias, dtype=dtype),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_design_has_a_one_where_biases_are_fitted(dtype):
    with_bias, without = model(fit_bias=True, dtype=dtype), model(fit_bias=False, dtype=dtype)
    assert (with_bias.n_items, with_bias.n_components, with_bias.dtype) == (6, 2, dtype)
    design = Prepared.of(with_bias).design
    assert np.array_equal(design[:, :2], with_bias.item_factors)
    assert design[:, 2].tolist() == [1.0] * 6
    assert design.dtype == dtype
    assert np.array_equal(Prepared.of(without).design, without.item_factors)


def test_residuals_are_without_mean_and_item_bias(ratings):
    single = replace(ratings, values=ratings.values.astype(np.float32))
    residuals = Prepared.of(model(fit_bias=True)).residuals(single)
    expected = [
        value - 3.25 - 0.2 * item
        for value, item in zip(ratings.values, ratings.items, strict=True)
    ]
    np.testing.assert_allclose(residuals, expected, rtol=1e-6)
    assert residuals.dtype == np.float32


def test_users_with_and_without_bias():
    states = np.arange(6.0).reshape(2, 3)
    users = UserStates(states)
    assert users.factors(2).tolist() == [[0, 1], [3, 4]]
    assert users.bias(2).tolist() == [2, 5]
    assert users.factors(3).tolist() == states.tolist()
    assert users.bias(3).tolist() == [0, 0]


def test_partial_sums_add_up_key_by_key():
    one = PartialSum({"a": np.array([1.0, 2.0])}, {"b": np.array(3.0)}, 2.0, 4, {"loss": 0.5})
    two = PartialSum({"a": np.array([10.0, 20.0])}, {"b": np.array(30.0)}, 5.0, 3, {"loss": 0.25})
    total = one + two
    assert total.rows["a"].tolist() == [11, 22]
    assert float(total.statistics["b"]) == 33
    assert (total.client_weight, total.n_clients) == (7.0, 7)
    assert total.measurements == {"loss": 0.75}


def test_records_are_frozen(ratings):
    with pytest.raises(FrozenInstanceError):
        ratings.values = np.zeros(10)
