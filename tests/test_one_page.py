"""The page is PPO as the package does it: the same rollout, rewards and weights after an update."""

import ast
import runpy
import sys
from pathlib import Path

import pytest
import torch

from minippo import one_page
from minippo.algorithms.base import Experience, PPOConfig
from minippo.algorithms.ppo import PPOUpdate
from minippo.critic_head import Critic
from minippo.gpt import GPT, GPTConfig
from minippo.rollout import Models, make_rollout
from minippo.stages.credit import estimate_advantages

PAGE = Path(one_page.__file__)
SETTINGS = one_page.Settings(
    num_updates=1,
    batch_size=24,
    num_ppo_epochs=3,
    num_mini_batches=2,
    learning_rate=3e-3,
    kl_coef=0.3,
    gamma=0.9,
    lam=0.8,
    cliprange=0.1,
    cliprange_value=0.1,
    vf_coef=0.5,
    max_grad_norm=2.0,
)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def models_of_the_page():
    """A policy, a reference that is not the same, and a critic whose head is not 0."""
    policy, reference = (
        one_page.GPT(torch.Generator().manual_seed(seed), D=16, H=2) for seed in (0, 1)
    )
    critic = one_page.Critic(policy)
    torch.nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(2))
    torch.nn.init.constant_(critic.head.bias, -3.0)
    return policy, reference, critic


def models_of_the_package(policy, reference, critic):
    """The package's models with the page's weights, by name."""
    size = GPTConfig(
        vocab_size=one_page.V,
        context_length=one_page.P + one_page.T,
        n_layer=2,
        n_head=2,
        n_embd=16,
    )
    twins = Models(GPT(size), GPT(size), Critic(GPT(size)))
    for twin, model in zip(twins, (policy, reference, critic), strict=True):
        twin.load_state_dict(model.state_dict())
    return twins


def rollouts_of_both():
    """The models and the rollout of each, drawn with generators in the same state."""
    models = models_of_the_page()
    twins = models_of_the_package(*models)
    prompts = torch.randint(
        one_page.EOS, (SETTINGS.batch_size, one_page.P), generator=torch.Generator().manual_seed(3)
    )
    generators = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    rollout = one_page.sample(*models, prompts, generators[0])
    twin = make_rollout(
        twins,
        (prompts, torch.ones_like(prompts, dtype=torch.bool)),
        score_function=lambda tokens, mask: one_page.score(torch.where(mask, tokens, one_page.EOS)),
        config=config_of_the_package(),
        generator=generators[1],
        eos_id=one_page.EOS,
        pad_id=0,
    )
    return models, twins, rollout, twin


def config_of_the_package():
    return PPOConfig(
        **SETTINGS._asdict(), response_length=one_page.T, no_eos_score=None, ent_coef=0.0
    )


def test_both_draw_the_same_responses_and_say_the_same_about_them(float64):
    _, _, rollout, twin = rollouts_of_both()
    mask = twin.response_mask
    assert torch.equal(rollout.mask, mask) and not mask.all() and mask.any()
    assert torch.equal(rollout.tokens[:, one_page.P :][mask], twin.response_tokens[mask])
    torch.testing.assert_close(rollout.scores, twin.scores)
    for name in ("old_logprobs", "ref_logprobs", "old_values"):
        here, there = getattr(rollout, name)[mask], getattr(twin, name)[mask]
        torch.testing.assert_close(here, there, rtol=0, atol=1e-9)


def test_rewards_and_advantages_are_those_of_the_package(float64):
    _, _, rollout, twin = rollouts_of_both()
    raw = PPOConfig(
        **config_of_the_package().__dict__ | {"whiten_advantages": False, "batch_size": 24}
    )
    rewards, advantages, targets = estimate_advantages(twin, raw)
    ours = one_page.shaped_rewards(rollout, SETTINGS.kl_coef)
    torch.testing.assert_close(ours, rewards)
    found = one_page.gae_advantages(ours, rollout.old_values, SETTINGS.gamma, SETTINGS.lam)
    torch.testing.assert_close(found, advantages)
    torch.testing.assert_close(found + rollout.old_values, targets)


def test_one_update_leaves_the_weights_that_the_package_leaves(float64):
    """Three passes of two minibatches. Both clips bite, and the norm of some gradients is held
    down, so a slip in any of them shows."""
    (policy, _, critic), twins, rollout, twin = rollouts_of_both()
    optimizer = one_page.Adam(
        [*policy.parameters(), *critic.parameters()], SETTINGS.learning_rate, eps=1e-5
    )
    one_page.ppo_update(
        policy, critic, optimizer, rollout, SETTINGS, torch.Generator().manual_seed(5)
    )

    config = config_of_the_package()
    update = PPOUpdate(twins, config, torch.Generator().manual_seed(5))
    _, advantages, targets = estimate_advantages(twin, config)
    updated = update(
        Experience(twin, advantages, targets), learning_rate=config.learning_rate, where="test"
    )

    assert updated.metrics["policy/clipfrac_avg"] > 0.05
    assert updated.metrics["val/clipfrac_avg"] > 0.05
    assert updated.metrics["policy/grad_norm"] > SETTINGS.max_grad_norm
    for model, of_the_package in ((policy, twins.policy), (critic, twins.critic)):
        expected = of_the_package.state_dict()
        assert model.state_dict().keys() == expected.keys()
        for name, weight in model.state_dict().items():
            torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)


def test_the_best_score_is_0_and_each_slip_costs_what_the_page_says():
    a, b, end = 0, 1, one_page.EOS
    prompt = [a, a, b, b, b]
    responses = [
        [b, a, b, a, b, end, end],  # an anagram
        [b, a, b, a, end, end, end],  # one b is missing
        [b, a, b, a, a, a, end],  # a b is missing, two a are too many
        [b, a, b, a, b, a, a],  # two a too many, and no end
    ]
    tokens = torch.tensor([prompt + response for response in responses])
    assert one_page.score(tokens).tolist() == [0, -1, -3, -7]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_score_rises(seed, capsys):
    assert one_page.main(["--seed", str(seed)]) == 0
    scores = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines()[:-1]]
    assert len(scores) == one_page.Settings().num_updates
    assert sum(scores[-5:]) > sum(scores[:5]) + 10


@pytest.mark.slow
def test_a_few_updates_are_enough_to_see_it_rise():
    scores = one_page.train(one_page.Settings(num_updates=10, batch_size=64), seed=0)
    assert sum(scores[-3:]) > sum(scores[:3]) + 3


def test_the_same_seed_gives_the_same_scores(capsys):
    few = one_page.Settings(num_updates=2, batch_size=16)
    first, second, other = (one_page.train(few, seed) for seed in (0, 0, 1))
    assert first == second != other
    assert capsys.readouterr().out.startswith("update   1  score")


def test_it_is_one_page_and_stands_alone():
    source = PAGE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 200
    roots = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            roots.add(str(node.module).split(".")[0])
    assert roots - set(sys.stdlib_module_names) == {"torch"}


def test_importing_it_runs_nothing(capfd):
    before = torch.get_rng_state()
    runpy.run_path(str(PAGE), run_name="page")
    assert torch.equal(torch.get_rng_state(), before) and capfd.readouterr() == ("", "")
