"""What the updates by gradients share: rows, weights and measurements of a client."""

from __future__ import annotations

import numpy as np

from .._compat import StrOptions
from .._types import ClientRatings, Pattern, starts_and_end

CLIENT_WEIGHTS = [StrOptions({"examples", "uniform"})]


class Rows:
    """The rows that clients send, one for each item that a client touches.

    Attributes
    ----------
    pattern : Pattern
        Items ascend within a client.
    of_ratings : ndarray of shape (n_ratings + 1,)
        The row of each rating; a last one, ``n_rows``, for padding.
    """

    def __init__(self, ratings: ClientRatings):
        keys = ratings.owners() * ratings.n_items + ratings.items
        unique, rows = np.unique(keys, return_inverse=True)
        owners, items = np.divmod(unique, ratings.n_items)
        counts = np.bincount(owners, minlength=ratings.n_clients)
        items = items.astype(ratings.items.dtype)
        self.pattern = Pattern(starts_and_end(counts), items, ratings.n_items)
        self.of_ratings = np.append(rows.ravel(), len(unique))


class Measurements:
    """Sums over the steps of each client, of predictions made before the step.

    Repeats of an example count. The loss is a sum over batches of their mean squared error;
    see the report of a round for the means. What it would cost to predict the global mean, or
    zero where that is better, tells a large loss from one that diverged.

    Parameters
    ----------
    ratings : ClientRatings
        The query ratings.
    global_mean : float
    """

    def __init__(self, ratings: ClientRatings, global_mean: float):
        names = ("squared_error", "examples", "loss", "batches")
        self.sums: dict[str, np.ndarray] = {n: np.zeros(ratings.n_clients) for n in names}
        weights, owners = ratings.rating_weights(), ratings.owners()
        squares = ratings.values.astype(np.float64) ** 2
        errors = np.minimum(squares, (ratings.values - global_mean) ** 2)
        for name, numbers in (
            # Next to equal ratings cost next to nothing; a thousandth of their size is added.
            ("baseline_error", weights * (errors + 1e-3 * squares)),
            ("baseline_weight", weights),
        ):
            self.sums[name] = np.bincount(owners, numbers, minlength=ratings.n_clients)

    def add(
        self, clients: np.ndarray, errors: np.ndarray, shares: np.ndarray, weights: np.ndarray
    ) -> None:
        """Count one batch of each of ``clients``.

        Parameters
        ----------
        clients : ndarray of shape (n_active,)
        errors : ndarray of shape (n_active, width)
        shares : ndarray of shape (n_active, width)
            Weight of each rating over that of its batch.
        weights : ndarray of shape (n_active,)
            Weight of each batch.
        """
        loss = np.einsum("cb,cb,cb->c", shares, errors, errors, dtype=np.float64)
        self.sums["squared_error"][clients] += weights * loss
        self.sums["examples"][clients] += weights
        self.sums["loss"][clients] += loss
        self.sums["batches"][clients] += 1


def client_weights(kind: str, measured: Measurements) -> np.ndarray:
    """Weight of each client in the mean, shape (n_clients,).

    Parameters
    ----------
    kind : {"examples", "uniform"}
    measured : Measurements

    Returns
    -------
    weights : ndarray of shape (n_clients,)
    """
    examples = measured.sums["examples"]
    return examples.copy() if kind == "examples" else np.ones_like(examples)
