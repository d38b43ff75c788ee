"""Pairs in a run: where they come from, at which price, and that a run that is stopped goes on."""

import shlex
import shutil

import pytest
import torch

from minippo.commands import preferred as module
from minippo.commands.train import main
from minippo.interchange.load import load_reward_model
from tests.tiny_runs import TIMES, TINY, read_json, read_rows, run

OF_FEEDBACK = ("--preference", "--reward")
SUMS = [word for i, word in enumerate(TINY) if not TINY[i - i % 2].startswith(OF_FEEDBACK)]
SUMS += shlex.split("""
    --task arithmetic --sft_steps 30 --pretrain_steps 60 --num_updates 2 --batch_size 256
    --n_embd 16 --quiet
""")


def run_of_sums(out, *arguments):
    """The exit status of a run that a rule scores."""
    return main([*SUMS, "--out", str(out), *arguments])


def without_times(folder):
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in read_rows(folder / "metrics.jsonl")
    ]


def weights_of(folder):
    return (folder / "checkpoints/policy/model.safetensors").read_bytes()


def test_preferences_have_the_price_of_ppo_and_no_reward_model_in_memory(tmp_path, capsys):
    folder = run(tmp_path / "run", "--algorithm", "dpo", "--kl_coef", "0.2", "--save_every", "1")
    unit = load_reward_model(folder).scale.item()
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("dpo: "))
    assert f"price of a nat {0.2 * unit:.4g} (kl_coef 0.2 times the reward model's unit" in line
    summary = read_json(folder / "summary.json")
    assert summary["kl_in"] == "loss" and summary["samples"] == 0
    assert summary["memory"]["models"]["reward_model"] == 0 == summary["memory"]["models"]["critic"]
    assert not (folder / "checkpoints/critic").exists()
    assert not (folder / "figures/clip_cases.png").exists()  # it has no ratio
    # stopped after its first update, it ends with the same bits
    rows, weights = without_times(folder), weights_of(folder)
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints/policy")
    for state in folder.rglob("update-0000002"):
        shutil.rmtree(state)
    assert main(["--resume", "--out", str(folder), "--quiet"]) == 0
    assert without_times(folder) == rows and weights_of(folder) == weights


def test_with_a_rule_they_are_right_and_wrong_answers_of_the_reference(tmp_path):
    said = []
    with pytest.MonkeyPatch.context() as patch:
        told = module.told
        patch.setattr(module, "told", lambda run, *rest: said.append(rest) or told(run, *rest))
        assert run_of_sums(tmp_path / "run", "--algorithm", "ipo") == 0
    (comparisons, price, why), *_ = said
    assert price == 0.1 and why == "a rule has no unit"
    assert comparisons.response_mask.shape[:2] == (128, 4)
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["samples"] == 512 and summary["reward_model"] is None


def test_where_all_are_of_one_worth_the_run_ends_with_a_line(tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        judge = equal_comparisons(module.judged_comparisons)
        patch.setattr(module, "judged_comparisons", judge)
        assert run_of_sums(tmp_path / "run", "--algorithm", "dpo", "--sft_steps", "1") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "pairs: the responses to a prompt are all of one worth; try more" in error


def equal_comparisons(function):
    def judged(reference, draw_prompts, score, **settings):
        found = function(reference, draw_prompts, score, **settings)
        return type(found)(**vars(found) | {"labels": torch.zeros_like(found.labels)})

    return judged
