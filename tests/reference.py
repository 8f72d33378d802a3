"""The variational algorithm in plain loops: slow, short, and the judge of the fast code.

One client and one rating at a time, Python lists, float64; nothing is vectorised beyond vectors
and matrices of ``k`` numbers, and nothing of the package is imported. The model::

    r_ui = mu + b_i + c_u + v_i . u_u + noise,    noise ~ N(0, sigma2)

    device   z_u = (u_u, c_u) ~ N((0, ..., 0, m_c), diag(w, var_c)), posterior mean z, variance s
    server   v_i ~ N(0, diag(1 / lam_v)), b_i ~ N(0, 1 / lam_b), variances kappa_i, beta_i
"""

import copy
from dataclasses import dataclass, field

import numpy as np

FLOOR = 1e-8  # of the initial noise variance; as it is for the item factors, which have no unit


@dataclass
class Rating:
    """One rating on a device; several rows of one user and item are already one rating."""

    item: int
    value: float
    weight: float = 1.0
    scatter: float = 0.0  # weighted sum of squares of the merged rows about their mean


@dataclass
class Model:
    """All that the server knows. It starts from item factors and the variance of the ratings."""

    v: list  # n_items vectors of k numbers
    mu: float
    sigma2: float
    fit_bias: bool = True
    b: list = field(init=False)
    kappa: list = field(init=False)  # n_items vectors of k numbers
    beta: list = field(init=False)
    m_c: float = field(init=False, default=0.0)
    w: np.ndarray = field(init=False)
    var_c: float = field(init=False)
    lam_v: np.ndarray = field(init=False)  # of each component
    lam_b: float = field(init=False)
    # Running averages, and the sum of the rates of the rounds behind them.
    participation: float = field(init=False, default=0.0)
    n: list = field(init=False)  # number (weight) of ratings of each item
    M: np.ndarray = field(init=False)  # second moment of u
    c2: float = field(init=False, default=0.0)  # second moment of c
    unit: float = field(init=False)  # of variances: the initial noise variance

    def __post_init__(self):
        self.v = [np.array(v, dtype=np.float64) for v in self.v]
        n_items, k = len(self.v), len(self.v[0])
        self.unit = self.sigma2
        self.b = [0.0] * n_items
        self.kappa = [np.zeros(k) for _ in range(n_items)]
        self.beta = [0.0] * n_items
        self.w = np.full(k, self.unit)
        self.var_c = self.unit
        self.lam_v = np.ones(k)
        self.lam_b = 1 / self.unit
        self.n = [0.0] * n_items
        self.M = np.zeros((k, k))


@dataclass
class User:
    """A rebuilt user: posterior mean and variance of the factor and of the bias."""

    u: np.ndarray
    c: float
    s: np.ndarray
    s_c: float


@dataclass
class Message:
    """What a device sends, or what the devices of a cohort sent in sum."""

    g: dict  # of each rated item: k numbers
    e: dict  # the residual
    n: dict  # and the count (weight)
    noise: float
    u2: np.ndarray  # second moment of u
    c1: float
    c2: float  # first and second moment of c
    clients: int = 1


# --- before the first round ------------------------------------------------------------------


def merge(rows):
    """One client's ratings from rows (item, value, weight): the rows of an item become one."""
    ratings = []
    for item in sorted({item for item, _, _ in rows}):
        pair = [(value, weight) for other, value, weight in rows if other == item]
        weight = sum(w for _, w in pair)
        mean = sum(w * r for r, w in pair) / weight
        scatter = sum(w * (r - mean) ** 2 for r, w in pair)
        ratings.append(Rating(item, mean, weight, scatter))
    return ratings


def first_exchange(clients):
    """Mean and variance of all ratings, from three sums of every client."""
    weight = mean = 0.0
    for ratings in clients:
        weight += sum(rating.weight for rating in ratings)
        mean += sum(rating.weight * rating.value for rating in ratings)
    mean = mean / weight
    square = 0.0
    for ratings in clients:
        square += sum(r.weight * (r.value - mean) ** 2 + r.scatter for r in ratings)
    return mean, square / weight


