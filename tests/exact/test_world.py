"""The enumerable world, against lists that are made without its tree: all tuples, and those of them
that are responses."""

import functools
import itertools
import math
import random
import time

import pytest
import torch

from minippo.exact.world import EOS, GPTPolicy, TabularPolicy, World
from tests.helpers import assert_close, f64, weighted_total

SHAPES = [  # vocab_size, response_length, prompts, has_eos
    (2, 1, 1, True),
    (2, 1, 2, False),
    (2, 3, 1, True),
    (3, 3, 1, True),
    (3, 2, 3, True),
    (3, 3, 2, False),
    (4, 2, 1, True),
    (5, 1, 1, True),
    (2, 5, 2, True),
    (5, 2, 2, False),
]


@functools.cache
def reward(prompt, tokens):
    """Any number for each response so far."""
    return random.Random(f"{prompt} {tokens}").gauss(0, 1)


def all_responses(vocab_size, response_length, has_eos):
    """Every tuple that is a response: it ends with EOS or at the last step, and not before."""
    tuples = (
        tokens
        for n in range(1, response_length + 1)
        for tokens in itertools.product(range(vocab_size), repeat=n)
    )
    return [
        tokens
        for tokens in tuples
        if not (has_eos and 0 in tokens[:-1])
        and (len(tokens) == response_length or has_eos and tokens[-1] == 0)
    ]


def all_states(vocab_size, response_length, has_eos):
    """Every proper beginning of a response."""
    responses = all_responses(vocab_size, response_length, has_eos)
    return {tokens[:t] for tokens in responses for t in range(len(tokens))}


def rows_of(world):
    """[(prompt, tokens)] of the rows of a world, without their padding."""
    return [
        (prompt, tuple(tokens[: sum(mask)]))
        for prompt, tokens, mask in zip(
            world.prompt_index.tolist(),
            world.response_tokens.tolist(),
            world.response_mask.tolist(),
            strict=True,
        )
    ]


def make(vocab_size, response_length, prompts, has_eos, **options):
    return World(
        reward,
        vocab_size=vocab_size,
        response_length=response_length,
        prompts=prompts,
        has_eos=has_eos,
        **options,
    )


# -- the tree


@pytest.mark.parametrize("vocab_size, response_length, prompts, has_eos", SHAPES)
def test_states_and_responses_are_all_there_is_and_each_is_there_once(
    vocab_size, response_length, prompts, has_eos
):
    world = make(vocab_size, response_length, prompts, has_eos)
    responses = {
        (prompt, tokens)
        for prompt in range(prompts)
        for tokens in all_responses(vocab_size, response_length, has_eos)
    }
    states = {
        (prompt, tokens)
        for prompt in range(prompts)
        for tokens in all_states(vocab_size, response_length, has_eos)
    }
    assert set(rows_of(world)) == responses and len(rows_of(world)) == len(responses)
    assert set(world.states) == states and len(world.states) == len(states)
    # in each state this many tokens go on, at most
    others = vocab_size - 1 if has_eos else vocab_size
    levels = [others**depth for depth in range(response_length)]
    assert len(states) == prompts * sum(levels)
    assert len(responses) == prompts * (levels[-1] * vocab_size + has_eos * sum(levels[:-1]))
    assert (world.vocab_size, world.response_length, world.prompts) == (
        vocab_size,
        response_length,
        prompts,
    )


@pytest.mark.parametrize("vocab_size, response_length, prompts, has_eos", SHAPES)
def test_what_the_tensors_say_of_the_states(vocab_size, response_length, prompts, has_eos):
    world = make(vocab_size, response_length, prompts, has_eos)
    number = {state: k for k, state in enumerate(world.states)}
    over = set(rows_of(world))
    assert world.states[:prompts] == [(prompt, ()) for prompt in range(prompts)]
    assert (
        world.depth.tolist()
        == [len(tokens) for _, tokens in world.states]
        == sorted(world.depth.tolist())
    )
    for k, (prompt, tokens) in enumerate(world.states):
        for token in range(vocab_size):
            longer = (prompt, (*tokens, token))
            assert world.rewards[k, token].item() == reward(*longer)
            assert world.next_state[k, token].item() == (-1 if longer in over else number[longer])
    levels = world.levels()
    assert torch.equal(torch.cat(levels), torch.arange(len(world.states)))
    assert [world.depth[level].unique().tolist() for level in levels] == [
        [depth] for depth in range(response_length)
    ]


