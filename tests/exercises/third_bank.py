"""A third bank: answers written from the texts of the notebooks alone, without a look at the known
mistakes or at the other banks.

They are in third_bank/, one file for each exercise, as the bodies of functions: "## right", or
"## wrong: what the check may call it, one of several with | between them: what a teacher says".
"fault" stands for an answer that raises an exception or has no result of the right form.
"""

import math
import textwrap
from pathlib import Path

import numpy
import torch
from torch.nn import functional as F

FOLDER = Path(__file__).parent / "third_bank"
GIVEN = {"torch": torch, "F": F, "math": math, "np": numpy}
WRONG: dict = {}  # {exercise: {function: names}}
RIGHT: dict = {}  # {exercise: [functions]}


def function_of(name, arguments, body):
    """What a student would have written around this body."""
    names = dict(GIVEN)
    text = f"def {name}({arguments}):\n{textwrap.indent(body.strip(), '    ')}\n"
    exec(text, names)
    return names[name]


def read(path):
    """Add the answers of a file."""
    head, *parts = path.read_text(encoding="utf-8").split("\n## ")
    arguments = head.partition("arguments: ")[2]
    for number, part in enumerate(parts):
        title, _, body = part.partition("\n")
        kind, _, rest = title.partition(": ")
        function = function_of(f"{kind}_{number}", arguments, body)
        if kind == "right":
            RIGHT.setdefault(path.stem, []).append(function)
        else:
            names, _, said = rest.partition(": ")
            function.__doc__ = said
            WRONG.setdefault(path.stem, {})[function] = names


for one in sorted(FOLDER.glob("*.txt")):
    read(one)
