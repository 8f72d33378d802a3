"""What the displays draw, read off the artists."""

import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_fedrecon import FederatedReconstructionMF, inspection, make_ratings
from sklearn_fedrecon.inspection import (
    CalibrationDisplay,
    ClientErrorDisplay,
    ItemMapDisplay,
    ReconstructionCurveDisplay,
    RoundHistoryDisplay,
)
from sklearn_fedrecon.metrics import rmse
from sklearn_fedrecon.model_selection import KnownUsersWarning
from sklearn_fedrecon.model_selection._pairs import RatedPairs

pyplot = pytest.importorskip("matplotlib.pyplot", reason="needs matplotlib")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def split(small_ratings):
    """Training and test rows of the same users."""
    return train_test_split(small_ratings.data, small_ratings.target, random_state=0)


@pytest.fixture(scope="module")
def model(split):
    X, _, y, _ = split
    return FederatedReconstructionMF(3, random_state=0, early_stopping=True).fit(X, y)


@pytest.fixture(scope="module")
def unseen(small_ratings):
    """A model of the first 90 users, and the ratings of the 30 others."""
    X, y = small_ratings.data, small_ratings.target
    seen = X[:, 0] < 90
    model = FederatedReconstructionMF(3, random_state=0, dtype="float64").fit(X[seen], y[seen])
    return model, X[~seen], y[~seen]


def displays(model, split, unseen):
    """One display of every kind, as (constructor, arguments, keywords)."""
    _, X_test, _, y_test = split
    return [
        (RoundHistoryDisplay.from_estimator, (model,)),
        (RoundHistoryDisplay.from_history, (model.history_,)),
        (ClientErrorDisplay.from_estimator, (model, X_test, y_test)),
        (ClientErrorDisplay.from_predictions, (y_test, y_test + 1, X_test[:, 0])),
        (ReconstructionCurveDisplay.from_estimator, unseen),
        (ItemMapDisplay.from_estimator, (model,)),
        (CalibrationDisplay.from_estimator, (model, X_test, y_test)),
        (CalibrationDisplay.from_predictions, (y_test, y_test + 1, np.ones(len(y_test)))),
    ]


@pytest.mark.parametrize("which", range(8))
def test_displays_follow_the_conventions(model, split, unseen, which):
    create, arguments = displays(model, split, unseen)[which]
    display = create(*arguments)
    assert type(display).__name__ in inspection.__all__
    assert display.ax_.figure is display.figure_
    assert display.ax_.get_xlabel()
    assert display.ax_.get_ylabel()
    _, ax = pyplot.subplots()
    n_artists = len(ax.get_children())
    assert display.plot(ax) is display
    assert display.ax_ is ax
    assert len(ax.get_children()) > n_artists
    assert create(*arguments, ax=ax).ax_ is ax


@pytest.mark.parametrize("which", range(8))
def test_displays_do_not_change_the_estimator(model, split, unseen, which):
    create, arguments = displays(model, split, unseen)[which]
    before = {name: repr(value) for name, value in vars(unseen[0]).items()}
    create(*arguments)
    assert before == {name: repr(value) for name, value in vars(unseen[0]).items()}


def test_without_matplotlib_the_error_names_the_extra(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"RoundHistoryDisplay.plot needs matplotlib.*\[plots\]"):
        RoundHistoryDisplay.from_estimator(model)


# ------------------------------------------------------------------------ RoundHistoryDisplay


@pytest.mark.parametrize(
    ("x", "positions"),
    [
        ("round", lambda h: h["round"]),
        ("bytes", lambda h: np.cumsum(h["bytes_up"] + h["bytes_down"]) / 1e6),
        ("seconds", lambda h: np.cumsum(h["wall_seconds"])),
    ],
)
def test_history_is_drawn_against_rounds_bytes_or_seconds(model, x, positions):
    display = RoundHistoryDisplay.from_estimator(model, x=x)
    for column in ("training_rmse", "validation_rmse"):
        line = display.lines_[column]
        np.testing.assert_allclose(line.get_xdata(), positions(model.history_))
        np.testing.assert_array_equal(line.get_ydata(), model.history_[column])
    training, held_out = display.lines_.values()
    assert training.get_color() == held_out.get_color()
    assert training.get_linestyle() != held_out.get_linestyle()


