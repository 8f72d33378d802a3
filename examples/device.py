"""What a device does, with NumPy and nothing else: rebuild its user, rate every item.

    python examples/device.py model.npz 3=5 14=4.5 15=1

``model.npz`` was written by ``sklearn_fedrecon.persistence.save_model``; 3=5 is the user's own
rating of an item. They are used here and go nowhere. The equations are those of "The algorithm"
in the user guide, in float64; with ``reconstruction="variational"``.
"""

import sys

import numpy as np


def load(path):
    """What the server sent."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files if "." not in name}


def reconstruct(sent, items, ratings):
    """Posterior mean of the user: factors and, where biases are fitted, the bias."""
    rated = np.array([np.flatnonzero(sent["items"] == item)[0] for item in items], dtype=int)
    rows = design(sent)[rated]
    residuals = np.asarray(ratings) - sent["global_mean"] - sent["item_bias"][rated]
    precision = 1 / sent["user_prior_variance"].astype(float)
    system = np.diag(precision) + rows.T @ rows / sent["noise_variance"]
    k = sent["item_factors"].shape[1]
    system[range(k), range(k)] += sent["item_variance"][rated].sum(0) / sent["noise_variance"]
    right = precision * sent["user_prior_mean"] + rows.T @ residuals / sent["noise_variance"]
    return np.linalg.solve(system, right)


def score(sent, user):
    """What to rank every item by."""
    return sent["global_mean"] + sent["item_bias"] + design(sent) @ user


def predict(sent, user):
    """Predicted rating of every item, within the scale where one was declared."""
    return np.clip(score(sent, user), *sent.get("rating_scale", (-np.inf, np.inf)))


def design(sent):
    """The rows that a user is multiplied with."""
    ones = np.ones((len(sent["items"]), len(sent["user_prior_mean"])))
    ones[:, : sent["item_factors"].shape[1]] = sent["item_factors"]
    return ones


if __name__ == "__main__":
    sent, pairs = load(sys.argv[1]), [pair.rpartition("=") for pair in sys.argv[2:]]
    own = {sent["items"].dtype.type(item): float(rating) for item, _, rating in pairs}
    user = reconstruct(sent, own.keys(), list(own.values()))
    ratings = predict(sent, user)
    for best in np.argsort(-score(sent, user), kind="stable")[:10]:
        known = "  rated" if sent["items"][best] in own else ""
        print(f"{sent['items'][best]}  {ratings[best]:.2f}{known}")
