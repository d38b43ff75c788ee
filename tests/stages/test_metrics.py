"""Every metric that a run logs has the value that pencil and paper give.

Three prompts get one fixed response each, and tables stand in for the models: what policy,
reference and critic say at each token is written down below, before the update, at each of its four
steps and after it. So is the critic's and the policy's path through the update: the optimisers are
replaced by functions that put the next table in place. All the rest is the product.

    row        tokens            scores          advantages      values before
    0          word word word    9, no EOS: -3    2, -1, 1        1, 0, 2
    1          word EOS          4               -2, 1            0, 1
    2          EOS               2                3              -1

Rows 0 and 1 are the first minibatch, five tokens; row 2 is the second, one token. There are two
passes, so a mean over the four steps is not a mean over the twelve tokens, nor the last step, nor
the largest. What the tables say in the padding is nonsense that would show in every sum.
"""

import dataclasses
import math
import re
from functools import cache
from math import log, sqrt
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

import minippo
from minippo.algorithms import REGISTRY, base, trpo
from minippo.algorithms import policy_gradient as stages_1_to_4
from minippo.algorithms.base import ROLLOUTS, PPOConfig
from minippo.commands import pipeline
from minippo.commands.config import RunConfig
from minippo.rollout import Models
from minippo.stages.policy import Step, World, policy_updates
from tests.helpers import assert_close, f64, mask_of_lengths

TEMPERATURE = 2.0  # the tables hold probabilities at this temperature, so it must be divided by
SETTINGS = {
    "num_updates": 3,
    "batch_size": 3,
    "response_length": 3,
    "num_ppo_epochs": 2,
    "value_epochs": 2,
    "num_mini_batches": 2,
    "temperature": TEMPERATURE,
    "learning_rate": 0.1,
    "final_learning_rate": 0.1,
    "kl_coef": 0.3,
    "cliprange": 0.2,
    "cliprange_value": 0.5,
    "vf_coef": 0.5,
    "ent_coef": 0.1,
    "kl_old_coef": 0.5,
    "kl_old_target": 0.01,
    "no_eos_score": -3.0,
    "whiten_advantages": False,
}
PAD, EOS, WORD = 0, 1, 2
TOKENS = torch.tensor([[WORD, WORD, WORD], [WORD, EOS, PAD], [EOS, PAD, PAD]])
MASK = mask_of_lengths([3, 2, 1])
ADVANTAGES = f64([[2, -1, 1], [-2, 1, 0], [3, 0, 0]])
L = log(2)

# -- what is said at a token: probabilities of PAD, EOS and WORD

OLD = (1 / 4, 1 / 4, 1 / 2)
SOME = (1 / 8, 1 / 4, 5 / 8)  # against OLD: ratio 1.25 of WORD, 1 of EOS
UP = (1 / 8, 1 / 8, 3 / 4)  # ratio 1.5 of WORD, 0.5 of EOS
DOWN = (1 / 4, 1 / 2, 1 / 4)  # ratio 0.5 of WORD, 2 of EOS
REF = (1 / 8, 5 / 8, 1 / 4)
NO_1, NO_2 = (0.9, 0.05, 0.05), (0.1, 0.2, 0.7)  # of the padding

H_OLD = H_DOWN = 1.5 * L  # 1/2 log 2 + 2 * 1/4 log 4
H_SOME = 3 / 8 * L + 2 / 4 * L + 5 / 8 * log(8 / 5)  # 1/8 log 8 + 1/4 log 4 + 5/8 log 8/5
H_UP = 6 / 8 * L + 3 / 4 * log(4 / 3)  # 2 * 1/8 log 8 + 3/4 log 4/3


def rows(nothing, first, second, third):
    """[B,T,V] of the distributions at the real tokens, and something else at the others."""
    return f64([first, [*second, nothing], [*third, nothing, nothing]])


