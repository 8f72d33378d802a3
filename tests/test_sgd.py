"""Reconstruction and updates by SGD: the vectorised steps against plain loops."""

from dataclasses import replace

import numpy as np
import pytest
import reference_sgd as reference

from sklearn_fedrecon._kernels._minibatches import step_blocks
from sklearn_fedrecon._round import Question, RoundParts, answer, run_round
from sklearn_fedrecon._types import (
    ClientRatings,
    DeviceContext,
    Prepared,
    ServerContext,
    ServerModel,
    ServerState,
    UserStates,
)
from sklearn_fedrecon.aggregation import Mean
from sklearn_fedrecon.client_update import GradientUpdate, JointUpdate, SGDUpdate
from sklearn_fedrecon.reconstruction import RidgeReconstruction, SGDReconstruction
from sklearn_fedrecon.server_optimizers import SGD
from sklearn_fedrecon.splitting import BatchParitySplit, NoSplit, RandomSplit

N_ITEMS, K = 9, 3
DEVICES = DeviceContext(round=0, seed=0)
SERVER = ServerContext(round=0, rate=1.0, n_clients=12, seed=0)


def rebuilt(part, ratings, model, context=DEVICES):
    """Users from their ratings, the model prepared as the part wants it."""
    return part.reconstruct(ratings, part.prepare(model), context)


def sent(part, ratings, users, model):
    """What clients send."""
    return part.update(ratings, users, Prepared.of(model), DEVICES)


def total_of(ratings, model, parts):
    """The sum of what all clients send in a round."""
    return answer(ratings, Question(model, parts, DEVICES))


def random_ratings(random, lengths, *, weighted):
    """Clients of the given lengths; items repeat within most of them."""
    n = sum(lengths)
    return ClientRatings(
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        items=random.integers(N_ITEMS, size=n).astype(np.int32),
        values=random.normal(3.0, 1.0, n),
        n_items=N_ITEMS,
        clients=np.arange(len(lengths)),
        weights=random.uniform(0.2, 2.0, n) if weighted else None,
    )


def random_model(random, *, fit_bias, learn_mean):
    return ServerModel(
        item_factors=random.normal(0.0, 0.5, (N_ITEMS, K)),
        item_bias=random.normal(0.0, 0.3, N_ITEMS) * fit_bias,
        global_mean=2.5,
        fit_bias=fit_bias,
        user_prior_mean=random.normal(0.0, 0.5, K + fit_bias),
        user_prior_variance=np.ones(K + fit_bias),
        learn_global_mean=learn_mean,
    )


def loops(model):
    """The same model for the plain loops."""
    return reference.Model(
        model.item_factors.tolist(),
        model.item_bias.tolist(),
        model.global_mean,
        model.fit_bias,
        model.learn_global_mean,
    )


def tuples(ratings, client):
    rows = slice(ratings.indptr[client], ratings.indptr[client + 1])
    weights = ratings.rating_weights()
    return list(
        zip(
            ratings.items[rows].tolist(),
            ratings.values[rows].tolist(),
            weights[rows].tolist(),
            strict=True,
        )
    )


def random_configuration(seed):
    """Everything that a round by SGD depends on, drawn at random."""
    random = np.random.default_rng(seed)
    fit_bias, learn_mean = random.random(2) < 0.5
    model = random_model(random, fit_bias=bool(fit_bias), learn_mean=bool(learn_mean))
    lengths = random.integers(0, 14, 12)
    ratings = random_ratings(random, lengths, weighted=bool(random.random() < 0.5))
    batch_size = int(random.integers(1, 6))
    if random.random() < 0.5:
        split = BatchParitySplit(batch_size, shuffle=False)
    else:
        split = NoSplit(None if random.random() < 0.3 else batch_size, shuffle=False)

    def steps():
        cap = None if random.random() < 0.5 else int(random.integers(0, 7))
        return {"n_epochs": int(random.integers(1, 4)), "max_steps": cap}

    reconstruction = SGDReconstruction(**steps(), learning_rate=0.07, init=[0.1, -0.2, 0.3])
    kind = JointUpdate if random.random() < 0.4 else SGDUpdate
    weights = "uniform" if random.random() < 0.5 else "examples"
    update = kind(**steps(), learning_rate=0.06, client_weights=weights)
    return model, ratings, RoundParts(split, reconstruction, update, Mean(), SGD())


