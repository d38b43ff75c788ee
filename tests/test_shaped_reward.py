import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo import gae, kl, shaped_reward
from tests.helpers import (
    assert_close,
    batch_of,
    check_common_refusals,
    check_layout_does_not_matter,
    check_padding_is_never_read,
    f64,
    mask_of_lengths,
    ragged_batches,
)


def ragged_with_scores(batch):
    scores = torch.randn(
        len(batch["response_mask"]), generator=torch.Generator().manual_seed(7), dtype=torch.float64
    )
    return batch | {"scores": scores}


def shaped(**batch):
    return shaped_reward.shaped_rewards(**batch, kl_coef=0.1)


# hand-worked numbers


def test_by_hand():
    # row 0: -.5 * (-1 + 2) = -.5, then -.5 * (-3 + 2) = .5 and the score 10 on its last token; row
    # 1: -.5 * .2 + 20
    rewards = shaped_reward.shaped_rewards(
        scores=f64([10.0, 20.0]),
        old_logprobs=f64([[-1.0, -3.0, 9.0], [-0.3, 9.0, 9.0]]),
        ref_logprobs=f64([[-2.0, -2.0, 0.0], [-0.5, 0.0, 0.0]]),
        response_mask=mask_of_lengths([2, 1], 3),
        kl_coef=0.5,
    )
    assert_close(rewards, [[-0.5, 10.5, 0], [19.9, 0, 0]])


# the theorem: the sum over a response is the score minus kl_coef times the log-ratio of the whole
# response


@given(ragged_batches("old_logprobs ref_logprobs"), st.floats(0, 2))
def test_the_return_is_score_minus_kl(batch, kl_coef):
    batch = ragged_with_scores(batch)
    mask = batch["response_mask"]
    rewards = shaped_reward.shaped_rewards(**batch, kl_coef=kl_coef)
    k1 = kl.kl_k1(logprobs=batch["old_logprobs"], ref_logprobs=batch["ref_logprobs"])
    assert_close(
        rewards.sum(dim=1), batch["scores"] - kl_coef * torch.where(mask, k1, 0.0).sum(dim=1)
    )


def test_the_expected_return_is_score_minus_exact_kl():
    # one token, every token of the vocabulary sampled once and weighted by its probability
    generator = torch.Generator().manual_seed(0)
    logits, ref_logits, scores = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    log_pi, log_ref = logits.log_softmax(0), ref_logits.log_softmax(0)
    rewards = shaped_reward.shaped_rewards(
        scores=scores,
        old_logprobs=log_pi.unsqueeze(1),
        ref_logprobs=log_ref.unsqueeze(1),
        response_mask=mask_of_lengths([1] * 4),
        kl_coef=0.3,
    )
    exact = kl.exact_kl(logits=logits[None, None], ref_logits=ref_logits[None, None]).sum()
    assert_close((log_pi.exp() * rewards[:, 0]).sum(), (log_pi.exp() * scores).sum() - 0.3 * exact)


# reductions


@given(ragged_batches("old_logprobs ref_logprobs"))
def test_without_a_penalty_only_the_score_is_left(batch):
    batch = ragged_with_scores(batch)
    mask = batch["response_mask"]
    wanted = torch.zeros_like(batch["old_logprobs"])
    for b, length in enumerate(mask.sum(dim=1).tolist()):
        wanted[b, length - 1] = batch["scores"][b]
    assert_close(shaped_reward.shaped_rewards(**batch, kl_coef=0.0), wanted)
    assert_close(shaped(**batch | {"ref_logprobs": batch["old_logprobs"]}), wanted)


def test_the_score_reaches_the_first_token_through_the_advantages():
    batch = ragged_with_scores(batch_of("old_logprobs", mask_of_lengths([3, 1]), 0))
    rewards = shaped(**batch, ref_logprobs=batch["old_logprobs"])
    values = torch.zeros_like(rewards)
    advantages = gae.gae_advantages(
        rewards=rewards, values=values, response_mask=batch["response_mask"], gamma=1.0, lam=1.0
    )
    assert_close(advantages, torch.where(batch["response_mask"], batch["scores"].unsqueeze(1), 0.0))


