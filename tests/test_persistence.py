"""Models in files: the same bits after a round trip, and nothing loaded from a bad file."""

import copy
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.client_update import SGDUpdate
from sklearn_fedrecon.persistence import load_model, save_model
from sklearn_fedrecon.reconstruction import SGDReconstruction
from sklearn_fedrecon.server_optimizers import Adam

DEVICE = Path(__file__).parents[1] / "examples" / "device.py"
SETTINGS = {
    "variational": {},
    "float64": {"dtype": "float64", "rating_scale": (1, 5)},
    "without biases": {"fit_bias": False},
    "biases only": {"n_components": 0},
    "cohorts": {"clients_per_round": 0.5, "client_dropout": 0.1},
    "ridge": {"reconstruction": "ridge"},
    "parts": {
        "reconstruction": SGDReconstruction(n_epochs=2, init=np.full(3, 0.02)),
        "client_update": SGDUpdate(learning_rate=0.3),
        "server_optimizer": Adam(learning_rate=0.05),
        "global_mean": "learned",
    },
    "catalogue": {"items": list(range(70))},
}


def fitted(ratings, **settings):
    defaults = {"n_components": 3, "max_iter": 3, "random_state": 0}
    return FederatedReconstructionMF(**defaults | settings).fit(ratings.data, ratings.target)


@pytest.fixture(scope="module")
def model(small_ratings):
    return fitted(small_ratings)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


@pytest.fixture(params=SETTINGS)
def any_model(request, small_ratings):
    return fitted(small_ratings, **SETTINGS[request.param])


def same(first, second):
    np.testing.assert_array_equal(first, second, strict=True)


def test_users_predict_the_same_bits(any_model, small_ratings, path):
    save_model(any_model, path, users=True)
    loaded = load_model(path)
    same(loaded.predict(small_ratings.data), any_model.predict(small_ratings.data))
    same(loaded.recommend([3, 5], 4)[0], any_model.recommend([3, 5], 4)[0])
    if any_model.item_variance_ is not None:
        for one, other in zip(
            loaded.predict(small_ratings.data, return_std=True),
            any_model.predict(small_ratings.data, return_std=True),
            strict=True,
        ):
            same(one, other)


def test_unseen_users_are_rebuilt_to_the_same_bits(any_model, path):
    save_model(any_model, path)
    one, other = load_model(path), any_model.forget_users()
    rebuilt = [model.reconstruct_user([3, 14, 15], [5, 4, 1]) for model in (one, other)]
    same(rebuilt[0].factors, rebuilt[1].factors)
    assert rebuilt[0].bias == rebuilt[1].bias
    same(one.recommend(rebuilt[0])[1], other.recommend(rebuilt[1])[1])


@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
@pytest.mark.filterwarnings("ignore:.*fewer ratings than before")
def test_training_goes_on_where_it_stopped(any_model, small_ratings, path):
    save_model(any_model, path, users=True)
    loaded = load_model(path)
    X, y = small_ratings.data, small_ratings.target
    goes_on = [
        model.set_params(warm_start=True).fit(X, y).partial_fit(X[:200], y[:200])
        for model in (loaded, any_model)
    ]
    same(goes_on[0].item_factors_, goes_on[1].item_factors_)
    assert goes_on[0].n_iter_ == goes_on[1].n_iter_ == 7


def test_everything_public_comes_back(any_model, path):
    save_model(any_model, path, users=True)
    loaded = load_model(path)
    columns = {"history_", "exchanges_"}
    names = {name for name in vars(any_model) if name.endswith("_")} - columns
    assert names == {name for name in vars(loaded) if name.endswith("_")} - columns
    for name in names:
        value = getattr(any_model, name)
        if value is None:
            assert getattr(loaded, name) is None
        else:
            same(getattr(loaded, name), value)
    for kind in columns:
        expected = getattr(any_model, kind)
        assert list(getattr(loaded, kind)) == list(expected)
        for name, column in expected.items():
            same(getattr(loaded, kind)[name], column)
    plain = {k: v for k, v in any_model.get_params().items() if not hasattr(v, "__len__")}
    assert {name: str(loaded.get_params()[name]) for name in plain} == {
        name: str(value) for name, value in plain.items()
    }


