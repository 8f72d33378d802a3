"""Errors say what was given and what to do; what only looks bad works."""

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.client_update import VariationalUpdate
from sklearn_fedrecon.reconstruction import RidgeReconstruction, VariationalReconstruction
from sklearn_fedrecon.server_optimizers import SGD, NaturalGradient, Yogi
from sklearn_fedrecon.splitting import BatchParitySplit, RandomSplit

USERS = np.repeat(np.arange(6), 5)
ITEMS = np.tile(np.arange(5), 6)
X = np.column_stack([USERS, ITEMS])
y = np.array([1.0 + (user + item) % 5 for user, item in zip(USERS, ITEMS, strict=True)])


def new(**options):
    return FederatedReconstructionMF(**{"n_components": 2, "random_state": 0, **options})


@pytest.fixture(scope="module")
def model():
    return new().fit(X, y)


def with_id(column, value):
    """The table as objects, with one id replaced."""
    table = X.astype(object)
    table[3, column] = value
    return table


# --- the table ---------------------------------------------------------------------------------

TABLES = {
    "sparse": (sparse.csr_array(X), TypeError, "(?i)sparse.*a row a rating"),
    "sparse matrix": (sparse.csr_matrix(X), TypeError, "(?i)sparse"),
    "no rows": (X[:0], ValueError, "0 sample.*minimum of 1"),
    "no columns": (X[:, :0], ValueError, "0 feature.*minimum of"),
    "one dimension": (X[:, 0], ValueError, "Expected 2D array, got 1D"),
    "three dimensions": (X[None], ValueError, "dim"),
    "complex ids": (X + 0j, ValueError, "Complex data not supported"),
    "booleans": (X > 2, TypeError, "bool values, which cannot be ids"),
    "large floats": (X + 2.0**53, ValueError, r"2\*\*53.*integers or strings"),
    "rows of different lengths": ([[1, 2], [3]], ValueError, "different lengths"),
    **{
        f"{value!r} as {name}": (
            with_id(column, value),
            ValueError,
            f"{name}_column={column} of X contains missing values.*drop these rows",
        )
        for (column, name), value in product(
            enumerate(["user", "item"]), [None, np.nan, pd.NA, pd.NaT]
        )
    },
    **{
        f"{value} as {name}": (
            with_id(column, value).astype(float),
            ValueError,
            f"{name}_column={column} of X contains infinity",
        )
        for (column, name), value in product(enumerate(["user", "item"]), [np.inf, -np.inf])
    },
    **{
        f"strings among numbers as {name}": (
            with_id(column, "7"),
            TypeError,
            rf"{name}_column={column} of X mixes types.*all strings or all numbers.*'str'",
        )
        for column, name in enumerate(["user", "item"])
    },
}


@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict", "personalize"])
@pytest.mark.parametrize("name", TABLES)
def test_table(name, method):
    table, error, message = TABLES[name]
    n_rows = len(table) if isinstance(table, list) else table.shape[0]
    ratings = () if method == "predict" else (np.ones(n_rows),)
    estimator = new() if method in ("fit", "partial_fit") else new().fit(X, y)
    with pytest.raises(error, match=message):
        getattr(estimator, method)(table, *ratings)


def test_one_column_is_too_few_to_fit():
    with pytest.raises(ValueError, match=r"1 feature\(s\).*minimum of 2 is required"):
        new().fit(X[:, :1], y)


def test_another_number_of_columns_than_in_fit(model):
    with pytest.raises(ValueError, match=r"X has 3 features, but .* is expecting 2 features"):
        model.predict(np.column_stack([X, y]))


FRAME = pd.DataFrame({"user": USERS, "item": ITEMS, "time": 0.0})