# what the policy says: at the rollout; at the two steps of each pass; after the update
BEFORE = rows(NO_1, [OLD, OLD, OLD], [OLD, OLD], [OLD])
EARLY = rows(NO_2, [SOME, OLD, OLD], [OLD, OLD], [UP])
LATE = rows(NO_2, [UP, DOWN, UP], [UP, OLD], [DOWN])
AFTER = rows(NO_2, [UP, OLD, OLD], [OLD, DOWN], [OLD])
REFERENCE = rows(NO_2, [REF, REF, REF], [REF, REF], [REF])
# and what the critic says; 7 is nonsense
V_BEFORE = f64([[1, 0, 2], [0, 1, 7], [-1, 7, 7]])
V_EARLY = f64([[2, 0, 2], [0, 1, 7], [1, 7, 7]])
V_LATE = f64([[0, 0, 2], [0, 1, 7], [-1, 7, 7]])
V_AFTER = f64([[5, 0, 6], [0, 1, 7], [1, 7, 7]])
NORMS = (1.0, 2.0, 6.0, 5.0)  # of the gradients of the four steps
# as sampled: the log-probabilities of OLD, off by 0.1, -0.2, 0, 0.05, 0 and -0.25
SAMPLED = f64([[0.1 - L, -0.2 - L, -L], [0.05 - L, -2 * L, 5], [-0.25 - 2 * L, 5, 5]])


# -- the values by hand, in the second of three updates

OF_THE_RUN = {
    "update": 2,
    "episode": 6,  # 2 * 3
    "lr": 0.055,  # from 0.1 in three updates to 0.01
    "policy/without_gradient": None,
}

# Against REF, WORD has log-ratio log 2, EOS -log 5/2, PAD log 2; the policy says OLD everywhere.
KL = 3 / 4 * L - 1 / 4 * log(5 / 2)
K1_VARIANCE = 3 / 4 * L**2 + 1 / 4 * log(5 / 2) ** 2 - KL**2
K1 = 4 * L - 2 * log(5 / 2)  # the sum over the tokens: four WORD, two EOS

OF_THE_ROLLOUT = {
    "objective/scores": 1.0,  # (-3 + 4 + 2) / 3
    "objective/kl": K1 / 3,  # three responses
    "objective/kl_policy_to_ref_exact": 6 * KL / 3,  # six tokens
    "objective/kl_se": sqrt(6 * K1_VARIANCE) / 3,
    "objective/entropy": (4 * L + 2 * 2 * L) / 3,  # -log 1/2 four times, -log 1/4 twice
    "objective/kl_coef": 0.3,
    "objective/non_score_reward": -0.3 * K1 / 3,
    "objective/rlhf_reward": 1 - 0.3 * K1 / 3,
    "objective/gold": 2.5,
    "val/num_eos_tokens": 2,
    "val/eos_rate": 2 / 3,
    "val/response_length": 2.0,  # (3 + 2 + 1) / 3
    "val/score_std": sqrt(26 / 3),  # of -3, 4, 2: (16 + 9 + 1) / 3
    "val/reward_avg": (3 - 0.3 * K1) / 6,  # all scores and all penalties, over six tokens
    "sample/logp_gap": 0.1,  # (0.1 + 0.2 + 0.05 + 0.25) / 6
    # OLD to UP: 1/4 log 2 + 1/4 log 2 + 1/2 log 2/3; OLD to DOWN: 1/4 log 1/2 + 1/2 log 2
    "policy/kl_old_to_policy": (0.5 * log(4 / 3) + 0.25 * L) / 6,
}


def variance(values):
    """Over the six tokens, biased."""
    return ((values - values.mean()) ** 2).mean().item()


# The scores are -3, 4 and 2; WORD costs 0.3 log 2, EOS brings 0.3 log 5/2. What is still to come:
WORD_COSTS, EOS_BRINGS = 0.3 * L, 0.3 * log(5 / 2)
RETURNS = f64(
    [
        *(-3 - 3 * WORD_COSTS, -3 - 2 * WORD_COSTS, -3 - WORD_COSTS),
        *(4 - WORD_COSTS + EOS_BRINGS, 4 + EOS_BRINGS),
        2 + EOS_BRINGS,
    ]
)
V_OF_THEM = f64([1, 0, 2, 0, 1, -1])
OF_THE_CRITIC = {
    # errors 2, -1, 1, -2, 1, 3: variance 20/6 - (4/6)^2 = 104/36
    # targets 3, -1, 3, -2, 2, 2: variance 31/6 - (7/6)^2 = 137/36
    "val/explained_variance": 33 / 137,
    "val/explained_variance_returns": 1 - variance(RETURNS - V_OF_THEM) / variance(RETURNS),
    "val/critic_head_change": 5.0,  # from 2 to 5 and from 2 to 6
}