def test_without_users_nothing_of_them_is_in_the_file(small_ratings, path):
    table = np.array([[f"somebody {u}", f"item {i}"] for u, i in small_ratings.data])
    model = FederatedReconstructionMF(2, max_iter=2, random_state=0)
    model.fit(table, small_ratings.target)
    save_model(model, path)
    content = path.read_bytes()
    assert "somebody 7".encode("utf-32-le") not in content
    assert "item 7".encode("utf-32-le") in content
    assert model.user_factors_[7].tobytes() not in content
    assert len(load_model(path).users_) == 0
    save_model(model, path, users=True)
    assert "somebody 7".encode("utf-32-le") in path.read_bytes()
    assert model.user_factors_[7].tobytes() in path.read_bytes()


@pytest.mark.parametrize(
    "ids",
    [
        np.arange(60, dtype=np.uint8),
        np.arange(60) / 4,
        np.arange(60).astype("datetime64[D]"),
        np.array([f"Amélie {i}" for i in range(60)]),
        np.array([f"Amélie {i}" for i in range(60)], dtype=object),
        np.array([b"item %d" % i for i in range(60)]),
    ],
    ids=lambda ids: str(ids.dtype),
)
def test_ids_keep_their_type(small_ratings, path, ids):
    table = pd.DataFrame({"who": ids[small_ratings.data[:, 0] % 60], "what": 0})
    table["what"] = ids[small_ratings.data[:, 1]]
    model = FederatedReconstructionMF(2, max_iter=2, user_column="who", item_column="what")
    model.fit(table, small_ratings.target)
    save_model(model, path, users=True)
    loaded = load_model(path)
    same(loaded.items_, model.items_)
    same(loaded.predict(table), model.predict(table))
    same(loaded.feature_names_in_, model.feature_names_in_)
    assert all(type(a) is type(b) for a, b in zip(loaded.items_, model.items_, strict=True))


def test_the_same_model_is_the_same_file(model, path, tmp_path):
    save_model(model, path, users=True)
    save_model(load_model(path), tmp_path / "again.npz", users=True)
    assert path.read_bytes() == (tmp_path / "again.npz").read_bytes()


# ------------------------------------------------------------------ files that are not right


def test_every_cut_is_noticed(model, path):
    save_model(model, path, users=True)
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 1, 60).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="is not a model file, or was cut off or changed"):
            load_model(path)


def test_every_change_of_an_array_is_noticed(model, path):
    save_model(model, path, users=True)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    for entry in entries:
        changed = bytearray(content)
        middle = entry.header_offset + 30 + len(entry.filename) + 20 + entry.file_size - 1
        changed[middle] ^= 1  # the last byte of the array
        path.write_bytes(bytes(changed))
        with pytest.raises(ValueError, match="do not match its checksum"):
            load_model(path)


def test_every_flipped_bit_is_noticed(model, path):
    save_model(model, path)
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")  # of what zip says about the members
    places = [*range(0, 60), *range(start, len(content)), *range(60, start, 97)]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(bytes(changed))
        with pytest.raises(ValueError, match="do not match its checksum"):
            load_model(path)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("junk", [b"\0", b"junk", bytes(100)])
def test_bytes_that_were_added_are_noticed(model, path, junk, before):
    save_model(model, path)
    content = path.read_bytes()
    path.write_bytes(junk + content if before else content + junk)
    with pytest.raises(ValueError, match="do not match its checksum"):
        load_model(path)


def rewrite(path, change):
    """A file with valid CRCs whose arrays somebody changed."""
    with np.load(path) as file:
        arrays = dict(file)
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
    change(arrays)
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = comment


