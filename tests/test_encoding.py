"""Ids and ratings out of X and y, checked against plain Python loops."""

import datetime
import decimal
import pickle
import uuid

import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.fixes import parse_version

from sklearn_fedrecon._encoding import (
    IdIndex,
    check_digits,
    check_ids,
    check_table,
    check_targets,
    drop_zero_weight,
    encode_ratings,
    read_columns,
)

# ------------------------------------------------------------------------------ tables


class Table(BaseEstimator):
    """Just enough of an estimator for `check_table`."""

    def __init__(self, user_column=0, item_column=1):
        self.user_column = user_column
        self.item_column = item_column


def pandas_frame(columns, **dtypes):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(columns)
    return frame.astype(dtypes)


def polars_frame(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def arrow_table(columns):
    return pytest.importorskip("pyarrow").table(columns)


class HasArray:
    """Knows only how to become an array."""

    def __init__(self, data):
        self.data = data

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.data, dtype=dtype)


CONTAINERS = {
    "array": lambda columns: np.array(list(zip(*columns.values(), strict=True)), dtype=object),
    "array protocol": lambda columns: HasArray(
        np.array(list(zip(*columns.values(), strict=True)), dtype=object)
    ),
    "list of lists": lambda columns: [list(row) for row in zip(*columns.values(), strict=True)],
    "list of tuples": lambda columns: list(zip(*columns.values(), strict=True)),
    "pandas": pandas_frame,
    "polars": polars_frame,
    "pyarrow": arrow_table,
}
COLUMNS = {
    "integers": [7, 3, 7],
    "large integers": [2**60 + 1, 2**60, 2**63 - 1],
    "floats": [0.5, 2.0, 0.5],
    "strings": ["b", "a", "b"],
    "bytes": [b"b", b"a", b"b"],
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", COLUMNS)
def test_ids_come_out_of_every_container_as_they_went_in(container, kind):
    ignored = [None, None, None] if container != "array" else [np.nan, "x", None]
    X = CONTAINERS[container]({"note": ignored, "user": COLUMNS[kind], "item": ["x", "y", "z"]})
    users, items = read_columns(X, 1, 2)
    assert users.tolist() == COLUMNS[kind]
    assert items.tolist() == ["x", "y", "z"]


@pytest.mark.parametrize("container", ["pandas", "polars", "pyarrow"])
def test_columns_of_frames_are_found_by_name(container):
    X = CONTAINERS[container]({"when": [9, 9], "item": [1, 2], "user": ["a", "b"]})
    users, items = read_columns(X, "user", "item")
    assert (users.tolist(), items.tolist()) == (["a", "b"], [1, 2])
    users, items = read_columns(X, "user", 0)
    assert (users.tolist(), items.tolist()) == (["a", "b"], [9, 9])


@pytest.mark.parametrize(
    "dtype",
    ["category", "string", "Int64", "Float64", "int64[pyarrow]", "string[pyarrow]", "int8"],
)
def test_pandas_extension_types(dtype):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    values = ["b", "a"] if dtype in ("string", "string[pyarrow]") else [2, 1]
    X = pandas_frame({"user": values, "item": [5, 6]}, user=dtype)
    users, _ = read_columns(X, "user", "item")
    assert users.tolist() == values
    assert IdIndex.fit(users).ids.tolist() == sorted(values)


@pytest.mark.parametrize(
    "ids",
    [
        np.array([3, 1], dtype=np.int8),
        np.array([3, 2**63], dtype=np.uint64),
        np.array([3, 1.5], dtype=np.float16),
        np.array([2.0**53 - 1, -(2.0**53) + 1]),
        np.array([2**24 - 1, 1], dtype=np.float32),
        np.array(["ab", "a"]),
        np.array([b"ab", b"a"]),
        np.array(["2020-01-02", "2020-01-01"], dtype="datetime64[D]"),
    ],
    ids=lambda ids: str(ids.dtype),
)
def test_arrays_keep_their_type(ids):
    users, items = read_columns(np.stack([ids, ids[::-1]], axis=1), 0, 1)
    assert users.dtype == ids.dtype
    np.testing.assert_array_equal(users, ids)
    np.testing.assert_array_equal(items, ids[::-1])


@pytest.mark.parametrize(
    "ids",
    [
        [uuid.UUID(int=2), uuid.UUID(int=1)],
        [datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)],
        [decimal.Decimal("1.5"), decimal.Decimal("0.1")],
    ],
    ids=["UUID", "date", "Decimal"],
)
def test_other_objects_of_one_type_are_ids(ids):
    index = IdIndex.fit(check_ids(ids, "ids"))
    assert index.ids.tolist() == sorted(ids)
    assert index.encode(check_ids(ids, "ids")).tolist() == [1, 0]


