"""Padded blocks against one client at a time."""

import numpy as np
import pytest

from sklearn_fedrecon._kernels import _blocks, _padding
from sklearn_fedrecon._kernels._blocks import (
    linear_predictions,
    solve_users,
    support_statistics,
)
from sklearn_fedrecon._kernels._systems import solve_systems
from sklearn_fedrecon._types import ClientRatings, Prepared, ServerModel, UserStates
from sklearn_fedrecon.reconstruction._covariance import inverse_gram

N_ITEMS, K = 30, 3


@pytest.fixture(params=[1, 40, 8192], ids=lambda size: f"blocks of {size}")
def block_size(request, monkeypatch):
    """Blocks of one client, of some, and of all."""
    monkeypatch.setattr(_blocks, "BLOCK_SIZE", request.param)
    monkeypatch.setattr(_padding, "_BLOCK_NUMBERS", K * request.param)
    return request.param


def make(*, weights, dtype="float64", n_clients=25, seed=0, ascending=False):
    """Clients of 0 to 20 ratings, some without any."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 21, n_clients)
    lengths[[0, n_clients // 2]] = 0
    if ascending:
        lengths.sort()
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


def assert_each_is_solved(ratings, table, ridge, prior, further=None, rtol=1e-9):
    """Every client's ridge regression, by itself."""
    solved = solve_users(ratings, table, ridge, prior, further)
    design, offsets = table[:-1, :-1], -table[:-1, -1]
    for client, own in each(ratings):
        items, w = ratings.items[own], ratings.rating_weights()[own]
        x, y = design[items], ratings.values[own] - offsets[items]
        gram = x.T @ (w[:, None] * x)
        gram += np.diag(ridge if further is None else ridge + further[client])
        z = np.linalg.solve(gram, x.T @ (w * y) + ridge * prior)
        states, diagonals, residuals = solved[0][client], solved[1][client], solved[2][own]
        np.testing.assert_allclose(states, z, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(diagonals, np.diag(gram), rtol=rtol)
        np.testing.assert_allclose(residuals, y - x @ z, rtol=rtol, atol=10 * rtol)


def draw(d, seed=1, dtype="float64"):
    """Table of the design and of offsets with its row of zeros, ridge and prior mean."""
    random = np.random.default_rng(seed)
    return [
        array.astype(dtype)
        for array in (
            np.pad(random.normal(size=(N_ITEMS, d + 1)), [(0, 1), (0, 0)]),
            random.uniform(0.5, 2.0, d),
            random.normal(size=d),
        )
    ]


@pytest.mark.usefixtures("block_size")
@pytest.mark.parametrize("n_clients", [25, 150])  # few systems are solved in another way
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("d", [0, 1, K, 20])
def test_a_ridge_regression_for_every_client(weights, extra, d, n_clients):
    ratings = make(weights=weights, n_clients=n_clients)
    random = np.random.default_rng(2)
    further = random.uniform(size=(n_clients, d)) if extra else None
    assert_each_is_solved(ratings, *draw(d), further)


@pytest.mark.parametrize("numbers", [1, 100, 10**6])
@pytest.mark.parametrize("ascending", [False, True])
def test_groups_of_systems_and_order_of_clients(ascending, numbers, monkeypatch):
    monkeypatch.setattr(_blocks, "_GROUP_NUMBERS", numbers)
    ratings = make(weights=True, n_clients=150, ascending=ascending)
    further = np.random.default_rng(2).uniform(size=(150, K))
    assert_each_is_solved(ratings, *draw(K), further)


def test_a_client_with_more_ratings_than_a_block(monkeypatch):
    monkeypatch.setattr(_padding, "_BLOCK_NUMBERS", 4 * K)
    ratings = make(weights=True).take(np.array([3]))
    assert ratings.n_ratings > 4
    assert_each_is_solved(ratings, *draw(K))


def test_single_precision():
    ratings = make(weights=True, dtype="float32", n_clients=150)
    assert_each_is_solved(ratings, *draw(K, dtype="float32"), rtol=2e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_clients", [25, 150])
@pytest.mark.parametrize("ascending", [False, True])
def test_types_are_kept_and_arguments_left_alone(dtype, n_clients, ascending):
    ratings = make(weights=True, dtype=dtype, n_clients=n_clients, ascending=ascending)
    arguments = [*draw(K, dtype=dtype), np.ones((n_clients, K), dtype)]
    before = [array.copy() for array in arguments]
    for array in arguments:
        array.flags.writeable = False
    results = solve_users(ratings, *arguments)
    assert all(result.dtype == dtype for result in results)
    assert all(map(np.array_equal, arguments, before))


@pytest.mark.parametrize("n_clients", [1, 100])
def test_a_client_without_ratings_has_the_prior(n_clients):
    ratings = make(weights=False).take(np.zeros(n_clients, dtype=int))
    ridge, prior = np.array([2.0, 3.0]), np.array([0.5, -1.0])
    table = np.pad(np.ones((N_ITEMS, 2)), (0, 1))
    states, diagonals, residuals = solve_users(ratings, table, ridge, prior)
    np.testing.assert_allclose(states, [prior] * n_clients, rtol=1e-14)
    assert diagonals.tolist() == [ridge.tolist()] * n_clients
    assert residuals.shape == (0,)


def test_no_clients():
    ratings = make(weights=False).take(np.empty(0, dtype=int))
    states, diagonals, residuals = solve_users(ratings, *draw(K))
    assert states.shape == diagonals.shape == (0, K)
    assert residuals.shape == (0,)


# --- the systems themselves --------------------------------------------------------------------


@pytest.mark.parametrize("n_systems", [1, 63, 64, 500])
@pytest.mark.parametrize("d", [0, 1, 2, 17])
def test_systems(n_systems, d):
    random = np.random.default_rng(0)
    roots, right = random.normal(size=(n_systems, d, d + 2)), random.normal(size=(n_systems, d))
    matrices = roots @ roots.swapaxes(1, 2)
    systems = np.concatenate([matrices, right[:, None]], axis=1)
    solutions = solve_systems(systems.copy())
    assert solutions.shape == (n_systems, d)
    products = np.einsum("cij,cj->ci", matrices, solutions)
    np.testing.assert_allclose(products, right, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_systems", [64, 200])
def test_systems_that_are_nearly_singular_stay_finite(dtype, n_systems):
    # Twice the same item and next to no ridge: rounding leaves a pivot that is not positive.
    random = np.random.default_rng(0)
    x = np.repeat(random.normal(size=(n_systems, 1, 6)), 2, axis=1).astype(dtype)
    systems = np.empty((n_systems, 7, 6), dtype)
    systems[:, :6] = x.swapaxes(1, 2) @ x + np.finfo(dtype).eps * np.eye(6, dtype=dtype) / 10
    systems[:, 6] = x.sum(axis=1)
    assert np.isfinite(solve_systems(systems)).all()


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inverse_gram(weights, dtype):
    ratings = make(weights=weights, dtype=dtype).take(np.array([3]))
    design = np.random.default_rng(1).normal(size=(N_ITEMS, K)).astype(dtype)
    diagonal = np.array([1.0, 2.0, 3.0], dtype)
    gram = np.diag(diagonal.astype(float))
    for item, weight in zip(ratings.items, ratings.rating_weights(), strict=True):
        gram += float(weight) * np.outer(design[item].astype(float), design[item].astype(float))
    inverse = inverse_gram(ratings, design, diagonal)
    assert inverse.dtype == np.float64
    np.testing.assert_allclose(inverse @ gram, np.eye(K), atol=1e-12)


# --- predictions and by-products ---------------------------------------------------------------


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
        item_bias_variance=random.uniform(size=N_ITEMS),
    )
    users = UserStates(random.normal(size=(ratings.n_clients, d)))
    known = support_statistics(ratings, users, Prepared.of(model))
    assert known.ratings is ratings
    for client, own in each(ratings):
        items, w = ratings.items[own], ratings.rating_weights()[own]
        v, kappa, c = model.item_factors[items], model.item_variance[items], 0.0
        if fit_bias:
            c = users.states[client, K]
        error = (
            ratings.values[own] - 3.0 - model.item_bias[items] - c - v @ users.states[client, :K]
        )
        np.testing.assert_allclose(known.residuals[own], error, rtol=1e-9, atol=1e-12)
        squares = np.append(w @ (v**2 + kappa), [w.sum()] * fit_bias)
        np.testing.assert_allclose(known.squares[client], squares, rtol=1e-10, atol=1e-12)
        variances = np.append(w @ kappa, w @ model.item_bias_variance[items])
        np.testing.assert_allclose(known.variances[client], variances, rtol=1e-10, atol=1e-12)
