"""Talking to a run: with a prompt, line by line, from a pipe, with whatever bytes."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minippo
from minippo.commands.speaker import Token
from minippo.commands.talk import LONGEST, lines_of, main, token_lines

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
    assert out.count("policy") == 2 and ">" not in out
    typed(monkeypatch, b"")
    assert main([str(finished)]) == 0 and capsys.readouterr().out == ""


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
    one, two, three, *rest = capsys.readouterr().out.splitlines()
    assert one.startswith("line 1: not known: knows; the 56 words known: . : a ")
    assert two == "line 2: not UTF-8 text"
    assert three.startswith("line 3: too long: 101 tokens, and the model knows prompts of at most")
    assert rest[0] == "sft"


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
        (["nowhere"], "--run nowhere: holds no run"),
        (["--run", "nowhere", "hello"], "--run nowhere: holds no run"),
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
        assert process.stdout.readline() == b"policy\n"
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""