def test_objects_that_are_numbers_become_numbers():
    assert check_ids([1, 2.5, np.int32(3)], "ids").dtype == np.float64
    assert check_ids(np.array([1, 2**62 + 1], dtype=object), "ids").tolist() == [1, 2**62 + 1]


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([1.0, np.nan], ValueError, "missing values .NaN"),
        (["a", np.nan], ValueError, "missing values .NaN"),
        (["a", None], ValueError, "missing values"),
        ([1, None], ValueError, "missing values"),
        ([np.datetime64("NaT"), np.datetime64("2020")], ValueError, "missing values"),
        ([decimal.Decimal(1), decimal.Decimal("nan")], ValueError, "missing values"),
        (np.array(["2020", "NaT"], dtype="M8[D]"), ValueError, "missing values"),
        (np.ma.masked_array([1, 2], mask=[True, False]), ValueError, "missing values"),
        ([1.0, np.inf], ValueError, "infinity"),
        ([1.0, -np.inf], ValueError, "infinity"),
        (["a", 1], TypeError, r"mixes types.*\['int', 'str'\]"),
        (["a", b"a"], TypeError, r"mixes types.*\['bytes', 'str'\]"),
        ([1, True], TypeError, r"mixes types.*\['bool', 'int'\]"),
        ([1, {}], TypeError, "argument must be .* string.* number"),
        ([{}, {}], TypeError, "argument must be .* string.* number"),
        ([[1], [2]], TypeError, "objects of type list"),
        ([True, False], TypeError, "bool values, which cannot be ids"),
        (np.array([True, False]), TypeError, "bool values, which cannot be ids"),
        (np.array([1, 2], dtype="m8[D]"), TypeError, "timedelta64"),
        ([1j, 2j], ValueError, "Complex data not supported"),
        (np.array([1j, 2j]), ValueError, "Complex data not supported"),
        ([1.0, 2.0**53], ValueError, r"2\*\*53 and more"),
        ([1.0, -(2.0**53)], ValueError, r"2\*\*53 and more"),
        ([2**53, 0.5], ValueError, r"2\*\*53 and more"),
        (np.array([2**24, 1], dtype=np.float32), ValueError, r"2\*\*24 and more"),
        (np.array([2**53, 1], dtype=np.longdouble), ValueError, r"2\*\*53 and more"),
        ([2**64, 1], ValueError, "beyond 64 bits"),
        ([[1, 2], [3, 4]], TypeError, "objects of type list"),
        (np.ones((2, 2)), ValueError, "one-dimensional"),
    ],
)
def test_ids_that_are_refused(ids, error, message):
    with pytest.raises(error, match=f"(?s)some place.*{message}|{message}.*some place"):
        check_ids(ids, "some place")


@pytest.mark.parametrize(
    "column",
    [
        lambda pd: pd.Series([1, None], dtype="Int64"),
        lambda pd: pd.Series(["a", None], dtype="string"),
        lambda pd: pd.Series(["a", None], dtype="category"),
        lambda pd: pd.Series(["a", pd.NA], dtype=object),
        lambda pd: pd.Series([pd.Timestamp(2020, 1, 1), pd.NaT]),
        lambda pd: pd.Series([1, pd.NaT], dtype=object),
    ],
)
def test_missing_values_of_pandas_are_refused(column):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"user": column(pandas), "item": [1, 2]})
    with pytest.raises(ValueError, match="user_column='user' of X contains missing"):
        read_columns(X, "user", "item")
    with pytest.raises(ValueError, match="item_column=0 of X contains missing"):
        read_columns(X, 1, 0)


def test_nulls_of_an_arrow_dictionary_are_refused():
    pyarrow = pytest.importorskip("pyarrow")
    column = pyarrow.array(["a", None, "b"]).dictionary_encode()
    with pytest.raises(ValueError, match="missing"):
        read_columns(pyarrow.table({"user": column, "item": [1, 2, 3]}), 0, 1)


