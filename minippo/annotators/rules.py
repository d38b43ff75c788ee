"""AI feedback: a list of rules in the place of people, and the response that keeps more is better.

A rule is a small check over (prompt, response). Some of them can be asked of any text; a task adds
those that only make sense in its world (`Task.rules`). In the papers a language model is asked
whether a response keeps a rule; here the check is a few lines of code, so that what the rules leave
out shows, and not what a judge misreads.
Source: Bai et al. 2022, arXiv:2212.08073 (constitutional AI: preferences from a list of rules).
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from minippo.annotators.base import Annotator, AnnotatorConfig, Shown
from minippo.tasks.base import Task

Rule = Callable[[str, str], bool]  # (prompt, response) -> is it kept?
SHORT = 9  # words


def says_something(prompt: str, response: str) -> bool:
    """There is at least one word."""
    return bool(response.split())


def is_short(prompt: str, response: str) -> bool:
    """There are at most SHORT words."""
    return len(response.split()) <= SHORT


def repeats_nothing(prompt: str, response: str) -> bool:
    """No word stands there twice."""
    words = response.split()
    return len({*words}) == len(words)


RULES: dict[str, Rule] = {
    rule.__name__: rule for rule in (says_something, is_short, repeats_nothing)
}


def rules_of(task: Task, names: str = "all") -> Mapping[str, Rule]:
    """{name: rule} of those that count for a task. ValueError: a name that no rule has, or none."""
    known = RULES | dict(task.rules())
    if names == "all":
        return known
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise ValueError(f"no rule is called {name!r}; there are {', '.join(known)}")
    return {name: known[name] for name in wanted}


def rules_worth(shown: Shown, config: AnnotatorConfig) -> Tensor:
    """The number of rules that a response keeps, [1,N,K]."""
    rules = rules_of(shown.task, config.annotator_rules).values()
    return shown.table(lambda prompt, response: sum(rule(prompt, response) for rule in rules))[None]


def names_no_rule(task: Task, config: AnnotatorConfig) -> str | None:
    """Why these rules cannot be asked."""
    try:
        rules_of(task, config.annotator_rules)
    except ValueError as error:
        return str(error)
    return None


AI = Annotator(
    "rules",
    "a list of rules: the response that keeps more of them",
    rules_worth,
    fields=("annotator_rules",),
    refuses=names_no_rule,
)
