"""The page of a report: one HTML file with all that it shows in it, which asks the network for
nothing and opens from disk.

A Content-Security-Policy allows the one style sheet and the one script of the page, by their
digests, and nothing else: text of a run that looked like a script would not be one. Where there is
no JavaScript all figures and tables are there all the same.
"""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from minippo.errors import InputError
from minippo.runs.read import first_words
from minippo.runs.report import outcome
from minippo.runs.report.curves import LOOKS, Panel, chart, data_of, line_of
from minippo.runs.report.plane import plane
from minippo.runs.report.read import Files
from minippo.runs.report.samples import means_at, over_time, samples_table
from minippo.runs.report.strip import strips
from minippo.runs.report.texts import as_data, escaped, section, short, table
from minippo.runs.text import counted

MARK = "<!doctype html><!-- a report of minippo -->"  # by which a page is known as ours
PANELS = (  # title, unit, (metric, name of its line); the first metric is the one that runs share
    (
        "Score",
        "mean of a rollout",
        ("objective/scores", "score"),
        ("objective/rlhf_reward", "less KL"),
    ),
    ("Gold", "mean of a rollout", ("objective/gold", "gold")),
    (
        "KL",
        "from the fine-tuned model, nats per response",
        ("objective/kl", "k1"),
        ("objective/kl_policy_to_ref_exact", "exact"),
    ),
    ("Entropy", "nats per token", ("policy/entropy_avg", "entropy")),
    (
        "Clip fraction",
        "share of tokens",
        ("policy/clipfrac_avg", "policy"),
        ("val/clipfrac_avg", "value"),
    ),
    (
        "Explained variance",
        "of the critic, at most 1",
        ("val/explained_variance_returns", "returns"),
        ("val/explained_variance", "targets"),
    ),
)
MORE = (
    ("Length", "tokens per response", ("val/response_length", "length")),
    ("EOS", "share of responses", ("val/eos_rate", "eos")),
    ("Spread of the scores", "standard deviation", ("val/score_std", "std")),
    (
        "KL of an update",
        "old to new policy, nats per token",
        ("policy/kl_old_to_policy", "after"),
        ("policy/approxkl_avg", "steps"),
    ),
    ("Norm of the gradient", "before it is clipped", ("policy/grad_norm", "norm")),
    ("Loss of the policy", "", ("loss/policy_avg", "loss")),
    ("Loss of the critic", "", ("loss/value_avg", "loss")),
    ("Learning rate", "", ("lr", "lr")),
    ("Price of the KL", "score per nat", ("objective/kl_coef", "kl_coef")),
)
IN_THE_TABLE = 60  # updates; of more some are left out
FAULTS = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
MOST_RUNS = 26


def make_page(runs: Sequence[Files]) -> str:
    """The page of one run, or of several side by side. InputError: their files are not those of
    this version."""
    if not 1 <= len(runs) <= MOST_RUNS:
        raise InputError(f"RUN: wanted 1 to {MOST_RUNS} runs, got {len(runs)}")
    try:
        return page(runs)
    except (*FAULTS, ZeroDivisionError) as error:
        names = ", ".join(run.name for run in runs)
        raise InputError(
            f"{names}: not the files of this version ({first_words(error)})"
        ) from error


def page(runs: Sequence[Files]) -> str:
    """The same, with whatever error the files may lead to."""
    letters = [""] if len(runs) == 1 else [f"{chr(65 + i)} " for i in range(len(runs))]
    panels = [panel_of(spec, runs, letters) for spec in (*PANELS, *MORE)]
    main, more = (
        [panel for panel in part if panel is not None]
        for part in (panels[: len(PANELS)], panels[len(PANELS) :])
    )
    body = header(runs, letters) + "<main>" + contents(runs, letters, main, more) + "</main>"
    data = {"panels": [data_of(panel) for panel in (*main, *more)], "moments": moments_of(runs)}
    data["means"] = [means_at(runs[0].moments, update) for update in data["moments"]]
    title = outcome.name_of(runs[0].config) if len(runs) == 1 else f"{len(runs)} runs"
    return document(f"minippo: {title}", body, as_data(data))