def plain_round(model, ratings, parts):
    """Mean delta and reports of a round, one client after the other."""
    server, done = loops(model), []
    for client in range(ratings.n_clients):
        batches = reference.cut(tuples(ratings, client), parts.split.batch_size)
        support, query = batches, batches
        if isinstance(parts.split, BatchParitySplit):
            support, query = reference.by_parity(batches)
        r, u = parts.reconstruction, parts.client_update
        support = reference.schedule(support, r.n_epochs, r.max_steps)
        query = reference.schedule(query, u.n_epochs, u.max_steps)
        user = reference.User(list(r.init))
        user = reference.reconstruct(server, user, support, r.learning_rate)
        joint = isinstance(u, JointUpdate)
        local, _, report = reference.update(server, user, query, u.learning_rate, joint)
        done.append((local, report))
    uniform = parts.client_update.client_weights == "uniform"
    return reference.mean_delta(server, done, uniform), [report for _, report in done]


@pytest.mark.parametrize("seed", range(60))
def test_round_equals_the_plain_loops(seed):
    model, ratings, parts = random_configuration(seed)
    total = total_of(ratings, model, parts)
    outcome = parts.aggregator.finish(total, {}, SERVER)
    aggregate, measured = outcome.aggregate, outcome.measurements
    (factors, biases, mean), reports = plain_round(model, ratings, parts)

    np.testing.assert_allclose(aggregate.rows["item_factors"], factors, rtol=0, atol=1e-10)
    assert ("item_bias" in aggregate.rows) == model.fit_bias
    if model.fit_bias:
        np.testing.assert_allclose(aggregate.rows["item_bias"], biases, rtol=0, atol=1e-10)
    assert ("global_mean" in aggregate.statistics) == model.learn_global_mean
    if model.learn_global_mean:
        np.testing.assert_allclose(aggregate.statistics["global_mean"], mean, rtol=0, atol=1e-10)
    for name in ("squared_error", "examples", "loss", "batches"):
        expected = sum(getattr(report, name) for report in reports)
        np.testing.assert_allclose(measured[name], expected, rtol=1e-10)
    assert measured["sent_indices"] == sum(len(report.touched) for report in reports)


@pytest.mark.parametrize("fit_bias", [False, True])
@pytest.mark.parametrize("n_epochs", [1, 3])
def test_users_equal_the_plain_loops(fit_bias, n_epochs):
    random = np.random.default_rng(n_epochs)
    model = random_model(random, fit_bias=fit_bias, learn_mean=False)
    ratings = replace(random_ratings(random, [7, 0, 1, 12, 3], weighted=True), batch_size=3)
    part = SGDReconstruction(n_epochs, max_steps=5, learning_rate=0.1, init=0.4)
    users = rebuilt(part, ratings, model)
    for client in range(ratings.n_clients):
        batches = reference.cut(tuples(ratings, client), 3)
        steps = reference.schedule(batches, n_epochs, 5)
        user = reference.reconstruct(loops(model), reference.User([0.4] * K), steps, 0.1)
        np.testing.assert_allclose(users.factors(K)[client], user.factor, rtol=0, atol=1e-12)
        np.testing.assert_allclose(users.bias(K)[client], user.bias, rtol=0, atol=1e-12)


