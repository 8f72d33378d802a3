"""Bytes, counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from sklearn_fedrecon._types import ServerModel
from sklearn_fedrecon.communication import message_bytes, model_bytes

N_ITEMS, K = 7, 3


def model(*, fit_bias=True, variances=True, dtype="float32"):
    d = K + fit_bias
    return ServerModel(
        item_factors=np.zeros((N_ITEMS, K), dtype),
        item_bias=np.zeros(N_ITEMS, dtype),
        global_mean=3.0,
        fit_bias=fit_bias,
        user_prior_mean=np.zeros(d, dtype),
        user_prior_variance=np.zeros(d, dtype),
        item_variance=np.zeros((N_ITEMS, K), dtype) if variances else None,
        item_bias_variance=np.zeros(N_ITEMS, dtype) if variances else None,
    )


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        # factors, their variances, biases, their variances; the prior's mean and variance;
        # the global mean, the noise variance and the item prior
        ({}, 7 * 3 + 7 * 3 + 7 + 7 + 2 * 4 + 3),
        ({"fit_bias": False}, 7 * 3 + 7 * 3 + 2 * 3 + 3),
        ({"variances": False}, 7 * 3 + 7 + 2 * 4 + 3),
        ({"variances": False, "fit_bias": False}, 7 * 3 + 2 * 3 + 3),
    ],
)
@pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("float64", 8)])
def test_model(options, numbers, dtype, itemsize):
    assert model_bytes(model(**options, dtype=dtype)) == numbers * itemsize


def test_model_grows_with_the_catalogue_only():
    small = model()
    larger = replace(
        small,
        item_factors=np.zeros((N_ITEMS + 1, K), "f4"),
        item_variance=np.zeros((N_ITEMS + 1, K), "f4"),
        item_bias=np.zeros(N_ITEMS + 1, "f4"),
        item_bias_variance=np.zeros(N_ITEMS + 1, "f4"),
    )
    assert model_bytes(larger) - model_bytes(small) == 4 * (K + K + 1 + 1)


def test_message():
    assert message_bytes(0, 0, 4) == 0
    assert message_bytes(5, 0, 8) == 5 * 4
    assert message_bytes(5, 11.0, 8) == 5 * 4 + 11 * 8
    assert isinstance(message_bytes(5.0, 11.0, 8), int)
