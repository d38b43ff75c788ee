import pytest
import torch

from minippo import lora
from minippo.algorithms import REGISTRY
from minippo.gpt import GPT, KVCache, Linear
from minippo.rollout import choices
from minippo.stages.optimise import named_parameters
from minippo.stages.training_state import restore_training, training_tensors
from tests.helpers import assert_close, f64, mask_of_lengths, small_gpt
from tests.worlds import good_token, tiny

RANK = 3
ADAPTED = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
TOKENS, MASK = torch.tensor([[1, 5, 2, 7], [3, 3, 0, 0]]), mask_of_lengths([4, 2])


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def bits_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def untrained(dtype=torch.float64):
    """(reference, the policy on its weights)."""
    gpt = small_gpt(dtype=dtype)
    return gpt, lora.with_adapters(gpt, RANK, generator=seeded())


def learned():
    """The same after a training: A and B are not what they were."""
    gpt, policy = untrained()
    for name, parameter in policy.named_parameters():
        if name.endswith((".A", ".B")):
            torch.nn.init.normal_(parameter, std=0.3, generator=seeded(len(name)))
    return gpt, policy


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# the layer


def small_layer():
    base = Linear(2, 3).double()
    with torch.no_grad():
        base.weight.copy_(f64([[1, 2], [3, 4], [5, 6]]))
        base.bias.copy_(f64([0.5, 0, -1]))
    layer = lora.Adapted(base, 1, alpha=2.0)
    with torch.no_grad():
        layer.A.copy_(f64([[1, -1]]))
        layer.B.copy_(f64([[1], [0], [2]]))
    return layer


def test_the_layer_by_hand():
    # x W^T + b = [3 + 8 + 0.5, 9 + 16, 15 + 24 - 1]; x A^T = 3 - 4 = -1; scale 2 / 1, so the
    # adapter adds 2 * -1 * [1, 0, 2]
    layer, x = small_layer(), f64([[3, 4]])
    assert_close(layer(x), f64([[11.5 - 2, 25, 38 - 4]]))
    assert_close(layer.part(x, slice(1, 3)), f64([[25, 34]]))
    # W + 2 B A, row by row: [1, 2] + 2 [1, -1], [3, 4], [5, 6] + 4 [1, -1]
    assert_close(layer.merged_weight(), f64([[3, 0], [3, 4], [9, 2]]))


def test_the_factor_falls_with_the_rank():
    base = Linear(4, 4)
    assert [lora.Adapted(base, r, alpha=8.0).scale for r in (1, 2, 8)] == [8.0, 4.0, 1.0]


def test_a_starts_with_rows_of_length_about_1_and_b_at_zero():
    layer = lora.Adapted(Linear(400, 10), 50, generator=seeded())
    assert torch.allclose(layer.A.norm(dim=1), torch.ones(50), atol=0.2)
    assert torch.equal(layer.B, torch.zeros(10, 50))


# the policy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_policy_starts_as_the_reference_bit_for_bit(dtype):
    gpt, policy = untrained(dtype)
    before = small_gpt(dtype=dtype).requires_grad_(False)  # torch takes another way for some
    read = choices(2)
    for model in (policy, gpt):
        assert torch.equal(model(TOKENS, MASK), before(TOKENS, MASK))
        assert torch.equal(
            model.hidden(TOKENS, MASK, read=read), before.hidden(TOKENS, MASK, read=read)
        )


def test_only_the_adapters_of_the_blocks_matrices_are_trained():
    _, policy = untrained()
    names = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert names == {f"h.{i}.{place}.{x}" for i in range(2) for place in ADAPTED for x in "AB"}
    # of W [O,I]: r (O + I); here D = 8 and O + I is 32, 16, 40, 40
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    assert trained == 2 * RANK * (32 + 16 + 40 + 40)


def test_policy_and_reference_are_one_trunk_in_memory():
    gpt, policy = untrained()
    own, shared = dict(policy.named_parameters()), dict(gpt.named_parameters())
    assert all(own[name] is parameter for name, parameter in shared.items())
    assert not any(parameter.requires_grad for parameter in shared.values())


def test_what_the_policy_learns_does_not_reach_the_reference():
    gpt, policy = learned()
    assert same(bits_of(gpt), bits_of(small_gpt()))
    assert torch.equal(gpt(TOKENS, MASK), small_gpt()(TOKENS, MASK))
    assert not torch.allclose(policy(TOKENS, MASK), gpt(TOKENS, MASK))


