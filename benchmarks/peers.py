"""Fits to the error of other libraries, and a round beside one of their ALS iterations.

Same split, same machine, one run; every fit in a process of its own with one thread. "train"
is training alone, on the library's own data set, whose making from the table is "data". For
this package, "rounds" are the rounds alone, and "fit" is all of it: checking and encoding the
table, the rounds, and rebuilding every user at the end. Beside each of the others, this
package trains for as many rounds as it needs to be at least as good on the test ratings.
implicit factorizes clicks: its iteration is timed, its error would mean nothing.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
from scipy import sparse

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._distribution import ChunkMap

from ._data import encoded, table
from ._machine import version
from ._measure import alternate, in_new_process, one_thread
from ._peers import FITS, ITERATIONS
from ._table import Table
from .round import Round

OURS = 10  # as many components as cornac has by default
MOST_ROUNDS = 20
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def run(options) -> Iterator[Table]:
    for variable in THREADS:
        os.environ[variable] = "1"  # of the processes to come
    repeats = options.repeats or 3
    for n_ratings in options.ratings or (1_000_000,):
        X, y, name = table(options, n_ratings)
        X = np.column_stack([np.unique(ids, return_inverse=True)[1] for ids in X.T])
        yield to_their_error(X, y, name, (options.components or (OURS,))[0], repeats)
        yield iterations(X, y, name, options.components or (16, 32, 64), repeats)


def to_their_error(X, y, name: str, k: int, repeats: int) -> Table:
    """Each peer's fit, and ours until it is as good."""
    result = Table(
        f"Fit, {name}, ratings 90/10: CPU seconds, medians of {repeats}",
        [
            "library",
            "settings",
            "RMSE",
            "train",
            "data",
            "our n",
            "our RMSE",
            "rounds",
            "fit",
            "rounds/train",
            "fit/(train+data)",
        ],
    )
    with tempfile.TemporaryDirectory() as folder:
        save(folder, X, y)
        ours = [in_new_process("peers:our_error", folder, k, n) for n in range(1, MOST_ROUNDS + 1)]
        for label, (package, settings, *_) in FITS.items():
            try:
                theirs = [in_new_process("peers:their_fit", folder, label) for _ in range(repeats)]
            except RuntimeError as error:
                result.notes.append(f"{label} left out: {error}")
                continue
            error = theirs[0]["rmse"]
            train, data = (median(fit[part] for fit in theirs) for part in ("train", "data"))
            n = next((n for n, fit in enumerate(ours, 1) if fit["rmse"] <= error), None)
            row = [f"{label} {version(package)}", settings, error, train, data]
            if n is None:
                best = min(fit["rmse"] for fit in ours)
                result.rows.append([*row, f">{MOST_ROUNDS}", best, None, None, None, None])
                continue
            fits = [in_new_process("peers:our_error", folder, k, n) for _ in range(repeats)]
            rounds, fit = (median(fit[part] for fit in fits) for part in ("rounds", "fit"))
            figures = [n, ours[n - 1]["rmse"], rounds, fit, rounds / train, fit / (train + data)]
            result.rows.append([*row, *figures])
        final = in_new_process("peers:our_error", folder, k, 10)
    result.notes.append(
        f"ours: k={k}, defaults; after its 10 rounds RMSE {final['rmse']:.4f} in "
        f"{final['fit']:.2f} CPU s"
    )
    return result


def save(folder: str, X, y) -> None:
    """Train and test, in an order drawn from seed 0."""
    order = np.random.default_rng(0).permutation(len(y))
    train, test = np.split(order, [int(0.9 * len(y))])
    np.savez(Path(folder) / "split.npz", X=X[train], y=y[train], X_test=X[test], y_test=y[test])


def load(folder: str) -> tuple:
    with np.load(Path(folder) / "split.npz") as split:
        return tuple(split[name] for name in ("X", "y", "X_test", "y_test"))


def error_of(predicted, y, y_test) -> float:
    clipped = np.clip(predicted, y.min(), y.max())
    return float(np.sqrt(np.mean((clipped - y_test) ** 2)))


def their_fit(folder: str, label: str) -> dict:
    """Error and CPU seconds of a peer; runs in a new process."""
    X, y, X_test, y_test = load(folder)
    _, _, fit, settings = FITS[label]
    predicted, train, data = fit(X, y, X_test, **settings)
    return {"rmse": error_of(predicted, y, y_test), "train": train, "data": data}


def our_error(folder: str, k: int, rounds: int) -> dict:
    """Error and CPU seconds of this package; runs in a new process."""
    X, y, X_test, y_test = load(folder)
    model = FederatedReconstructionMF(k, max_iter=rounds, tol=None, random_state=0)
    cpu = time.process_time()
    model.fit(X, y)
    cpu = time.process_time() - cpu
    rounds = float(model.history_["cpu_seconds"].sum())
    return {"rmse": error_of(model.predict(X_test), y, y_test), "fit": cpu, "rounds": rounds}


def iterations(X, y, name: str, components, repeats: int) -> Table:
    """One round with all clients beside one iteration of ALS over users and items."""
    ratings = encoded(X, y).by_length()
    matrix = sparse.csr_matrix((y.astype(np.float32), (X[:, 0], X[:, 1])))
    result = Table(
        f"One full round and one ALS iteration, {name}: CPU seconds, medians of {repeats}",
        ["n_components", "round", *(f"{label}" for label in ITERATIONS), "round / fastest"],
    )
    for k in components:
        ours = Round(ratings, k)
        with one_thread(), ChunkMap(1) as mapper:
            ours.advance(mapper)
            cpu = alternate({"": lambda o=ours, m=mapper: o.run(m)}, repeats)[""].cpu_median
            theirs = [iteration(label, matrix, k, repeats) for label in ITERATIONS]
        fastest = min((seconds for seconds in theirs if seconds is not None), default=None)
        result.rows.append([k, cpu, *theirs, cpu / fastest if fastest else None])
    result.notes.append("theirs: the difference between 6 and 2 iterations, divided by 4")
    return result


def iteration(label: str, matrix, k: int, repeats: int) -> float | None:
    """CPU seconds of one iteration; None where the library is not installed."""
    _, maker, settings = ITERATIONS[label]
    try:
        run = maker(matrix, k, **settings)
        timings = alternate({"2": lambda: run(2), "6": lambda: run(6)}, repeats)
    except ImportError:
        return None
    return (timings["6"].cpu_median - timings["2"].cpu_median) / 4
