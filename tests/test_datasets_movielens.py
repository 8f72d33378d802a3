"""fetch_movielens over a server on this machine, with archives in every variant's format."""

import dataclasses
import hashlib
import socket
import zipfile

import numpy as np
import pytest
from movielens_archives import ITEMS, expected_columns, make_archive, serve

from sklearn_fedrecon.datasets import _archives, _movielens, fetch_movielens, load_ratings

VARIANTS = ["latest-small", "100k", "1m", "10m", "20m", "25m"]
FIXED = VARIANTS[1:]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as running:
        monkeypatch.setattr(_movielens, "MOVIELENS_ADDRESS", running.address)
        yield running


@pytest.fixture
def publish(server, monkeypatch):
    """Put an archive on the server and make its checksum the one that is expected."""

    def publish(variant, **options):
        body = make_archive(variant, **options)
        server.files[f"ml-{variant}.zip"] = body
        archive = _archives.ARCHIVES[variant]
        checksum = hashlib.new(archive.algorithm, body).hexdigest()
        monkeypatch.setitem(
            _archives.ARCHIVES, variant, dataclasses.replace(archive, checksum=checksum)
        )
        return body

    return publish


def kept(data_home):
    """Names of all files below the data home."""
    return sorted(path.name for path in data_home.rglob("*") if path.is_file())


def assert_is_small_archive(ratings, variant):
    X, y, timestamps = expected_columns(variant)
    np.testing.assert_array_equal(ratings.data, X, strict=True)
    np.testing.assert_array_equal(ratings.target, y, strict=True)
    np.testing.assert_array_equal(ratings.timestamps, timestamps, strict=True)
    assert ratings.item_titles == {item: title for item, title, _ in ITEMS}
    assert ratings.item_genres == {item: tuple(genres) for item, _, genres in ITEMS}


# -- formats ------------------------------------------------------------------------------------