@pytest.mark.parametrize(
    ("options", "table", "message"),
    [
        (
            {"user_column": "usr", "item_column": "item"},
            FRAME,
            r"user_column='usr' is not a column of X: \['user', 'item', 'time'\]",
        ),
        (
            {"user_column": "user", "item_column": "itm"},
            FRAME,
            r"item_column='itm' is not a column of X: \['user', 'item', 'time'\]",
        ),
        ({"user_column": "user"}, X, "user_column='user' is a name, but X has no column names"),
        ({"item_column": 2}, X, "item_column=2 is not a column of X, which has 2"),
        ({"user_column": "item"}, FRAME, "are the same column"),
        ({"user_column": 1}, X, "are the same column"),
    ],
)
def test_columns(options, table, message):
    with pytest.raises(ValueError, match=message):
        new(**options).fit(table, y)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *product(["user", "item"], ["predict", "personalize", "partial_fit"]),
        ("item", "fit"),  # a warm start keeps the items; users are those of the table
    ],
)
def test_ids_of_another_kind_than_in_fit(name, method):
    # They would be unknown, every one, and nobody would notice.
    column = ["user", "item"].index(name)
    other = X.astype(object)
    other[:, column] = [f"{number}" for number in other[:, column]]
    model = new(warm_start=True).fit(X, y)
    ratings = () if method == "predict" else (y,)
    with pytest.raises(ValueError, match=f"The {name} ids are strings, but .* numbers in fit"):
        getattr(model, method)(other, *ratings)


# --- ratings and weights -----------------------------------------------------------------------


def replaced(array, value):
    array = np.array(array, dtype=object if value is None else float)
    array[4] = value
    return array


RATINGS = {
    "NaN": (replaced(y, np.nan), ValueError, "Input y contains NaN"),
    "infinity": (replaced(y, np.inf), ValueError, "Input y contains infinity"),
    "missing": (None, ValueError, "requires y to be passed, but the target y is None"),
    "None": (replaced(y, None), ValueError, "y contains NaN|numbers"),
    "too few": (y[:-1], ValueError, r"30 row\(s\) and 29 rating\(s\).*one rating for each row"),
    "text": (y.astype(str), ValueError, "ratings have to be numbers"),
    "a table": (np.column_stack([y, y]), ValueError, "1d array"),
    "too large": (y * 1e300, ValueError, "too large for dtype='float32'.*dtype='float64'"),
}
WEIGHTS = {
    "negative": (replaced(np.ones(30), -0.5), ValueError, "Negative values.*-0.5.*zero and more"),
    "all zero": (np.zeros(30), ValueError, "All values of sample_weight are zero"),
    "NaN": (replaced(np.ones(30), np.nan), ValueError, "sample_weight contains NaN"),
    "infinity": (replaced(np.ones(30), np.inf), ValueError, "sample_weight contains infinity"),
    "too few": (np.ones(29), ValueError, r"sample_weight has shape \(29,\); expected \(30,\)"),
}
trainers = pytest.mark.parametrize("method", ["fit", "partial_fit", "personalize"])


def trainer(method):
    return getattr(new().fit(X, y) if method == "personalize" else new(), method)


@trainers
@pytest.mark.parametrize("name", RATINGS)
def test_ratings(name, method):
    ratings, error, message = RATINGS[name]
    with pytest.raises(error, match=message):
        trainer(method)(X, ratings)


@trainers
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name, method):
    weights, error, message = WEIGHTS[name]
    with pytest.raises(error, match=message):
        trainer(method)(X, y, sample_weight=weights)


@trainers
def test_ratings_outside_the_scale(method):
    high = new(rating_scale=(2, 5)).fit(X, np.maximum(y, 2))
    message = r"Ratings from 1 to 5 do not fit rating_scale=\(2, 5\): correct them, or declare"
    with pytest.raises(ValueError, match=message):
        getattr(high, method)(X, y)