@pytest.mark.parametrize("dtype", ["Int64", "Categorical", "String"])
def test_nulls_of_polars_are_refused(dtype):
    polars = pytest.importorskip("polars")
    values = [1, None] if dtype == "Int64" else ["a", None]
    column = polars.Series(values, dtype=getattr(polars, dtype))
    with pytest.raises(ValueError, match="missing"):
        read_columns(polars.DataFrame({"user": column, "item": [1, 2]}), 0, 1)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (sparse.csr_array(np.eye(3)), TypeError, "[Ss]parse data"),
        (np.ones((2, 2)) * 1j, ValueError, "Complex data not supported"),
        (np.ones(3), ValueError, "Reshape your data"),
        ([1, 2, 3], ValueError, "Reshape your data"),
        (np.ones((2, 2, 2)), ValueError, "dim 3"),
        (np.empty((0, 2)), ValueError, r"0 sample\(s\)"),
        ([], ValueError, "Expected 2D array"),
        (np.empty((3, 0)), ValueError, r"0 feature\(s\)"),
        ([[], []], ValueError, r"0 feature\(s\)"),
        ([[1], [2]], ValueError, r"1 feature\(s\).*minimum of 2"),
        (np.ones((3, 1)), ValueError, r"1 feature\(s\).*minimum of 2"),
        ([[1, 2], [3]], ValueError, r"different lengths, \[1, 2\]"),
    ],
)
def test_tables_of_the_wrong_shape_are_refused_in_fit(X, error, message):
    with pytest.raises(error, match=message):
        check_table(Table(), X, reset=True)


@pytest.mark.parametrize("container", ["pandas", "polars", "pyarrow"])
def test_frames_of_the_wrong_shape_are_refused_in_fit(container):
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        check_table(Table(), CONTAINERS[container]({"user": [], "item": []}), reset=True)
    with pytest.raises(ValueError, match=r"1 feature\(s\).*minimum of 2"):
        check_table(Table(), CONTAINERS[container]({"user": [1, 2]}), reset=True)


def test_lazy_frame_is_refused():
    polars = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"lazy LazyFrame.*collect\(\)"):
        read_columns(polars.LazyFrame({"user": [1], "item": [1]}), 0, 1)


@pytest.mark.parametrize(
    ("user_column", "item_column", "message"),
    [
        ("usr", "item", r"user_column='usr' is not a column of X: \['user', 'item', 'user2'\]"),
        (0, 3, r"item_column=3 is not a column of X, which has 3 column\(s\).*from 0 to 2"),
        (-1, 1, "user_column=-1 is not a column of X"),
        ("user", 0, "user_column='user' and item_column=0 are the same column"),
        (1, 1, "user_column=1 and item_column=1 are the same column"),
    ],
)
def test_columns_that_cannot_be_found(user_column, item_column, message):
    X = pandas_frame({"user": [1], "item": [2], "user2": [3]})
    with pytest.raises(ValueError, match=message):
        read_columns(X, user_column, item_column)


def test_ambiguous_name_is_refused():
    X = pandas_frame({"user": [1], "item": [2]})
    X.columns = ["id", "id"]
    with pytest.raises(ValueError, match="several columns"):
        read_columns(X, "id", 1)
    assert read_columns(X, 0, 1)[1].tolist() == [2]


@pytest.mark.parametrize("X", [np.ones((2, 2)), [[1, 1]]], ids=["array", "list"])
def test_name_without_names_is_refused(X):
    with pytest.raises(ValueError, match="user_column='user' is a name, but X has no column"):
        read_columns(X, "user", 1)


