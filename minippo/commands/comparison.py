"""What a comparison says: means over the seeds, and differences of two settings on the same seeds.

Two settings share the seed, and with it prompts, samples and first weights, so their difference
varies less from seed to seed than either of them: the interval is that of the differences.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minippo.algorithms import REGISTRY
from minippo.commands.config import Config
from minippo.commands.recipe import has_reward_model
from minippo.errors import InputError
from minippo.runs.read import is_number
from minippo.runs.sentences import is_at_most
from minippo.runs.stats import mean, t_interval
from minippo.runs.text import counted

Summary = Mapping[str, Any]
METRICS: dict[str, Callable[[Summary], float | None]] = {
    "gold": lambda s: s["policy"]["gold"],
    "score": lambda s: s["policy"]["score"],
    "kl": lambda s: s["policy"]["kl"],
    "objective": lambda s: s["policy"]["objective"],
    "optimality": lambda s: s["optimality"],
    "win_rate": lambda s: s["win_rate"]["value"],
    "skill": lambda s: (s["reward_model"] or {}).get("skill"),
    # what the training of the policy has left of the pretraining: commands.forgetting
    "policy_loss_on_pretraining_texts": lambda s: (s.get("pretraining_loss") or {}).get("policy"),
    # over the training: stages.course
    "gold_while_learning": lambda s: ((s.get("course") or {}).get("gold") or {}).get("mean"),
    "gold_at_the_end": lambda s: ((s.get("course") or {}).get("gold") or {}).get("end"),
}
OF_GOLD = ("gold", "gold_while_learning", "gold_at_the_end")
WIDTH = max(map(len, METRICS)) + 2
AT_MOST = "<= "
MOST_IN_FULL = 4  # settings of which every pair is shown; of more, each against the first


def check_summary(summary: Summary, path: str | Path) -> None:
    """InputError where this is not what a run has written."""
    try:
        numbers = [summary["seconds"]["total"], *(get(summary) for get in METRICS.values())]
        is_at_most(summary)
    except (KeyError, TypeError, AttributeError):
        numbers = [""]
    if not all(number is None or is_number(number) for number in numbers):
        raise InputError(
            f"{path}: not the summary of a run; remove it, and the same command makes it again"
        )


@dataclass(frozen=True)
class Setting:
    """One of the things to compare."""

    name: str
    folder: str  # the name of the one that its runs are in
    values: dict[str, Any]  # of what is varied
    arguments: list[str]  # for train_toy, but for the seed
    config: Config
    judge: str  # the seal of the reward model, so to speak: what it depends on


def as_json(
    settings: Sequence[Setting], done: Sequence[Mapping[int, Summary]]
) -> dict[str, list[dict[str, Any]]]:
    """{"settings", "paired"} of compare.json; done: {seed: summary} of each setting's runs."""
    pairs = [
        row
        for i, b in enumerate(settings)
        for a, of_a in zip(settings[i + 1 :], done[i + 1 :], strict=True)
        for row in paired(a, b, of_a, done[i])
    ]
    return {"settings": [*map(setting_row, settings, done)], "paired": pairs}


def setting_row(setting: Setting, done: Mapping[int, Summary]) -> dict[str, Any]:
    """What the runs of one setting have come to, and what they took."""
    config = setting.config
    record = REGISTRY[config.run.algorithm]
    drawn = mean_of([summary.get("samples") for summary in done.values()])
    seconds = [summary["seconds"]["total"] for summary in done.values()]
    return {
        "name": setting.name,
        "values": setting.values,
        "runs": [f"runs/{setting.folder}/seed-{seed}" for seed in done],
        "mean": {name: mean_of([*map(get, done.values())]) for name, get in METRICS.items()},
        "optimality_at_most": any(map(is_at_most, done.values())),
        "pays_for_kl": all(summary.get("kl_in") != "none" for summary in done.values()),
        "seconds": mean_of(seconds),
        "best_of_n": best_of(done),
        "samples": config.ppo.num_updates * config.ppo.batch_size
        if drawn is None
        else round(drawn),
        # policy, reference, and a reward model and a critic where there are such
        "models": 2 + (has_reward_model(config) and record.needs_scores) + record.has_critic,
    }


def best_of(done: Mapping[int, Summary]) -> list[tuple[int, float]]:
    """[(n, score of the best of n samples of the fine-tuned model)], the mean over the runs."""
    rows = [{n: score for n, _, score in s.get("best_of_n") or ()} for s in done.values()]
    sizes = sorted(set.intersection(*(set(row) for row in rows))) if rows else []
    return [(n, mean(row[n] for row in rows)) for n in sizes]


def mean_of(numbers: Sequence[float | None]) -> float | None:
    """The mean; None where there is no number, or one of them has no meaning."""
    known = [number for number in numbers if number is not None]
    return mean(known) if known and len(known) == len(numbers) else None


