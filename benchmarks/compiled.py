"""One round beside the same arithmetic compiled by numba: would an optional kernel pay?

The compiled kernel goes through the clients one by one: it gathers the rows of a client,
multiplies them by BLAS, factorises the system in place, and adds to the sums of the items at
once. Like the plain kernel it does no more than that. It needs numba; nothing in the package
does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sklearn_fedrecon._distribution import ChunkMap
from sklearn_fedrecon._types import Prepared

from ._data import encoded, table
from ._machine import version
from ._measure import alternate, one_thread
from ._table import Table
from .round import Round


def run(options) -> Iterator[Table]:
    try:
        kernel = compile_kernel()
    except ImportError:
        print("(numba is not installed: see requirements-peers.txt)")
        return
    repeats = options.repeats or 7
    X, y, name = table(options, (options.ratings or (1_000_000,))[0])
    ratings = encoded(X, y).by_length()
    result = Table(
        f"One round and a compiled kernel, {name}: CPU seconds, medians of {repeats}",
        ["n_components", "round", "numba", "round / numba", "largest difference of users"],
        notes=[f"numba {version('numba')}; one thread, float32"],
    )
    for k in options.components or (16, 32, 64):
        ours = Round(ratings, k)
        with one_thread(), ChunkMap(1) as mapper:
            ours.advance(mapper)
            compiled = Compiled(kernel, ours)
            candidates = {"round": lambda o=ours, m=mapper: o.run(m), "numba": compiled.run}
            timings = alternate(candidates, repeats)
            users = ours.parts.reconstruction.reconstruct(ratings, ours.state.model, ours.context)
        seconds = [timings[kind].cpu_median for kind in candidates]
        difference = float(np.abs(users.states - compiled.states).max())
        result.rows.append([k, *seconds, seconds[0] / seconds[1], difference])
    yield result


class Compiled:
    """The arrays that the compiled kernel works on."""

    def __init__(self, kernel, ours: Round):
        model, ratings = ours.state.model, ours.ratings
        prepared, noise = Prepared.of(model), model.dtype.type(model.noise_variance)
        ridge = noise / model.user_prior_variance
        self._kernel, self._shape = kernel, (ratings.n_items, len(ridge))
        self.states = np.empty((ratings.n_clients, len(ridge)), dtype=model.dtype)
        self._arguments = (
            ratings.indptr,
            ratings.items,
            np.ascontiguousarray(prepared.design),
            model.item_variance,
            prepared.residuals(ratings),
            ridge,
            ridge * model.user_prior_mean,
            noise,
        )

    def run(self) -> None:
        sums, spreads = np.zeros((2, *self._shape), dtype=self.states.dtype)
        self._kernel(*self._arguments, self.states, sums, spreads)


def compile_kernel():
    """The kernel; it is compiled at its first call."""
    import numba

    @numba.njit(fastmath=True)
    def solve(A, r):
        """Cholesky factorisation of A and solution for r, both in place."""
        d = len(r)
        for j in range(d):
            for i in range(j, d):
                value = A[i, j]
                for p in range(j):
                    value -= A[i, p] * A[j, p]
                A[i, j] = np.sqrt(value) if i == j else value / A[j, j]
        for i in range(d):
            for p in range(i):
                r[i] -= A[i, p] * r[p]
            r[i] /= A[i, i]
        for i in range(d - 1, -1, -1):
            r[i] /= A[i, i]
            for p in range(i):
                r[p] -= A[i, p] * r[i]

    @numba.njit(fastmath=True)
    def kernel(indptr, items, design, variance, y, ridge, start, noise, states, sums, spreads):
        d, k = design.shape[1], variance.shape[1]
        for client in range(len(indptr) - 1):
            first, n = indptr[client], indptr[client + 1] - indptr[client]
            x, z, diagonal = np.empty((n, d), design.dtype), start.copy(), ridge.copy()
            for row in range(n):
                item = items[first + row]
                for j in range(d):
                    x[row, j] = design[item, j]
                    z[j] += y[first + row] * x[row, j]
                for j in range(k):
                    diagonal[j] += variance[item, j]
            A = np.dot(x.T, x)
            for j in range(d):
                A[j, j] += diagonal[j]
                diagonal[j] = noise / A[j, j]
            solve(A, z)
            states[client] = z
            for row in range(n):
                item, error = items[first + row], y[first + row]
                for j in range(d):
                    error -= x[row, j] * z[j]
                for j in range(d):
                    sums[item, j] += error * z[j]
                    spreads[item, j] += diagonal[j]

    return kernel