def test_checksums_are_those_of_the_publisher():
    assert {name: archive.checksum for name, archive in _archives.ARCHIVES.items()} == {
        "latest-small": "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        "100k": "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        "1m": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        "10m": "ce571fd55effeba0271552578f2648bd",
        "20m": "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        "25m": "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_fetched_and_read(publish, server, tmp_path, variant):
    publish(variant)
    ratings = fetch_movielens(variant, data_home=tmp_path)
    assert_is_small_archive(ratings, variant)
    assert ratings.feature_names == ["user", "item"]
    assert ratings.target_names == ["rating"]
    assert ratings.frame is None
    assert server.requests == [f"ml-{variant}.zip"]
    assert kept(tmp_path) == [f"ml-{variant}.parsed.npz", f"ml-{variant}.zip"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_description_states_size_licence_and_readme(publish, tmp_path, variant):
    publish(variant)
    description = fetch_movielens(variant, data_home=tmp_path).DESCR
    assert "4 ratings of 3 movies by 3 users" in description
    assert "for research" in description
    assert "not for commercial" in description
    separate = "may not be redistributed without separate permission"
    assert (separate in description) == (variant in ("100k", "1m", "10m"))
    assert "Terms: café." in description


def test_archive_without_readme(publish, tmp_path):
    publish("1m", without=["ml-1m/README"])
    assert_is_small_archive(fetch_movielens("1m", data_home=tmp_path), "1m")


@pytest.mark.parametrize("variant", ["latest-small", "1m"])
def test_forms(publish, tmp_path, variant):
    publish(variant)
    X, y = fetch_movielens(variant, data_home=tmp_path, return_X_y=True)
    expected_X, expected_y, timestamps = expected_columns(variant)
    np.testing.assert_array_equal(X, expected_X)
    np.testing.assert_array_equal(y, expected_y)
    framed = fetch_movielens(variant, data_home=tmp_path, as_frame=True)
    assert list(framed.frame) == ["user", "item", "rating", "timestamp"]
    np.testing.assert_array_equal(
        framed.frame, np.column_stack([expected_X, expected_y, timestamps])
    )
    assert framed.data.equals(framed.frame[["user", "item"]])
    assert framed.target.equals(framed.frame["rating"])
    assert framed.timestamps.equals(framed.frame["timestamp"])


def test_unknown_variant(tmp_path):
    with pytest.raises(ValueError, match=r"one of \['latest-small', .*'25m'\]; got '100m'"):
        fetch_movielens("100m", data_home=tmp_path)


# -- what is kept -------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_second_call_asks_nobody_and_parses_nothing(
    publish, server, tmp_path, monkeypatch, variant
):
    publish(variant)
    fetch_movielens(variant, data_home=tmp_path)
    server.requests.clear()
    monkeypatch.setattr(_archives, "read_archive", None)
    assert_is_small_archive(
        fetch_movielens(variant, data_home=tmp_path, download_if_missing=False), variant
    )
    assert server.requests == []


def test_default_data_home_is_that_of_scikit_learn(publish, tmp_path, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    publish("100k")
    fetch_movielens("100k")
    assert (tmp_path / "movielens" / "ml-100k.zip").exists()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nonsense", None])
def test_damaged_parsed_copy_is_made_anew(publish, tmp_path, damage):
    publish("1m")
    fetch_movielens("1m", data_home=tmp_path)
    copy = tmp_path / "movielens" / "ml-1m.parsed.npz"
    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert_is_small_archive(fetch_movielens("1m", data_home=tmp_path), "1m")
    assert copy.read_bytes() == whole


def test_parsed_copy_of_another_archive_is_made_anew(publish, tmp_path):
    publish("latest-small", readme="old")
    assert fetch_movielens(data_home=tmp_path).DESCR.rstrip().endswith("old")
    body = publish("latest-small", readme="new")
    (tmp_path / "movielens" / "ml-latest-small.zip").write_bytes(body)
    assert fetch_movielens(data_home=tmp_path).DESCR.rstrip().endswith("new")


def test_parsed_copy_that_cannot_be_written_is_done_without(publish, tmp_path, monkeypatch):
    def disk_full(stream, **arrays):
        stream.write(b"part")
        raise OSError(28, "No space left on device")

    publish("1m")
    monkeypatch.setattr(_archives.np, "savez", disk_full)
    assert_is_small_archive(fetch_movielens("1m", data_home=tmp_path), "1m")
    assert kept(tmp_path) == ["ml-1m.zip"]


# -- checks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", FIXED)
def test_download_with_another_checksum_is_refused_and_removed(publish, server, tmp_path, variant):
    body = publish(variant)
    server.files[f"ml-{variant}.zip"] = make_archive(variant, readme="changed")
    name = "MD5" if variant == "10m" else "SHA256"
    with pytest.raises(OSError, match=f"{name} checksum .* instead of .*It was removed"):
        fetch_movielens(variant, data_home=tmp_path)
    assert kept(tmp_path) == []
    server.files[f"ml-{variant}.zip"] = body
    assert_is_small_archive(fetch_movielens(variant, data_home=tmp_path), variant)


def test_another_latest_small_is_used_with_one_warning(server, tmp_path):
    server.files["ml-latest-small.zip"] = make_archive("latest-small")
    with pytest.warns(UserWarning, match="is not the version known to this package"):
        ratings = fetch_movielens(data_home=tmp_path)
    assert_is_small_archive(ratings, "latest-small")
    assert_is_small_archive(fetch_movielens(data_home=tmp_path), "latest-small")


@pytest.mark.parametrize("variant", ["latest-small", "100k", "10m"])
def test_damaged_archive_is_downloaded_again(publish, tmp_path, variant):
    body = publish(variant)
    fetch_movielens(variant, data_home=tmp_path)
    path = tmp_path / "movielens" / f"ml-{variant}.zip"
    path.write_bytes(body[:-30])
    with pytest.raises(OSError, match="With download_if_missing=False it is not replaced"):
        fetch_movielens(variant, data_home=tmp_path, download_if_missing=False)
    assert path.read_bytes() == body[:-30]
    with pytest.warns(UserWarning, match="downloading it again"):
        ratings = fetch_movielens(variant, data_home=tmp_path)
    assert_is_small_archive(ratings, variant)
    assert path.read_bytes() == body


def test_flipped_byte_inside_latest_small_is_noticed(server, tmp_path):
    body = bytearray(make_archive("latest-small"))
    body[len("ml-latest-small/README.txt") + 40 + 30 + len("ml-latest-small/ratings.csv")] ^= 255
    server.files["ml-latest-small.zip"] = bytes(body)
    with pytest.raises(OSError, match="is not a whole zip file"):
        fetch_movielens(data_home=tmp_path)
    assert kept(tmp_path) == []


def test_zip_file_of_something_else(server, tmp_path):
    server.files["ml-latest-small.zip"] = make_archive("1m")
    with (
        pytest.warns(UserWarning, match="not the version known"),
        pytest.raises(ValueError, match=r"lacks \['ml-latest-small/movies.csv'.*Remove it"),
    ):
        fetch_movielens(data_home=tmp_path)


# -- broken downloads ---------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["latest-small", "1m"])
def test_cut_download_is_tried_again(publish, server, tmp_path, variant):
    publish(variant)
    server.replies_to_cut = 2
    with pytest.warns(UserWarning, match="Retry downloading"):
        ratings = fetch_movielens(variant, data_home=tmp_path, n_retries=2, delay=0)
    assert_is_small_archive(ratings, variant)
    assert len(server.requests) == 3


@pytest.mark.parametrize("variant", ["latest-small", "1m", "10m"])
@pytest.mark.parametrize("tell_length", [True, False])
def test_cut_download_leaves_nothing_and_the_next_call_starts_anew(
    publish, server, tmp_path, variant, tell_length
):
    publish(variant)
    server.tell_length = tell_length
    server.replies_to_cut = 1
    with pytest.raises(OSError, match="call again to start anew"):
        fetch_movielens(variant, data_home=tmp_path, n_retries=0)
    assert kept(tmp_path) == []
    assert_is_small_archive(fetch_movielens(variant, data_home=tmp_path), variant)


def test_file_the_server_does_not_have(server, tmp_path):
    with pytest.raises(OSError, match=r"ml-25m\.zip could not be downloaded: .*404"):
        fetch_movielens("25m", data_home=tmp_path, n_retries=0)
    assert kept(tmp_path) == []


def test_offline(tmp_path, monkeypatch):
    with socket.socket() as reserved:  # bound, but nobody listens
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(_movielens, "MOVIELENS_ADDRESS", f"http://127.0.0.1:{port}")
        with pytest.raises(OSError, match="could not be downloaded") as raised:
            fetch_movielens("1m", data_home=tmp_path, n_retries=0)
    message = str(raised.value)
    assert f"http://127.0.0.1:{port}/ml-1m.zip" in message
    assert f"put it at {tmp_path / 'movielens' / 'ml-1m.zip'}" in message
    assert kept(tmp_path) == []


def test_file_put_there_by_hand_needs_no_network(publish, server, tmp_path):
    (tmp_path / "movielens").mkdir()
    (tmp_path / "movielens" / "ml-20m.zip").write_bytes(publish("20m"))
    assert_is_small_archive(fetch_movielens("20m", data_home=tmp_path), "20m")
    assert server.requests == []


def test_absent_and_not_to_be_downloaded(server, tmp_path):
    with pytest.raises(OSError, match=r"no .*ml-1m\.zip, and download_if_missing=False.*put it"):
        fetch_movielens("1m", data_home=tmp_path, download_if_missing=False)
    assert server.requests == []


# -- real ratings -------------------------------------------------------------------------------


def test_real_latest_small(server, tmp_path, movielens_zip):
    body = movielens_zip.read_bytes()
    server.files["ml-latest-small.zip"] = body
    if hashlib.sha256(body).hexdigest() == _archives.ARCHIVES["latest-small"].checksum:
        ratings = fetch_movielens(data_home=tmp_path)
    else:
        with pytest.warns(UserWarning, match="not the version known"):
            ratings = fetch_movielens(data_home=tmp_path)
    with zipfile.ZipFile(movielens_zip) as archive:
        path = archive.extract("ml-latest-small/ratings.csv", tmp_path)
    from_file = load_ratings(path, timestamp_column="timestamp")
    np.testing.assert_array_equal(ratings.data, from_file.data, strict=True)
    np.testing.assert_array_equal(ratings.target, from_file.target, strict=True)
    np.testing.assert_array_equal(ratings.timestamps, from_file.timestamps, strict=True)
    assert set(ratings.target) <= set(np.arange(0.5, 5.5, 0.5))
    assert set(ratings.data[:, 1]) <= set(ratings.item_titles)
    again = fetch_movielens(data_home=tmp_path)
    np.testing.assert_array_equal(again.data, ratings.data, strict=True)
    assert again.item_titles == ratings.item_titles
    assert again.item_genres == ratings.item_genres
    assert server.requests == ["ml-latest-small.zip"]


def test_real_latest_small_is_as_published(tmp_path, movielens_zip):
    with zipfile.ZipFile(movielens_zip) as archive:
        lines = archive.read("ml-latest-small/README.txt").decode()
    if "generated on September 26, 2018" not in lines:
        pytest.skip("the archive is another version than the one these counts belong to")
    contents = _archives.read_archive(movielens_zip, _archives.ARCHIVES["latest-small"])
    titles, genres = _archives.read_catalogue(contents)
    assert len(contents["ratings"]) == 100_836
    assert len(np.unique(contents["users"])) == 610
    assert len(titles) == len(genres) == 9742
    assert titles[1] == "Toy Story (1995)"
    assert genres[1] == ("Adventure", "Animation", "Children", "Comedy", "Fantasy")
    assert sum(not names for names in genres.values()) == 34
    assert contents["ratings"].mean() == pytest.approx(3.50156, abs=1e-4)
