"""Peak memory of a fit beyond the data it is given, each in a process of its own.

The table (int64 ids) and the ratings (float64) are in memory before; counted is what the
process grows by from there, at its highest, as the operating system sees it: work space of
BLAS, the encoded ratings and the fitted attributes included. `tracemalloc` counts NumPy's
arrays alone, in a second run, as it slows the first one down.
"""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings

from ._data import table
from ._measure import in_new_process, peak_memory
from ._table import Table

MEGA = 1e6
MANY_USERS, THEIR_ITEMS, THEIR_RATINGS = 1_000_000, 10_000, 20_000_000


def run(options) -> Iterator[Table]:
    result = Table(
        "Memory of a fit beyond its input, MB",
        [
            "data",
            "users",
            "ratings",
            "n_components",
            "cohort",
            "rounds",
            "input",
            "peak",
            "arrays alone",
            "left after",
            "fit CPU s",
        ],
    )
    for n_ratings in options.ratings or (1_000_000, *([20_000_000] if options.large else [])):
        X, y, name = table(options, n_ratings)
        rounds = 10 if n_ratings <= 1_000_000 else 3
        result.rows += fits(name, X, y, options.components or (16, 32), None, rounds)
        del X, y
    if options.large:
        X, y = make_ratings(
            MANY_USERS, THEIR_ITEMS, THEIR_RATINGS, random_state=0, return_X_y=True
        )
        result.rows += fits("make_ratings", X, y, options.components or (32,), 1000, 100)
    yield result


def fits(name: str, X, y, components, cohort: int | None, rounds: int) -> list[list]:
    """A row for each number of components."""
    n_users, rows = len(np.unique(X[:, 0])), []
    size = (X.nbytes + y.nbytes) / MEGA
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "X.npy", X)
        np.save(Path(folder) / "y.npy", y)
        for k in components:
            resident = in_new_process("memory:of_fit", folder, k, cohort, rounds, False)
            arrays = None
            if len(y) <= 1_000_000:
                arrays = in_new_process("memory:of_fit", folder, k, cohort, rounds, True)["peak"]
            what = name, n_users, len(y), k, cohort or "all", rounds, size
            peak, after = resident["peak"] / MEGA, resident["after"] / MEGA
            traced = None if arrays is None else arrays / MEGA
            rows.append([*what, peak, traced, after, resident["cpu"]])
    return rows


def of_fit(folder: str, k: int, cohort: int | None, rounds: int, traced: bool) -> dict:
    """Bytes that a fit grows this process by; runs in a new process."""
    X, y = (np.load(Path(folder) / f"{name}.npy") for name in "Xy")
    model = FederatedReconstructionMF(
        k, clients_per_round=cohort, max_iter=rounds, tol=None, random_state=0
    )
    cpu = time.process_time()
    if traced:
        tracemalloc.start()
        model.fit(X, y)
        after, peak = tracemalloc.get_traced_memory()
        return {"peak": peak, "after": after}
    with peak_memory() as grown:
        model.fit(X, y)
    return grown | {"cpu": time.process_time() - cpu}