def test_list_rows_keep_the_type_of_each_column():
    users, items = read_columns([[1, "a", 0.5], [2, "b", None]], 0, 1)
    assert users.dtype.kind == "i"
    assert items.tolist() == ["a", "b"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_check_table_remembers_and_compares_the_columns(container):
    make, table = CONTAINERS[container], Table()
    data = {"user": [1, 2], "item": [3, 4], "when": [None, None]}
    users, items = check_table(table, make(data), reset=True)
    assert (users.tolist(), items.tolist()) == ([1, 2], [3, 4])
    assert table.n_features_in_ == 3
    # Below scikit-learn 1.9 only frames with the interchange protocol have names.
    new = parse_version(sklearn.__version__) >= parse_version("1.9")
    named = container in ("pandas", "polars", "pyarrow")
    if named and (new or hasattr(make(data), "__dataframe__")):
        assert table.feature_names_in_.tolist() == ["user", "item", "when"]
        with pytest.raises(ValueError, match="same order as they were in fit"):
            check_table(table, make(dict(reversed(data.items()))), reset=False)
        with pytest.raises(ValueError, match=r"now missing:\n- when"):
            check_table(table, make({"user": [1], "item": [2]}), reset=False)
    else:
        assert not hasattr(table, "feature_names_in_")
        with pytest.raises(ValueError, match="X has 1 features, but Table is expecting 3"):
            check_table(table, make({"user": [1, 2]}), reset=False)
    assert check_table(table, make(data), reset=False)[1].tolist() == [3, 4]


def test_masked_ids_of_a_table_are_refused():
    X = np.ma.masked_array([[1, 2, 3], [4, 5, 6]], mask=[[0, 0, 1], [0, 1, 0]])
    with pytest.raises(ValueError, match="item_column=1 of X contains missing"):
        check_table(Table(), X, reset=True)
    users, _ = read_columns(X[:1], 0, 1)
    assert users.tolist() == [1]


def test_input_may_be_read_only():
    X = np.array([[1, 2], [3, 4]])
    X.setflags(write=False)
    users, items = check_table(Table(), X, reset=True)
    assert IdIndex.fit(users).encode(users).tolist() == [0, 1]
    assert IdIndex.fit(items).encode(items).tolist() == [0, 1]


# ---------------------------------------------------------------------------- id index


def random_ids(kind, generator, n=400):
    numbers = generator.integers(-40, 40, n)
    return {
        "modest integers": numbers,
        "small type": numbers.astype(np.int8),
        "scattered integers": numbers * 2**55 + 12345,
        "huge unsigned": (numbers + 40).astype(np.uint64) + np.uint64(2**63 - 20),
        "whole floats": numbers.astype(float),
        "fractions": numbers / 4,
        "strings": np.array([f"id {number}" for number in numbers]),
        "objects": np.array([f"id {number}" for number in numbers], dtype=object),
        "bytes": np.array([b"id %d" % number for number in numbers]),
        "datetimes": numbers.astype("datetime64[h]"),
    }[kind]


KINDS = [
    "modest integers",
    "small type",
    "scattered integers",
    "huge unsigned",
    "whole floats",
    "fractions",
    "strings",
    "objects",
    "bytes",
    "datetimes",
]


@pytest.mark.parametrize("kind", KINDS)
def test_index_equals_a_dict(kind):
    generator = np.random.default_rng(0)
    fitted, queried = random_ids(kind, generator, 60), random_ids(kind, generator)
    index = IdIndex.fit(fitted, "user")
    expected = {one: number for number, one in enumerate(sorted(set(fitted.tolist())))}
    assert index.ids.tolist() == list(expected)
    assert index.ids.dtype == fitted.dtype
    codes = index.encode(queried)
    assert codes.dtype == np.int64
    assert codes.tolist() == [expected.get(one, -1) for one in queried.tolist()]
    assert (codes == -1).any()


@pytest.mark.parametrize("kind", KINDS)
def test_union_keeps_every_index(kind):
    generator = np.random.default_rng(1)
    first, second = random_ids(kind, generator, 60), random_ids(kind, generator)
    old = IdIndex.fit(first)
    new = old.union(second)
    assert new.ids[: len(old)].tolist() == old.ids.tolist()
    added = new.ids[len(old) :].tolist()
    assert added == sorted(set(second.tolist()) - set(first.tolist()))
    assert added
    np.testing.assert_array_equal(new.encode(new.ids), np.arange(len(new)))
    np.testing.assert_array_equal(new.encode(first), old.encode(first))
    assert new.union(first) is new


@pytest.mark.parametrize("kind", KINDS)
def test_index_survives_a_pickle(kind):
    ids = random_ids(kind, np.random.default_rng(2))
    index = IdIndex.fit(ids, "item").union(ids)
    copy = pickle.loads(pickle.dumps(index))
    np.testing.assert_array_equal(copy.encode(ids), index.encode(ids))
    assert copy.name == "item"


def test_numbers_are_compared_by_value():
    integers = IdIndex.fit(np.array([3, 4, 2**53, 2**53 + 1]))
    assert integers.encode(np.array([3.0, 3.5, -3.0])).tolist() == [0, -1, -1]
    assert integers.encode(np.array([4, 2**53], dtype=np.uint64)).tolist() == [1, 2]
    fractions = IdIndex.fit(np.array([0.5, 3.0]))
    assert fractions.encode(np.array([3, 0, 2**53 + 1, -(2**63)])).tolist() == [1, -1, -1, -1]
    assert fractions.encode(np.array([0.5], dtype=np.float32)).tolist() == [0]


def test_sign_does_not_wrap_around():
    unsigned = IdIndex.fit(np.array([2**64 - 1, 2**63], dtype=np.uint64))
    assert unsigned.encode(np.array([-1, -(2**63)])).tolist() == [-1, -1]
    signed = IdIndex.fit(np.array([-1, -(2**63)]))
    assert signed.encode(np.array([2**64 - 1, 2**63], dtype=np.uint64)).tolist() == [-1, -1]


def test_datetimes_are_compared_across_units():
    index = IdIndex.fit(np.array(["2020-01-02", "2020-01-01"], dtype="M8[D]"))
    query = np.array(["2020-01-01T00", "2020-01-01T01"], dtype="M8[h]")
    assert index.encode(query).tolist() == [0, -1]
    assert index.union(query).encode(query).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("fitted", "queried"),
    [
        (np.array([1, 2]), np.array(["1", "2"])),
        (np.array(["1", "2"]), np.array([1, 2])),
        (np.array(["1", "2"]), np.array([b"1", b"2"])),
        (np.array(["1", "2"], dtype=object), np.array([1.0])),
        (np.array([1, 2]), np.array(["2020"], dtype="M8[Y]")),
    ],
)
def test_ids_of_another_kind_are_refused(fitted, queried):
    index = IdIndex.fit(fitted, "user")
    with pytest.raises(ValueError, match=r"user ids are \w+, but they were \w+ in fit"):
        index.encode(queried)
    with pytest.raises(ValueError, match=r"user ids are \w+, but they were \w+ in fit"):
        index.union(queried)


