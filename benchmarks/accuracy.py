"""How good the predictions are: on ratings held out, and on users who were not in training.

Nothing is tuned: every model has its defaults, `n_components` apart. MovieLens ratings come
from `fetch_movielens` or from the archive that FEDRECON_MOVIELENS_ZIP names; without either,
that half is left out. Predictions are clipped to the rating scale. With ``--into``, the summary
alone is made: a page has no room for every seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings, oracle_predict

from ._data import movielens
from ._table import Table

SEEDS = range(5)
COMPONENTS = (16, 32)


def run(options) -> Iterator[Table]:
    components = options.components or COMPONENTS
    variant = options.movielens or "latest-small"
    try:
        bunch = movielens(variant)
    except OSError as error:
        if options.into:
            raise
        print(f"(no MovieLens {variant}: {error})")
    else:
        X, y = bunch.data, bunch.target
        scale = (float(y.min()), float(y.max()))
        seen = held_out_ratings(X, y, scale, f"MovieLens {variant}", components)
        unseen = unseen_users(X, y, scale, f"MovieLens {variant}", components)
        yield summary(seen, unseen, f"MovieLens {variant}")
        if options.into:
            return
        yield seen
        yield unseen
    for n_ratings in options.ratings or (1_000_000,):
        yield against_the_oracle(n_ratings, components)


def model(n_components: int, scale: tuple, seed: int) -> FederatedReconstructionMF:
    return FederatedReconstructionMF(n_components, rating_scale=scale, random_state=seed)


def rmse(y: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((y - predicted) ** 2)))


def gains(baseline: list[float], errors: list[float]) -> str:
    """Mean and least of what is better than the baseline, seed by seed."""
    gain = np.subtract(baseline, errors)
    return f"{gain.mean():.4f} (least {gain.min():.4f})"


def held_out_ratings(X, y, scale, name, components) -> Table:
    """90 % of the ratings train, in an order drawn from the seed; RMSE on the others."""
    errors = {"global mean": [], "biases only": [], **{f"k={k}": [] for k in components}}
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(y))
        train, test = np.split(order, [int(0.9 * len(y))])
        errors["global mean"].append(rmse(y[test], y[train].mean()))
        for label, k in [("biases only", 0), *((f"k={k}", k) for k in components)]:
            fitted = model(k, scale, seed).fit(X[train], y[train])
            errors[label].append(rmse(y[test], fitted.predict(X[test])))
    return error_table(f"Held-out ratings, {name}, 90/10, RMSE", errors)


def unseen_users(X, y, scale, name, components) -> Table:
    """80 % of the users train, a half of the ratings of 10 % is revealed; RMSE on the rest."""
    users = np.unique(X[:, 0])
    errors = {"global mean": [], "biases only": [], **{f"k={k}": [] for k in components}}
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        order = random.permutation(users)
        cuts = [int(0.8 * len(order)), int(0.9 * len(order))]
        train_users, _, test_users = np.split(order, cuts)
        train = np.isin(X[:, 0], train_users)
        support, query = halves(X, np.isin(X[:, 0], test_users), random)
        errors["global mean"].append(rmse(y[query], y[train].mean()))
        for label, k in [("biases only", 0), *((f"k={k}", k) for k in components)]:
            fitted = model(k, scale, seed).fit(X[train], y[train])
            served = fitted.personalize(X[support], y[support])
            errors[label].append(rmse(y[query], served.predict(X[query])))
    return error_table(f"Unseen users, {name}, 80/10/10, half of the ratings revealed", errors)


def halves(X, chosen: np.ndarray, random) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a random half of the ratings of each chosen user, and the other half."""
    rows = random.permutation(np.flatnonzero(chosen))
    rows = rows[np.argsort(X[rows, 0], kind="stable")]
    _, starts, counts = np.unique(X[rows, 0], return_index=True, return_counts=True)
    rank = np.arange(len(rows)) - np.repeat(starts, counts)
    revealed = rank < np.repeat((counts + 1) // 2, counts)
    return rows[revealed], rows[~revealed]


def error_table(title: str, errors: dict[str, list[float]]) -> Table:
    """Error of every seed, their mean, and the gain over the biases."""
    seeds = [f"seed {seed}" for seed in SEEDS]
    result = Table(title, ["model", *seeds, "mean", "gain over biases"])
    for label, values in errors.items():
        gain = gains(errors["biases only"], values) if label.startswith("k=") else None
        result.rows.append([label, *values, float(np.mean(values)), gain])
    return result


def summary(seen: Table, unseen: Table, name: str) -> Table:
    """Both questions side by side: mean RMSE over the seeds, and the gain over the biases."""
    result = Table(
        f"RMSE on held-out ratings, {name}, means of {len(SEEDS)} splits",
        ["model", "of seen users", "gain over biases", "of unseen users", "gain over biases"],
    )
    for known, new in zip(seen.rows, unseen.rows, strict=True):
        result.rows.append([known[0], *known[-2:], *new[-2:]])
    result.notes.append(
        "seen: a tenth of all ratings is held out; unseen: a tenth of the users is, and half of "
        "the ratings of each are revealed after training. All parameters but the "
        "rating scale and k, which is n_components, have their defaults. Gains: mean over the "
        "splits (least)."
    )
    return result


def against_the_oracle(n_ratings: int, components) -> Table:
    """Unseen users of `make_ratings`, beside what is possible at all."""
    default = n_ratings == 1_000_000
    truth = (
        make_ratings(random_state=0)
        if default
        else make_ratings(n_users=n_ratings // 165, n_ratings=n_ratings, random_state=0)
    )
    X, y, scale = truth.data, truth.target, truth.rating_scale
    random = np.random.default_rng(0)
    users = random.permutation(np.unique(X[:, 0]))
    chosen = np.isin(X[:, 0], users[: len(users) // 5])
    support, query = halves(X, chosen, random)
    floor = rmse(y[query], np.clip(truth.expected_ratings[query], *scale))
    oracle = rmse(y[query], oracle_predict(truth, X[support], y[support], X[query]))
    result = Table(
        f"Unseen users, make_ratings {n_ratings:,}, a fifth of the users, half revealed",
        ["model", "RMSE", "above the oracle %"],
        [["noise floor", floor, None], ["oracle", oracle, 0.0]],
    )
    for k in (0, *components):
        fitted = model(k, scale, 0).fit(X[~chosen], y[~chosen])
        error = rmse(y[query], fitted.personalize(X[support], y[support]).predict(X[query]))
        label = f"k={k}" if k else "biases only"
        result.rows.append([label, error, 100 * (error / oracle - 1)])
    return result
