"""The paper's experiment: how well users are served who never took part, against rounds.

Federated Reconstruction as published, its baselines and the default of this package, on the
same users. Federated Averaging is trained once for each way to serve, with and without
fine-tuning. `--movielens VARIANT` takes real ratings and the published step sizes. Without, the
ratings are those of `make_ratings`, on which they diverge: users are rebuilt at half the
published rate then. `--figure FILE` draws the curves, `--repeats` sets the number of splits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.presets import federated_averaging, paper_movielens

from ._data import table
from ._pooled import PooledSGD
from ._table import Table
from ._unseen import Experiment, Halves, Point, judge, learning_curve, split_users

ROUNDS = 500
CHECKPOINTS = (1, 2, 3, 4, 5, 7, 10, 14, 20, 25, 35, 50, 70, 100, 140, 200, 280, 400)
SHOWN = (1, 5, 10, 25, 50, 100, 200, 500)  # in the tables
EPOCHS = 20  # of the centralized baseline, at most
SPLITS, MANY_USERS = 5, 2000  # one split where there are so many users
PAPER, VARIATIONAL = "paper", "variational (default)"
FINE_TUNED, CENTRAL = "FedAvg, fine-tuned", "centralized SGD, biases"
COHORTS = "variational, 100 clients"


def run(options) -> Iterator[Table]:
    for n_ratings in options.ratings or (1_000_000,):
        X, y, name = table(options, n_ratings)
        few = len(np.unique(X[:, 0])) < MANY_USERS
        splits = range(options.repeats or (SPLITS if few else 1))
        rate = 0.1 if options.movielens else 0.05
        experiments = [split_users(X, y, seed) for seed in splits]
        results = [results_of(experiment, methods(rate)) for experiment in experiments]
        yield final_table(name, experiments, results)
        yield rounds_table(f"RMSE, {name}", results, "rmse")
        yield rounds_table(f"Accuracy, {name}", results, "accuracy")
        yield step_sizes(name, experiments[0], rate)
        if options.figure:
            draw(results, name, options.figure)
        if options.movielens:
            return


def methods(
    rate: float, rounds: int = ROUNDS, clients: int = 100
) -> dict[str, FederatedReconstructionMF]:
    """Estimators by name; users are rebuilt at ``rate``, ``clients`` take part in a round."""
    cohorts = {"max_iter": rounds, "clients_per_round": clients}
    common = {"reconstruction__learning_rate": rate, **cohorts}
    biased = {"fit_bias": True, "global_mean": "federated"}
    return {
        PAPER: paper_movielens(**common),
        "paper, with biases": paper_movielens(**biased, **common),
        "FedAvg": federated_averaging(**common, reconstruction__n_epochs=0),
        FINE_TUNED: federated_averaging(**common),
        VARIATIONAL: FederatedReconstructionMF(max_iter=min(10, rounds)),
        COHORTS: FederatedReconstructionMF(**cohorts),
        "variational, biases only": FederatedReconstructionMF(0, max_iter=min(10, rounds)),
    }


def results_of(experiment: Experiment, estimators: dict) -> dict[str, dict]:
    """Curve of every method, and the bytes that a client sends in a round."""
    results = {"mean of the ratings": {"curve": [global_mean(experiment)]}}
    for fit_bias in (False, True):
        name = CENTRAL if fit_bias else "centralized SGD"
        results[name] = {"curve": [centralized(experiment, fit_bias)]}
    for name, model in estimators.items():
        rounds = sorted({n for n in (*CHECKPOINTS, *SHOWN) if n < model.max_iter})
        points, fitted = learning_curve(model, experiment, [*rounds, model.max_iter])
        results[name] = {"curve": points, "diverged": len(points) <= len(rounds)}
        if points:
            clients = fitted.history_["clients"].sum()
            results[name]["sparse_kB"] = float(fitted.history_["bytes_up"].sum() / clients / 1e3)
            results[name]["dense_kB"] = dense_bytes(fitted) / 1e3
    return results


def dense_bytes(model) -> int:
    """Upload of a client that sends a row for every item, as the paper counts it."""
    n_items, k = model.item_factors_.shape
    if model.item_variance_ is not None:  # rows, errors and counts; moments of the user
        numbers = n_items * (k + 2) + k * (k + 1) // 2 + 4
    else:
        learns_start = getattr(model.client_update, "learn_initial_user", False)
        numbers = n_items * (k + model.fit_bias) + k * learns_start
    return numbers * model.item_factors_.itemsize


def global_mean(experiment: Experiment) -> Point:
    """Point of the mean of the training ratings."""
    mean = experiment.y[experiment.train].mean()
    return judge(lambda held_out: np.full(len(held_out.query), mean), experiment, 0)


def centralized(experiment: Experiment, fit_bias: bool, epochs: int = EPOCHS) -> Point:
    """Point of the centralized baseline after the epoch that serves validation users best.

    Its upload is every training rating once: user, item and rating, 4 bytes each.
    """
    X, y, train = experiment.X, experiment.y, experiment.train
    model, points = PooledSGD(fit_bias=fit_bias, seed=experiment.seed), []

    def predict(held_out: Halves) -> np.ndarray:
        predicted = np.empty(len(held_out.query))
        for user in np.unique(X[held_out.query, 0]):
            own = held_out.support[X[held_out.support, 0] == user]
            asked = X[held_out.query, 0] == user
            rebuilt = model.rebuild(X[own, 1], y[own])
            predicted[asked] = model.predict(rebuilt, X[held_out.query[asked], 1])
        return predicted

    begun = time.process_time()
    for epoch in model.epochs(X[train, 0], X[train, 1], y[train], experiment.n_items, epochs):
        seconds = time.process_time() - begun
        spent = {"megabytes_up": 12 * len(train) / 1e6, "cpu_seconds": seconds}
        points.append(judge(predict, experiment, epoch, **spent))
        begun = time.process_time() - seconds  # judging does not count
    return min(points, key=lambda point: point.validation_rmse)


def final_table(name: str, experiments: list[Experiment], results: list[dict]) -> Table:
    """Means over the splits after the last round of every method."""
    columns = ["method", "rounds", "RMSE", "± over splits", "accuracy", "RMSE clipped"]
    columns += ["RMSE often rated", "kB up sparse", "kB up dense", "MB up, all", "CPU"]
    result = Table(f"Users that never took part, {name}", columns)
    papers = [outcome[PAPER]["curve"] for outcome in results]
    yardstick = sum(curve[-1].cpu_seconds for curve in papers) if all(papers) else float("nan")
    for method in results[0]:
        row = final_row(method, [outcome[method] for outcome in results], yardstick)
        result.rows.append([method, *row])
    tests = [experiment.test.query for experiment in experiments]
    users = len(np.unique(experiments[0].X[tests[0], 0]))
    often = np.mean([experiment.often().mean() for experiment in experiments])
    result.notes = [
        f"{len(results)} split(s) of the users into 80 % training, 10 % validation, 10 % test: "
        f"{users} test users, {np.mean([len(query) for query in tests]):,.0f} ratings predicted.",
        "± over splits: standard deviation of the RMSE. Accuracy: share of errors of at most 0.5. "
        "Neither clips predictions; the next column does.",
        f"Often rated: by at least 10 training users, {100 * often:.0f} % of what is predicted.",
        "kB up: of a client in a round, only rows of its items, or rows of all. MB up: all "
        "rounds and clients, sparse. CPU of all rounds, relative to that of the paper's.",
        "Centralized: 50 components, epoch chosen by validation users, every rating sent once.",
    ]
    return result


def final_row(method: str, outcomes: list[dict], yardstick: float) -> list:
    """The numbers of a method; ``yardstick`` is the CPU time of the paper's."""
    curves = [outcome["curve"] for outcome in outcomes]
    if not all(curves):
        return ["diverges", *[None] * 9]
    last = [curve[-1] for curve in curves]
    errors = [point.rmse for point in last]
    sizes = [
        float(np.mean([outcome[kind] for outcome in outcomes])) if kind in outcomes[0] else None
        for kind in ("sparse_kB", "dense_kB")
    ]
    return [
        rounds_text(method, last, any(outcome.get("diverged") for outcome in outcomes)),
        mean(last, "rmse"),
        float(np.std(errors)) if len(errors) > 1 else None,
        *(mean(last, name) for name in ("accuracy", "clipped_rmse", "often_rmse")),
        *sizes,
        mean(last, "megabytes_up") or None,
        sum(point.cpu_seconds for point in last) / yardstick or None,
    ]


