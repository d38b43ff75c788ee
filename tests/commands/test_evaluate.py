"""Models of finished runs on the same prompts: who wins, which rules are kept, unfamiliar forms."""

import json
import shutil
from dataclasses import replace
from random import Random

import pytest

from minippo.commands.evaluate import (
    FAMILIAR,
    answers_of,
    evaluation_prompts,
    lines_of,
    main,
    report_on,
)
from minippo.commands.speaker import open_speaker
from minippo.errors import InputError
from minippo.stages.evaluate import Answers
from minippo.tasks.constraints import NEW_PAIRS, Constraints
from tests.tiny_runs import make_run

POST = "i am a baker . i live in rome . i love chess . dinner was good . tl;dr :"


def answers(*golds, texts=None):
    texts = texts or ["a baker"] * len(golds)
    axes = [{"all": gold} for gold in golds]
    return Answers(texts, [3] * len(golds), [True] * len(golds), [0.5] * len(golds), axes)


def evaluated(finished, tmp_path, *arguments):
    out = tmp_path / "numbers.json"
    assert main([str(finished), "--eval_prompts", "5", "--out", str(out), *arguments]) == 0
    return json.loads(out.read_text())


def test_every_model_of_a_run_on_familiar_and_unfamiliar_prompts(finished, tmp_path, capsys):
    found = evaluated(finished, tmp_path)
    assert [*found] == [FAMILIAR, "words turned round", "two traps", "more noise"]
    for kind in found.values():
        assert [*kind["models"]] == ["pretrain", "sft", "policy"] and kind["prompts"] == 5
        assert kind["models"]["sft"]["against"].keys() == {"policy"}
        wins = [kind["models"][a]["against"][b] for a, b in (("sft", "policy"), ("policy", "sft"))]
        assert wins[0]["value"] + wins[1]["value"] == pytest.approx(1.0)
        assert all(win["judge"] == "gold" and win["n"] == 5 for win in wins)
    out = capsys.readouterr().out
    assert "| model | gold | score | length | EOS | wins against sft | wins against policy |" in out
    assert "| tells_nothing_false |" in out


def test_the_same_command_gives_the_same_numbers_and_another_seed_others(finished, tmp_path):
    first = evaluated(finished, tmp_path)
    assert evaluated(finished, tmp_path) == first
    assert evaluated(finished, tmp_path, "--seed", "1") != first


def test_a_model_of_another_run_draws_with_the_same_numbers(finished, tmp_path):
    other = shutil.copytree(finished, tmp_path / "other")
    found = evaluated(finished, tmp_path, "--against", str(other), f"{other}:policy")
    models = found[FAMILIAR]["models"]
    for stage in ("sft", "policy"):
        twin = models[f"{other}:{stage}"]
        assert (twin["gold"], twin["rules"]) == (models[stage]["gold"], models[stage]["rules"])
        assert twin["against"][stage]["value"] == 0.5  # nothing but ties


def test_wins_and_rules_by_hand(finished):
    speaker = open_speaker(str(finished), ["sft", "policy"], None)
    texts = ["a baker in rome who loves chess", "in oslo", "so a baker"]
    found = {"sft": answers(1.0, 2.0, 3.0), "policy": answers(2.0, 2.0, 0.0, texts=texts)}
    report = report_on(speaker, [POST] * 3, found)
    assert report["policy"]["gold"] == pytest.approx(4 / 3) and report["policy"]["eos_rate"] == 1.0
    # one win, one tie, one loss
    assert report["policy"]["against"]["sft"]["value"] == 0.5
    rules = report["policy"]["rules"]
    assert rules["tells_the_job"] == pytest.approx(2 / 3)
    assert rules["tells_nothing_false"] == pytest.approx(2 / 3) and rules["only_clauses"] == 1.0
    lines = lines_of("by hand", 3, report)
    assert lines[1] == "3 prompts: by hand"
    assert "| policy | 1.333 | 0.500 | 3.000 | 1.000 | 0.500" in lines[6]


def test_the_share_of_answers_that_keep_each_constraint_of_their_prompts(finished):
    asked = Constraints()
    speaker = replace(open_speaker(str(finished), ["sft", "policy"], None), task=asked)
    prompts = evaluation_prompts(speaker, str(finished), 5, Random(0))
    assert [*prompts] == [FAMILIAR, NEW_PAIRS]
    post = POST.replace("tl;dr", "begin with city . no job . tl;dr")
    texts = ["in rome who loves chess", "a baker in rome who loves chess", "in rome", "who loves"]
    report = report_on(speaker, [post] * 4, {"sft": answers(*[1.0] * 4, texts=texts)})
    rules = report["sft"]["rules"]
    assert (rules["begins_as_asked"], rules["leaves_out_as_asked"]) == (0.5, 0.75)
    assert rules["keeps_all_that_is_asked"] == 0.25


def test_without_the_task_the_prompts_are_those_of_the_samples(finished, tmp_path):
    speaker = replace(open_speaker(str(finished), ["sft", "policy"], None), task=None)
    assert speaker.reward_model is not None
    prompts = evaluation_prompts(speaker, str(finished), 2, Random(0))
    rows = (finished / "samples.jsonl").read_text().splitlines()
    assert prompts == {FAMILIAR: [json.loads(row)["prompt"] for row in rows[:2]]}
    found = answers_of(speaker, speaker.models, prompts[FAMILIAR], seed=0)
    report = report_on(speaker, prompts[FAMILIAR], found)
    assert report["policy"]["gold"] is None
    assert report["policy"]["against"]["sft"]["judge"] == "reward model"
    nobody = report_on(replace(speaker, reward_model=None), prompts[FAMILIAR], found)
    assert nobody["policy"]["against"] == {} and nobody["policy"]["score"] is None
    (tmp_path / "samples.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"samples\.jsonl: holds no samples; the run is not fin"):
        evaluation_prompts(speaker, str(tmp_path), 2, Random(0))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "which run? python -m minippo.evaluate RUN"),
        (["nowhere"], "nowhere: holds no run"),
        (["RUN", "--eval_prompts", "0"], "--eval_prompts: wanted a number in [1, "),
        (["RUN", "--against", "nowhere"], "nowhere: holds no run"),
        (["RUN", "--against", "RUN:critic"], "--stage critic: wanted one of pretrain, sft, policy"),
        (["RUN", "--against", "OTHER"], "--against OTHER: its tokenizer knows other words"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, words, finished, tmp_path, capsys):
    names = {"RUN": str(finished), "OTHER": str(tmp_path / "other")}
    if "OTHER" in arguments:
        make_run(tmp_path / "other", "byte")
    for name, path in names.items():
        arguments = [word.replace(name, path) for word in arguments]
        words = words.replace(name, path) if name != "RUN" else words
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}") and error.count("\n") == 1
