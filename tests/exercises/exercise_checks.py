"""What the tests of the exercises share. The wrong answers come from the tests, written as people
write them."""

from minippo.exercises.engine import MISTAKE_NAMES


def check_exercise(exercise, *, correct, wrong):
    """`correct`: functions that must pass. `wrong`: {function: name of the mistake that it must be
    told}; at least five.

    The reference passes, a stub does not, and every mistake of the exercise's own list is told
    apart from every other.
    """
    assert exercise.verdict(exercise.reference).passed
    for function in correct:
        verdict = exercise.verdict(function)
        assert verdict.passed, f"{function.__name__}: {verdict.message}"

    def stub(*_, **__):
        raise NotImplementedError

    assert exercise.verdict(stub).message == "the function is not written yet"
    for nothing in (lambda **_: None, lambda **_: "text"):
        assert not exercise.verdict(nothing).passed
    assert len(wrong) >= 5
    for function, name in wrong.items():
        verdict = exercise.verdict(function)
        assert not verdict.passed and verdict.mistake == name, f"{function.__name__}: {verdict}"
        assert name in MISTAKE_NAMES and verdict.message
    for mistake in exercise.mistakes:
        assert exercise.verdict(mistake.function).message == mistake.message, mistake