@pytest.mark.parametrize("vocab_size, response_length, prompts, has_eos", SHAPES)
def test_what_the_tensors_say_of_the_responses(vocab_size, response_length, prompts, has_eos):
    world = make(vocab_size, response_length, prompts, has_eos)
    shape = (len(rows_of(world)), response_length)
    for tensor, dtype in (
        (world.response_tokens, torch.int64),
        (world.state_index, torch.int64),
        (world.response_mask, torch.bool),
        (world.response_rewards, torch.float64),
    ):
        assert tensor.shape == shape and tensor.dtype == dtype
    for row, (prompt, tokens) in enumerate(rows_of(world)):
        length = len(tokens)
        assert world.response_mask[row].tolist() == [True] * length + [False] * (
            response_length - length
        )
        assert [world.states[k] for k in world.state_index[row, :length]] == [
            (prompt, tokens[:t]) for t in range(length)
        ]
        assert world.response_rewards[row].tolist() == (
            [reward(prompt, tokens[: t + 1]) for t in range(length)]
            + [0.0] * (response_length - length)
        )


def test_a_world_by_hand():
    world = World(
        lambda prompt, tokens: 10 * len(tokens) + tokens[-1], vocab_size=2, response_length=2
    )
    assert world.states == [(0, ()), (0, (1,))]  # after token 0, which is EOS, nothing follows
    assert world.next_state.tolist() == [[-1, 1], [-1, -1]]
    assert world.rewards.tolist() == [[10, 11], [20, 21]]
    responses = zip(
        world.response_tokens.tolist(),
        world.response_mask.tolist(),
        world.response_rewards.tolist(),
        strict=True,
    )
    assert sorted(responses) == [
        ([0, 0], [True, False], [10, 0]),
        ([1, 0], [True, True], [11, 20]),
        ([1, 1], [True, True], [11, 21]),
    ]


def test_eos_is_token_0_and_only_where_the_world_has_one():
    assert EOS == 0
    with_eos, without = make(3, 3, 1, True), make(3, 3, 1, False)
    assert with_eos.response_mask.sum(dim=1).unique().tolist() == [1, 2, 3]
    assert without.response_mask.all() and len(without.response_tokens) == 27


def test_prompts_are_asked_as_often_as_they_say():
    assert_close(make(2, 2, 4, True).prompt_probs, [0.25] * 4)
    world = make(2, 2, 3, True, prompt_probs=torch.tensor([0.5, 0.125, 0.375]))
    assert world.prompt_probs.dtype == torch.float64 and world.prompt_probs.tolist() == [
        0.5,
        0.125,
        0.375,
    ]
    assert sorted(world.prompt_index.tolist()) == [0] * 3 + [1] * 3 + [2] * 3


@pytest.mark.parametrize(
    "name, bad",
    [
        ("vocab_size", 1),
        ("vocab_size", 6),
        ("vocab_size", 0),
        ("response_length", 0),
        ("response_length", 6),
        ("response_length", -1),
    ],
)
def test_worlds_that_are_refused(name, bad):
    least = 2 if name == "vocab_size" else 1
    with pytest.raises(ValueError, match=f"^{name}: got {bad}, wanted {least} to 5$"):
        World(reward, **{name: bad})


def test_the_largest_world_is_quickly_built():
    start = time.perf_counter()
    world = World(reward, vocab_size=5, response_length=5, has_eos=False)
    policy = GPTPolicy(world, generator=torch.Generator().manual_seed(0))
    assert policy().shape == (781, 5) and world.response_tokens.shape == (3125, 5)
    assert time.perf_counter() - start < 5


# -- along the responses


@pytest.mark.parametrize("vocab_size, response_length, prompts, has_eos", SHAPES)
def test_logprobs_and_what_belongs_to_states_along_the_responses(
    vocab_size, response_length, prompts, has_eos
):
    world = make(vocab_size, response_length, prompts, has_eos)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(world.states), vocab_size, generator=generator, dtype=torch.float64)
    per_state = torch.randn(len(world.states), generator=generator, dtype=torch.float64)
    number = {state: k for k, state in enumerate(world.states)}
    logprobs, values = [], []
    for prompt, tokens in rows_of(world):
        path = [number[prompt, tokens[:t]] for t in range(len(tokens))]
        padding = [0.0] * (response_length - len(tokens))
        logprobs.append(
            [
                logits[k, token].item() - math.log(sum(map(math.exp, logits[k].tolist())))
                for k, token in zip(path, tokens, strict=True)
            ]
            + padding
        )
        values.append([per_state[k].item() for k in path] + padding)
    assert_close(world.logprobs(logits), logprobs)
    assert_close(world.along_responses(per_state), values)
    ended = ~world.response_mask
    assert (world.logprobs(logits)[ended] == 0).all() and (
        world.along_responses(per_state)[ended] == 0
    ).all()