@pytest.mark.parametrize("scale", [(5, 1), (1, 1), (1, 2, 3), (1, np.nan), (-np.inf, 5), ("a", 1)])
def test_scale(scale):
    with pytest.raises(ValueError, match=r"rating_scale=.*two numbers, the lowest"):
        new(rating_scale=scale).fit(X, y)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_items_outside_the_catalogue(method):
    message = r"not in the catalogue declared by `items`: 0, 4\. Add them"
    with pytest.raises(ValueError, match=message):
        getattr(new(items=[1, 2, 3]), method)(X, y)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([0, 1, 2, 3, 4, 3], r"names 1 item\(s\) more than once"),
        ([0, 1, 2, 3, np.nan], "items contains missing values"),
        (np.array([[0, 1], [2, 3]]), "one-dimensional, got shape"),
        (list("01234"), "ids are numbers, but they were strings"),
    ],
)
def test_catalogue(items, message):
    with pytest.raises(ValueError, match=message):
        new(items=items).fit(X, y)


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("n_components", -1, r"int in the range \[0, inf\). Got -1"),
        ("n_components", 2.5, r"int in the range \[0, inf\). Got 2.5"),
        (
            "clients_per_round",
            0,
            r"int in the range \[1, inf\), a float in the range \(0.0, 1.0\]",
        ),
        ("clients_per_round", -3, "Got -3"),
        ("clients_per_round", 0.0, "Got 0.0"),
        ("clients_per_round", 1.5, "Got 1.5"),
        ("clients_per_round", -0.5, "Got -0.5"),
        ("clients_per_round", np.nan, "Got nan"),
        ("max_iter", 0, r"int in the range \[1, inf\)"),
        ("tol", -1e-3, "Got -0.001"),
        ("client_dropout", 1.0, r"in the range \[0.0, 1.0\)"),
        ("validation_fraction", 0.0, r"in the range \(0.0, 1.0\)"),
        ("validation_fraction", 1.0, r"in the range \(0.0, 1.0\)"),
        ("n_iter_no_change", 0, r"int in the range \[1, inf\)"),
        ("global_mean", np.inf, r"\(-inf, inf\). Got inf"),
        ("global_mean", np.nan, "Got nan"),
        ("global_mean", "mean", "'federated'"),
        ("sampling", "stratified", "'poisson'"),
        ("unknown_user", "ignore", "'baseline'"),
        ("dtype", "float16", "'float32'"),
        ("user_column", -1, r"int in the range \[0, inf\)"),
        ("user_column", 1.0, "Got 1.0"),
        ("random_state", "seed", "Got 'seed'"),
        ("fit_bias", "yes", "Got 'yes'"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_parameter(parameter, value, message, method):
    pattern = f"The '{parameter}' parameter of FederatedReconstructionMF must be.*{message}"
    with pytest.raises(ValueError, match=pattern):
        getattr(new(**{parameter: value}), method)(X, y)


@pytest.mark.parametrize("sampling", ["fixed", "poisson"])
def test_more_clients_a_round_than_users(sampling):
    message = "clients_per_round=7 is more than the 6 users that can take part. Lower it"
    with pytest.raises(ValueError, match=message):
        new(clients_per_round=7, sampling=sampling).fit(X, y)
    with pytest.raises(ValueError, match="clients_per_round=6 is more than the 5 users"):
        new(clients_per_round=6, sampling=sampling, early_stopping=True).fit(X, y)


@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_ratings_that_single_precision_cannot_tell_apart(call):
    message = (
        "lie 8 apart in dtype='float32'.*subtract a constant from them, or use dtype='float64'"
    )
    with pytest.raises(ValueError, match=message):
        getattr(new(), call)(X, y + 1e8)
    double = getattr(new(dtype="float64"), call)(X, y + 1e8)
    expected = getattr(new(dtype="float64"), call)(X, y)
    np.testing.assert_allclose(double.predict(X) - 1e8, expected.predict(X), atol=1e-4)


def test_nobody_left_to_train_on():
    message = r"holds out a user, and there is 1 \(n_samples=3\), which leaves nobody to train on"
    with pytest.raises(ValueError, match=message):
        new(early_stopping=True).fit(X[:3], y[:3])


@pytest.mark.parametrize(
    ("total", "error", "message"),
    [
        (5, ValueError, "total_users=5 is less than the 6 users known by now"),
        (6.5, TypeError, "total_users=6.5 has to be a number of users"),
        ("all", TypeError, "total_users='all' has to be a number of users"),
    ],
)
def test_total_users(total, error, message):
    with pytest.raises(error, match=message):
        new().partial_fit(X, y, total_users=total)


# --- parts -------------------------------------------------------------------------------------

ROLES = ["reconstruction", "client_update", "aggregator", "server_optimizer", "support_query"]


@pytest.mark.parametrize("role", ROLES)
def test_a_string_that_names_no_part(role):
    with pytest.raises(ValueError, match=f"{role}='magic' names no part: use one of .* an object"):
        new(**{role: "magic"}).fit(X, y)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("value", [None, 3, object(), NaturalGradient], ids=repr)
def test_an_object_that_is_no_part(role, value):
    if role == "server_optimizer" and value is NaturalGradient:
        value = VariationalUpdate
    with pytest.raises((TypeError, ValueError), match=role):
        new(**{role: value}).fit(X, y)


@pytest.mark.parametrize(
    ("options", "needs", "given"),
    [
        ({"server_optimizer": "adam"}, "Adam needs item deltas", "VariationalUpdate()"),
        ({"client_update": "sgd"}, "NaturalGradient needs sufficient statistics", "SGDUpdate()"),
        (
            {"reconstruction": "ridge", "client_update": "variational"},
            "VariationalUpdate needs posterior variances",
            "RidgeReconstruction()",
        ),
        (
            {"reconstruction": RidgeReconstruction(), "server_optimizer": NaturalGradient()},
            "NaturalGradient needs sufficient statistics",
            "SGDUpdate()",
        ),
        (
            {"reconstruction": VariationalReconstruction(), "server_optimizer": Yogi()},
            "Yogi needs item deltas",
            "VariationalUpdate()",
        ),
    ],
)
@pytest.mark.parametrize("table", [X, None], ids=["data", "before any work is done"])
def test_parts_that_do_not_work_together(options, needs, given, table):
    message = f"{needs}, which {re.escape(given)} does not give: choose a partner that does"
    with pytest.raises(ValueError, match=message):
        new(**options).fit(table, y)


def test_parameters_of_parts_are_checked():
    with pytest.raises(ValueError, match="'batch_size' parameter of BatchParitySplit must be"):
        new(support_query=BatchParitySplit(batch_size=0)).fit(X, y)


# --- methods of a fitted model -----------------------------------------------------------------

METHODS = {
    "predict": (X,),
    "score": (X, y),
    "personalize": (X, y),
    "forget_users": (),
    "reconstruct_user": ([1], [3.0]),
    "recommend": (1,),
    "similar_items": (1,),
}


@pytest.mark.parametrize("method", METHODS)
def test_before_fit(method):
    with pytest.raises(NotFittedError, match=r"is not fitted yet\. Call 'fit'"):
        getattr(new(), method)(*METHODS[method])


@pytest.mark.parametrize("method", METHODS)
def test_after_a_fit_that_failed(method):
    model = new()
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X, replaced(y, np.nan))
    with pytest.raises(NotFittedError, match=r"is not fitted yet\. Call 'fit'"):
        getattr(model, method)(*METHODS[method])


