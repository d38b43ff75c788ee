"""Where the KL is, how many samples a prompt needs, and what of it is refused."""

import pytest

from minippo.algorithms import REGISTRY
from minippo.algorithms.config import PPOConfig
from minippo.algorithms.fitting import check_fit, own_kl_note, placed_kl
from minippo.commands.config import check_used, resolve


@pytest.mark.parametrize(
    "algorithm, kl_in, wanted",
    [
        ("rloo", "own", ("k1", "none")),
        ("rloo", "loss", ("none", "k2_response")),
        ("rloo", "none", ("none", "none")),
        ("grpo", "own", ("none", "k3")),
        ("grpo", "reward", ("k1", "none")),
        ("grpo", "loss", ("none", "k3")),
        ("dapo", "own", ("none", "none")),
        ("dapo", "reward", ("k1", "none")),
        ("gspo", "loss", ("none", "k2_response")),
        ("ppo", "own", ("k1", "none")),
        ("ppo", "none", ("none", "none")),
    ],
)
def test_the_kl_is_where_the_algorithm_has_it_unless_it_is_placed(algorithm, kl_in, wanted):
    ppo = resolve({"algorithm": algorithm, "kl_in": kl_in}).ppo
    assert (ppo.kl_reward, ppo.kl_loss) == wanted
    assert resolve({"algorithm": algorithm} | vars(ppo)).ppo == ppo  # and stays there


def test_of_its_own_place_nothing_is_said():
    assert placed_kl({}, REGISTRY["grpo"]) == {} == placed_kl({"kl_in": "own"}, REGISTRY["ppo"])


@pytest.mark.parametrize(
    "settings, line",
    [
        (
            {"algorithm": "rloo", "samples_per_prompt": 1},
            "samples_per_prompt: .* at least 2, got 1",
        ),
        ({"algorithm": "rft", "samples_per_prompt": 1}, "samples_per_prompt: .* at least 2"),
        ({"algorithm": "grpo", "batch_size": 30}, "batch_size: wanted a multiple of the 4"),
        (
            {"algorithm": "grpo", "samples_per_prompt": 3},
            "batch_size: wanted a multiple of the 3 samples .* got 128",
        ),
        (
            {"algorithm": "rloo", "kl_in": "none", "kl_reward": "k1"},
            "kl_in: none and --kl_reward k1 contradict",
        ),
        (
            {"algorithm": "grpo", "kl_in": "reward", "kl_loss": "k3"},
            "kl_in: reward and --kl_loss k3 contradict",
        ),
        ({"algorithm": "grpo", "kl_loss": "k1"}, "kl_loss: k1 as a loss is broken"),
        ({"algorithm": "grpo", "kl_reward": "k1"}, "kl_loss: the KL is in the reward too"),
        ({"algorithm": "dr_grpo", "kl_loss": "k3"}, "kl_loss: k3 as a loss is broken"),
        ({"algorithm": "dapo", "kl_controller": "proportional"}, "kl_controller: there is no KL"),
        ({"algorithm": "ppo", "kl_in": "loss"}, "kl_loss: whitening .* --no-whiten_advantages"),
        ({"algorithm": "dapo", "overlong_buffer": 15}, "overlong_buffer: wanted at most .* 14"),
    ],
)
def test_what_does_not_fit_is_refused(settings, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        resolve(settings)


@pytest.mark.parametrize(
    "settings, line",
    [
        ({"algorithm": "rloo", "vf_coef": 0.2}, "vf_coef: --algorithm rloo does not use it; it is"),
        ({"algorithm": "rloo", "critic_start": "sft"}, "critic_start: --algorithm rloo does not"),
        ({"algorithm": "rloo", "lam": 0.9}, "lam: --algorithm rloo does not use it"),
        (
            {"algorithm": "grpo", "whiten_advantages": True},
            "whiten_advantages: --algorithm grpo does not use it; .*the other responses",
        ),
        ({"algorithm": "gspo", "loss_reduction": "token_mean"}, "loss_reduction: .*gspo does not"),
        ({"algorithm": "dpo", "kl_controller": "fixed"}, "kl_controller: --algorithm dpo .* pairs"),
        ({"algorithm": "dpo", "num_ppo_epochs": 2}, "num_ppo_epochs: --algorithm dpo does not use"),
        ({"algorithm": "ipo", "label_smoothing": 0.1}, "label_smoothing: .* it is for dpo$"),
        ({"algorithm": "rft", "kl_reward": "none"}, "kl_reward: --algorithm rft .* there is no KL"),
        ({"algorithm": "ppo", "std_correction": 1}, "std_correction: --algorithm ppo does not use"),
        ({"algorithm": "grpo", "max_draws": 2}, "max_draws: .* it is for dapo$"),
        ({"algorithm": "pg", "kl_in": "none"}, "kl_in: --algorithm pg does not use it"),
    ],
)
def test_what_would_change_nothing_is_refused_with_the_reason(settings, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        check_used(settings, resolve(settings))


def test_allow_broken_allows_what_is_broken_and_not_what_does_not_fit():
    assert resolve({"algorithm": "dr_grpo", "kl_loss": "k3", "allow_broken": True})
    with pytest.raises(ValueError, match="^samples_per_prompt"):
        resolve({"algorithm": "grpo", "samples_per_prompt": 1, "allow_broken": True})


def test_the_screen_is_told_of_an_own_kl_that_does_not_lead_to_the_optimum():
    for algorithm, record in REGISTRY.items():
        lines = own_kl_note(resolve({"algorithm": algorithm}).ppo, record)
        assert len(lines) == (algorithm == "grpo")
    (line,) = own_kl_note(resolve({"algorithm": "grpo"}).ppo, REGISTRY["grpo"])
    assert line.startswith("grpo: k3 as a loss is broken: for one token")
    check_fit(PPOConfig(), REGISTRY["ppo"], {})