# --- on a device -----------------------------------------------------------------------------


def reconstruct(support, model):
    """The posterior of one user given its ratings: a ridge regression on its items' rows."""
    k = len(model.w)
    lam = np.append(1 / model.w, 1 / model.var_c)
    m = np.append(np.zeros(k), model.m_c)
    A, right = np.diag(lam), lam * m
    for rating in support:
        x = np.append(model.v[rating.item], 1.0)
        y = rating.value - model.mu - model.b[rating.item]
        kappa = np.append(model.kappa[rating.item], 0.0)
        precision = rating.weight / model.sigma2
        A = A + precision * (np.outer(x, x) + np.diag(kappa))
        right = right + precision * x * y
    if not model.fit_bias:  # there is no last coordinate
        A, right = A[:k, :k], right[:k]
    z, s = np.linalg.solve(A, right), 1 / np.diag(A)
    return User(z[:k], z[k], s[:k], s[k]) if model.fit_bias else User(z, 0.0, s, 0.0)


def message(query, user, model):
    """What the device of a rebuilt user sends about its query ratings."""
    g, e, n, noise = {}, {}, {}, 0.0
    for rating in query:
        i, weight = rating.item, rating.weight
        v, kappa = model.v[i], model.kappa[i]
        residual = rating.value - model.mu - model.b[i] - user.c - v @ user.u
        g[i] = weight * (residual * user.u - user.s * v)
        e[i] = weight * residual
        n[i] = weight
        uncertain = v**2 @ user.s + user.s_c + kappa @ (user.u**2 + user.s) + model.beta[i]
        noise += weight * (residual**2 + uncertain) + rating.scatter
    second_moment = np.outer(user.u, user.u) + np.diag(user.s)
    return Message(g, e, n, noise, second_moment, user.c, user.c**2 + user.s_c)


# --- on the server ---------------------------------------------------------------------------


def add(messages):
    """The sum of a cohort's messages: all that the server looks at."""
    total = copy.deepcopy(messages[0])
    for other in messages[1:]:
        for sums, terms in [(total.g, other.g), (total.e, other.e), (total.n, other.n)]:
            for i, term in terms.items():
                sums[i] = sums.get(i, 0.0) + term
        total.noise += other.noise
        total.u2 = total.u2 + other.u2
        total.c1 += other.c1
        total.c2 += other.c2
        total.clients += other.clients
    return total


