"""The worlds that a run can happen in.

base.py      what every task gives to a run
tldr.py      posts that state facts about a person, and summaries of them
constraints.py  the same, with constraints that the prompts name
capitals.py  questions with one right answer
arithmetic.py  sums, which a rule can check
files/       a folder of the user's own text and preferences
rule.py      RuleTask: texts and one rule, in a file of the user's own (own_file.py, patience.py)
"""

from minippo.tasks.arithmetic import Arithmetic
from minippo.tasks.base import Task
from minippo.tasks.capitals import Capitals
from minippo.tasks.constraints import Constraints
from minippo.tasks.files import Files
from minippo.tasks.rule import RuleTask
from minippo.tasks.tldr import Tldr

__all__ = ["TASKS", "Arithmetic", "Capitals", "Constraints", "Files", "RuleTask", "Task", "Tldr"]

TASKS: dict[str, type[Task]] = {task.name: task for task in (Tldr, Capitals, Arithmetic, Files)}
