"""The verdict on what came back, which may be anything."""

import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest

import minippo
from minippo import exercises
from minippo.classroom import judging
from minippo.classroom.judging import NAMES, STATUSES, Judge, functions_of, short, texts
from minippo.classroom.servers import Result
from minippo.errors import InputError
from minippo.exercises.observe import Fault, Observation, observe, to_plain

NOTEBOOKS = Path(minippo.__file__).parent.parent / "notebooks"


@pytest.fixture(scope="module")
def judge():
    return Judge(["gae", "kl_estimators"], b"seed")


def answered(judge, function, **more):
    observations = observe(function, judge.cases["gae"], judge.exercises["gae"].gradient_of)
    return Result("answered", json.dumps({"observations": to_plain(observations), **more}))


def test_every_exercise_of_the_package_is_graded():
    found = {module.name for module in pkgutil.iter_modules(exercises.__path__)}
    with_exercise = {
        name
        for name in found
        if hasattr(importlib.import_module(f"minippo.exercises.{name}"), "exercise")
    }
    assert with_exercise == {*NAMES}


def test_functions_are_named_as_in_the_notebooks():
    for path in sorted(NOTEBOOKS.glob("[01]*.py")):
        text = path.read_text(encoding="utf-8")
        (function,) = re.findall(r"^def (my_\w+)", text, re.MULTILINE)
        (name,) = re.findall(r"from minippo.exercises.(\w+) import exercise", text)
        assert functions_of(name)[0] == function


def test_the_right_answer_and_a_wrong_one(judge):
    reference = judge.exercises["gae"].reference
    grade, remarks = judge.grade("gae", answered(judge, reference, remarks=["a", "a", "b\x1b"]))
    assert grade.status == "ok" and grade.mistake == "" and remarks == ["a", "b\\x1b"]
    grade, _ = judge.grade("gae", answered(judge, lambda **given: -reference(**given)))
    assert (grade.status, grade.mistake) == ("wrong", "sign")


def test_cases_of_two_seeds_are_not_the_same(judge):
    other = Judge(["gae"], b"another seed").jobs()["gae"]
    same = Judge(["gae"], b"seed").jobs()["gae"]
    assert judge.jobs()["gae"] == same != other


def test_a_server_is_told_inputs_and_nothing_else(judge):
    for name, job in judge.jobs().items():
        assert {*job} == {"functions", "cases", "gradient_of"}
        cases = job["cases"]
        assert all({*case["named"]} == {*judge.cases[name][0]} for case in cases)
        words = json.dumps(job)
        assert not any(mistake.message in words for mistake in judge.exercises[name].mistakes)


@pytest.mark.parametrize("how", judging.TOLD)
def test_how_a_process_ended(how, judge):
    grade, remarks = judge.grade("gae", Result(how, "anything"))
    assert (grade.status, grade.message) == judging.TOLD[how] and remarks == []
    assert grade.status in STATUSES


@pytest.mark.parametrize(
    "fault, status",
    [
        (Fault("NotImplementedError", ""), "no result"),
        (Fault("MemoryError", ""), "memory"),
        (Fault("RuntimeError", "DefaultCPUAllocator: can't allocate memory"), "memory"),
        (Fault("ValueError", "no"), "error"),
        (Fault("SystemExit", "0"), "error"),
    ],
)
def test_what_a_function_raised(fault, status, judge):
    seen = [Observation(None, {}, fault=fault)] * len(judge.cases["gae"])
    text = json.dumps({"observations": to_plain(seen)})
    assert judge.grade("gae", Result("answered", text))[0].status == status


@pytest.mark.parametrize(
    "text, status, message",
    [
        ('{"raised": "KeyboardInterrupt"}', "error", "KeyboardInterrupt"),
        ('{"raised": "MemoryError"}', "memory", "MemoryError"),
        (
            '{"missing": 3, "remarks": ["a.py, line 3: invalid syntax"]}',
            "no result",
            "there is no function my_gae or gae\na.py, line 3: invalid syntax",
        ),
    ],
)
def test_what_else_a_process_may_say(text, status, message, judge):
    grade, _ = judge.grade("gae", Result("answered", text))
    assert (grade.status, grade.message) == (status, message)


TENSOR = '{"tensor": "float64", "shape": [%s], "numbers": [%s]}'
SEEN = '{"observations": [{"observation": {"value": %s, "gradients": {"named": {}}, '
SEEN += '"dtype": "float64", "fault": null, "remarks": []}}]}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "true",
        '{"passed": true}',
        '{"observations": true}',
        '{"observations": [3]}',
        '{"observations": {"named": {}}}',
        '{"remarks": 3}',
        "[" * 100_000,
        '{"observations": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"observations": [' + "9" * 100_000 + "]}",
        SEEN % (TENSOR % ("9999999999999", "1")),
        SEEN % (TENSOR % ("4", "1")),
        SEEN % (TENSOR % ("1", "1" + "0" * 400)),
        SEEN % '"text"',
        '{"observations": []}{"observations": []}',
    ],
)
def test_what_is_no_answer(text, judge):
    grade, _ = judge.grade("gae", Result("answered", text))
    assert (grade.status, grade.message) == ("no result", "what came back is no answer")


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_results_do_not_pass(number, judge):
    text = SEEN % (TENSOR % ("0, 99", "")) if number else '{"observations": []}'
    assert judge.grade("gae", Result("answered", text))[0].status == "wrong"


def test_the_texts_of_a_stranger_are_made_harmless():
    assert short("a\x1b[2Jb\nc\td\ud800") == "a\\x1b[2Jb\nc\\td\\ud800"
    assert len(short("x" * 10_000)) == judging.LONGEST_MESSAGE
    assert texts([str(n) for n in range(30)])[-1] == "and 10 remarks more"


def test_an_exercise_that_there_is_not():
    with pytest.raises(InputError, match="--exercises: there is no engine; wanted some of obj"):
        Judge(["engine"], None)
