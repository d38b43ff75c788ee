"""What a run prints: a line per stage, a line per update, samples before and after, and a table at
the end.

On a terminal there are progress bars as well. Into a file or a pipe go plain lines only. No
colours, no escape codes, and whatever bytes a model writes are made harmless before they are shown.
"""

import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, TextIO

from minippo.runs.diagnostics import Finding, is_hacked
from minippo.runs.progress import told
from minippo.runs.sentences import at_most, is_reliable, sentences
from minippo.runs.text import counted, padded, printable, said, wrapped

UPDATE_COLUMNS = (  # header, name in metrics.jsonl, width, decimals; 79 columns in all
    ("update", "update", 6, 0),
    ("score", "objective/scores", 6, 3),
    ("rlhf", "objective/rlhf_reward", 6, 3),
    ("gold", "objective/gold", 6, 3),
    ("kl", "objective/kl", 6, 3),
    ("entropy", "policy/entropy_avg", 7, 3),
    ("clipfrac", "policy/clipfrac_avg", 8, 3),
    ("expl.var", "val/explained_variance", 8, 3),
    ("eos", "val/eos_rate", 5, 3),
    ("length", "val/response_length", 6, 2),
    ("sec", "seconds", 5, 2),
)
BOLD, YELLOW, PLAIN = "\x1b[1m", "\x1b[33m", "\x1b[0m"
WHEN = ("before", "after")