# The ratios of the four steps:
#   1.25, 1, 1, 1, 1 | 0.5 | 1.5, 0.5, 1.5, 1.5, 1 | 2
OF_FOUR_STEPS = {
    "policy/approxkl_avg": (
        log(1.25) ** 2 / 10 + L**2 / 2 + (3 * log(1.5) ** 2 + L**2) / 10 + L**2 / 2
    )
    / 4,
    # held: 1.25 with A = 2; none (0.5 with A = 3 may rise); 1.5 with 2, 0.5 with -1 and 1.5 with 1,
    # but not 1.5 with -2; 2 with A = 3
    "policy/clipfrac_avg": (1 / 5 + 0 + 3 / 5 + 1) / 4,
    "policy/entropy_avg": (
        (H_SOME + 4 * H_OLD) / 5 + H_UP + (3 * H_UP + H_DOWN + H_OLD) / 5 + H_DOWN
    )
    / 4,
    "policy/grad_norm": 3.5,  # (1 + 2 + 6 + 5) / 4
    "val/ratio": (1.05 + 0.5 + 1.2 + 2) / 4,
    # (0.2^2 + 4 * 0.05^2) / 5 = 0.01 and (3 * 0.3^2 + 0.7^2 + 0.2^2) / 5 = 0.16
    "val/ratio_var": (0.01 + 0 + 0.16 + 0) / 4,
    "val/ratio_max_deviation_first": 0.25,  # later ones are 0.5, 0.5 and 1
    # with V_clip at most 0.5 from V before; the larger square of each token:
    #   (1.5-3)^2, 1, 1, 4, 1 | (-0.5-2)^2 | (0-3)^2, 1, 1, 4, 1 | (-1-2)^2
    "loss/value_avg": (9.25 / 10 + 6.25 / 2 + 16 / 10 + 9 / 2) / 4,
    "val/clipfrac_avg": (1 / 5 + 1 + 0 + 0) / 4,
}

# ratio * A, summed: 2.5 - 1 + 1 - 2 + 1 = 1.5 | 1.5 | 3 - 0.5 + 1.5 - 3 + 1 = 2 | 6
SURROGATES = (-1.5 / 5, -1.5, -2 / 5, -6)
# mean of -log ratio
KLS = (-log(1.25) / 5, L, (L - 3 * log(1.5)) / 5, -L)
PRICED = [loss + 0.5 * kl for loss, kl in zip(SURROGATES, KLS, strict=True)]
PRICED_TWICE = [loss + 1.0 * kl for loss, kl in zip(SURROGATES, KLS, strict=True)]

# One step on all six tokens, with ratios 1.25, 1, 1, 1, 1, 0.5
OF_ONE_STEP = {
    "policy/approxkl_avg": (log(1.25) ** 2 + L**2) / 12,
    "policy/clipfrac_avg": 1 / 6,
    "policy/entropy_avg": (H_SOME + 4 * H_OLD + H_UP) / 6,
    "val/ratio": 5.75 / 6,
    "val/ratio_var": (1.25**2 + 4 + 0.5**2) / 6 - (5.75 / 6) ** 2,
    "val/ratio_max_deviation_first": 0.5,
}
OF_THE_CRITICS_PASSES = {
    # squared errors: 1, 1, 1, 4, 1 | 1 | 9, 1, 1, 4, 1 | 9
    "loss/value_avg": (8 / 10 + 1 / 2 + 16 / 10 + 9 / 2) / 4,
    "val/clipfrac_avg": 0.0,
}
# A log pi: 2 log 5/8, -log 1/2, log 1/2, -2 log 1/2, log 1/4, 3 log 1/8; three responses
OF_THE_POLICY_GRADIENT = OF_ONE_STEP | {
    "loss/policy_avg": -(2 * log(5 / 8) + L - L + 2 * L - 2 * L - 9 * L) / 3,
    "policy/grad_norm": 1.0,  # of the policy's step; those of the critic are others
}

