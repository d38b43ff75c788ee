"""From responses to a reward model: who samples, what is asked for, and what is kept."""

import random

import pytest

from minippo.commands.feedback import centring_demonstrations
from minippo.commands.train import main
from minippo.tasks.capitals import Capitals
from tests.tiny_runs import read_json, run

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


def test_the_pretrained_models_responses_are_others(tmp_path):
    names = ("sft", "pretrain")
    one, other = (
        (run(tmp_path / name, "--quiet", "--preferences_from", name) / CHECKPOINT).read_bytes()
        for name in names
    )
    assert one != other