def test_initial_user_is_learned_from_how_far_users_moved():
    random = np.random.default_rng(3)
    model = random_model(random, fit_bias=True, learn_mean=False)
    ratings = replace(random_ratings(random, [6, 9, 2], weighted=False), batch_size=2)
    reconstruction = SGDReconstruction(n_epochs=0, init="server")
    update = JointUpdate(learning_rate=0.05, learn_initial_user=True)
    parts = RoundParts(RandomSplit(0.0, batch_size=2), reconstruction, update, Mean(), SGD())
    users = rebuilt(reconstruction, ratings, model)
    np.testing.assert_array_equal(users.states, np.tile(model.user_prior_mean, (3, 1)))

    moved = sent(update, ratings, users, model).statistics["user_prior_mean"]
    start = reference.User(model.user_prior_mean[:K].tolist(), float(model.user_prior_mean[K]))
    for client in range(3):
        steps = reference.cut(tuples(ratings, client), 2)
        _, user, _ = reference.update(loops(model), start, steps, 0.05, joint=True)
        after = np.append(user.factor, user.bias)
        np.testing.assert_allclose(moved[client], after - model.user_prior_mean, atol=1e-12)

    state = ServerState(model, {}, SGD().init(model))
    state, outcome = run_round(ratings, state, parts, DEVICES, SERVER, lambda f, r: [f(r)])
    assert outcome.measurements["examples"] == ratings.n_ratings  # the support was empty
    assert not np.allclose(state.model.user_prior_mean, model.user_prior_mean)


@pytest.mark.parametrize("weights", ["examples", "uniform"])
def test_gradient_is_that_of_the_mean_squared_error(weights):
    random = np.random.default_rng(5)
    model = random_model(random, fit_bias=True, learn_mean=False)
    ratings = random_ratings(random, [4, 11, 1], weighted=False)
    users = UserStates(random.normal(size=(3, K + 1)))
    messages = sent(GradientUpdate(weights), ratings, users, model)
    aggregate = Mean().finish(Mean().encode(messages, DEVICES), {}, SERVER).aggregate

    def error(factors):
        changed = Prepared.of(replace(model, item_factors=factors))
        predicted = np.einsum(
            "rj,rj->r", changed.design[ratings.items], users.states[ratings.owners()]
        )
        squares = np.square(changed.residuals(ratings) - predicted)
        if weights == "examples":
            return squares.mean()
        return np.mean([squares[ratings.owners() == client].mean() for client in range(3)])

    slope = np.empty_like(model.item_factors)
    for place in np.ndindex(slope.shape):
        ahead, behind = model.item_factors.copy(), model.item_factors.copy()
        ahead[place] += 1e-6
        behind[place] -= 1e-6
        slope[place] = (error(ahead) - error(behind)) / 2e-6
    np.testing.assert_allclose(aggregate.rows["item_factors"], -slope, atol=1e-7)


@pytest.mark.parametrize("fit_bias", [False, True])
def test_ridge_solves_the_normal_equations(fit_bias):
    random = np.random.default_rng(7)
    model = random_model(random, fit_bias=fit_bias, learn_mean=False)
    ratings = random_ratings(random, [5, 0, 1, 13], weighted=True)
    users = rebuilt(RidgeReconstruction(alpha=0.7), ratings, model)
    assert users.variances is None
    for client in range(4):
        rows = slice(ratings.indptr[client], ratings.indptr[client + 1])
        x = Prepared.of(model).design[ratings.items[rows]]
        w, y = ratings.weights[rows], Prepared.of(model).residuals(ratings)[rows]
        left = x.T @ (w[:, None] * x) + 0.7 * np.eye(x.shape[1])
        expected = np.linalg.solve(left, x.T @ (w * y))
        np.testing.assert_allclose(users.states[client], expected, atol=1e-10)