ALWAYS = OF_THE_RUN | OF_THE_ROLLOUT
PPO = ALWAYS | OF_THE_CRITIC | OF_FOUR_STEPS
WITH_CRITIC = ALWAYS | OF_THE_CRITIC | OF_THE_CRITICS_PASSES
WANTED = {
    "pg": ALWAYS | OF_THE_POLICY_GRADIENT,
    "rtg": ALWAYS | OF_THE_POLICY_GRADIENT,
    "baseline": WITH_CRITIC | OF_THE_POLICY_GRADIENT,
    "gae": WITH_CRITIC | OF_THE_POLICY_GRADIENT,
    "trpo": WITH_CRITIC
    | OF_ONE_STEP
    | {
        "loss/policy_avg": -3 / 6,  # 2.5 - 1 + 1 - 2 + 1 + 1.5 = 3
        "policy/grad_norm": None,
        "policy/step_share": 0.25,
    },
    # 2.4 - 1 + 1 - 2 + 1 | 0.5 * 3 | 2.4 - 0.8 + 1.2 - 3 + 1 | 1.2 * 3
    "ppo": PPO | {"loss/policy_avg": -(1.4 / 5 + 1.5 + 0.8 / 5 + 3.6) / 4},
    "ppo_unclipped": PPO | {"loss/policy_avg": sum(SURROGATES) / 4},
    "ppo_kl": PPO | {"loss/policy_avg": sum(PRICED) / 4, "objective/kl_old_coef": 0.5},
    # the first update has gone 0.0529, more than 1.5 times the 0.01 that it should: twice the price
    "ppo_adaptive_kl": PPO
    | {"loss/policy_avg": sum(PRICED_TWICE) / 4, "objective/kl_old_coef": 1.0},
}
CASES = [
    pytest.param(algorithm, name, id=f"{algorithm}:{name}")
    for algorithm, values in WANTED.items()
    for name in values
]


# -- the world that is written down above


class TablePolicy(nn.Module):
    """In the place of a GPT: the distribution at slot t of the row with prompt b is table[b][t]."""

    def __init__(self, probabilities):
        super().__init__()
        self.table = nn.Parameter(TEMPERATURE * probabilities.log())

    def hidden(self, tokens, mask, read):
        said = pad(self.table[tokens[:, 0]], (0, 0, 0, 1))  # [B,1+T,V]: one prompt token
        return said[:, : tokens.shape[1]][read]

    def logits(self, hidden):
        return hidden

    @torch.no_grad()
    def say(self, probabilities):
        self.table.copy_(TEMPERATURE * probabilities.log())


class TableCritic(nn.Module):
    """The same for values; the table is the whole of its last layer."""

    def __init__(self, values):
        super().__init__()
        self.trunk = None  # of its own, were it a GPT
        self.head = nn.ParameterList([values.clone()])

    def forward(self, tokens, mask, read):
        return pad(self.head[0][tokens[:, 0]], (0, 1))[:, : tokens.shape[1]][read]

    @torch.no_grad()
    def say(self, values):
        self.head[0].copy_(values)


