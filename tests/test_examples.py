"""The gallery: every example runs and shows what it claims."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

pyplot = pytest.importorskip("matplotlib.pyplot", reason="needs matplotlib")
EXAMPLES = Path(__file__).parents[1] / "examples"


def factors_beat_both_baselines_and_serve_somebody_new(shown):
    for errors in (shown["seen"], shown["unseen"]):
        mean, biases, factors = errors.values()
        assert factors < biases - 0.02 < mean - 0.1
    assert not set(shown["items"]) & set(shown["rated"])
    assert len(shown["items"]) == len(shown["rated"]) == 5


def new_users_are_served_as_if_in_training(shown):
    errors = shown["errors"]
    best, rebuilt, cold = sorted(errors.values())
    assert errors["cold start"] == cold
    assert rebuilt - best < 0.01
    assert cold - rebuilt > 0.05
    for values, line in zip(("in_training", "rebuilt"), shown["ax"].lines, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), shown[values])
    assert np.abs(np.subtract(shown["in_training"], shown["rebuilt"])).max() < 0.01
    assert shown["curve"].errors[-1] < shown["curve_of_biases"].errors[-1] - 0.02


def only_revealing_tells_settings_apart(shown):
    plain, revealing = (
        -found.cv_results_["mean_test_score"] for found in shown["searches"].values()
    )
    assert np.ptp(plain) < 0.01
    assert np.ptp(revealing) > 0.1


def chosen_questions_tell_more(shown):
    after = {name: values[shown["STEPS"].index(5)] for name, values in shown["errors"].items()}
    chosen = after["most informative"], after["most informative of 50 popular"]
    assert max(chosen) < min(after["popular items"], after["at random"]) - 0.01


def leaving_ratings_in_place_costs_nothing(shown):
    errors = shown["errors"]
    assert errors["federated"] <= min(shown["centralized"].values()) + 0.005
    assert errors["noise"] < errors["oracle that knows the items"] < errors["federated"]
    assert errors["federated"] < errors["biases only"] - 0.05


def closed_form_saves_traffic(shown):
    sent = {
        name: shown["megabytes_until"](model, shown["target"])
        for name, model in shown["models"].items()
    }
    cohorts, everybody, descent = sorted(sent.values())
    assert sent["gradient descent, 50 a round"] == descent > 1.2 * everybody
    assert sent["closed form, 50 a round"] == cohorts


def few_ratings_are_served_worse(shown):
    assert shown["error_of_few"] > shown["error_of_others"] + 0.1
    assert shown["few"][shown["worst"]].mean() > max(shown["by_chance"]) + 0.05


def the_published_algorithm_serves_newcomers_and_takes_its_time(shown):
    never, took = shown["unseen"]["never took part"], shown["unseen"][shown["took"]]
    rounds = np.array(shown["ROUNDS"])
    assert np.abs(np.subtract(never, took))[rounds >= 20].max() < 0.02
    assert min(shown["by_steps"], key=shown["by_steps"].get) == 20
    split, *joint = (errors[-1] for errors in shown["split_or_joint"].values())
    assert split < min(joint) - 0.01
    needed = shown["needed"]
    assert needed["closed form, all clients (default)"] < 10 < 100 < needed["SGD with biases"]


def memory_of_a_fit_from_disk_does_not_grow(shown):
    assert max(shown["of_disk"]) < 1.3 * min(shown["of_disk"])
    assert shown["of_table"][-1] > 4 * shown["of_disk"][-1]
    assert shown["streamed"].n_iter_ == 20


CLAIMS = {
    "quickstart.py": factors_beat_both_baselines_and_serve_somebody_new,
    "plot_unseen_users.py": new_users_are_served_as_if_in_training,
    "plot_grid_search_over_users.py": only_revealing_tells_settings_apart,
    "plot_cold_start_interview.py": chosen_questions_tell_more,
    "plot_federated_against_centralized.py": leaving_ratings_in_place_costs_nothing,
    "plot_communication_against_accuracy.py": closed_form_saves_traffic,
    "plot_paper_reproduction.py": the_published_algorithm_serves_newcomers_and_takes_its_time,
    "plot_who_is_badly_served.py": few_ratings_are_served_worse,
    "plot_larger_than_memory.py": memory_of_a_fit_from_disk_does_not_grow,
}


@pytest.mark.parametrize(("name", "claim"), CLAIMS.items(), ids=CLAIMS)
def test_example_shows_what_it_claims(name, claim, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name])
    try:
        claim(runpy.run_path(str(EXAMPLES / name)))
        assert bool(pyplot.get_fignums()) == name.startswith("plot_")
    finally:
        pyplot.close("all")


@pytest.mark.parametrize("name", CLAIMS)
def test_example_states_its_claim(name):
    assert "\nClaim: " in (EXAMPLES / name).read_text(encoding="utf-8")


def test_every_page_of_the_gallery_has_a_claim():
    assert {path.name for path in EXAMPLES.glob("*.py")} - set(CLAIMS) == {"device.py"}


def test_quickstart_explains_itself_and_its_options(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["quickstart.py", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(EXAMPLES / "quickstart.py"))
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "recommend from ratings that stay with their users" in shown
    assert "--movielens VARIANT" in shown
    assert "--data-home" in shown


def test_quickstart_runs_in_a_notebook(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    names = {"__name__": "__main__"}
    exec((EXAMPLES / "quickstart.py").read_text(encoding="utf-8"), names)
    assert len(names["items"]) == 5
