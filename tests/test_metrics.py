"""Rating and ranking metrics against scikit-learn and against plain enumeration."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import mean_absolute_error, mean_squared_error, ndcg_score, r2_score

from sklearn_fedrecon.metrics import (
    aggregate,
    coverage_at_k,
    hit_rate_at_k,
    mae,
    ndcg_at_k,
    per_client,
    rating_accuracy,
    recall_at_k,
    rmse,
)

RANKING = {"ndcg": ndcg_at_k, "recall": recall_at_k, "hit_rate": hit_rate_at_k}


@pytest.fixture
def ratings():
    rng = np.random.default_rng(0)
    y_true = rng.integers(1, 6, 200).astype(float)
    y_pred = y_true + rng.normal(size=200)
    clients = rng.choice(["ann", "bob", "cem", "dee"], 200, p=[0.7, 0.2, 0.05, 0.05])
    return y_true, y_pred, clients, rng.integers(0, 4, 200)


@pytest.mark.parametrize("weighted", [False, True])
def test_errors_equal_those_of_scikit_learn(ratings, weighted):
    y_true, y_pred, _, weights = ratings
    options = {"sample_weight": weights} if weighted else {}
    expected = mean_squared_error(y_true, y_pred, **options)
    assert rmse(y_true, y_pred, **options) == pytest.approx(np.sqrt(expected))
    expected = mean_absolute_error(y_true, y_pred, **options)
    assert mae(y_true, y_pred, **options) == pytest.approx(expected)


def test_float32_is_averaged_in_float64():
    y_true = np.full(1_000_001, 0.1, dtype=np.float32)
    assert mae(y_true, np.zeros_like(y_true)) == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_rating_accuracy_counts_errors_up_to_the_tolerance():
    y_true, y_pred = [1, 2, 3, 4], [1.5, 1.5, 3.51, 4.0]
    assert rating_accuracy(y_true, y_pred) == 0.75
    assert rating_accuracy(y_true, y_pred, tolerance=0) == 0.25
    assert rating_accuracy(y_true, y_pred, sample_weight=[0, 0, 3, 1]) == 0.25


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", [rmse, mae, r2_score])
def test_per_client_equals_a_loop_over_clients(ratings, metric, weighted):
    y_true, y_pred, clients, weights = ratings
    table = per_client(
        metric, y_true, y_pred, clients, sample_weight=weights if weighted else None
    )
    assert table["client"].tolist() == ["ann", "bob", "cem", "dee"]
    for client, value, n_ratings in zip(*table.values(), strict=True):
        mine = (clients == client) & (weights > 0 if weighted else True)
        options = {"sample_weight": weights[mine]} if weighted else {}
        assert value == pytest.approx(metric(y_true[mine], y_pred[mine], **options))
        assert n_ratings == mine.sum()


def test_per_client_does_not_depend_on_the_order_of_rows(ratings):
    y_true, y_pred, clients, _ = ratings
    order = np.random.default_rng(1).permutation(len(y_true))
    table = pd.DataFrame(per_client(mae, y_true, y_pred, clients))
    shuffled = pd.DataFrame(per_client(mae, y_true[order], y_pred[order], clients[order]))
    pd.testing.assert_frame_equal(table, shuffled)


def test_a_client_whose_ratings_all_have_weight_zero_is_left_out():
    table = per_client(mae, [1, 2, 3], [2, 2, 5], [7, 8, 7], sample_weight=[0, 1, 0])
    assert table["client"].tolist() == [8]


def test_aggregate_tells_ratings_from_clients(ratings):
    y_true, y_pred, clients, _ = ratings
    y_pred[clients == "dee"] += 10
    summary = aggregate(rmse, y_true, y_pred, clients, quantiles=(0.25, 1.0))
    values = [rmse(y_true[clients == c], y_pred[clients == c]) for c in np.unique(clients)]
    assert summary == {
        "by_ratings": pytest.approx(rmse(y_true, y_pred)),
        "by_clients": pytest.approx(np.mean(values)),
        "quantile_0.25": pytest.approx(np.quantile(values, 0.25)),
        "quantile_1.0": pytest.approx(max(values)),
    }
    assert summary["by_clients"] > 1.3 * summary["by_ratings"]


@pytest.mark.parametrize(
    ("y_true", "y_pred", "options", "message"),
    [
        ([1, 2], [1], {}, "inconsistent numbers of samples"),
        ([1, np.nan], [1, 2], {}, "y_true contains NaN"),
        ([1, 2], [np.inf, 2], {}, "y_pred contains infinity"),
        ([[1, 2]], [[1, 2]], {}, "1d array"),
        ([], [], {}, "0 sample"),
        ([1, 2], [1, 2], {"sample_weight": [-1, 1]}, "weights from -1 to 1"),
        ([1, 2], [1, 2], {"sample_weight": [0, 0]}, "not all 0"),
        ([1, 2], [1, 2], {"sample_weight": [1]}, "inconsistent numbers of samples"),
    ],
)
@pytest.mark.parametrize("metric", [rmse, mae, rating_accuracy])
def test_bad_ratings_are_refused(metric, y_true, y_pred, options, message):
    with pytest.raises(ValueError, match=message):
        metric(y_true, y_pred, **options)


@pytest.mark.parametrize("tolerance", [-1, np.nan])
def test_bad_tolerance_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a number of at least 0; got"):
        rating_accuracy([1], [1], tolerance=tolerance)


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ([1], "1 ids for 2 ratings"),
        ([1.0, np.nan], "clients contains NaN"),
        (np.array([1, None], dtype=object), "cannot be compared"),
    ],
)
def test_bad_clients_are_refused(clients, message):
    with pytest.raises(ValueError, match=message):
        per_client(mae, [1, 2], [1, 2], clients)


@pytest.fixture
def ranking():
    """40 clients, 30 items, scores with many ties, seen and relevant items apart."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (40, 30)).astype(float)
    kind = rng.choice(3, (40, 30), p=[0.6, 0.25, 0.15])
    kind[:, 0] = 2
    relevant = np.where(kind == 2, rng.integers(1, 6, kind.shape), 0)
    return scores, relevant, kind == 1


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_ndcg_equals_that_of_scikit_learn_over_the_candidates(ranking, k):
    scores, relevant, seen = ranking
    values = ndcg_at_k(scores, relevant, seen, k=k, average=False)
    for client, value in enumerate(values):
        kept = ~seen[client]
        expected = ndcg_score(relevant[[client]][:, kept], scores[[client]][:, kept], k=k)
        assert value == pytest.approx(expected)
    assert ndcg_at_k(scores, relevant, seen, k=k) == pytest.approx(values.mean())


