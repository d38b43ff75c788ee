"""Sampling and the record of a rollout."""

import pytest
import torch

from minippo.algorithms.base import PPOConfig
from minippo.critic_head import Critic
from minippo.kl import exact_kl
from minippo.rollout import (
    Models,
    Responses,
    apply_eos_rule,
    before_actions,
    logits_to_one_prompt,
    make_rollout,
    response_logits,
    response_logprobs,
    response_values,
)
from tests.helpers import assert_close, f64, small_gpt
from tests.worlds import padded_prompts as prompts

PAD, EOS = 0, 2


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
    assert record.end_values is None and part.end_values is None
    assert all(
        torch.equal(getattr(part, name), value[[3, 1]])
        for name, value in vars(record).items()
        if value is not None
    )


def test_without_a_critic_there_are_no_values_and_all_else_is_the_same():
    with_critic, without = (
        rollout(small_gpt(seed=1), small_gpt(seed=2), critic=critic) for critic in (True, False)
    )
    assert without.old_values is None
    for name, value in vars(without).items():
        assert value is None or torch.equal(value, getattr(with_critic, name)), name
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


def test_trimmed_loses_the_columns_that_are_padding_in_every_row_and_nothing_else():
    model, prompt = small_gpt(), prompts(n=3, length=4, pads=2)
    tokens = torch.tensor([[3, EOS, PAD, PAD], [4, 5, EOS, PAD], [EOS, PAD, PAD, PAD]])
    mask = torch.tensor([[True, True, False, False], [True] * 3 + [False], [True] + [False] * 3])
    batch = Responses(*prompt, tokens, mask)
    short = batch.trimmed()
    assert short.prompt_tokens.shape == (3, 4) and short.response_tokens.shape == (3, 3)
    assert torch.equal(short.response_tokens, tokens[:, :3]) and torch.equal(
        short.prompt_mask, prompt[1][:, 2:]
    )
    logits, wanted = response_logits(model, short, 1.0), response_logits(model, batch, 1.0)
    real = mask[:, :3]
    assert_close(logits[real], wanted[:, :3][real])


@pytest.mark.parametrize("T", [1, 4])
def test_responses_to_one_prompt_have_the_same_logits_when_it_is_read_once(T):
    model, prompt = small_gpt(), [x.expand(3, -1) for x in prompts(n=1, pads=1)]
    tokens = torch.tensor([[3, EOS, PAD, PAD], [4, 5, 6, EOS], [EOS, PAD, PAD, PAD]])[:, :T]
    mask = torch.tensor([[True, True, False, False], [True] * 4, [True] + [False] * 3])[:, :T]
    batch = Responses(*prompt, tokens, mask)
    once, wanted = (read(model, batch, 0.7) for read in (logits_to_one_prompt, response_logits))
    assert_close(once[mask], wanted[mask])
