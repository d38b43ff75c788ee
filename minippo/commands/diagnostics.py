"""What the metrics of finished runs say about their health: python -m minippo.diagnostics RUN [RUN
...]

A line for each diagnostic that has something to say; docs/diagnostics.md has a section for each.
"""

import math
from collections.abc import Sequence

from minippo.algorithms import REGISTRY
from minippo.commands.config import FIELDS
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.runs.diagnostics import BEFORE, Finding, diagnose_all, never_asked
from minippo.runs.folder import RunFolder
from minippo.runs.read import read_json
from minippo.runs.screen import findings_of
from minippo.runs.text import counted


def findings(folder: str) -> tuple[int, list[Finding]]:
    """(updates, what is found in their metrics) of a run; what was found before the policy's
    training stands in the summary."""
    run = RunFolder(folder)
    run.check_metrics()
    rows, config = run.metrics_until(math.inf), run.read_config()
    try:
        names = ("algorithm", "num_ppo_epochs", "num_mini_batches", "kl_reward", "kl_loss")
        algorithm, epochs, minibatches, *kl = (config[FIELDS[name][0]][name] for name in names)
        silent = REGISTRY[algorithm].silent_diagnostics
        found = diagnose_all(
            rows, never_asked(silent, steps=epochs * minibatches, priced=kl != ["none"] * 2)
        )
        found = [*found_before(run), *found]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}: not a run of this version ({error})") from error
    return len(rows), found


def found_before(run: RunFolder) -> list[Finding]:
    """What a finished run says of the stages in front of the policy's training."""
    if not run.is_finished():
        return []
    codes = {code for code, *_ in BEFORE}
    found = findings_of(read_json(run.path / "summary.json"))
    return [finding for finding in found if finding.code in codes]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(prog="python -m minippo.diagnostics", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folder of a run")
    for folder in parser.parse_args(arguments).runs:
        updates, found = findings(folder)
        for line in found or [f"nothing found in {counted(updates, 'update')}"]:
            print(f"{folder}: {line}")
    return 0
