"""Many small symmetric positive definite systems, solved in step.

LAPACK takes one system at a time, and for systems of some ten unknowns most of that time is
not arithmetic. Here every operation of the factorisation ``A = L D L'`` is carried out for all
systems at once, along the last axis of arrays whose first axis counts columns. The fewer and
the longer the operations, the less do threads wait for each other between them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ._scratch import scratch

FEW_SYSTEMS = 64  # below it LAPACK, one system at a time, is faster
_MANY_UNKNOWNS = 80  # from it on, most of the work is left to matrix products
_PANEL = 16  # unknowns that are eliminated between two of them


def solve_systems(systems: np.ndarray) -> np.ndarray:
    """Solve many symmetric positive definite systems.

    Parameters
    ----------
    systems : ndarray of shape (n_systems, d + 1, d) or (n_systems, d + 1, d + 1)
        Each matrix with its right side as a last row below it. A further column is ignored.
        The array may be overwritten.

    Returns
    -------
    solutions : ndarray of shape (n_systems, d)
    """
    d = systems.shape[1] - 1
    if len(systems) < FEW_SYSTEMS:
        return np.linalg.solve(systems[:, :d, :d], systems[:, d, :d, None])[:, :, 0]
    floors = np.multiply(
        np.einsum("cjj->jc", systems[:, :d, :d]), d * np.finfo(systems.dtype).eps, order="C"
    )
    if d >= _MANY_UNKNOWNS:
        return _solve_in_panels(systems, floors)
    columns = scratch("columns", (d, d + 1, len(systems)), systems.dtype)
    _fill(columns, systems)
    columns[:, d] = systems[:, d, :d].T
    return _substitute_back(columns, _factorise(columns, floors)).T


def _fill(columns: np.ndarray, matrices: np.ndarray) -> None:
    """Copy the lower triangles of symmetric matrices (n_systems, d, d) into columns."""
    d = len(columns)
    for j in range(d):
        columns[j, j:d] = matrices[:, j, j:d].T


def _factorise(columns: np.ndarray, floors: np.ndarray) -> np.ndarray:
    """Factorisation ``A = L D L'`` of all systems, in place.

    The lower triangle becomes ``L D``. Rows ``b`` below the matrix become ``b L'^-1``: right
    sides, the solutions of ``L y = b``; unit matrices, the inverse of ``L'``.

    Parameters
    ----------
    columns : ndarray of shape (d, n_rows, n_systems)
        The first ``d`` rows are the matrix, of which the upper triangle is not read.
    floors : ndarray of shape (d, n_systems)
        Smallest pivots: one that rounding made negative stands for one that is next to zero.

    Returns
    -------
    factors : ndarray of shape (d, n_systems)
        ``-1 / D``.
    """
    factors, multipliers = np.empty((2, *floors.shape), dtype=columns.dtype)
    sums = scratch("sums", columns.shape[1:], columns.dtype)
    for j in range(len(columns)):
        column = columns[j, j:]
        if j:
            row = np.multiply(columns[:j, j], factors[:j], out=multipliers[:j])
            column += np.einsum("pic,pc->ic", columns[:j, j:], row, out=sums[j:])
        np.maximum(column[0], floors[j], out=column[0])
        np.divide(-1, column[0], out=factors[j])
    return factors


def _substitute_back(columns: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Solutions of ``D L' z = y``, shape (d, n_systems); ``y`` is the row below the matrix."""
    d, n_systems = factors.shape
    solutions = np.empty((d + 1, n_systems), dtype=columns.dtype)
    solutions[d] = -1
    for j in range(d - 1, -1, -1):
        excess = np.einsum("ic,ic->c", columns[j, j + 1 :], solutions[j + 1 :])
        np.multiply(excess, factors[j], out=solutions[j])
    return solutions[:d]


def _solve_in_panels(systems: np.ndarray, floors: np.ndarray) -> np.ndarray:
    """Solve larger systems, some unknowns at a time; the systems are overwritten.

    Each panel of columns is brought up to date by a matrix product; its square is factorised
    in step, and what is below it multiplied by the inverse of the factor.
    """
    d = systems.shape[1] - 1
    bounds = list(pairwise([*range(0, d, _PANEL), d]))
    inverses = []
    for start, stop in bounds:
        panel, width = systems[:, start:, start:stop], stop - start
        before = systems[:, start:, :start]
        panel -= np.matmul(before, before[:, :width].swapaxes(1, 2))
        inverses.append(_inverse_of_factor(panel[:, :width], floors[start:stop]))
        panel[:, width:] = np.matmul(panel[:, width:], inverses[-1])
    right = systems[:, d, :d]  # by now the solutions of L y = b
    solutions = np.empty_like(right)
    for (start, stop), inverse in zip(reversed(bounds), reversed(inverses), strict=True):
        part = np.matmul(inverse, right[:, start:stop, None])
        solutions[:, start:stop] = part[:, :, 0]
        right[:, :start] -= np.matmul(part.swapaxes(1, 2), systems[:, start:stop, :start])[:, 0]
    return solutions


def _inverse_of_factor(matrices: np.ndarray, floors: np.ndarray) -> np.ndarray:
    """Inverses of the ``L'`` of matrices ``L L'`` (Cholesky), shape (n_systems, d, d)."""
    n_systems, d, _ = matrices.shape
    columns = np.zeros((d, 2 * d, n_systems), dtype=matrices.dtype)
    _fill(columns, matrices)
    columns[np.arange(d), d + np.arange(d)] = 1
    factors = _factorise(columns, floors)
    columns[:, d:] *= np.sqrt(-factors)[:, None]
    return np.ascontiguousarray(columns[:, d:].transpose(2, 1, 0))
