"""Splitting, scoring and evaluating by users, with a stand-in that is easy to recompute."""

import pickle
import warnings
from copy import copy
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer, max_error, root_mean_squared_error
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LearningCurveDisplay,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings
from sklearn_fedrecon.model_selection import (
    KnownUsersWarning,
    ReconstructionScorer,
    UserKFold,
    evaluate,
)


class UserMean(RegressorMixin, BaseEstimator):
    """Predicts a user's shrunken mean rating, the global mean for unknown users.

    ``seen_`` records the rows that the last personalization was given.
    """

    def __init__(self, shrinkage=0.0, *, user_column=0, item_column=1, unknown_user="baseline"):
        self.shrinkage = shrinkage
        self.user_column = user_column
        self.item_column = item_column
        self.unknown_user = unknown_user

    def fit(self, X, y, sample_weight=None):
        self.global_mean_ = np.average(y, weights=sample_weight)
        self.means_ = self._means(X, y, sample_weight)
        self.users_ = np.unique(self._users(X))
        return self

    def _users(self, X):
        return np.asarray(
            X[self.user_column] if hasattr(X, "columns") else np.asarray(X)[:, self.user_column]
        )

    def _means(self, X, y, sample_weight):
        users, y = self._users(X), np.asarray(y)
        weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        means = {}
        for user in np.unique(users).tolist():
            mine = users == user
            total = (weights[mine] * (y[mine] - self.global_mean_)).sum()
            means[user] = self.global_mean_ + total / (weights[mine].sum() + self.shrinkage)
        return means

    def personalize(self, X, y, sample_weight=None):
        other = copy(self)
        other.means_ = {**self.means_, **self._means(X, y, sample_weight)}
        other.users_ = np.array(sorted(other.means_))
        other.seen_ = X
        return other

    def forget_users(self):
        other = copy(self)
        other.means_, other.users_ = {}, np.array([])
        return other

    def predict(self, X):
        users = self._users(X).tolist()
        if self.unknown_user == "error" and not set(users) <= set(self.means_):
            raise ValueError("unknown users")
        return np.array([self.means_.get(user, self.global_mean_) for user in users])


@pytest.fixture(scope="module")
def table():
    """Ratings of 40 users, 1 to 20 each, in random order; users differ by their mean."""
    rng = np.random.default_rng(0)
    counts = np.concatenate([[1, 1, 2], rng.integers(3, 21, 37)])
    users = np.repeat(np.arange(100, 140), counts)
    items = np.concatenate([rng.permutation(60)[:count] for count in counts])
    y = rng.normal(3, 1, 40)[users - 100] + rng.normal(0, 0.5, len(users))
    order = rng.permutation(len(users))
    return np.column_stack([users, items])[order], y[order]


def held_out(table):
    """A stand-in fitted on even users, and the table of the odd ones."""
    X, y = table
    odd = X[:, 0] % 2 == 1
    return UserMean(1.0).fit(X[~odd], y[~odd]), X[odd], y[odd]


def polars_frame(X):
    return pytest.importorskip("polars").DataFrame(X, schema=["user", "item"])


def arrow_table(X):
    return pytest.importorskip("pyarrow").table({"user": X[:, 0], "item": X[:, 1]})


def pandas_frame(X, kind="int64"):
    return pd.DataFrame(X, columns=["user", "item"]).astype({"user": kind})


CONTAINERS = [
    pytest.param(lambda X: X, 0, id="ndarray"),
    pytest.param(lambda X: X.astype(float), 0, id="float"),
    pytest.param(lambda X: X.astype(str), 0, id="str"),
    pytest.param(lambda X: X.astype(object), 0, id="object"),
    pytest.param(lambda X: X.tolist(), 0, id="list"),
    pytest.param(pandas_frame, "user", id="pandas-name"),
    pytest.param(pandas_frame, 0, id="pandas-position"),
    pytest.param(lambda X: pandas_frame(X, "Int64"), "user", id="pandas-Int64"),
    pytest.param(lambda X: pandas_frame(X, "category"), "user", id="pandas-category"),
    pytest.param(polars_frame, "user", id="polars"),
    pytest.param(arrow_table, "user", id="pyarrow"),
]


@pytest.mark.parametrize(("convert", "column"), CONTAINERS)
def test_user_k_fold_is_the_same_for_every_container(table, convert, column):
    X, _ = table
    expected = list(UserKFold(4, random_state=0).split(X))
    splits = list(UserKFold(4, user_column=column, random_state=0).split(convert(X)))
    for (train, test), (expected_train, expected_test) in zip(splits, expected, strict=True):
        np.testing.assert_array_equal(train, expected_train)
        np.testing.assert_array_equal(test, expected_test)


@pytest.mark.parametrize("shuffle", [True, False])
def test_user_k_fold_keeps_users_whole_and_folds_even(table, shuffle):
    X, _ = table
    tested = np.zeros(len(X), dtype=int)
    for train, test in UserKFold(6, shuffle=shuffle).split(X):
        assert not set(X[train, 0]) & set(X[test, 0])
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(X)))
        assert len(np.unique(X[test, 0])) in (6, 7)
        tested[test] += 1
    assert (tested == 1).all()


def folds_of_users(cv, X):
    return [set(X[test, 0].tolist()) for _, test in cv.split(X)]


