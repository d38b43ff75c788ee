"""Tasks and scores in files of the user's own, from the command line on: runs, what is kept, and
what is imported when."""

import json
import random
import shutil
import sys

import pytest

from minippo.commands.config import resolve
from minippo.commands.flags import parse_arguments
from minippo.commands.measure import has_settings, resuming
from minippo.commands.own import defaults_of, load_named, own_rule, own_score
from minippo.commands.recipe import recipes
from minippo.commands.train import folder_name, main
from minippo.errors import InputError
from minippo.tasks import Capitals, own_file
from tests.own_tasks import OWN, RULE, SUMS
from tests.tiny_runs import read_json, read_rows

OTHER = "\n\ndef unlike(prompt, response):\n    return {'a': 1 / 2, 'b': response == '3'}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with sums.py; another process has loaded nothing."""
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch)
    (tmp_path / "sums.py").write_text(SUMS)
    return tmp_path


def forget(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(own_file, "MODULES", {})
    monkeypatch.setattr(own_file, "LOADED", {})


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """(folder of the file, folder of a tiny run of it)."""
    root = tmp_path_factory.mktemp("own")
    (root / "sums.py").write_text(SUMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        forget(patch)
        assert main([*OWN, "--save_every", "1", "--out", "run"]) == 0
    return root, root / "run"


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


# -- runs


def test_a_run_of_ones_own_task_is_like_any_other(sums):
    root, out = sums
    summary = read_json(out / "summary.json")
    assert summary["task"] == "sums.py:Sums" and summary["gold_max"] == 1.0
    assert summary["reward_model"] is None and summary["win_rate"]["judge"] == "gold"
    assert summary["gold_training"]["different_prompts"] == 5
    assert read_json(out / "config.json")["run"]["task"] == f"{root}/sums.py:Sums"
    assert read_json(out / "config.json")["ppo"]["response_length"] == 4
    assert len(read_rows(out / "metrics.jsonl")) == 2


def test_without_a_best_score_gold_is_shown_and_no_share(folder, capsys):
    (folder / "sums.py").write_text(SUMS.replace("    best = 1.0\n", ""))
    loud = [word for word in OWN if word != "--quiet"]
    assert main([*loud, "--out", "run"]) == 0
    summary, text = read_json(folder / "run/summary.json"), capsys.readouterr().out
    assert summary["gold_max"] is None and summary["sft"]["gold"] is not None
    assert "\ngold      " in text and "(of " not in text and "gold: rule" in text


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_is_taken_up_again_when_its_file_is_named_again(sums, moved, folder, capsys):
    root, out = sums
    again = shutil.copytree(out, folder / "again")
    for name in ("summary.json", "checkpoints/policy", "checkpoints/update-0000002"):
        (again / name).unlink() if name.endswith("json") else shutil.rmtree(again / name)
    assert main(["--resume", "--quiet", "--out", "again"]) == 2
    assert "imported only when it is named; name it with --task FILE.py:Sums" in last_line(capsys)
    file = "sums.py" if moved else str(root / "sums.py")
    assert main(["--resume", "--quiet", "--out", "again", "--task", f"{file}:Sums"]) == 0
    name = "checkpoints/policy/model.safetensors"
    assert (again / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize(
    "text, task, line",
    [
        (SUMS + "# changed\n", "sums.py:Sums", "--resume: the files of the run in again have cha"),
        (SUMS, "sums.py:length", "--task: the run in again was made with "),
        (SUMS, "capitals", "--task: the run in again was made with "),
    ],
)
def test_another_file_is_refused(sums, text, task, line, folder, capsys):
    shutil.copytree(sums[1], folder / "again")
    (folder / "sums.py").write_text(text)
    assert main(["--resume", "--quiet", "--out", "again", "--task", task]) == 2
    assert last_line(capsys).startswith(f"error: {line}")


def test_a_rule_that_breaks_in_the_middle_is_one_line_and_status_1(folder, capsys):
    (folder / "sums.py").write_text(SUMS.replace("else 0.0", "else None"))
    assert main([*OWN, "--out", "run"]) == 1
    line = last_line(capsys)
    assert line.startswith("error: policy, update 1: sums.py, line 12: for the prompt '")
    assert "the rule gave None; wanted a finite number" in line


def test_without_a_rule_as_the_score_an_annotator_is_simulated(folder, capsys):
    (folder / "sums.py").write_text(SUMS.replace('"3") for', "prompt[0]) for"))
    more = ["--preference_prompts", "40", "--preference_heldout", "40", "--reward_epochs", "1"]
    more += ["--pretrain_steps", "60", "--sft_steps", "40", "--n_embd", "16"]
    own = [*RULE, "--task", "sums.py:Sums", "--quiet", *more, "--out", "run"]
    assert main(own) == 0
    assert read_json(folder / "run/summary.json")["reward_model"]["heldout_pairs"] > 0


def test_a_function_scores_in_the_place_of_the_reward_model(folder):
    own = [*RULE, "--task", "capitals", "--quiet", "--reward", "sums.py:length"]
    assert main([*own, "--out", "run", "--no_eos_score", "none"]) == 0
    for row in read_rows(folder / "run/samples.jsonl"):
        assert row["score_after"] == len(row["after"]) and row["gold_after"] in (0.0, 1.0)
    versions = read_json(folder / "run/config.json")["versions"]
    assert len(versions["reward"]) == 64 and versions["data"] is None


def test_a_function_scores_where_there_is_no_rule(data, folder):
    own = [word for i, word in enumerate(RULE) if RULE[i - i % 2] != "--preference_prompts"]
    own += ["--task", "files", "--data", str(data), "--reward", "sums.py:length", "--quiet"]
    own += ["--prompt_length", "20", "--completion_length", "30", "--response_length", "20"]
    assert main([*own, "--out", "run"]) == 0
    summary = read_json(folder / "run/summary.json")
    assert summary["reward_model"] is summary["policy"]["gold"] is None


# -- the flags


def test_names_become_whole_paths_and_are_imported(folder):
    found = load_named({"task": "sums.py:Sums", "reward": "sums.py:length", "seed": 3})
    assert found == {"task": f"{folder}/sums.py:Sums", "reward": f"{folder}/sums.py:length"} | {
        "seed": 3
    }
    assert len(own_file.MODULES) == 1 and len(own_file.LOADED) == 2
    assert load_named({"task": "tldr", "reward": "rule"}) == {"task": "tldr", "reward": "rule"}


def test_the_task_brings_its_own_defaults_and_flags_win():
    arguments = ["--task", "sums.py:Sums", "--reward", "rule"]
    assert parse_arguments(arguments).config.ppo.response_length == 4
    assert parse_arguments([*arguments, "--response_length", "5"]).config.ppo.response_length == 5
    assert defaults_of("tldr") == defaults_of(None) == {}


@pytest.mark.parametrize(
    "settings, line",
    [
        ('{"response_lenght": 4}', "'response_lenght' is no setting that a task may have"),
        ('{"seed": 4}', "'seed' is no setting that a task may have"),
        ("{3: 4}", "3 is no setting that a task may have"),
        ('{"response_length": 0}', "response_length: wanted a number in [1, 4096], got 0"),
        ('{"gamma": "1"}', "gamma: wanted a number, got '1'"),
    ],
)
def test_defaults_that_do_not_fit_are_refused(settings, line, folder, capsys):
    (folder / "sums.py").write_text(SUMS.replace('{"response_length": 4}', settings))
    assert main([*OWN, "--out", "run"]) == 2
    assert last_line(capsys) == f"error: sums.py: Sums.settings: {line}"


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--task", "sums.py"], "--task: wanted one of tldr, capitals, arithmetic, files or FIL"),
        (["--task", "none.py:Sums"], "--task none.py:Sums: cannot read none.py: No such file"),
        (["--task", "sums.py:Sam"], "--task sums.py:Sam: there is no Sam in sums.py"),
        (["--task", "sums.py:Sums", "--data", "x"], "--data: only the task files reads a folder"),
        (["--task", "sums.py:Sums", "--tldr_values", "4"], "--tldr_values: --task FILE.py:Class "),
        (["--reward", "f.py"], "--reward: wanted one of model, rule or FILE.py:function, got"),
        (["--reward", "sums.py:f"], "--reward sums.py:f: there is no f in sums.py"),
        (["--reward", "sums.py:Sums"], "sums.py: Sums is no function of a prompt and a response"),
    ],
)
def test_what_cannot_be_named_is_refused(arguments, line, capsys, folder):
    assert main([*arguments, "--out", "run"]) == 2
    assert last_line(capsys).startswith(f"error: {line}") and not (folder / "run").exists()


def test_a_function_is_tried_before_anything_is_trained(folder):
    (folder / "sums.py").write_text(SUMS + OTHER)
    own, score = own_score(load_named({"reward": "sums.py:unlike"})["reward"], Capitals())
    assert own.names == {"a", "b"} and own.score("p", "3") == 1.5
    (folder / "sums.py").write_text(SUMS + OTHER.replace("1 / 2", "1 / 0"))
    with pytest.raises(InputError, match=r"^sums.py, line \d+: for the prompt .* ZeroDivisionErro"):
        own_score(load_named({"reward": "sums.py:unlike"})["reward"], Capitals())
    with pytest.raises(InputError, match="^--reward: .*imported only when it is named; name it wi"):
        own_rule("elsewhere/sums.py:unlike")


def test_a_folder_is_named_after_the_class():
    assert folder_name("/a/b/sums.py:Sums") == "Sums" and folder_name("tldr") == "tldr"


@pytest.mark.parametrize("text, same", [(SUMS, True), (SUMS + "# changed\n", False)])
def test_the_seal_of_the_policy_knows_the_file_and_not_the_folder(text, same, folder):
    (folder / "other").mkdir()
    (folder / "other/sums.py").write_text(text)
    found = []
    for name in ("sums.py:length", "other/sums.py:length"):
        reward = load_named({"reward": name})["reward"]
        found.append(recipes(resolve({"task": "capitals", "reward": reward}), Capitals()))
    assert found[0]["sft"] == found[1]["sft"]
    assert (found[0]["policy"] == found[1]["policy"]) == same


# -- measure


def test_measure_knows_the_file_again_and_names_it_again(sums, folder, monkeypatch):
    root, out = sums
    given = [*[word for word in OWN if word != "--quiet"], "--save_every", "1"]
    assert has_settings(out, given)
    assert resuming(out, given) == ["--resume", "--task", f"{folder}/sums.py:Sums"]
    assert not has_settings(out, [*given, "--sft_steps", "3"])
    (folder / "sums.py").write_text(SUMS + "# changed\n")
    assert not has_settings(out, given)


def test_what_is_kept_is_enough_for_the_same_configuration(sums):
    stored = read_json(sums[1] / "config.json")
    config = resolve({"task": stored["run"]["task"], "reward": "rule"})
    assert json.loads(json.dumps(config.to_dict()))["run"]["task"] == stored["run"]["task"]


def test_texts_do_not_depend_on_anybody_elses_randomness(folder):
    task = load_named({"task": "sums.py:Sums"})["task"]
    random.seed(0)
    before = random.getstate()
    defaults_of(task)
    assert random.getstate() == before