def test_strings_match_whatever_array_holds_them():
    index = IdIndex.fit(np.array(["a", "bb"], dtype=object))
    assert index.encode(np.array(["bb", "ccc"])).tolist() == [1, -1]
    assert index.union(np.array(["ccc"])).ids.tolist() == ["a", "bb", "ccc"]


def test_union_widens_the_type_only_as_needed():
    index = IdIndex.fit(np.array([1, 2], dtype=np.int8))
    assert index.union(np.array([3])).ids.dtype == np.int8
    assert index.union(np.array([300])).ids.tolist() == [1, 2, 300]
    assert index.union(np.array([0.5])).ids.tolist() == [1.0, 2.0, 0.5]
    unsigned = IdIndex.fit(np.array([5], dtype=np.uint64))
    assert unsigned.union(np.array([-1])).ids.tolist() == [5, -1]


def test_union_refuses_to_round():
    with pytest.raises(ValueError, match="No type holds both"):
        IdIndex.fit(np.array([2**53 + 1])).union(np.array([0.5]))
    with pytest.raises(ValueError, match="No type holds both"):
        IdIndex.fit(np.array([2**63], dtype=np.uint64)).union(np.array([-1]))


def test_index_without_ids():
    empty = IdIndex.fit(np.array([], dtype=object))
    assert empty.encode(np.array(["a", "b"])).tolist() == [-1, -1]
    assert empty.union(np.array([4, 2])).ids.tolist() == [2, 4]
    assert IdIndex.fit(np.array([1])).encode(np.array([], dtype="U1")).tolist() == []


def test_unknown_ids_are_named():
    index = IdIndex.fit(np.array(["a", "b"]), "item")
    assert index.encode_known(np.array(["b", "a"])).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"2 item id\(s\) are unknown: 'x', 'y'\."):
        index.encode_known(np.array(["y", "a", "x", "y"]))
    with pytest.raises(ValueError, match=r"7 item id\(s\) are unknown: '2', .*, '6', \.\.\."):
        index.encode_known(np.array(list("2345678")))


def test_ids_without_an_order_are_refused():
    with pytest.raises(TypeError, match="objects of type object cannot be put in order"):
        IdIndex.fit(check_ids([object(), object()], "ids"))