def test_the_fold_of_a_user_depends_on_the_seed_and_not_on_the_order_of_rows(table):
    X, _ = table
    folds = folds_of_users(UserKFold(random_state=3), X)
    assert folds_of_users(UserKFold(random_state=3), X[::-1]) == folds
    assert folds_of_users(UserKFold(random_state=4), X) != folds
    cv = UserKFold(random_state=np.random.RandomState(0))
    assert folds_of_users(cv, X) != folds_of_users(cv, X)
    first, *_, last = folds_of_users(UserKFold(shuffle=False), X)
    assert (first, last) == (set(range(100, 108)), set(range(132, 140)))


def test_activity_of_a_user_does_not_tell_its_fold():
    X = np.array([[0, i] for i in range(50)] + [[user, 0] for user in range(1, 10)])
    folds = [
        next(i for i, fold in enumerate(folds_of_users(UserKFold(random_state=s), X)) if 0 in fold)
        for s in range(200)
    ]
    assert np.bincount(folds).min() > 20


def test_user_k_fold_shows_what_it_was_given():
    assert repr(UserKFold(3, user_column="userId")) == (
        "UserKFold(n_splits=3, random_state=None, shuffle=True, user_column='userId')"
    )
    assert UserKFold(3).get_n_splits() == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_splits": 1}, ValueError, "n_splits must be an integer of at least 2; got 1"),
        ({"n_splits": 2.5}, ValueError, "got 2.5"),
        ({"n_splits": True}, ValueError, "got True"),
        ({"shuffle": "yes"}, TypeError, "shuffle must be True or False; got 'yes'"),
        ({"shuffle": False, "random_state": 0}, ValueError, "no effect with shuffle=False"),
    ],
)
def test_bad_parameters_of_user_k_fold_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        UserKFold(**options)


@pytest.mark.parametrize(
    ("X", "column", "error", "message"),
    [
        (np.array([[1, 2], [3, 4]]), 0, ValueError, "X has 2 in user_column=0"),
        (np.array([[1, 2], [3, 4]]), 2, ValueError, "user_column=2 is not a column of X"),
        (
            np.array([[1, 2], [3, 4]]),
            -1,
            ValueError,
            "a position from 0 to 1",
        ),
        (np.array([1, 2, 3]), 0, ValueError, r"got shape \(3,\)"),
        (np.array([[1, 2]]), "user", ValueError, "is a name, but X is a ndarray"),
        (np.array([[1, 2]]), 0.5, TypeError, "must be a position or a name"),
        (pd.DataFrame({"a": [1]}), "user", ValueError, r"not a column of X: \['a'\]"),
        (np.array([[1.0, 2], [np.nan, 2]]), 0, ValueError, "user_column=0 holds missing ids"),
        (pd.DataFrame({"a": [None, "x"]}), "a", ValueError, "holds missing ids"),
        (pd.DataFrame({"a": [None, None]}), "a", ValueError, "holds missing ids"),
        (pd.DataFrame({"a": [1, pd.NA]}, dtype="Int64"), "a", ValueError, "holds missing ids"),
        (pd.DataFrame({"a": pd.to_datetime(["2020", None])}), "a", ValueError, "missing ids"),
        (np.array([["x", 1], [None, 2]], dtype=object), 0, ValueError, "holds missing ids"),
        (pd.DataFrame({"a": [1, "x"]}), "a", TypeError, "ids of several types"),
        (sparse.eye_array(3), 0, TypeError, "X is sparse"),
    ],
)
def test_bad_tables_are_refused(X, column, error, message):
    with pytest.raises(error, match=message):
        list(UserKFold(3, user_column=column).split(X))


@pytest.mark.parametrize("convert", [polars_frame, arrow_table])
def test_missing_ids_of_other_frames_are_refused(convert):
    table = convert(np.array([["x", "y"], ["x", None]], dtype=object))
    with pytest.raises(ValueError, match="user_column='item' holds missing ids"):
        next(UserKFold(2, user_column="item").split(table))


def test_groups_are_ignored_aloud(table):
    X, _ = table
    with pytest.warns(UserWarning, match="groups is ignored by UserKFold"):
        next(UserKFold(random_state=0).split(X, groups=X[:, 1]))


class Recorder:
    """A scorer that keeps the query rows and the personalized estimator."""

    def __call__(self, estimator, X, y, sample_weight=None):
        self.estimator, self.X, self.y, self.sample_weight = estimator, X, y, sample_weight
        return 0.0


def pairs(X):
    return sorted(map(tuple, np.asarray(X).tolist()))


def split_of(scorer_options, estimator, X, y):
    """Support and query pairs that a scorer makes."""
    recorder = Recorder()
    ReconstructionScorer(recorder, **scorer_options)(estimator, X, y)
    return pairs(getattr(recorder.estimator, "seen_", [])), pairs(recorder.X)


@pytest.mark.parametrize("support_size", [0, 1, 3, 1000, 0.2, 0.5, 0.99])
def test_every_user_reveals_what_was_asked_for_and_keeps_one(table, support_size):
    estimator, X, y = held_out(table)
    support, query = split_of({"support_size": support_size}, estimator, X, y)
    assert sorted(support + query) == pairs(X)
    for user in np.unique(X[:, 0]):
        n_rows = (X[:, 0] == user).sum()
        n_support = sum(row[0] == user for row in support)
        wanted = support_size if isinstance(support_size, int) else int(support_size * n_rows)
        assert n_support == min(wanted, n_rows - 1)


