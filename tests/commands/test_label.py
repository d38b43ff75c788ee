"""Labelling a run: from a pipe or a terminal, stopped and taken up again, alone in its folder."""

import io
import itertools
import json
import shutil

import pytest
import torch

from minippo.commands.label import KNOWN, Judge, main, verdict
from minippo.commands.train import main as train_main
from minippo.interchange.load import load_reward_model
from minippo.runs.folder import RunFolder
from minippo.runs.stats import clustered_interval
from minippo.tasks import Tldr
from tests.own_tasks import OWN, changed
from tests.tiny_runs import TINY_FILES, read_rows
from tests.tiny_runs import run as train


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def say(monkeypatch, capsys):
    """Label with these answers; returns (status, what was printed)."""

    def labelled(folder, answers, *flags, is_terminal=False):
        data = io.TextIOWrapper(io.BytesIO(answers.encode("utf-8", "surrogateescape")))
        monkeypatch.setattr("sys.stdin", data)
        monkeypatch.setattr("sys.stdin.isatty", lambda: is_terminal, raising=False)
        status = main([str(folder), *flags])
        out, err = capsys.readouterr()
        return status, out + err

    return labelled


def labels_of(folder):
    return [(row["pair"], row["label"]) for row in read_rows(folder / "labels.jsonl")]


def prompts_shown(out):
    return [line for line in out.splitlines() if ". prompt: " in line]


def test_answers_are_saved_one_a_line(run, say):
    status, out = say(run, "a\nB\n tie \ns\nq\nb\n")
    assert status == 0
    rows = read_rows(run / "labels.jsonl")
    assert [row["label"] for row in rows] == ["a", "b", "t", "s"]
    assert all(row["a"] != row["b"] and row["seed"] == 0 for row in rows)
    assert "4 labels (1 a, 1 b, 1 tie, 1 skipped)" in out
    assert f"python -m minippo.train_toy --preferences {run}/labels.jsonl" in out
    assert len(prompts_shown(out)) == 5 and out.startswith(f"answers: {KNOWN}\n")


def test_the_same_command_goes_on_where_it_was_left(run, say, tmp_path):
    whole = shutil.copytree(run, tmp_path / "whole")
    say(whole, "a\nb\na\nt\nb\n")
    say(run, "a\nb\n")  # the end of the input is q
    status, out = say(run, "a\nt\nb\n")
    assert status == 0 and "holds 2 labels of these pairs; going on" in out
    assert (run / "labels.jsonl").read_bytes() == (whole / "labels.jsonl").read_bytes()
    say(run, "a\n", "--seed", "1")
    assert read_rows(run / "labels.jsonl")[-1]["seed"] == 1


def test_the_number_of_pairs_counts_those_of_before(run, say):
    say(run, "a\nb\n", "--pairs", "3")
    status, out = say(run, "a\nb\na\n", "--pairs", "3")
    assert status == 0 and len(labels_of(run)) == 3 and len(prompts_shown(out)) == 1
    assert say(run, "a\n", "--pairs", "3")[0] == 0 and len(labels_of(run)) == 3


def test_undo_takes_back_the_last_answer_and_shows_its_pair_again(run, say):
    _, out = say(run, "a\nb\nu\nundo\nu\nt\nt\n")
    first, second = (number for number, _ in labels_of(run)[:2])
    said = [(first, "a"), (second, "b"), (second, "u"), (first, "u"), (first, "t"), (second, "t")]
    assert labels_of(run) == said
    assert out.count("there is nothing to undo") == 1 and "2 labels (0 a, 0 b, 2 ties" in out


def test_what_was_taken_back_is_asked_first_by_the_next_call(run, say):
    say(run, "a\nb\na\nu\nu\nq\n")
    numbers = [number for number, _ in labels_of(run)[:3]]
    say(run, "b\nb\nb\n")
    assert labels_of(run)[-3:-1] == [(numbers[1], "b"), (numbers[2], "b")]
    assert labels_of(run)[-1][0] > numbers[2]


def test_what_is_no_answer_is_told_and_nothing_is_lost(run, say):
    status, out = say(run, "a\nyes\n\n\udcff\n" + "x" * 99 + "\nb\n")
    assert status == 0 and [label for _, label in labels_of(run)] == ["a", "b"]
    assert f"line 2: 'yes' is no answer; known: {KNOWN}\n" in out
    assert "line 4: not UTF-8 text is no answer" in out and "x" * 21 not in out


def test_a_terminal_is_asked(run, say):
    _, out = say(run, "a\n", is_terminal=True)
    assert out.count("a, b, t, s, u, q? ") == 2


def test_a_second_labeller_is_refused_with_one_line(run, say):
    with RunFolder(run).lock():
        status, out = say(run, "a\n")
    assert status == 2 and not (run / "labels.jsonl").exists()
    assert out == f"error: {run}: another process is at work in this folder\n"


def test_half_a_line_is_repaired_and_its_pair_asked_again(run, say, tmp_path):
    say(run, "a\nb\na\n")
    whole = (run / "labels.jsonl").read_bytes()
    (run / "labels.jsonl").write_bytes(whole[:-20])
    status, out = say(run, "a\n")
    assert status == 0 and "line 3: was half a line" in out
    assert (run / "labels.jsonl").read_bytes() == whole