class Screen:
    """Screen(quiet=False, stream=None); without a stream, the sys.stdout of the moment.

    `quiet` keeps two lines of it all: the results in short, and where the run folder is.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self.stream = sys.stdout if stream is None else stream
        self.is_terminal = bool(getattr(self.stream, "isatty", lambda: False)())
        self.has_colours = self.is_terminal and may_have_colours()
        self._columns: list[tuple[str, str, int, int]] = []  # of the updates, once one is printed

    def stage(self, name: str, text: str, seconds: float | None = None) -> None:
        """One line for a stage that is done: its name, its figure, how long it took."""
        took = "" if seconds is None else f"{seconds:8.1f} s"
        shown = padded(printable(text), self._width() - 26)
        self._line(f"{name:<14} {shown}{took}".rstrip(), begins=name, style=BOLD)

    def note(self, text: str) -> None:
        """One line that is neither a stage nor an update: what was derived, what the run is."""
        self._line(printable(text))

    def warn(self, text: str) -> None:
        """The same, for what a diagnostic has found, which begins with its code."""
        self._line(printable(text), begins=printable(text), style=YELLOW)

    def paragraph(self, text: str) -> None:
        """A text over as many lines as it takes."""
        for line in self._wrap(text, self._width()):
            self._line(line)

    def progress(
        self,
        items: Iterable[Any] | int,
        description: str,
        *,
        unit: str = "step",
        total: int | None = None,
        done: int = 0,
    ) -> Iterable[Any]:
        """Iterate over something, or over range(items), with a bar if there is a terminal to draw
        it on, and with a line now and then if there is none. total: of items that do not know how
        many they are; done: of these, before."""
        items = range(items) if isinstance(items, int) else items
        total = len(items) if isinstance(items, Sized) else total
        if self.quiet:
            return items
        if not self.is_terminal:
            say = self.note
            return told(items, total=total, name=description, unit=unit, say=say, done=done)
        from tqdm import tqdm

        return tqdm(
            items,
            desc=f"{description:<14}",
            unit=unit,
            total=total,
            initial=done,
            bar_format="{desc} {unit} {n_fmt} of {total_fmt} |{bar}| {remaining} left",
            file=self.stream,
            leave=False,
            dynamic_ncols=True,
        )

    def update_line(self, row: Mapping[str, Any]) -> None:
        """One aligned line per update, from a row of metrics.jsonl; the header comes before the
        first. What the first row has no number for has no column: a critic or a clip where there
        is none."""
        if not self._columns:
            self._columns = [column for column in UPDATE_COLUMNS if row.get(column[1]) is not None]
            self._line(" ".join(f"{header:>{width}}" for header, _, width, _ in self._columns))
        self._line(
            " ".join(
                _cell(row.get(name), width, places) for _, name, width, places in self._columns
            )
        )

    def samples(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Each prompt with the response before PPO on the left and after it on the right; rows of
        samples.jsonl."""
        for row in rows:
            self._line("")
            self.paragraph(f"prompt: {row['prompt']}")
            self.beside(WHEN, [_scored(row, when) for when in WHEN])

    def beside(self, names: Sequence[str], texts: Sequence[str]) -> None:
        """Texts in columns beside each other, under their names and a rule."""
        column = (self._width() - 3 * (len(texts) - 1)) // len(texts)
        header = " | ".join(padded(printable(name), column) for name in names).rstrip()
        self._line(header, begins=header, style=BOLD)
        self._line("-+-".join("-" * column for _ in texts))
        cells = [self._wrap(text, column) for text in texts]
        for parts in itertools.zip_longest(*cells, fillvalue=""):
            self._line(" | ".join(padded(part, column) for part in parts).rstrip())

    def table(
        self,
        summary: Mapping[str, Any],
        extras: Mapping[str, str] | None = None,
        folder: str | Path | None = None,
    ) -> None:
        """The last table, from summary.json. `extras` are more lines, {label: text}; `folder` is
        where the run lies."""
        if self.quiet:
            self._line(_digest(summary), even_when_quiet=True)
        else:
            self._line("")
            first = "; ".join(sentences(summary))
            self._line(first, begins=first, style=BOLD)
            for line in _table_lines(summary) + [
                _labelled(*item) for item in (extras or {}).items()
            ]:
                self._line(line)
        if folder is not None:
            self._line(_labelled("run folder", str(folder)), even_when_quiet=True)

    def _line(self, text, even_when_quiet=False, begins="", style=""):
        """begins: the beginning of the text that gets the style, where there are colours."""
        if self.quiet and not even_when_quiet:
            return
        text, begins = self._encodable(text), self._encodable(begins)
        if self.has_colours and begins and text.startswith(begins):
            text = f"{style}{begins}{PLAIN}{text[len(begins) :]}"
        if self.is_terminal:  # a line printed through tqdm does not tear a bar that is being drawn
            from tqdm import tqdm

            tqdm.write(text, file=self.stream)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def _encodable(self, text):
        """What the stream's encoding lacks is shown as an escape: a run must not end because a
        screen is ASCII."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return text.encode(encoding, errors="backslashreplace").decode(encoding)

    def _wrap(self, text, width):
        return wrapped(self._encodable(printable(text)), width)

    @staticmethod
    def _width():
        return min(160, max(40, shutil.get_terminal_size((100, 24)).columns))


def may_have_colours() -> bool:
    """Does nobody say that a terminal has no colours, or should have none?"""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _cell(value, width, decimals):
    """A number, right-aligned, never wider than its column: decimals are given up first, then
    digits (1e+09)."""
    if value is None:
        return f"{'-':>{width}}"
    for places in range(decimals, -1, -1):
        if len(text := f"{value:{width}.{places}f}") == width:
            return text
    text = f"{value:{width}.0e}"
    return text if len(text) == width else "#" * width


def _scored(row, when):
    """A response and what it got: "the cat sat  [score 1.20, gold 3.0]"."""
    marks = [
        f"{name} {_number(row.get(f'{name}_{when}'), 2)}"
        for name in ("score", "gold")
        if row.get(f"{name}_{when}") is not None
    ]
    return said(row[when]) + (f"  [{', '.join(marks)}]" if marks else "")


def _table_lines(summary):
    """Before and after in columns, then one line for each number that has no before."""
    sft, policy = summary["sft"], summary["policy"]
    gold = "gold" if summary["gold_max"] is None else f"gold (of {_number(summary['gold_max'], 2)})"
    training = summary.get("gold_training") or {"sft": None, "policy": None}
    rows = [
        (gold, sft["gold"], policy["gold"]),
        ("  of training prompts", training["sft"], training["policy"]),
        ("score", sft["score"], policy["score"]),
        ("KL, nats", 0.0, policy["kl"]),
        ("EOS rate", sft["eos_rate"], policy["eos_rate"]),
        ("length", sft["length"], policy["length"]),
    ]
    before, after = (
        (summary["gold_axes"] or {}).get("sft") or {},
        (summary["gold_axes"] or {}).get("policy") or {},
    )
    rows += [(f"  gold: {axis}", before[axis], after.get(axis)) for axis in before]
    means = dict(zip((gold, "score"), _means_over(summary), strict=True))
    return [
        f"{'':<22} {'before':>8} {'after':>8}",
        *(
            f"{label:<22} {_number(old):>8} {_number(new):>8}{means.get(label, '')}"
            for label, old, new in rows
            if old is not None or new is not None
        ),
        *(_labelled(label, text) for label, text in _single_lines(summary)),
    ]


def _means_over(summary):
    """What gold and score are means of, which are not the same answers."""
    win, optimum = summary["win_rate"], summary["optimum"]
    different = win.get("different_prompts") or win["n"]
    drawn, asked = optimum["draws_per_prompt"], optimum["prompts"]
    if not win["n"] or not drawn:
        return "", ""
    return (
        f"   mean of {counted(win['n'], 'answer')} to {counted(different, 'prompt')}",
        f"   mean of {counted(drawn // 2 * asked, 'answer')} to {counted(asked, 'prompt')}",
    )


def _single_lines(summary):
    """(label, text) of the numbers that are alone; those that have no meaning for the task are
    left out."""
    for finding in findings_of(summary):
        yield "diagnostics", str(finding)
    win, reward_model = summary["win_rate"], summary["reward_model"]
    if win["value"] is not None:
        asked = counted(win["n"], "prompt")
        if win.get("different_prompts", win["n"]) != win["n"]:
            asked = (
                f"{counted(win['n'], 'response')} to {counted(win['different_prompts'], 'prompt')}"
            )
        yield (
            "win rate",
            (
                f"{_number(win['value'])}, 95 % interval {_number(win['low'])} to "
                f"{_number(win['high'])} "
                f"({asked}, judged by {win['judge']})"
            ),
        )
    if reward_model is not None and reward_model["heldout_accuracy"] is not None:
        yield (
            "reward model",
            (
                f"accuracy {_number(reward_model['heldout_accuracy'])} on "
                f"{counted(reward_model['heldout_pairs'], 'held-out pair')}, annotator's ceiling "
                f"{_number(reward_model['annotator_ceiling'])}, skill "
                f"{_number(reward_model['skill'])}"
            ),
        )
    if summary["policy"]["objective"] is not None:
        yield "objective", _against_the_optimum(summary)
    seconds = summary["seconds"]
    yield "seconds", ", ".join(f"{stage} {_number(value, 1)}" for stage, value in seconds.items())
    yield "peak memory", f"{_number(summary['peak_memory_mib'], 0)} MiB"


def _against_the_optimum(summary):
    """The run's objective, the best possible one with its interval, and how far that estimate can
    be trusted."""
    text, optimum = _number(summary["policy"]["objective"]), summary["optimum"]
    if optimum["objective"] is None:
        return text
    return (
        f"{text} of {_number(optimum['objective'])} possible ({_number(optimum['low'])} to "
        f"{_number(optimum['high'])}): {optimality_text(summary)} (effective sample size "
        f"{_number(optimum['effective_sample_size'], 0)}"
        f"{'' if is_reliable(optimum) else ', not reliable: more is possible'})"
    )


def findings_of(summary: Mapping[str, Any]) -> list[Finding]:
    """What the diagnostics of a run have said."""
    return [Finding(**row) for row in summary.get("diagnostics") or ()]


def optimality_text(summary: Mapping[str, Any]) -> str:
    """The optimality, and in which direction it errs where few draws count."""
    value = summary["optimality"]
    not_its_aim = ", which is not its aim: no KL is paid" * (summary.get("kl_in") == "none")
    return f"optimality {'-' if value is None else at_most(summary) + _number(value) + not_its_aim}"


def _digest(summary):
    """The results on one line."""
    sft, policy = summary["sft"], summary["policy"]
    parts = [
        f"{name} {_number(sft[name])} -> {_number(policy[name])}"
        for name in ("gold", "score")
        if policy[name] is not None
    ]
    singles = (("KL", policy["kl"]), ("win rate", summary["win_rate"]["value"]))
    parts += [f"{name} {_number(value)}" for name, value in singles if value is not None]
    if summary["optimality"] is not None:
        parts.append(optimality_text(summary))
    found = findings_of(summary)
    parts += [f"{finding.code} {finding.name}" for finding in found]
    if is_hacked(finding.code for finding in found):
        parts.insert(0, "hacked")
    return ", ".join([*parts, f"{_number(summary['seconds']['total'], 1)} s"])


def _labelled(label, text):
    return f"{padded(printable(label), 22)} {printable(text)}"


def _number(value, decimals=3):
    return "-" if value is None else f"{value:.{decimals}f}"