def test_shares_are_not_cut_by_binary_fractions():
    X = np.column_stack([np.zeros(100), np.arange(100)])
    estimator = UserMean().fit(np.array([[-1, 0]]), [3.0])
    support, _ = split_of({"support_size": 0.29}, estimator, X, np.zeros(100))
    assert 0.29 * 100 < 29 == len(support)


def test_score_equals_a_loop_over_users(table):
    estimator, X, y = held_out(table)
    support, query = split_of({}, estimator, X, y)
    rating = dict(zip(map(tuple, X.tolist()), y, strict=True))
    errors = []
    for user, item in query:
        mine = [rating[row] - estimator.global_mean_ for row in support if row[0] == user]
        guess = estimator.global_mean_ + sum(mine) / (len(mine) + 1.0)
        errors.append(rating[user, item] - guess)
    expected = -np.sqrt(np.mean(np.square(errors)))
    assert ReconstructionScorer()(estimator, X, y) == pytest.approx(expected)
    assert ReconstructionScorer(support_size=0)(estimator, X, y) == pytest.approx(
        -root_mean_squared_error(y, np.full_like(y, estimator.global_mean_))
    )


def test_split_depends_on_ids_and_seed_alone(table):
    estimator, X, y = held_out(table)
    support, query = split_of({}, estimator, X, y)
    assert split_of({}, estimator.set_params(shrinkage=7.0), X[::-1], y[::-1]) == (support, query)
    some = X[:, 0] < 120
    assert split_of({}, estimator, X[some], y[some])[0] == [r for r in support if r[0] < 120]
    assert split_of({"random_state": 1}, estimator, X, y)[0] != support


@pytest.mark.parametrize(("convert", "column"), CONTAINERS)
def test_split_is_the_same_for_every_container(table, convert, column):
    estimator, X, y = held_out(table)
    support, _ = split_of({}, estimator, X, y)
    revealed = []

    class Spy(UserMean):
        def personalize(self, X, y):
            revealed.extend(y)
            return self

    spy = Spy(user_column=column, item_column="item" if column == "user" else 1)
    spy.users_ = np.array([])
    recorder = Recorder()
    ReconstructionScorer(recorder)(spy, convert(X), np.arange(len(y)))
    assert pairs(X[revealed]) == support
    assert type(recorder.X) is type(convert(X))
    np.testing.assert_array_equal(np.sort([*revealed, *recorder.y]), np.arange(len(y)))


def test_supports_of_growing_size_contain_one_another(table):
    estimator, X, y = held_out(table)
    supports = [set(split_of({"support_size": n}, estimator, X, y)[0]) for n in range(6)]
    assert all(small < large for small, large in pairwise(supports))


def test_every_item_of_a_user_is_as_likely_to_be_revealed():
    X = np.array([[user, item] for user in range(400) for item in range(10)])
    estimator = UserMean().fit(np.array([[-1, 0]]), [3.0])
    support, _ = split_of({"support_size": 3}, estimator, X, np.zeros(len(X)))
    counts = np.bincount([item for _, item in support], minlength=10)
    assert ((counts - 120) ** 2 / 120).sum() < 27.9  # chi-square of 9 degrees, 0.1 %
    together = sum({(user, 0), (user, 1)} <= set(support) for user in range(400))
    assert abs(together - 400 * 3 / 10 * 2 / 9) < 4 * np.sqrt(400 / 15)


def test_ratings_of_one_pair_stay_on_one_side():
    X = np.array([[1, 7], [1, 8], [1, 7], [1, 8], [1, 7], [2, 5], [2, 5]])
    estimator = UserMean().fit(np.array([[0, 0]]), [3.0])
    support, query = split_of({}, estimator, X, np.zeros(7))
    assert not set(support) & set(query)
    assert len(set(support)) == 1
    assert (2, 5) in query


def test_zero_weight_ratings_count_as_absent(table):
    estimator, X, y = held_out(table)
    weights = np.random.default_rng(0).integers(0, 3, len(y))
    scorer, kept = ReconstructionScorer(), weights > 0
    score = scorer(estimator, X, y, sample_weight=weights)
    assert score == scorer(estimator, X[kept], y[kept], sample_weight=weights[kept])
    assert score != scorer(estimator, X[kept], y[kept])


def test_weights_reach_reconstruction_and_score(table):
    estimator, X, y = held_out(table)
    recorder = Recorder()
    weights = 1.0 + X[:, 1]
    ReconstructionScorer(recorder)(estimator, X, y, sample_weight=weights)
    np.testing.assert_array_equal(recorder.sample_weight, 1.0 + recorder.X[:, 1])
    seen, rating = recorder.estimator.seen_, dict(zip(map(tuple, X.tolist()), y, strict=True))
    for user in np.unique(seen[:, 0]):
        mine = [row for row in map(tuple, seen.tolist()) if row[0] == user]
        total = sum((1 + row[1]) * (rating[row] - estimator.global_mean_) for row in mine)
        expected = estimator.global_mean_ + total / (sum(1 + row[1] for row in mine) + 1.0)
        assert recorder.estimator.means_[user] == pytest.approx(expected)


def test_scorer_leaves_the_estimator_alone(table):
    estimator, X, y = held_out(table)
    users, means = estimator.users_.copy(), dict(estimator.means_)
    ReconstructionScorer()(estimator.set_params(unknown_user="error"), X, y)
    np.testing.assert_array_equal(estimator.users_, users)
    assert estimator.means_ == means
    assert estimator.unknown_user == "error"


