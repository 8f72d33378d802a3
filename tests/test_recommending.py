"""Rankings: by a plain loop, for users of every kind, in batches and as frames."""

import numpy as np
import pandas as pd
import pytest

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._answers._ranking import _candidates
from sklearn_fedrecon._answers._recommending import CAUTION
from sklearn_fedrecon.datasets import make_ratings

X = np.array([[u, i] for u in range(6) for i in range(8) if (u + 2 * i) % 3 and (u, i) != (0, 2)])
Y = np.array([1.0 + (3 * u + 5 * i) % 9 / 2 for u, i in X])


@pytest.fixture(scope="module")
def model():
    return FederatedReconstructionMF(2, random_state=0, dtype="float64").fit(X, Y)


@pytest.fixture(scope="module")
def named():
    """The same ratings under names."""
    table = pd.DataFrame(
        {"film": [f"film {i}" for _, i in X], "guest": [f"guest {u}" for u, _ in X]}
    )
    model = FederatedReconstructionMF(
        2, user_column="guest", item_column=0, random_state=0, dtype="float64"
    )
    return model.fit(table, Y)


def expected_of(model, user, item):
    """Predicted rating, and the standard deviation of what is expected: without the noise."""
    mean, deviation = model.predict(np.array([[user, item]]), return_std=True)
    return mean[0], np.sqrt(deviation[0] ** 2 - model.noise_variance_)


def loop_ranking(model, user, n, rated=True, caution=CAUTION):
    """Best items of a known user, one after the other: item, score, deviation."""
    found = [
        (item, *expected_of(model, user, item))
        for item in model.items_.tolist()
        if not (rated and ((X[:, 0] == user) & (X[:, 1] == item)).any())
    ]
    return sorted(found, key=lambda one: -(one[1] - caution * one[2]))[:n]


@pytest.mark.parametrize("user", [0, 3, 5])
@pytest.mark.parametrize("exclude", ["rated", None])
@pytest.mark.parametrize("caution", [None, 0, 0.3, 1, 2.5, 100])
def test_recommend_ranks_by_a_lower_bound(model, user, exclude, caution):
    items, scores, deviations = model.recommend(
        user, 4, exclude=exclude, caution=caution, return_std=True
    )
    used = CAUTION if caution is None else caution
    expected = loop_ranking(model, user, 4, rated=exclude == "rated", caution=used)
    assert items.tolist() == [item for item, *_ in expected]
    np.testing.assert_allclose(scores, [score for _, score, _ in expected], rtol=1e-12)
    np.testing.assert_allclose(deviations, [spread for *_, spread in expected], rtol=1e-10)


def test_caution_puts_what_few_have_rated_behind():
    ratings = make_ratings(n_users=60, n_items=50, n_ratings=1500, random_state=0)
    once = np.column_stack([np.arange(20), np.arange(1000, 1020)])  # each rated once, and loved
    X, y = np.vstack([ratings.data, once]), np.append(ratings.target, np.full(20, 5.0))
    model = FederatedReconstructionMF(4, random_state=0).fit(X, y)
    obscure = {
        caution: np.mean(model.recommend(list(range(60)), 10, caution=caution)[0] >= 1000)
        for caution in (0, 1, 3)
    }
    assert obscure[0] > 2 * obscure[1]
    assert obscure[1] > obscure[3]


def test_parts_without_variances_rank_by_the_prediction():
    model = FederatedReconstructionMF(2, reconstruction="ridge", max_iter=2, random_state=0)
    model.fit(X, Y)
    _, scores = model.recommend(3, 3)
    assert (np.diff(scores) <= 0).all()
    for options in ({"caution": 1}, {"return_std": True}):
        with pytest.raises(ValueError, match=r"needs posterior variances, which RidgeRec.* does"):
            model.recommend(3, 3, **options)
    np.testing.assert_array_equal(model.recommend(3, 3, caution=0)[0], model.recommend(3, 3)[0])


