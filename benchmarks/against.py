"""The package beside another version of it: rounds, one user, the import.

``--checkout DIR`` names a folder that holds the other version (``git worktree add DIR COMMIT``).
Everything goes through what is public in both, each run in a process of its own, the two
versions in turn: a machine that slows down for a while slows both down.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from ._table import Table

HERE = Path(__file__).resolve().parents[1]
IMPORT = """
import time
before = time.process_time()
import sklearn_fedrecon
seconds = time.process_time() - before
assert sklearn_fedrecon.__file__.startswith({checkout!r}), sklearn_fedrecon.__file__
print(1e3 * seconds)
"""
FIT = """
import json, time
from statistics import median
import numpy as np
import sklearn_fedrecon
from sklearn_fedrecon import FederatedReconstructionMF, make_ratings
assert sklearn_fedrecon.__file__.startswith({checkout!r}), sklearn_fedrecon.__file__
X, y = make_ratings(random_state=0, return_X_y=True)
found = {{}}
for k in {components!r}:
    for name, cohort, rounds in (("all clients", None, 6), ("cohort of 100", 100, 40)):
        model = FederatedReconstructionMF(
            k, clients_per_round=cohort, max_iter=rounds, tol=None, random_state=0, n_jobs=1
        )
        before = time.process_time()
        model.fit(X, y)
        seconds = time.process_time() - before
        found[f"round, {{name}}, k={{k}}"] = 1e3 * median(model.history_["cpu_seconds"][2:])
        found[f"fit, {{name}}, {{rounds}} rounds, k={{k}}"] = 1e3 * seconds
    items, ratings = model.items_[5:3000:30], np.tile([1.0, 3.0, 4.0, 5.0], 25)
    times = []
    for _ in range(9):
        before = time.process_time()
        for _ in range(100):
            model.reconstruct_user(items, ratings)
        times.append(10 * (time.process_time() - before))
    found[f"reconstruct_user, 100 ratings, k={{k}}"] = median(times)
print(json.dumps(found))
"""


def run(options) -> Iterator[Table]:
    if options.checkout is None:
        raise SystemExit("against: --checkout DIR names the folder of the other version")
    versions = {"this": str(HERE), "other": str(options.checkout.resolve())}
    components, repeats = options.components or [16, 32], options.repeats or 5
    figures: dict[str, dict[str, list[float]]] = {}
    for _ in range(repeats):
        for version, folder in versions.items():
            for name, value in measured(folder, components).items():
                figures.setdefault(name, {}).setdefault(version, []).append(value)
    rows = []
    for name, found in figures.items():
        ours, other = found["this"], found["other"]
        ratios = [a / b for a, b in zip(ours, other, strict=True)]
        row = [name, median(ours), median(other), median(ratios), min(ratios), max(ratios)]
        rows.append(row)
    yield Table(
        f"This version beside another, CPU milliseconds, medians of {repeats} processes each",
        ["what", "this", "other", "ratio", "least", "most"],
        rows,
        [f"make_ratings(), a million ratings; the other version: {described(versions['other'])}"],
    )


def measured(folder: str, components: list[int]) -> dict[str, float]:
    """Milliseconds of everything, each in a fresh process."""
    imported = float(printed(IMPORT.format(checkout=folder), folder))
    fitted = json.loads(printed(FIT.format(checkout=folder, components=components), folder))
    return {"import sklearn_fedrecon": imported, **fitted}


def printed(program: str, folder: str) -> str:
    """What a program prints that runs in a checkout, whose package comes first."""
    command = [sys.executable, "-c", program]
    finished = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return finished.stdout


def described(folder: str) -> str:
    """The commit of a checkout."""
    command = ["git", "-C", folder, "log", "-1", "--format=%h %s"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    return finished.stdout.strip() or "unknown"