def test_stored_users_are_forgotten_before_they_are_scored(table):
    X, y = table
    estimator = UserMean().fit(X, y)
    support, query = split_of({}, estimator, X, y)
    recorder = Recorder()
    ReconstructionScorer(recorder)(estimator, X, y)
    assert set(recorder.estimator.means_) == {user for user, _ in support}
    assert {user for user, _ in query} - {user for user, _ in support} == {100, 101}


@pytest.mark.parametrize(
    "scoring",
    [["r2", "neg_mean_absolute_error"], {"r2": "r2", "worst": make_scorer(max_error)}],
)
def test_several_scores_are_a_dict_of_the_single_ones(table, scoring):
    estimator, X, y = held_out(table)
    scores = ReconstructionScorer(scoring)(estimator, X, y)
    named = scoring if isinstance(scoring, dict) else {name: name for name in scoring}
    assert scores == {
        name: ReconstructionScorer(one)(estimator, X, y) for name, one in named.items()
    }
    search = GridSearchCV(
        UserMean(),
        {"shrinkage": [0.0, 1.0]},
        cv=UserKFold(3, random_state=0),
        scoring=ReconstructionScorer(scoring),
        refit="r2",
    ).fit(*table)
    assert {f"mean_test_{name}" for name in named} <= set(search.cv_results_)


def test_users_of_training_are_pointed_out(table):
    X, y = table
    estimator, X_odd, y_odd = held_out(table)
    half = X[:, 0] < 120
    with pytest.warns(KnownUsersWarning, match="10 of the 20 users to score were in training"):
        ReconstructionScorer()(estimator, X[half], y[half])
    support = np.flatnonzero(np.arange(len(X_odd)) % 2)
    mixed = UserMean().fit(np.vstack([X, X_odd[support]]), np.concatenate([y, y_odd[support]]))
    with pytest.warns(KnownUsersWarning, match="20 of the 20"):
        ReconstructionScorer()(mixed, X_odd, y_odd)


def test_training_scores_are_no_reason_to_warn(table):
    scores = cross_validate(
        UserMean(),
        *table,
        cv=UserKFold(3, random_state=0),
        scoring=ReconstructionScorer(),
        return_train_score=True,
    )
    assert np.isfinite(scores["train_score"]).all()


def test_folds_that_cut_users_are_pointed_out(table):
    with pytest.warns(KnownUsersWarning, match=r"cv=UserKFold\(\)"):
        cross_val_score(
            UserMean(),
            *table,
            cv=KFold(3, shuffle=True, random_state=0),
            scoring=ReconstructionScorer(),
        )


def test_grid_search_finds_the_right_shrinkage(table):
    grid = {"shrinkage": [0.0, 0.25, 1e3]}
    options = {"cv": UserKFold(4, random_state=0), "error_score": "raise"}
    search = GridSearchCV(UserMean(), grid, scoring=ReconstructionScorer(), **options)
    assert search.fit(*table).best_params_ == {"shrinkage": 0.25}
    plain = GridSearchCV(UserMean(), grid, scoring="neg_root_mean_squared_error", **options)
    assert np.ptp(plain.fit(*table).cv_results_["mean_test_score"]) == 0


def test_nested_search_is_scored_through_its_best_estimator(table):
    X, y = table
    search = GridSearchCV(
        UserMean(), {"shrinkage": [0.25]}, cv=UserKFold(3), scoring=ReconstructionScorer()
    )
    options = {"cv": UserKFold(3, random_state=0), "scoring": ReconstructionScorer()}
    np.testing.assert_array_equal(
        cross_val_score(search, X, y, **options), cross_val_score(UserMean(0.25), X, y, **options)
    )


def test_pipeline_that_keeps_users_apart_scores_as_without_it(table):
    X, y = table
    frame = pd.DataFrame(X, columns=["user", "item"])
    frame.insert(0, "timestamp", np.arange(len(X)))
    pick = ColumnTransformer([("ids", "passthrough", ["user", "item"])])
    shifted = FunctionTransformer(lambda X: X + 1000)
    options = {"cv": UserKFold(3, user_column="user", random_state=0), "error_score": "raise"}
    pipeline = make_pipeline(pick, UserMean())
    scores = cross_val_score(
        pipeline, frame, y, scoring=ReconstructionScorer(user_column="user"), **options
    )
    np.testing.assert_array_equal(
        scores,
        cross_val_score(
            UserMean(),
            X,
            y,
            cv=UserKFold(3, random_state=0),
            scoring=ReconstructionScorer(),
        ),
    )
    assert np.isfinite(
        cross_val_score(
            make_pipeline(shifted, UserMean()),
            X,
            y,
            cv=UserKFold(3),
            scoring=ReconstructionScorer(),
        )
    ).all()
    assert cross_val_score(
        make_pipeline(UserMean()), X, y, cv=UserKFold(3), scoring=ReconstructionScorer()
    ).shape == (3,)


@pytest.mark.parametrize("raw_column", [None, 0, 1])
def test_pipeline_that_merges_users_is_refused(table, raw_column):
    X, y = table
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    with pytest.raises(ValueError, match="but 1 after the leading steps of the Pipeline"):
        cross_val_score(
            make_pipeline(encoder, UserMean()),
            X,
            y,
            cv=UserKFold(3),
            scoring=ReconstructionScorer(user_column=raw_column),
            error_score="raise",
        )


