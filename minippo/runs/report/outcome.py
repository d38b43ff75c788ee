"""What a run came to: the three sentences, what its diagnostics say, its settings and its seconds;
of several runs the same in columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from minippo.runs.diagnostics import AT_THE_END, BEFORE, DIAGNOSTICS, REFUSED, is_hacked
from minippo.runs.report.read import AT_WORK, FINISHED, Files
from minippo.runs.report.texts import UNKNOWN, escaped, flat, number, sentence, short, table
from minippo.runs.sentences import at_most, percent, sentences
from minippo.runs.text import counted

# settings that say where a run was made and not what it is
PLACES = ("data", "start_from", "device", "threads", "save_every", "report", "tensorboard")
NUMBERS = (  # of a summary, for several runs beside each other: label, path to it, decimals
    ("gold before", "sft gold", 3),
    ("gold after", "policy gold", 3),
    ("score before", "sft score", 3),
    ("score after", "policy score", 3),
    ("win rate", "win_rate value", 3),
    ("optimality", "optimality", 3),
    ("KL, nats", "policy kl", 2),
    ("objective", "policy objective", 3),
    ("EOS rate", "policy eos_rate", 3),
    ("length", "policy length", 2),
    ("reward model's accuracy", "reward_model heldout_accuracy", 3),
    ("parameters", "parameters", 0),
)


def name_of(config: Mapping[str, Any]) -> str:
    """'tldr, ppo, preset quick, seed 0'."""
    run = flat(config)["run"]
    return f"{run['task']}, {run['algorithm']}, preset {run['preset']}, seed {run['seed']}"


def updates_of(run: Files) -> tuple[int, int]:
    """(updates that were made, updates that there will be)."""
    return len(run.rows), int(setting(run.config, "num_updates"))


def setting(config: Mapping[str, Any], name: str) -> Any:
    """A setting, in whatever section it is. KeyError: it is in none."""
    for fields in config.values():
        if isinstance(fields, dict) and name in fields:
            return fields[name]
    raise KeyError(name)


def banner(run: Files) -> str:
    """A line where the run is not over."""
    if run.state == FINISHED:
        return ""
    done, wanted = updates_of(run)
    where = f"update {done} of {wanted}" if done else "no update of the policy yet"
    what = (
        "It is going on; the same command shows more later."
        if run.state == AT_WORK
        else "It was stopped; train_toy --resume --out with its folder goes on."
    )
    return f'<p class="banner">This run is not over: {where}. {what}</p>'


def cards(run: Files) -> str:
    """The three sentences, each with what it rests on."""
    if run.summary is None:
        items = [(text, "") for text in so_far(run.rows)]
    else:
        items = list(zip(sentences(run.summary), grounds(run), strict=True))
    hacked = is_hacked(finding.code for finding in run.findings)
    cells = "".join(
        f'<li class="{"hacked" if hacked and i == 0 else "card"}"><b>{sentence(text)}</b>'
        f"<small>{escaped(ground)}</small></li>"
        for i, (text, ground) in enumerate(items)
    )
    return f'<ul class="cards">{cells}</ul>'


def so_far(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sentences of a run that is not over, from its rollouts."""
    if not rows:
        return ["nothing is known of the policy yet"]
    found = []
    for name, metric in (("gold", "gold"), ("score", "scores"), ("KL", "kl")):
        first, last = (r.get(f"objective/{metric}") for r in (rows[0], rows[-1]))
        if first is not None and last is not None:
            found.append(f"{name} {number(first)} -> {number(last)} so far")
    return found


def grounds(run: Files) -> list[str]:
    """What each of the three sentences rests on."""
    summary: Any = run.summary
    win, optimum, policy = (summary[name] for name in ("win_rate", "optimum", "policy"))
    answers = f"the mean of {counted(win['n'], 'answer')} before and as many after"
    rule = "" if summary["reward_model"] is None else ", by a rule that the training never sees"
    first = answers + (rule if policy["gold"] is not None else "")
    second = ""
    if win["value"] is not None:
        second = (
            f"against the fine-tuned model, ties half; 95 % interval {percent(win['low'])} to "
            f"{percent(win['high'])}; {counted(win['n'], 'answer')}, judged by {win['judge']}"
        )
    price = short(setting(run.config, "kl_coef"))
    third = (
        f"objective {number(policy['objective'], 3)} of {number(optimum['objective'], 3)} possible "
        f"at {price} per nat of KL; KL {number(policy['kl'])} nats"
    )
    return [first, second, third]


