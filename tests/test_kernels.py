"""Kernels against NumPy's solver: one system, and one client, at a time."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from sklearn_fedrecon._kernels import _blocks, _padding, _scratch, _solving
from sklearn_fedrecon._kernels._blocks import client_groups, solve_users
from sklearn_fedrecon._kernels._padding import PaddedGroup
from sklearn_fedrecon._kernels._scratch import scratch
from sklearn_fedrecon._kernels._solving import gram_matrices, solve_by_components, solve_by_ratings
from sklearn_fedrecon._kernels._systems import solve_systems
from sklearn_fedrecon._types import ClientRatings

N_ITEMS = 60


def draw_systems(n_systems, d, dtype="float64", seed=0):
    """Systems with a right side each, the right sides as last rows."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(n_systems, 2 * d + 3, d + 1))
    systems = np.matmul(rows.swapaxes(1, 2), rows[:, :, :d])
    systems[:, np.arange(d), np.arange(d)] += random.uniform(0.5, 2.0, size=(n_systems, d))
    return systems.astype(dtype)


def draw_ratings(lengths, *, weights=False, seed=0):
    """Clients with so many ratings each."""
    random = np.random.default_rng(seed)
    items = [random.permutation(N_ITEMS)[:length] for length in lengths]
    n_ratings = sum(lengths)
    return ClientRatings(
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.concatenate(items).astype(np.int32),
        values=random.normal(size=n_ratings),
        n_items=N_ITEMS,
        clients=np.arange(len(lengths)),
        weights=random.uniform(0.5, 3.0, n_ratings) if weights else None,
    )


def draw_table(d, seed=1):
    """Rows of the items, each with minus its offset, and a row of zeros below."""
    return np.pad(np.random.default_rng(seed).normal(size=(N_ITEMS, d + 1)), [(0, 1), (0, 0)])


def targets_of(ratings, table):
    return ratings.values + table[ratings.items, -1]


