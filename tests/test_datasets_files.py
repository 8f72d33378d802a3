"""load_ratings on the files people have, and on broken ones."""

import gzip

import numpy as np
import pytest

from sklearn_fedrecon.datasets import load_ratings

ROWS = [(5, 31, 2.5, 1260759144), (5, 1029, 3.0, 1260759179), (17, 31, 4.0, 835355493)]


def write(folder, text, name="ratings.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def lines_of(rows, delimiter, newline="\n"):
    return "".join(delimiter.join(map(str, row)) + newline for row in rows)


def assert_is_rows(ratings):
    np.testing.assert_array_equal(ratings.data, [row[:2] for row in ROWS], strict=True)
    np.testing.assert_array_equal(ratings.target, [row[2] for row in ROWS], strict=True)


# -- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", "\t", "::", ";", "|", " "])
@pytest.mark.parametrize("header", ["", "userId{0}movieId{0}rating{0}timestamp\n"])
def test_delimiter_and_header_are_found(tmp_path, delimiter, header):
    path = write(tmp_path, header.format(delimiter) + lines_of(ROWS, delimiter))
    assert_is_rows(load_ratings(path))
    assert_is_rows(load_ratings(path, delimiter=delimiter, header=bool(header)))


@pytest.mark.parametrize("delimiter", ["->", "||", "\x01"])
def test_any_delimiter(tmp_path, delimiter):
    assert_is_rows(load_ratings(write(tmp_path, lines_of(ROWS, delimiter)), delimiter=delimiter))


@pytest.mark.parametrize(
    "text",
    [
        lines_of(ROWS, ",", "\r\n"),
        lines_of(ROWS, ",").rstrip("\n"),
        "\n\n" + lines_of(ROWS, ",", "\n\n"),
        "\n" + "u,i,r,t\n\n" + lines_of(ROWS, ","),
        "\ufeff" + lines_of(ROWS, ","),
        "\ufeffu,i,r,t\n" + lines_of(ROWS, ","),
    ],
    ids=["crlf", "no last newline", "blank lines", "blank first line", "mark", "mark and header"],
)
def test_line_ends_blank_lines_and_byte_order_mark(tmp_path, text):
    assert_is_rows(load_ratings(write(tmp_path, text)))


def test_gzip_whatever_it_is_called(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(gzip.compress(("u,i,r,t\n" + lines_of(ROWS, ",")).encode()))
    ratings = load_ratings(str(path))
    assert_is_rows(ratings)
    assert ratings.filename == str(path)
    assert str(path) in ratings.DESCR


@pytest.mark.parametrize("columns", [("who", "what", "stars"), (3, 0, 2), ("who", 0, "stars")])
def test_columns_by_name_or_position(tmp_path, columns):
    text = 'what,title," stars",who\n31,"Up, again",2.5,5\n1029,"Say ""no""",3,5\n31,"Up\n",4,17\n'
    user_column, item_column, rating_column = columns
    ratings = load_ratings(
        write(tmp_path, text),
        user_column=user_column,
        item_column=item_column,
        rating_column=rating_column,
    )
    assert_is_rows(ratings)
    assert ratings.feature_names == ["user", "item"]


def test_text_in_another_encoding(tmp_path):
    path = write(tmp_path, "zoë,café,4\nzoë,tea,5\n", encoding="latin-1")
    ratings = load_ratings(path, encoding="latin-1")
    np.testing.assert_array_equal(ratings.data, [["zoë", "café"], ["zoë", "tea"]])
    with pytest.raises(ValueError, match=r"is not utf-8 text.*encoding='latin-1'"):
        load_ratings(path)


def test_wrong_encoding_after_many_lines_is_told_as_such(tmp_path):
    path = write(tmp_path, "1,2,3\n" * 50_000 + "é,2,3\n", encoding="latin-1")
    with pytest.raises(ValueError, match="is not utf-8 text"):
        load_ratings(path)


# -- ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "late_id", ["tt1", "1.5", "2.0", "1e3", "99999999999999999999", "0x1f", "#7"]
)
def test_ids_that_are_not_all_whole_numbers_stay_text(tmp_path, late_id):
    path = write(tmp_path, "1,7,3\n" * 1000 + f"1,{late_id},3\n")
    data = load_ratings(path).data
    assert data.dtype == object
    assert {type(user) for user in data[:, 0]} == {int}
    assert data[0].tolist() == [1, "7"]
    assert data[-1].tolist() == [1, late_id]


def test_ids_of_one_kind_share_a_plain_array(tmp_path):
    data = load_ratings(write(tmp_path, "ann,007,3\nben,x::y,4\n")).data
    assert data.dtype.kind == "U"
    assert data.tolist() == [["ann", "007"], ["ben", "x::y"]]
    assert load_ratings(write(tmp_path, "-3,007,3\n")).data.tolist() == [[-3, 7]]


def test_a_text_id_may_hold_part_of_a_long_delimiter(tmp_path):
    data = load_ratings(write(tmp_path, "a:b::c::3\n")).data
    assert data.tolist() == [["a:b", "c"]]


# -- the rest of the Bunch ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamps", "kind"),
    [(["10", "-3"], "i"), (["10", "10.5"], "f"), (["2024-01-01", "10"], "U")],
)
def test_timestamps_are_the_first_kind_that_fits(tmp_path, stamps, kind):
    text = f"user,item,rating,time\n1,2,3,{stamps[0]}\n1,3,4,{stamps[1]}\n"
    ratings = load_ratings(write(tmp_path, text), timestamp_column="time")
    assert ratings.timestamps.dtype.kind == kind
    expected = {"i": int, "f": float, "U": str}[kind]
    assert ratings.timestamps.tolist() == [expected(stamp) for stamp in stamps]
    assert "timestamps" not in load_ratings(write(tmp_path, text))


