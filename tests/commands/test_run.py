"""What every stage of a run is given: seeds, a place on the screen, what was saved, a clock."""

import json

import pytest
import torch

from minippo.commands.config import resolve
from minippo.commands.run import Run, context_needed, stage_seed
from minippo.gpt import GPT, GPTConfig
from minippo.interchange.load import load_gpt
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen
from minippo.tasks.capitals import Capitals

TASK = Capitals()
CONFIG = resolve({"task": "capitals", "n_layer": 1, "n_head": 1, "n_embd": 4})


def test_stages_draw_from_generators_of_their_own():
    seeds = {stage_seed(seed, name) for seed in range(50) for name in ("pretrain", "sft", "policy")}
    assert len(seeds) == 150


def make(path, resume=False, config=CONFIG):
    return Run(
        config, TASK, torch.device("cpu"), RunFolder(path), Screen(quiet=False), resume=resume
    )


def gpt(context_length=None):
    length = context_length or context_needed(CONFIG, TASK)
    return GPT(GPTConfig(TASK.tokenizer.vocab_size, length, 1, 1, 4))


def test_the_same_name_draws_the_same_and_another_name_another(tmp_path):
    run = make(tmp_path)
    assert run.rng("a").random() == run.rng("a").random() != run.rng("b").random()
    draws = [torch.rand(3, generator=run.generator(name)) for name in ("a", "a", "b")]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_the_context_holds_the_longest_document_and_the_longest_response():
    assert context_needed(CONFIG, TASK) >= TASK.document_length
    long = resolve({"task": "capitals", "response_length": 300})
    assert context_needed(long, TASK) == TASK.prompt_length + 300


def test_a_stage_saves_its_models_then_shows_its_line(tmp_path, capsys):
    run, model = make(tmp_path), gpt()
    with run.stage("sft", seconds_before=100.0) as report:
        report.say("one")
        report.say("two")
        report.keep("sft", model, report={"skill": 0.5})
    line = capsys.readouterr().out
    assert line.startswith("sft ") and "one, two" in line
    assert 100 <= run.seconds["sft"] < 101
    info = json.loads((tmp_path / "checkpoints/sft/info.json").read_text())
    assert info["seconds"]["sft"] == run.seconds["sft"] and info["report"] == {"skill": 0.5}
    assert run.seconds_of_writing > 0


def test_what_was_saved_is_taken_from_disk_when_a_run_is_resumed(tmp_path, capsys):
    first, model = make(tmp_path), gpt()
    assert first.saved("sft", lambda path: load_gpt(path, "sft")) is None  # not a resumed run
    with first.stage("sft") as report:
        report.keep("sft", model)
    again = make(tmp_path, resume=True)
    found = again.saved("sft", lambda path: load_gpt(path, "sft"))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), found.parameters()))
    assert again.seconds == first.seconds and "sft: as it was saved" in capsys.readouterr().out
    assert again.saved("pretrain", lambda path: load_gpt(path, "pretrain")) is None


def test_a_saved_model_of_another_size_is_made_again(tmp_path, capsys):
    run = make(tmp_path, resume=True)
    with run.stage("sft") as report:
        report.keep("sft", gpt(context_length=2))
    assert run.saved("sft", lambda path: load_gpt(path, "sft")) is None
    assert "the stage sft is done again" in capsys.readouterr().out


def test_a_fault_is_told_with_the_last_checkpoint_and_what_was_noticed(tmp_path):
    run = make(tmp_path)
    assert run.circumstances() == "; diagnostics that fired: none; last good checkpoint: none"
    with run.stage("sft") as report:
        report.keep("sft", gpt())
    assert run.circumstances().endswith(f"last good checkpoint: {tmp_path}/checkpoints/sft")


@pytest.mark.parametrize("algorithm", ["pg", "trpo"])
def test_the_algorithm_is_the_record_that_the_configuration_names(algorithm, tmp_path):
    config = resolve({"task": "capitals", "algorithm": algorithm})
    assert make(tmp_path, config=config).algorithm.name == algorithm


def test_a_run_that_is_held_up_says_so_once(tmp_path, capsys):
    run = make(tmp_path)
    run.look_at_the_clock(1.0, 0.1)
    assert capsys.readouterr() == ("", "")
    run.look_at_the_clock(40.0, 10.0)
    run.look_at_the_clock(40.0, 10.0)
    out, err = capsys.readouterr()
    assert (out + err).count("the machine is busy: 40 s for 5 s of work on 2 threads") == 1
