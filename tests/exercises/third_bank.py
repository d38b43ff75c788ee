"""A third bank: answers written from the texts of the notebooks alone, without a look at the known
mistakes or at the other banks. And a fourth, small one, written after the third had been mended by:
none of its mistakes is in the third, and some of them are rare.

They are in third_bank/ and fourth_bank/, one file for each exercise, as the bodies of functions:
"## right", or "## wrong: what the check may call it, one of several with | between them: what a
teacher says". "fault" stands for an answer that raises an exception or has no result of the right
form.
"""

import math
import textwrap
from pathlib import Path

import numpy
import torch
from torch.nn import functional as F

GIVEN = {"torch": torch, "F": F, "math": math, "np": numpy}


def function_of(name, arguments, body):
    """What a student would have written around this body."""
    names = dict(GIVEN)
    text = f"def {name}({arguments}):\n{textwrap.indent(body.strip(), '    ')}\n"
    exec(text, names)
    return names[name]


def answers_in(path):
    """({wrong function: names}, [right functions]) of a file."""
    head, *parts = path.read_text(encoding="utf-8").split("\n## ")
    arguments = head.partition("arguments: ")[2]
    wrong, right = {}, []
    for number, part in enumerate(parts):
        title, _, body = part.partition("\n")
        kind, _, rest = title.partition(": ")
        function = function_of(f"{kind}_{number}", arguments, body)
        if kind == "right":
            right.append(function)
        else:
            names, _, function.__doc__ = rest.partition(": ")
            wrong[function] = names
    return wrong, right


def bank_in(folder):
    """[(exercise, wrong, right)] of the files in a folder."""
    paths = sorted((Path(__file__).parent / folder).glob("*.txt"))
    return [(path.stem, *answers_in(path)) for path in paths]


THIRD, FOURTH = bank_in("third_bank"), bank_in("fourth_bank")
