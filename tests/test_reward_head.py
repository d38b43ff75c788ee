import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo.gpt import GPT, GPTConfig, KVCache
from minippo.reward_head import RewardModel, bradley_terry_loss, first_blocks, last_real_token
from tests.helpers import assert_close, f64, mask_of_lengths, ragged_masks

CONFIG = GPTConfig(vocab_size=11, context_length=8, n_layer=2, n_head=2, n_embd=8)


def small_gpt(seed=0):
    return GPT(CONFIG, generator=torch.Generator().manual_seed(seed)).eval()


def small_reward_model(center=0.7, scale=0.4):
    """In float64, with a head bias, a center and a scale that all show."""
    model = RewardModel(small_gpt(), generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        model.head.bias.fill_(0.3)
    model.center.fill_(center)
    model.scale.fill_(scale)
    return model


def random_tokens(*shape, seed=2):
    return torch.randint(CONFIG.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def raw_score(model, row):
    """The head at the last of the tokens of one row without pads, by hand."""
    return model.trunk.hidden(row.unsqueeze(0))[0, -1] @ model.head.weight[0] + model.head.bias[0]


# where the score is read


@given(ragged_masks(), st.integers(0, 3))
def test_the_score_is_the_head_at_the_last_real_token(right_padded, left):
    model, mask = small_reward_model(), torch.nn.functional.pad(right_padded, (left, 0))
    tokens = random_tokens(*mask.shape)
    wanted = [
        (raw_score(model, row[real]) - 0.7) / 0.4 for row, real in zip(tokens, mask, strict=True)
    ]
    assert_close(model(tokens, mask), torch.stack(wanted))


@pytest.mark.parametrize("left, right", [(0, 0), (5, 0), (0, 5), (2, 3)])
def test_pads_do_not_change_the_score(left, right):
    model, tokens = small_reward_model(), random_tokens(3, 4)
    mask = torch.nn.functional.pad(torch.ones_like(tokens, dtype=torch.bool), (left, right))
    for filler in (0, 5):
        assert_close(
            model(torch.nn.functional.pad(tokens, (left, right), value=filler), mask), model(tokens)
        )


def test_last_real_token_by_hand():
    mask = torch.tensor(
        [[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0]]
    ).bool()
    assert last_real_token(torch.zeros(5, 4), mask).tolist() == [1, 3, 2, 2, 0]
    assert last_real_token(torch.zeros(5, 4), None).tolist() == [3] * 5


def test_a_row_without_a_real_token_is_refused():
    tokens, mask = random_tokens(2, 3), mask_of_lengths([2, 0], 3)
    for call in (last_real_token, small_reward_model()):
        with pytest.raises(ValueError, match="mask: a row without a real token has no score"):
            call(tokens, mask)


@pytest.mark.parametrize("n", [1, 3])
def test_a_cached_prompt_gives_the_same_scores(n):
    model = small_reward_model()
    prompts, prompt_mask = random_tokens(2, 4), mask_of_lengths([4, 2]).flip(1)
    responses, response_mask = random_tokens(2 * n, 3, seed=3), mask_of_lengths([3, 1] * n)
    cache = KVCache(CONFIG.n_layer)
    model.trunk.hidden(prompts, prompt_mask, cache)
    scores = model(responses, response_mask, cache.repeat_rows(n))
    prompts, prompt_mask = (x.repeat_interleave(n, dim=0) for x in (prompts, prompt_mask))
    wanted = model(
        torch.cat((prompts, responses), dim=1), torch.cat((prompt_mask, response_mask), dim=1)
    )
    assert_close(scores, wanted)


def test_the_score_does_not_depend_on_the_order_of_the_rows():
    model, tokens, mask = small_reward_model(), random_tokens(3, 4), mask_of_lengths([4, 1, 2])
    assert_close(model(tokens.flip(0), mask.flip(0)), model(tokens, mask).flip(0))


def test_per_token_is_the_score_of_each_prefix_and_0_at_pads():
    model, tokens, mask = small_reward_model(), random_tokens(2, 4), mask_of_lengths([4, 2]).flip(1)
    wanted = torch.zeros(2, 4, dtype=torch.float64)
    for b, t in mask.nonzero().tolist():
        wanted[b, t] = model(tokens[b : b + 1, : t + 1], mask[b : b + 1, : t + 1])
    assert_close(model.per_token(tokens, mask), wanted.detach())
    assert_close(model.per_token(tokens)[0], wanted[0].detach())


def test_per_token_is_0_at_pads_even_where_the_trunk_says_nan(monkeypatch):
    model, mask = small_reward_model(), mask_of_lengths([1, 2])
    hidden = torch.ones(2, 2, CONFIG.n_embd, dtype=torch.float64).masked_fill(
        ~mask.unsqueeze(-1), float("nan")
    )
    monkeypatch.setattr(model.trunk, "hidden", lambda tokens, mask: hidden)
    scores = model.per_token(random_tokens(2, 2), mask)
    assert (
        (scores[~mask] == 0).all() and scores[mask].isfinite().all() and (scores[mask] != 0).all()
    )


# what the model holds


def test_training_it_leaves_the_gpt_alone():
    gpt = small_gpt()
    before = {name: x.clone() for name, x in gpt.state_dict().items()}
    model = RewardModel(gpt, generator=torch.Generator().manual_seed(1))
    tokens = random_tokens(2, 4)
    assert torch.equal(model.trunk(tokens), gpt(tokens))
    model(tokens).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all(torch.equal(x, before[name]) for name, x in gpt.state_dict().items())
    assert all(not torch.equal(x, before[name]) for name, x in model.trunk.state_dict().items())


def test_center_and_scale():
    tokens = random_tokens(3, 4)
    raw = small_reward_model(center=0, scale=1)(tokens)
    assert_close(raw, torch.stack([raw_score(small_reward_model(), row) for row in tokens]))
    assert_close(small_reward_model(center=2.0, scale=0.5)(tokens), 2 * (raw - 2))
    new = RewardModel(small_gpt())
    assert (new.center.item(), new.scale.item()) == (0, 1)


def test_center_and_scale_are_saved_and_not_trained():
    model, tokens = small_reward_model(), random_tokens(3, 4)
    assert not {"center", "scale"} & {name for name, _ in model.named_parameters()}
    model(tokens).sum().backward()
    assert model.center.grad is None and model.scale.grad is None
    other = RewardModel(small_gpt(seed=5)).double()
    other.load_state_dict(model.state_dict())
    assert {"center", "scale"} < set(model.state_dict())
    assert torch.equal(other(tokens), model(tokens))


def test_the_initial_head():
    gpt = GPT(GPTConfig(vocab_size=1, context_length=1, n_layer=1, n_head=1, n_embd=400))
    heads = [
        RewardModel(gpt, generator=torch.Generator().manual_seed(seed)).head for seed in (0, 0, 1)
    ]
    assert torch.equal(heads[0].weight, heads[1].weight) and not torch.equal(
        heads[0].weight, heads[2].weight
    )
    assert all((head.bias == 0).all() for head in heads)
    # 400 draws: 3.5 % of noise
    assert abs(heads[0].weight.std().item() * math.sqrt(401) - 1) < 0.15


# of another size


def test_the_first_blocks_are_those_of_the_gpt_and_a_copy():
    gpt, tokens = small_gpt(), random_tokens(3, 4)
    one = first_blocks(gpt, 1)
    assert (one.config.n_layer, len(one.h), gpt.config.n_layer, len(gpt.h)) == (1, 1, 2, 2)
    x = gpt.wte(tokens) + gpt.wpe(torch.arange(4))
    look = torch.zeros(1, 1, 4, 4).masked_fill(torch.ones(4, 4).triu(1).bool(), -math.inf)
    assert_close(one.hidden(tokens), gpt.ln_f(gpt.h[0](x, look, None, 0)))
    with torch.no_grad():
        one.wte.weight.zero_()
    assert (gpt.wte.weight != 0).any()
    assert torch.equal(first_blocks(gpt, 2)(tokens), gpt(tokens))
    assert torch.equal(first_blocks(gpt, None)(tokens), gpt(tokens))


def test_a_smaller_reward_model_scores_and_learns():
    model = RewardModel(small_gpt(), layers=1)
    model(random_tokens(2, 4)).sum().backward()
    assert len(model.trunk.h) == 1
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("layers", [0, 3])
def test_a_larger_one_is_refused(layers):
    with pytest.raises(ValueError, match=f"layers: wanted 1 to 2, got {layers}"):
        RewardModel(small_gpt(), layers=layers)


# the loss

pairs = st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=1, max_size=6)


def loss_of(chosen, rejected):
    return bradley_terry_loss(chosen_scores=chosen, rejected_scores=rejected)


def test_bradley_terry_by_hand():
    # sigmoid(0) = 1/2; sigmoid(log 3) = 3/4; sigmoid(-log 3) = 1/4
    assert_close(loss_of(f64([1.5]), f64([1.5])), math.log(2))
    assert_close(loss_of(f64([math.log(3)]), f64([0.0])), math.log(4 / 3))
    # (log 2 + log 4/3 + log 4) / 3
    assert_close(
        loss_of(f64([1, math.log(3) - 2, 5]), f64([1, -2, 5 + math.log(3)])), math.log(32 / 3) / 3
    )


@given(pairs)
def test_the_gradient_is_how_unlikely_the_choice_was(drawn):
    scores = f64(drawn).requires_grad_()
    chosen, rejected = scores.unbind(dim=1)
    gradient = torch.autograd.grad(loss_of(chosen, rejected), scores)[0]
    wanted = torch.tensor(
        [-(1 - 1 / (1 + math.exp(r - c))) / len(drawn) for c, r in drawn], dtype=torch.float64
    )
    assert_close(gradient, torch.stack((wanted, -wanted), dim=1))


@given(pairs, st.floats(-10, 10))
def test_only_differences_count(drawn, constant):
    chosen, rejected = f64(drawn).unbind(dim=1)
    loss = loss_of(chosen, rejected)
    assert_close(loss_of(chosen + constant, rejected + constant), loss)
    # log sigmoid(d) - log sigmoid(-d) = d
    assert_close(loss_of(rejected, chosen) - loss, (chosen - rejected).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_margins(dtype):
    zero = torch.zeros(1, dtype=dtype)
    for margin, wanted, slope in [(1e4, 0, 0), (-1e4, 1e4, -1)]:
        chosen = torch.full((1,), margin, dtype=dtype, requires_grad=True)
        loss = loss_of(chosen, zero)
        assert loss.item() == wanted and loss.dtype == dtype
        assert torch.autograd.grad(loss, chosen)[0].item() == slope


def test_refused_scores():
    one = torch.ones(2)
    with pytest.raises(ValueError, match=r"chosen_scores: got shape \[2, 1\], wanted \[N\]"):
        loss_of(one.unsqueeze(1), one.unsqueeze(1))
    with pytest.raises(ValueError, match="chosen_scores: got dtype torch.int64, wanted float"):
        loss_of(one.long(), one)
    for bad in (one[:1], one.unsqueeze(1), torch.ones(3)):
        with pytest.raises(
            ValueError, match=r"rejected_scores must have the shape of chosen_scores, \[2\], got \["
        ):
            loss_of(one, bad)
    with pytest.raises(ValueError, match="chosen_scores: no pair"):
        loss_of(one[:0], one[:0])
