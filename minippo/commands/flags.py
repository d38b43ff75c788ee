"""Flags to settings: a flag for every field of commands/config.py, and one clear line for whatever
is wrong."""

import argparse
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, NamedTuple

from minippo.algorithms import readers_of
from minippo.commands.config import FIELDS, SECTIONS, Config, check_used, resolve, stored_settings
from minippo.commands.wrapper import Parser
from minippo.errors import InputError
from minippo.runs.read import first_words, read_json
from minippo.settings import kind_of, may_be_none

MAY_CHANGE = ("threads", "save_every", "data", "start_from")  # when a run is taken up again
OWN_FLAGS = {
    "out": "folder of the run; without it runs/<task>-<algorithm>-<preset>-<seed>",
    "resume": "go on with the run in --out, from its last checkpoint",
    "quiet": "print the result only",
}


class Request(NamedTuple):
    """What the user asks for."""

    config: Config
    out: str | None
    resume: bool
    quiet: bool


def parse_arguments(arguments: Sequence[str] | None = None) -> Request:
    """The Request of the arguments, by default those of the process. InputError
    names the flag.

    With --resume the configuration is that of the run in --out, and a flag that says otherwise is
    refused, but for those that MAY_CHANGE.
    """
    parser = _make_parser()
    values, unknown = parser.parse_known_args(
        _join_negative_numbers(sys.argv[1:] if arguments is None else arguments)
    )
    if unknown:
        raise InputError(_about_unknown(unknown[0]))
    settings = {name: _read(name, text) for name, text in vars(values).items() if name in FIELDS}
    try:
        config = config_of_run(values.out, settings) if values.resume else resolve(settings)
        check_used(settings)
    except ValueError as error:
        raise InputError(f"--{error}") from error
    return Request(config, values.out, values.resume, values.quiet)


def config_of_run(out: str | None, settings: Mapping[str, Any]) -> Config:
    """The Config of the run in the folder `out`, with what MAY_CHANGE as it is set now. InputError
    when there is none, or when another setting differs from it."""
    if out is None:
        raise InputError("--resume: name the folder of the run with --out")
    path = Path(out) / "config.json"
    if not os.path.lexists(path):
        raise InputError(f"--resume: {out} holds no run; leave --resume out to start one there")
    stored = read_json(path)
    try:
        was = stored_settings(stored)
        resolve(was)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not the configuration of a run of this version ({first_words(error)})"
        ) from error
    for name, value in settings.items():
        if value != was[name] and (name not in MAY_CHANGE or None in (value, was[name])):
            raise InputError(
                f"--{name}: the run in {out} was made with {was[name]}, got "
                f"{value}; --resume changes nothing"
            )
    return resolve({**was, **settings})


def _make_parser() -> Parser:
    parser = Parser(
        prog="python -m minippo.train_toy",
        argument_default=argparse.SUPPRESS,
        description="A toy GPT goes through all of RLHF: pretraining, fine-tuning, preferences, "
        "reward model, PPO. Defaults are those of --task tldr.",
    )
    for section, dataclass in SECTIONS.items():
        group = parser.add_argument_group(section, dataclass.__doc__)
        for name, (owner, item) in FIELDS.items():
            if owner == section:
                _add_flag(group, name, item)
    parser.add_argument("--out", default=None, metavar="DIR", help=OWN_FLAGS["out"])
    for name in ("resume", "quiet"):
        parser.add_argument(f"--{name}", action="store_true", default=False, help=OWN_FLAGS[name])
    return parser


def _add_flag(group: Any, name: str, item: Field) -> None:
    spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    only = f"; for {', '.join(readers)}" if (readers := readers_of(name)) else ""
    text = f"{item.metadata['help']} (default: {str(item.default).lower()}{only})"
    if kind_of(item) is bool:
        group.add_argument(*spellings, dest=name, action=argparse.BooleanOptionalAction, help=text)
    else:
        choices = item.metadata["choices"]
        metavar = "|".join(choices) if choices else kind_of(item).__name__.upper()
        group.add_argument(*spellings, dest=name, metavar=metavar, help=text)


def _join_negative_numbers(arguments: Sequence[str]) -> list[str]:
    """["--a", "-5e0"] -> ["--a=-5e0"]: argparse takes a negative number with an exponent for a
    flag."""
    joined = []
    for argument in arguments:
        if (
            joined
            and joined[-1].startswith("--")
            and "=" not in joined[-1]
            and _is_negative_number(argument)
        ):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _is_negative_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return text.startswith("-")


def _read(name, text):
    """The flag's text as the type of its field."""
    item = FIELDS[name][1]
    kind = kind_of(item)
    if isinstance(text, bool):
        return text
    if may_be_none(item) and text.lower() == "none":
        return None
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"--{name}: wanted {what}, got {text!r}") from None


def _about_unknown(argument):
    """Unknown flag, and the nearest one that there is."""
    name = argument.split("=")[0]
    if not name.startswith("--"):
        return f"{argument}: not a flag; flags begin with --"
    known = [f"--{field}" for field in (*FIELDS, *OWN_FLAGS)]
    known += [f"--no-{field}" for field, (_, item) in FIELDS.items() if kind_of(item) is bool]
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name}: unknown flag" + (
        f"; did you mean {near[0]}?" if near else "; --help lists them all"
    )
