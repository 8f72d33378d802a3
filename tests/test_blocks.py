"""Padded blocks against one client at a time."""

import numpy as np
import pytest

from sklearn_fedrecon import _blocks
from sklearn_fedrecon._blocks import (
    length_blocks,
    linear_predictions,
    padded_positions,
    solve_users,
    support_statistics,
)
from sklearn_fedrecon._types import ClientRatings, ServerModel, UserStates

N_ITEMS, K = 30, 3


@pytest.fixture(params=[1, 40, 8192], ids=lambda size: f"blocks of {size}")
def block_size(request, monkeypatch):
    """Block sizes that hold one client, some, and all."""
    monkeypatch.setattr(_blocks, "BLOCK_SIZE", request.param)
    monkeypatch.setattr(length_blocks, "__defaults__", (request.param,))
    return request.param


def make(*, weights, dtype="float64", n_clients=25, seed=0):
    """Clients of 0 to 20 ratings, some without any."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 21, n_clients)
    lengths[[0, n_clients // 2]] = 0
    items = [random.permutation(N_ITEMS)[:n] for n in lengths]
    n = lengths.sum()
    return ClientRatings(
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.concatenate(items).astype(np.int32),
        values=random.normal(3.0, 1.0, n).astype(dtype),
        n_items=N_ITEMS,
        clients=np.arange(n_clients),
        weights=random.uniform(0.5, 3.0, n).astype(dtype) if weights else None,
    )


def each(ratings):
    """Client, and the slice of its ratings."""
    bounds = zip(ratings.indptr[:-1], ratings.indptr[1:], strict=True)
    return enumerate(slice(start, stop) for start, stop in bounds)


@pytest.mark.parametrize("size", [1, 10, 55, 10**6])
def test_blocks_partition_the_clients(size):
    lengths = np.random.default_rng(0).integers(0, 30, 200)
    blocks = list(length_blocks(lengths, size))
    assert sorted(np.concatenate(blocks).tolist()) == list(range(200))
    for clients in blocks:
        assert len(clients) == 1 or len(clients) * lengths[clients].max() <= size
    shortest = [lengths[clients].min() for clients in blocks]
    longest = [lengths[clients].max() for clients in blocks]
    assert all(low >= high for low, high in zip(shortest[:-1], longest[1:], strict=True))


def test_no_clients_no_blocks():
    assert list(length_blocks(np.zeros(0, dtype=int), 10)) == []


def test_padding_points_past_the_end():
    ratings = make(weights=False)
    clients = np.array([3, 0, 7])
    positions = padded_positions(ratings, clients)
    assert positions.shape == (3, ratings.lengths[clients].max())
    for row, client in zip(positions, clients, strict=True):
        start, stop = ratings.indptr[client : client + 2]
        assert row[: stop - start].tolist() == list(range(start, stop))
        assert set(row[stop - start :].tolist()) <= {ratings.n_ratings}


@pytest.mark.usefixtures("block_size")
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("d", [0, 1, K])
def test_solve_users_is_a_ridge_regression_a_client(weights, extra, d):
    ratings, random = make(weights=weights), np.random.default_rng(1)
    design, ridge = random.normal(size=(N_ITEMS, d)), random.uniform(0.5, 2.0, d)
    prior, targets = random.normal(size=d), random.normal(size=ratings.n_ratings)
    further = random.uniform(size=(ratings.n_clients, d)) if extra else None
    states, diagonals, residuals = solve_users(ratings, design, targets, ridge, prior, further)
    for client, own in each(ratings):
        x, y, w = design[ratings.items[own]], targets[own], ratings.rating_weights()[own]
        penalty = ridge + (further[client] if extra else 0.0)
        gram = x.T @ (w[:, None] * x) + np.diag(penalty)
        z = np.linalg.solve(gram, x.T @ (w * y) + ridge * prior)
        np.testing.assert_allclose(states[client], z, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(diagonals[client], np.diag(gram), rtol=1e-12)
        np.testing.assert_allclose(residuals[own], y - x @ z, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_solve_users_keeps_the_type_and_its_arguments(dtype):
    ratings, random = make(weights=True, dtype=dtype), np.random.default_rng(1)
    arguments = [
        random.normal(size=(N_ITEMS, K)).astype(dtype),
        random.normal(size=ratings.n_ratings).astype(dtype),
        np.ones(K, dtype),
        np.zeros(K, dtype),
        np.ones((ratings.n_clients, K), dtype),
    ]
    before = [array.copy() for array in arguments]
    for array in arguments:
        array.flags.writeable = False
    results = solve_users(ratings, *arguments)
    assert all(result.dtype == dtype for result in results)
    assert all(map(np.array_equal, arguments, before))


def test_a_client_without_ratings_has_the_prior():
    ratings = make(weights=False).take(np.array([0]))
    ridge, prior = np.array([2.0, 3.0]), np.array([0.5, -1.0])
    states, diagonals, residuals = solve_users(
        ratings, np.ones((N_ITEMS, 2)), np.empty(0), ridge, prior
    )
    assert states.tolist() == [prior.tolist()]
    assert diagonals.tolist() == [ridge.tolist()]
    assert residuals.shape == (0,)


@pytest.mark.usefixtures("block_size")
def test_linear_predictions():
    ratings, random = make(weights=False), np.random.default_rng(2)
    design = random.normal(size=(N_ITEMS, K))
    states = random.normal(size=(ratings.n_clients, K))
    predictions = linear_predictions(ratings, design, states)
    for client, own in each(ratings):
        expected = design[ratings.items[own]] @ states[client]
        np.testing.assert_allclose(predictions[own], expected, rtol=1e-12)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("fit_bias", [False, True])
def test_support_statistics(weights, fit_bias):
    ratings, random = make(weights=weights), np.random.default_rng(3)
    d = K + fit_bias
    model = ServerModel(
        item_factors=random.normal(size=(N_ITEMS, K)),
        item_bias=random.normal(size=N_ITEMS),
        global_mean=3.0,
        fit_bias=fit_bias,
        user_prior_mean=np.zeros(d),
        user_prior_variance=np.ones(d),
        item_variance=random.uniform(size=(N_ITEMS, K)),
    )
    users = UserStates(random.normal(size=(ratings.n_clients, d)))
    known = support_statistics(ratings, users, model)
    assert known.ratings is ratings
    for client, own in each(ratings):
        items, w = ratings.items[own], ratings.rating_weights()[own]
        v, kappa, c = model.item_factors[items], model.item_variance[items], 0.0
        if fit_bias:
            c = users.states[client, K]
        error = ratings.values[own] - 3.0 - model.item_bias[items] - c - v @ users.states[client, :K]
        np.testing.assert_allclose(known.residuals[own], error, rtol=1e-9, atol=1e-12)
        squares = np.append(w @ (v**2 + kappa), [w.sum()] * fit_bias)
        np.testing.assert_allclose(known.squares[client], squares, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(known.variances[client], w @ kappa, rtol=1e-10, atol=1e-12)
