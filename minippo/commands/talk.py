"""Talk to the models of a run: the fine-tuned model and the policy side by side.

    python -m minippo.talk RUN "what is the capital of france ?"
    python -m minippo.talk RUN                      line by line, from a terminal or a pipe, where
                                                    each prompt is repeated above its answers

Each answer has the reward model's score and, where the task has a rule, the gold score. A task or a
rule in a file of your own is named again: --task FILE.py:Class, --reward FILE.py:function.
--verbose shows every token with its log-probability, the critic's value before it, the KL from the
fine-tuned model where it was drawn, and its advantage. Ctrl-D ends.
"""

import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

import torch

from minippo.commands.config import FIELDS
from minippo.commands.export import LANGUAGE_MODELS, check_stage
from minippo.commands.flags import read_value
from minippo.commands.speaker import Answer, Speaker, Token, open_speaker
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.runs.screen import Screen
from minippo.runs.text import said
from minippo.settings import check_value, is_own
from minippo.tasks.own_file import label_of

LONGEST = 2**20  # bytes of a line that are read
MOST_REPEATED = 1000  # characters of a prompt, above its answers
COLUMNS = (("token", 16), ("log-prob", 9), ("value", 8), ("KL", 8), ("advantage", 10))


class Line(NamedTuple):
    """A line of the input."""

    number: int
    text: str | None
    trouble: str = ""  # why there is no text


def lines_of(stream: Any) -> Iterator[Line]:
    """The lines of standard input, whatever bytes are in them."""
    stream = getattr(stream, "buffer", stream)
    for number, line in enumerate(iter(lambda: stream.readline(LONGEST), stream.read(0)), start=1):
        data = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
        if len(data) >= LONGEST:
            read_to_the_end(stream, line)
            yield Line(number, None, f"too long: more than {LONGEST} bytes")
            continue
        try:
            yield Line(number, data.decode("utf-8").strip("\ufeff").strip())
        except UnicodeDecodeError:
            yield Line(number, None, "not UTF-8 text")


def read_to_the_end(stream: IO[Any], line: Any) -> None:
    """Read on until the line is over."""
    while line and line[-1:] not in ("\n", b"\n"):
        line = stream.readline(LONGEST)


def show(speaker: Speaker, screen: Screen, prompt: str, *, seed: int, verbose: bool) -> None:
    """The answers to one prompt. InputError: it cannot be asked."""
    ids = speaker.prompt_ids(prompt)
    answers = {}
    for stage in speaker.models:  # each draws with the same numbers
        answers[stage] = speaker.answer(stage, ids, torch.Generator().manual_seed(seed))
    screen.beside([*answers], [with_marks(answer) for answer in answers.values()])
    for trouble in dict.fromkeys(answer.trouble for answer in answers.values() if answer.trouble):
        screen.note(trouble)
    if verbose:
        for stage, answer in answers.items():
            for line in token_lines(stage, answer.tokens):
                screen.note(line)
    screen.note("")


def with_marks(answer: Answer) -> str:
    """'a baker in rome  [score 1.20, gold 2.0]'."""
    numbers = {"score": answer.score, "gold": answer.gold}
    marks = [f"{name} {value:.2f}" for name, value in numbers.items() if value is not None]
    return f"{said(answer.text)}  [{', '.join(marks)}]" if marks else said(answer.text)


def token_lines(stage: str, tokens: Sequence[Token]) -> list[str]:
    """A line for each token, under a header."""
    (first, width), *others = COLUMNS
    lines = [f"{stage + ': ' + first:<{width}}" + "".join(f"{name:>{w}}" for name, w in others)]
    for text, *numbers in tokens:
        cells = [
            f"{'-' if value is None else format(value, '.3f'):>{w}}"
            for value, (_, w) in zip(numbers, others, strict=True)
        ]
        lines.append(f"{text:<{width}}" + "".join(cells))
    return lines


def talk(speaker: Speaker, screen: Screen, *, seed: int, verbose: bool) -> None:
    """Answer line by line until there are no more, or nobody reads the answers."""
    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    if at_terminal:
        screen.note(f"{' and '.join(speaker.models)}; one prompt a line, Ctrl-D ends")
        if speaker.unknown_words("\0"):
            screen.note(speaker.what_is_known())
    lines = iter(()) if sys.stdin is None else lines_of(sys.stdin)
    while getattr(sys.stdout, "error", None) is None:
        if at_terminal:
            print("> ", end="", flush=True)
        line = next(lines, None)
        if line is None:
            break
        try:
            if line.text is None:
                raise InputError(line.trouble)
            if line.text and not at_terminal:  # where nobody has seen it typed
                screen.paragraph(f"> {textwrap.shorten(line.text, MOST_REPEATED)}")
            if line.text:
                show(speaker, screen, line.text, seed=seed + line.number - 1, verbose=verbose)
        except InputError as error:
            screen.note(f"line {line.number}: {error}")
    if at_terminal:
        print()


def checked(name: str, text: str, flag: str | None = None) -> Any:
    """The value of a flag that is a setting too, or has the values of one. InputError names the
    flag."""
    try:
        value = read_value(name, text)
        check_value(FIELDS[name][1], value)
    except (ValueError, InputError) as error:
        wrong = str(error).removeprefix("--").removeprefix(name)
        raise InputError(f"--{flag or name}{wrong}") from error
    return value


def make_parser() -> Parser:
    """The flags."""
    parser = Parser(prog="python -m minippo.talk", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="RUN [prompt]", help="the folder of the run")
    parser.add_argument("--run", metavar="DIR", help="the same, by name")
    parser.add_argument(
        "--stage",
        nargs="+",
        metavar="STAGE",
        help=f"which models: {', '.join(LANGUAGE_MODELS)} (default: sft policy)",
    )
    parser.add_argument("--temperature", metavar="FLOAT", help="of sampling (default: the run's)")
    parser.add_argument("--seed", default="0", metavar="INT", help="of the draws (default: 0)")
    for flag, name in (("task", "Class"), ("reward", "function")):
        parser.add_argument(
            f"--{flag}",
            metavar=f"FILE.py:{name}",
            help=f"again, where the run's {flag} is a file of your own: shows its scores",
        )
    parser.add_argument("--verbose", action="store_true", help="every token with its numbers")
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    own = make_parser().parse_args(arguments)
    words = own.words if own.run is None else [own.run, *own.words]
    if not 1 <= len(words) <= 2:
        what = "which run?" if not words else f"{words[2]!r} is a word too many; put the prompt"
        hint = " python -m minippo.talk RUN" if not words else " between quotation marks"
        raise InputError(what + hint)
    for stage in own.stage or ():
        check_stage(stage, LANGUAGE_MODELS)
    temperature = None if own.temperature is None else checked("temperature", own.temperature)
    seed = checked("seed", own.seed)
    stages = [*dict.fromkeys(own.stage or ())]
    speaker = open_speaker(words[0], stages, temperature, task=own.task, reward=own.reward)
    torch.set_num_threads(1)  # one token at a time leaves nothing for a second
    screen = Screen()
    for flag, named in (("task", own.task), ("reward", own.reward)):
        recorded = getattr(speaker.config.run, flag)
        if named is None and is_own(recorded):
            screen.note(f"no scores of {label_of(recorded)}, unless you name it with --{flag}")
    if len(words) == 2:
        show(speaker, screen, words[1], seed=seed, verbose=own.verbose)
    else:
        talk(speaker, screen, seed=seed, verbose=own.verbose)
    return 0
