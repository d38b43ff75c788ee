"""Talking to a run: with a prompt, line by line, from a pipe, with whatever bytes."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minippo
from minippo.commands.speaker import Answer, Token
from minippo.commands.talk import LONGEST, lines_of, main, token_lines, with_marks
from minippo.commands.train import main as train
from minippo.errors import TrainingError
from tests.own_tasks import RULE, SUMS

ROOT = Path(minippo.__file__).parent.parent
PROMPT = "i am a baker . i live in rome . i love chess . tl;dr :"


def typed(monkeypatch, data):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_prompt_is_answered_once_side_by_side(finished, capsys):
    assert main([str(finished), PROMPT]) == 0
    header, rule, first, *_ = capsys.readouterr().out.splitlines()
    assert header.split(" | ")[0].strip() == "sft" and header.endswith("| policy")
    assert set(rule) == {"-", "+"} and "|" in first
    assert main(["--run", str(finished), PROMPT, "--stage", "policy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "policy" and "[score " in " ".join(lines) and "gold " in " ".join(lines)


def test_line_by_line_until_there_are_no_more(finished, capsys, monkeypatch):
    typed(monkeypatch, f"{PROMPT}\n\n   \n{PROMPT}".encode())
    assert main([str(finished)]) == 0
    out = capsys.readouterr().out
    assert out.count("policy") == 2
    typed(monkeypatch, b"")
    assert main([str(finished)]) == 0 and capsys.readouterr().out == ""


def test_without_a_terminal_each_prompt_stands_above_its_answers(finished, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    other = PROMPT.replace("rome", "paris")
    typed(monkeypatch, f"{PROMPT}\n\n{other}\n".encode())
    assert main([str(finished)]) == 0
    lines = capsys.readouterr().out.splitlines()
    asked = [i for i, line in enumerate(lines) if line.startswith(">")]
    assert [lines[i] for i in asked] == [f"> {PROMPT}", f"> {other}"]
    assert [lines[i + 1].split()[0] for i in asked] == ["sft", "sft"]


def test_an_answer_that_says_nothing_is_said():
    assert with_marks(Answer("", 1.0, None, [])) == "(nothing)  [score 1.00]"
    assert with_marks(Answer(" ", None, None, [])) == "(blanks)"


def test_an_answer_depends_on_its_line_and_the_seed_alone(finished, capsys, monkeypatch):
    def answers(data, *flags):
        typed(monkeypatch, data)
        assert main([str(finished), "--stage", "policy", *flags]) == 0
        return capsys.readouterr().out

    first, both = answers(f"{PROMPT}\n".encode()), answers(f"{PROMPT}\n{PROMPT}\n".encode())
    assert both.startswith(first) and both != 2 * first
    assert both.endswith(answers(f"{PROMPT}\n".encode(), "--seed", "1"))
    assert answers(f"nonsense\n{PROMPT}\n".encode()).endswith(both.removeprefix(first))


def test_lines_that_cannot_be_asked_are_told_and_the_next_is_answered(
    finished, capsys, monkeypatch
):
    data = b"who knows\n\xff\xfe\n" + b"a " * 100 + b"\n\xef\xbb\xbf" + PROMPT.encode() + b"\r\n"
    typed(monkeypatch, data)
    assert main([str(finished), "--stage", "sft"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "> who knows"
    one, two, three = (line for line in lines if line.startswith("line "))
    assert one.startswith("line 1: not known: knows; the 56 words known: . : a ")
    assert two == "line 2: not UTF-8 text"
    assert three.startswith("line 3: too long: 101 tokens, and the model knows prompts of at most")
    assert lines[lines.index(three) + 1].startswith("> i am a baker") and "sft" in lines


@pytest.mark.parametrize("wrap", [io.BytesIO, lambda data: io.StringIO(data.decode())])
def test_a_line_without_end_is_not_kept(wrap):
    data = b"x" * (3 * LONGEST + 5) + b"\nnext\n" + b"y" * LONGEST
    lines = list(lines_of(wrap(data)))
    assert [line.text for line in lines] == [None, "next", None]
    assert lines[0].trouble == f"too long: more than {LONGEST} bytes"


def test_every_token_with_its_numbers(finished, capsys):
    assert main([str(finished), PROMPT, "--stage", "policy", "--verbose", "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("policy: token    log-prob   value      KL advantage")
    assert len(lines[start + 1].split()) == 5
    assert token_lines("sft", [Token("rome", -0.5, None, 0.25, 1.0)])[1:] == [
        "rome               -0.500       -   0.250     1.000"
    ]


def test_at_a_terminal_it_says_what_it_waits_for(finished, capsys, monkeypatch):
    typed(monkeypatch, f"{PROMPT}\n".encode())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert main([str(finished)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("sft and policy; one prompt a line, Ctrl-D ends\nthe 56 words known: ")
    assert out.count("> ") == 2 and out.endswith("\n")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "which run? python -m minippo.talk RUN"),
        (["RUN", "what", "is"], "'is' is a word too many; put the prompt between quotation marks"),
        (["RUN", "hello"], "not known: hello; the 56 words known"),
        (["RUN", "--temperature", "0"], "--temperature: wanted more than 0.0, got 0.0"),
        (["RUN", "--temperature", "hot"], "--temperature: wanted a number, got 'hot'"),
        (["RUN", "--seed", "-1"], "--seed: wanted a number in [0, "),
        (["RUN", "--stage", "critic"], "--stage critic: wanted one of pretrain, sft, policy"),
        (["nowhere"], "nowhere: holds no run"),
        (["--run", "nowhere", "hello"], "nowhere: holds no run"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, words, finished, capsys):
    assert main([str(finished) if word == "RUN" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}") and error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_reader_who_leaves_ends_it(finished, encoding, tmp_path):
    """Far more lines in than could be answered in time, and a closed pipe out."""
    (tmp_path / "lines").write_text(f"{PROMPT}\n" * 100_000)
    program = [sys.executable, "-m", "minippo.talk", str(finished), "--stage", "policy"]
    with (
        open(tmp_path / "lines", "rb") as lines,
        subprocess.Popen(
            program,
            cwd=ROOT,
            env=os.environ | {"PYTHONIOENCODING": encoding},
            stdin=lines,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout.readline() == f"> {PROMPT}\n".encode()
        assert process.stdout.readline() == b"policy\n"
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""


# -- runs that a rule scored


@pytest.fixture(scope="module")
def ruled(tmp_path_factory):
    """A run of a task of one's own that another function of the file has scored; in its place."""
    place = tmp_path_factory.mktemp("ruled")
    (place / "sums.py").write_text(SUMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        own = [*RULE, "--quiet", "--task", "sums.py:Sums", "--reward", "sums.py:length"]
        assert train([*own, "--out", "run"]) == 0
    return place


def test_a_rule_in_a_file_is_asked_where_it_is_named(ruled, capsys, monkeypatch):
    monkeypatch.chdir(ruled)
    ask = ["run", "7+1=", "--stage", "policy"]
    assert main(ask) == 0
    out = capsys.readouterr().out
    assert "[" not in out and "no scores of sums.py:Sums, unless you name it with --task\n" in out
    assert main([*ask, "--task", "sums.py:Sums"]) == 0
    out = capsys.readouterr().out
    assert "[gold 0.00]" in out and "no scores of sums.py:length, unless" in out
    assert main([*ask, "--task", "sums.py:Sums", "--reward", "sums.py:length"]) == 0
    out = capsys.readouterr().out
    assert "[score " in out and "no scores of" not in out


def test_a_rule_that_fails_ends_no_conversation(ruled, capsys, monkeypatch):
    monkeypatch.chdir(ruled)

    def fails(self, prompt, response):
        raise TrainingError("sums.py, line 9: no sum")

    monkeypatch.setattr("minippo.tasks.rule.OwnTask.gold_axes", fails)
    typed(monkeypatch, b"7+1=\n7+1=\n")
    assert main(["run", "--task", "sums.py:Sums"]) == 0
    assert capsys.readouterr().out.count("\nsums.py, line 9: no sum\n") == 2


def test_a_file_that_has_changed_is_refused(ruled, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums.py").write_text(SUMS + "\n# changed\n")
    for flag, name in (("task", "Sums"), ("reward", "length")):
        assert main([str(ruled / "run"), "7+1=", f"--{flag}", f"sums.py:{name}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: --{flag}: is not as it was when the run in ")
        assert error.count("\n") == 1


@pytest.mark.slow
def test_the_rule_of_a_built_in_task_is_the_gold(tmp_path, capsys):
    out = tmp_path / "run"
    assert train([*RULE, "--quiet", "--task", "arithmetic", "--out", str(out)]) == 0
    assert main([str(out), "1 2 + 1 3 =", "--stage", "policy"]) == 0
    assert "[gold " in capsys.readouterr().out