def rounds_text(method: str, last: list[Point], diverged: bool) -> str:
    """How long a method was trained."""
    if diverged:
        return "diverges"
    steps = sorted({point.rounds for point in last})
    if steps == [0]:
        return "-"
    text = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    return f"{text} epochs" if method.startswith("centralized") else text


def mean(points: list[Point], name: str) -> float:
    return float(np.mean([getattr(point, name) for point in points]))


def rounds_table(title: str, results: list[dict], measure: str) -> Table:
    """A measure after some numbers of rounds, means over the splits."""
    result = Table(f"{title}, after rounds", ["method", *map(str, SHOWN)])
    for method in results[0]:
        curves = [{p.rounds: p for p in outcome[method]["curve"]} for outcome in results]
        if len(results[0][method]["curve"]) < 2:
            continue
        result.rows.append(
            [
                method,
                *(
                    mean([curve[n] for curve in curves], measure)
                    if all(n in curve for curve in curves)
                    else None
                    for n in SHOWN
                ),
            ]
        )
    return result


def step_sizes(name: str, experiment: Experiment, rate: float, rounds: int = ROUNDS) -> Table:
    """Step sizes of users and of items, halved and doubled."""
    result = Table(
        f"RMSE of validation users after {rounds} rounds, {name}, one split",
        ["step sizes of users", "of items", PAPER, FINE_TUNED],
    )
    for users, items in ((0.5, 0.5), (1.0, 1.0), (2.0, 1.0), (1.0, 2.0)):
        row = [f"{users * rate:g}", f"x {items:g}"]
        for method in (PAPER, FINE_TUNED):
            model = methods(rate, rounds)[method]
            update = items * model.client_update.learning_rate
            model.set_params(
                reconstruction__learning_rate=users * rate, client_update__learning_rate=update
            )
            points, _ = learning_curve(model, experiment, [rounds])
            row.append(points[-1].validation_rmse if points else "diverges")
        result.rows.append(row)
    return result


