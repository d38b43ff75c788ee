"""What scores a response: a whole run with a rule, what it leaves behind, and what it leaves
out."""

import shlex
import shutil
from types import SimpleNamespace

import pytest

from minippo.commands.config import resolve
from minippo.commands.judge import rule_of
from minippo.commands.measure import table
from minippo.commands.train import main
from minippo.tasks.base import Task
from minippo.tasks.capitals import Capitals
from tests.own_tasks import RULE
from tests.tiny_runs import TINY, read_json, read_rows

SUMS = [*RULE, *shlex.split("--task arithmetic --quiet --arithmetic_problems 12 --save_every 1")]


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """A tiny run with a rule."""
    out = tmp_path_factory.mktemp("sums") / "run"
    assert main([*SUMS, "--out", str(out)]) == 0
    return out


def models_of(folder):
    files = folder.glob("checkpoints/[a-z]*[a-z]/model.safetensors")
    return {path.parent.name: path.read_bytes() for path in files}


# -- whole runs


def test_a_rule_leaves_out_preferences_and_reward_model(sums):
    assert set(models_of(sums)) == {"pretrain", "sft", "policy", "critic"}
    summary = read_json(sums / "summary.json")
    assert summary["reward_model"] is None
    assert set(summary["seconds"]) == {"pretrain", "sft", "policy", "evaluation", "total"}
    assert summary["win_rate"]["judge"] == "gold"
    assert all(row["objective/scores"] is not None for row in read_rows(sums / "metrics.jsonl"))


def test_gold_on_training_prompts_stands_beside_that_on_others(sums):
    training = read_json(sums / "summary.json")["gold_training"]
    assert set(training) == {"sft", "policy", "different_prompts"}
    assert training["different_prompts"] == 6  # as many as evaluation prompts


def test_a_task_without_a_fixed_set_of_prompts_has_none(finished):
    assert read_json(finished / "summary.json")["gold_training"] is None


def test_the_score_is_the_gold_after_the_eos_rule(sums):
    for row in read_rows(sums / "samples.jsonl"):
        for when in ("before", "after"):
            score, gold = row[f"score_{when}"], row[f"gold_{when}"]
            assert score in (gold, -5.0)


@pytest.mark.parametrize("lost", ["policy", "sft", "update-0000002"])
def test_a_run_with_a_rule_goes_on_with_the_same_bits(sums, lost, tmp_path):
    again = shutil.copytree(sums, tmp_path / "again")
    (again / "summary.json").unlink()
    shutil.rmtree(again / "checkpoints" / lost)
    for later in ("policy", "critic"):
        shutil.rmtree(again / "checkpoints" / later, ignore_errors=True)
    assert main(["--resume", "--quiet", "--out", str(again)]) == 0
    assert models_of(again) == models_of(sums)


def test_a_rule_may_judge_the_other_tasks_too(tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*RULE, "--reward", "rule", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "preferences " not in text and "reward model" not in text and "win rate" in text
    assert read_json(out / "summary.json")["reward_model"] is None


@pytest.mark.slow
def test_arithmetic_may_have_a_reward_model_too(tmp_path):
    out = tmp_path / "run"
    more = shlex.split("--task arithmetic --reward model --sft_steps 60 --quiet --seed 1")
    more += shlex.split("--preference_prompts 60 --preference_heldout 60 --pretrain_steps 150")
    more += shlex.split("--pretrain_batch_size 64 --n_embd 32 --arithmetic_problems 100")
    assert main([*TINY, *more, "--out", str(out)]) == 0
    assert read_json(out / "summary.json")["reward_model"]["heldout_pairs"] > 0


def test_measure_leaves_out_what_a_rule_has_not(sums):
    header = table([read_json(sums / "summary.json")])[0]
    assert "gold share after" in header and "training prompts after" in header
    assert "RM accuracy" not in header and "skill" not in header


def test_a_folder_has_no_rule(data, capsys, tmp_path):
    assert main(["--task", "files", "--data", str(data), "--reward", "rule"]) == 2
    assert capsys.readouterr().err.startswith("error: --reward: --task files has no rule that ")


# -- its parts


def test_a_task_without_a_rule_cannot_score():
    task = Task()
    task.name, task.tokenizer = "silent", Capitals().tokenizer
    run = SimpleNamespace(task=task, config=resolve({"reward": "rule"}))
    with pytest.raises(ValueError, match="the task silent has no rule"):
        rule_of(run).rule("a", "b")


def test_the_default_of_arithmetic_is_in_the_configuration_that_is_kept(sums):
    assert read_json(sums / "config.json")["run"]["reward"] == "rule"
    assert resolve({"task": "arithmetic"}).run.reward == "rule"