# ------------------------------------------------------------------------------ targets


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([1, 2], np.float64),
        ([True, False], np.float64),
        (np.array([1, 2], dtype=np.float16), np.float64),
        (np.array([1, 2], dtype=np.float32), np.float32),
        (np.array([1, 2.5], dtype=object), np.float64),
        (np.array([1, 2], dtype=np.uint8), np.float64),
    ],
)
def test_ratings_become_floats(y, expected):
    checked, weights = check_targets(y, None, 2)
    assert checked.dtype == expected
    assert checked.tolist() == list(y)
    assert weights is None


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_ratings_and_weights_may_be_series(library):
    series = pytest.importorskip(library).Series
    y, weights = check_targets(series([1.5, 2.0]), series([2, 1]), 2)
    assert (y.tolist(), weights.tolist()) == ([1.5, 2.0], [2.0, 1.0])


def test_column_of_ratings_warns():
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        assert check_targets([[1.0], [2.0]], None, 2)[0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed, but the target y is None"),
        ([1.0, np.nan], "Input y contains NaN"),
        ([1.0, None], "Input y contains NaN"),
        ([1.0, np.inf], "Input y contains infinity"),
        (np.array([1, 10**400], dtype=object), "no finite numbers.*too large"),
        (np.ma.masked_array([1.0, 2.0], mask=[True, False]), "masked"),
        ([1j, 2.0], "Complex data not supported"),
        (["1", "2"], "ratings have to be numbers"),
        (np.array(["1", 2], dtype=object), "y holds text"),
        (np.array([{}, 2], dtype=object), "y contains values that are no finite numbers"),
        (np.array(["2020", "2021"], dtype="M8[Y]"), "datetime64.*have to be numbers"),
        ([[1.0, 2.0], [3.0, 4.0]], "should be a 1d array"),
        ([1.0, 2.0, 3.0], r"2 row\(s\) and 3 rating\(s\)"),
        ([], r"2 row\(s\) and 0 rating\(s\)"),
    ],
)
def test_ratings_that_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        check_targets(y, None, 2)


@pytest.mark.parametrize("weight", [3, 3.0, np.float32(3)])
def test_one_weight_is_everybodys(weight):
    assert check_targets([1.0, 2.0], weight, 2)[1].tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        ([1.0, np.nan], "sample_weight contains NaN"),
        ([1.0, np.inf], "sample_weight contains infinity"),
        (np.nan, "sample_weight contains NaN"),
        ([1.0, -0.5], "Negative values in sample_weight, the smallest is -0.5"),
        (-1, "Negative values in sample_weight"),
        ([0.0, 0.0], "sample_weight are zero"),
        (0, "sample_weight are zero"),
        ([1.0], r"shape \(1,\); expected \(2,\)"),
        ([[1.0], [1.0]], r"shape \(2, 1\); expected \(2,\)"),
    ],
)
def test_weights_that_are_refused(sample_weight, message):
    with pytest.raises(ValueError, match=message):
        check_targets([1.0, 2.0], sample_weight, 2)


def test_zero_weights_are_dropped_before_ids_are_learned():
    rows = np.array(["a", "b", "c"]), np.array([1, 2, 3]), np.array([5.0, 4.0, 3.0])
    users, items, y, weights = drop_zero_weight(*rows, np.array([1.0, 0.0, 0.5]))
    assert users.tolist() == ["a", "c"]
    assert items.tolist() == [1, 3]
    assert y.tolist() == [5.0, 3.0]
    assert weights.tolist() == [1.0, 0.5]
    assert drop_zero_weight(*rows, None) == (*rows, None)


# ------------------------------------------------------------------------------ ratings


def random_rows(seed, n=300, n_users=12, n_items=9, levels=5):
    """Rows with many repeated pairs, some of them with equal ratings."""
    generator = np.random.default_rng(seed)
    users, items = generator.integers(0, n_users, n), generator.integers(0, n_items, n)
    values = generator.choice(generator.normal(3, 1, levels), n)
    return users, items, values, generator.integers(1, 4, n).astype(float)


