"""Ratings on disk: what is saved is what is read, and a fit of it is the fit of the table."""

import json
from itertools import pairwise

import numpy as np
import pytest
from joblib import parallel_config

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon._distribution import _chunks
from sklearn_fedrecon.datasets import (
    ClientDataset,
    make_ratings,
    save_client_chunks,
    save_clients,
)


@pytest.fixture(scope="module")
def table():
    """Rows in random order; ids that are no positions."""
    X, y = make_ratings(n_users=100, n_items=50, n_ratings=2500, random_state=0, return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return X[order] * 3 + 7, y[order]


@pytest.fixture(scope="module")
def saved(table, tmp_path_factory):
    return save_clients(tmp_path_factory.mktemp("data") / "ratings", *table)


def new(**parameters):
    settings = {"n_components": 4, "max_iter": 3, "tol": None, "random_state": 0}
    return FederatedReconstructionMF(**settings | parameters)


def assert_same_model(one, other):
    for name in ("item_factors_", "item_bias_", "user_factors_", "user_bias_", "users_", "items_"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def as_dict(X, y, weights=None):
    weights = np.ones(len(y)) if weights is None else weights
    pairs = map(tuple, np.asarray(X).tolist())
    return dict(zip(pairs, zip(y.tolist(), weights.tolist(), strict=True), strict=True))


def merged(chunks):
    """All chunks as one dict of (user, item) to (rating, weight)."""
    found = {}
    for chunk in chunks:
        rows = as_dict(chunk.data, chunk.target, chunk.sample_weight)
        assert not found.keys() & rows.keys()
        found |= rows
    return found


# --- what is saved is what is read -------------------------------------------------------------


def test_what_a_data_set_says(saved, table):
    X, y = table
    assert (saved.n_users, saved.n_items, saved.n_ratings) == (100, 50, 2500)
    assert saved.shape == (2500, 2)
    np.testing.assert_array_equal(saved.users, np.unique(X[:, 0]))
    np.testing.assert_array_equal(saved.items, np.unique(X[:, 1]))
    assert saved.rating_range == (y.min(), y.max())
    assert not saved.merged
    assert repr(saved) == "ClientDataset: 2,500 ratings of 50 items by 100 users"


def test_the_files_are_those_of_the_description(saved, table):
    X, y = table
    files = {path.name for path in saved.path.iterdir()}
    arrays = ("indptr", "items", "ratings", "users", "item_ids")
    assert files == {"meta.json", *(f"{name}.npy" for name in arrays)}
    indptr, items, ratings, users, item_ids = (
        np.load(saved.path / f"{name}.npy", allow_pickle=False) for name in arrays
    )
    assert (indptr.dtype, items.dtype, ratings.dtype) == (np.int64, np.int32, np.float32)
    rows = zip(np.repeat(users, np.diff(indptr)), item_ids[items], ratings, strict=True)
    order = np.lexsort(X.T[::-1])
    expected = zip(*X[order].T, y[order], strict=True)
    assert list(rows) == list(expected)
    meta = json.loads((saved.path / "meta.json").read_text())
    assert (meta["format"], meta["version"]) == ("sklearn-fedrecon clients", 2)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("n_users", [1, 7, 100, 1000])
def test_chunks_are_all_ratings_once(saved, table, n_users, shuffle):
    chunks = list(saved.chunks(n_users, shuffle=shuffle, random_state=0))
    sizes = [len(np.unique(chunk.data[:, 0])) for chunk in chunks]
    assert sizes == [min(n_users, 100 - start) for start in range(0, 100, n_users)]
    assert merged(chunks) == as_dict(*table)


def test_shuffled_chunks_are_others_for_another_seed(saved):
    first = [next(saved.chunks(10, shuffle=True, random_state=seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(first[0].data, first[1].data)
    assert set(first[0].data[:, 0]) != set(first[2].data[:, 0])
    assert not np.array_equal(np.unique(first[0].data[:, 0]), saved.users[:10])


def test_ratings_of_some_users(saved, table):
    X, y = table
    chosen = saved.take([40, 3])
    wanted = [saved.users[40], saved.users[3]]
    assert list(dict.fromkeys(chosen.data[:, 0].tolist())) == wanted
    rows = np.isin(X[:, 0], wanted)
    assert as_dict(chosen.data, chosen.target) == as_dict(X[rows], y[rows])
    assert chosen.target.dtype == y.dtype
    assert chosen.sample_weight is None
    assert len(saved.take([]).target) == 0


def test_ratings_are_mapped_not_read(saved):
    ratings = saved.client_ratings("float32")
    with pytest.raises(ValueError, match="read-only"):
        ratings.values[0] = 1
    assert ratings.by_length() is ratings
    assert ratings.take(np.arange(5)).items.flags.writeable  # a copy, in memory
    other = saved.client_ratings("float64")
    assert other.values.dtype == np.float64
    np.testing.assert_array_equal(other.values, ratings.values)


@pytest.mark.parametrize(
    "users",
    [
        np.array(["ann", "ben", "cleo"], dtype=object),
        np.array(["ann", "ben", "cleo"]),
        np.array([b"ann", b"ben", b"cleo"]),
        np.array([0.5, 1.5, 7.0]),
        np.array(["2020-01-01", "2020-01-02", "2021-01-01"], dtype="datetime64[D]"),
    ],
    ids=lambda users: users.dtype.name,
)
def test_ids_of_any_kind(users, tmp_path):
    import pandas as pd

    X = pd.DataFrame({"who": users[[2, 0, 1, 0]], "what": [5, 6, 5, 7]})
    saved = save_clients(tmp_path / "x", X, [1.0, 2, 3, 4], user_column="who", item_column="what")
    np.testing.assert_array_equal(saved.users, np.sort(users))
    assert next(saved.chunks()).target.tolist() == [2, 4, 3, 1]


def test_weights_and_repeated_ratings(tmp_path):
    X = np.array([[1, 1], [1, 1], [1, 2], [2, 1], [2, 2]])
    y, weights = np.array([1.0, 4.0, 2.0, 5.0, 3.0]), np.array([1.0, 2.0, 1.0, 0.5, 0.0])
    saved = save_clients(tmp_path / "x", X, y, sample_weight=weights)
    assert saved.merged
    assert as_dict(*next(saved.chunks()).values()) == {
        (1, 1): (3.0, 3.0),
        (1, 2): (2.0, 1.0),
        (2, 1): (5.0, 0.5),
    }
    scatter = np.load(saved.path / "scatter.npy")
    assert scatter.tolist() == [1 * (1 - 3) ** 2 + 2 * (4 - 3) ** 2, 0, 0]


# --- in chunks ---------------------------------------------------------------------------------


def in_chunks(X, y, n_chunks=7, weights=None):
    """Runs of users in ascending order, whose catalogues differ."""
    bounds = np.quantile(np.unique(X[:, 0]), np.linspace(0, 1, n_chunks + 1))
    bounds[-1] += 1
    for low, high in pairwise(bounds):
        rows = (X[:, 0] >= low) & (X[:, 0] < high)
        yield (X[rows], y[rows]) if weights is None else (X[rows], y[rows], weights[rows])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_chunks_make_the_same_files_as_the_table(table, tmp_path, monkeypatch, block, weighted):
    monkeypatch.setattr("sklearn_fedrecon.datasets._client_files._BLOCK", block)
    X, y = table
    weights = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    # Only the last user rates the item of the smallest id, so that all others move by one.
    X = np.vstack([X, [X[:, 0].max(), 0]])
    y, weights = np.append(y, 3.0), np.append(weights, 2.0)
    weights = weights if weighted else None
    whole = save_clients(tmp_path / "whole", X, y, sample_weight=weights)
    parts = save_client_chunks(tmp_path / "parts", in_chunks(X, y, weights=weights))
    names = sorted(path.name for path in whole.path.iterdir())
    assert sorted(path.name for path in parts.path.iterdir()) == names
    for name in names:
        one, other = ((dataset.path / name).read_bytes() for dataset in (whole, parts))
        assert one == other, name


def test_a_user_in_two_chunks_is_refused(tmp_path):
    tables = [([[1, 1], [2, 1]], [3.0, 4.0]), ([[2, 2], [3, 1]], [3.0, 4.0])]
    with pytest.raises(ValueError, match=r"1 user\(s\) come in more than one chunk: 2\."):
        save_client_chunks(tmp_path / "x", tables)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match="no chunks"):
        save_client_chunks(tmp_path / "x", [])
    assert list(tmp_path.iterdir()) == []


def test_a_catalogue_may_be_larger_than_what_was_rated(table, tmp_path):
    X, y = table
    catalogue = np.arange(X[:, 1].max() + 5)
    saved = save_clients(tmp_path / "x", X, y, items=catalogue)
    np.testing.assert_array_equal(saved.items, catalogue)
    assert_same_model(
        new(clients_per_round=30).fit(saved), new(clients_per_round=30, items=catalogue).fit(X, y)
    )
    with pytest.raises(ValueError, match="unknown"):
        save_clients(tmp_path / "y", X, y, items=catalogue[:20])


# --- nothing is lost ---------------------------------------------------------------------------


def test_what_is_there_is_not_overwritten(table, tmp_path):
    X, y = table
    saved = save_clients(tmp_path / "x", X, y)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_clients(saved.path, X[:10], y[:10])
    with pytest.raises(ValueError, match="NaN"):
        save_clients(saved.path, X, np.full(len(y), np.nan), overwrite=True)
    assert ClientDataset(saved.path).n_ratings == 2500
    assert save_clients(saved.path, X[:10], y[:10], overwrite=True).n_ratings == 10


@pytest.mark.parametrize("moment", ["items.npy", "meta.json", "put in place"])
def test_a_writer_that_fails_leaves_the_old_set_whole(table, tmp_path, monkeypatch, moment):
    """A full disk, at the first file, at the last, or when the folder gets its name."""
    X, y = table
    path = save_clients(tmp_path / "x", X, y).path
    before = {file.name: file.read_bytes() for file in path.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    place = {
        "items.npy": "sklearn_fedrecon.datasets._client_files.np.lib.format.open_memmap",
        "meta.json": "sklearn_fedrecon.datasets._client_files.json.dumps",
        "put in place": "sklearn_fedrecon.datasets._saving.os.fsync",
    }[moment]
    monkeypatch.setattr(place, full)
    with pytest.raises(OSError, match="No space left"):
        save_clients(path, X[:99], y[:99], overwrite=True)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert [folder.name for folder in tmp_path.iterdir()] == ["x"]
    assert ClientDataset(path).n_ratings == len(y)


def test_two_writers_do_not_mix_their_files(table, tmp_path):
    """The second begins and ends while the first is at work; each set is one's or the other's."""
    X, y = table
    half = X[:, 0] < np.median(X[:, 0])

    def chunks():
        yield X[half], y[half]
        save_clients(tmp_path / "x", X[:99], y[:99])
        yield X[~half], y[~half]

    first = save_client_chunks(tmp_path / "x", chunks(), overwrite=True)
    assert first.n_ratings == len(y)
    assert merged(first.chunks()) == as_dict(X, y)
    assert [folder.name for folder in tmp_path.iterdir()] == ["x"]


def test_what_is_no_data_set_is_not_overwritten(table, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="no client data set"):
        save_clients(tmp_path, *table, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("name", ["meta.json", "items.npy", "users.npy"])
def test_a_missing_file(table, tmp_path, name):
    saved = save_clients(tmp_path / "x", *table)
    (saved.path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name.replace(".", r"\.")):
        ClientDataset(saved.path)


def change_meta(path, **entries):
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | entries))


def test_another_format_or_version(table, tmp_path):
    path = save_clients(tmp_path / "x", *table).path
    change_meta(path, version=3)
    with pytest.raises(ValueError, match="version 3"):
        ClientDataset(path)
    change_meta(path, version=2, format="something else")
    with pytest.raises(ValueError, match="not of the format"):
        ClientDataset(path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("items", lambda items: items[:-1]),
        ("ratings", lambda ratings: np.append(ratings, 3).astype("f4")),
        ("users", lambda users: users[1:]),
        ("indptr", lambda indptr: indptr[::-1].copy()),
        ("indptr", lambda indptr: indptr + 1),
        ("item_ids", lambda ids: ids[:-1]),
        ("items", lambda items: items.astype(np.int64)),
    ],
)
def test_files_that_do_not_belong_together(table, tmp_path, name, change):
    path = save_clients(tmp_path / "x", *table).path
    np.save(path / f"{name}.npy", change(np.load(path / f"{name}.npy")))
    with pytest.raises(ValueError, match=f"{name}.npy was cut off or changed .* its checksum"):
        ClientDataset(path)
    with pytest.raises(ValueError, match="do not belong together"):
        ClientDataset(path, verify=False)


def set_first(value):
    def change(array):
        array[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("items", set_first(50), "it names items beyond the 50 there are"),
        ("items", set_first(-1), "it names items beyond"),
        ("items", set_first(2**31 - 1), "it names items beyond"),
        ("ratings", set_first(np.nan), "it holds what is no finite number"),
        ("ratings", set_first(np.inf), "it holds what is no finite number"),
        ("weights", set_first(0.0), "it holds numbers below"),
        ("weights", set_first(-1.0), "it holds numbers below"),
        ("scatter", set_first(-1.0), "it holds numbers below 0"),
        ("users", lambda users: np.append(users[1:], users[-1]), "it names something more than"),
        ("item_ids", lambda ids: ids[::-1] * 0.5 * np.nan, "missing values"),
        ("users", lambda users: users.reshape(2, -1), r"its shape is \(2, 50\)"),
    ],
)
@pytest.mark.parametrize("piece", [1 << 20, 7])
def test_what_no_file_can_hold_is_found_before_it_is_used(
    table, tmp_path, monkeypatch, name, change, message, piece
):
    monkeypatch.setattr("sklearn_fedrecon.datasets._client_checks._PIECE", piece)
    X, y = np.vstack([table[0], table[0][:9]]), np.append(table[1], table[1][:9] % 5 + 1)
    path = save_clients(tmp_path / "x", X, y, sample_weight=np.linspace(0.5, 2, len(y))).path
    assert ClientDataset(path, verify=False).n_users == 100
    np.save(path / f"{name}.npy", change(np.load(path / f"{name}.npy")))
    with pytest.raises(ValueError, match=message) as caught:
        ClientDataset(path, verify=False)
    assert f"{name}.npy" in str(caught.value)


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_is_an_error_and_never_a_crash(table, tmp_path, seed):
    random = np.random.default_rng(seed)
    path = save_clients(tmp_path / "x", *table).path
    files = sorted(file for file in path.iterdir() if file.suffix == ".npy")
    victim = files[seed % len(files)]
    content = bytearray(victim.read_bytes())
    if seed % 3:
        content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    else:
        content = content[: random.integers(len(content))]
    victim.write_bytes(content)
    with pytest.raises(ValueError, match=victim.name):
        ClientDataset(path)
    try:
        found = ClientDataset(path, verify=False)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017
        return
    model = new(max_iter=1).fit(found)  # only a number was changed, to another that is possible
    assert np.isfinite(model.item_factors_).all()


@pytest.mark.parametrize("seed", range(30))
def test_nonsense_in_the_description_is_an_error(table, tmp_path, seed):
    random = np.random.default_rng(seed)
    path = save_clients(tmp_path / "x", *table).path
    meta = json.loads((path / "meta.json").read_text())
    key = sorted(meta)[seed % len(meta)]
    nonsense = [None, -1, "x", [], {}, [1], 10**400, [["weights"]], ["items"], "object", 1.5]
    meta[key] = nonsense[random.integers(len(nonsense))]
    (path / "meta.json").write_text(json.dumps(meta))
    if seed == 29:
        (path / "meta.json").write_text("[" * 100_000)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        ClientDataset(path)
    assert str(path) in str(caught.value)


def test_pickles_are_refused(table, tmp_path):
    path = save_clients(tmp_path / "x", *table).path
    np.save(path / "users.npy", np.array([{}] * 100), allow_pickle=True)
    with pytest.raises(ValueError, match=r"users.npy was .*: .*Python objects"):
        ClientDataset(path)


def test_ids_that_need_pickle_are_refused(tmp_path):
    from fractions import Fraction

    X = np.array([[Fraction(1, 2), 1], [Fraction(1, 3), 2]], dtype=object)
    with pytest.raises(TypeError, match=r"User ids of type Fraction .* cannot be saved"):
        save_clients(tmp_path / "x", X, [1.0, 2.0])


@pytest.mark.parametrize("positions", [[-1], [100], [0, 1000]])
def test_users_that_are_not_there(saved, positions):
    with pytest.raises(IndexError, match="from 0 to 99"):
        saved.take(positions)


@pytest.mark.parametrize("n_users", [0, -1, 1.5, None])
def test_chunks_of_no_size(saved, n_users):
    with pytest.raises(ValueError, match="number of users"):
        next(saved.chunks(n_users))


# --- fits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cohorts_read_from_disk_give_the_same_bits(saved, table, monkeypatch, dtype, n_jobs):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)
    settings = {"clients_per_round": 30, "dtype": dtype, "n_jobs": n_jobs}
    model = new(**settings).fit(saved)
    assert_same_model(model, new(**settings).fit(*table))
    assert model.n_features_in_ == 2


def test_processes_read_the_files_themselves(saved, table, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", 100)
    expected = new(clients_per_round=30).fit(*table)
    with parallel_config("loky", n_jobs=2):
        assert_same_model(new(clients_per_round=30).fit(saved), expected)


def test_rounds_of_all_clients_differ_by_rounding_alone(saved, table):
    """On disk clients stay in their order; in memory they are put into one that is faster."""
    model, expected = new(max_iter=10).fit(saved), new(max_iter=10).fit(*table)
    for name in ("item_factors_", "user_factors_", "item_bias_", "user_bias_"):
        found, wanted = getattr(model, name), getattr(expected, name)
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4, err_msg=name)


def test_what_follows_a_fit(saved, table, tmp_path):
    X, _ = table
    model = new(clients_per_round=30, rating_scale=(1, 5)).fit(saved)
    assert model.predict(X[:5]).dtype == np.float64
    items, _ = model.recommend(saved.users[0], n=5)
    rated = X[X[:, 0] == saved.users[0], 1]
    assert not set(items.tolist()) & set(rated.tolist())


def test_training_goes_on_from_disk(saved, table):
    settings = {"clients_per_round": 30, "warm_start": True}
    twice, expected = new(**settings), new(**settings)
    for _ in range(2):
        twice.fit(saved)
        expected.fit(*table)
    assert_same_model(twice, expected)


def test_a_declared_catalogue(saved, table):
    catalogue = np.arange(-3, saved.items.max() + 3)
    settings = {"items": catalogue, "clients_per_round": 30}
    assert_same_model(new(**settings).fit(saved), new(**settings).fit(*table))


def test_chunks_for_partial_fit(saved, table):
    X, y = table
    model, expected = new(items=saved.items), new(items=saved.items)
    for chunk in saved.chunks(25):
        model.partial_fit(chunk.data, chunk.target, total_users=saved.n_users)
    for users in np.split(saved.users, 4):
        rows = np.isin(X[:, 0], users)
        expected.partial_fit(X[rows], y[rows], total_users=100)
    assert_same_model(model, expected)


def test_ratings_out_of_scale(saved):
    with pytest.raises(ValueError, match="do not fit rating_scale"):
        new(rating_scale=(1, 4)).fit(saved)


def test_ratings_and_weights_come_with_the_data(saved, table):
    for arguments in ((table[1],), (None, np.ones(2500))):
        with pytest.raises(TypeError, match="leave y and sample_weight out"):
            new().fit(saved, *arguments)


def test_partial_fit_takes_tables(saved):
    with pytest.raises(TypeError, match=r"chunks\(\)"):
        new().partial_fit(saved, None)


def test_parts_that_take_ratings_one_by_one(saved, tmp_path):
    assert new(reconstruction="sgd", clients_per_round=30).fit(saved).n_iter_ == 3
    repeated = save_clients(tmp_path / "x", [[1, 1], [1, 1], [2, 1]], [3.0, 4.0, 5.0])
    with pytest.raises(ValueError, match="more than once"):
        new(reconstruction="sgd").fit(repeated)