def test_what_is_read_and_what_is_cached_is_the_same():
    _, policy = learned()
    read = choices(2)
    assert_close(policy.hidden(TOKENS, MASK, read=read), policy.hidden(TOKENS, MASK)[read])
    cache = KVCache(2)
    halves = policy(TOKENS[:, :2], MASK[:, :2], cache), policy(TOKENS[:, 2:], MASK[:, 2:], cache)
    assert_close(torch.cat(halves, dim=1)[MASK], policy(TOKENS, MASK)[MASK])


def test_merged_is_a_plain_gpt_that_says_the_same():
    gpt, policy = learned()
    plain = lora.merged(policy)
    assert type(plain) is GPT and plain.config == gpt.config
    assert plain.state_dict().keys() == gpt.state_dict().keys()
    assert_close(plain(TOKENS, MASK), policy(TOKENS, MASK))
    with torch.no_grad():  # its weights are its own
        for parameter in plain.parameters():
            parameter.zero_()
    assert same(bits_of(gpt), bits_of(small_gpt()))


def test_merged_before_any_step_is_the_reference_bit_for_bit():
    gpt, policy = untrained()
    assert same(bits_of(lora.merged(policy)), bits_of(gpt))


def test_the_first_gradient_is_that_of_the_matrix_through_the_adapter():
    # d loss / d B = scale (d loss / d W) A^T; with B = 0 nothing passes to A
    _, policy = untrained()
    policy(TOKENS)[..., 3].sum().backward()
    full = small_gpt()
    full(TOKENS)[..., 3].sum().backward()
    for i in range(2):
        for place in ADAPTED:
            layer = policy.get_submodule(f"h.{i}.{place}")
            of_weight = full.get_submodule(f"h.{i}.{place}").weight.grad
            assert layer.weight.grad is None and layer.bias.grad is None
            assert_close(layer.B.grad, lora.ALPHA / RANK * of_weight @ layer.A.T)
            assert torch.equal(layer.A.grad, torch.zeros_like(layer.A))


# the training


def with_lora(**settings):
    """A probe whose policy has adapters on the weights of its reference."""
    probe = tiny(**settings)
    probe.policy = lora.with_adapters(probe.reference, 2, generator=seeded())
    return probe


@pytest.mark.parametrize("algorithm", REGISTRY)
def test_every_algorithm_moves_the_adapters_and_nothing_else(algorithm):
    probe = with_lora(num_updates=2)
    reference, before = bits_of(probe.reference), bits_of(probe.policy)
    rows = probe.train(algorithm)
    assert same(bits_of(probe.reference), reference)
    for name, after in bits_of(probe.policy).items():
        assert torch.equal(after, before[name]) != name.endswith((".A", ".B")), name
    # at the first rollout the policy is the reference; later it is not
    assert rows[0]["objective/kl"] == 0 and rows[0]["objective/kl_policy_to_ref_exact"] == 0
    assert rows[1]["objective/kl_policy_to_ref_exact"] > 0
    assert [row["policy/without_gradient"] for row in rows] == [None, None]


def test_the_optimiser_gets_what_is_trained():
    probe = with_lora()
    update = REGISTRY["ppo"].update(probe.models(), probe.config, probe.generator)
    names = {name for name, _ in named_parameters(update.optimizers[0]) if "critic" not in name}
    wanted = {name for name, p in probe.policy.named_parameters() if p.requires_grad}
    assert names == {f"policy.{name}" for name in wanted}


def test_the_policy_learns():
    probe = with_lora(num_updates=8, response_length=1, batch_size=64, eos_id=999)
    probe.score_function = good_token
    probe.train()
    # with the embeddings frozen no policy of this size can be sure
    for prompt in ((1, 3), (1, 5)):
        after, before = (p[4] for p in probe.probabilities(prompt))
        assert after > before + 0.2


def test_a_state_holds_the_adapters_and_puts_them_back_bit_for_bit():
    probes = [with_lora(num_updates=2, seed=seed) for seed in (0, 0)]
    updates = [REGISTRY["pg"].update(p.models("pg"), p.config, p.generator) for p in probes]
    for probe in probes[:1]:
        for parameter in probe.policy.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, generator=seeded(5))
    taken, given = (
        dict(models={"policy": p.policy}, optimizers=u.optimizers, generator=p.generator)
        for p, u in zip(probes, updates, strict=True)
    )
    tensors = training_tensors(**taken)
    assert {name[-2:] for name in tensors if name.startswith("policy.")} == {".A", ".B"}
    restore_training(tensors, **given)
    assert same(bits_of(probes[1].policy), bits_of(probes[0].policy))
    # the frozen weights are not taken from a file
    restore_training(tensors | {"policy.wte.weight": torch.zeros(6, 16)}, **given)
    assert same(bits_of(probes[1].reference), bits_of(probes[0].reference))