class Written:
    """A training whose models say what is written down; a step turns the page."""

    def __init__(self, algorithm, **settings):
        record = REGISTRY[algorithm]
        critic = TableCritic(V_BEFORE) if record.has_critic else None
        self.models = Models(TablePolicy(BEFORE), TablePolicy(REFERENCE), critic)
        self.config = PPOConfig(**SETTINGS | settings)
        self.record = dataclasses.replace(record, name="written", weights=self.start)
        self.record = dataclasses.replace(self.record, samples_per_prompt=1)  # each its own prompt
        self.steps_of_the_policy = (
            [EARLY, LATE, LATE, AFTER] if "num_ppo_epochs" in record.fields else [AFTER]
        )
        self.gold_function, self.learning_rates = lambda rollout: 2.5, []

    def updates(self, patch, *, real_steps=False):
        """policy_updates, with the sampled tokens and the order of the rows held fixed."""
        patch.setitem(REGISTRY, "written", self.record)
        patch.setattr("minippo.rollout.read_prompts", lambda *_: None)
        patch.setattr("minippo.rollout.continue_prompts", lambda *_, **__: (TOKENS, MASK, SAMPLED))
        patch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
        if not real_steps:
            patch.setattr(base, "take_step", self.turn_the_page)
            patch.setattr(stages_1_to_4, "take_step", self.turn_the_page)
            patch.setattr(trpo, "trpo_step", lambda **_: self.models.policy.say(AFTER) or 0.25)
        world = World(
            draw_prompts=self.draw_prompts,
            score_function=lambda tokens, mask: f64([9, 4, 2])[tokens[:, 0]],
            eos_id=EOS,
            pad_id=PAD,
            gold_function=self.gold_function,
        )
        return policy_updates(
            self.models,
            world,
            config=self.config,
            generator=torch.Generator(),
            algorithm=self.record.name,
        )

    def say(self, probabilities, values):
        self.models.policy.say(probabilities)
        if self.models.critic is not None:
            self.models.critic.say(values)

    def draw_prompts(self, n):
        """Called before the rollout: each update begins at the first page."""
        self.say(BEFORE, V_BEFORE)
        return torch.arange(3).view(3, 1), torch.ones(3, 1, dtype=torch.bool)

    def start(self, rewards, values, mask, config):
        """The weights of this algorithm, which are made between rollout and update."""
        self.say(EARLY, V_EARLY)
        self.norms = iter(NORMS)
        self.to_say = {
            "policy": iter(self.steps_of_the_policy),
            "critic": iter([V_EARLY, V_LATE, V_LATE, V_AFTER]),
        }
        return ADVANTAGES

    def stay_as_at_the_rollout(self, advantages=ADVANTAGES):
        """For steps that are real."""
        self.record = dataclasses.replace(self.record, weights=lambda *_: advantages)

    def turn_the_page(self, optimizers, loss, learning_rate, **_):
        """In the place of take_step."""
        self.learning_rates.append(learning_rate)
        models = {name.split(".")[0] for name in optimizers[0].param_groups[0]["param_names"]}
        for name in models:
            getattr(self.models, name).say(next(self.to_say[name]))
        return next(self.norms) if "policy" in models else 99.0


@cache
def rows_of(algorithm):
    """The rows of metrics of three updates."""
    with pytest.MonkeyPatch.context() as patch:
        return [step.row for step in Written(algorithm).updates(patch)]


# -- each metric has its value


@pytest.mark.parametrize("algorithm, name", CASES)
def test_the_value_by_hand(algorithm, name):
    wanted, found = WANTED[algorithm][name], rows_of(algorithm)[1][name]
    if wanted is None or isinstance(wanted, int):
        assert found == wanted and type(found) is type(wanted)
    else:
        assert_close(torch.tensor(found), wanted)  # some are made in float32


FROM_ROLLOUTS = [name for name, record in REGISTRY.items() if record.learns_from == ROLLOUTS]
# algorithms/test_terms.py, stages/test_groups.py, algorithms/test_direct.py
ELSEWHERE = {
    *("loss/kl_avg", "loss/ptx_avg", "val/draws", "val/groups_that_differ", "val/batch_rows"),
    *("val/pair_margin", "val/pair_accuracy"),
}


@pytest.mark.parametrize("algorithm", FROM_ROLLOUTS)
def test_every_metric_that_is_logged_has_a_value_by_hand(algorithm):
    logged = {*rows_of(algorithm)[0]}
    if algorithm in WANTED:
        assert logged == {*WANTED[algorithm]}
    else:  # one that was added: it may log what others log, and has a row here for anything else
        assert logged <= ELSEWHERE.union(*WANTED.values())