def sign(path):
    """What somebody who knows the format would do as well."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"-" * 64
    content = path.read_bytes()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


def set_array(name, value):
    return lambda arrays: arrays.update({name: value(arrays[name])})


def set_about(**entries):
    def change(arrays):
        about = json.loads(arrays["about"].tobytes()) | entries
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)

    return change


def set_parameter(**entries):
    def change(arrays):
        parameters = json.loads(arrays["about"].tobytes())["parameters"]
        set_about(parameters=parameters | entries)(arrays)

    return change


CHANGES = {
    "another factor": set_array("item_factors", lambda a: a + 1),
    "an array less": lambda arrays: arrays.pop("item_bias"),
    "an array more": lambda arrays: arrays.update(extra=np.zeros(3)),
    "another parameter": set_parameter(unknown_user="error"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_file_does_not_match_its_checksum(model, path, change):
    save_model(model, path)
    rewrite(path, change)
    with pytest.raises(ValueError, match="do not match its checksum"):
        load_model(path)


FORGERIES = {
    "shape": (set_array("item_factors", lambda a: a[:, :2]), "array 'user_prior_mean' has type"),
    "catalogue": (set_array("items", lambda a: a[:-1]), "array 'item_factors' has type"),
    "repeated": (set_array("items", lambda a: np.zeros_like(a)), "names items more than once"),
    "type": (set_array("item_bias", lambda a: a.astype("f8")), "not of the type of the item"),
    "nan": (set_array("item_bias", lambda a: a * np.nan), "'item_bias' holds values that are not"),
    "noise": (set_array("noise_variance", lambda a: -a), "'noise_variance' is not above 0"),
    "variance": (set_array("item_variance", lambda a: -a), "'item_variance' is less than 0"),
    "missing": (lambda arrays: arrays.pop("item_bias"), "no array 'item_bias'"),
    "round": (lambda arrays: arrays.pop("loop.round"), "no number 'loop.round'"),
    "loss": (set_array("loop.last_loss", lambda a: a.astype("U")), "no number 'loop.last_loss'"),
    "half a state": (
        lambda arrays: arrays.update({"guard.noise_variance": np.float64(1)}),
        "no array 'guard.item_factors'",
    ),
    "a last state": (
        lambda arrays: arrays.update(
            {f"last.{name}": a for name, a in arrays.items() if "." not in name}
            | {f"last.{name}": a for name, a in arrays.items() if "optimizer." in name}
        ),
        "a last state beside the best one",
    ),
    "memory": (lambda a: a.pop("optimizer.counts"), "the optimizer remembers"),
    "counts": (set_array("optimizer.counts", lambda a: a[1:]), "'optimizer.counts' has type"),
    "users": (set_array("user_states", lambda a: a[1:]), "array 'user_states' has type"),
    "rated": (set_array("rated_items", lambda a: a + 1000), "rated what there is not"),
    "starts": (set_array("rated_starts", lambda a: a[::-1].copy()), "array 'rated_items' has"),
    "format": (set_about(format="other"), "its format is 'other'"),
    "json": (set_array("about", lambda a: a[:-1]), "delimiter|Expecting"),
    "parameter": (set_parameter(tolerance=3), "unexpected keyword argument 'tolerance'"),
    "value": (set_parameter(unknown_user="guess"), "'unknown_user' parameter"),
    "part": (set_parameter(reconstruction={"part": "os.system", "parameters": {}}), "is none of"),
    "private part": (
        set_parameter(aggregator={"part": "aggregation.reduce", "parameters": {}}),
        "is none of",
    ),
}


@pytest.mark.parametrize(("change", "message"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_file_has_to_make_sense(model, path, change, message):
    save_model(model, path, users=True)
    rewrite(path, change)
    sign(path)
    with pytest.raises(ValueError, match=message):
        load_model(path)


NONSENSE = [
    None,
    True,
    -1,
    10**400,
    1e308,
    "",
    "x",
    [],
    {},
    [[]],
    {"list": []},
    {"part": 3},
    {"a": 1},
]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_a_forged_file_says_of_itself_is_an_error_that_names_it(model, path, seed):
    """Values of the description replaced at random, deep ones and all; signed as if genuine."""
    random = np.random.default_rng(seed)
    save_model(model, path, users=bool(seed % 2))

    def change(arrays):
        about = json.loads(arrays["about"].tobytes())
        for _ in range(random.integers(1, 4)):
            holder = about if random.random() < 0.5 else about["parameters"]
            if not isinstance(holder, dict) or not holder:
                continue
            key = sorted(holder)[random.integers(len(holder))]
            holder[key] = copy.deepcopy(NONSENSE[random.integers(len(NONSENSE))])
        text = json.dumps(about).encode()
        if seed % 10 == 0:
            text = b"[" * 100_000 + b"]" * 100_000
        arrays["about"] = np.frombuffer(text, np.uint8)

    rewrite(path, change)
    sign(path)
    loaded, complaint = None, ""
    try:
        loaded = load_model(path)
    except ValueError as error:
        complaint = str(error)
    if loaded is None:
        assert str(path) in complaint
    else:  # what was changed is a parameter that may have that value
        assert loaded.set_params(unknown_user="baseline").predict([[0, 0]]).shape == (1,)


def test_a_newer_version_is_named(model, path):
    save_model(model, path)
    rewrite(path, set_about(version=3))
    sign(path)
    with pytest.raises(ValueError, match="has version 3 of the format"):
        load_model(path)


OTHERS = {
    "pickle": "items.npy has",
    "compressed": "is compressed",
    "promises": r"items.npy has 0 bytes for float64 \(1000000000000000000,\)",
    "unsigned": "do not match its checksum",
    "text": "do not match its checksum",
}


@pytest.mark.parametrize(("how", "message"), OTHERS.items(), ids=OTHERS)
def test_other_files_are_refused(model, path, how, message):
    save_model(model, path)
    with np.load(path) as file:
        arrays = dict(file)
    if how == "pickle":
        np.savez(path, **arrays | {"items": arrays["items"].astype(object)})
    elif how == "compressed":
        np.savez_compressed(path, **arrays)
    elif how == "promises":  # a header of 8 exabytes before no bytes
        with zipfile.ZipFile(path, "w") as archive, archive.open("items.npy", "w") as member:
            header = {"descr": "<f8", "fortran_order": False, "shape": (10**18,)}
            np.lib.format.write_array_header_1_0(member, header)
    elif how == "unsigned":
        np.savez(path, **arrays)
    else:
        path.write_text("not a model")
    if how in ("pickle", "compressed", "promises"):
        sign(path)
    with pytest.raises(ValueError, match=f"is not a model file.*{message}"):
        load_model(path)


def test_a_missing_file_is_a_missing_file(path):
    with pytest.raises(FileNotFoundError):
        load_model(path)


# ------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(model, path, monkeypatch, step):
    save_model(model, path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(model.forget_users(), path, users=True)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_missing_folder_is_named(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*nowhere' to save"):
        save_model(model, tmp_path / "nowhere" / "m.npz")


def test_permissions_are_those_of_any_new_file(model, path, tmp_path):
    other = tmp_path / "other"
    other.touch()
    save_model(model, path)
    assert path.stat().st_mode == other.stat().st_mode


class OwnReconstruction(SGDReconstruction):
    pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("random_state", np.random.RandomState(0)),
        ("reconstruction", OwnReconstruction()),
        ("rating_scale", [[1, 2]]),
        ("reconstruction", type("Part", (BaseEstimator,), {"__module__": "x"})()),
    ],
)
def test_what_only_pickle_could_save_is_refused(small_ratings, path, name, value):
    model = fitted(small_ratings).set_params(**{name: value})
    with pytest.raises((TypeError, ValueError), match=f"{name}=.* "):
        save_model(model, path)
    assert not path.exists()


def test_ids_that_only_pickle_could_save_are_refused(path):
    table = np.empty((4, 2), dtype=object)
    table[:, 0] = [0, 0, 1, 1]
    table[:, 1] = [("a", 1), ("b", 2), ("a", 1), ("b", 2)]
    model = FederatedReconstructionMF(1, max_iter=1).fit(table, [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(TypeError, match="ids of type tuple"):
        save_model(model, path)


def test_only_fitted_estimators_are_saved(path):
    with pytest.raises(NotFittedError):
        save_model(FederatedReconstructionMF(), path)
    with pytest.raises(TypeError, match="Expected a FederatedReconstructionMF"):
        save_model({}, path)


# ------------------------------------------------------------------ devices and other tools


@pytest.fixture(scope="module")
def device():
    namespace = {"__name__": "device"}
    exec(compile(DEVICE.read_text(), str(DEVICE), "exec"), namespace)
    return namespace


@pytest.mark.parametrize("settings", [{}, {"fit_bias": False}, {"n_components": 0}])
@pytest.mark.parametrize("own", [{}, {3: 5.0, 14: 4.0, 15: 1.0}])
def test_a_device_with_numpy_alone_serves_its_user_alike(
    small_ratings, path, device, settings, own
):
    model = fitted(small_ratings, dtype="float64", **settings)
    save_model(model, path)
    sent = device["load"](path)
    user = device["reconstruct"](sent, own.keys(), list(own.values()))
    items, scores = model.recommend(own, len(model.items_), exclude=None)
    expected = dict(zip(items.tolist(), scores, strict=True))
    found = dict(zip(sent["items"].tolist(), device["score"](sent, user), strict=True))
    assert found == pytest.approx(expected, rel=1e-10)
    same(device["predict"](sent, user), device["score"](sent, user))


def test_a_device_predicts_within_the_scale_like_the_model(small_ratings, path, device):
    model = fitted(small_ratings, dtype="float64", rating_scale=(1, 5), max_iter=10)
    extreme = {item: 5.0 for item in np.argsort(-model.item_bias_)[:30].tolist()}
    save_model(model, path)
    sent = device["load"](path)
    user = device["reconstruct"](sent, extreme.keys(), list(extreme.values()))
    table = np.column_stack([np.full(30, 7), list(extreme)])
    served = model.forget_users().personalize(table, list(extreme.values()))
    expected = served.predict(np.column_stack([np.full(len(model.items_), 7), model.items_]))
    found = device["predict"](sent, user)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert device["score"](sent, user).max() > found.max() == 5


def test_the_device_uses_a_short_program_and_nothing_else(model, path):
    save_model(model, path)
    lines = DEVICE.read_text().splitlines()
    code = lines[lines.index("import sys") :]
    assert sum(bool(line.strip()) for line in code) <= 40
    without = "import sys; sys.modules.update(dict.fromkeys(['sklearn', 'scipy', 'pandas']));"
    run = f"import runpy; sys.argv[1:] = [{str(path)!r}, '3=5', '14=1']; "
    run += f"runpy.run_path({str(DEVICE)!r}, run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-c", without + run], capture_output=True, text=True, check=True
    )
    best = model.recommend({3: 5, 14: 1}, 10, exclude=None, caution=0)[0]
    assert [int(line.split()[0]) for line in result.stdout.splitlines()] == best.tolist()


def test_the_file_holds_what_the_server_sends(any_model, path):
    save_model(any_model, path)
    with np.load(path, allow_pickle=False) as file:
        for name, array in any_model.server_model().items():
            same(file[name], array)


def test_server_model_has_the_server_side_and_no_user(model, small_ratings):
    sent = model.server_model()
    assert sent.keys() == {
        "items",
        "item_factors",
        "item_bias",
        "item_variance",
        "item_bias_variance",
        "global_mean",
        "noise_variance",
        "user_prior_mean",
        "user_prior_variance",
    }
    assert not any(len(model.users_) in array.shape for array in sent.values())
    same(sent["item_factors"], model.item_factors_)
    assert sent["global_mean"] == model.global_mean_
    scaled = fitted(small_ratings, rating_scale=[1, 5])
    assert scaled.server_model()["rating_scale"].tolist() == [1, 5]


def test_writing_to_what_is_sent_does_not_change_the_model(any_model, small_ratings):
    before = any_model.predict(small_ratings.data)
    for array in any_model.server_model().values():
        array[...] = 0
    same(any_model.predict(small_ratings.data), before)


def test_skops_round_trip(model, small_ratings):
    skops = pytest.importorskip("skops.io", reason="needs skops")
    content = skops.dumps(model)
    trusted = skops.get_untrusted_types(data=content)
    assert all(name.startswith(("sklearn_fedrecon.", "numpy.")) for name in trusted)
    loaded = skops.loads(content, trusted=trusted)
    same(loaded.predict(small_ratings.data), model.predict(small_ratings.data))
    same(loaded.recommend({3: 5.0}, 4)[0], model.recommend({3: 5.0}, 4)[0])


def test_parts_changed_since_the_fit_are_not_saved(tmp_path):
    X = np.array([(user, item) for user in range(6) for item in range(5)])
    model = FederatedReconstructionMF(2, random_state=0).fit(X, X.sum(axis=1) % 5)
    model.set_params(reconstruction="ridge")
    with pytest.raises(ValueError, match=r"changed since the fit.*VariationalReconstruction"):
        save_model(model, tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())