def test_pipeline_that_swaps_ratings_between_users_is_refused(table):
    _, X, y = held_out(table)
    swap = FunctionTransformer(lambda X: np.column_stack([X[::-1, 0], X[:, 1]]))
    pipeline = make_pipeline(swap, UserMean()).fit(X + 1000, y)
    with pytest.raises(ValueError, match="do not keep users apart"):
        ReconstructionScorer()(pipeline, X, y)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"support_size": 1.0}, ValueError, r"float in \(0, 1\).*got 1.0"),
        ({"support_size": 0.0}, ValueError, "got 0.0"),
        ({"support_size": -1}, ValueError, "got -1"),
        ({"support_size": True}, ValueError, "got True"),
        ({"support_size": "half"}, ValueError, "got 'half'"),
        ({"random_state": None}, TypeError, "random_state must be an int; got None"),
        ({"scoring": None}, TypeError, "scoring must be the name of a scorer.*got None"),
        ({"scoring": "rmse"}, ValueError, "'rmse'"),
    ],
)
def test_bad_parameters_of_the_scorer_are_refused(table, options, error, message):
    with pytest.raises(error, match=message):
        ReconstructionScorer(**options)(*held_out(table))


def test_bad_arguments_of_the_scorer_are_refused(table):
    estimator, X, y = held_out(table)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ReconstructionScorer()(estimator, X, y[:-1])
    with pytest.raises(NotFittedError):
        ReconstructionScorer()(UserMean(), X, y)
    with pytest.raises(TypeError, match=r"needs an estimator with personalize.*DummyRegressor"):
        ReconstructionScorer()(DummyRegressor().fit(X, y), X, y)


def test_scorer_is_a_well_behaved_object(table):
    scorer = ReconstructionScorer("r2", support_size=3)
    assert repr(scorer) == "ReconstructionScorer(scoring='r2', support_size=3)"
    for other in (clone(scorer), pickle.loads(pickle.dumps(scorer))):
        assert other.get_params() == scorer.get_params()
        assert other(*held_out(table)) == scorer(*held_out(table))


@pytest.mark.parametrize(
    ("scoring", "name"),
    [
        ("r2", "r2"),
        (make_scorer(max_error, greater_is_better=False), "neg_max_error"),
        (make_scorer(max_error), "max_error"),
        (Recorder(), "reconstruction_score"),
        (["r2", "neg_mean_absolute_error"], "reconstruction_score"),
    ],
)
def test_scorer_has_the_name_of_its_score(scoring, name):
    assert ReconstructionScorer(scoring).__name__ == name


@pytest.mark.parametrize("routing", [False, True])
def test_weights_reach_the_scorer_through_a_search(table, routing):
    X, y = table
    weights = np.random.default_rng(0).integers(1, 9, len(y)).astype(float)
    with config_context(enable_metadata_routing=routing):
        estimator, scorer = UserMean(), ReconstructionScorer()
        if routing:
            estimator.set_fit_request(sample_weight=True)
            scorer.set_score_request(sample_weight=True)
        cv = UserKFold(3, random_state=0)
        search = GridSearchCV(
            estimator, {"shrinkage": [0.5]}, cv=cv, scoring=scorer, error_score="raise"
        ).fit(X, y, sample_weight=weights)
        expected = [
            ReconstructionScorer()(
                UserMean(0.5).fit(X[train], y[train], weights[train]),
                X[test],
                y[test],
                sample_weight=weights[test],
            )
            for train, test in cv.split(X)
        ]
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(np.mean(expected))


def test_weights_are_not_pressed_on_a_score_that_takes_none(table):
    X, y = table
    scorer = ReconstructionScorer(make_scorer(max_error))
    search = GridSearchCV(UserMean(), {"shrinkage": [0.5]}, cv=UserKFold(3), scoring=scorer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X, y, sample_weight=np.ones(len(y)))
    assert all("does not support sample_weight" in str(one.message) for one in caught)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# ------------------------------------------------------------- the estimator of the package


def factorization(n_components=2, **parameters):
    return FederatedReconstructionMF(n_components, random_state=0, **parameters)


@pytest.fixture(scope="module")
def structured():
    """Ratings of 150 users and 50 items that two components tell more of than the noise."""
    return make_ratings(
        n_users=150,
        n_items=50,
        n_ratings=3000,
        n_components=2,
        component_variance=1.0,
        noise_std=0.5,
        random_state=0,
    )


@pytest.fixture(scope="module")
def named(structured):
    """The shared ratings as a frame of strings with a column in front."""
    users, items = structured.data[:, 0].astype(int), structured.data[:, 1].astype(int)
    return pd.DataFrame(
        {
            "timestamp": np.arange(len(users)),
            "user": [f"user {user:03d}" for user in users],
            "item": [f"item {item}" for item in items],
        }
    )


def test_scorer_reveals_only_the_support_to_the_estimator(structured):
    X, y = structured.data, structured.target
    train, test = next(UserKFold(4, random_state=0).split(X))
    model = factorization().fit(X[train], y[train])
    recorder = Recorder()
    ReconstructionScorer(recorder)(model, X[test], y[test])
    query = set(pairs(recorder.X))
    support = np.array([tuple(row) not in query for row in X[test].tolist()])
    told = model.forget_users().personalize(X[test][support], y[test][support])
    predictions = told.predict(recorder.X)
    np.testing.assert_array_equal(recorder.estimator.predict(recorder.X), predictions)
    assert ReconstructionScorer()(model, X[test], y[test]) == pytest.approx(
        -root_mean_squared_error(recorder.y, predictions)
    )
    assert len(model.users_) == len(np.unique(X[train, 0]))


