"""The check that knows numbers only says what the exercise's own says."""

import functools
import importlib
import json
import sys

import pytest
import torch

from minippo.classroom.judging import NAMES, exercise_named
from minippo.classroom.recording import checks_files, written_down
from minippo.classroom.travelling import NotRecorded, exercise_from, exercise_in
from tests.exercises.exercise_checks import same_names
from tests.exercises.test_bank import NAMES as BANK

SOME = ("policy_gradient_loss", "leave_one_out")


@functools.cache
def travelled(name):
    return exercise_from(name, json.loads(json.dumps(written_down(exercise_named(name)))))


def known_answers(exercise):
    """The right answer, every listed mistake, and the right answer after every change."""
    yield exercise.reference
    yield from (mistake.function for mistake in exercise.mistakes)
    yield from (change.apply(exercise.reference) for change in exercise.changes)


def both_say_the_same(name):
    own, other = exercise_named(name), travelled(name)
    verdicts = [(own.verdict(answer), other.verdict(answer)) for answer in known_answers(own)]
    assert verdicts[0][0].passed and len(verdicts) > 10
    for mine, theirs in verdicts:
        assert mine == theirs


@pytest.mark.parametrize("name", SOME)
def test_it_says_what_the_exercise_says(name):
    both_say_the_same(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in SOME])
def test_so_it_does_of_the_others(name):
    both_say_the_same(name)


@pytest.mark.slow
def test_most_answers_of_the_bank_get_their_name():
    """Two mistakes at once are known where both are changes of the right answer."""
    total, refused, named, wrongly = 0, 0, 0, 0
    for name in BANK:
        bank = importlib.import_module(f"tests.exercises.bank.{name}")
        exercise = travelled(name)
        assert all(exercise.verdict(answer).passed for answer in bank.RIGHT)
        verdicts = [(exercise.verdict(answer), wanted) for answer, wanted in bank.WRONG.items()]
        names = [(verdict.mistake, wanted) for verdict, wanted in verdicts if verdict.mistake]
        good = sum(same_names(mistake, wanted) for mistake, wanted in names)
        total, refused = total + len(verdicts), refused + sum(not v.passed for v, _ in verdicts)
        named, wrongly = named + good, wrongly + len(names) - good
    print(f"{refused} of {total} refused, {named} named, {wrongly} named otherwise")
    assert refused == total and named >= 0.9 * total and wrongly <= 0.01 * total


def test_two_changes_at_once_are_named():
    own, other = exercise_named("gae"), travelled("gae")
    changes = {change.name: change for change in own.changes}
    answer = changes["sign"].apply(changes["discount"].apply(own.reference))
    assert other.verdict(answer).mistake == own.verdict(answer).mistake is not None


def test_a_recorded_value_carries_the_recorded_gradients():
    own, other = exercise_named("policy_gradient_loss"), travelled("policy_gradient_loss")
    case = own.cases()[0]
    gradients = []
    for function in (own.reference, other.reference):
        given = {name: x.double() if x.is_floating_point() else x for name, x in case.items()}
        given["logprobs"].requires_grad_()
        gradients.append(torch.autograd.grad(function(**given), given["logprobs"])[0])
    assert torch.equal(*gradients) and gradients[0].abs().sum() > 0


def test_what_was_not_written_down_is_not_made_up():
    exercise = travelled("gae")
    case = exercise.cases()[0]
    assert case.where == "exercise.cases()[0]" and "gamma" in case.holds
    with pytest.raises(NotRecorded):
        exercise.reference(**{**case, "gamma": 0.123})
    with pytest.raises(NotRecorded):
        exercise.changes[0].apply(exercise.mistakes[0].function)(**case)
    with pytest.raises(ValueError, match="only the fixed cases"):
        exercise.cases(b"a seed")


def test_a_detach_beside_a_known_mistake_is_named_and_hints_travel(capsys):
    exercise = travelled("policy_gradient_loss")
    own = exercise_named("policy_gradient_loss").reference
    verdict = exercise.verdict(lambda logprobs, **rest: 2 * own(logprobs=logprobs.detach(), **rest))
    assert not verdict.passed and verdict.mistake == "scale and detach"
    exercise.hint()
    assert capsys.readouterr().out.startswith("hint 1 of 3: ")


def test_a_file_of_another_format_or_without_the_exercise(tmp_path):
    (tmp_path / "a.json").write_text('{"format": 1, "exercises": {"gae": {}}}')
    with pytest.raises(AttributeError, match="there is no exercise dpo; there are gae"):
        exercise_in(tmp_path / "a.json", "dpo")
    (tmp_path / "b.json").write_text('{"format": 2, "exercises": {}}')
    with pytest.raises(ValueError, match="has format 2, wanted 1"):
        exercise_in(tmp_path / "b.json", "gae")


def forbid_minippo(monkeypatch):
    """Nothing of minippo is imported in this process, and nothing can be."""

    class Refuses:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "minippo":
                raise ImportError(f"{name} was imported")

    for name in [name for name in sys.modules if name.split(".")[0] == "minippo"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refuses(), *sys.meta_path])


def test_in_the_students_folder_it_runs_without_minippo(tmp_path, monkeypatch, capsys):
    gae = exercise_named("gae").reference
    files = checks_files(["gae"])
    forbid_minippo(monkeypatch)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        checks = importlib.import_module("checks")
        assert checks.gae.check(gae).passed
        checks.gae.check(lambda **given: -gae(**given))
        with pytest.raises(AttributeError, match="there is no exercise value_loss"):
            _ = checks.value_loss
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "checks"]:
            del sys.modules[name]
    right, wrong = capsys.readouterr().out.split("\n", 1)
    assert right == "passed: values agree on 3 cases"
    assert wrong.startswith("not yet: the sign is turned")