def test_a_client_does_not_depend_on_who_else_is_there():
    random = np.random.default_rng(11)
    model = random_model(random, fit_bias=True, learn_mean=True)
    ratings = replace(random_ratings(random, [9, 4, 0, 30, 5], weighted=False), batch_size=4)
    part, update = SGDReconstruction(n_epochs=2), SGDUpdate(n_epochs=2)
    together = rebuilt(part, ratings, model)
    messages = sent(update, ratings, together, model)
    for client in range(5):
        alone = ratings.take(np.array([client]))
        user = rebuilt(part, alone, model)
        np.testing.assert_array_equal(user.states[0], together.states[client])
        message = sent(update, alone, user, model)
        rows = slice(*messages.pattern.indptr[client : client + 2])
        own, among_others = (
            update.rows["item_factors"].spelt_out(update.pattern) for update in (message, messages)
        )
        np.testing.assert_array_equal(own, among_others[rows])


def test_blocks_hold_every_client_once_and_are_small(monkeypatch):
    monkeypatch.setattr("sklearn_fedrecon._kernels._minibatches.BLOCK_SIZE", 12)
    random = np.random.default_rng(13)
    lengths = [3, 25, 0, 8, 1, 14, 6]
    ratings = replace(random_ratings(random, lengths, weighted=False), batch_size=4)
    blocks = list(step_blocks(ratings, 2, 5))
    clients = np.concatenate([block.clients for block in blocks])
    assert sorted(clients) == [0, 1, 3, 4, 5, 6]  # who has no rating takes no step
    for block in blocks:
        assert len(block.clients) * block.positions.shape[1] <= 12
        assert (np.diff(block.n_steps) <= 0).all()
        sizes = [len(batches) for batches in block.steps()]
        assert sum(sizes) == block.n_steps.sum()
    steps = {int(c): int(n) for b in blocks for c, n in zip(b.clients, b.n_steps, strict=True)}
    assert steps == {0: 2, 1: 5, 3: 4, 4: 2, 5: 5, 6: 4}


def test_blocks_change_nothing(monkeypatch):
    model, ratings, parts = random_configuration(1)
    whole = total_of(ratings, model, parts)
    monkeypatch.setattr("sklearn_fedrecon._kernels._minibatches.BLOCK_SIZE", 2)
    cut = total_of(ratings, model, parts)
    np.testing.assert_array_equal(cut.rows["item_factors"], whole.rows["item_factors"])


@pytest.mark.parametrize("split", [BatchParitySplit(4, shuffle=False), NoSplit(4, shuffle=False)])
@pytest.mark.parametrize("update", [SGDUpdate(), JointUpdate()])
@pytest.mark.parametrize("weights", ["examples", "uniform"])
def test_a_diverged_client_harms_nobody_else(split, update, weights):
    """Not even by the padding of a short batch, which others use after it."""
    random = np.random.default_rng(17)
    model = random_model(random, fit_bias=True, learn_mean=True)
    ratings = random_ratings(random, [9, 7, 3, 14], weighted=False)
    broken = replace(ratings, values=ratings.values.copy())
    broken.values[ratings.indptr[1]] = np.nan
    update.set_params(client_weights=weights)
    parts = RoundParts(split, SGDReconstruction(), update, Mean(), SGD())
    total = total_of(broken, model, parts)
    assert total.measurements["rejected"] == 1
    assert np.isnan(total.measurements["squared_error"])
    without = total_of(ratings.take(np.array([0, 2, 3])), model, parts)
    assert total.client_weight == without.client_weight
    for name, value in (without.rows | without.statistics).items():
        np.testing.assert_allclose((total.rows | total.statistics)[name], value, atol=1e-12)