def test_return_X_y_and_as_frame(tmp_path):
    path = write(tmp_path, "userId,movieId,rating,timestamp\n" + lines_of(ROWS, ","))
    X, y = load_ratings(path, return_X_y=True)
    np.testing.assert_array_equal(X, [row[:2] for row in ROWS])
    np.testing.assert_array_equal(y, [row[2] for row in ROWS])
    framed = load_ratings(path, timestamp_column="timestamp", as_frame=True)
    assert list(framed.frame) == ["user", "item", "rating", "timestamp"]
    assert framed.frame.to_records(index=False).tolist() == ROWS
    assert framed.data.equals(framed.frame[["user", "item"]])
    assert framed.target.equals(framed.frame["rating"])
    assert framed.timestamps.equals(framed.frame["timestamp"])
    assert load_ratings(path).frame is None


def test_frames_keep_the_kind_of_each_column(tmp_path):
    frame = load_ratings(write(tmp_path, "1,a,3\n2,b,4\n"), as_frame=True).frame
    assert frame["user"].tolist() == [1, 2]
    assert frame["user"].dtype == np.int64
    assert frame["item"].tolist() == ["a", "b"]


# -- broken files -------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*nothing\.csv"):
        load_ratings(tmp_path / "nothing.csv")
    with pytest.raises(FileNotFoundError, match="no file at"):
        load_ratings(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("user,item,rating\n", "has a header but no ratings"),
        ("user,item,rating\n1,2,3\n1,2,good\n", r"line 3: the rating 'good' is not a finite"),
        ("1,2,\n", "line 1: the rating '' is not a finite number"),
        ("1,2,3\n\n1,2,nan\n", "line 3: the rating 'nan'"),
        ("1,2,3\n1,2,inf\n", "line 2: the rating 'inf'"),
        ("1,2,3\na,2,3\n1,2,-\n", "line 3: the rating '-'"),
        ("1,2,good\n", "line 1: the rating 'good'"),
        ("1,2,3\n,2,3\n", "line 2: the user id is missing"),
        ("a,2,3\nb,,3\n", r"line 2: the item id is missing, in \['b', '', '3'\]"),
        ("a,2,3\nb,2\n", "line 2: expected at least 3 fields, got 2"),
        ("1::2::3\n1::2:3\n", "line 2: expected at least 3 fields, got 2"),
        ("1,2,3\n   \n1,2,3\n", "line 2: expected at least 3 fields, got 1"),
        ("1,2,3\n1,2,1_0\n", "could not be read"),
        ('1,2,3\n"1,2,3\n1,2,3\n', "line 3: expected at least 3 fields, got 1"),
        ('1,2,3\n"' + 50_000 * "1,2,3\n", "after line 1: field larger"),
    ],
)
def test_broken_lines_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_ratings(write(tmp_path, text))
    assert "ratings.csv" in str(raised.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"user_column": "usr"}, r"user_column='usr' is not a column.*\['user', 'item', 'stars'"),
        ({"item_column": "stars"}, "item_column='stars' is more than one column"),
        ({"rating_column": 4}, "rating_column=4 is not a column"),
        ({"rating_column": -1}, "rating_column=-1 is not a column"),
        ({"item_column": 0}, "are the same column"),
        ({"item_column": "user"}, "are the same column"),
        ({"delimiter": ";"}, r"item_column=1 is not a column.*with delimiter ';'"),
        ({"delimiter": ""}, "delimiter must be"),
        ({"delimiter": 3}, "delimiter must be"),
        ({"header": "no"}, "header must be True, False or 'auto'"),
        ({"user_column": "user", "header": False}, "need a header"),
        ({"header": False}, "line 1: the rating 'stars'"),
    ],
)
def test_parameters_that_do_not_fit_the_file(tmp_path, parameters, message):
    path = write(tmp_path, "user,item,stars,stars\n1,2,3,4\n")
    with pytest.raises(ValueError, match=message):
        load_ratings(path, **parameters)


@pytest.mark.parametrize("column", [1.0, None, True])
def test_columns_of_another_type(tmp_path, column):
    with pytest.raises(TypeError, match=r"item_column=.* must be a position"):
        load_ratings(write(tmp_path, "1,2,3\n"), item_column=column)