def test_a_batch_is_the_users_one_by_one(model):
    items, scores = model.recommend([4, 0, 4], 2)
    assert items.shape == scores.shape == (3, 2)
    for row, user in enumerate([4, 0, 4]):
        alone = model.recommend(user, 2)
        np.testing.assert_array_equal(items[row], alone[0])
        np.testing.assert_array_equal(scores[row], alone[1])


def polars_series(values):
    return pytest.importorskip("polars", reason="needs polars").Series(values)


@pytest.mark.parametrize("make", [list, tuple, np.array, pd.Series, polars_series])
def test_several_users_come_in_any_container(model, make):
    np.testing.assert_array_equal(model.recommend(make([1, 2]), 2)[0].shape, (2, 2))


@pytest.mark.parametrize("user", [np.int64(3), 3.0, np.array(3)[()]])
def test_a_number_is_one_user(model, user):
    np.testing.assert_array_equal(model.recommend(user, 2)[0], model.recommend(3, 2)[0])


def test_an_id_can_be_a_tuple():
    ids = np.empty(len(X), dtype=object)
    ids[:] = [("street", int(user)) for user, _ in X]
    table = np.empty((len(X), 2), dtype=object)
    table[:, 0], table[:, 1] = ids, X[:, 1]
    model = FederatedReconstructionMF(2, random_state=0).fit(table, Y)
    assert model.recommend(("street", 3), 2)[0].shape == (2,)
    assert model.recommend([("street", 3), ("street", 4)], 2)[0].shape == (2, 2)


def test_ratings_typed_in_are_a_reconstructed_user(model):
    typed = model.recommend({2: 5.0, 7: 1.0}, 3)
    rebuilt = model.recommend(model.reconstruct_user([2, 7], [5.0, 1.0]), 3)
    np.testing.assert_array_equal(typed[0], rebuilt[0])
    np.testing.assert_array_equal(typed[1], rebuilt[1])
    assert not {2, 7} & set(typed[0].tolist())