def server_step(model, total, rate=1.0, streaming=False):
    """The next model, from the summed messages of a cohort that is ``rate`` of all clients."""
    model = copy.deepcopy(model)
    n_items, k = len(model.v), len(model.w)
    t = model.participation / rate  # rounds so far, in rounds of this size
    rho = 1.0 if rate == 1 else 0.3 * (1 + t / 10) ** -0.7
    newest = 1.0 if rate == 1 else max(rho, 1 / (t + 1))

    def running(old, new):
        return (1 - newest) * old + newest * new

    g = [total.g.get(i, np.zeros(k)) / rate for i in range(n_items)]
    e = [total.e.get(i, 0.0) / rate for i in range(n_items)]
    n = [total.n.get(i, 0.0) / rate for i in range(n_items)]

    # 1. Moments and noise.
    model.participation += rate
    model.n = [running(model.n[i], n[i]) for i in range(n_items)]
    model.M = running(model.M, total.u2 / total.clients)
    model.sigma2 = running(model.sigma2, total.noise / sum(total.n.values()))
    model.sigma2 = max(model.sigma2, FLOOR * model.unit)
    if model.fit_bias:
        model.m_c = running(model.m_c, total.c1 / total.clients)
        model.c2 = running(model.c2, total.c2 / total.clients)
        model.var_c = max(model.c2 - model.m_c**2, FLOOR * model.unit)

    # 2. Principal axes of the users; a handed-in cohort must not turn items outside it.
    if not streaming:
        w, Q = principal_axes(model.M)
        model.M = np.diag(w)
        model.v = [v @ Q for v in model.v]
        model.lam_v = 1 / (Q**2).T.dot(1 / model.lam_v)  # the prior along the new axes
        g = [row @ Q for row in g]
    model.w = np.maximum(np.diag(model.M), FLOOR * model.unit)

    # 3. Items. Their prior pulls at them as often as their raters take part.
    for i in range(n_items):
        nobody = 0.0 if streaming else 1.0
        f = n[i] / model.n[i] if model.n[i] > 0 else nobody
        p = model.n[i] * model.w / model.sigma2 + model.lam_v
        model.v[i] = model.v[i] + rho * (g[i] / model.sigma2 - f * model.lam_v * model.v[i]) / p
        model.kappa[i] = 1 / p
        if model.fit_bias:
            q = model.n[i] / model.sigma2 + model.lam_b
            step = e[i] / model.sigma2 - f * model.lam_b * model.b[i]
            model.b[i] = model.b[i] + rho * step / q
            model.beta[i] = 1 / q

    # 4. Priors of the items, from those that were seen.
    seen = [i for i in range(n_items) if model.n[i] > 0]
    square = sum(model.v[i] ** 2 + model.kappa[i] for i in seen) / len(seen)
    model.lam_v = 1 / np.maximum(square, FLOOR)
    if model.fit_bias:
        square = sum(model.b[i] ** 2 + model.beta[i] for i in seen) / len(seen)
        model.lam_b = 1 / max(square, FLOOR * model.unit)
    return model if streaming else in_order(model)


def principal_axes(M):
    """Eigenvalues of M, largest first, and eigenvectors, the largest entry of each positive."""
    w, Q = np.linalg.eigh(M)
    w, Q = w[::-1], Q[:, ::-1].copy()
    for j in range(len(w)):
        if Q[np.argmax(np.abs(Q[:, j])), j] < 0:
            Q[:, j] = -Q[:, j]
    return w, Q


def in_order(model):
    """Components by the variance that they explain, largest first."""
    model = copy.deepcopy(model)
    explained = model.w * sum(n * v**2 for n, v in zip(model.n, model.v, strict=True))
    order = sorted(range(len(model.w)), key=lambda j: -explained[j])
    model.v = [v[order] for v in model.v]
    model.kappa = [kappa[order] for kappa in model.kappa]
    model.w = model.w[order]
    model.lam_v = model.lam_v[order]
    model.M = model.M[order][:, order]
    return model


# --- all together ----------------------------------------------------------------------------


def one_round(model, cohort, rate=1.0, streaming=False):
    """One round. The cohort is a list of (support, query), one pair of lists for a client."""
    messages = []
    for support, query in cohort:
        user = reconstruct(support, model)
        messages.append(message(query, user, model))
    if not any(sent.n for sent in messages):  # no rating was heard of: nothing changes
        return model
    return server_step(model, add(messages), rate, streaming)


def predict(model, user=None, item=None):
    """Mean and variance of a rating; of an unknown user or item (None) by its prior."""
    k = len(model.w)
    if user is None:
        user = User(np.zeros(k), model.m_c, model.w, model.var_c if model.fit_bias else 0.0)
    v, b = np.zeros(k), 0.0
    kappa, beta = 1 / model.lam_v, 1 / model.lam_b if model.fit_bias else 0.0
    if item is not None:
        v, b, kappa, beta = model.v[item], model.b[item], model.kappa[item], model.beta[item]
    mean = model.mu + b + user.c + v @ user.u
    variance = model.sigma2 + v**2 @ user.s + user.s_c + kappa @ (user.u**2 + user.s) + beta
    return mean, variance
