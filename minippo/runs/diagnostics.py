"""What a row of metrics says about the health of the policy's training. Quiet when all is well.

Each diagnostic is a code, a name, and a function that looks at the rows of metrics.jsonl so far and
says what it sees in the last one, or None. docs/diagnostics.md has a section for each: what it
means and what to look at. They read numbers only, so they can be asked again about a run that is
over:

    python -m minippo.diagnostics runs/tldr-ppo-default-0

P004 (PAD is EOS) is in sampling.continue_prompts: such a run is refused before there is a row. P012
and P013 are asked before the policy's training, about the stages in front of it. P011 and P014
compare the end of a training with its beginning, so they are asked when it is over.

A number that is null is not known, and a diagnostic that needs it is silent.
"""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

# of a ratio from 1, and of a log-probability from itself: float32 leaves 1e-6
LARGEST_GAP = 1e-4
# of the exact KL: a policy that is nearly certain draws its rare tokens too seldom for less
SMALLEST_KL_GAP = 0.1
Rows = Sequence[Mapping[str, Any]]  # of metrics.jsonl

WINDOW = 5  # updates whose mean is compared
# updates that a critic, or a range of the ratio, may take to come to life
PATIENCE = 20
CLIP_ALL = 0.5
LARGEST_KL, KL_RISE = 10.0, 0.5  # nats per sequence
LARGEST_KL_PER_TOKEN = 0.25  # nats; for responses of more than 40 tokens
ENTROPY_LEFT = 0.1  # share of the entropy at the start
SCORE_RISE = 0.1  # of the standard deviation of the fine-tuned model's scores
SAME_SCORES = 1e-6
CLEAR = 2.0  # standard errors by which two means differ
COIN = 0.5  # accuracy of a reward model that knows nothing
MOST_VIEWS = 50  # of one demonstration
HACKED = "P011"


class Finding(NamedTuple):
    """One diagnostic that has fired."""

    code: str
    name: str
    update: int  # 0: before the policy's training
    seen: str

    def __str__(self) -> str:
        when = f"update {self.update}, " if self.update else ""
        return f"{self.code} {self.name}: {when}{self.seen}; see docs/diagnostics.md"


def diagnose(
    rows: Rows, silent: Iterable[str] = (), *, more_to_come: bool = False
) -> list[Finding]:
    """The Findings in the last of the rows (metrics of the updates so far); the codes in `silent`
    are not asked, nor those that wait for the end while there is more to come."""
    asked = DIAGNOSTICS if more_to_come else DIAGNOSTICS + AT_THE_END
    found = []
    for code, name, look in asked:
        try:
            seen = None if code in silent else look(rows)
        except NotKnownError:
            continue
        if seen is not None:
            found.append(Finding(code, name, rows[-1]["update"], seen))
    return found


def diagnose_all(
    rows: Rows, silent: Iterable[str] = (), *, more_to_come: bool = False
) -> list[Finding]:
    """The Findings of a whole run: each code once, at the update where it fired first."""
    found: list[Finding] = []
    for end in range(1, len(rows) + 1):
        found += diagnose(
            rows[:end],
            silent={*silent, *(finding.code for finding in found)},
            more_to_come=more_to_come or end < len(rows),
        )
    return found


def is_hacked(codes: Iterable[str]) -> bool:
    """Has the policy found what the reward model likes and the task does not? codes: what fired."""
    return HACKED in codes


class NotKnownError(Exception):
    """A row has null where a diagnostic needs a number."""


def number(row: Mapping[str, Any], name: str) -> Any:
    """What the row says under that name. NotKnownError: null."""
    if (value := row[name]) is None:
        raise NotKnownError(name)
    return value


def never_asked(silent: Sequence[str], *, steps: int, priced: bool = True) -> set[str]:
    """Codes that have no meaning for a run: those of its algorithm, P007 where one step per rollout
    leaves nothing to clip, and P014 where no KL is paid, so that its price is not what is
    maximised."""
    return {*silent, *(() if steps > 1 else ("P007",)), *(() if priced else ("P014",))}


# -- one function per diagnostic


def ratio_first(rows: Rows) -> str | None:
    """P001. Before the first step of an update the policy is the one that sampled: every ratio is
    1."""
    gap = number(rows[-1], "val/ratio_max_deviation_first")
    return f"abs(ratio - 1) is {gap:.2g} at the first minibatch" if gap > LARGEST_GAP else None


def logp_gap(rows: Rows) -> str | None:
    """P002. The log-probabilities of the sampler, and those of the same tokens read afterwards, are
    the same numbers."""
    gap = number(rows[-1], "sample/logp_gap")
    return (
        f"log-probabilities moved by {gap:.2g} between sampling and scoring"
        if gap > LARGEST_GAP
        else None
    )


