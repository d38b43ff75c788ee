"""What a row of metrics says about the health of the policy's training. Quiet when all is well.

Each diagnostic is a code, a name, and a function that looks at the rows of metrics.jsonl so far and
says what it sees in the last one, or None. docs/diagnostics.md has a section for each: what it
means and what to look at. They read numbers only, so they can be asked again about a run that is
over:

    python -m minippo.diagnostics runs/tldr-ppo-default-0

P004 (PAD is EOS) is in rollout.continue_prompts: such a run is refused before there is a row.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
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
ENTROPY_LEFT = 0.1  # share of the entropy at the start
SCORE_RISE = 0.1  # of the standard deviation of the fine-tuned model's scores
SAME_SCORES = 1e-6


class Finding(NamedTuple):
    """One diagnostic that has fired."""

    code: str
    name: str
    update: int
    seen: str

    def __str__(self) -> str:
        return (
            f"{self.code} {self.name}: update {self.update}, {self.seen}; see docs/diagnostics.md"
        )


def diagnose(rows: Rows, silent: Iterable[str] = ()) -> list[Finding]:
    """The Findings in the last of the rows (metrics of the updates so far); the codes in `silent`
    are not asked."""
    found = []
    for code, name, look in DIAGNOSTICS:
        seen = None if code in silent else look(rows)
        if seen is not None:
            found.append(Finding(code, name, rows[-1]["update"], seen))
    return found


def diagnose_all(rows: Rows, silent: Iterable[str] = ()) -> list[Finding]:
    """The Findings of a whole run: each code once, at the update where it fired first."""
    found = []
    for end in range(1, len(rows) + 1):
        found += diagnose(rows[:end], silent={*silent, *(finding.code for finding in found)})
    return found


def never_asked(silent: Sequence[str], *, steps: int) -> set[str]:
    """Codes that have no meaning for a run: those of its algorithm, and P007 where one step per
    rollout leaves nothing to clip."""
    return {*silent, *(() if steps > 1 else ("P007",))}


# -- one function per diagnostic


def ratio_first(rows: Rows) -> str | None:
    """P001. Before the first step of an update the policy is the one that sampled: every ratio is
    1."""
    gap = rows[-1]["val/ratio_max_deviation_first"]
    return f"abs(ratio - 1) is {gap:.2g} at the first minibatch" if gap > LARGEST_GAP else None


def logp_gap(rows: Rows) -> str | None:
    """P002. The log-probabilities of the sampler, and those of the same tokens read afterwards, are
    the same numbers."""
    gap = rows[-1]["sample/logp_gap"]
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
        row["objective/kl"] - row["objective/kl_policy_to_ref_exact"],
        row["objective/kl_policy_to_ref_exact"],
    )
    return (
        difference / row["objective/kl_se"]
        if abs(difference) > SMALLEST_KL_GAP * exact and row["objective/kl_se"] > 0
        else 0.0
    )


def no_eos(rows: Rows) -> str | None:
    """P005. Responses end."""
    ended = [row["val/num_eos_tokens"] for row in rows[-WINDOW:]]
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
    explained = [row["val/explained_variance"] for row in rows[-WINDOW:]]
    if change == 0:
        return "the head of the critic did not move"
    if len(rows) >= PATIENCE and max(explained) <= 0:
        return f"explained variance {explained[-1]:.2f}, and not above 0 for {WINDOW} updates"
    return None


def clip(rows: Rows) -> str | None:
    """P007. With several steps per rollout some ratios leave the range, and most do not."""
    shares = [row["policy/clipfrac_avg"] for row in rows[-PATIENCE:]]
    if shares[-1] > CLIP_ALL:
        return f"{shares[-1]:.2f} of the tokens are clipped"
    if len(shares) == PATIENCE and max(shares) == 0:
        return f"no token was clipped in {PATIENCE} updates of several steps"
    return None


def kl_runaway(rows: Rows) -> str | None:
    """P008. Distance from the reference, or certainty, that buys no score."""
    last, before = rows[-WINDOW:], rows[-2 * WINDOW : -WINDOW]
    if len(before) < WINDOW:
        return None
    kl, score = (_mean(last, name) for name in ("objective/kl", "objective/scores"))
    flat = score < _mean(before, "objective/scores") + SCORE_RISE
    if kl > LARGEST_KL and kl > _mean(before, "objective/kl") + KL_RISE and flat:
        return f"KL {kl:.1f} nats per sequence and rising, the score is not"
    entropy, at_start = last[-1]["policy/entropy_avg"], rows[0]["policy/entropy_avg"]
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
    spread = rows[-1]["val/score_std"]
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
    first, *others = names.split(", ")
    return f"no gradient has reached {first}" + (f" and {len(others)} more" if others else "")


def _mean(rows, name):
    return sum(row[name] for row in rows) / len(rows)


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


if __name__ == "__main__":  # the door that this command had before
    from minippo.commands.wrapper import door

    sys.exit(door("minippo.commands.diagnostics"))
