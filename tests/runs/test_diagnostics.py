"""Each diagnostic of the trainer: provoked by a planted cause, and silent where there is none."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch

from minippo import rollout
from minippo.algorithms import DEFAULT, REGISTRY
from minippo.algorithms import ppo as updates
from minippo.kl import exact_kl
from minippo.rollout import continue_prompts, sample_responses
from minippo.runs import diagnostics
from minippo.runs.diagnostics import (
    AT_THE_END,
    BEFORE,
    DIAGNOSTICS,
    REFUSED,
    diagnose_all,
    never_asked,
)
from minippo.runs.folder import RunFolder
from minippo.tasks.capitals import Capitals
from tests.tiny_runs import TINY
from tests.worlds import BOS, EOS, Probe

ROOT = Path(__file__).parent.parent.parent


def even_tokens(tokens, mask):
    """A score that differs from response to response: the share of even tokens."""
    return ((tokens % 2 == 0) & mask).sum(dim=1) / mask.sum(dim=1)


def healthy(seed=0, score=even_tokens, **settings):
    """A world in which nothing is wrong: ragged responses, several steps per rollout, a price on KL
    that matters."""
    defaults = dict(
        eos_id=EOS,
        response_length=4,
        num_updates=25,
        learning_rate=1e-3,
        kl_coef=0.1,
        cliprange=0.2,
        cliprange_value=0.2,
    )
    return Probe(score, prompts=((BOS, 3), (BOS, 4)), seed=seed, **defaults | settings)


@pytest.fixture(scope="module")
def rows_of_seed_0():
    return healthy(0).train()


@pytest.fixture
def rows(rows_of_seed_0):
    """The metrics of a healthy training; a test may change them."""
    return copy.deepcopy(rows_of_seed_0)


def codes(rows, algorithm=DEFAULT, steps=8):
    silent = never_asked(REGISTRY[algorithm].silent_diagnostics, steps=steps)
    return [finding.code for finding in diagnose_all(rows, silent)]


def test_all_are_silent_on_a_healthy_training(rows):
    assert codes(rows) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 10))
def test_all_are_silent_on_nine_more_seeds(seed):
    assert codes(healthy(seed).train()) == []


@pytest.mark.parametrize(
    "algorithm",
    [
        *("pg", "gae", "trpo"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("rtg", "baseline", "ppo_unclipped", "ppo_kl", "ppo_adaptive_kl")
        ),
    ],
)
def test_all_are_silent_on_the_other_algorithms(algorithm):
    assert codes(healthy(kl_coef=0.2).train(algorithm), algorithm) == []


# -- each is provoked by its cause


def test_p001_the_update_reads_the_policy_at_another_temperature_than_the_rollout(monkeypatch):
    original = updates.logits_and_values
    monkeypatch.setattr(
        updates,
        "logits_and_values",
        lambda policy, critic, batch, temperature: original(policy, critic, batch, 1.2),
    )
    assert "P001" in codes(healthy(num_updates=1).train())


def test_p002_and_p003_responses_are_sampled_at_a_temperature_that_nobody_scores(monkeypatch):
    monkeypatch.setattr(
        rollout,
        "continue_prompts",
        lambda reading, *, temperature, **options: continue_prompts(
            reading, temperature=0.5, **options
        ),
    )
    rows = healthy(num_updates=10, batch_size=256, kl_coef=1e-6, learning_rate=1e-2).train()
    assert codes(rows)[0] == "P002" and "P003" in codes(rows)


@pytest.mark.slow
def test_p003_the_exact_kl_has_the_other_direction(monkeypatch):
    monkeypatch.setattr(
        rollout,
        "exact_kl",
        lambda *, logits, ref_logits: exact_kl(logits=ref_logits, ref_logits=logits),
    )
    found = codes(healthy(num_updates=10, batch_size=512, kl_coef=1e-6, learning_rate=1e-2).train())
    assert "P003" in found and not {"P001", "P002"}.intersection(found)


def test_p004_pad_is_eos():
    world = healthy()
    with pytest.raises(ValueError, match="^P004 pad-eos: pad_id and eos_id are both 2"):
        sample_responses(
            world.policy,
            *world.draw_prompts(2),
            response_length=3,
            temperature=1.0,
            eos_id=EOS,
            pad_id=EOS,
            generator=world.generator,
        )


def test_p005_no_response_can_end():
    assert codes(healthy(num_updates=5).train()) == []
    world = healthy(num_updates=5)
    world.eos_id = 999
    assert codes(world.train()) == ["P005"] and codes(world.train()[:4]) == []


def test_p006_and_p010_the_critic_is_frozen():
    world = healthy(num_updates=1)
    world.critic.requires_grad_(False)
    rows = world.train()
    assert codes(rows) == ["P006", "P010"]
    assert "critic.trunk.wte.weight and 17 more" in str(diagnose_all(rows)[1])


@pytest.mark.slow
def test_p006_the_critic_learns_the_opposite(monkeypatch):
    original = updates.clipped_value_loss
    monkeypatch.setattr(
        updates,
        "clipped_value_loss",
        lambda *, value_targets, **terms: original(value_targets=-value_targets, **terms),
    )
    rows = healthy(
        num_updates=21, learning_rate=3e-3, score=lambda tokens, mask: 2 + even_tokens(tokens, mask)
    ).train()
    assert "P006" in codes(rows) and diagnose_all(rows)[0].update == 20


@pytest.mark.slow
def test_p007_the_range_is_too_wide_for_steps_this_small():
    rows = healthy(learning_rate=1e-9).train()
    assert codes(rows[:19]) == [] and codes(rows) == ["P007"]


def test_p007_the_range_is_too_narrow():
    assert codes(
        healthy(num_updates=1, cliprange=1e-4, learning_rate=1e-2, num_ppo_epochs=8).train()
    ) == ["P007"]


def test_p007_is_not_asked_where_nothing_can_be_clipped():
    assert codes(healthy(num_ppo_epochs=1, num_mini_batches=1).train(), steps=1) == []


@pytest.mark.slow
def test_p008_the_policy_leaves_for_nothing():
    """The score is noise, a nat costs nothing and the steps are large: the policy drifts, and
    becomes certain of something."""
    generator = torch.Generator().manual_seed(0)
    rows = healthy(
        score=lambda tokens, mask: torch.rand(len(tokens), generator=generator),
        kl_coef=1e-9,
        num_updates=40,
        learning_rate=2e-2,
        response_length=6,
        cliprange=0.5,
        final_learning_rate=1.0,
    ).train()
    assert "P008" in codes(rows)


def row_of(update, kl, score, entropy=1.0, length=8.0):
    return {
        "update": update,
        "objective/kl": kl,
        "objective/scores": score,
        "policy/entropy_avg": entropy,
        "val/response_length": length,
    }


@pytest.mark.parametrize(
    "kls, scores, entropies, fires",
    [
        ([1, 13], [0, 0], [1, 1], True),  # far away, and nothing gained
        # far away for a higher score: reward hacking perhaps, but it is what was asked
        ([1, 13], [0, 1], [1, 1], False),
        ([13, 13], [0, 0], [1, 1], False),  # it has settled there
        ([1, 9], [0, 0], [1, 1], False),  # not so far
        ([1, 2], [0, 0], [1, 0.05], True),  # certain, and no better than at the start
        ([1, 2], [0, 1], [1, 0.05], False),  # certain, and better
    ],
)
def test_p008_distance_counts_when_it_buys_nothing(kls, scores, entropies, fires):
    rows = [
        row_of(update, *(pair[update // 5] for pair in (kls, scores, entropies)))
        for update in range(10)
    ]
    assert (diagnostics.kl_runaway(rows) is not None) == fires
    assert diagnostics.kl_runaway(rows[:9]) is None  # too early to compare five with five


@pytest.mark.parametrize(
    "length, kl, fires",
    [(8, 9.9, False), (8, 10.1, True), (40, 10.1, True), (160, 39, False), (160, 41, True)],
)
def test_p008_the_limit_grows_with_the_length_of_the_responses(length, kl, fires):
    kls = [1.0] * 5 + [kl] * 5
    rows = [row_of(update, kl, 0.0, length=length) for update, kl in enumerate(kls, start=1)]
    assert (diagnostics.kl_runaway(rows) is not None) == fires


def test_p008_one_rollout_that_goes_wrong_is_no_course():
    """Certain by then, and right but for one rollout; and the same with its KL."""
    good = [row_of(update, 1.0, 1.0) for update in range(6, 11)]
    for row in good:
        row["policy/entropy_avg"] = 0.01
    start = [row_of(update, 0.0, 0.0) for update in range(1, 6)]
    assert start[0]["policy/entropy_avg"] > 0.1
    accident = [*good[:3], good[3] | {"objective/scores": -9.0, "objective/kl": 99.0}, good[4]]
    assert diagnostics.kl_runaway(start + accident) is None
    course = [row | {"objective/scores": 0.0} for row in good]
    assert "entropy" in diagnostics.kl_runaway(start + course)


def test_p009_all_scores_are_equal():
    assert codes(
        healthy(score=lambda tokens, mask: torch.ones(len(tokens)), num_updates=1).train()
    ) == ["P009"]


def test_p010_a_parameter_takes_no_part():
    world = healthy(num_updates=1)
    world.policy.h[0].mlp.c_fc.bias.requires_grad_(False)
    rows = world.train()
    assert codes(rows) == ["P010"]
    assert str(diagnose_all(rows)[0]) == (
        "P010 grad-none: update 1, no gradient has reached policy.h.0.mlp.c_fc.bias; "
        "see docs/diagnostics.md"
    )


# -- whole runs


def rows_of(name):
    """The metrics of a run that is kept; tests/data/metrics/README.md says how each was made."""
    lines = (ROOT / "tests/data/metrics" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5])
def test_p011_the_policy_finds_what_the_reward_model_likes_and_nobody_wants(seed):
    rows = rows_of(f"capitals-200-prompts-seed-{seed}")
    (finding,) = diagnose_all(rows)
    assert (finding.code, finding.name, finding.update) == ("P011", "gold-falls", 20)
    assert finding.seen.startswith("hacked: gold fell from ")
    assert diagnose_all(rows, more_to_come=True) == []


def test_p011_is_silent_where_gold_rises_too():
    assert diagnose_all(rows_of("capitals-200-prompts-seed-4")) == []


HEALTHY = [
    path.stem
    for kind in ("default", "quick", "capitals")
    for path in sorted((ROOT / "tests/data/metrics").glob(f"{kind}-seed-*.jsonl"))
]


@pytest.mark.parametrize("name", HEALTHY)
def test_all_are_silent_on_healthy_runs(name):
    assert diagnose_all(rows_of(name)) == []


def course(gold, scores, **more):
    return [
        {"update": i, "objective/gold": x, "objective/scores": y, **more}
        for i, (x, y) in enumerate(zip(gold, scores, strict=True), start=1)
    ]


FALLS, RISES = [0.9, 0.8, 0.5, 0.5, 0.5, 0.5, 0.3, 0.4], [0.0, 0.1, 1, 1, 1, 1, 2.0, 2.1]


@pytest.mark.parametrize(
    "gold, scores, fires",
    [
        # 0.85 to 0.35: standard errors 0.05 and 0.05, together 0.071, so the fall is 7 of them
        (FALLS, RISES, True),
        (FALLS, [1.0] * 8, False),  # a policy that gets worse in everything is not hacking
        (RISES, RISES, False),
        # the fall, 0.1, is less than two of the standard errors of 0.05 and 0.05
        ([0.9, 0.8, 0, 0, 0, 0, 0.8, 0.7], RISES, False),
        ([0.9, 0.8, 0.5, 0.5, 0.5, 0.5, 0.3, None], RISES, False),  # not known
        (FALLS[:7], RISES[:7], False),  # too few for a standard error
        ([1.0] * 4 + [0.0] * 4, [0.0] * 4 + [1.0] * 4, True),  # without any noise
    ],
)
def test_p011_compares_the_first_quarter_with_the_last(gold, scores, fires):
    try:
        seen = diagnostics.gold_falls(course(gold, scores))
    except diagnostics.NotKnownError:
        seen = None
    assert (seen is not None) == fires


def reward_report(accuracy, low, high):
    return {"heldout_accuracy": accuracy, "heldout_low": low, "heldout_high": high}


def test_p012_the_reward_model_knows_no_more_than_a_coin():
    finding = diagnostics.reward_coin(reward_report(0.6, 0.48, 0.71))
    assert str(finding) == (
        "P012 reward-coin: the interval of the reward model's accuracy, 0.480 to 0.710, holds 0.5; "
        "see docs/diagnostics.md"
    )
    assert diagnostics.reward_coin(reward_report(0.8, 0.71, 0.87)) is None


def test_p013_a_demonstration_is_seen_more_than_fifty_times():
    pairs = [("q", str(number)) for number in range(60)]
    assert diagnostics.seen_often(pairs, 60 * 50) is None
    assert str(diagnostics.seen_often(pairs, 350 * 64)) == (
        "P013 seen-often: fine-tuning reads one of the 60 demonstrations 373 times; see "
        "docs/diagnostics.md"
    )
    # one that stands there twice is seen twice as often
    assert diagnostics.seen_often([*pairs, pairs[0]], 61 * 26).seen.endswith("52 times")


def test_p013_is_not_asked_where_a_rule_makes_the_demonstrations():
    assert Capitals().fixed_demonstrations() == () and diagnostics.seen_often((), 10**9) is None


def ends(first, last, **more):
    more = {"episode": 100, "val/score_std": 1.0} | more
    return [
        {"update": 1, "objective/rlhf_reward": first, **more},
        {"update": 2, "objective/rlhf_reward": last, **more | {"episode": 2 * more["episode"]}},
    ]


@pytest.mark.parametrize(
    "rows, fires",
    [
        # of 100 responses each: the standard error of the difference is sqrt(2) / 10 = 0.141
        (ends(0.5, 0.2), True),
        (ends(0.5, 0.3), False),
        (ends(0.5, 0.9), False),
        (ends(0.5, 0.2)[:1], False),
        (ends(0.5, 0.3, episode=10**6), True),
        (ends(0.5, 0.3, episode=10**6, **{"objective/kl_coef": 0.1, "objective/kl_se": 1}), False),
        (ends(0.5, 0.49, **{"val/score_std": None}), True),  # of which the noise is not known
    ],
)
def test_p014_what_is_maximised_ends_below_its_first_value(rows, fires):
    assert (diagnostics.rlhf_falls(rows) is not None) == fires


def test_p014_a_training_that_makes_the_policy_worse():
    rows = healthy(num_updates=12, learning_rate=5e-2, kl_coef=5.0, final_learning_rate=1.0).train()
    assert "P014" in codes(rows)
    assert "P014" not in [finding.code for finding in diagnose_all(rows, more_to_come=True)]


def test_p006_reads_the_rewards_to_go_where_the_targets_are_the_critics_own(rows):
    for row in rows[-5:]:
        row |= {"val/explained_variance": 0.8, "val/explained_variance_returns": -0.4}
    assert codes(rows) == ["P006"]
    for row in rows:  # a run that has no other
        del row["val/explained_variance_returns"]
    assert codes(rows) == []


@pytest.mark.parametrize("name", ["val/explained_variance", "val/explained_variance_returns"])
def test_a_number_that_is_not_known_is_not_judged(name, rows):
    rows[-1][name] = None
    assert codes(rows) == []


def test_no_null_in_the_last_row_is_more_than_silence(rows):
    for name in rows[-1].keys() - {"update", "episode"}:
        assert codes([*rows[:-1], rows[-1] | {name: None}]) == []


# -- the reader of noise, the page, the command


@pytest.mark.parametrize(
    "errors, fires",
    [([4, 4], True), ([-4, -4], True), ([4, -4], False), ([4, 2], False), ([2, 4], False)],
)
def test_p003_needs_three_standard_errors_twice_on_one_side(errors, fires):
    rows = [
        {
            "update": i,
            "objective/kl": 1 + 0.05 * z,
            "objective/kl_policy_to_ref_exact": 1.0,
            "objective/kl_se": 0.05,
        }
        for i, z in enumerate(errors)
    ]
    assert (diagnostics.kl_biased(rows) is not None) == fires
    for row in rows:
        row["objective/kl_policy_to_ref_exact"] += (
            10  # the same errors are now a small share of the KL
        )
        row["objective/kl"] += 10
    assert diagnostics.kl_biased(rows) is None


@pytest.mark.slow
def test_the_standard_error_of_k1_is_that_of_the_samples():
    """k1 minus the exact KL, over its standard error, is a standard normal number: its mean square
    over many rollouts is 1."""
    one_step = dict(num_ppo_epochs=1, num_mini_batches=1)
    rows = healthy(num_updates=100, learning_rate=1e-3, batch_size=32, **one_step).train()[20:]
    assert min(row["objective/kl"] for row in rows) > 0
    z = [
        (row["objective/kl"] - row["objective/kl_policy_to_ref_exact"]) / row["objective/kl_se"]
        for row in rows
    ]
    assert sum(x * x for x in z) / len(z) == pytest.approx(1.0, abs=0.35)


def test_every_code_has_its_section_on_the_page_and_stands_in_order():
    every = sorted([*DIAGNOSTICS, *AT_THE_END, *BEFORE])
    numbered = [code for code, _, _ in every]
    numbered += [code for code, _, _ in REFUSED]
    assert sorted(numbered) == [f"P{number:03}" for number in range(1, 15)]
    sections = re.findall(
        r"^## (P\d{3}) ([a-z-]+)$", (ROOT / "docs/diagnostics.md").read_text(), flags=re.M
    )
    assert sections == sorted((code, name) for code, name, _ in (*REFUSED, *every))


def test_each_code_speaks_once_in_a_run():
    rows = healthy(score=lambda tokens, mask: torch.ones(len(tokens)), num_updates=3).train()
    found = diagnose_all(rows)
    assert [finding.update for finding in found if finding.code == "P009"] == [1]


# -- what a run says that ends with a fault


def test_a_fault_names_stage_update_tensor_diagnostics_and_the_last_good_checkpoint(
    tmp_path, monkeypatch, capsys
):
    from minippo.commands.train import main

    original, calls = updates.clipped_surrogate_loss, []

    def breaks_in_the_fourth_update(**terms):
        calls.append(1)
        return original(**terms) * (float("nan") if len(calls) > 3 * 8 else 1.0)

    monkeypatch.setattr(updates, "clipped_surrogate_loss", breaks_in_the_fourth_update)
    monkeypatch.setattr(diagnostics, "SAME_SCORES", 1e9)  # so that one diagnostic fires
    out = tmp_path / "run"
    assert (
        main(
            [
                *TINY,
                "--num_updates",
                "5",
                "--save_every",
                "2",
                "--num_ppo_epochs",
                "4",
                "--out",
                str(out),
            ]
        )
        == 1
    )
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == (
        "error: policy, update 4: policy_loss is nan; try a smaller learning rate; diagnostics "
        "that fired: P012 reward-coin, P009 "
        f"adv-degenerate; last good checkpoint: {out}/checkpoints/update-0000002"
    )
    assert (
        sum(
            line.startswith("P009 adv-degenerate: update 1, all scores")
            for line in captured.out.splitlines()
        )
        == 1
    )


def test_a_fault_before_the_policys_training_says_so_too(tmp_path, capsys):
    from minippo.commands.train import main

    out = tmp_path / "run"
    assert (
        main(
            [*TINY, "--sft_learning_rate", "1e30", "--sft_steps", "5", "--out", str(out), "--quiet"]
        )
        == 1
    )
    assert re.fullmatch(
        rf"error: sft, step \d: .* is nan.*; diagnostics that fired: "
        rf"none; last good checkpoint: {out}"
        r"/checkpoints/pretrain",
        capsys.readouterr().err.splitlines()[-1],
    )


def test_what_fired_before_a_stop_is_not_said_again_and_stands_in_the_summary(
    tmp_path, monkeypatch, capsys
):
    from minippo.commands.train import main
    from tests.tiny_runs import read_json

    monkeypatch.setattr(diagnostics, "SAME_SCORES", 1e9)
    arguments = [*TINY, "--num_updates", "4", "--save_every", "2"]
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    append = RunFolder.append_metrics

    def stops(self, row):
        append(self, row)
        if row["update"] == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", stops)
        assert main([*arguments, "--out", str(tmp_path / "stopped")]) == 130
    capsys.readouterr()
    assert main(["--resume", "--out", str(tmp_path / "stopped")]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "P009" in line]
    assert len(said) == 1 and said[0].startswith("diagnostics  ")  # in the table at the end
    whole, stopped = (
        read_json(tmp_path / name / "summary.json")["diagnostics"] for name in ("whole", "stopped")
    )
    assert [finding["code"] for finding in whole] == ["P012", "P009"] and whole == stopped
