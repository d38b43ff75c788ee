"""The list of commands: python -m minippo, or minippo where the package is installed.

`minippo NAME ...` does what `python -m minippo.NAME ...` does.
"""

import sys
from collections.abc import Sequence

from minippo import __version__
from minippo.commands.wrapper import command, door
from minippo.errors import InputError

COMMANDS = {  # name -> the module whose main it is, and what it does
    "one_page": ("minippo.one_page", "PPO for a language model on one page, in half a minute"),
    "train_toy": ("minippo.commands.train", "all of RLHF with one command (train, for short)"),
    "compare": ("minippo.commands.compare", "the same run with several settings, on several seeds"),
    "measure": ("minippo.commands.measure", "the same run on several seeds, and a table"),
    "overoptimise": (
        "minippo.commands.overoptimise",
        "score and gold over the KL, for several reward models and prices",
    ),
    "talk": ("minippo.commands.talk", "ask the models of a run, and see them side by side"),
    "evaluate": ("minippo.commands.evaluate", "models of several runs on the same new prompts"),
    "label": ("minippo.commands.label", "you are the annotator: which of two answers is better"),
    "report": ("minippo.commands.report", "a run on one HTML page, or several side by side"),
    "export": ("minippo.commands.export", "a model to or from Hugging Face's files"),
    "diagnostics": ("minippo.commands.diagnostics", "what a run's metrics say about its health"),
    "profile_update": ("minippo.commands.profile_update", "where the seconds of an update go"),
    "exact": ("minippo.exact.tables", "bias and variance of every stage of the derivation"),
    "exact.family": ("minippo.exact.family", "PPO's relatives: bias, variance, where each ends"),
    "exact.qualifications": (
        "minippo.exact.qualifications",
        "common claims, with their conditions",
    ),
    "classroom": ("minippo.classroom.table", "grade a folder of answers, or see how far yours are"),
}
SHORT = {"train": "train_toy", "runs.diagnostics": "diagnostics"}


def usage() -> str:
    """The list."""
    lines = [f"  {name:22}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            f"minippo {__version__}: PPO for language models, from scratch",
            "",
            *lines,
            "",
            "python -m minippo.NAME --help says more; minippo NAME ... is the same.",
        ]
    )


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """List the commands, or run one; returns its exit status."""
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in ("--help", "-h"):
        print(usage())
        return 0
    if name == "--version":
        print(f"minippo {__version__}")
        return 0
    name = SHORT.get(name, name)
    if name not in COMMANDS:
        raise InputError(f"{name}: there is no such command; wanted one of {', '.join(COMMANDS)}")
    sys.argv = [f"minippo {name}", *rest]
    return door(COMMANDS[name][0])


if __name__ == "__main__":
    sys.exit(main())