@pytest.mark.parametrize(
    ("items", "ratings", "message"),
    [
        ([1, 99, 98], [3, 3, 3], r"2 item id\(s\) are unknown: 98, 99.*leave the others out"),
        ([1, 2, 1], [3, 4, 5], "items repeats an item: give each one once"),
        ([1, 2], [3], r"items has shape \(2,\) and ratings \(1,\): .* same length"),
        ([], [3], r"items has shape \(0,\) and ratings \(1,\)"),
        ([1], [], r"items has shape \(1,\) and ratings \(0,\)"),
        (1, 3, r"items has shape \(\) and ratings \(\)"),
        ([[1, 2]], [[3, 4]], r"items has shape \(1, 2\)"),
        (["1"], [3], "The item ids are strings, but they were numbers in fit"),
        ([np.nan], [3], "items contains missing values"),
        ([1], [np.nan], "contains NaN"),
        ([1], [np.inf], "contains infinity"),
        ([1], ["good"], "ratings have to be numbers"),
    ],
)
def test_reconstruct_user(model, items, ratings, message):
    with pytest.raises(ValueError, match=message):
        model.reconstruct_user(items, ratings)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1, -1], "Negative"), ([0, 0], "All values"), ([1], "shape"), ([1, np.nan], "NaN")],
)
def test_weights_of_reconstruct_user(model, weights, message):
    with pytest.raises(ValueError, match=message):
        model.reconstruct_user([1, 2], [3, 4], sample_weight=weights)