# padding


def test_padding_and_layout():
    batch = ragged_with_scores(
        batch_of("old_logprobs ref_logprobs", mask_of_lengths([3, 1, 4], 5), 0)
    )
    check_padding_is_never_read(shaped, batch)
    check_layout_does_not_matter(shaped, batch)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    one = torch.ones(1, 2, dtype=dtype)
    assert (
        shaped(
            scores=one[0, :1], old_logprobs=one, ref_logprobs=one, response_mask=one.bool()
        ).dtype
        == dtype
    )
    # a reward model of another width
    for scores in (torch.ones(1), torch.ones(1, dtype=torch.float64)):
        rewards = shaped(
            scores=scores, old_logprobs=one, ref_logprobs=one, response_mask=one.bool()
        )
        assert rewards.dtype == dtype and rewards.tolist() == [[0, 1]]


# refusals


def test_refusals():
    batch = ragged_with_scores(batch_of("old_logprobs ref_logprobs", mask_of_lengths([1]), 0))
    check_common_refusals(shaped, batch, data=["scores", "old_logprobs", "ref_logprobs"])


@pytest.mark.parametrize("bad", [-0.1, float("inf"), float("nan")])
def test_refused_kl_coef(bad):
    batch = ragged_with_scores(batch_of("old_logprobs ref_logprobs", mask_of_lengths([2]), 0))
    with pytest.raises(ValueError, match=r"kl_coef: got .*, wanted a number in \[0, inf\)"):
        shaped_reward.shaped_rewards(**batch, kl_coef=bad)


# an independent transcription


@given(ragged_batches("old_logprobs ref_logprobs"), st.floats(0, 2))
def test_against_numpy(batch, kl_coef):
    batch = ragged_with_scores(batch)
    logprobs, ref_logprobs, mask, scores = (
        batch[name].numpy() for name in ("old_logprobs", "ref_logprobs", "response_mask", "scores")
    )
    wanted = np.zeros(mask.shape)
    for b in range(len(mask)):
        for t in range(mask.shape[1]):
            if mask[b, t]:
                wanted[b, t] = -kl_coef * (logprobs[b, t] - ref_logprobs[b, t])
                is_last = t + 1 == mask.shape[1] or not mask[b, t + 1]
                wanted[b, t] += scores[b] if is_last else 0.0
    assert_close(shaped_reward.shaped_rewards(**batch, kl_coef=kl_coef), wanted)


def test_the_proportional_controller_by_hand():
    price = shaped_reward.proportional_kl_coef
    # 10 % above the target, half a horizon: 1 + 0.5 * 0.1
    assert price(kl_coef=0.2, kl=6.6, target=6.0, share=0.5) == pytest.approx(0.21)
    assert price(kl_coef=0.2, kl=5.4, target=6.0, share=0.5) == pytest.approx(0.19)
    for nats, error in ((60.0, 0.2), (float("inf"), 0.2), (0.0, -0.2), (-1.0, -0.2)):
        found = price(kl_coef=0.2, kl=nats, target=6.0, share=0.5)
        assert found == pytest.approx(0.2 * (1 + 0.5 * error))
    assert price(kl_coef=1e10, kl=99.0, target=6.0, share=1.0) == 1e10
    assert price(kl_coef=1e-10, kl=0.0, target=6.0, share=1.0) == 1e-10
    good = {"kl_coef": 0.2, "kl": 1.0, "target": 6.0, "share": 0.5}
    for name in ("kl_coef", "target", "share"):
        with pytest.raises(ValueError, match=name):
            price(**good | {name: 0.0})
    with pytest.raises(ValueError, match="kl"):
        price(**good | {"kl": float("nan")})