def test_grid_search_over_users_sees_what_a_plain_one_cannot(structured):
    X, y = structured.data, structured.target
    grid = {"n_components": [0, 2]}
    search = GridSearchCV(
        factorization(),
        grid,
        cv=UserKFold(3, random_state=0),
        scoring=ReconstructionScorer(),
        return_train_score=True,
        error_score="raise",
    ).fit(X, y)
    assert search.best_params_ == {"n_components": 2}
    plain = GridSearchCV(
        factorization(unknown_user="baseline"),
        grid,
        cv=GroupKFold(3),
        scoring="neg_root_mean_squared_error",
        error_score="raise",
    ).fit(X, y, groups=X[:, 0])
    scores, cold = search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    assert scores.min() > cold.max()
    assert np.ptp(cold) < np.ptp(scores) / 3


def test_learning_curve_display_names_its_axis(structured):
    pytest.importorskip("matplotlib")
    display = LearningCurveDisplay.from_estimator(
        factorization(),
        structured.data,
        structured.target,
        cv=UserKFold(3, random_state=0),
        scoring=ReconstructionScorer(),
        train_sizes=[0.5, 1.0],
        negate_score=True,
    )
    assert display.ax_.get_ylabel() == "Root mean squared error"
    assert (display.test_scores < 0).all()


def test_pipeline_with_the_estimator_scores_as_the_estimator_alone(structured, named):
    y = structured.target
    keep = ColumnTransformer([("ids", "passthrough", ["user", "item"])])
    scores = cross_validate(
        make_pipeline(keep, factorization()),
        named,
        y,
        cv=UserKFold(3, user_column="user", random_state=0),
        scoring=ReconstructionScorer(user_column="user"),
        error_score="raise",
    )
    alone = cross_validate(
        factorization(user_column="user", item_column="item"),
        named,
        y,
        cv=UserKFold(3, user_column="user", random_state=0),
        scoring=ReconstructionScorer(),
        error_score="raise",
    )
    np.testing.assert_array_equal(scores["test_score"], alone["test_score"])


def test_encoded_users_of_the_estimator_are_refused(structured, named):
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    with pytest.raises(ValueError, match=r"X has 50 users in column 'user', but 1 after"):
        cross_val_score(
            make_pipeline(encoder, factorization()),
            named[["user", "item"]],
            structured.target,
            cv=UserKFold(3, user_column="user", random_state=0),
            scoring=ReconstructionScorer(user_column="user"),
            error_score="raise",
        )


def test_users_with_one_rating_are_scored_by_a_strict_estimator(structured):
    X, y = structured.data, structured.target
    model = factorization(unknown_user="error").fit(X, y)
    strangers = np.column_stack([[901, 902, 902, 902, 902], X[:5, 1]])
    recorder = Recorder()
    ReconstructionScorer(recorder)(model, strangers, y[:5])
    score = ReconstructionScorer()(model, strangers, y[:5])
    assert 901 in recorder.X[:, 0]
    told = recorder.estimator.predict(recorder.X)
    assert score == pytest.approx(-root_mean_squared_error(recorder.y, told))
    cold = model.forget_users().set_params(unknown_user="baseline")
    first = recorder.X[:, 0] == 901
    np.testing.assert_array_equal(told[first], cold.predict(recorder.X[first]))


# ----------------------------------------------------------------------------- protocols


class KeepsDiary:
    """Writes down every table that an estimator is given, in the order of the calls."""

    diary: list = []  # noqa: RUF012

    def fit(self, X, y):
        self.diary.append(("fit", X))
        return super().fit(X, y)

    def personalize(self, X, y):
        self.diary.append(("personalize", X))
        return super().personalize(X, y)

    def predict(self, X):
        self.diary.append(("predict", X))
        return super().predict(X)


class Diary(KeepsDiary, UserMean):
    pass


class FactorizationDiary(KeepsDiary, FederatedReconstructionMF):
    pass


def run_diary(*data, estimator=None, **options):
    """Result of an evaluation, and the calls that it made of the estimator."""
    KeepsDiary.diary.clear()
    result = evaluate(estimator or Diary(1.0), *data, **options)
    return result, list(KeepsDiary.diary)


def ratings_of(rows, X, y):
    """Ratings of (user, item) rows."""
    rating = dict(zip(map(tuple, X.tolist()), y, strict=True))
    return np.array([rating[row] for row in map(tuple, np.asarray(rows).tolist())])


def test_warm_protocol_holds_out_a_share_of_every_user(table):
    X, y = table
    result, [(_, train), (_, query)] = run_diary(X, y, protocols="warm", test_size=0.3)
    assert sorted(pairs(train) + pairs(query)) == pairs(X)
    for user in np.unique(X[:, 0]):
        assert (query[:, 0] == user).sum() == int(0.3 * (X[:, 0] == user).sum())
    assert result["n_train"] == [len(train)] * 2
    assert result["n_test"] == [len(query)] * 2
    assert result["n_unknown_users"] == [0, 0]