def test_a_history_without_held_out_users_is_one_line(unseen):
    display = RoundHistoryDisplay.from_estimator(unseen[0], name="all users")
    assert list(display.lines_) == ["training_rmse"]
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["all users, training"]


def test_a_history_can_be_a_frame(model):
    display = RoundHistoryDisplay.from_history(pd.DataFrame(model.history_), x="bytes")
    assert len(display.lines_["training_rmse"].get_xdata()) == model.n_iter_


def test_lines_are_styled_by_short_and_long_names(model):
    display = RoundHistoryDisplay.from_estimator(model, line_kwargs={"c": "red", "lw": 3})
    line = display.lines_["training_rmse"]
    assert line.get_color() == "red"
    assert line.get_linewidth() == 3


def test_another_axis_is_refused(model):
    with pytest.raises(ValueError, match="x='epochs': expected one of"):
        RoundHistoryDisplay.from_estimator(model, x="epochs")
    assert not pyplot.get_fignums()


# ------------------------------------------------------------------------- ClientErrorDisplay


def test_every_client_is_a_point_at_its_ratings_and_its_error(model, split):
    X, X_test, _, y_test = split
    display = ClientErrorDisplay.from_estimator(model, X_test, y_test)
    predicted = model.predict(X_test)
    expected = {
        (np.count_nonzero(X[:, 0] == user), rmse(y_test[mine], predicted[mine]))
        for user in np.unique(X_test[:, 0])
        for mine in [X_test[:, 0] == user]
    }
    assert {tuple(point) for point in display.scatter_.get_offsets().tolist()} == expected
    assert display.ax_.get_xscale() == "log"


def test_the_line_is_the_median_of_groups_of_similar_clients():
    clients = np.repeat(np.arange(60), np.arange(1, 61))
    errors = 1.0 / np.arange(1, 61)
    display = ClientErrorDisplay.from_predictions(
        np.zeros(len(clients)), errors[clients], clients, metric=mean_absolute_error
    )
    x, y = display.line_.get_data()
    np.testing.assert_allclose(x, [10.5, 30.5, 50.5])
    np.testing.assert_allclose(y, [np.median(errors[i : i + 20]) for i in (0, 20, 40)])
    assert display.ax_.get_ylabel() == "mean_absolute_error of the client"


def test_clients_that_are_not_known_stand_at_zero(unseen):
    model, X, y = unseen
    with pytest.warns(UserWarning, match="not known"):
        display = ClientErrorDisplay.from_estimator(model, X, y)
    assert (display.n_ratings == 0).all()
    assert display.ax_.get_xscale() == "symlog"
    assert (ClientErrorDisplay.from_estimator(model.personalize(X, y), X, y).n_ratings > 0).all()


def test_numbers_of_ratings_can_be_given():
    display = ClientErrorDisplay.from_predictions(
        [1, 2, 3], [1, 1, 1], ["a", "b", "b"], n_ratings={"a": 7, "c": 9}
    )
    assert dict(zip(display.clients, display.n_ratings, strict=True)) == {"a": 7, "b": 0}


def test_distribution_counts_every_client_once(model, split):
    _, X_test, _, y_test = split
    display = ClientErrorDisplay.from_estimator(model, X_test, y_test, kind="distribution")
    heights = [bar.get_height() for bar in display.bars_]
    assert sum(heights) == len(np.unique(X_test[:, 0]))
    assert display.line_.get_xdata()[0] == np.median(display.errors)
    assert display.scatter_ is None


def test_another_kind_is_refused(model, split):
    with pytest.raises(ValueError, match="kind='pie': expected 'against_ratings'"):
        ClientErrorDisplay.from_estimator(model, split[1], split[3], kind="pie")


# ----------------------------------------------------------------- ReconstructionCurveDisplay