def assert_same_bits(left, right):
    """Equality of every field, down to the sign of zero."""
    assert (left.n_items, left.batch_size) == (right.n_items, right.batch_size)
    for name in ("indptr", "items", "values", "clients", "weights", "scatter"):
        one, other = getattr(left, name), getattr(right, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes(), name


def merged_by_a_dict(users, items, values, weights):
    """Mean, weight and sum of squares of every pair, in pair order."""
    pairs = {}
    for user, item, value, weight in zip(users, items, values, weights, strict=True):
        pairs.setdefault((user, item), []).append((value, weight))
    result = []
    for pair in sorted(pairs):
        total = sum(weight for _, weight in pairs[pair])
        mean = sum(value * weight for value, weight in pairs[pair]) / total
        squares = sum(weight * (value - mean) ** 2 for value, weight in pairs[pair])
        result.append((*pair, mean, total, squares))
    return zip(*result, strict=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_merging_equals_a_dict(weighted):
    users, items, values, weights = random_rows(0)
    weights = weights if weighted else None
    ratings = encode_ratings(users, items, values, weights, n_items=9, n_users=12, dtype="float64")
    every = np.ones(len(users)) if weights is None else weights
    owner, item, mean, total, squares = merged_by_a_dict(users, items, values, every)
    assert ratings.owners().tolist() == list(owner)
    assert ratings.items.tolist() == list(item)
    np.testing.assert_allclose(ratings.values, mean, rtol=1e-13)
    np.testing.assert_allclose(ratings.weights, total, rtol=1e-13)
    np.testing.assert_allclose(ratings.scatter, squares, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_row_order_does_not_change_a_bit(merge, weighted, dtype):
    users, items, values, weights = random_rows(1)
    weights = np.random.default_rng(0).random(len(users)) if weighted else None
    values[::7] = 0.0
    values[3::7] = -0.0
    settings = {"n_items": 9, "n_users": 12, "merge": merge, "dtype": dtype}
    expected = encode_ratings(users, items, values, weights, **settings)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(users))
        shuffled = encode_ratings(
            users[order],
            items[order],
            values[order],
            None if weights is None else weights[order],
            **settings,
        )
        assert_same_bits(shuffled, expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [1, 3, 300])
def test_weight_equals_repetition_bit_for_bit(seed, levels):
    users, items, values, weights = random_rows(seed, levels=levels)
    repeated = [np.repeat(rows, weights.astype(int)) for rows in (users, items, values)]
    settings = {"n_items": 9, "n_users": 12, "dtype": "float64"}
    weighted = encode_ratings(users, items, values, weights, **settings)
    assert_same_bits(encode_ratings(*repeated, None, **settings), weighted)
    assert weighted.weights.max() > 1


def test_weights_of_one_are_no_weights():
    users, items, values, weights = random_rows(3)
    settings = {"n_items": 9, "n_users": 12}
    plain = encode_ratings(users, items, values, None, **settings)
    assert_same_bits(
        encode_ratings(users, items, values, np.ones_like(weights), **settings), plain
    )
    single = encode_ratings(np.arange(3), np.arange(3), values[:3], np.ones(3), n_items=3)
    assert single.weights is None
    assert single.scatter is None


def test_equal_ratings_of_a_pair_merge_without_scatter():
    ratings = encode_ratings(
        np.zeros(3, int), np.zeros(3, int), np.full(3, 0.1), None, n_items=1, dtype="float64"
    )
    assert ratings.values.tolist() == [0.1]
    assert ratings.weights.tolist() == [3.0]
    assert ratings.scatter is None


def test_layout_without_repeated_pairs():
    users, items = np.array([3, 0, 3, 1]), np.array([2, 1, 0, 2])
    ratings = encode_ratings(users, items, np.array([1, 2, 3, 4]), None, n_items=4, n_users=5)
    assert ratings.indptr.tolist() == [0, 1, 2, 2, 4, 4]
    assert ratings.items.tolist() == [1, 2, 0, 2]
    assert ratings.values.tolist() == [2.0, 4.0, 3.0, 1.0]
    assert ratings.clients.tolist() == [0, 1, 2, 3, 4]
    assert ratings.n_items == 4
    assert (ratings.weights, ratings.scatter, ratings.batch_size) == (None, None, None)
    dtypes = ratings.indptr.dtype, ratings.items.dtype, ratings.values.dtype
    assert dtypes == (np.int64, np.int32, np.float32)


def test_clients_are_those_that_occur_where_no_population_is_given():
    ratings = encode_ratings(
        np.array([7, 2, 7]), np.array([0, 0, 1]), np.array([1.0, 2.0, 3.0]), None, n_items=2
    )
    assert ratings.clients.tolist() == [2, 7]
    assert ratings.indptr.tolist() == [0, 1, 3]
    assert ratings.values.tolist() == [2.0, 1.0, 3.0]


def test_repeated_pairs_can_be_kept():
    users, items, values, weights = random_rows(4)
    ratings = encode_ratings(
        users, items, values, weights, n_items=9, n_users=12, merge=False, dtype="float64"
    )
    rows = sorted(zip(users, items, values, weights, strict=True))
    assert ratings.scatter is None
    kept = zip(ratings.owners(), ratings.items, ratings.values, ratings.weights, strict=True)
    assert list(kept) == rows


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([1.0, 1e39], None, "Ratings of magnitude 1e.39 are too large for dtype='float32'"),
        ([1.0, -1e39], None, "Ratings of magnitude 1e.39 are too large"),
        ([1.0, 2.0], [1e10, 1e39], "Sample weights of magnitude 1e.39 are too large"),
        ([1.0, 2.0], [1e-30, 1e-60], "Sample weights of magnitude 1e-60 are too small"),
        ([-1e20, 1e20], None, "Squared differences of magnitude 2e.40 are too large"),
    ],
)
def test_numbers_out_of_range_are_refused(values, weights, message):
    users = items = np.zeros(2, int)
    if "Squared" not in message:
        items = np.arange(2)
    weights = None if weights is None else np.array(weights)
    with pytest.raises(ValueError, match=message):
        encode_ratings(users, items, np.array(values), weights, n_items=2)
    encode_ratings(users, items, np.array(values), weights, n_items=2, dtype="float64")