def test_now_and_then_the_reward_model_is_judged(run, say, monkeypatch):
    monkeypatch.setattr("minippo.commands.label.EVERY", 3)
    _, out = say(run, "a\nb\nt\ns\n" * 4)
    words = [line for line in out.splitlines() if line.startswith("the reward model")]
    numbers = [line.split(" of ")[1].split(" label")[0] for line in words]
    assert numbers == ["3", "6", "8"]


@pytest.mark.parametrize(
    "right, words",
    [
        (16, "the reward model beats a coin: it agrees with 0.80 of 20 labels, 95 % interval 0.58"),
        (4, "the reward model is worse than a coin: it agrees with 0.20 of 20 labels"),
        (12, "the reward model can't be told from a coin yet: it agrees with 0.60 of 20 labels"),
    ],
)
def test_a_verdict_is_that_of_the_interval(right, words):
    rights = [1.0] * right + [0.0] * (20 - right)
    assert verdict(rights, range(20)).startswith(words)
    assert verdict(rights, ["the same"] * 20).startswith("the reward model can't be told")


def test_no_rate_leads_to_a_coin_that_is_beaten_where_less_than_half_is_right():
    for right in (8, 10):
        rights = [1.0] * right + [0.0] * (20 - right)
        assert "at this rate" not in verdict(rights, range(20))


def test_a_verdict_says_after_how_many_labels_it_would_be_another():
    """At 12 of 20 right: 0.25 * 1.96^2 / 0.1^2 = 96.04, so 97."""
    rights = [1.0] * 12 + [0.0] * 8
    assert verdict(rights, range(20)).endswith("; at this rate it takes about 97 labels")
    for n, holds in ((95, True), (100, False)):
        low, high = clustered_interval([1.0] * (n * 6 // 10) + [0.0] * (n * 4 // 10), range(n))
        assert (low <= 0.5 <= high) == holds
    assert verdict([1.0, 0.0], "ab").endswith("0.91")  # no number of labels would do


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "which run? python -m minippo.label RUN"),
        (["RUN", "more"], "'more' is a word too many; one run is labelled at a time"),
        (["nowhere"], "nowhere: holds no run"),
        (["RUN", "--pairs", "none"], "--pairs: wanted a whole number, got 'none'"),
        (["RUN", "--pairs", "0"], "--pairs: wanted "),
        (["RUN", "--seed", "-1"], "--seed: wanted a number in [0, "),
        (
            ["RUN", "--task", "sums.py:Sums"],
            "--task sums.py:Sums: the run was made with --task tld",
        ),
        (["RUN", "--data", "DIR"], "--data: the run is about tldr, not files"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, words, finished, capsys):
    assert main([str(finished) if word == "RUN" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}") and error.count("\n") == 1


def test_a_run_without_checkpoints_is_one_line(run, say):
    shutil.rmtree(run / "checkpoints")
    assert say(run, "a\n") == (2, f"error: {run}: holds no run\n")


@pytest.mark.slow
def test_a_task_of_ones_own_is_named_again_and_must_be_what_it_was(tmp_path, say, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sums = changed("words = False", "words = True")  # a model of few words ends now and then
    (tmp_path / "sums.py").write_text(sums)
    assert train_main([*OWN, "--out", "run", "--temperature", "2"]) == 0
    status, out = say("run", "a\n")
    assert status == 2 and "which is imported only when it is named; name it with --task" in out
    status, out = say("run", "a\nb\n", "--task", "sums.py:Sums")
    assert status == 0 and len(labels_of(tmp_path / "run")) == 2
    assert "this run has no reward model to hold against your labels" in out
    (tmp_path / "sums.py").write_text(sums + "\n# changed\n")
    status, out = say("run", "a\n", "--task", "sums.py:Sums")
    assert status == 2 and out.count("\n") == 1 and "is not as it was when the run in run" in out


@pytest.mark.slow
def test_texts_of_ones_own_may_have_been_moved(tmp_path, say, data):
    out = train(
        tmp_path / "run", "--task", "files", "--data", str(data), "--preference_heldout", "4",
        "--response_length", "3", "--quiet",
    )  # fmt: skip
    moved = shutil.move(data, tmp_path / "moved")
    assert say(out, "q\n")[0] == 2
    status, said = say(out, "q\n", "--data", str(moved))
    # a model of bytes that has learned nothing ends hardly ever; either is one line
    assert status in (0, 2) and "Traceback" not in said


@pytest.mark.slow
def test_the_labels_train_a_reward_model(run, say, tmp_path):
    say(run, "a\nb\n" * 6)
    out, labels = tmp_path / "next", str(run / "labels.jsonl")
    assert train_main([*TINY_FILES, "--quiet", "--out", str(out), "--preferences", labels]) == 0
    report = json.loads((out / "summary.json").read_text())["reward_model"]
    assert report["heldout_pairs"] == 6 and report["annotator_ceiling"] is None


def test_the_reward_model_is_right_where_the_better_answer_scores_higher(finished):
    reward_model, task = load_reward_model(finished), Tldr()
    judge = Judge(reward_model, task)
    answers = ["a baker", "in rome who loves chess", "rome", "chess chess a a"]
    for first, second in itertools.permutations(answers, 2):
        scores = [
            reward_model(torch.tensor([task.prompt_ids("i am a baker .") + task.response_ids(x)]))
            for x in (first, second)
        ]
        pair = ("i am a baker .", first, second)
        assert judge.right(reward_model, pair) == float(scores[0] > scores[1])
    assert judge.right(reward_model, ("rome", "chess", "chess")) == 0.5
