"""Drawing responses from a model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.rollout import Responses, response_logits, response_logprobs
from minippo.sampling import continue_prompts, join, read_prompts, sample_responses
from tests.helpers import TOLERANCE, assert_close, small_gpt
from tests.worlds import padded_prompts as prompts

PAD, EOS = 0, 2


def sample(model, prompt, seed=0, **settings):
    settings = dict(response_length=5, temperature=1.0, eos_id=EOS, pad_id=PAD) | settings
    generator = torch.Generator().manual_seed(seed)
    samples = settings.pop("samples_per_prompt", None)
    if samples is None:
        return sample_responses(model, *prompt, generator=generator, **settings)
    return continue_prompts(read_prompts(model, *prompt, samples), generator=generator, **settings)


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


def test_what_begins_in_the_same_way_is_read_once():
    model, prompt, read = small_gpt(), prompts(n=2), []

    class Counted(torch.nn.Module):
        def forward(self, tokens, mask):
            read.append(len(tokens))
            return model(tokens, mask)

    tokens, mask, _ = sample(Counted(), prompt, samples_per_prompt=40, response_length=4)
    assert len(tokens) == 80 and read[0] == 2
    for t, rows in enumerate(read[1:], start=1):
        goes_on = mask[:, t]
        beginnings = {
            (int(row) // 40, *tokens[row, :t].tolist()) for row in goes_on.nonzero()[:, 0]
        }
        assert rows == len(beginnings) < int(goes_on.sum())
