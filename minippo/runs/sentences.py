"""What a run came to, in the three sentences that a person wants first.

    gold 1.03 -> 2.89 of 3; wins 89 %; 99 % of what the reward model allows

They are made from the values of summary.json and from nothing else, so the screen and the report
say the same.
"""

from collections.abc import Mapping
from typing import Any

from minippo.runs.diagnostics import is_hacked

RELIABLE_EFFECTIVE_SIZE = 50  # below it the estimate of the optimum rests on a handful of draws


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """How good before and after, how often it wins, how near to the best: without capitals and full
    stops. A number that the run does not have is not made up: its sentence says so."""
    return [goodness(summary), wins(summary), nearness(summary)]


def goodness(summary: Mapping[str, Any]) -> str:
    """'gold 1.03 -> 2.89 of 3'; the score where no rule says what is good, and both where the
    policy has been hacking the score."""
    gold, score = change(summary, "gold"), change(summary, "score")
    if gold is None and score is None:
        return "nothing was scored"
    if gold is None:
        return f"no gold score here; by {judge_of(summary)}, {score}"
    if summary["gold_max"] is not None:
        gold += f" of {summary['gold_max']:g}"
    if is_hacked(row["code"] for row in summary.get("diagnostics") or ()):
        return f"hacked: {gold} while the {score}"
    return gold


def change(summary: Mapping[str, Any], name: str) -> str | None:
    """'score -0.36 -> 0.88', from the fine-tuned model to the policy; None where there is none."""
    before, after = (summary[stage][name] for stage in ("sft", "policy"))
    return None if before is None or after is None else f"{name} {before:.2f} -> {after:.2f}"


def wins(summary: Mapping[str, Any]) -> str:
    """'wins 89 %': the policy's answer against the fine-tuned model's, ties half."""
    win = summary["win_rate"]
    if win["value"] is None:
        return "no answers were compared with those from before"
    by = "" if win["judge"] == "gold" else f" by the judgement of {judge_of(summary)} itself"
    return f"wins {percent(win['value'])}{by}"


def nearness(summary: Mapping[str, Any]) -> str:
    """'99 % of what the reward model allows': the share of the way to the best policy at this price
    of KL. Where few draws count, the estimate errs to one side."""
    judge, share = judge_of(summary), summary["optimality"]
    if share is None:
        return f"{judge} leaves no room that could be measured"
    if share < 0:
        return f"worse than before, by {judge} and the price of KL"
    return f"{at_most(summary)}{percent(share)} of what {judge} allows"


def judge_of(summary: Mapping[str, Any]) -> str:
    """What scored the responses: with --reward rule there is no reward model."""
    return "the rule" if summary["reward_model"] is None else "the reward model"


def is_reliable(optimum: Mapping[str, Any]) -> bool:
    """Does the estimate of the optimum rest on more than a handful of draws? Where it does not, it
    is too low."""
    size = optimum["effective_sample_size"]
    return size is not None and size >= RELIABLE_EFFECTIVE_SIZE


def is_at_most(summary: Mapping[str, Any]) -> bool:
    """Is the optimality of a run only known to be at most what it says, because the estimate of the
    optimum rests on few draws?"""
    return summary["optimality"] is not None and not is_reliable(summary["optimum"])


def at_most(summary: Mapping[str, Any]) -> str:
    """'at most ', before the optimality of such a run."""
    return "at most " * is_at_most(summary)


def percent(share: float) -> str:
    """'89 %'. What is not quite all is not shown as all, nor what is not quite nothing as
    nothing."""
    if 0.99 < share < 1:
        return "over 99 %"
    if 0 < share < 0.01:
        return "under 1 %"
    return f"{share:.0%}".replace("%", " %")