def test_a_broken_client_without_query_still_counts_when_weights_are_uniform():
    random = np.random.default_rng(19)
    model = random_model(random, fit_bias=False, learn_mean=False)
    ratings = random_ratings(random, [3, 9], weighted=False)
    ratings.values[0] = np.nan
    parts = RoundParts(
        BatchParitySplit(4, shuffle=False),
        SGDReconstruction(),
        SGDUpdate(client_weights="uniform"),
        Mean(),
        SGD(),
    )
    total = total_of(ratings, model, parts)
    assert total.client_weight == 2  # its delta is zero, which is finite
    assert total.measurements["rejected"] == 0


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_nobody_has_a_query(momentum):
    random = np.random.default_rng(23)
    model = random_model(random, fit_bias=True, learn_mean=True)
    ratings = random_ratings(random, [2, 4, 1], weighted=False)
    parts = RoundParts(
        BatchParitySplit(4), SGDReconstruction(), SGDUpdate(), Mean(), SGD(1.0, momentum)
    )
    state = ServerState(model, {}, parts.server_optimizer.init(model))
    state, outcome = run_round(ratings, state, parts, DEVICES, SERVER, lambda f, r: [f(r)])
    assert outcome.measurements["examples"] == 0
    np.testing.assert_array_equal(state.model.item_factors, model.item_factors)


def test_uniform_start_is_within_its_bounds_and_differs_by_client_and_round():
    random = np.random.default_rng(29)
    model = random_model(random, fit_bias=True, learn_mean=False)
    ratings = random_ratings(random, [0] * 400, weighted=False)
    part = SGDReconstruction()
    first = rebuilt(part, ratings, model)
    second = rebuilt(part, ratings, model, replace(DEVICES, round=1))
    start = first.factors(K)
    assert np.abs(start).max() <= 0.05
    assert abs(start.mean()) < 0.003
    assert start.std() == pytest.approx(0.05 / np.sqrt(3), rel=0.05)
    assert len(np.unique(np.concatenate([start, second.factors(K)]))) == 2 * start.size
    np.testing.assert_array_equal(first.bias(K), 0)


def test_constant_start_must_fit():
    random = np.random.default_rng(31)
    model = random_model(random, fit_bias=True, learn_mean=False)
    ratings = random_ratings(random, [2], weighted=False)
    with pytest.raises(ValueError, match=r"shape \(2,\).*n_components=3"):
        rebuilt(SGDReconstruction(init=[0.1, 0.2]), ratings, model)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initial_model(dtype):
    model = SGDReconstruction(init="server").initial_model(
        500, 8, fit_bias=True, global_mean=0.0, scale=2.0, dtype=dtype, seed=0
    )
    assert model.dtype == dtype
    assert np.abs(model.item_factors).max() <= 0.05
    assert model.item_factors.std() == pytest.approx(0.05 / np.sqrt(3), rel=0.05)
    assert not model.item_bias.any()
    assert model.user_prior_mean[:8].all()
    assert model.user_prior_mean[8] == 0
    plain = SGDReconstruction().initial_model(
        500, 8, fit_bias=True, global_mean=0.0, scale=2.0, dtype=dtype, seed=0
    )
    assert not plain.user_prior_mean.any()
    np.testing.assert_array_equal(plain.item_factors, model.item_factors)


@pytest.mark.parametrize("part", [SGDReconstruction(), SGDUpdate(), JointUpdate()])
def test_no_components_and_no_biases_is_no_model_but_no_error(part):
    random = np.random.default_rng(37)
    model = replace(
        random_model(random, fit_bias=False, learn_mean=True),
        item_factors=np.zeros((N_ITEMS, 0)),
        user_prior_mean=np.zeros(0),
    )
    ratings = random_ratings(random, [5, 3], weighted=False)
    users = rebuilt(SGDReconstruction(), ratings, model)
    assert users.states.shape == (2, 0)
    if hasattr(part, "update"):
        messages = sent(part, ratings, users, model)
        expected = [
            part.learning_rate * 2 * Prepared.of(model).residuals(ratings)[:5].mean(),
            part.learning_rate * 2 * Prepared.of(model).residuals(ratings)[5:].mean(),
        ]
        np.testing.assert_allclose(messages.statistics["global_mean"], expected)