def _ndcg_of_order(gains, k):
    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))
    return (gains * discounts)[:k].sum() / (np.sort(gains)[::-1] * discounts)[:k].sum()


PLAIN = {
    "ndcg": _ndcg_of_order,
    "recall": lambda gains, k: (gains[:k] > 0).sum() / (gains > 0).sum(),
    "hit_rate": lambda gains, k: float((gains[:k] > 0).any()),
}


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6, 9])
@pytest.mark.parametrize("name", RANKING)
@pytest.mark.parametrize(
    "scores", [[5, 4, 4, 4, 4, 1], [0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6], [2, 2, 2, 1, 1, 1]]
)
def test_ties_are_worth_their_mean_over_all_orders(name, scores, k):
    scores, gains = np.array(scores, dtype=float), np.array([0, 3, 0, 0, 1, 2])
    orders = [np.array(order) for order in permutations(range(6))]
    orders = [order for order in orders if (np.diff(scores[order]) <= 0).all()]
    expected = np.mean([PLAIN[name](gains[order], k) for order in orders])
    assert RANKING[name]([scores], [gains], None, k=k) == pytest.approx(expected)


def test_coverage_of_ties_is_the_mean_over_all_orders():
    scores = np.array([[3, 2, 2, 0], [1, 1, 1, 1], [9, 0, 0, 5]], dtype=float)
    seen = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    first, second, third = [{0, 1}, {0, 2}], [{1, 2}, {1, 3}, {2, 3}], [{3, 1}, {3, 2}]
    unions = [len(a | b | c) / 4 for a, b, c in product(first, second, third)]
    assert coverage_at_k(scores, seen, k=2) == pytest.approx(np.mean(unions))