def test_every_metric_of_the_page_has_a_value_by_hand():
    page = Path(minippo.__file__).parent.parent / "docs" / "metrics.md"
    rows = page.read_text(encoding="utf-8").split("## A row of metrics.jsonl")[1]
    documented = set(re.findall(r"^\| `([a-z_/]+)` \|", rows.split("## summary")[0], re.MULTILINE))
    by_hand = {name for values in WANTED.values() for name in values}
    # the first two have tests of their own below
    assert documented == by_hand | {"seconds", "eps"} | ELSEWHERE


# -- those that change from update to update


def test_update_episode_and_lr_count_on():
    names = ("update", "episode", "lr")
    found = [[row[name] for name in names] for row in rows_of("ppo")]
    assert_close(found, [[1, 3, 0.1], [2, 6, 0.055], [3, 9, 0.01]])


@pytest.mark.parametrize("algorithm", [name for name in FROM_ROLLOUTS if name != "trpo"])
def test_lr_is_the_learning_rate_of_the_steps(algorithm, monkeypatch):
    written = Written(algorithm)
    for step in written.updates(monkeypatch):
        assert {*written.learning_rates} == {step.row["lr"]}
        written.learning_rates.clear()


def test_kl_old_coef_is_the_price_of_this_update_and_not_of_the_next():
    found = [row["objective/kl_old_coef"] for row in rows_of("ppo_adaptive_kl")]
    assert found == [0.5, 1.0, 2.0]  # each update goes too far: the next pays twice as much


def test_kl_old_coef_is_halved_after_an_update_that_went_less_far_than_it_might(monkeypatch):
    # 0.0529 is less than 1 / 1.5
    steps = Written("ppo_adaptive_kl", kl_old_target=1.0).updates(monkeypatch)
    assert [step.row["objective/kl_old_coef"] for step in steps] == [0.5, 0.25, 0.125]


def test_gold_is_null_without_a_rule(monkeypatch):
    written = Written("ppo")
    written.gold_function = None
    assert [step.row["objective/gold"] for step in written.updates(monkeypatch)] == [None] * 3


def test_gold_is_the_mean_of_the_responses_that_have_a_gold_score():
    gold = {("0", "222"): 3.0, ("1", "21"): 1.0, ("2", "1"): None}
    task = SimpleNamespace(
        tokenizer=SimpleNamespace(decode=lambda ids: "".join(map(str, ids)).rstrip("9")),
        gold=lambda prompt, response: gold[prompt, response],
    )
    tokens = torch.where(MASK, TOKENS, 9)
    rollout = SimpleNamespace(prompt_tokens=torch.arange(3).view(3, 1), response_tokens=tokens)
    assert pipeline.mean_gold(task, rollout) == 2.0  # (3 + 1) / 2


def test_a_response_without_eos_that_keeps_its_score_pays_the_penalty(monkeypatch):
    written = Written("ppo", no_eos_score=None, missing_eos_penalty=0.5)
    row = next(written.updates(monkeypatch)).row
    assert_close(row["objective/scores"], 14.5 / 3)  # (9 - 0.5 + 4 + 2) / 3


def test_reward_avg_is_that_of_the_rewards_that_were_whitened(monkeypatch):
    written = Written("ppo", whiten_rewards=True)
    row = next(written.updates(monkeypatch)).row
    assert_close(row["val/reward_avg"], OF_THE_ROLLOUT["val/reward_avg"])  # which keeps the mean


# -- those that depend on the step of the optimiser itself

# The gradient of log pi to a row of the table: 1/2 (one-hot - probabilities), of squared length
# 1/4 (1/4 + 1/16 + 1/16) = 3/32 at WORD and 1/4 (9/16 + 1/16 + 1/4) = 7/32 at EOS. With A^2 =
# 4, 1, 1, 4 at WORD and 1, 9 at EOS the sum of A^2 times these is 30/32 + 70/32 = 25/8.
SUM_OF_SQUARES = 25 / 8


