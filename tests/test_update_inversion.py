"""What the documentation says about privacy: one client's update gives its ratings away.

The reader of the update knows what the server knows and sent, and one client's message.
Were a change to make this test fail, the text in "What leaves a device and what never does"
would have to change with it.
"""

from dataclasses import replace

import numpy as np
import pytest

from sklearn_fedrecon._types import ClientRatings, DeviceContext
from sklearn_fedrecon.client_update import VariationalUpdate
from sklearn_fedrecon.reconstruction import VariationalReconstruction

N_ITEMS, N_COMPONENTS = 60, 4


@pytest.fixture
def model():
    """A server model in the middle of training, in single precision as by default."""
    rng = np.random.default_rng(0)
    start = VariationalReconstruction().initial_model(
        N_ITEMS, N_COMPONENTS, fit_bias=True, global_mean=3.5, scale=1.0, dtype="float32", seed=0
    )
    return replace(
        start,
        item_factors=rng.normal(0, 0.5, (N_ITEMS, N_COMPONENTS)).astype(np.float32),
        item_bias=rng.normal(0, 0.5, N_ITEMS).astype(np.float32),
        item_variance=np.full((N_ITEMS, N_COMPONENTS), 0.05, dtype=np.float32),
        user_prior_variance=np.full(N_COMPONENTS + 1, 0.3, dtype=np.float32),
        noise_variance=0.7,
    )


def message_of(items, ratings, model):
    """The update of a single client."""
    bounds, clients = np.array([0, len(items)]), np.array([0])
    own = ClientRatings(bounds, items, ratings, N_ITEMS, clients)
    reconstruction, context = VariationalReconstruction(), DeviceContext(0, 0)
    prepared = reconstruction.prepare(model)
    users = reconstruction.reconstruct(own, prepared, context)
    return VariationalUpdate().update(own, users, prepared, context)


def read_ratings(message, model):
    """Ratings from what the client sent and what the server had sent, nothing else."""
    rows, errors = (
        message.rows[name].spelt_out(message.pattern).astype(float)
        for name in ("item_factors", "item_bias")
    )
    items = message.pattern.items
    factors = model.item_factors[items].astype(float)
    user = [  # row = error * user - variance * factor: two unknowns in each component
        np.linalg.lstsq(np.column_stack([errors, -factors[:, j]]), rows[:, j])[0][0]
        for j in range(N_COMPONENTS)
    ]
    user_bias = message.statistics["bias_mean"][0]
    fitted = model.global_mean + model.item_bias[items] + factors @ user + user_bias
    return fitted + errors


@pytest.mark.parametrize("n_ratings", [2, 3, 10, 40])
@pytest.mark.parametrize("seed", range(3))
def test_one_update_in_the_clear_reveals_items_and_ratings(model, n_ratings, seed):
    rng = np.random.default_rng(seed)
    items = np.sort(rng.choice(N_ITEMS, n_ratings, replace=False)).astype(np.int32)
    ratings = rng.integers(1, 6, n_ratings).astype(np.float32)
    message = message_of(items, ratings, model)
    np.testing.assert_array_equal(message.pattern.items, items)
    np.testing.assert_allclose(read_ratings(message, model), ratings, atol=0.01)
