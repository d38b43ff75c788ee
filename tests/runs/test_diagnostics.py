"""Each diagnostic of the trainer: provoked by a planted cause, and silent where there is none."""

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
from minippo.runs.diagnostics import DIAGNOSTICS, diagnose_all, never_asked
from minippo.runs.folder import RunFolder
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


def codes(rows, algorithm=DEFAULT, steps=8):
    silent = never_asked(REGISTRY[algorithm].silent_diagnostics, steps=steps)
    return [finding.code for finding in diagnose_all(rows, silent)]


@pytest.mark.parametrize(
    "seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 10))]
)
def test_all_are_silent_on_ten_healthy_seeds(seed):
    assert codes(healthy(seed).train()) == []


@pytest.mark.parametrize(
    "algorithm",
    ["pg", "rtg", "baseline", "gae", "trpo", "ppo_unclipped", "ppo_kl", "ppo_adaptive_kl"],
)
def test_all_are_silent_on_the_other_algorithms(algorithm):
    assert codes(healthy(kl_coef=0.2).train(algorithm), algorithm) == []


# -- each is provoked by its cause


def test_p001_the_update_reads_the_policy_at_another_temperature_than_the_rollout(monkeypatch):
    original = updates.response_logits
    monkeypatch.setattr(
        updates, "response_logits", lambda model, batch, temperature: original(model, batch, 1.2)
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


def test_p007_the_range_is_too_wide_for_steps_this_small():
    rows = healthy(learning_rate=1e-9).train()
    assert codes(rows[:19]) == [] and codes(rows) == ["P007"]


def test_p007_the_range_is_too_narrow():
    assert codes(
        healthy(num_updates=1, cliprange=1e-4, learning_rate=1e-2, num_ppo_epochs=8).train()
    ) == ["P007"]


def test_p007_is_not_asked_where_nothing_can_be_clipped():
    assert codes(healthy(num_ppo_epochs=1, num_mini_batches=1).train(), steps=1) == []


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


def row_of(update, kl, score, entropy=1.0):
    return {
        "update": update,
        "objective/kl": kl,
        "objective/scores": score,
        "policy/entropy_avg": entropy,
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
    numbered = [code for code, _, _ in DIAGNOSTICS]
    assert sorted([*numbered, "P004"]) == [
        f"P{number:03}" for number in range(1, 11)
    ] and numbered == sorted(numbered)
    sections = re.findall(
        r"^## (P\d{3}) ([a-z-]+)$", (ROOT / "docs/diagnostics.md").read_text(), flags=re.M
    )
    assert sections == sorted(
        [("P004", "pad-eos"), *((code, name) for code, name, _ in DIAGNOSTICS)]
    )


def test_each_code_speaks_once_in_a_run():
    rows = healthy(score=lambda tokens, mask: torch.ones(len(tokens)), num_updates=3).train()
    assert [finding.update for finding in diagnose_all(rows)] == [1]


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
        "that fired: P009 "
        f"adv-degenerate; last good checkpoint: {out}/checkpoints/update-0000002"
    )
    assert (
        sum(
            "P009 adv-degenerate: update 1, all scores" in line
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
    assert "P009" not in capsys.readouterr().out
    whole, stopped = (
        read_json(tmp_path / name / "summary.json")["diagnostics"] for name in ("whole", "stopped")
    )
    assert [finding["code"] for finding in whole] == ["P009"] and whole == stopped