def test_unseen_users_are_held_out_and_cold_start_predicts_the_same(table):
    X, y = table
    result, entries = run_diary(X, y, protocols=["unseen_users", "cold_start"])
    calls, (train, support, query, cold_query) = zip(*entries, strict=True)
    assert calls == ("fit", "personalize", "predict", "predict")
    held_out = np.isin(X[:, 0], query[:, 0])
    assert pairs(train) == pairs(X[~held_out])
    assert sorted(pairs(support) + pairs(query)) == pairs(X[held_out])
    assert len(np.unique(query[:, 0])) == 8
    np.testing.assert_array_equal(query, cold_query)
    fitted = UserMean(1.0).fit(train, y[~held_out])
    expected = ReconstructionScorer()(fitted, X[held_out], y[held_out])
    assert result["rmse"][1] == pytest.approx(-expected)
    cold = y[~held_out].mean() - ratings_of(query, X, y)
    np.testing.assert_allclose(np.array(result["rmse"])[[0, 2, 3]], np.sqrt(np.mean(cold**2)))
    n_cold = len(set(query[:, 0]) - set(support[:, 0]))
    assert result["n_unknown_users"] == [n_cold, n_cold, 8, 8]


@pytest.mark.parametrize("kind", ["number", "datetime"])
def test_time_ordered_protocol_predicts_the_future(table, kind):
    X, y = table
    times = np.random.default_rng(0).integers(0, 50, len(y))
    frame = pandas_frame(X).assign(when=times)
    if kind == "datetime":
        frame["when"] = pd.to_datetime(frame["when"], unit="D")
    result, [(_, train), (_, query)] = run_diary(
        frame,
        y,
        estimator=Diary(user_column="user", item_column="item"),
        protocols="time_ordered",
        time_column="when",
    )
    assert train["when"].max() < query["when"].min()
    assert 0.15 * len(y) < len(query) <= 0.2 * len(y)
    strangers = set(query["user"]) - set(train["user"])
    assert result["n_unknown_users"] == [len(strangers)] * 2
    assert result["n_test_users"] == [query["user"].nunique()] * 2


def test_all_protocols_run_and_the_time_ordered_one_where_times_are(table):
    X, y = table
    three = ["warm", "unseen_users", "cold_start"]
    assert evaluate(UserMean(), X, y)["protocol"] == np.repeat(three, 2).tolist()
    timed = np.column_stack([X, np.arange(len(y))])
    four = evaluate(UserMean(), timed, y, time_column=2)["protocol"]
    assert four == np.repeat([*three, "time_ordered"], 2).tolist()


def test_marks_equal_their_definitions(table):
    X, y = table
    result, [(_, train), (_, query)] = run_diary(X, y, protocols="warm")
    y_train, y_query = ratings_of(train, X, y), ratings_of(query, X, y)
    predictions = {
        "global_mean": np.full(len(query), y_train.mean()),
        "Diary": UserMean(1.0).fit(train, y_train).predict(query),
    }
    assert result["model"] == list(predictions)
    for row, y_pred in enumerate(predictions.values()):
        errors = y_pred - y_query
        owned = [errors[query[:, 0] == user] for user in np.unique(query[:, 0])]
        per_user = [np.sqrt(np.mean(mine**2)) for mine in owned]
        assert result["rmse"][row] == pytest.approx(np.sqrt(np.mean(errors**2)))
        assert result["mae"][row] == pytest.approx(np.mean(np.abs(errors)))
        assert result["rating_accuracy"][row] == pytest.approx(np.mean(np.abs(errors) <= 0.5))
        assert result["rmse_by_clients"][row] == pytest.approx(np.mean(per_user))
        for share in (0.1, 0.5, 0.9):
            expected = np.quantile(per_user, share)
            assert result[f"rmse_quantile_{share}"][row] == pytest.approx(expected)


def test_evaluation_is_a_matter_of_seed_and_leaves_the_estimator_alone(table):
    estimator = UserMean(1.0, unknown_user="error")
    result = pd.DataFrame(evaluate(estimator, *table))
    pd.testing.assert_frame_equal(result, pd.DataFrame(evaluate(estimator, *table)))
    assert not result.equals(pd.DataFrame(evaluate(estimator, *table, random_state=1)))
    assert not hasattr(estimator, "users_")
    assert estimator.unknown_user == "error"


def test_bias_only_baseline_is_the_estimator_without_components(structured):
    X, y = structured.data, structured.target
    result = evaluate(factorization(), X, y, relevant_rating=4.0)
    alone = evaluate(factorization(0), X, y, relevant_rating=4.0)
    names = ["global_mean", "bias_only", "FederatedReconstructionMF"]
    assert result["model"] == names * 3
    assert alone["model"] == [names[0], names[2]] * 3
    for column in ("rmse", "ndcg", "n_unknown_users"):
        np.testing.assert_array_equal(result[column][1::3], alone[column][1::2])
    warm, cold = result["rmse"][:3], result["rmse"][6:]
    assert warm[0] > warm[1] > warm[2]
    assert min(cold) > result["rmse"][5]


