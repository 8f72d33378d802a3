"""Clocks and memory."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

from threadpoolctl import threadpool_limits

BUSY = 0.5  # load of others from which a figure is worth little


@dataclass
class Timing:
    """CPU and wall seconds of the repeats of one thing."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def cpu_median(self) -> float:
        return median(self.cpu)

    @property
    def wall_median(self) -> float:
        return median(self.wall)

    @contextmanager
    def measure(self, calls: int = 1):
        """Time what is inside, which does the same thing ``calls`` times."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu.append((time.process_time() - cpu) / calls)
        self.wall.append((time.perf_counter() - wall) / calls)


def alternate(
    candidates: dict[str, Callable[[], object]], repeats: int, calls: int = 1
) -> dict[str, Timing]:
    """Time each candidate in turn, ``repeats`` times over, after one run that is not timed.

    A machine that slows down for a while slows all candidates down.
    """
    timings = {name: Timing() for name in candidates}
    for candidate in candidates.values():
        candidate()
    gc.collect()
    for _ in range(repeats):
        for name, candidate in candidates.items():
            with timings[name].measure(calls):
                for _ in range(calls):
                    candidate()
    return timings


def one_thread():
    """Context in which BLAS has one thread."""
    return threadpool_limits(1)


def in_new_process(function: str, *arguments) -> object:
    """Result of ``module:function`` of this package, called in a process of its own.

    Raises
    ------
    RuntimeError
        With the last line of what the process said of its failure.
    """
    command = [sys.executable, "-m", f"{__package__}._measure", function, json.dumps(arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def peak_memory():
    """Context that yields a dict; it holds the growth of resident memory afterwards.

    ``peak`` is the largest growth at any time, ``after`` what is left at the end, in bytes.
    Works on Linux, where a process may reset its own high-water mark.
    """
    gc.collect()
    with open("/proc/self/clear_refs", "w", encoding="ascii") as switch:
        switch.write("5")
    before, result = _status("VmRSS"), {}
    yield result
    result |= {"peak": _status("VmHWM") - before, "after": _status("VmRSS") - before}


def _status(name: str) -> int:
    """A line of the process's status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as lines:
        line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024


def busy_seconds() -> float:
    """CPU seconds that all programs of this machine have used; NaN where nobody knows."""
    try:
        with open("/proc/stat", encoding="ascii") as lines:
            ticks = list(map(int, lines.readline().split()[1:9]))
    except OSError:
        return float("nan")
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # less idle, waiting


def warn_if_busy() -> None:
    """Say so where other programs compete for the processor."""
    load = os.getloadavg()[0]
    if load > BUSY * (os.cpu_count() or 1):
        print(f"(load average {load:.1f}: something else is running, times are worth less)")


if __name__ == "__main__":
    from importlib import import_module

    module, name = sys.argv[1].split(":")
    called = getattr(import_module(f".{module}", __package__ or "benchmarks"), name)
    print(json.dumps(called(*json.loads(sys.argv[2]))))
