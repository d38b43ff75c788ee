"""From responses to a reward model: who samples, what is asked for, and what is kept."""

import random
import shutil

import pytest
import torch

from minippo.commands import feedback
from minippo.commands.feedback import centring_demonstrations, collect_preferences
from minippo.commands.train import main
from minippo.interchange.load import load_gpt
from minippo.tasks.capitals import Capitals
from tests.commands.test_resume import Stopped, stop_at_write
from tests.tiny_runs import read_json, read_rows, run, timeless

CHECKPOINT = "checkpoints/reward_model/model.safetensors"


@pytest.mark.parametrize("there, used", [(1, 1), (30, 30), (500, 500), (501, 500), (None, 500)])
def test_no_demonstration_counts_twice_for_the_zero(there, used):
    class FewOrMany(Capitals):
        amounts = {} if there is None else {"demonstration": there}

        def demonstrations(self, n, *, rng):
            return [("prompt", "answer")] * n

    assert len(centring_demonstrations(FewOrMany(), random.Random(0))) == used


# -- whole runs, tiny


@pytest.mark.parametrize(
    "flags",
    [
        "--preference_labels ranking --annotator length --reward_layers 1 --reward_zero samples",
        "--preference_labels ratings --annotator rules --preferences_from pretrain",
    ],
)
def test_a_run_with_another_annotator_is_whole_and_goes_on(flags, tmp_path, capsys):
    folder = run(tmp_path / "run", "--quiet", "--n_layer", "2", *flags.split())
    (folder / "summary.json").unlink()
    again = ["--resume", "--out", str(folder)]
    assert main(again) == 0
    assert "reward_model: as it was saved" in capsys.readouterr().out
    summary = read_json(folder / "summary.json")
    assert 0 <= summary["acceptability"] <= 1 and summary["policy"]["claims"]["number"] >= 0
    rows = summary["reward_model"]["calibration"]
    assert sum(row["pairs"] for row in rows) == summary["reward_model"]["heldout_pairs"]


def test_a_panel_reports_how_many_were_outvoted(tmp_path):
    folder = run(tmp_path / "run", "--quiet", "--annotator", "panel")
    assert 0 <= read_json(folder / "summary.json")["reward_model"]["disagreement"] < 0.5


@pytest.mark.slow
def test_the_pretrained_models_responses_are_others(tmp_path):
    names = ("sft", "pretrain")
    one, other = (
        (run(tmp_path / name, "--quiet", "--preferences_from", name) / CHECKPOINT).read_bytes()
        for name in names
    )
    assert one != other


# -- rounds


ROUNDS = ("--rounds", "2", "--annotator", "length")  # hardly any two responses are worth the same
STAGES_OF_A_ROUND = ("reward_model", "policy")


def weights(folder, stages=STAGES_OF_A_ROUND):
    return [(folder / f"checkpoints/{name}/model.safetensors").read_bytes() for name in stages]


@pytest.fixture(scope="module")
def counted_rounds(tmp_path_factory):
    """(a run of two rounds, how many files it wrote)."""
    with pytest.MonkeyPatch.context() as patch:
        count = stop_at_write(patch, -1)
        folder = run(tmp_path_factory.mktemp("rounds") / "run", "--quiet", *ROUNDS)
    return folder, count[0]


@pytest.fixture(scope="module")
def two_rounds(counted_rounds):
    return counted_rounds[0]


@pytest.fixture(scope="module")
def writes_of_two_rounds(counted_rounds):
    return counted_rounds[1]


def test_the_first_round_is_a_run_of_one_round(two_rounds, tmp_path):
    one = run(tmp_path / "one", "--quiet", "--annotator", "length")
    assert weights(one) == weights(two_rounds / "rounds/1")
    assert weights(one) != weights(two_rounds)
    rows = (read_rows(folder / "metrics.jsonl") for folder in (one, two_rounds / "rounds/1"))
    assert timeless(next(rows)) == timeless(next(rows))
    assert weights(one, ["sft"]) == weights(two_rounds, ["sft"])


def test_the_second_round_learns_from_the_pairs_of_both(two_rounds):
    summary = read_json(two_rounds / "summary.json")
    (first,) = summary["rounds"]
    assert first["round"] == 1 and "earlier_accuracy" not in first["reward_model"]
    pairs = summary["reward_model"]["heldout_pairs"]
    assert pairs > first["reward_model"]["heldout_pairs"] > 0
    assert 0 <= summary["reward_model"]["earlier_accuracy"] <= 1
    assert summary["seconds"]["round 1 policy"] > 0


@pytest.mark.slow
def test_three_rounds_ask_the_policies_in_their_order(tmp_path, monkeypatch):
    asked = []

    def collect(run, model, number):
        asked.append((number, [p.detach().clone() for p in model.parameters()]))
        return collect_preferences(run, model, number)

    monkeypatch.setattr(feedback, "collect_preferences", collect)
    folder = run(tmp_path / "run", "--quiet", "--rounds", "3", "--annotator", "length")
    assert [number for number, _ in asked] == [1, 2, 3]
    for (_, parameters), (place, stage) in zip(
        asked,
        ((folder, "sft"), (folder / "rounds/1", "policy"), (folder / "rounds/2", "policy")),
        strict=True,
    ):
        saved = load_gpt(place, stage).parameters()
        assert all(torch.equal(a, b) for a, b in zip(parameters, saved, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.4, 0.55, 0.7, 0.85])
def test_stopped_in_any_round_the_run_ends_with_the_same_bits(
    share, writes_of_two_rounds, two_rounds, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at_write(patch, round(share * writes_of_two_rounds))
        run(out, "--quiet", *ROUNDS)
    assert main(["--resume", "--quiet", "--out", str(out)]) == 0
    for place in ("", "rounds/1"):
        assert weights(out / place) == weights(two_rounds / place)
    summaries = [read_json(folder / "summary.json")["rounds"] for folder in (out, two_rounds)]
    assert summaries[0] == summaries[1]


def test_a_damaged_policy_of_a_round_is_trained_again(two_rounds, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(two_rounds, out)
    (out / "summary.json").unlink()
    path = out / "rounds/1/checkpoints/policy/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert main(["--resume", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "the stage policy is done again" in told and "round 2 of 2" in told
    assert weights(out) == weights(two_rounds)


def test_a_finished_run_with_a_damaged_round_is_refused(two_rounds, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(two_rounds, out)
    path = out / "rounds/1/checkpoints/policy/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert main(["--resume", "--out", str(out)]) == 2
    assert "rounds/1/checkpoints/policy" in capsys.readouterr().err