@pytest.mark.parametrize("algorithm", ["pg", "rtg", "baseline", "gae"])
def test_grad_norm_of_the_policy_gradient_is_that_before_it_is_clipped(algorithm, monkeypatch):
    written = Written(algorithm, max_grad_norm=0.01)
    written.stay_as_at_the_rollout()
    row = next(written.updates(monkeypatch, real_steps=True)).row
    assert_close(row["policy/grad_norm"], sqrt(SUM_OF_SQUARES) / 3)  # three responses


def test_grad_norm_of_ppo_is_that_of_policy_and_critic_before_it_is_clipped(monkeypatch):
    written = Written("ppo", num_ppo_epochs=1, num_mini_batches=1, ent_coef=0.0, max_grad_norm=0.01)
    written.stay_as_at_the_rollout()
    row = next(written.updates(monkeypatch, real_steps=True)).row
    # six tokens; of the critic vf_coef 0.5 times the errors, whose squares sum up to 20
    assert_close(row["policy/grad_norm"], sqrt(SUM_OF_SQUARES + 0.25 * 20) / 6)


@pytest.mark.parametrize("algorithm", ["pg", "ppo"])
def test_without_gradient_names_what_no_gradient_has_reached(algorithm, monkeypatch):
    written = Written(algorithm)
    written.models.policy.forgotten = nn.Parameter(f64([1.0]))
    written.models.policy.lost = nn.Parameter(f64([1.0]))
    row = next(written.updates(monkeypatch, real_steps=True)).row
    assert row["policy/without_gradient"] == "policy.forgotten, policy.lost"


@pytest.mark.parametrize(
    "good, p, max_kl, share",
    [
        # One token of six has an advantage. The Fisher information of its logit is p (1 - p) / 6,
        # so the full step is a rise by sqrt(12 max_kl / (p (1 - p))).
        # EOS: by sqrt(64 / 16) = 2 to e^2 / (e^2 + 3) = 0.711, where the KL is
        #   (1/4 log(0.25 / 0.711) + 3/4 log(0.75 / 0.289)) / 6 = 0.076, more than 1/16 = 0.063;
        # the half of it, by 1 to e / (e + 3) = 0.475, is at a KL of 0.018
        ((2, 0), 1 / 4, 1 / 16, 0.5),
        # WORD: by sqrt(48 / 48) = 1 to e / (e + 1) = 0.731, where the KL is
        #   (1/2 log(0.5 / 0.731) + 1/2 log(0.5 / 0.269)) / 6 = 0.0200, less than 1/48 = 0.0208
        ((0, 0), 1 / 2, 1 / 48, 1.0),
    ],
)
def test_step_share_is_what_the_line_search_took(good, p, max_kl, share, monkeypatch):
    advantages = torch.zeros_like(ADVANTAGES)
    advantages[good] = 1.0
    written = Written("trpo", max_kl=max_kl, damping=0.0)
    written.stay_as_at_the_rollout(advantages)
    row = next(written.updates(monkeypatch, real_steps=True)).row
    assert row["policy/step_share"] == share
    new = math.e * p / (math.e * p + 1 - p)  # the logit rises by 1 in both cases
    kl = p * log(p / new) + (1 - p) * log((1 - p) / (1 - new))
    assert_close(row["policy/kl_old_to_policy"], kl / 6)


# -- those that the command adds


def test_seconds_and_eps_are_of_the_time_since_the_row_before(monkeypatch):
    clock = iter((100.0, 100.5, 102.5))  # at the start, and at the end of two updates
    monkeypatch.setattr(pipeline, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    run = MagicMock()
    run.config.ppo = PPOConfig(batch_size=8, num_updates=40)
    run.config.run = RunConfig(tensorboard=False, save_every=10)
    run.folder.metrics_until.return_value = []
    progress = pipeline.PolicyProgress(run, {})
    for update in (1, 2):
        progress.record(Step({"update": update}, None, {}, None), asked=False)
    found = [(row["seconds"], row["eps"]) for row in progress.rows]
    assert found == [(0.5, 16.0), (2.0, 4.0)]  # 8 / 0.5, 8 / 2