def document(title: str, body: str, data: str) -> str:
    """A whole HTML document around what the page shows."""
    style, script = (read_own(name) for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        f'{MARK}\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escaped(title)}</title><style>{style}</style></head>\n<body>\n{body}"
        f'<script type="application/json" id="data">{data}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )


def read_own(name: str) -> str:
    """The style sheet or the script, which lie beside this file."""
    return files("minippo.runs.report").joinpath(name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """What a Content-Security-Policy calls a style sheet or a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()


def header(runs: Sequence[Files], letters: Sequence[str]) -> str:
    """The top of the page: what was run, and the three sentences of each."""
    if len(runs) == 1:
        (run,) = runs
        about = f"<h1>{escaped(outcome.name_of(run.config))}</h1>"
        content = about + outcome.banner(run) + outcome.cards(run)
    else:
        content = f"<h1>{len(runs)} runs side by side</h1>" + "".join(
            f'<div class="run"><h2><svg class="key" viewBox="0 0 30 10" aria-hidden="true">'
            f'<path class="line look{i % LOOKS}" d="M1 5h28"/></svg> {letter}<span>'
            f"{escaped(run.name)}</span> <small>{escaped(outcome.name_of(run.config))}</small></h2>"
            f"{outcome.banner(run)}{outcome.cards(run)}</div>"
            for i, (letter, run) in enumerate(zip(letters, runs, strict=True))
        )
    kicker = f'<p class="kicker">minippo, report of {counted(len(runs), "run")}</p>'
    return f"<header>{kicker}{content}</header>\n"


def contents(
    runs: Sequence[Files], letters: Sequence[str], main: Sequence[Panel], more: Sequence[Panel]
) -> str:
    """The parts of the page."""
    one = runs[0] if len(runs) == 1 else None
    marks = [] if one is None else [(f.update, f.code) for f in one.findings if f.update]
    answers = [(letter.strip(), run.samples) for letter, run in zip(letters, runs, strict=True)]
    parts = [
        ("outcome", "Outcome", "" if one else outcome.outcomes(runs, letters), ""),
        ("diagnostics", "Diagnostics", outcome.diagnostics(runs, letters), DIAGNOSED),
        ("curves", "Curves", charts(main, more, marks) + numbers(one), CURVES),
        ("over-time", "Samples over time", over_time(one.moments) if one else "", OVER_TIME),
        ("tokens", "Token by token", strips(one.moments) if one else "", TOKENS),
        ("samples", "Samples", samples_table(answers), SAMPLES),
        ("frontier", "Score against KL", frontiers(runs, letters), FRONTIER),
        ("configuration", "Configuration", outcome.configuration(runs, letters), ""),
        ("seconds", "Seconds", outcome.seconds(runs, letters), ""),
    ]
    there = [part for part in parts if part[2]]
    links = "".join(f'<a href="#{name}">{escaped(title)}</a>' for name, title, *_ in there)
    return f"<nav>{links}</nav>\n" + "".join(section(*part) for part in there)


DIAGNOSED = "P001 to P014 are explained on docs/diagnostics.md."
CURVES = (
    "One point for each update, measured on its rollout. Point at a curve, or take the arrow keys, "
    "to read all of them at one update."
)
OVER_TIME = (
    "The same prompts, answered by the policy of that moment; update 0 is the fine-tuned model. "
    "Here one can watch a policy get better, or a hack begin."
)
TOKENS = (
    "Answers of the newest moment; point at a token, or take the arrow keys. The log-prob before "
    "is the fine-tuned model's, after the policy's; value, reward and advantage are the token's, "
    "the advantage before it is whitened; KL is exact, of what the token was drawn from."
)
SAMPLES = "Prompts of the evaluation, answered by the fine-tuned model and by the policy."
FRONTIER = (
    "The dark line is the best that any policy can reach at each KL; the run begins at the "
    "reference and climbs."
)


def panel_of(spec: Any, runs: Sequence[Files], letters: Sequence[str]) -> Panel | None:
    """A panel with all that the runs have for it: of one run every line, of several the first line
    of each; None where they have nothing."""
    title, unit, *metrics = spec
    if len(runs) == 1:
        lines = [line_of(name, runs[0].rows, metric, i) for i, (metric, name) in enumerate(metrics)]
    else:
        lines = [
            line_of(letter.strip(), run.rows, metrics[0][0], i % LOOKS)
            for i, (letter, run) in enumerate(zip(letters, runs, strict=True))
        ]
    known = [line for line in lines if line is not None]
    return Panel(title, unit, known) if known else None


def charts(main: Sequence[Panel], more: Sequence[Panel], marks: Sequence[tuple[int, str]]) -> str:
    """The panels, the less important ones behind a button."""
    if not main:
        return ""
    shown = f'<div class="panels">{"".join(chart(panel, marks) for panel in main)}</div>'
    if more:
        rest = "".join(chart(panel, marks) for panel in more)
        shown += (
            f'<details><summary>More curves</summary><div class="panels">{rest}</div></details>'
        )
    return shown


def numbers(run: Files | None) -> str:
    """The curves of a run as a table."""
    if run is None or not run.rows:
        return ""
    metrics = [metric for _, _, *lines in PANELS for metric, _ in lines[:1]]
    metrics = [m for m in metrics if any(row.get(m) is not None for row in run.rows)]
    step = -(-len(run.rows) // IN_THE_TABLE)
    body = [
        [str(row["update"]), *(short(row.get(metric)) for metric in metrics)]
        for i, row in enumerate(run.rows)
        if i % step == 0 or i == len(run.rows) - 1
    ]
    head = ["update", *(metric.rpartition("/")[2] for metric in metrics)]
    return (
        "<details><summary>The same as a table</summary>"
        + table(head, body, "numbers")
        + "</details>"
    )


def frontiers(runs: Sequence[Files], letters: Sequence[str]) -> str:
    """The plane of each run that is over: scores of two reward models have no common plane."""
    planes = []
    for letter, run in zip(letters, runs, strict=True):
        picture = plane(run.summary) if run.summary is not None else ""
        if picture:
            planes.append(f"<div>{f'<h3>{letter}</h3>' if letter else ''}{picture}</div>")
    return f'<div class="planes">{"".join(planes)}</div>' if planes else ""


def moments_of(runs: Sequence[Files]) -> list[int]:
    """The updates at which the slider stops."""
    if len(runs) > 1:
        return []
    return sorted({row["update"] for row in runs[0].moments})