def test_squares_beyond_float64_are_refused():
    users = items = np.zeros(2, int)
    with pytest.raises(ValueError, match="too large for dtype='float64'"):
        encode_ratings(users, items, np.array([-1e300, 1e300]), None, n_items=1, dtype="float64")


def test_inputs_are_left_alone():
    rows = random_rows(5)
    for array in rows:
        array.setflags(write=False)
    copies = [array.copy() for array in rows]
    encode_ratings(*rows, n_items=9, n_users=12)
    for array, copy in zip(rows, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# --- what a type can hold -----------------------------------------------------------------------


def encoded(values, weights=None, dtype="float32"):
    n = len(values)
    users, items = np.arange(n) % 5, np.arange(n) // 5
    values = np.asarray(values, dtype=float)
    return encode_ratings(users, items, values, weights, n_items=n, dtype=dtype)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("offset", "dtype", "fits"),
    [
        (0, "float32", True),
        (1e6, "float32", True),
        (1e7, "float32", False),
        (1e8, "float32", False),
        (1e8, "float64", True),
        (1e14, "float64", True),
        (1e17, "float64", False),
    ],
)
def test_ratings_far_from_zero_keep_what_tells_them_apart_or_are_refused(
    offset, dtype, fits, sign
):
    values = sign * (offset + np.arange(1, 6, dtype=float))
    if fits:
        check_digits(values, dtype)
        kept = np.ptp(encoded(values, dtype=dtype).values)
        assert kept == pytest.approx(np.ptp(values), rel=0.05)
    elif np.ptp(values) > 0:
        with pytest.raises(ValueError, match=r"apart in dtype=.* subtract a constant"):
            check_digits(values, dtype)


def test_equal_ratings_have_nothing_to_lose():
    check_digits(np.full(5, 1e8), "float32")
    check_digits(np.zeros(0), "float32")


@pytest.mark.parametrize(
    ("least", "dtype", "fits"),
    [
        (1e-5, "float32", True),
        (1e-13, "float32", True),
        (1e-15, "float32", False),
        (1e-30, "float64", True),
        (1e-33, "float64", False),
    ],
)
def test_weights_that_a_type_cannot_weigh_against_each_other_are_refused(least, dtype, fits):
    weights = np.array([1.0, least, 0.5])
    if fits:
        assert len(encoded([1, 2, 3], weights, dtype).weights) == 3
    else:
        with pytest.raises(ValueError, match=r"Sample weights from .* span more than dtype"):
            encoded([1, 2, 3], weights, dtype)
