"""Time to import the package, beside its dependencies, each in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from ._table import Table

STATEMENTS = (
    "pass",
    "import numpy",
    "import scipy.sparse",
    "import sklearn",
    "import sklearn.base, sklearn.datasets, sklearn.model_selection",
    "import sklearn_fedrecon",
)
CLOCK = """
import time
before = time.process_time(), time.perf_counter()
{}
print(*before, time.process_time(), time.perf_counter())
"""


def run(options) -> Iterator[Table]:
    repeats = options.repeats or 7
    timings = {statement: [] for statement in STATEMENTS}
    for _ in range(repeats):
        for statement in STATEMENTS:
            timings[statement].append(once(statement))
    rows = []
    for statement, times in timings.items():
        cpu, wall = zip(*times, strict=True)
        rows.append([statement, median(cpu), median(wall)])
    yield Table(
        f"Import, seconds, medians of {repeats} fresh processes",
        ["statement", "CPU s", "wall s"],
        rows,
    )


def once(statement: str) -> tuple[float, float]:
    """CPU and wall seconds of a statement in a new process, the interpreter's start aside."""
    command = [sys.executable, "-c", CLOCK.format(statement)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cpu, wall, cpu_after, wall_after = map(float, printed.split())
    return cpu_after - cpu, wall_after - wall