def test_a_batch_of_ratings_typed_in_is_the_users_one_by_one(model):
    typed = [{2: 5.0, 7: 1.0}, {}, {0: 1.0}]
    rebuilt = [model.reconstruct_user(list(user), list(user.values())) for user in typed]
    for users in (typed, rebuilt):
        items, scores = model.recommend(users, 3)
        assert items.shape == (3, 3)
        for row, user in enumerate(typed):
            alone = model.recommend(user, 3)
            np.testing.assert_array_equal(items[row], alone[0])
            np.testing.assert_array_equal(scores[row], alone[1])
    frame = model.recommend(typed, 3, as_frame=True)
    assert frame["user"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert frame["item"].tolist() == items.ravel().tolist()
    with pytest.raises(ValueError, match="for 0 only 6"):
        model.recommend(typed, 7)


@pytest.mark.parametrize("index", [[3, 4], [0, 1], range(1, 3), ["a", "b"]])
def test_a_series_with_an_index_may_be_ratings_and_is_refused(model, index):
    with pytest.raises(ValueError, match=r"for ratings pass a dict: series.to_dict\(\)"):
        model.recommend(pd.Series([5, 4], index=list(index)), 2)


@pytest.mark.parametrize(
    "users",
    [[[0, 1], [2, 3]], [(0, 1)], [{0, 1}], np.array([[0, 1]]), pd.DataFrame({"user": [0, 1]})],
)
def test_nested_users_are_refused(model, users):
    with pytest.raises(ValueError, match="of rows: expected the ids in one list"):
        model.recommend(users, 2)


def test_ids_and_ratings_in_one_list_are_refused(model):
    with pytest.raises(ValueError, match="1 dicts or Bunches and 2 ids"):
        model.recommend([0, {2: 5.0}, 1], 2)


def test_nobody_is_recommended_what_the_biases_say(model):
    items, _ = model.recommend({}, 8, caution=0)
    np.testing.assert_array_equal(items, model.popular_items(8, by="bias")[0])


@pytest.mark.parametrize("user", [0, [0, 1]])
def test_what_is_excluded_comes_on_top_of_what_was_rated(model, user):
    own = {u: set(X[X[:, 0] == u, 1].tolist()) for u in (0, 1)}
    left = [sorted(set(range(8)) - own[u] - {5, 2}) for u in (0, 1)]
    n = min(map(len, left))
    items, _ = model.recommend(user, n, exclude=[5, 2])
    for row, rest in zip(np.atleast_2d(items), left, strict=False):
        assert set(row.tolist()) <= set(rest)
    candidates = model.recommend(user, 1, candidates=[left[0][0], left[1][0], 5], exclude=[5])[0]
    assert [int(item) for item in np.ravel(candidates)] == [left[0][0], left[1][0]][
        : np.size(candidates)
    ]


@pytest.mark.parametrize("user", [0, [0, 1]])
def test_nothing_is_excluded_where_nobody_asks_for_it(model, user):
    items, _ = model.recommend(user, 8, exclude=None)
    np.testing.assert_array_equal(np.sort(items), np.broadcast_to(np.arange(8), items.shape))


def test_only_those_who_may_be_among_the_best_are_scored_again():
    """The selection is worth it: of 400 items, few more than those asked for."""
    bounds = np.random.default_rng(0).normal(size=(50, 400)).astype("f4")
    bounds[3, 5:] = -np.inf  # this user is left five items
    bounds[7, :] = 1.0  # and this one likes all of them alike
    users, places = _candidates(bounds, 10)
    counts = np.bincount(users, minlength=50)
    assert (counts[3], counts[7]) == (5, 400)
    others = np.delete(counts, [3, 7])
    assert others.min() == 10
    assert others.max() <= 12
    for user in (0, 3, 20):
        best = set(np.argsort(-bounds[user], kind="stable")[: min(10, counts[user])].tolist())
        assert best <= set(places[users == user].tolist())


@pytest.mark.parametrize("n", [1, 7, 60])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_users_in_one_product_are_the_users_one_by_one(n, dtype, monkeypatch):
    """To the bit, and with items that are ranked alike in the order of the catalogue."""
    table, ratings = make_ratings(
        n_users=90, n_items=70, n_ratings=3000, random_state=1, return_X_y=True
    )
    model = FederatedReconstructionMF(5, dtype=dtype, random_state=0, items=np.arange(200))
    model.fit(table, ratings)  # of 200 items, 130 are known to nobody: all of them alike
    users = model.users_.tolist()
    together = model.recommend(users, n, exclude=[3, 8], return_std=True)
    monkeypatch.setattr("sklearn_fedrecon._answers._ranking._BLOCK", 1000)
    in_blocks = model.recommend(users, n, exclude=[3, 8], return_std=True)
    for row, user in enumerate(users):
        alone = model.recommend(user, n, exclude=[3, 8], return_std=True)
        for all_at_once, cut, one in zip(together, in_blocks, alone, strict=True):
            np.testing.assert_array_equal(all_at_once[row], one)
            np.testing.assert_array_equal(cut[row], one)
        unknown = alone[0][alone[0] >= 70]
        assert (np.diff(unknown) > 0).all()
        bounds = alone[1] - CAUTION * alone[2]
        assert (np.diff(bounds) <= 1e-6).all()


# --- neighbours --------------------------------------------------------------------------------


def test_similarity_is_the_expected_cosine(model):
    spread = model.user_prior_variance_[:2]
    items, similarities = model.similar_items(3, 7)
    for item, similarity in zip(items.tolist(), similarities, strict=True):
        lengths = [
            np.sqrt(sum(spread * (model.item_factors_[i] ** 2 + model.item_variance_[i])))
            for i in (3, item)
        ]
        product = sum(spread * model.item_factors_[3] * model.item_factors_[item])
        assert similarity == pytest.approx(product / (lengths[0] * lengths[1]), rel=1e-10)
    assert (np.diff(similarities) <= 0).all()
    assert 3 not in items


def test_an_item_that_nobody_knows_is_like_nothing():
    model = FederatedReconstructionMF(2, items=np.arange(12), random_state=0).fit(X, Y)
    assert model.similar_items(11, 11)[1].tolist() == pytest.approx([0.0] * 11, abs=1e-3)
    known = dict(zip(*model.similar_items(3, 11), strict=True))
    assert max(abs(known[item]) for item in (8, 9, 10, 11)) < 1e-3


def test_similarity_never_exceeds_one():
    table = np.array([[user, item] for user in range(30) for item in range(4)])
    ratings = 3.0 + np.where(table[:, 0] % 2, 1.0, -1.0) * np.where(table[:, 1] % 2, 1, -1)
    model = FederatedReconstructionMF(2, random_state=0).fit(table, ratings)
    similarities = model.similar_items([0, 1, 2, 3], 3)[1]
    assert similarities.max() > 0.95  # items that are rated alike
    assert np.abs(similarities).max() <= 1
    without = FederatedReconstructionMF(3, reconstruction="ridge", random_state=0, max_iter=3)
    assert without.fit(table, ratings).similar_items([0, 1, 2, 3], 3)[1].max() <= 1


def test_several_items_are_the_items_one_by_one(model, named):
    items, similarities = model.similar_items([4, 0], 3)
    assert items.shape == similarities.shape == (2, 3)
    for row, item in enumerate([4, 0]):
        alone = model.similar_items(item, 3)
        np.testing.assert_array_equal(items[row], alone[0])
        np.testing.assert_allclose(similarities[row], alone[1], rtol=1e-12)
    np.testing.assert_array_equal(model.similar_items(np.array([4, 0]), 3)[0], items)
    frame = named.similar_items(["film 4", "film 0"], 3, as_frame=True)
    assert frame.columns.tolist() == ["film", "similar", "similarity"]
    assert frame["film"].tolist() == ["film 4"] * 3 + ["film 0"] * 3


def test_one_user_is_given_what_is_left(model):
    left = 8 - np.count_nonzero(X[:, 0] == 0)
    assert len(model.recommend(0, 100)[0]) == left


def test_rows_of_different_lengths_are_refused_and_make_a_frame(model):
    left = [8 - np.count_nonzero(X[:, 0] == user) for user in (0, 1)]
    assert left[0] != left[1]
    with pytest.raises(ValueError, match=rf"for {left.index(min(left))} only {min(left)}"):
        model.recommend([0, 1], max(left))
    frame = model.recommend([0, 1], max(left), as_frame=True)
    assert frame.groupby("user", sort=False).size().tolist() == left


def test_frames_carry_the_names_of_x(named):
    frame = named.recommend(["guest 4", "guest 0"], 2, as_frame=True)
    items, scores = named.recommend(["guest 4", "guest 0"], 2)
    assert frame.columns.tolist() == ["guest", "film", "score"]
    assert frame["guest"].tolist() == ["guest 4"] * 2 + ["guest 0"] * 2
    assert frame["film"].tolist() == items.ravel().tolist()
    np.testing.assert_array_equal(frame["score"], scores.ravel())


@pytest.mark.parametrize(
    ("call", "columns"),
    [
        (lambda m: m.recommend("guest 1", 2, as_frame=True), ["film", "score"]),
        (lambda m: m.similar_items("film 1", 2, as_frame=True), ["film", "similarity"]),
        (lambda m: m.popular_items(2, as_frame=True), ["film", "ratings"]),
        (lambda m: m.popular_items(2, by="bias", as_frame=True), ["film", "bias"]),
        (lambda m: m.most_informative_items(n=2, as_frame=True), ["film", "gain"]),
    ],
)
def test_every_ranking_makes_a_frame(named, call, columns):
    frame = call(named)
    assert frame.columns.tolist() == columns
    assert set(frame["film"]) <= set(named.items_)
    assert len(frame) == 2


@pytest.mark.parametrize("names", [["user", "score"], ["score", "item"]])
def test_a_frame_does_not_have_two_columns_of_one_name(names):
    table = pd.DataFrame(X, columns=names)
    model = FederatedReconstructionMF(2, random_state=0).fit(table, Y)
    with pytest.raises(ValueError, match="two of one name: fit with other names"):
        model.recommend([0, 1], 2, as_frame=True)
    assert model.recommend([0, 1], 2)[0].shape == (2, 2)


def test_popular_items_counts_ratings_by_weight(model):
    weights = np.where(X[:, 1] == 6, 10.0, 1.0)
    weighted = FederatedReconstructionMF(2, random_state=0).fit(X, Y, sample_weight=weights)
    counts = np.bincount(X[:, 1], weights)
    items, values = weighted.popular_items(8)
    assert items[0] == 6
    np.testing.assert_allclose(values, counts[items])
    assert (np.diff(values) <= 0).all()
    unweighted = model.popular_items(8)
    np.testing.assert_allclose(unweighted[1], np.bincount(X[:, 1])[unweighted[0]])


def test_popular_items_knows_no_user_and_keeps_the_order_of_ties(model):
    items, values = model.forget_users().popular_items(8)
    ties = [items[values == value].tolist() for value in np.unique(values)]
    assert ties == [sorted(group) for group in ties]


def test_popular_items_by_ratings_needs_a_server_that_counts():
    model = FederatedReconstructionMF(2, reconstruction="sgd", max_iter=2, random_state=0)
    with pytest.raises(ValueError, match="use by='bias'"):
        model.fit(X, Y).popular_items(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.recommend(99), "user 99 is not known"),
        (lambda m: m.recommend([0, 99, 98]), "2 user id.s. are unknown: 98, 99"),
        (lambda m: m.recommend([]), "user is an empty list"),
        (lambda m: m.recommend({99: 5.0}), "1 item id.s. are unknown: 99"),
        (lambda m: m.recommend(0, 0), "n=0 items"),
        (lambda m: m.recommend(0, 2.5), "n=2.5 items"),
        (lambda m: m.recommend(0, exclude="seen"), "exclude='seen': expected 'rated'"),
        (lambda m: m.recommend(0, candidates=[99]), "unknown: 99"),
        (lambda m: m.popular_items(by="clicks"), "expected 'ratings' or 'bias'"),
        (lambda m: m.recommend(0, caution=-1), "caution=-1: expected a number of standard"),
        (lambda m: m.recommend(0, caution=np.inf), "caution=inf: expected"),
        (lambda m: m.recommend(0, caution="much"), "caution='much': expected"),
        (lambda m: m.similar_items(99), "unknown: 99"),
        (lambda m: m.similar_items([3, 99]), "unknown: 99"),
    ],
)
def test_what_makes_no_ranking_is_refused(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


def test_serving_writes_nothing(model):
    before = {name: np.array(value) for name, value in vars(model).items() if name[-1] == "_"}
    model.recommend([0, 1], 2)
    model.recommend({2: 5.0}, 2)
    model.most_informative_items([2], [5.0], 3)
    model.explain([2], [5.0], 3)
    after = {name: np.array(value) for name, value in vars(model).items() if name[-1] == "_"}
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_datetime_is_an_id_in_whatever_form():
    days = pd.date_range("2024-01-01", periods=6, freq="D")
    table = pd.DataFrame({"user": days[X[:, 0]], "item": X[:, 1]})
    model = FederatedReconstructionMF(2, random_state=0).fit(table, Y)
    expected = model.recommend(np.datetime64("2024-01-03"), 2)[0]
    for user in (table.user[table.user == "2024-01-03"].iloc[0], days[2].to_pydatetime()):
        np.testing.assert_array_equal(model.recommend(user, 2)[0], expected)