@pytest.mark.parametrize("n_revealed", [(0, 1, 2, 5), [4]])
def test_the_curve_by_one_user_after_the_other(unseen, n_revealed):
    model, X, y = unseen
    display = ReconstructionCurveDisplay.from_estimator(model, X, y, n_revealed=n_revealed)
    ranks, counts = RatedPairs.from_table(X, 0, 1).random_ranks(0)
    largest, errors = max(n_revealed), []
    for step in n_revealed:
        squares = []
        for user in np.unique(X[counts > largest, 0]):
            mine = X[:, 0] == user
            shown, asked = mine & (ranks < step), mine & (ranks >= largest)
            found = model.reconstruct_user(X[shown, 1], y[shown])
            scores = dict(zip(*model.recommend(found, 60, exclude=None), strict=True))
            squares.extend((y[row] - scores[X[row, 1]]) ** 2 for row in np.flatnonzero(asked))
        errors.append(np.sqrt(np.mean(squares)))
    assert display.line_.get_xdata().tolist() == sorted(n_revealed)
    np.testing.assert_allclose(display.line_.get_ydata(), errors, rtol=1e-10)
    assert display.n_users == len(np.unique(X[counts > largest, 0]))


def test_auto_reveals_what_half_of_the_users_can_show(unseen):
    model, X, y = unseen
    display = ReconstructionCurveDisplay.from_estimator(model, X, y)
    counts = np.unique(X[:, 0], return_counts=True)[1]
    assert display.n_revealed.tolist() == [
        s for s in (0, 1, 2, 5, 10, 20, 50) if np.count_nonzero(counts > s) * 2 >= len(counts)
    ]
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == [
        str(step) for step in display.n_revealed
    ]


def test_the_curve_of_a_pipeline_is_that_of_its_last_step(unseen):
    model, X, y = unseen
    pipeline = make_pipeline(FunctionTransformer(), model)
    np.testing.assert_array_equal(
        ReconstructionCurveDisplay.from_estimator(pipeline, X, y).errors,
        ReconstructionCurveDisplay.from_estimator(model, X, y).errors,
    )


def test_users_of_the_training_are_no_unseen_users(small_ratings, unseen):
    with pytest.warns(KnownUsersWarning):
        ReconstructionCurveDisplay.from_estimator(
            unseen[0], small_ratings.data, small_ratings.target
        )


