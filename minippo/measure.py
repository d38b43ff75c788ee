"""The same run on several seeds, each in a process of its own, and a table of all of them with the
worst below.

    python -m minippo.measure --seeds 0-9 --root runs/measure --task tldr --preset default

Whatever is not --seeds or --root goes to minippo.train_toy. The table is Markdown, on the screen
and in ROOT/table.md. A seed whose summary.json stands in ROOT already is not run again, if it was
made with the same settings; a folder that an interrupted run has left must be deleted first.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from minippo.command_line import parse_arguments
from minippo.errors import InputError
from minippo.runs.files import write_text_whole
from minippo.runs.read import read_json

COLUMNS = (  # header, how to get it from a summary, which of two values is the worse one, decimals
    ("seconds", lambda s: s["seconds"]["total"], max, 0),
    ("in loops", lambda s: s["seconds_in_matmul_loops"], max, 0),
    ("MiB", lambda s: s["peak_memory_mib"], max, 0),
    ("RM accuracy", lambda s: s["reward_model"]["heldout_accuracy"], min, 3),
    ("ceiling", lambda s: s["reward_model"]["annotator_ceiling"], min, 3),
    ("skill", lambda s: s["reward_model"]["skill"], min, 3),
    ("gold share before", lambda s: _share(s, "sft"), min, 3),
    ("gold share after", lambda s: _share(s, "policy"), min, 3),
    ("win rate", lambda s: s["win_rate"]["value"], min, 3),
    ("optimality", lambda s: s["optimality"], min, 3),
    ("ESS", lambda s: s["optimum"]["effective_sample_size"], min, 0),
    ("least ESS", lambda s: s["optimum"]["effective_sample_size_min"], min, 0),
    ("EOS", lambda s: s["policy"]["eos_rate"], min, 3),
    ("KL", lambda s: s["policy"]["kl"], max, 2),
    ("P(right) before", lambda s: _right(s, "before"), min, 3),
    ("P(right) after", lambda s: _right(s, "after"), min, 3),
)


def table(summaries):
    """Lines of a Markdown table: a row per summary, and the worst of each column; columns without a
    number are left out."""
    columns = [
        column for column in COLUMNS if all(column[1](summary) is not None for summary in summaries)
    ]
    rows = [
        [f"{get(summary):.{decimals}f}" for _, get, _, decimals in columns] for summary in summaries
    ]
    worst = [
        f"{worse(get(summary) for summary in summaries):.{decimals}f}"
        for _, get, worse, decimals in columns
    ]
    lines = [["seed", *(header for header, *_ in columns)], ["---:"] * (len(columns) + 1)]
    lines += [[str(summary["seed"]), *row] for summary, row in zip(summaries, rows)] + [
        ["worst", *worst]
    ]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _share(summary, which):
    """Mean gold of a stage over the best possible."""
    return None if summary["gold_max"] is None else summary[which]["gold"] / summary["gold_max"]


def _right(summary, when):
    """The mean probability of the right answers that the run watched."""
    rows = summary["answers"]
    return None if not rows else sum(row[f"right_{when}"] for row in rows) / len(rows)


def has_settings(out, arguments):
    """Was the run in this folder made with these arguments?"""
    try:
        found = read_json(out / "config.json")
        found.pop("versions", None)
        return found == parse_arguments(arguments)[0].to_dict()
    except InputError:
        return False


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m minippo.measure",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", default="0-9", help="first-last, or one number")
    parser.add_argument(
        "--root", default="runs/measure", type=Path, help="where the run folders and the table go"
    )
    own, passed_on = parser.parse_known_args(arguments)
    try:
        first, last = (int(end) for end in (own.seeds.split("-") * 2)[:2])
        if own.seeds.count("-") > 1 or last < first:
            raise ValueError
    except ValueError:
        parser.error(f"--seeds: wanted first-last, as in 0-9, got {own.seeds!r}")
    summaries = []
    for seed in range(first, last + 1):
        out, arguments = own.root / f"seed-{seed}", [*passed_on, "--seed", str(seed)]
        if not (out / "summary.json").exists():
            command = [
                sys.executable,
                "-m",
                "minippo.train_toy",
                *arguments,
                "--out",
                str(out),
                "--quiet",
            ]
            status = subprocess.run(command).returncode
            if status != 0:
                return status
        elif not has_settings(out, arguments):
            parser.error(f"{out}: holds a run with other settings; name another --root")
        try:
            summaries.append(read_json(out / "summary.json"))
        except InputError as error:
            parser.error(str(error))
    lines = table(summaries)
    write_text_whole(own.root / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
