"""Sampling and the record of a rollout."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.algorithms.base import PPOConfig
from minippo.critic_head import Critic
from minippo.kl import exact_kl
from minippo.rollout import (
    Models,
    Responses,
    apply_eos_rule,
    before_actions,
    continue_prompts,
    join,
    make_rollout,
    read_prompts,
    response_logits,
    response_logprobs,
    response_values,
    sample_responses,
)
from tests.helpers import TOLERANCE, assert_close, f64, small_gpt

PAD, EOS = 0, 2


def prompts(n=3, length=4, pads=0, seed=0):
    """n prompts of different lengths; `pads` more columns of padding on the left."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, 8, (n, length), generator=generator)
    mask = torch.arange(length) >= torch.arange(n).remainder(length).unsqueeze(1)
    tokens = torch.where(mask, tokens, PAD)
    return torch.cat((torch.zeros(n, pads, dtype=torch.int64), tokens), 1), torch.cat(
        (torch.zeros(n, pads, dtype=torch.bool), mask), 1
    )


def sample(model, prompt, seed=0, **settings):
    settings = dict(response_length=5, temperature=1.0, eos_id=EOS, pad_id=PAD) | settings
    generator = torch.Generator().manual_seed(seed)
    samples = settings.pop("samples_per_prompt", None)
    if samples is None:
        return sample_responses(model, *prompt, generator=generator, **settings)
    return continue_prompts(read_prompts(model, *prompt, samples), generator=generator, **settings)


# -- sampling


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    pads=st.integers(0, 5),
    samples=st.integers(1, 3),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
)
def test_sampling_with_the_cache_equals_sampling_without(seed, pads, samples, temperature):
    model, prompt = small_gpt(context_length=12, seed=seed), prompts(pads=pads, seed=seed)
    cached, plain = (
        sample(reader, prompt, seed, temperature=temperature, samples_per_prompt=samples)
        for reader in (model, lambda *both: model(*both))  # what is no GPT has no cache
    )
    assert torch.equal(cached[0], plain[0]) and torch.equal(cached[1], plain[1])
    assert_close(cached[2], plain[2])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_same_prompt_with_0_to_5_left_pads_gives_the_same_responses_and_numbers(dtype):
    model = small_gpt(dtype=dtype)
    wanted = sample(model, prompts())
    for pads in range(1, 6):
        tokens, mask, logprobs = sample(model, prompts(pads=pads))
        assert torch.equal(tokens, wanted[0]) and torch.equal(mask, wanted[1])
        assert_close(logprobs, wanted[2])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_logprobs_are_those_of_the_distribution_that_was_sampled_from(temperature):
    model, prompt = small_gpt(), prompts()
    tokens, mask, logprobs = sample(model, prompt, temperature=temperature)
    batch = Responses(*prompt, tokens, mask)
    assert_close(logprobs, response_logprobs(response_logits(model, batch, temperature), batch))


def test_responses_follow_the_softmax_of_the_logits():
    model, prompt = small_gpt(), prompts(n=1, length=2)
    tokens, _, _ = sample(model, prompt, response_length=1, samples_per_prompt=20000)
    shares = torch.bincount(tokens[:, 0], minlength=8) / 20000
    wanted = torch.softmax(model(*prompt)[0, -1], dim=-1)
    # four standard errors of a share of one half
    assert (shares - wanted).abs().max() < 4 * (0.25 / 20000) ** 0.5


def test_a_response_ends_with_its_first_eos_and_only_padding_follows():
    tokens, mask, logprobs = sample(
        small_gpt(), prompts(), response_length=8, samples_per_prompt=50
    )
    ended = 0
    for row, real, log_pi in zip(tokens.tolist(), mask.tolist(), logprobs, strict=True):
        length = row.index(EOS) + 1 if EOS in row else len(row)
        ended += EOS in row
        assert real == [True] * length + [False] * (len(row) - length)
        assert (
            set(row[length:]) <= {PAD}
            and (log_pi[length:] == 0).all()
            and (log_pi[:length] < 0).all()
        )
    assert 0 < ended < len(tokens)  # both kinds occurred


