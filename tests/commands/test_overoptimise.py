"""Reward models of several sizes, prices of the KL, and what each combination leads to."""

import json

import pytest

from minippo.commands.measure import summary_of
from minippo.commands.overoptimise import flags_of, frontier_of, main, make_plan, row_of, table
from minippo.commands.speaker import open_speaker
from tests.tiny_runs import TINY, nothing_drawn

FLAGS = [word for i, word in enumerate(TINY) if TINY[i - i % 2] != "--preference_prompts"]
GRID = ["--sizes", "6", "8", "--annotators", "length", "--prices", "0", "0.05", "--seeds", "0"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(its folder, what it has found)."""
    out = tmp_path_factory.mktemp("overoptimise") / "all"
    with nothing_drawn():
        assert main(["--out", str(out), "--quiet", *GRID, *FLAGS]) == 0
    return out, json.loads((out / "overoptimise.json").read_text())


@pytest.mark.slow
def test_every_reward_model_at_every_price(done):
    out, found = done
    names = ["6 prompts", "8 prompts", "annotator length"]
    assert found["grid"]["sizes x prices x seeds"] == [3, 2, 1]
    assert [judge["name"] for judge in found["reward_models"]] == names
    for judge in found["reward_models"]:
        assert [row["price"] for row in judge["prices"]] == [0.0, 0.05]
        assert [row["seeds"] for row in judge["prices"]] == [[0], [0]]
        assert [n for n, *_ in judge["best_of_n"]] == [1, 2, 4, 8, 16, 32]
        scores = [score for _, _, score, _ in judge["best_of_n"]]
        assert scores == sorted(scores)  # of the reward model's own choice
    assert (out / "table.md").read_text().count("| annotator length |") == 2
    assert (out / "figures" / "overoptimisation.png").exists()


@pytest.mark.slow
def test_the_price_0_has_no_kl_in_the_reward_and_the_annotator_is_the_one_that_is_named(done):
    out, _ = done
    configs = [
        json.loads(path.read_text()) for path in sorted(out.glob("runs/*/seed-0/config.json"))
    ]
    assert [config["ppo"]["kl_reward"] for config in configs] == ["none", "k1"] * 3
    prompts = [config["preference"]["preference_prompts"] for config in configs]
    assert prompts == [6, 6, 8, 8, 8, 8]
    assert [c["preference"]["annotator"] for c in configs] == ["gold"] * 4 + ["length"] * 2
    assert flags_of(0.2) == ["--kl_coef", "0.2"]


@pytest.mark.slow
def test_a_course_is_that_of_the_metrics(done):
    out, found = done
    rows = [
        json.loads(line)
        for line in next(out.glob("runs/1-*/seed-0/metrics.jsonl")).read_text().splitlines()
    ]
    golds = [row["objective/gold"] for row in rows]  # two updates: one mean
    (point,) = found["reward_models"][0]["prices"][0]["course"]
    assert point[2] == pytest.approx(sum(golds) / 2)
    assert found["reward_models"][0]["prices"][0]["drops"] == [0.0]


@pytest.mark.slow
def test_the_same_command_again_does_nothing_and_another_is_refused(done, capsys, monkeypatch):
    out, _ = done
    monkeypatch.setattr("subprocess.Popen", None)  # a call would fail
    before = (out / "overoptimise.json").read_bytes()
    with nothing_drawn():
        assert main(["--out", str(out), "--quiet", *GRID, *FLAGS]) == 0
    assert (out / "overoptimise.json").read_bytes() == before
    capsys.readouterr()
    assert main(["--out", str(out), "--quiet", *GRID[:-1], "1", *FLAGS]) == 2
    assert "holds the comparison of another command" in capsys.readouterr().err


def test_a_row_counts_the_seeds_whose_drop_is_much_and_little():
    row = {
        "price": 0.0,
        "seeds": [0, 1, 2],
        "drops": [0.2, 0.1, 0.0],
        "accuracy": [0.6, 0.7, 0.8],
        "course": [[0.0, 0.0, 1.0], [1.0, 0.5, 2.0], [4.0, 0.7, 1.4]],
    }
    wanted = "| x | 0.700 | 0 | 4.00 | 0.70 | 2.00 | 1.40 | 0.100 | 2 of 3 | 1 of 3 |"
    assert row_of("x", row) == wanted
    assert row_of("x", row | {"drops": None}).endswith("| 1.40 | - | - | - |")


def test_the_laws_stand_below_the_table():
    fit = {"a": 1.0, "b": 0.25, "residual": 0.01, "spread": 0.5}
    judge = {"name": "x", "prices": [], "fits": {"best_of_n": fit, "reinforcement": None}}
    assert table({"reward_models": [judge]})[-1] == (
        "    x, best of n: d (1.00 - 0.25 d), residual 0.010 of 0.500"
    )


def test_the_grid_that_is_meant_by_default():
    plan = make_plan(["--out", "somewhere", "--preset", "quick"])
    assert len(plan.settings) == 12 and plan.seeds == [0, 1, 2, 3, 4]
    assert plan.vary["price"] == [0.0, 0.05, 0.2]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "--out: name the folder, --out DIR"),
        (["--out", "x", "--prices", "-1"], "--prices: wanted numbers that are not negative"),
        (["--out", "x", "--prices", "high"], "--prices: wanted numbers that are not negative"),
        (["--out", "x", "--sizes", "1"], "--sizes: wanted numbers of prompts of at least 2"),
        (["--out", "x", "--annotators", "nobody"], "--annotator: wanted one of"),
        (["--out", "x", "--kl_coef", "1"], "--kl_coef: overoptimise says that to each run itself"),
        (["--out", "x", "--seed=3"], "--seed: overoptimise says that to each run itself"),
        (["--out", "x", "--task", "arithmetic"], "--"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}") and error.count("\n") == 1


def test_the_frontier_is_the_mean_of_the_seeds_at_each_price(monkeypatch):
    plan = make_plan(["--out", "somewhere", "--preset", "quick", "--seeds", "0,1"])
    frontiers = {0: [[0.0, 1.0], [1.0, 2.0]], 1: [[0.5, 3.0], [2.0, 5.0]]}
    asked = []

    def done(self, setting):
        asked.append(setting.values["price"])
        return {seed: {"frontier": points} for seed, points in frontiers.items()}

    monkeypatch.setattr("minippo.commands.plan.Plan.done", done)
    assert frontier_of(plan, plan.settings[:3]) == [[0.25, 2.0], [1.5, 3.5]]
    assert asked == [0.05]  # the lowest above 0
    assert frontier_of(plan, plan.settings[:1]) == []


@pytest.mark.slow
def test_the_best_of_n_is_of_the_runs_own_models(done):
    out, found = done
    folder = next(out.glob("runs/1-*/seed-0"))
    assert (
        summary_of(folder)["reward_model"]["heldout_accuracy"]
        == (found["reward_models"][0]["prices"][0]["accuracy"][0])
    )
    assert open_speaker(str(folder), ["sft"], None).reward_model is not None
