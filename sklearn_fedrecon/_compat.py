"""What differs between scikit-learn versions or is private there, 1.7 to 1.9, in one place.

Callbacks (`sklearn.callback`) exist from 1.9 on. An estimator is written once, for every
version: it inherits from `CallbackSupportMixin` (empty below 1.9), decorates `fit` with
`_fit_context`, which also tears callbacks down whatever happens, and wraps its loop::

    callbacks = FitCallbacks(self, max_rounds, X=X, y=y, sample_weight=sample_weight)
    for number in range(max_rounds):
        callbacks.round_begin()
        ...                                               # one round
        if callbacks.round_end(lambda: fitted_attributes(state)):
            break                                         # a callback asked to stop
    ...                                                   # set the fitted attributes
    callbacks.fit_end()

``fitted_attributes`` returns a dict of every attribute that `predict` needs. It is called
only where a callback asks for the fitted estimator, which then is a shallow copy of the
estimator with these attributes set: `self` stays unfitted until the end. What `fit` has
checked of X before the loop (``n_features_in_``) is on `self` and so on the copy.
`FitCallbacks` can be handed down: a loop that has it needs no estimator. Where nobody has set
callbacks, and below 1.9, the calls return at once.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import joblib
import sklearn
from sklearn.base import BaseEstimator
from sklearn.base import _fit_context as _untyped_fit_context
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
)
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import validate_data
from threadpoolctl import ThreadpoolController

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:
        """Stands in for the mixin of scikit-learn 1.9; offers nothing."""


if TYPE_CHECKING:  # scikit-learn has no types: a decorated `fit` would return anything
    Method = TypeVar("Method", bound=Callable)

    def _fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Method], Method]:
        """Validate parameters, and tear down callbacks, around a fit."""
else:
    _fit_context = _untyped_fit_context

__all__ = [
    "CallbackSupportMixin",
    "FitCallbacks",
    "HasMethods",
    "Interval",
    "Parallel",
    "RealNotInt",
    "StrOptions",
    "_fit_context",
    "_safe_indexing",
    "delayed",
    "single_threaded_blas",
    "validate_data",
    "warn_caller",
]


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line that called this package, through whatever called it for that line.

    A number of frames to skip would be wrong as soon as `fit` is called by a Pipeline or a
    grid search, or somebody moves a function. Python 3.12 has ``skip_file_prefixes`` for this.

    Parameters
    ----------
    message : str
    category : type of Warning
    """
    frame, level = sys._getframe(1), 2
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=1 if frame is None else level)


@functools.cache
def _is_ours(path: str) -> bool:
    """Whether a file belongs to this package or to what may call it on somebody's behalf."""
    return path == contextlib.__file__ or any(map(Path(path).is_relative_to, _FOLDERS))


_FOLDERS = [Path(__file__).parent, *(Path(m.__file__).parent for m in (sklearn, joblib))]


class FitCallbacks:
    """The callbacks of one fit; every round is a task below the task "fit".

    Creating it calls the begin hook of the fit.

    Parameters
    ----------
    estimator : estimator
        The estimator that is being fitted.
    max_rounds : int or None
        The most rounds that can follow; None where that is not known.
    X : table of shape (n_ratings, n_columns) or None, default=None
        Training data as the caller gave it, for callbacks that ask for it.
    y : array-like of shape (n_ratings,) or None, default=None
        Ratings as the caller gave them.
    sample_weight : array-like of shape (n_ratings,) or None, default=None
        Sample weights as the caller gave them.
    """

    def __init__(
        self,
        estimator: BaseEstimator,
        max_rounds: int | None,
        *,
        X: Any = None,
        y: Any = None,
        sample_weight: Any = None,
    ) -> None:
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._arguments = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fit_task = self._round_task = None
        if not hasattr(estimator, "_init_callback_context"):
            return
        # Also without callbacks: a meta-estimator's tree of tasks goes through here.
        fit_task = estimator._init_callback_context(max_subtasks=max_rounds)
        if getattr(estimator, "_skl_callbacks", None):
            self._fit_task = fit_task
            self._fit_task.call_on_fit_task_begin(**self._arguments)

    @property
    def active(self) -> bool:
        """Whether there is a callback to call."""
        return self._fit_task is not None

    def round_begin(self) -> None:
        """Call the begin hook of the next round."""
        if self.active:
            self._round_task = self._fit_task.subcontext(task_name="round")
            self._round_task.call_on_fit_task_begin(**self._arguments)

    def round_end(self, fitted_attributes: Callable[[], dict[str, Any]]) -> bool:
        """Call the end hook of the round that was begun last.

        Parameters
        ----------
        fitted_attributes : callable
            Takes nothing and returns the dict of fitted attributes after this round.

        Returns
        -------
        bool
            Whether a callback asked to stop here.
        """
        if not self.active:
            return False
        return self._round_task.call_on_fit_task_end(
            **self._arguments, reconstruction_attributes=fitted_attributes
        )

    def fit_end(self) -> None:
        """Call the end hook of the fit; the estimator has its fitted attributes by now."""
        if self.active:
            self._fit_task.call_on_fit_task_end(**self._arguments, reconstruction_attributes={})


@functools.lru_cache(maxsize=1)
def _threadpool_controller() -> ThreadpoolController:
    """Look for the loaded BLAS libraries once: it takes milliseconds."""
    return ThreadpoolController()


class _BlasLimit:
    """The limit of this process and how many ask for it."""

    lock, users, limiter = threading.Lock(), 0, None


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Limit BLAS to one thread.

    Most BLAS builds have one limit for the whole process: the first one in sets it, the last
    one out lifts it, so that fits that overlap in threads do not restore each other's limit.

    Yields
    ------
    None

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_fedrecon._compat import single_threaded_blas
    >>> with single_threaded_blas():
    ...     gram = np.ones((2, 3)) @ np.ones((3, 2))
    """
    with _BlasLimit.lock:
        if _BlasLimit.users == 0:
            _BlasLimit.limiter = _threadpool_controller().limit(limits=1, user_api="blas")
        _BlasLimit.users += 1
    try:
        yield
    finally:
        with _BlasLimit.lock:
            _BlasLimit.users -= 1
            if _BlasLimit.users == 0:
                _BlasLimit.limiter.restore_original_limits()