def test_the_padding_sends_no_gradient_to_any_state():
    world = make(3, 3, 2, True)
    per_state = torch.zeros(len(world.states), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(world.along_responses(per_state).sum(), per_state)
    passing = [
        sum(
            p == prompt and len(tokens) > len(before) and tokens[: len(before)] == before
            for p, tokens in rows_of(world)
        )
        for prompt, before in world.states
    ]
    assert gradient.tolist() == passing


# -- the policies


def gpt_policy(world, seed=0, **options):
    return GPTPolicy(world, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("shape", [(3, 3, 2, True), (2, 4, 1, False), (4, 1, 3, True)])
def test_a_gpt_policy_says_of_a_state_what_the_gpt_says_of_that_prefix_alone(shape):
    world = make(*shape)
    policy = gpt_policy(world)
    logits = policy()
    assert logits.shape == (len(world.states), world.vocab_size) and logits.dtype == torch.float64
    for k, (prompt, tokens) in enumerate(world.states):
        # the prompt is one token of its own
        alone = policy.gpt(torch.tensor([[world.vocab_size + prompt, *tokens]]))
        assert_close(logits[k], alone[0, -1, : world.vocab_size])
    assert (torch.pdist(logits) > 1e-3).all()  # and no two states look alike


def test_the_logits_of_a_state_depend_on_no_other_state_and_on_no_padding():
    world = make(3, 3, 2, True)
    policy = gpt_policy(world)
    logits, tokens = policy(), policy.tokens.clone()
    for k, depth in enumerate(world.depth.tolist()):
        policy.tokens = torch.randint(5, tokens.shape, generator=torch.Generator().manual_seed(k))
        policy.tokens[k, : depth + 1] = tokens[k, : depth + 1]
        assert_close(policy()[k], logits[k])


def test_a_gpt_policy_has_second_derivatives_and_its_seed_and_width_decide_it():
    world = make(2, 2, 1, True)
    policy = gpt_policy(world, n_embd=4)
    first = torch.autograd.grad(weighted_total(policy()), policy.gpt.wte.weight, create_graph=True)[
        0
    ]
    (second,) = torch.autograd.grad((first**2).sum(), policy.gpt.wte.weight)
    assert second.isfinite().all() and second.abs().max() > 0
    assert policy.gpt.wte.weight.shape == (3, 4) and gpt_policy(world).gpt.wte.weight.shape == (
        3,
        8,
    )
    assert len(policy.gpt.h) == 1
    assert torch.equal(gpt_policy(world, n_embd=4)(), policy()) and not torch.equal(
        gpt_policy(world, 1, n_embd=4)(), policy()
    )
    assert all(parameter.dtype == torch.float64 for parameter in policy.parameters())


def test_a_tabular_policy_is_its_table():
    world = make(3, 2, 2, True)
    policy = TabularPolicy(world, generator=torch.Generator().manual_seed(0))
    assert policy().shape == (len(world.states), 3) and policy().dtype == torch.float64
    (table,) = policy.parameters()
    (gradient,) = torch.autograd.grad(weighted_total(policy()), table)
    # each entry is one logit
    assert_close(gradient, 1 + torch.arange(table.numel()).view_as(table))
    again, wider = (
        TabularPolicy(world, generator=torch.Generator().manual_seed(0), scale=scale)
        for scale in (1.0, 2.5)
    )
    assert torch.equal(again(), policy())
    assert_close(wider(), 2.5 * policy())
    world = make(5, 5, 1, False)  # 3905 logits
    many = TabularPolicy(world, generator=torch.Generator().manual_seed(0))().detach()
    assert abs(many.mean()) < 0.1 and abs(many.std() - 1) < 0.1


def test_one_response_can_be_made_certain():
    world = World(reward, vocab_size=2, response_length=2, has_eos=False)
    policy = TabularPolicy(world, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        policy.table.copy_(f64([[50.0, 0.0], [0.0, 50.0], [0.0, 0.0]]))  # 0 first, and 1 after it
    assert_close(
        world.logprobs(policy()).sum(dim=1).exp(), [row == (0, (0, 1)) for row in rows_of(world)]
    )


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"prompts": 0}, "prompts: got 0, wanted a whole number of at least 1"),
        ({"vocab_size": 2.5}, "vocab_size: got 2.5, wanted a whole number"),
        (
            {"prompts": 2, "prompt_probs": torch.tensor([1.0])},
            "prompt_probs: got .*, wanted 2 probabilities with sum 1",
        ),
        (
            {"prompts": 2, "prompt_probs": torch.tensor([0.5, 0.6])},
            "prompt_probs: got .*, wanted 2 probabilities with sum 1",
        ),
        (
            {"prompts": 2, "prompt_probs": torch.tensor([1.5, -0.5])},
            "prompt_probs: got .*, wanted 2 probabilities with sum 1",
        ),
    ],
)
def test_prompts_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        World(lambda prompt, tokens: 0.0, **settings)