def draw(results: list[dict], name: str, path: Path) -> None:
    """Curves of the methods, means over the splits."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    panels = [
        ("rounds", "rmse", "RMSE"),
        ("rounds", "often_rmse", "RMSE, items rated often"),
        ("rounds", "accuracy", "Accuracy (errors of at most 0.5)"),
        ("megabytes_up", "rmse", "RMSE"),
    ]
    for ax, (across, measure, label) in zip(axes.flat, panels, strict=True):
        for method in results[0]:
            curves = [outcome[method]["curve"] for outcome in results]
            n_points = min(map(len, curves))
            columns = [[curve[i] for curve in curves] for i in range(n_points)]
            values = [mean(points, measure) for points in columns]
            if method == CENTRAL or (method == "mean of the ratings" and measure != "accuracy"):
                ax.axhline(
                    values[0], color="grey", ls=":" if method == CENTRAL else "--", label=method
                )
            elif n_points > 1 and method != "variational, biases only":
                ax.plot([mean(points, across) for points in columns], values, ".-", label=method)
        ax.set(
            xscale="log",
            ylabel=label,
            xlabel="rounds" if across == "rounds" else "upload of all clients, MB (sparse)",
        )
        if measure != "accuracy":
            ax.set_ylim(0.8, 2.0)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.suptitle(f"Users that never took part, {name}")
    figure.savefig(path)
