"""What a figure was measured with."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata

from threadpoolctl import threadpool_info

PACKAGES = ("sklearn-fedrecon", "scikit-learn", "numpy", "scipy", "joblib")


@dataclass(frozen=True)
class Machine:
    """Versions and hardware, by name."""

    facts: dict[str, str]

    def text(self) -> str:
        return "; ".join(f"{name} {value}" for name, value in self.facts.items())


def describe_machine() -> Machine:
    import numpy  # noqa: F401  loads the BLAS library that is looked for
    import scipy.linalg  # noqa: F401

    facts = {"CPU": f"{cpu_model()}, {os.cpu_count()} cores", "Python": platform.python_version()}
    facts |= {package: version(package) for package in PACKAGES}
    blas = {
        f"{lib['internal_api']} {lib['version']}"
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    }
    kernels = {lib["architecture"] for lib in threadpool_info() if "architecture" in lib}
    facts["BLAS"] = f"{' and '.join(sorted(blas))} ({', '.join(sorted(kernels))})"
    return Machine(facts)


def cpu_model() -> str:
    """Name of the processor, with family and model where the name says little."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            facts = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
        return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"
    except (OSError, KeyError, ValueError):
        return platform.processor() or platform.machine()


def version(package: str) -> str:
    """Installed version, or that there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