def kl_biased(rows: Rows) -> str | None:
    """P003. k1 of the samples is the exact KL plus noise; twice in a row, far off and on one side,
    is not noise."""
    errors = [_kl_error(row) for row in rows[-2:]]
    if len(errors) < 2 or min(map(abs, errors)) <= 3 or errors[0] * errors[1] < 0:
        return None
    return (
        f"k1 is {rows[-1]['objective/kl']:.3g} nats, the exact KL at the same states "
        f"{rows[-1]['objective/kl_policy_to_ref_exact']:.3g}, "
        f"{abs(errors[1]):.1f} standard errors apart, and so it was in the update before"
    )


def _kl_error(row):
    """Standard errors between k1 and the exact KL, with a sign; 0 where they are a small share of
    the KL."""
    difference, exact = (
        number(row, "objective/kl") - number(row, "objective/kl_policy_to_ref_exact"),
        number(row, "objective/kl_policy_to_ref_exact"),
    )
    return (
        difference / number(row, "objective/kl_se")
        if abs(difference) > SMALLEST_KL_GAP * exact and number(row, "objective/kl_se") > 0
        else 0.0
    )


def no_eos(rows: Rows) -> str | None:
    """P005. Responses end."""
    ended = [number(row, "val/num_eos_tokens") for row in rows[-WINDOW:]]
    return (
        f"no response has ended for {WINDOW} updates"
        if len(ended) == WINDOW and not any(ended)
        else None
    )


def dead_critic(rows: Rows) -> str | None:
    """P006. A critic that is trained moves, and explains something after a while."""
    change = rows[-1].get("val/critic_head_change")
    if change is None:
        return None  # the algorithm has no critic
    if change == 0:
        return "the head of the critic did not move"
    explained = [_explained(row) for row in rows[-WINDOW:]]
    if len(rows) >= PATIENCE and max(explained) <= 0:
        return f"explained variance {explained[-1]:.2f}, and not above 0 for {WINDOW} updates"
    return None


def _explained(row):
    """Of the rewards-to-go; of the critic's targets in runs that have no other."""
    name = "val/explained_variance_returns"
    return number(row, name if name in row else "val/explained_variance")


def clip(rows: Rows) -> str | None:
    """P007. With several steps per rollout some ratios leave the range, and most do not."""
    shares = [number(row, "policy/clipfrac_avg") for row in rows[-PATIENCE:]]
    if shares[-1] > CLIP_ALL:
        return f"{shares[-1]:.2f} of the tokens are clipped"
    if len(shares) == PATIENCE and max(shares) == 0:
        return f"no token was clipped in {PATIENCE} updates of several steps"
    return None


def kl_runaway(rows: Rows) -> str | None:
    """P008. Distance from the reference, or certainty, that buys no score. Medians: one rollout
    that goes wrong, and is put right by the next, is no course."""
    last, before = rows[-WINDOW:], rows[-2 * WINDOW : -WINDOW]
    if len(before) < WINDOW:
        return None
    kl, score = (_median(last, name) for name in ("objective/kl", "objective/scores"))
    flat = score < _median(before, "objective/scores") + SCORE_RISE
    lengths = [row.get("val/response_length") or 0.0 for row in last]
    limit = max(LARGEST_KL, LARGEST_KL_PER_TOKEN * sum(lengths) / WINDOW)
    if kl > limit and kl > _median(before, "objective/kl") + KL_RISE and flat:
        return f"KL {kl:.1f} nats per sequence, more than {limit:.3g}, and rising, the score is not"
    entropy, at_start = (number(row, "policy/entropy_avg") for row in (last[-1], rows[0]))
    if (
        entropy < ENTROPY_LEFT * at_start
        and score < _mean(rows[:WINDOW], "objective/scores") + SCORE_RISE
    ):
        return (
            f"entropy {entropy:.2g} of {at_start:.2g} at the start, and the score is no higher "
            "than it was then"
        )
    return None


def adv_degenerate(rows: Rows) -> str | None:
    """P009. Scores that are all equal teach nothing."""
    spread = number(rows[-1], "val/score_std")
    return (
        f"all scores of the rollout are equal to {rows[-1]['objective/scores']:.3g}"
        if spread < SAME_SCORES
        else None
    )