@pytest.mark.parametrize("n_systems", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("d", [1, 2, 17, 40, 80, 97])
def test_systems_are_solved_as_numpy_solves_them(d, n_systems):
    systems = draw_systems(n_systems, d)
    expected = np.linalg.solve(systems[:, :d], systems[:, d, :, None])[:, :, 0]
    np.testing.assert_allclose(solve_systems(systems), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_systems", [3, 100])
@pytest.mark.parametrize("d", [5, 90])
def test_what_is_beside_the_matrices_does_not_matter(d, n_systems):
    systems = draw_systems(n_systems, d)
    wider = np.concatenate([systems, np.full((n_systems, d + 1, 1), np.nan)], axis=2)
    np.testing.assert_array_equal(solve_systems(wider), solve_systems(systems))


def test_a_system_has_the_same_solution_in_any_company():
    systems = draw_systems(130, 9)
    alone, together = solve_systems(systems[:64]), solve_systems(systems)
    np.testing.assert_array_equal(alone, together[:64])


@pytest.mark.parametrize("n_systems", [10, 100])
def test_single_precision(n_systems):
    systems = draw_systems(n_systems, 12)
    solutions = solve_systems(systems.astype(np.float32))
    assert solutions.dtype == np.float32
    np.testing.assert_allclose(solutions, solve_systems(systems), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("d", [3, 100])
def test_a_matrix_that_rounding_made_indefinite_has_a_finite_solution(d):
    systems = np.ones((100, d + 1, d), dtype=np.float32)  # of rank one
    systems[:, 1, 1] -= np.float32(1e-6)
    assert np.isfinite(solve_systems(systems)).all()


@pytest.mark.parametrize("piece", [None, 1, 3, 40])
@pytest.mark.parametrize("syrk_width", [1, 10**6])
@pytest.mark.parametrize("weights", [False, True])
def test_gram_matrices_in_pieces_and_by_either_routine(weights, syrk_width, piece, monkeypatch):
    monkeypatch.setattr(_solving, "_SYRK_WIDTH", syrk_width)
    d, lengths = 3, [0, 1, 1, 2, 17, 18, 50]
    ratings, table = draw_ratings(lengths, weights=weights), draw_table(d)
    targets = targets_of(ratings, table)
    group = PaddedGroup(ratings, table, 0, len(lengths), piece=piece)
    systems = gram_matrices(group)
    bounds = zip(ratings.indptr[:-1], ratings.indptr[1:], strict=True)
    for client, own in enumerate(slice(*pair) for pair in bounds):
        x, w = table[ratings.items[own], :d], ratings.rating_weights()[own]
        gram, right = x.T @ (w[:, None] * x), x.T @ (w * targets[own])
        np.testing.assert_allclose(systems[client, :d, :d], gram, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(systems[client, d, :d], right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 7, 8192])
@pytest.mark.parametrize("d", [1, 6, 30])
@pytest.mark.parametrize("weights", ["none", "some", "and zeros"])
def test_by_ratings_and_by_components_are_the_same(weights, d, size, monkeypatch):
    monkeypatch.setattr(_padding, "_BLOCK_NUMBERS", size * (d + 1))
    lengths = [0, 0, 1, 2, 5, 9, 9, 10]
    ratings, table = draw_ratings(lengths, weights=weights != "none"), draw_table(d)
    if weights == "and zeros":
        ratings.weights[1:7:2] = 0
    random = np.random.default_rng(3)
    penalty = random.uniform(0.1, 5.0, size=(len(lengths) - 1, d))
    right = random.normal(size=d)
    group = PaddedGroup(ratings, table, 1, len(lengths), even=True)
    expected = [found.copy() for found in solve_by_components(group, penalty, right)]
    for found, wanted in zip(solve_by_ratings(group, penalty, right), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)


def test_the_dual_form_is_the_more_exact_where_there_is_next_to_no_penalty():
    """As a system of components it is singular, but for rounding."""
    lengths, d = [4] * 3, 20
    ratings, table = draw_ratings(lengths), draw_table(d).astype(np.float32)
    ratings = replace(ratings, values=ratings.values.astype(np.float32))
    targets = targets_of(ratings, table)
    arguments = np.full((3, d), 1e-6, np.float32), np.zeros(d, np.float32)
    group = PaddedGroup(ratings, table, 0, 3, even=True)
    states, _, residuals = solve_by_ratings(group, *arguments)
    for client in range(3):
        own = slice(4 * client, 4 * client + 4)
        x = table[ratings.items[own], :d].astype(float)
        shortest = np.linalg.pinv(x) @ targets[own]
        np.testing.assert_allclose(states[client], shortest, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(residuals[own], 0, atol=1e-5)


def groups_of(lengths, d):
    ratings = draw_ratings(lengths)
    return [
        (clients, solve.__name__) for _, clients, solve in client_groups(ratings, draw_table(d))
    ]


def test_clients_with_fewer_ratings_than_unknowns_are_solved_by_ratings():
    lengths = [0] * 70 + [3] * 100 + [7] * 130 + [20] * 80
    found = groups_of(lengths, d=12)
    assert {solve for clients, solve in found if clients.stop <= 300} == {"solve_by_ratings"}
    assert {solve for clients, solve in found if clients.start >= 300} == {"solve_by_components"}
    bounds = [clients.start for clients, _ in found] + [clients.stop for clients, _ in found]
    assert sorted(bounds) == [0, 70, 70, 170, 170, 300, 300, 380]


def test_a_few_short_clients_among_others_make_no_group():
    assert groups_of([1] * 10 + [20] * 80, d=10) == [(slice(0, 90), "solve_by_components")]
    assert groups_of([1] * 10, d=10) == [(slice(0, 10), "solve_by_ratings")]


@pytest.mark.parametrize("small_product", [1, 40, 500, 10**6])
@pytest.mark.parametrize("syrk_width", [1, 10**6])
def test_users_are_the_same_in_pieces_of_any_size(syrk_width, small_product, monkeypatch):
    ratings, table = draw_ratings([4, 5, 17, 18, 50], weights=True), draw_table(3)
    expected = solve_users(ratings, table, np.ones(3), np.zeros(3))
    monkeypatch.setattr(_solving, "_SMALL_PRODUCT", small_product)
    monkeypatch.setattr(_solving, "_SYRK_WIDTH", syrk_width)
    [(group, _, _)] = client_groups(ratings, table)
    cut = syrk_width > 4 and small_product < 50 * 4**2
    assert any(block.n_pieces > 1 for block in group.blocks) == cut
    for found, wanted in zip(
        solve_users(ratings, table, np.ones(3), np.zeros(3)), expected, strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


def test_systems_on_too_many_pages_are_solved_in_groups(monkeypatch):
    monkeypatch.setattr(_blocks, "_GROUP_PAGES", 10)
    width = 40  # more than a page each
    found = groups_of([60] * 25, d=width - 1)
    assert [clients.stop - clients.start for clients, _ in found] == [8, 8, 9]


@pytest.mark.parametrize("numbers", [1, 500, 10**6])
def test_groups_hold_every_client_once(numbers, monkeypatch):
    monkeypatch.setattr(_blocks, "_GROUP_NUMBERS", numbers)
    lengths = sorted(np.random.default_rng(0).integers(0, 40, 400).tolist())
    found = [clients for clients, _ in groups_of(lengths, d=30)]
    assert [clients.start for clients in found[1:]] == [clients.stop for clients in found[:-1]]
    assert (found[0].start, found[-1].stop) == (0, 400)
    assert all(clients.start < clients.stop for clients in found)


def test_solutions_are_no_working_memory():
    """What a thread computes next may be written where it worked before."""
    first = solve_systems(draw_systems(100, 4))
    kept = first.copy()
    solve_systems(draw_systems(100, 4, seed=1))
    np.testing.assert_array_equal(first, kept)
    ratings, table = draw_ratings([3] * 100), draw_table(4)
    results = solve_users(ratings, table, np.ones(4), np.zeros(4))
    before = [array.copy() for array in results]
    solve_users(ratings, table + 1, np.full(4, 2.0), np.zeros(4))
    assert all(map(np.array_equal, results, before))


def test_working_memory_is_kept_by_each_thread():
    ours = scratch("test", (3, 4), np.float32)
    assert ours.shape == (3, 4)
    assert ours.dtype == np.float32
    assert np.shares_memory(scratch("test", (6,), np.float64), ours)
    assert not np.shares_memory(scratch("another", (6,), np.float64), ours)
    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(scratch, "test", (3, 4), np.float32).result()
    assert not np.shares_memory(theirs, ours)


def test_working_memory_grows_but_not_without_end():
    small = scratch("test", (10,), np.float64)
    large = scratch("test", (2000,), np.float64)
    assert not np.shares_memory(small, large)
    assert np.shares_memory(scratch("test", (10,), np.float64), large)
    huge = scratch("test", (_scratch._MOST_BYTES + 1,), np.uint8)
    assert not np.shares_memory(scratch("test", (10,), np.float64), huge)


@pytest.mark.parametrize("size", [1, 7, 40, 8192])
@pytest.mark.parametrize(("start", "stop"), [(0, 50), (10, 11), (20, 47)])
def test_blocks_of_a_group(start, stop, size, monkeypatch):
    d = 2
    monkeypatch.setattr(_padding, "_BLOCK_NUMBERS", size * (d + 1))
    lengths = sorted(np.random.default_rng(0).integers(0, 30, 50).tolist())
    ratings = draw_ratings(lengths)
    group = PaddedGroup(ratings, draw_table(d), start, stop)
    assert ratings.values[group.ratings].size == sum(lengths[start:stop])
    client = place = 0
    for block in group.blocks:
        n_clients, longest = block.shape
        assert block.clients == slice(client, client + n_clients)
        assert block.places == slice(place, place + n_clients * longest)
        assert longest == max(lengths[start:stop][block.clients])
        assert n_clients == 1 or n_clients * longest <= size
        client, place = block.clients.stop, block.places.stop
    assert client == stop - start


@pytest.mark.parametrize("n_others", [1, 80])
@pytest.mark.parametrize("d", [2, 10])  # by components, and by ratings
def test_a_client_that_is_not_finite_leaves_its_neighbours_alone(d, n_others):
    ratings, table = draw_ratings([3, 4, 5] + n_others * [6]), draw_table(d)
    values = ratings.values.copy()
    values[3] = np.nan  # of the second client
    ridge, nothing = np.ones(d), np.zeros(d)
    states, _, residuals = solve_users(replace(ratings, values=values), table, ridge, nothing)
    sound, _, _ = solve_users(ratings, table, ridge, nothing)
    np.testing.assert_array_equal(np.delete(states, 1, axis=0), np.delete(sound, 1, axis=0))
    assert np.isnan(states[1]).all()
    assert np.isfinite(residuals[:3]).all()
    assert np.isfinite(residuals[7:]).all()


@pytest.mark.parametrize("n_clients", [20, 150])
@pytest.mark.parametrize("d", [4, 30])
def test_order_of_the_clients_does_not_matter(d, n_clients):
    lengths = np.random.default_rng(3).integers(0, 40, n_clients).tolist()
    ratings, table = draw_ratings(lengths), draw_table(d)
    ridge, prior = np.full(d, 0.7), np.full(d, 0.2)
    states, diagonals, residuals = solve_users(ratings, table, ridge, prior)
    ordered = ratings.by_length()
    expected = solve_users(ordered, table, ridge, prior)
    np.testing.assert_array_equal(states[ordered.clients], expected[0])
    np.testing.assert_array_equal(diagonals[ordered.clients], expected[1])
    rows, _ = ratings.rows_of(ordered.clients)
    np.testing.assert_array_equal(residuals[rows], expected[2])
