"""What the models answered: before and after in a table that can be searched, and the same prompts
at some moments of the training."""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

from minippo.runs.report.texts import UNKNOWN, escaped, number, short, table
from minippo.runs.stats import mean
from minippo.runs.text import said

Row = Mapping[str, Any]
ORDERS = (("", "as asked"), ("gold", "least gold first"), ("score", "highest score first"))


def samples_table(runs: Sequence[tuple[str, Sequence[Row]]]) -> str:
    """The rows of samples.jsonl; of several runs [(name, rows)] the answers to one prompt beside
    each other."""
    if not any(rows for _, rows in runs):
        return ""
    if len(runs) == 1:
        head = ["prompt", "before", "after"]
        body = [
            [escaped(row["prompt"]), scored(row, "before"), scored(row, "after")]
            for row in runs[0][1]
        ]
    else:
        head, body = ["prompt", "before, A", *(name for name, _ in runs)], beside(runs)
    return (
        '<p class="search" hidden><label>Search <input type="search" id="search" '
        'autocomplete="off"></label> <label>Order <select id="order">'
        + "".join(f'<option value="{name}">{words}</option>' for name, words in ORDERS)
        + '</select></label> <output id="found"></output></p>'
        + '<div class="box" tabindex="0" role="region" aria-label="samples">'
        + table(head, body, "samples")
        + "</div>"
    )


def beside(runs: Sequence[tuple[str, Sequence[Row]]]) -> list[list[str]]:
    """A row for each prompt that any run was asked, in the order in which they come."""
    answers = [{row["prompt"]: row for row in rows} for _, rows in runs]
    prompts = dict.fromkeys(prompt for rows in answers for prompt in rows)
    return [
        [
            escaped(prompt),
            scored(answers[0].get(prompt), "before"),
            *(scored(rows.get(prompt), "after") for rows in answers),
        ]
        for prompt in prompts
    ]


def scored(row: Row | None, when: str) -> str:
    """A response, and below it what it got."""
    if row is None:
        return ""
    return answer(row[when], row.get(f"gold_{when}"), row.get(f"score_{when}"))


def answer(text: str, gold: float | None, score: float | None) -> str:
    """A response with its marks; that there is none is said."""
    seen = f'<span class="text">{escaped(text)}</span>'
    shown = seen if text.strip() else f"<i>{said(text)}</i>"
    found = [(name, x) for name, x in (("gold", gold), ("score", score)) if x is not None]
    marks = ", ".join(
        f'{name} <span data-{name}="{short(x)}">{number(x)}</span>' for name, x in found
    )
    return f'{shown} <small class="marks">{marks}</small>'


def over_time(rows: Sequence[Row]) -> str:
    """The rows of samples_over_time.jsonl: for each prompt its answer at each moment. With
    JavaScript one moment is shown at a time, with a slider."""
    if not rows:
        return ""
    updates = sorted({row["update"] for row in rows})
    prompts = dict.fromkeys(row["prompt"] for row in rows)
    bodies = []
    for prompt in prompts:
        own = sorted((row for row in rows if row["prompt"] == prompt), key=lambda r: r["update"])
        lines = "".join(
            f'<tr data-update="{row["update"]}"><th scope="row">{row["update"]}</th><td>'
            f"{answer(row['response'], row['gold'], row['score'])}</td>"
            f'<td class="kl">{number(row["kl"])}</td></tr>'
            for row in own
        )
        title = f'<th colspan="3" scope="rowgroup">{escaped(prompt)}</th>'
        bodies.append(f'<tbody><tr class="prompt">{title}</tr>{lines}</tbody>')
    return (
        slider(updates)
        + '<table class="moments"><thead><tr><th scope="col">update</th><th scope="col">answer</th>'
        + '<th scope="col">KL</th></tr></thead>'
        + "".join(bodies)
        + "</table>"
        + means_table(rows, updates)
    )


def slider(updates: Sequence[int]) -> str:
    """The control, which only JavaScript shows."""
    return (
        f'<p class="slider" hidden><button type="button" id="play">play</button> '
        f'<label>update <input type="range" id="moment" min="0" max="{len(updates) - 1}" '
        f'value="{len(updates) - 1}" step="1"></label> <output id="which"></output> '
        '<label><input type="checkbox" id="all"> all moments</label></p>'
    )


MEANS = ("gold", "score", "kl")


def means(rows: Sequence[Row], update: int) -> list[str]:
    """Gold, score and KL of these prompts at a moment."""
    own = [row for row in rows if row["update"] == update]
    known = [[row[name] for row in own if row[name] is not None] for name in MEANS]
    return [number(mean(values) if values else None) for values in known]


def means_at(rows: Sequence[Row], update: int) -> str:
    """'6, mean gold 2.85, score 0.64, KL 1.60'."""
    pairs = zip(("gold", "score", "KL"), means(rows, update), strict=True)
    return f"{update}, mean " + ", ".join(f"{n} {text}" for n, text in pairs if text != UNKNOWN)


def means_table(rows: Sequence[Row], updates: Sequence[int]) -> str:
    """The means of all moments, and how often nothing was answered."""
    empty = [
        sum(not row["response"] for row in rows if row["update"] == update) for update in updates
    ]
    body = [[str(u), *means(rows, u), str(n)] for u, n in zip(updates, empty, strict=True)]
    head = ["update", "gold", "score", "KL", "empty answers"]
    known = [any(line[i] != UNKNOWN for line in body) for i in range(len(head))]
    head, *body = ([*compress(line, known)] for line in (head, *body))  # no gold without a rule
    return table(head, body, "means", "Means over these prompts")