def grad_none(rows: Rows) -> str | None:
    """P010. Every parameter of a model that is trained has a gradient."""
    names = rows[-1]["policy/without_gradient"]
    if names is None:
        return None
    if not isinstance(names, str):
        raise TypeError(f"policy/without_gradient: wanted names, got {names!r}")
    first, *others = names.split(", ")
    return f"no gradient has reached {first}" + (f" and {len(others)} more" if others else "")


def gold_falls(rows: Rows) -> str | None:
    """P011. Between the first and the last quarter of the updates gold falls while the score
    rises."""
    size = len(rows) // 4
    if size < 2:
        return None  # too few for a standard error
    first, last = rows[:size], rows[-size:]
    if not (
        _clearly_rises(first, last, "objective/gold", sign=-1)
        and _clearly_rises(first, last, "objective/scores")
    ):
        return None
    gold, score = (
        f"{_mean(first, name):.3g} to {_mean(last, name):.3g}"
        for name in ("objective/gold", "objective/scores")
    )
    return f"hacked: gold fell from {gold} while the score rose from {score}, by quarters"


def rlhf_falls(rows: Rows) -> str | None:
    """P014. What is maximised does not end lower than it began."""
    first, last = (number(row, "objective/rlhf_reward") for row in (rows[0], rows[-1]))
    noise = math.hypot(*(_error_of_rlhf_reward(row) for row in (rows[0], rows[-1])))
    if len(rows) < 2 or last >= first - CLEAR * noise:
        return None
    return f"rlhf_reward began with {first:.3g} and ends with {last:.3g}"


def reward_coin(report: Mapping[str, Any]) -> Finding | None:
    """P012. The reward model knows more than a coin; report: that of its held-out pairs."""
    low, high = report["heldout_low"], report["heldout_high"]
    if low > COIN:
        return None
    what = f"holds {COIN}" if high >= COIN else f"is below {COIN}: worse than a coin"
    seen = f"the interval of the reward model's accuracy, {low:.3f} to {high:.3f}, {what}"
    return Finding("P012", "reward-coin", 0, seen)


def seen_often(demonstrations: Sequence[Any], drawn: int) -> Finding | None:
    """P013. No demonstration of a fixed set is learned by heart; drawn: how many the fine-tuning
    reads."""
    if not demonstrations:
        return None
    most = max(Counter(demonstrations).values())
    views = drawn * most / len(demonstrations)
    if views <= MOST_VIEWS:
        return None
    seen = f"fine-tuning reads one of the {len(demonstrations)} demonstrations {views:.0f} times"
    return Finding("P013", "seen-often", 0, seen)


def _clearly_rises(first, last, name, sign=1):
    """Is the second mean higher (sign -1: lower) by more than so many standard errors?"""
    error = math.hypot(*(_error_of_mean(rows, name) for rows in (first, last)))
    return sign * (_mean(last, name) - _mean(first, name)) > CLEAR * error


def _error_of_mean(rows, name):
    mean = _mean(rows, name)
    deviations = [number(row, name) - mean for row in rows]
    return math.hypot(*deviations) / math.sqrt((len(rows) - 1) * len(rows))


def _error_of_rlhf_reward(row):
    """The standard error of a rollout's mean: of its scores, and of the price of its KL. What is
    not known counts as 0."""
    responses = (row.get("episode") or 0) / max(1, row["update"])
    of_scores = (row.get("val/score_std") or 0.0) / math.sqrt(responses) if responses else 0.0
    of_kl = (row.get("objective/kl_coef") or 0.0) * (row.get("objective/kl_se") or 0.0)
    return math.hypot(of_scores, of_kl)


def _mean(rows, name):
    return sum(number(row, name) for row in rows) / len(rows)


def _median(rows, name):
    return median(number(row, name) for row in rows)


DIAGNOSTICS = (
    ("P001", "ratio-first", ratio_first),
    ("P002", "logp-gap", logp_gap),
    ("P003", "kl-biased", kl_biased),
    ("P005", "no-eos", no_eos),
    ("P006", "dead-critic", dead_critic),
    ("P007", "clip", clip),
    ("P008", "kl-runaway", kl_runaway),
    ("P009", "adv-degenerate", adv_degenerate),
    ("P010", "grad-none", grad_none),
)
AT_THE_END = (("P011", "gold-falls", gold_falls), ("P014", "rlhf-falls", rlhf_falls))
REFUSED = (  # before there is a row: such a run does not begin
    ("P004", "pad-eos", "PAD and EOS are two ids; a run in which they are one is refused"),
)
BEFORE = (("P012", "reward-coin", reward_coin), ("P013", "seen-often", seen_often))


if __name__ == "__main__":  # the door that this command had before
    from minippo.commands.wrapper import door

    sys.exit(door("minippo.commands.diagnostics"))