@pytest.mark.parametrize("name", ["warm", "unseen_users", "cold_start"])
def test_ranking_marks_equal_those_of_recommend(structured, name):
    X, y = structured.data, structured.target
    result, entries = run_diary(
        X,
        y,
        estimator=FactorizationDiary(2, random_state=0),
        protocols=name,
        relevant_rating=4.0,
        k=5,
    )
    tables = dict(entries)  # the estimator comes last
    model = factorization().fit(tables["fit"], ratings_of(tables["fit"], X, y))
    if name != "warm":
        model = model.forget_users()
    if name == "unseen_users":
        told = tables["personalize"]
        model = model.personalize(told, ratings_of(told, X, y))
    query, discounts = tables["predict"], 1 / np.log2(np.arange(2, 7))
    ghost = model.forget_users().set_params(unknown_user="baseline")
    prior, _ = ghost.recommend({}, len(model.items_), exclude=None)
    liked = query[ratings_of(query, X, y) >= 4.0]
    marks = []
    for user in np.unique(liked[:, 0]).tolist():
        best = prior[:5]
        if user in model.users_.tolist():
            best, _ = model.recommend(user, n=5)
        relevant = set(liked[liked[:, 0] == user, 1]) & set(model.items_.tolist())
        gains = np.array([item in relevant for item in best.tolist()])
        ideal = discounts[: len(relevant)].sum()
        marks.append([gains @ discounts / ideal, gains.sum() / len(relevant), gains.any()])
    got = [result[mark][-1] for mark in ("ndcg", "recall", "hit_rate")]
    np.testing.assert_allclose(got, np.mean(marks, axis=0))
    given = set()
    for user in np.unique(query[:, 0]).tolist():
        is_known = user in model.users_.tolist()
        best = model.recommend(user if is_known else {}, n=5)[0]
        given |= set(best.tolist())
    assert result["coverage"][-1] == pytest.approx(len(given) / len(model.items_))


def test_an_item_that_is_rated_again_is_no_discovery(structured):
    X, y = structured.data, structured.target
    first = np.arange(len(y)) % 5 > 0
    again = X[first][:200]
    rated = np.vstack([X[first], X[~first], again])
    timed = np.column_stack([rated, np.repeat([0, 1, 1], [first.sum(), (~first).sum(), 200])])
    y_timed = np.concatenate([y[first], y[~first], np.full(200, 5.0)])
    options = {"protocols": "time_ordered", "time_column": 2, "relevant_rating": 4.0}
    with_repeats = evaluate(factorization(), timed, y_timed, test_size=0.3, **options)
    without = evaluate(factorization(), timed[:-200], y_timed[:-200], test_size=0.3, **options)
    assert with_repeats["n_test"][0] == without["n_test"][0] + 200
    for mark in ("ndcg", "recall", "hit_rate"):
        assert with_repeats[mark] == without[mark]


def test_coverage_does_not_depend_on_how_many_users_are_graded_at_once(structured, monkeypatch):
    options = {"protocols": "warm", "relevant_rating": 4.0, "k": 3}
    arguments = (factorization(), structured.data, structured.target)
    together = evaluate(*arguments, **options)["coverage"]
    monkeypatch.setattr("sklearn_fedrecon.model_selection._grading._BLOCK", 7)
    np.testing.assert_allclose(evaluate(*arguments, **options)["coverage"], together)
    assert 0 < together[-1] < 1


def test_ranking_of_the_global_mean_is_chance(structured):
    X, y = structured.data, structured.target
    result, entries = run_diary(
        X,
        y,
        estimator=FactorizationDiary(0, random_state=0),
        protocols="cold_start",
        relevant_rating=-np.inf,
        k=12,
    )
    n_items = len(np.unique(dict(entries)["fit"][:, 1]))
    assert result["recall"][0] == pytest.approx(12 / n_items)


def test_nothing_relevant_has_no_mark(structured):
    result = evaluate(
        factorization(0),
        structured.data,
        structured.target,
        protocols="warm",
        relevant_rating=1e9,
    )
    assert np.isnan(result["ndcg"]).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"protocols": "hot"}, ValueError, "protocols must be 'all' or some of.*got 'hot'"),
        ({"protocols": []}, ValueError, r"got \[\]"),
        ({"protocols": "time_ordered"}, ValueError, "needs time_column="),
        ({"time_column": 7}, ValueError, "time_column=7 is not a column of X"),
        ({"test_size": 0.0}, ValueError, r"test_size must be a share in \(0, 1\); got 0.0"),
        ({"test_size": 3}, ValueError, "got 3"),
        ({"test_size": 0.01, "protocols": "warm"}, ValueError, "430 ratings to fit and 0 to"),
        ({"support_size": 1.5}, ValueError, "support_size must be"),
        ({"random_state": None}, TypeError, "random_state must be an int; got None"),
        ({"relevant_rating": 3.0, "k": 0}, ValueError, "k must be an integer"),
    ],
)
def test_bad_parameters_of_an_evaluation_are_refused(table, options, error, message):
    with pytest.raises(error, match=message):
        evaluate(UserMean(), *table, **options)


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        (["2020-01-01"] * 430, TypeError, "convert it to numbers or datetimes"),
        ([np.nan] * 430, ValueError, "holds missing values"),
        ([7] * 430, ValueError, "leaves 430 ratings to fit and 0 to predict"),
    ],
)
def test_bad_times_are_refused(table, times, error, message):
    X, y = table
    estimator = UserMean(user_column="user", item_column="item")
    frame = pandas_frame(X).assign(when=times)
    with pytest.raises(error, match=message):
        evaluate(estimator, frame, y, protocols="time_ordered", time_column="when")


def test_an_estimator_that_cannot_reconstruct_is_refused(table):
    with pytest.raises(TypeError, match=r"evaluate needs an estimator.*cross_validate"):
        evaluate(make_pipeline(UserMean()), *table)
