"""What the tests of the exercises share. The answers are in bank/, written as people write them."""

from minippo.exercises.engine import MISTAKE_NAMES
from minippo.exercises.observe import from_plain, observe, to_plain

STEP = 8  # of the wrong answers every so many; test_bank.py, which is slow, has them all


def check_exercise(exercise, bank):
    """The bank's right answers pass and its wrong ones are told their names; the reference passes
    on hidden cases as well, a stub does not, and every listed mistake is told apart from every
    other."""
    assert exercise.verdict(exercise.reference).passed
    for function in bank.RIGHT:
        verdict = exercise.verdict(function)
        assert verdict.passed, f"{function.__name__}: {verdict.message}"

    def stub(*_, **__):
        raise NotImplementedError

    assert exercise.verdict(stub).message == "the function is not written yet"
    for nothing in (lambda **_: None, lambda **_: "text"):
        assert not exercise.verdict(nothing).passed
    assert len(bank.RIGHT) >= 6 and len(bank.WRONG) >= 20
    for function, name in [*bank.WRONG.items()][::STEP]:
        verdict = exercise.verdict(function)
        assert not verdict.passed and same_names(verdict.mistake, name), function.__name__
    for mistake in exercise.mistakes:
        verdict = exercise.verdict(mistake.function)
        assert mistake.name in MISTAKE_NAMES
        assert (verdict.passed, verdict.mistake) == (False, mistake.name), mistake.message
    assert {change.name for change in exercise.changes} <= {*MISTAKE_NAMES, "wrong token and mask"}
    check_hidden_cases(exercise)
    assert len(exercise.hints) == 3 and all(exercise.hints)


def check_hidden_cases(exercise):
    """A seed gives the same cases again and another one others; what is sent comes back, and the
    right answer passes by way of the plain form, a mistake does not."""
    for seed in (b"", b"\xff" * 40):
        cases = exercise.cases(seed)
        assert to_plain(exercise.cases(seed)) == to_plain(cases) != to_plain(exercise.cases())
        sent = from_plain(to_plain(cases))
        for function in (exercise.reference, exercise.mistakes[0].function):
            seen = observe(function, sent, exercise.gradient_of)
            verdict = exercise.judge(from_plain(to_plain(seen)), cases)
            assert verdict.passed is (function is exercise.reference), verdict
    assert to_plain(exercise.cases(b"")) != to_plain(exercise.cases(b"0"))


def same_names(one, other):
    return {*(one or "").split(" and ")} == {*(other or "").split(" and ")}