def test_samples_of_a_prompt_stand_in_a_row():
    model, prompt = small_gpt(), prompts(n=2)
    tokens, mask, logprobs = sample(model, prompt, samples_per_prompt=3)
    batch = Responses(*(x.repeat_interleave(3, dim=0) for x in prompt), tokens, mask)
    assert_close(logprobs, response_logprobs(response_logits(model, batch, 1.0), batch))


def test_a_model_that_is_no_gpt_is_sampled_without_a_cache():
    def always_5(tokens, mask):
        return torch.full((*tokens.shape, 8), -50.0).index_fill(2, torch.tensor([5]), 50.0)

    tokens, _, _ = sample(always_5, prompts())
    assert (tokens == 5).all()


def test_the_same_generator_state_gives_the_same_responses():
    first, second, other = (sample(small_gpt(), prompts(), seed=seed) for seed in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)) and not torch.equal(
        first[0], other[0]
    )


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"temperature": 0.0}, "temperature must be a finite number above 0"),
        ({"temperature": float("nan")}, "temperature must be a finite number above 0"),
        ({"response_length": 0}, "response_length must be at least 1"),
        ({"samples_per_prompt": 0}, "samples_per_prompt must be at least 1"),
        ({"pad_id": EOS}, "pad_id and eos_id are both 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        sample(small_gpt(), prompts(), **changed)


def test_a_prompt_padded_on_the_right_is_refused():
    tokens, mask = prompts()
    with pytest.raises(ValueError, match="a prompt ends before the last column"):
        sample(small_gpt(), (tokens.flip(1), mask.flip(1)))


# -- the alignment


def test_before_actions_takes_the_positions_p_minus_1_to_the_last_but_one():
    # P=3, T=4: the tokens a0..a3 stand at 3..6 and were chosen at 2..5
    positions = torch.arange(7).unsqueeze(0)
    assert before_actions(positions, 3).tolist() == [[2, 3, 4, 5]]


def test_values_and_logits_do_not_depend_on_what_comes_after():
    model, prompt = small_gpt(), prompts(n=1)
    critic = Critic(model)
    torch.nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[3, 4, 5, 6]])
    changed = torch.tensor([[3, 4, 7, 7]])  # from t=2 on: V and the logits of t=0, 1, 2 must stay
    mask = torch.ones_like(tokens, dtype=torch.bool)
    for read in (
        lambda batch: response_values(critic, batch),
        lambda batch: response_logits(model, batch, 1.0),
    ):
        one, two = (read(Responses(*prompt, response, mask)) for response in (tokens, changed))
        assert_close(one[:, :3], two[:, :3])
        assert (one[:, 3] - two[:, 3]).abs().max() > 1e-4


def test_join_puts_prompt_and_response_side_by_side():
    prompt = prompts(n=1, length=2)
    tokens, mask = join(*prompt, torch.tensor([[3, EOS, PAD]]), torch.tensor([[True, True, False]]))
    assert tokens[0, 2:].tolist() == [3, EOS, PAD] and mask[0].tolist() == [
        True,
        True,
        True,
        True,
        False,
    ]


# -- the EOS rule and the rollout


def test_the_eos_rule_replaces_or_lowers_the_score_of_what_did_not_end():
    scores, ended = f64([1.0, 2.0]), torch.tensor([True, False])
    assert apply_eos_rule(scores, ended, no_eos_score=-5.0, missing_eos_penalty=0.0).tolist() == [
        1.0,
        -5.0,
    ]
    assert apply_eos_rule(scores, ended, no_eos_score=None, missing_eos_penalty=0.5).tolist() == [
        1.0,
        1.5,
    ]
    assert apply_eos_rule(scores, ended, no_eos_score=None, missing_eos_penalty=0.0).tolist() == [
        1.0,
        2.0,
    ]


