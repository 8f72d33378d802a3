"""What rounds did, as columns and as lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._types import RoundReport, ServerModel
from ..communication import message_bytes, model_bytes


def round_report(
    number: int, model: ServerModel, measured: dict[str, Any], n_sampled: int
) -> RoundReport:
    """What a round did, told from the sums of its clients.

    Parameters
    ----------
    number : int
        Of the round, from 0.
    model : ServerModel
        That clients were sent.
    measured : dict of str to float
        The measurements of the round's `Outcome`; empty where nobody answered.
    n_sampled : int
        Clients that downloaded the model.

    Returns
    -------
    report : RoundReport
    """
    sent = measured.get("sent_indices", 0), measured.get("sent_numbers", 0)
    numbers = {
        "loss": _ratio(measured, "loss", "batches"),
        "training_rmse": _ratio(measured, "squared_error", "examples") ** 0.5,
        "rejected_clients": int(measured.get("rejected", 0)),
        "finite": bool(measured.get("finite", True)),
        "bytes_down": n_sampled * model_bytes(model),
        "bytes_up": message_bytes(*sent, model.dtype.itemsize),
    }
    return RoundReport(
        round=number,
        clients=int(measured.get("clients", 0)),
        ratings=int(measured.get("ratings", 0)),
        measurements=numbers,
        baseline=_ratio(measured, "baseline_error", "baseline_weight"),
    )


def _ratio(measured: dict, total: str, count: str) -> float:
    """Mean from two sums; NaN where nothing was counted."""
    return measured[total] / measured[count] if measured.get(count) else float("nan")


class History:
    """Collects reports of rounds as columns.

    Parameters
    ----------
    before : dict of str to ndarray or None
        The columns of earlier rounds.
    """

    def __init__(self, before: dict[str, np.ndarray] | None = None):
        self._columns = {name: list(values) for name, values in (before or {}).items()}

    def __len__(self) -> int:
        return len(self._columns.get("round", ()))

    def add(self, report: RoundReport) -> None:
        """Append a round."""
        row = {"round": report.round + 1, "clients": report.clients, "ratings": report.ratings}
        row |= report.measurements
        missing = [float("nan")] * len(self)
        for name in row.keys() | self._columns.keys():
            self._columns.setdefault(name, list(missing)).append(row.get(name, float("nan")))
        self._columns = {
            name: self._columns[name] for name in [*row, *(self._columns.keys() - row.keys())]
        }

    def columns(self) -> dict[str, np.ndarray]:
        """The history as arrays, a column a measurement."""
        return {name: np.asarray(values) for name, values in self._columns.items()}

    @staticmethod
    def line(report: RoundReport, last: int) -> str:
        """One tidy line about a round, columns below each other, within 80 characters."""
        numbers = report.measurements
        error = f"RMSE {numbers['training_rmse']:.4f}"
        if "validation_rmse" in numbers:
            error += f" (held out {numbers['validation_rmse']:.4f})"
        megabytes = (numbers["bytes_down"] + numbers["bytes_up"]) / 1e6
        return (
            f"round {report.round + 1:>{len(str(last))}}/{last} {report.clients:>6} clients  "
            f"{error} {megabytes:>7.1f} MB {numbers['wall_seconds']:>6.2f} s"
        )
