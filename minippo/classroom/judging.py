"""The verdict on an answer: hidden cases from a secret seed, and what came back from the process
that ran it.

The expected values and the mistakes are here, in the grader, and nothing of a student's is executed
here. What came back was written by a stranger: it is read as JSON, and whatever is wrong with it is
the answer's status.
"""

import importlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from minippo.classroom.box.room import Job
from minippo.classroom.servers import Result
from minippo.commands.wrapper import OUT_OF_MEMORY
from minippo.errors import InputError
from minippo.exercises.engine import Exercise
from minippo.exercises.observe import Case, Observation, from_plain, to_plain
from minippo.runs.text import counted, printable

NAMES = (  # in the notebooks' order
    "objective",
    "token_logprobs",
    "response_mask",
    "policy_gradient_loss",
    "advantages",
    "reward_score",
    "value_loss",
    "gae",
    "shaped_rewards",
    "kl_estimators",
    "fisher_vector_product",
    "clipped_loss",
    "clip_fraction",
    "optimal_policy",
    "ppo_loss",
    "first_ratio",
    "leave_one_out",
    "dpo_loss",
)
OTHER_FUNCTIONS = {"reward_score": ("reward_loss",)}  # the notebook's name of the function
STATUSES = ("ok", "wrong", "error", "timeout", "memory", "no result")
ABSENT = "there is no function"
LONGEST_MESSAGE, MOST_REMARKS, LONGEST_NUMBER = 2000, 20, 30


class Grade(NamedTuple):
    """Of one exercise: a status of STATUSES, the mistake's name or "", what the student is told."""

    exercise: str
    status: str
    mistake: str
    message: str


class Judge:
    """The exercises with their cases, fixed ones or those of a seed."""

    def __init__(self, names: Sequence[str], seed: bytes | None):
        self.exercises = {name: exercise_named(name) for name in names}
        self.cases: dict[str, list[Case]] = {
            name: exercise.cases(seed) for name, exercise in self.exercises.items()
        }

    def jobs(self) -> dict[str, Job]:
        """What a server is told: the inputs alone."""
        return {
            name: {
                "functions": functions_of(name),
                "cases": to_plain([dict(case) for case in self.cases[name]]),
                "gradient_of": list(exercise.gradient_of),
            }
            for name, exercise in self.exercises.items()
        }

    def grade(self, name: str, result: Result) -> tuple[Grade, list[str]]:
        """(the Grade of an answer, what is to be said about its file)."""
        told = TOLD.get(result.how)
        if told is not None:
            status, message = told
            return Grade(name, status, "", message), []
        try:
            answer = json.loads(result.text, parse_int=whole_number)
            remarks = texts(answer.get("remarks", []))
            return self._grade_answer(name, answer), remarks
        except Exception:  # nothing that a stranger has written may stop the grading
            return Grade(name, "no result", "", "what came back is no answer"), []

    def _grade_answer(self, name: str, answer: dict[str, Any]) -> Grade:
        if "missing" in answer:
            wanted = " or ".join(functions_of(name))
            said = [f"{ABSENT} {wanted}", *texts(answer.get("remarks", []))]
            return Grade(name, "no result", "", "\n".join(said))
        if "raised" in answer:
            raised = short(str(answer["raised"]))
            return Grade(name, "memory" if of_memory(raised) else "error", "", raised)
        observations = from_plain(answer["observations"])
        if type(observations) is not list or any(type(o) is not Observation for o in observations):
            raise ValueError("wanted observations")
        verdict = self.exercises[name].judge(observations, self.cases[name])
        status = "ok" if verdict.passed else status_of(observations)
        return Grade(name, status, verdict.mistake or "", short(verdict.message))


TOLD = {  # how a process ended -> the status of its answer, and what its student is told
    "timeout": ("timeout", "there was no answer within the time limit; is there a loop that ends?"),
    "memory": ("memory", "it took more memory than the limit allows"),
    "killed": ("error", "its process was killed by a signal; did it crash?"),
    "too long": ("no result", "the result is larger than the limit allows"),
    "silent": ("no result", "its process left without a result; is there an exit in it?"),
    "lost": ("no result", "its process took the server of the grader with it"),
}


def exercise_named(name: str) -> Exercise:
    """The exercise of a module."""
    if name not in NAMES:
        raise InputError(f"--exercises: there is no {name}; wanted some of {', '.join(NAMES)}")
    return importlib.import_module(f"minippo.exercises.{name}").exercise


def functions_of(name: str) -> list[str]:
    """The names under which the function of an exercise is looked for, the first one first."""
    names = (*OTHER_FUNCTIONS.get(name, ()), name)
    return [f"my_{one}" for one in names] + [*names]


def status_of(observations: Sequence[Observation]) -> str:
    """The status of an answer that has not passed."""
    faults = [seen.fault for seen in observations if seen.fault]
    if not faults:
        return "wrong"
    first = faults[0]
    if first.kind == "NotImplementedError":
        return "no result"
    return "memory" if of_memory(f"{first.kind}: {first.message}") else "error"


def of_memory(raised: str) -> bool:
    """Is this error about memory?"""
    words = raised.lower()
    return words.startswith("memoryerror") or any(told in words for told in OUT_OF_MEMORY)


def whole_number(digits: str) -> int:
    """int, but not of a million digits."""
    if len(digits) > LONGEST_NUMBER:
        raise ValueError("a number of too many digits")
    return int(digits)


def texts(remarks: Any) -> list[str]:
    """What a child has to say about a file, as harmless lines."""
    if not isinstance(remarks, list):
        raise ValueError("remarks are a list")
    found = list(dict.fromkeys(short(str(remark)) for remark in remarks))
    more = len(found) - MOST_REMARKS
    return found[:MOST_REMARKS] + ([f"and {counted(more, 'remark')} more"] if more > 0 else [])


def short(text: str) -> str:
    """A text whose lines are harmless on a screen and in a file, and not too many."""
    lines = text[:LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode().split("\n")
    return "\n".join(map(printable, lines))