def rollout(policy, reference, *, critic=True, samples_per_prompt=1, **settings):
    return make_rollout(
        Models(policy, reference, Critic(policy) if critic else None),
        prompts(n=16),
        config=PPOConfig(**dict(response_length=6) | settings),
        score_function=lambda tokens, mask: mask.sum(dim=1).double(),
        generator=torch.Generator().manual_seed(0),
        eos_id=EOS,
        pad_id=PAD,
        samples_per_prompt=samples_per_prompt,
    )


def test_a_rollout_holds_what_each_model_says_and_zeros_in_the_padding():
    policy, reference = small_gpt(seed=1), small_gpt(seed=2)
    record = rollout(policy, reference, temperature=0.7)
    mask = record.response_mask
    assert not mask.all()
    assert_close(record.sample_logprobs, record.old_logprobs)
    logits, ref_logits = (
        response_logits(model, record, 0.7).detach() for model in (policy, reference)
    )
    assert_close(record.ref_logprobs, response_logprobs(ref_logits, record))
    assert_close(record.exact_kl[mask], exact_kl(logits=logits, ref_logits=ref_logits)[mask])
    for name in ("sample_logprobs", "old_logprobs", "ref_logprobs", "old_values", "exact_kl"):
        assert (getattr(record, name)[~mask] == 0).all() and not getattr(
            record, name
        ).requires_grad, name


def test_scores_are_of_prompt_and_response_and_follow_the_eos_rule():
    record = rollout(small_gpt(seed=1), small_gpt(seed=1), no_eos_score=-9.0)
    lengths = record.prompt_mask.sum(dim=1) + record.response_mask.sum(dim=1)
    assert record.ended.any() and not record.ended.all()
    assert torch.equal(record.scores, torch.where(record.ended, lengths.double(), -9.0))


def test_against_itself_the_kl_is_zero():
    record = rollout(small_gpt(seed=1), small_gpt(seed=1))
    assert_close(record.exact_kl, torch.zeros_like(record.exact_kl))
    assert_close(record.ref_logprobs, record.old_logprobs)


def test_rows_of_a_rollout_are_the_same_rows_of_every_tensor():
    record = rollout(small_gpt(seed=1), small_gpt(seed=2))
    part = record.rows(torch.tensor([3, 1]))
    assert all(
        torch.equal(getattr(part, name), value[[3, 1]]) for name, value in vars(record).items()
    )


def test_without_a_critic_there_are_no_values_and_all_else_is_the_same():
    with_critic, without = (
        rollout(small_gpt(seed=1), small_gpt(seed=2), critic=critic) for critic in (True, False)
    )
    assert without.old_values is None
    for name, value in vars(without).items():
        assert name == "old_values" or torch.equal(value, getattr(with_critic, name)), name
    part = without.rows(torch.tensor([3, 1]))
    assert part.old_values is None and torch.equal(part.scores, without.scores[[3, 1]])


def test_responses_to_one_prompt_are_neighbouring_rows_of_a_rollout():
    policy, reference = small_gpt(seed=1), small_gpt(seed=2)
    record = rollout(policy, reference, samples_per_prompt=3)
    tokens, mask = prompts(n=16)
    assert len(record) == 48
    for i in range(48):
        assert torch.equal(record.prompt_tokens[i], tokens[i // 3])
        assert torch.equal(record.prompt_mask[i], mask[i // 3])
    assert_close(record.sample_logprobs, record.old_logprobs)
    # what is said about a row is about its own prompt and response
    alone = Responses(*(getattr(record, x)[4:5] for x in vars(Responses(*[None] * 4))))
    wanted = response_logprobs(response_logits(reference, alone, 1.0), alone)
    assert_close(record.ref_logprobs[4:5], wanted.detach())