def paired(
    a: Setting, b: Setting, of_a: Mapping[int, Summary], of_b: Mapping[int, Summary]
) -> list[dict[str, Any]]:
    """A row for each metric that can be compared: the mean of a - b over the seeds that both have,
    and its 95 % t interval, null for a single seed; "wins": on how many of them a is ahead, ties
    half; "at_most": is one of the numbers only known to be at most what it says?"""
    seeds, rows = [seed for seed in of_a if seed in of_b], []
    for metric, get in METRICS.items():
        both = [(get(of_a[seed]), get(of_b[seed])) for seed in seeds]
        found = [x - y for x, y in both if x is not None and y is not None]
        if found and has_one_unit(metric, a, b):
            low, high = t_interval(found) or (None, None)
            wins = sum(1.0 if x > 0 else 0.5 if x == 0 else 0.0 for x in found)
            row = {"a": a.name, "b": b.name, "metric": metric, "difference": mean(found)}
            row |= {"low": low, "high": high, "n": len(found), "wins": wins}
            bounds = (is_at_most(of_it[seed]) for seed in seeds for of_it in (of_a, of_b))
            rows.append(row | {"at_most": metric == "optimality" and any(bounds)})
    return rows


def has_one_unit(metric: str, a: Setting, b: Setting) -> bool:
    """Do the numbers of two settings say the same thing? Scores of two reward models, or with two
    rules for responses that do not end, do not; nor do objectives with two prices of KL, or with
    one that moves. And one reward model's skill is no difference."""
    prices, rules = (
        [[getattr(x.config.ppo, name) for name in names] for x in (a, b)]
        for names in (("kl_coef", "kl_controller"), ("no_eos_score", "missing_eos_penalty"))
    )
    same_judge = a.judge == b.judge
    same_score = same_judge and rules[0] == rules[1]
    same_price = prices[0] == prices[1] and prices[0][1] == "fixed"
    same_task = a.config.run.task == b.config.run.task
    return {
        **dict.fromkeys((*OF_GOLD, "policy_loss_on_pretraining_texts"), same_task),
        "score": same_score,
        "objective": same_score and same_price,
        "skill": not same_judge,
    }.get(metric, True)


# -- for the screen


def table(results: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown: a row per setting, then the differences. Columns without a number are left
    out."""
    rows, seeds = results["settings"], results["seeds"]
    names = [name for name in METRICS if any(row["mean"][name] is not None for row in rows)]
    lines = [
        ["setting", "runs", *(name.replace("_", " ") for name in names)]
        + ["seconds", "samples", "models"],
        ["---", *["---:"] * (len(names) + 4)],
    ]
    for row in rows:
        means = [AT_MOST * is_bound(row, name) + number_text(row["mean"][name]) for name in names]
        costs = [number_text(row["seconds"], 1), str(row["samples"]), str(row["models"])]
        lines.append([row["name"], f"{len(row['runs'])} of {len(seeds)}", *means, *costs])
    shown = ["| " + " | ".join(line) + " |" for line in lines]
    return shown + about_optimality(rows) + best_of_lines(rows) + differences(results)


def is_bound(row: Mapping[str, Any], name: str) -> bool:
    """Is this mean of a setting at least as large as what it stands for?"""
    return name == "optimality" and row["optimality_at_most"]


def about_optimality(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What has to be known of the column of optimalities."""
    lines, free = [], [row["name"] for row in rows if not row["pays_for_kl"]]
    if any(row["optimality_at_most"] for row in rows):
        lines += ["", f"{AT_MOST}at most: the optimum is estimated from few draws, and too low."]
    if free:
        lines += ["", f"Optimality is not the aim of {'; '.join(free)}: no KL is paid."]
    return lines


def best_of_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the fine-tuned model would score without any training of the policy, by taking the best
    of n samples; of the first setting that has runs, where all have the same fine-tuned model."""
    found = [row["best_of_n"] for row in rows if row.get("best_of_n")]
    if not found:
        return []
    scores = ", ".join(f"{n}: {score:.3f}" for n, score in found[0])
    return [
        "",
        f"Score of the best of n samples of the fine-tuned model ({rows[0]['name']}): {scores}",
    ]


def differences(results: Mapping[str, Any]) -> list[str]:
    """A line for each pair and metric, with what it says."""
    in_full, first = len(results["settings"]) <= MOST_IN_FULL, results["settings"][0]["name"]
    lines, pair = ["", "Differences on the same seeds, with their 95 % t interval:"], None
    for row in results["paired"]:
        if not in_full and row["b"] != first:
            continue
        if (row["a"], row["b"]) != pair:
            pair = (row["a"], row["b"])
            lines += ["", f"{row['a']} - {row['b']}", ""]
        label = row["metric"].replace("_", " ") + f" ({AT_MOST.strip()})" * row["at_most"]
        lines.append(f"    {label:<{WIDTH}}{interval_text(row)}")
    if not in_full:
        lines += ["", "Each is against the first; compare.json has every pair."]
    return lines if results["paired"] else []


def interval_text(row: Mapping[str, Any]) -> str:
    """'+0.112 (-0.301 to +0.525)', and whether that tells the two apart."""
    text = signed(row["difference"])
    if row["low"] is None:
        return f"{text}   one seed has no interval"
    text = f"{text} ({signed(row['low'])} to {signed(row['high'])})"
    text += f", ahead on {row['wins']:g} of {row['n']}"
    if row["low"] <= 0 <= row["high"]:
        text += f"   {counted(row['n'], 'seed')} can't tell these apart"
    return text


def signed(value: float) -> str:
    """A difference; 0 has no sign of its own."""
    return f"{round(value, 3) + 0.0:+.3f}"


def number_text(value: float | None, decimals: int = 3) -> str:
    """A number, or - where there is none."""
    return "-" if value is None else f"{value:.{decimals}f}"