@pytest.mark.parametrize("name", RANKING)
def test_an_item_rated_in_training_takes_no_place(name):
    scores, relevant = [[9.0, 8.0, 7.0, 0.0]], [[0, 0, 1, 0]]
    assert RANKING[name](scores, relevant, None, k=1) == 0
    assert RANKING[name](scores, relevant, [[1, 1, 0, 0]], k=1) == 1


@pytest.mark.parametrize("name", RANKING)
def test_a_constant_score_earns_the_level_of_chance(name):
    rng = np.random.default_rng(0)
    relevant = rng.random((3000, 40)) < 0.1
    random = RANKING[name](rng.random((3000, 40)), relevant, None, k=5)
    assert RANKING[name](np.zeros((3000, 40)), relevant, None, k=5) == pytest.approx(
        random, abs=0.02
    )


@pytest.mark.parametrize("name", RANKING)
def test_clients_without_a_relevant_item_have_no_value(name):
    scores, relevant = [[1.0, 2.0], [1.0, 2.0]], [[0, 0], [1, 0]]
    values = RANKING[name](scores, relevant, None, k=2, average=False)
    assert np.isnan(values[0])
    assert RANKING[name](scores, relevant, None, k=2) == values[1]
    with pytest.raises(ValueError, match="nothing to average"):
        RANKING[name](scores, [[0, 0], [0, 0]], None)


@pytest.mark.parametrize("container", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
@pytest.mark.parametrize("name", RANKING)
def test_sparse_matrices_equal_dense_ones_and_stay_as_they_are(ranking, name, container):
    scores, relevant, seen = ranking
    expected = RANKING[name](scores, relevant, seen, average=False)
    relevant, seen = container(relevant), container(seen.astype(int))
    stored = relevant.data.copy(), seen.data.copy()
    values = RANKING[name](scores, relevant, seen, average=False)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(relevant.data, stored[0])
    np.testing.assert_array_equal(seen.data, stored[1])


def test_stored_zeros_are_not_relevant_and_not_seen():
    zeros = sparse.csr_array((np.array([0.0, 1.0]), ([0, 0], [0, 1])), shape=(1, 3))
    assert recall_at_k([[3.0, 2.0, 1.0]], zeros, None, k=1) == 0
    assert recall_at_k([[3.0, 2.0, 1.0]], [[1, 0, 0]], zeros, k=1) == 1


@pytest.mark.parametrize("name", RANKING)
def test_held_out_items_cannot_be_among_the_seen(name):
    with pytest.raises(ValueError, match="1 relevant items are also in seen"):
        RANKING[name]([[1.0, 2.0]], [[1, 0]], [[1, 0]])


@pytest.mark.parametrize("name", RANKING)
@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_scores_cannot_mask_candidates(name, score):
    with pytest.raises(ValueError, match="scores contains"):
        RANKING[name]([[1.0, score]], [[1, 0]], None)


@pytest.mark.parametrize(
    ("relevant", "seen", "k", "message"),
    [
        ([[1, 0, 0]], None, 1, r"relevant has shape \(1, 3\) but scores have shape \(1, 2\)"),
        ([[1, 0]], [[1, 0], [0, 0]], 1, r"seen has shape \(2, 2\)"),
        ([[-1, 1]], None, 1, "gains of at least 0; got -1"),
        ([[np.nan, 1]], None, 1, "relevant contains NaN"),
        ([[1, 0]], None, 0, "k must be an integer of at least 1; got 0"),
        ([[1, 0]], None, 1.5, "got 1.5"),
        ([[1, 0]], None, True, "got True"),
    ],
)
@pytest.mark.parametrize("name", RANKING)
def test_bad_rankings_are_refused(name, relevant, seen, k, message):
    with pytest.raises(ValueError, match=message):
        RANKING[name]([[1.0, 2.0]], relevant, seen, k=k)