def test_reconstruct_user_outside_the_scale():
    with pytest.raises(ValueError, match=r"do not fit rating_scale=\(1, 5\)"):
        new(rating_scale=(1, 5)).fit(X, y).reconstruct_user([1], [6])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"user": 99}, "user 99 is not known: .*reconstruct_user.*personalize"),
        ({"user": "1"}, "user ids are strings, but they were numbers in fit"),
        ({"user": None}, "missing"),
        ({"user": 1, "n": 0}, "n=0 .*1 or more"),
        ({"user": 1, "n": 2.5}, "n=2.5 .*whole number"),
        ({"user": 1, "exclude": [77]}, r"1 item id\(s\) are unknown: 77"),
        ({"user": 1, "exclude": "all"}, "exclude"),
        ({"user": 1, "candidates": [0, 77]}, r"1 item id\(s\) are unknown: 77"),
        ({"user": 1, "candidates": ["0"]}, "item ids are strings, but they were numbers"),
    ],
)
def test_recommend(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.recommend(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"item": 77}, r"1 item id\(s\) are unknown: 77"),
        ({"item": "1"}, "item ids are strings, but they were numbers"),
        ({"item": 1, "n": 0}, "n=0"),
        ({"item": 1, "n": 1.5}, "n=1.5"),
    ],
)
def test_similar_items(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.similar_items(**arguments)


def test_similar_items_without_factors():
    with pytest.raises(ValueError, match=r"compares factors.*n_components=0 has none"):
        new(n_components=0).fit(X, y).similar_items(1)


def test_unknown_users_can_be_an_error():
    model = new(unknown_user="error").fit(X, y)
    assert np.isfinite(model.predict(X)).all()
    with pytest.raises(ValueError, match=r"2 of 3 rows belong to unknown users.*personalize"):
        model.predict([[99, 1], [98, 1], [1, 1]])


def test_no_variances_no_std():
    model = new(reconstruction="ridge", max_iter=2).fit(X, y)
    with pytest.raises(ValueError, match=r"return_std=True needs posterior.*variational"):
        model.predict(X, return_std=True)


@pytest.mark.parametrize(
    ("parameter", "value"), [("n_components", 3), ("fit_bias", False), ("dtype", "float64")]
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_going_on_with_another_shape(parameter, value, method):
    model = new(warm_start=True).fit(X, y).set_params(**{parameter: value})
    with pytest.raises(ValueError, match=f"{parameter} is .* in the fit to continue from: set it"):
        getattr(model, method)(X, y)


# --- what only looks bad -----------------------------------------------------------------------

EDGES = {
    "more components than items": (X, y, {"n_components": 50}),
    "a user with one rating": (np.vstack([X, [[77, 2]]]), np.append(y, 4.0), {}),
    "all ratings equal": (X, np.full(30, 3.7), {}),
    "one user": (X[:5], y[:5], {}),
    "one item": (X[::5], y[::5], {}),
    "one rating": (X[:1], y[:1], {}),
    "one rating a user": (np.column_stack([np.arange(30), ITEMS]), y, {}),
    "negative ratings": (X, -y, {}),
    "tiny ratings": (X, y * 1e-12, {}),
    "the same pair twice": (np.vstack([X, X]), np.append(y, y[::-1]), {}),
}


@pytest.mark.parametrize("cohort", [None, 0.5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rounds", [10, 500])
@pytest.mark.parametrize("name", EDGES)
@pytest.mark.filterwarnings("ignore:All .* ratings are")
def test_edges(name, rounds, dtype, cohort):
    table, ratings, options = EDGES[name]
    model = new(max_iter=rounds, tol=None, dtype=dtype, clients_per_round=cohort)
    model.set_params(**options).fit(table, ratings)
    assert model.n_iter_ == rounds
    assert model.history_["finite"].all()
    predicted, std = model.predict(table, return_std=True)
    assert (std > 0).all()
    assert np.isfinite(std).all()
    low, high = ratings.min(), ratings.max()
    slack = max(0.5 * (high - low), 1e-6 * abs(high))
    assert predicted.min() >= low - slack
    assert predicted.max() <= high + slack


# --- going on from a fit -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({}, {"n_components": 3}, "n_components is 3 and was 2"),
        ({}, {"fit_bias": False}, "fit_bias is False and was True"),
        ({}, {"dtype": "float64"}, "dtype is 'float64' and was 'float32'"),
        ({"global_mean": 3.0}, {"global_mean": 2.0}, "global_mean is 2.0 and was 3.0"),
        ({"global_mean": 3.0, "reconstruction": "sgd"}, {"global_mean": "learned"}, "and was 3.0"),
        ({}, {"reconstruction": "ridge"}, r"Adam\(\) cannot continue .*counts.*fit anew"),
        ({"reconstruction": "sgd"}, {"server_optimizer": "adam"}, "Adam.* cannot continue"),
        ({"reconstruction": "sgd"}, {"server_optimizer": SGD(momentum=0.9)}, "cannot continue"),
    ],
)
@pytest.mark.parametrize("go_on", ["fit", "partial_fit"])
def test_parameters_that_a_fit_cannot_go_on_with(first, then, message, go_on):
    settings = {"max_iter": 1, "warm_start": True, "support_query": RandomSplit()} | first
    model = new(**settings).fit(X, y).set_params(**then)
    before = model.item_factors_
    with pytest.raises(ValueError, match=message):
        getattr(model, go_on)(X, y)
    assert model.item_factors_ is before


def test_a_mean_that_nobody_would_learn():
    with pytest.raises(ValueError, match=r"'learned' needs clients that update the mean.*SGD"):
        new(global_mean="learned").fit(X, y)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e20), ("float64", 1e160)])
def test_ratings_too_large_to_be_squared(dtype, size):
    with pytest.raises(ValueError, match=f"Ratings of magnitude .* too large for dtype='{dtype}'"):
        new(dtype=dtype).fit(X, y * size)
    assert np.isfinite(new(dtype=dtype).fit(X, y * size**0.5).predict(X)).all()


@pytest.mark.parametrize(
    "options",
    [
        {"reconstruction": "sgd"},
        {"reconstruction": "sgd", "support_query": BatchParitySplit(20)},
        {"support_query": RandomSplit(1.0)},
    ],
)
def test_nothing_left_to_learn_from_is_said(options):
    with pytest.warns(ConvergenceWarning, match="No round updated the items.*smaller batches"):
        new(**options).fit(X, y)


@pytest.mark.parametrize("settings", [{"step_size": -1}, {"step_size": 5.0}, {"step_decay": "a"}])
def test_steps_of_the_natural_gradient(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        new(server_optimizer=NaturalGradient(**settings), clients_per_round=2).fit(X, y)
