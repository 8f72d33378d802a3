"""The cost of a round as a formula, fitted to rounds of many shapes.

Rounds with all clients are timed for several numbers of ratings, clients, items and
components; the coefficients of the formula are the non-negative ones with the least squared
relative error. `--figure FILE` draws what was measured beside the formula.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from sklearn_fedrecon._distribution import ChunkMap
from sklearn_fedrecon._kernels._blocks import is_short
from sklearn_fedrecon._types import ClientRatings
from sklearn_fedrecon.datasets import make_ratings

from ._data import encoded
from ._measure import alternate, one_thread
from ._table import Table
from .round import Round

COMPONENTS = (8, 16, 32, 64)
SHAPES = (  # users, items, ratings
    (6_040, 3_706, 1_000_000),
    (600, 3_706, 100_000),
    (30_000, 3_706, 600_000),
    (6_040, 15_000, 1_000_000),
    (2_000, 2_000, 500_000),
    (1_000, 10_000, 20_000),
)
TERMS = (
    "ratings",
    "ratings x k",
    "ratings x d u",
    "clients",
    "clients x u^2",
    "clients x u^3",
    "items x k",
    "round",
)


def terms(ratings: ClientRatings, k: int) -> list[int]:
    """What a round has of each of `TERMS`."""
    d, lengths = k + 1, ratings.lengths.astype(np.int64)
    u = np.where(is_short(lengths, d), lengths, d)
    of_ratings = [lengths.sum(), k * lengths.sum(), d * (lengths @ u)]
    of_clients = [len(lengths), (u**2).sum(), (u**3).sum()]
    return [int(number) for number in (*of_ratings, *of_clients, ratings.n_items * k, 1)]


def run(options) -> Iterator[Table]:
    repeats = options.repeats or 5
    shapes, seconds = [], []
    for n_users, n_items, n_ratings in SHAPES:
        X, y = make_ratings(n_users, n_items, n_ratings, random_state=0, return_X_y=True)
        ratings = encoded(X, y).by_length()
        for k in options.components or COMPONENTS:
            ours = Round(ratings, k)
            with one_thread(), ChunkMap(1) as mapper:
                ours.advance(mapper)
                timing = alternate({"": lambda o=ours, m=mapper: o.run(m)}, repeats)[""]
            shapes.append(terms(ratings, k))
            seconds.append(timing.cpu_median)
    relative = np.array(shapes, float) / np.array(seconds)[:, None]
    coefficients, _ = nnls(relative, np.ones(len(seconds)))
    ratio = relative @ coefficients
    if options.figure:
        numbers = options.components or COMPONENTS
        draw(numbers, np.array(seconds).reshape(len(SHAPES), -1), ratio, options.figure)
    result = Table(
        "Cost of a round: nanoseconds of CPU per unit, one thread, float32",
        ["unit", "ns"],
        [[name, 1e9 * value] for name, value in zip(TERMS, coefficients.tolist(), strict=True)],
    )
    result.notes.append(
        "d = k + 1; u: unknowns of a client's system, d or its ratings where these are few"
    )
    result.notes.append(
        f"{len(seconds)} rounds of {len(SHAPES)} shapes: the formula gives "
        f"{ratio.min():.2f} to {ratio.max():.2f} times what was measured"
    )
    yield result


def draw(components, seconds: np.ndarray, ratio: np.ndarray, path: Path) -> None:
    """Draw nanoseconds a rating against components, a curve for each shape.

    Parameters
    ----------
    components : sequence of int
    seconds : ndarray of shape (n_shapes, n_components)
    ratio : ndarray of shape (n_shapes * n_components,)
        What the formula gives, over what was measured.
    path : Path
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    formula = seconds * ratio.reshape(seconds.shape)
    for (n_users, n_items, n_ratings), measured, computed in zip(
        SHAPES, seconds, formula, strict=True
    ):
        label = f"{n_ratings:,} ratings, {n_users:,} users, {n_items:,} items"
        scale = 1e9 / n_ratings
        (points,) = axes.loglog(components, scale * measured, "o", label=label)
        axes.loglog(components, scale * computed, color=points.get_color(), linewidth=1)
    axes.set_xticks(components, map(str, components))
    ticks = [a * b for b in (1, 10, 100, 1000, 10_000) for a in (1, 2, 5)]
    low, high = axes.get_ylim()
    shown = [tick for tick in ticks if low < tick < high]
    axes.set_yticks(shown, map(str, shown))
    axes.minorticks_off()
    axes.set_xlabel("components")
    axes.set_ylabel("nanoseconds of CPU a rating")
    axes.set_title("A round of all clients: measured (points) and by the formula (lines)")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path)
