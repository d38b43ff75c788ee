"""Which forms of the KL as a loss have its gradient: by enumeration of all responses."""

import pytest
import torch
from hypothesis import given

from minippo.exact.oracle import response_probabilities, sequence_kl
from minippo.exact.world import TabularPolicy, World
from minippo.relatives import kl_losses
from minippo.relatives.kl_losses import KL_LOSSES
from tests.helpers import (
    assert_close,
    check_layout_does_not_matter,
    check_padding_is_never_read,
    f64,
    mask_of_lengths,
    ragged_batches,
)

NAMES = "logprobs old_logprobs ref_logprobs"
RIGHT = ("k2_response", "k1_response")


def exact_gradient(name, *, length, moved, reverse=False):
    """(mean gradient of the loss over responses of the old policy, gradient of the KL), by logits.

    moved: the policy has left the old one; reverse: of KL(reference || policy).
    """
    world = World(lambda prompt, tokens: 0.0, vocab_size=3, response_length=length)
    ref, old, new = (
        TabularPolicy(world, generator=torch.Generator().manual_seed(seed))() for seed in range(3)
    )
    logits = (new if moved else old).detach().requires_grad_()
    probabilities = response_probabilities(world, old.detach())
    losses = [
        KL_LOSSES[name].loss(
            logprobs=world.logprobs(logits)[n : n + 1],
            old_logprobs=world.logprobs(old.detach())[n : n + 1],
            ref_logprobs=world.logprobs(ref.detach())[n : n + 1],
            response_mask=world.response_mask[n : n + 1],
        )
        for n in range(len(probabilities))
    ]
    (mean,) = torch.autograd.grad((probabilities * torch.stack(losses)).sum(), logits)
    pair = (ref.detach(), logits) if reverse else (logits, ref.detach())
    (wanted,) = torch.autograd.grad(sequence_kl(world, *pair).sum(), logits)
    return mean, wanted


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("name", RIGHT)
def test_of_whole_responses_the_gradient_is_that_of_the_kl(name, moved):
    mean, wanted = exact_gradient(name, length=3, moved=moved)
    assert wanted.abs().max() > 0.1
    assert_close(mean, wanted)


def test_those_that_are_right_are_those_that_are_allowed():
    assert [name for name, form in KL_LOSSES.items() if form.why_not is None] == list(RIGHT)
    for name in KL_LOSSES:
        mean, wanted = exact_gradient(name, length=3, moved=False)
        assert ((mean - wanted).abs().max() < 1e-10) == (name in RIGHT), name


@pytest.mark.parametrize("name", ["k2", "weighted_k1"])
def test_per_token_they_are_right_for_one_token(name):
    mean, wanted = exact_gradient(name, length=1, moved=False)
    assert_close(mean, wanted)
    mean, wanted = exact_gradient(name, length=1, moved=True)
    assert ((mean - wanted).abs().max() < 1e-10) == (name == "weighted_k1")


def test_k1_has_no_gradient_on_average_and_k3_that_of_the_other_direction():
    mean, wanted = exact_gradient("k1", length=1, moved=False)
    assert mean.abs().max() < 1e-12 and wanted.abs().max() > 0.1
    mean, wanted = exact_gradient("k3", length=1, moved=False, reverse=True)
    assert_close(mean, wanted)


def test_by_hand():
    """Rows of 2 and 1 tokens: d = 1, -3 and 2, so -2 and 2 for the rows; log-ratios to the old
    policy 0, log 2 and 0, so ratios 2 and 1 for the rows."""
    log2 = float(torch.tensor(2.0, dtype=torch.float64).log())
    batch = {
        "logprobs": f64([[-1, -2], [-3, 9]]),
        "old_logprobs": f64([[-1, -2 - log2], [-3, 0]]),
        "ref_logprobs": f64([[-2, 1], [-5, 4]]),
        "response_mask": mask_of_lengths([2, 1]),
    }
    e = torch.e
    wanted = {
        "k2_response": (2 * 4 / 2 + 4 / 2) / 2,
        "k1_response": (2 * -2 + 2) / 2,
        "k1": (1 - 3 + 2) / 3,
        "k2": (1 + 9 + 4) / 6,
        "weighted_k1": (1 - 2 * 3 + 2) / 3,
        "k3": (e**-1 - 1 + 1 + e**3 - 1 - 3 + e**-2 - 1 + 2) / 3,
    }
    for name, form in KL_LOSSES.items():
        assert_close(form.loss(**batch), wanted[name])


@pytest.mark.parametrize("name", KL_LOSSES)
@given(batch=ragged_batches(NAMES))
def test_padding_and_layout(name, batch):
    check_padding_is_never_read(KL_LOSSES[name].loss, batch, ["logprobs"])
    check_layout_does_not_matter(KL_LOSSES[name].loss, batch, ["logprobs"])


@pytest.mark.parametrize("name", KL_LOSSES)
def test_refusals(name):
    mask = mask_of_lengths([2, 1])
    good = {key: torch.zeros(2, 2) for key in NAMES.split()} | {"response_mask": mask}
    loss = KL_LOSSES[name].loss
    assert loss(**good).item() == 0.0
    for key in NAMES.split()[1:]:
        with pytest.raises(ValueError, match=f"^{key}: got a tensor that requires grad"):
            loss(**good | {key: torch.zeros(2, 2, requires_grad=True)})
    with pytest.raises(ValueError, match="logprobs"):
        loss(**good | {"logprobs": torch.zeros(1, 2)})
    assert kl_losses.KL_REWARDS.keys() == {"k2", "k3", "exact"}
