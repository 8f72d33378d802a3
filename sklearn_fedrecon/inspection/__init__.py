"""Pictures of a training and of what came out of it, in scikit-learn's Display classes.

`from_estimator`, `from_history` and `from_predictions` compute what there is to see and draw
it; `plot` draws it again, on other axes or otherwise. Pass ``ax=display.ax_`` to put two
estimators into one picture. They need matplotlib: the extra ``plots``.
"""

from ._calibration import CalibrationDisplay
from ._clients import ClientErrorDisplay
from ._history import RoundHistoryDisplay
from ._items import ItemMapDisplay
from ._reconstruction import ReconstructionCurveDisplay

__all__ = [
    "CalibrationDisplay",
    "ClientErrorDisplay",
    "ItemMapDisplay",
    "ReconstructionCurveDisplay",
    "RoundHistoryDisplay",
]
