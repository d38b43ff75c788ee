import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo.critic_head import Critic
from minippo.gpt import GPT, GPTConfig
from minippo.reward_head import RewardModel
from tests.helpers import assert_close, mask_of_lengths, ragged_masks, weighted_total

CONFIG = GPTConfig(vocab_size=11, context_length=8, n_layer=2, n_head=2, n_embd=8)
PAD = 0  # random_tokens never draws it


def small_gpt(seed=0):
    return GPT(CONFIG, generator=torch.Generator().manual_seed(seed)).eval()


def small_critic():
    """In float64, with a head that is no longer zero."""
    critic = Critic(small_gpt()).double()
    with torch.no_grad():
        critic.head.weight.normal_(generator=torch.Generator().manual_seed(1))
        critic.head.bias.fill_(0.3)
    return critic


def small_reward_model():
    model = RewardModel(small_gpt(), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.head.bias.fill_(0.3)
    model.center.fill_(0.7)
    model.scale.fill_(0.4)
    return model


def random_tokens(*shape, seed=2):
    return torch.randint(1, CONFIG.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


# values


@pytest.mark.parametrize("seed", [0, 1])
def test_the_first_values_are_0(seed):
    critic, tokens = Critic(small_gpt(seed)), random_tokens(2, 4)
    for mask in (None, mask_of_lengths([4, 2])):
        assert torch.equal(critic(tokens, mask), torch.zeros(2, 4))


@given(ragged_masks(), st.integers(0, 3))
def test_the_value_is_the_head_at_each_real_token_and_0_at_pads(right_padded, left):
    critic, mask = small_critic(), torch.nn.functional.pad(right_padded, (left, 0))
    tokens = random_tokens(*mask.shape)
    values = critic(tokens, mask)
    for row, real, result in zip(tokens, mask, values, strict=True):
        hidden = critic.trunk.hidden(row[real].unsqueeze(0))[0]
        assert_close(result[real], hidden @ critic.head.weight[0] + critic.head.bias[0])
    assert (values[~mask] == 0).all() and (values[mask] != 0).all()


def test_0_at_pads_even_where_the_trunk_says_nan(monkeypatch):
    critic, mask = small_critic(), mask_of_lengths([1, 2])
    hidden = torch.ones(2, 2, CONFIG.n_embd, dtype=torch.float64).masked_fill(
        ~mask.unsqueeze(-1), float("nan")
    )
    monkeypatch.setattr(critic.trunk, "hidden", lambda tokens, mask, read: hidden)
    values = critic(random_tokens(2, 2), mask)
    assert (
        (values[~mask] == 0).all() and values[mask].isfinite().all() and (values[mask] != 0).all()
    )


def test_a_value_depends_on_its_prefix_and_on_nothing_later():
    critic, tokens = small_critic(), random_tokens(2, 6)
    values = critic(tokens)
    for t in range(6):
        changed = tokens.clone()
        changed[:, t] = tokens[:, t] % (CONFIG.vocab_size - 1) + 1
        difference = (critic(changed) - values).abs()
        assert (difference[:, :t] < 1e-10).all() and (difference[:, t] > 1e-6).all()


# where it starts


def test_it_starts_as_the_reward_model_with_its_center_and_scale():
    model, tokens, mask = (
        small_reward_model(),
        random_tokens(3, 5),
        mask_of_lengths([5, 1, 3]).flip(1),
    )
    critic = Critic.from_reward_model(model)
    assert_close(critic(tokens, mask), model.per_token(tokens, mask))
    assert_close(critic(tokens), model.per_token(tokens))
    assert_close(critic(tokens)[:, -1], model(tokens))


def trained(critic):
    weighted_total(critic(random_tokens(2, 4))).backward()
    torch.optim.SGD(critic.parameters(), lr=0.1).step()


def test_training_it_leaves_the_gpt_and_the_reward_model_alone():
    gpt, model = small_gpt(), small_reward_model()
    for source, critic in [(gpt, Critic(gpt)), (model, Critic.from_reward_model(model))]:
        before = {name: x.clone() for name, x in source.state_dict().items()}
        trained(critic)
        trained(critic)  # the first step from a zero head moves the head only
        assert all(torch.equal(x, before[name]) for name, x in source.state_dict().items())
        trunk_before = {name.removeprefix("trunk."): x for name, x in before.items()}
        assert all(
            not torch.equal(x, trunk_before[name]) for name, x in critic.trunk.state_dict().items()
        )


# gradients


def test_the_gradient_reaches_every_parameter():
    for critic in (small_critic(), Critic.from_reward_model(small_reward_model())):
        weighted_total(critic(random_tokens(2, 4), mask_of_lengths([4, 2]))).backward()
        for name, parameter in critic.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert (parameter.grad != 0).any(), name


def test_from_a_zero_head_the_gradient_reaches_the_head_alone():
    critic = Critic(small_gpt())
    weighted_total(critic(random_tokens(2, 4))).backward()
    assert all((parameter.grad == 0).all() for parameter in critic.trunk.parameters())
    assert all((parameter.grad != 0).all() for parameter in critic.head.parameters())


def test_no_gradient_comes_from_a_pad():
    critic, mask = small_critic(), mask_of_lengths([4, 2]).flip(1)
    tokens = random_tokens(2, 4).masked_fill(~mask, PAD)
    weighted_total(critic(tokens, mask)).backward()
    gradient = critic.trunk.wte.weight.grad
    assert (gradient[PAD] == 0).all()
    assert all((gradient[token] != 0).any() for token in tokens[mask].tolist())


# where it starts


def test_it_starts_from_a_reward_model_of_its_size_and_else_from_the_gpt():
    gpt = small_gpt()
    full, small = (RewardModel(gpt, layers=layers) for layers in (None, 1))
    critic = Critic.start(full, gpt)
    assert torch.equal(critic.head.weight, full.head.weight)
    critic = Critic.start(small, gpt)
    assert (critic.head.weight == 0).all()
    assert critic.trunk.config == gpt.config and critic.trunk is not gpt
    tokens = random_tokens(2, 4)
    assert torch.equal(critic.trunk(tokens), gpt(tokens))
