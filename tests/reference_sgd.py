"""The published algorithm as plain loops: one client, one rating at a time.

Pseudo-code made runnable, on lists and dicts, in float64; the package's vectorised steps are
tested against it. A rating is a tuple ``(item, value, weight)``.
"""

from dataclasses import dataclass, field


@dataclass
class Model:
    """What the server holds: item factors, item biases, global mean."""

    factors: list
    biases: list
    mean: float = 0.0
    fit_bias: bool = False
    learn_mean: bool = False

    def copy(self):
        rows = [list(row) for row in self.factors]
        return Model(rows, list(self.biases), self.mean, self.fit_bias, self.learn_mean)


@dataclass
class User:
    """What a device rebuilds: factor and bias."""

    factor: list
    bias: float = 0.0

    def copy(self):
        return User(list(self.factor), self.bias)


@dataclass
class Report:
    """Sums of what is measured before each step."""

    squared_error: float = 0.0
    examples: float = 0.0
    loss: float = 0.0
    batches: int = 0
    touched: set = field(default_factory=set)


def predict(model, user, item):
    """Rating of ``item``."""
    total = model.mean + model.biases[item] + user.bias
    for u, v in zip(user.factor, model.factors[item], strict=True):
        total += u * v
    return total


def cut(ratings, batch_size):
    """Consecutive batches; only the last may be short."""
    size = batch_size or max(1, len(ratings))
    return [ratings[start : start + size] for start in range(0, len(ratings), size)]


def by_parity(batches):
    """Batches 0, 2, 4, ... and batches 1, 3, 5, ..."""
    return batches[0::2], batches[1::2]


def schedule(batches, n_epochs, max_steps):
    """The batches in the order in which they are processed."""
    steps = [batch for _ in range(n_epochs) for batch in batches]
    return steps if max_steps is None else steps[:max_steps]


def weighted_errors(model, user, batch):
    """Error of each rating, and its weight over the weight of the batch."""
    total = sum(weight for _, _, weight in batch)
    errors = [value - predict(model, user, item) for item, value, _ in batch]
    return errors, [weight / total for _, _, weight in batch]


def reconstruct(model, user, steps, rate):
    """Gradient descent on the user with the items frozen."""
    user = user.copy()
    for batch in steps:
        errors, shares = weighted_errors(model, user, batch)
        for (item, _, _), error, share in zip(batch, errors, shares, strict=True):
            for j, v in enumerate(model.factors[item]):
                user.factor[j] += rate * 2 * share * error * v
            if model.fit_bias:
                user.bias += rate * 2 * share * error
    return user


def update(server, user, steps, rate, joint=False):
    """Gradient descent on the items, and on the user too where it is joint.

    Returns the device's model and user after the last step, and the report.
    """
    local, user, report = server.copy(), user.copy(), Report()
    for batch in steps:
        errors, shares = weighted_errors(local, user, batch)
        weight = sum(weight for _, _, weight in batch)
        loss = sum(share * error**2 for share, error in zip(shares, errors, strict=True))
        report.squared_error += weight * loss
        report.examples += weight
        report.loss += loss
        report.batches += 1
        before, user_before = local.copy(), user.copy()
        for (item, _, _), error, share in zip(batch, errors, shares, strict=True):
            step = rate * 2 * share * error
            report.touched.add(item)
            for j, u in enumerate(user_before.factor):
                local.factors[item][j] += step * u
                if joint:
                    user.factor[j] += step * before.factors[item][j]
            if server.fit_bias:
                local.biases[item] += step
                if joint:
                    user.bias += step
            if server.learn_mean:
                local.mean += step
    return local, user, report


def mean_delta(server, clients, uniform=False):
    """Weighted mean of the clients' moves: item factors, item biases, global mean.

    ``clients`` are pairs of a device's model and its report.
    """
    weights = [1.0 if uniform else report.examples for _, report in clients]
    total = sum(weights) or 1.0
    factors = [[0.0] * len(row) for row in server.factors]
    biases, mean = [0.0] * len(server.biases), 0.0
    for weight, (local, _) in zip(weights, clients, strict=True):
        for i, row in enumerate(local.factors):
            for j, value in enumerate(row):
                factors[i][j] += weight / total * (value - server.factors[i][j])
            biases[i] += weight / total * (local.biases[i] - server.biases[i])
        mean += weight / total * (local.mean - server.mean)
    return factors, biases, mean