def diagnostics(runs: Sequence[Files], letters: Sequence[str]) -> str:
    """What fired, and below it what was asked."""
    items = []
    for letter, run in zip(letters, runs, strict=True):
        for finding in run.findings:
            when = f", update {finding.update}" if finding.update else ", before the policy"
            items.append(
                f"<li><b>{escaped(letter + finding.code)} {escaped(finding.name)}</b>"
                f"{escaped(when)}: {escaped(finding.seen)}</li>"
            )
    found = f'<ul class="findings">{"".join(items)}</ul>'
    if not items:
        updates = ", ".join(counted(len(run.rows), "update") for run in runs)
        found = f"<p>Nothing found in {updates}.</p>"
    asked = [
        (code, name, first_sentence(look))
        for code, name, look in (*DIAGNOSTICS, *AT_THE_END, *BEFORE)
    ]
    body = [[*map(escaped, row)] for row in sorted((*asked, *REFUSED))]
    questions = table(["code", "name", "when all is well"], body, "asked")
    return found + f"<details><summary>What is asked</summary>{questions}</details>"


def first_sentence(function: Any) -> str:
    """What a diagnostic looks for, out of its own docstring."""
    words = " ".join((function.__doc__ or "").split()).partition(". ")[2]
    return words.partition("; report:")[0].partition("; drawn:")[0].rstrip(".")


def outcomes(runs: Sequence[Files], letters: Sequence[str]) -> str:
    """The numbers of several runs in columns."""
    body = []
    for label, path, decimals in NUMBERS:
        cells = [number(at(run.summary, path), decimals) for run in runs]
        if label == "optimality":
            bounds = [at_most(run.summary) if run.summary else "" for run in runs]
            cells = [bound + cell for bound, cell in zip(bounds, cells, strict=True)]
        if any(cell != UNKNOWN for cell in cells):
            body.append([label, *cells])
    return table(["", *(letter.strip() for letter in letters)], body, "outcomes") if body else ""


def at(summary: Any, path: str) -> Any:
    """The number at a path of names; None where it is not there."""
    for name in path.split():
        summary = None if summary is None else summary.get(name)
    return summary


def configuration(runs: Sequence[Files], letters: Sequence[str]) -> str:
    """All settings of a run; of several those in which they differ."""
    settings = [flat(run.config) for run in runs]
    if len(runs) == 1:
        parts = []
        for section, fields in settings[0].items():
            body = [[escaped(name), escaped(text)] for name, text in fields.items()]
            if body:
                parts.append(
                    f'<div class="group"><h3>{escaped(section)}</h3>'
                    + table(["setting", "value"], body, "settings")
                    + "</div>"
                )
        return f'<div class="groups">{"".join(parts)}</div>'
    body = []
    for section, name in {(s, n): 0 for found in settings for s in found for n in found[s]}:
        texts = [found.get(section, {}).get(name, UNKNOWN) for found in settings]
        if len({*texts}) > 1 and section != "versions" and name not in PLACES:
            body.append([escaped(name), *map(escaped, texts)])
    if not body:
        return "<p>The settings are the same.</p>"
    return table(["setting", *(letter.strip() for letter in letters)], body, "outcomes")


def seconds(runs: Sequence[Files], letters: Sequence[str]) -> str:
    """How long each stage took, with a bar; of several runs in columns."""
    found: list[Mapping[str, Any]] = [run.summary["seconds"] if run.summary else {} for run in runs]
    stages = dict.fromkeys(stage for part in found for stage in part)
    if not stages:
        return ""
    head = ["stage", *(f"{letter}seconds" for letter in letters)]
    body = [
        [escaped(stage), *(bar(part.get(stage), part.get("total")) for part in found)]
        for stage in stages
    ]
    memory = [number(at(run.summary, "peak_memory_mib"), 0) for run in runs]
    body.append(["peak memory, MiB", *memory])
    return table(head, body, "seconds")


def bar(value: float | None, total: float | None) -> str:
    """A number of seconds, and its share as a bar."""
    if value is None or not total:
        return UNKNOWN
    width = 100 * min(1.0, max(0.0, value / total))
    return (
        f'{number(value, 1)} <svg class="bar" viewBox="0 0 100 8" aria-hidden="true">'
        f'<rect width="{width:.1f}" height="8"/></svg>'
    )