@pytest.mark.parametrize(
    ("n_revealed", "message"),
    [
        ((0, 1000), "no user has more than"),
        ((-1, 2), "expected 'auto', or numbers of ratings"),
        ((0.5,), "expected 'auto', or numbers of ratings"),
        ((), "expected 'auto', or numbers of ratings"),
        ("all", "expected 'auto', or numbers of ratings"),
    ],
)
def test_what_cannot_be_revealed_is_refused(unseen, n_revealed, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionCurveDisplay.from_estimator(*unseen, n_revealed=n_revealed)


# ----------------------------------------------------------------------------- ItemMapDisplay


def test_items_stand_at_their_scaled_components(model):
    display = ItemMapDisplay.from_estimator(model, components=(2, 0), items=[5, 3])
    spread = np.sqrt(model.user_prior_variance_)
    expected = [[model.item_factors_[item, j] * spread[j] for j in (2, 0)] for item in (5, 3)]
    np.testing.assert_allclose(display.scatter_.get_offsets(), expected, rtol=1e-6)
    assert display.ax_.get_xlabel() == "component 2"
    assert display.ax_.get_ylabel() == "component 0"


def boxes(texts):
    return [text.get_window_extent() for text in texts]


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_names_do_not_overlap_and_stay_inside_the_figure(model, layout):
    _, ax = pyplot.subplots(layout=layout)
    names = {item: f"The long title of film {item} (2001)" for item in range(60)}
    display = ItemMapDisplay.from_estimator(model, labels=names, n_labels=60, ax=ax)
    display.figure_.canvas.draw()
    named = boxes(display.texts_)
    assert 5 < len(named) < 60
    assert not any(a.overlaps(b) for i, a in enumerate(named) for b in named[:i])
    assert all(box.x1 <= display.figure_.bbox.x1 for box in named)
    middle = np.mean(ax.get_xlim())
    for text in display.texts_:
        assert text.get_ha() == ("right" if text.xy[0] > middle else "left")


def test_a_name_without_room_is_one_that_overlaps_a_farther_one(model):
    display = ItemMapDisplay.from_estimator(model, n_labels=60)
    shown = [text.get_text() for text in display.texts_]
    distances = np.linalg.norm(display.positions, axis=1)
    left_out = [i for i in range(len(display.items)) if str(display.items[i]) not in shown]
    assert left_out
    middle = np.mean(display.ax_.get_xlim())
    for place in left_out:
        x, y = display.positions[place]
        away = (-3 if x > middle else 3, 2)
        again = display.ax_.annotate(
            str(display.items[place]),
            (x, y),
            xytext=away,
            textcoords="offset points",
            size=8,
            ha="right" if x > middle else "left",
        )
        box = again.get_window_extent()
        farther = [t for t in display.texts_ if np.hypot(*t.xy) >= distances[place] - 1e-6]
        assert box.count_overlaps(boxes(farther)) > 0


def test_the_side_of_names_can_be_set(model):
    display = ItemMapDisplay.from_estimator(model, text_kwargs={"horizontalalignment": "center"})
    assert {text.get_ha() for text in display.texts_} == {"center"}


def test_the_farthest_items_are_named(model):
    names = {item: f"film {item}" for item in range(30)}
    display = ItemMapDisplay.from_estimator(model, labels=names, n_labels=7)
    distances = np.linalg.norm(display.positions, axis=1)
    farthest = display.items[np.argsort(-distances)[:7]].tolist()
    assert [text.get_text() for text in display.texts_] == [
        names.get(item, str(item)) for item in farthest
    ]
    np.testing.assert_allclose(
        [text.xy for text in display.texts_], display.positions[farthest], rtol=1e-6
    )


@pytest.mark.parametrize("components", [(0, 3), (-1, 0), (0,), 1])
def test_components_that_are_not_there_are_refused(model, components):
    with pytest.raises(ValueError, match=r"expected two numbers from 0 to 2"):
        ItemMapDisplay.from_estimator(model, components=components)


# ------------------------------------------------------------------------- CalibrationDisplay


def test_coverage_of_normal_errors_is_the_level():
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2, 20_000)
    display = CalibrationDisplay.from_predictions(rng.normal(0, std), np.zeros(20_000), std)
    np.testing.assert_allclose(display.line_.get_ydata(), display.line_.get_xdata(), atol=0.02)


def test_coverage_counts_ratings_inside():
    std = np.array([1.0, 1.0, 2.0, 1.0])
    errors = np.array([0.5, -1.5, 3.0, 2.5])
    levels = [2 * norm.cdf(z) - 1 for z in (1.0, 2.0)]
    display = CalibrationDisplay.from_predictions(errors, np.zeros(4), std, levels=levels)
    assert display.line_.get_ydata().tolist() == [0.25, 0.75]
    assert display.diagonal_.get_xydata().tolist() == [[0, 0], [1, 1]]


def test_the_default_model_is_calibrated_on_ratings_from_its_own_family():
    ratings = make_ratings(
        n_users=300, n_items=100, n_ratings=15_000, n_components=4, rounded=False, random_state=0
    )
    X, X_test, y, y_test = train_test_split(ratings.data, ratings.target, random_state=0)
    model = FederatedReconstructionMF(4, random_state=0).fit(X, y)
    display = CalibrationDisplay.from_estimator(model, X_test, y_test)
    np.testing.assert_allclose(display.coverage, display.levels, atol=0.03)


@pytest.mark.parametrize("levels", [[0.0, 0.5], [1.0], []])
def test_levels_that_are_no_shares_are_refused(levels):
    with pytest.raises(ValueError, match="expected shares between 0 and 1"):
        CalibrationDisplay.from_predictions([1.0], [1.0], [1.0], levels=levels)


def test_deviations_have_to_be_positive():
    with pytest.raises(ValueError, match="not positive"):
        CalibrationDisplay.from_predictions([1.0], [1.0], [0.0])
