"""Where the time of a round goes, beside what the processor can do at best.

Each part of the arithmetic is timed by itself, over all blocks of all clients, on one thread:
gathering item rows, the Gram matrices of the users, their systems, a product of the sparse
matrix of ratings with the users. "at the speed of GEMM" is what the Gram matrices would take
if they ran as fast as the product of two large square matrices. A round gathers twice and
multiplies three times.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sklearn_fedrecon._distribution import ChunkMap
from sklearn_fedrecon._distribution._chunks import cut_chunks
from sklearn_fedrecon._kernels._blocks import client_groups
from sklearn_fedrecon._kernels._padding import PaddedGroup
from sklearn_fedrecon._kernels._solving import dual_systems, gram_matrices, solve_by_ratings
from sklearn_fedrecon._kernels._systems import solve_systems
from sklearn_fedrecon._types import ClientRatings, Prepared, items_by_clients

from ._data import encoded, table
from ._measure import alternate, one_thread
from ._table import Table
from .round import Round

COMPONENTS = (16, 32, 64)
SIZE = 2048  # of a large square matrix


def run(options) -> Iterator[Table]:
    repeats = options.repeats or 5
    X, y, name = table(options, (options.ratings or (1_000_000,))[0])
    ratings = encoded(X, y).by_length()
    with one_thread():
        speed = gemm_speed(repeats)
        result = Table(
            f"Parts of a round, {name}: nanoseconds of CPU a rating, medians of {repeats}",
            [
                "n_components",
                "gather",
                "Gram",
                "at the speed of GEMM",
                "systems",
                "sparse product",
                "2 gathers + Gram + systems + 3 products",
                "round",
            ],
        )
        for k in options.components or COMPONENTS:
            result.rows.append([k, *parts(ratings, k, speed, repeats)])
    result.notes.append(
        f"large products ({SIZE} x {SIZE}, float32): {speed / 1e9:.0f} billion operations a second"
    )
    yield result


def gemm_speed(repeats: int) -> float:
    """Operations a second in a product of large matrices, one thread."""
    matrix = np.ones((SIZE, SIZE), dtype=np.float32)
    timing = alternate({"": lambda: matrix @ matrix}, repeats)[""]
    return 2 * SIZE**3 / timing.cpu_median


def parts(ratings: ClientRatings, k: int, speed: float, repeats: int) -> list[float]:
    """Nanoseconds a rating of each part."""
    whole = Round(ratings, k)
    chunks = list(ratings.spans(cut_chunks(ratings.indptr, ratings.n_items)))
    table = Prepared.of(whole.model).table
    groups = [
        (group, solve is solve_by_ratings)
        for chunk in chunks
        for group, _, solve in client_groups(chunk, table)
    ]
    matrices = [
        items_by_clients(chunk.rating_weights(), chunk.items, chunk.indptr, chunk.n_items)
        for chunk in chunks
    ]
    states = [np.ones((chunk.n_clients, k), dtype=np.float32) for chunk in chunks]
    solved = [systems_of(group, short).copy() for group, short in groups]

    def gather():
        for group, _ in groups:
            for block in group.blocks:
                group.rows(block)

    def gram():
        for group, short in groups:
            systems_of(group, short)

    def solve():
        for systems in solved:
            solve_systems(systems)

    def multiply():
        for matrix, vectors in zip(matrices, states, strict=True):
            matrix @ vectors

    with ChunkMap(1) as mapper:
        whole.advance(mapper)
        candidates = {"gather": gather, "gram": gram, "solve": solve, "multiply": multiply}
        timings = alternate(candidates | {"round": lambda: whole.run(mapper)}, repeats)
    scale = 1e9 / ratings.n_ratings
    gathered, grams, systems, product, all_of_it = (
        scale * timing.cpu_median for timing in timings.values()
    )
    best = 1e9 * 2 * (k + 1) * (k + 2) / speed
    total = gathered + grams + systems + 3 * product  # `grams` holds the first gather
    return [gathered, grams - gathered, best, systems, product, total, all_of_it]


def systems_of(group: PaddedGroup, short: bool) -> np.ndarray:
    """The systems of the clients of a group, with a one added to every diagonal."""
    if short:
        d = group.width - 1
        ones, nothing = np.ones((group.n_clients, d), np.float32), np.zeros(d, np.float32)
        return dual_systems(group, ones, nothing)[0]
    systems = gram_matrices(group)
    np.einsum("cjj->cj", systems[:, :-1, :-1])[...] += 1
    return systems
