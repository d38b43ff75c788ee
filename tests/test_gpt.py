import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo.gpt import GPT, LAST, GPTConfig, KVCache, attention_by_hand
from tests.helpers import assert_close, weighted_total

CONFIG = GPTConfig(vocab_size=11, context_length=8, n_layer=2, n_head=2, n_embd=8)


def random_gpt(config=CONFIG, seed=0):
    """A float64 GPT none of whose parameters is 0 or 1, so that a forgotten bias or LayerNorm
    weight shows."""
    generator = torch.Generator().manual_seed(seed)
    gpt = GPT(config, generator=generator).double()
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.3
            )
    return gpt.eval()


def random_tokens(*shape, seed=1):
    return torch.randint(CONFIG.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def bools(*rows):
    """'.xx' -> [False, True, True]: a dot is a pad."""
    return torch.tensor([[mark == "x" for mark in row] for row in rows])


def pad(tokens, left=0, right=0, filler=5):
    """The tokens with pads around them, and the mask that says so."""
    mask = torch.nn.functional.pad(torch.ones_like(tokens, dtype=torch.bool), (left, right))
    return torch.nn.functional.pad(tokens, (left, right), value=filler), mask


def read_in_chunks(gpt, tokens, mask, sizes):
    """The logits of all positions, read with a cache in chunks of the given sizes."""
    cache = KVCache(gpt.config.n_layer)
    masks = [None] * len(sizes) if mask is None else mask.split(sizes, dim=1)
    return torch.cat(
        [gpt(t, m, cache) for t, m in zip(tokens.split(sizes, dim=1), masks, strict=True)], dim=1
    )


@st.composite
def padded_batches(draw, pads_only=True):
    """Tokens and a mask with pads anywhere; `pads_only` allows rows without a real token."""
    B, S = draw(st.integers(1, 3)), draw(st.integers(1, CONFIG.context_length))
    rows = st.lists(st.booleans(), min_size=S, max_size=S).filter(lambda row: pads_only or any(row))
    return random_tokens(B, S, seed=draw(st.integers(0, 1000))), torch.tensor(
        [draw(rows) for _ in range(B)]
    )


MODEL = random_gpt()  # the tests below only read it


# an independent transcription


def numpy_layer_norm(x, weight, bias):
    x = x - x.mean(axis=-1, keepdims=True)
    return weight * x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) + bias


def numpy_gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def numpy_attention(q, k, v):
    """One head, position by position."""
    result = np.zeros_like(v)
    for t in range(len(q)):
        weights = np.exp([q[t] @ k[s] / np.sqrt(q.shape[1]) for s in range(t + 1)])
        result[t] = sum(weights[s] / weights.sum() * v[s] for s in range(t + 1))
    return result


def numpy_gpt2(gpt, row):
    """GPT-2's logits [S, V] for one row of tokens without pads."""
    w = {name: x.numpy() for name, x in gpt.state_dict().items()}
    x = w["wte.weight"][row] + w["wpe.weight"][: len(row)]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        return numpy_layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"])

    for i in range(gpt.config.n_layer):
        q, k, v = (
            np.split(part, gpt.config.n_head, axis=1)
            for part in np.split(linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 3, axis=1)
        )
        x = x + linear(
            np.hstack([numpy_attention(*head) for head in zip(q, k, v, strict=True)]),
            f"h.{i}.attn.c_proj",
        )
        x = x + linear(
            numpy_gelu(linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")), f"h.{i}.mlp.c_proj"
        )
    return norm(x, "ln_f") @ w["wte.weight"].T


@pytest.mark.parametrize("n_layer, n_head", [(1, 1), (2, 4), (3, 2)])
def test_against_numpy(n_layer, n_head):
    gpt, tokens = random_gpt(replace(CONFIG, n_layer=n_layer, n_head=n_head)), random_tokens(2, 8)
    assert_close(gpt(tokens).detach(), np.stack([numpy_gpt2(gpt, row) for row in tokens.numpy()]))


@given(padded_batches(pads_only=False))
def test_with_pads_anywhere_against_numpy(batch):
    tokens, mask = batch
    logits = MODEL(tokens, mask).detach()
    for row, real, result in zip(tokens, mask, logits, strict=True):
        assert_close(result[real], numpy_gpt2(MODEL, row[real].numpy()))


FUSED = torch.nn.functional.scaled_dot_product_attention
AGREE = {torch.float32: 1e-6, torch.float64: 1e-12}


@pytest.mark.parametrize("dtype", AGREE)
@pytest.mark.parametrize("cached", [0, 3])
def test_attention_by_hand_is_the_fused_one_with_padding(cached, dtype):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, 3, length, 4, generator=generator, dtype=dtype)
        for length in (5, cached + 5, cached + 5)
    )
    real = torch.ones(2, cached + 5, dtype=torch.bool)
    real[0, :2] = False  # two pads to the left of the first row
    before = torch.ones(5, cached + 5, dtype=torch.bool).tril(diagonal=cached)
    itself = torch.eye(5, dtype=torch.bool)
    itself = torch.cat((torch.zeros(5, cached, dtype=torch.bool), itself), dim=1)
    allowed = ((before & real[:, None, :]) | itself)[:, None]
    bias = torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, -torch.inf)
    ours = attention_by_hand(q, k, v, bias)
    assert (ours - FUSED(q, k, v, attn_mask=allowed)).abs().max() <= AGREE[dtype]
    # what a pad offers is not read by the real tokens behind it
    k[0, :, :2], v[0, :, :2] = 7.0, -7.0
    assert torch.equal(attention_by_hand(q, k, v, bias)[0, :, 2:], ours[0, :, 2:])


@pytest.mark.parametrize("dtype", AGREE)
def test_attention_by_hand_is_the_fused_one_where_only_the_order_counts(dtype):
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 3, 5, 4, generator=generator, dtype=dtype) for _ in range(3))
    ours = attention_by_hand(q, k, v, torch.full((5, 5), -torch.inf, dtype=dtype).triu(1))
    assert (ours - FUSED(q, k, v, is_causal=True)).abs().max() <= AGREE[dtype]
    assert (ours[:, :, 0] - v[:, :, 0]).abs().max() <= AGREE[dtype]  # the first has no one else


def test_short_texts_go_by_hand_and_long_ones_by_the_fused_one_with_the_same_logits(monkeypatch):
    tokens, mask = random_tokens(2, 6), bools("..xxxx", "xxxxxx")
    by_hand, calls = (MODEL(tokens), MODEL(tokens, mask)), []

    def fused(*arguments, **settings):
        calls.append(settings["dropout_p"])
        return FUSED(*arguments, **settings)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused)
    assert_close(MODEL(tokens), by_hand[0])
    assert calls == []
    monkeypatch.setattr("minippo.gpt.SHORT", 5)
    for ours, wanted in zip((MODEL(tokens), MODEL(tokens, mask)), by_hand, strict=True):
        assert (ours - wanted).abs().max() <= AGREE[torch.float64] * 10
    assert calls == [0.0] * 4  # two layers, twice


def test_the_size_of_gpt2_small():
    with torch.device("meta"):
        gpt = GPT(
            GPTConfig(vocab_size=50257, context_length=1024, n_layer=12, n_head=12, n_embd=768)
        )
    assert sum(parameter.numel() for parameter in gpt.parameters()) == 124_439_808


# causality, pads and order


@pytest.mark.parametrize("masked", [False, True])
def test_a_token_changes_its_own_logits_and_later_ones_but_none_before(masked):
    tokens = random_tokens(2, 8)
    mask = torch.ones_like(tokens, dtype=torch.bool) if masked else None
    logits = MODEL(tokens, mask)
    for t in range(8):
        changed = tokens.clone()
        changed[:, t] = (tokens[:, t] + 1) % CONFIG.vocab_size
        difference = (MODEL(changed, mask) - logits).abs().amax(dim=2)
        assert (difference[:, :t] < 1e-10).all() and (difference[:, t:] > 1e-6).all()


@pytest.mark.parametrize("left", range(6))
@pytest.mark.parametrize("right", [0, 3])
def test_pads_change_nothing_at_real_positions(left, right):
    tokens = random_tokens(2, 3)
    wanted = MODEL(tokens)
    for filler in (0, 5):
        padded, mask = pad(tokens, left, right, filler)
        assert_close(MODEL(padded, mask)[:, left : left + 3], wanted)


def test_rows_with_different_numbers_of_pads_share_a_batch():
    tokens = random_tokens(3, 6)
    logits = MODEL(tokens, bools("....xx", "xxxx..", "xxxxxx"))
    assert_close(logits[0, 4:], MODEL(tokens[:1, 4:])[0])
    assert_close(logits[1, :4], MODEL(tokens[1:2, :4])[0])
    assert_close(logits[2], MODEL(tokens[2:])[0])


def test_a_left_pad_reads_itself_alone():
    # so that no softmax is empty; a pad after real tokens reads them as well
    tokens = random_tokens(1, 4)
    logits = MODEL(tokens, bools("..xx"))
    for t in (0, 1):
        assert_close(logits[:, t], MODEL(tokens[:, t : t + 1])[:, 0])


def test_logits_and_gradients_are_finite_with_pads_and_with_a_row_of_pads():
    gpt = random_gpt()
    logits = gpt(random_tokens(3, 4), bools("....", "..xx", "xx.."))
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in gpt.parameters())


@given(padded_batches())
def test_the_order_of_the_rows_does_not_matter(batch):
    tokens, mask = batch
    assert_close(MODEL(tokens.flip(0), mask.flip(0)), MODEL(tokens, mask).flip(0))


# the cache


@given(padded_batches(), st.data())
def test_a_cache_read_in_chunks_gives_the_same_logits(batch, data):
    tokens, mask = batch
    S = tokens.shape[1]
    cuts = sorted(data.draw(st.sets(st.integers(1, S - 1)))) if S > 1 else []
    sizes = np.diff([0, *cuts, S]).tolist()
    assert_close(read_in_chunks(MODEL, tokens, mask, sizes), MODEL(tokens, mask))


@pytest.mark.parametrize("sizes", [[1] * 8, [5, 1, 1, 1], [3, 5], [8]])
def test_a_cache_with_left_pads_and_without_a_mask(sizes):
    tokens, mask = random_tokens(2, 8), bools("xxxxxxxx", "...xxxxx")
    assert_close(read_in_chunks(MODEL, tokens, mask, sizes), MODEL(tokens, mask))
    assert_close(read_in_chunks(MODEL, tokens, None, sizes), MODEL(tokens))


def test_a_cache_keeps_the_pads_of_the_prompt_when_the_response_comes_without_a_mask():
    tokens, mask, cache = random_tokens(2, 6), bools("xxxxxx", "..xxxx"), KVCache(CONFIG.n_layer)
    MODEL(tokens[:, :4], mask[:, :4], cache)
    assert len(cache) == 4
    assert_close(MODEL(tokens[:, 4:], None, cache), MODEL(tokens, mask)[:, 4:])
    assert len(cache) == 6


@pytest.mark.parametrize("n", [1, 3])
def test_repeated_rows_continue_one_reading_of_the_prompt(n):
    prompts, prompt_mask = random_tokens(2, 4), bools("xxxx", "..xx")
    responses, response_mask = (
        random_tokens(2 * n, 3, seed=2),
        torch.ones(2 * n, 3, dtype=torch.bool),
    )
    response_mask[-1, 2] = False
    cache = KVCache(CONFIG.n_layer)
    MODEL(prompts, prompt_mask, cache)
    logits = MODEL(responses, response_mask, cache.repeat_rows(n))

    rows = [b for b in range(2) for _ in range(n)]  # 0 0 0 1 1 1
    wanted = MODEL(
        torch.cat((prompts[rows], responses), dim=1),
        torch.cat((prompt_mask[rows], response_mask), dim=1),
    )
    assert_close(logits, wanted[:, 4:])
    # the copy grew, the original did not
    assert len(cache) == 4 and cache.layers[0][0].shape[:1] == (2,)


def test_gradients_through_repeated_rows_are_those_of_the_direct_forward():
    prompts, prompt_mask, rows = random_tokens(2, 4), bools("xxxx", "..xx"), [0, 0, 0, 1, 1, 1]
    responses, response_mask = random_tokens(6, 3, seed=2), torch.ones(6, 3, dtype=torch.bool)
    cached, direct = random_gpt(), random_gpt()
    cache = KVCache(CONFIG.n_layer)
    cached.hidden(prompts, prompt_mask, cache)
    weighted_total(cached(responses, response_mask, cache.repeat_rows(3))).backward()
    tokens, mask = (
        torch.cat((prompts[rows], responses), dim=1),
        torch.cat((prompt_mask[rows], response_mask), dim=1),
    )
    weighted_total(direct(tokens, mask)[:, 4:]).backward()
    for one, other in zip(cached.parameters(), direct.parameters(), strict=True):
        assert_close(one.grad, other.grad)


# only some positions are read

READINGS = {
    "the last": LAST,
    "from the third on": (slice(None), slice(2, None)),
    "one of each row": (torch.arange(2).unsqueeze(1), torch.tensor([[3], [1]])),
    "two of each row, one of them twice": (
        torch.arange(2).unsqueeze(1),
        torch.tensor([[4, 1], [2, 2]]),
    ),
}


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
@pytest.mark.parametrize("rows", [None, ("xxxxx", "..xxx"), ("xxxxx", "xxx..")])
def test_what_is_read_is_what_all_positions_would_say(rows, read):
    tokens, mask = random_tokens(2, 5), None if rows is None else bools(*rows)
    some, every = random_gpt(), random_gpt()
    hidden = some.hidden(tokens, mask, read=read)
    wanted = every.hidden(tokens, mask)[read]
    assert_close(hidden, wanted)
    weighted_total(hidden).backward()
    weighted_total(wanted).backward()
    for name, parameter in some.named_parameters():
        assert_close(parameter.grad, every.get_parameter(name).grad)


@pytest.mark.parametrize("read", list(READINGS.values())[:3], ids=list(READINGS)[:3])
def test_the_same_behind_a_cache_which_holds_all_positions_afterwards(read):
    gpt, prompts, prompt_mask = random_gpt(), random_tokens(2, 3), bools("xxx", ".xx")
    tokens, mask = random_tokens(2, 5, seed=1), bools("xxxxx", "xxxx.")
    caches = [KVCache(CONFIG.n_layer) for _ in range(2)]
    gpt.hidden(prompts, prompt_mask, caches[0])
    gpt.hidden(prompts, prompt_mask, caches[1], read=LAST)
    some, every = gpt.hidden(tokens, mask, caches[0], read), gpt.hidden(tokens, mask, caches[1])
    assert_close(some, every[read])
    for layer in range(CONFIG.n_layer):
        for one, other in zip(caches[0].layers[layer], caches[1].layers[layer], strict=True):
            assert_close(one, other)


def test_a_cache_that_is_read_on_with_and_without_gradient_keeps_every_position():
    gpt, tokens, cache = random_gpt(), random_tokens(2, 4), KVCache(CONFIG.n_layer)
    parts = []
    for t, with_gradient in enumerate((False, False, True, False)):
        with torch.set_grad_enabled(with_gradient):
            parts.append(gpt(tokens[:, t : t + 1], cache=cache))
    assert_close(torch.cat(parts, dim=1), gpt(tokens))


# weights


def test_the_output_layer_is_the_token_embedding():
    gpt, tokens = random_gpt(), torch.tensor([[1, 2, 3]])
    assert [name for name, x in gpt.named_parameters() if CONFIG.vocab_size in x.shape] == [
        "wte.weight"
    ]
    assert_close(gpt.logits(gpt.hidden(tokens)), gpt(tokens))
    before = gpt(tokens)
    with torch.no_grad():
        gpt.wte.weight[7] *= 2  # a token that is not read: only its own logit can change
    before[..., 7] *= 2
    assert_close(gpt(tokens), before)
    gpt(tokens)[..., 7].sum().backward()
    assert (gpt.wte.weight.grad[7] != 0).any()


def test_a_generator_fixes_the_initial_weights_whatever_the_global_seed():
    def weights(seed, global_seed):
        torch.manual_seed(global_seed)
        return list(GPT(CONFIG, generator=torch.Generator().manual_seed(seed)).parameters())

    assert all(torch.equal(a, b) for a, b in zip(weights(3, 0), weights(3, 1), strict=True))
    assert not any(
        torch.equal(a, b) for a, b in zip(weights(3, 0), weights(4, 0), strict=True) if a.dim() == 2
    )


def test_without_a_generator_the_global_seed_fixes_the_initial_weights():
    torch.manual_seed(0)
    one = GPT(CONFIG)
    torch.manual_seed(0)
    assert all(
        torch.equal(a, b) for a, b in zip(one.parameters(), GPT(CONFIG).parameters(), strict=True)
    )


@pytest.mark.parametrize("n_embd, n_layer", [(64, 2), (128, 3)])
def test_the_initial_weights(n_embd, n_layer):
    config = GPTConfig(vocab_size=100, context_length=100, n_layer=n_layer, n_head=2, n_embd=n_embd)
    for name, x in GPT(config, generator=torch.Generator().manual_seed(0)).named_parameters():
        if x.dim() == 1:
            assert (x == (1 if name.endswith("weight") else 0)).all(), name
        else:
            std = (
                0.02 * math.sqrt(768 / n_embd) / (math.sqrt(2 * n_layer) if "c_proj" in name else 1)
            )
            assert abs(x.std().item() / std - 1) < 0.05 and abs(x.mean().item()) < 0.05 * std, name


# dropout


def test_dropout_acts_in_training_and_not_in_evaluation():
    plain, dropping = random_gpt(), random_gpt(replace(CONFIG, dropout=0.5))
    tokens, mask = random_tokens(2, 6), bools("xxxxxx", "..xxxx")
    for arguments in [(tokens,), (tokens, mask), (tokens, mask, KVCache(CONFIG.n_layer))]:
        assert_close(dropping(*arguments), plain(*arguments[:2]))
    dropping.train()
    torch.manual_seed(0)
    assert not torch.allclose(dropping(tokens), dropping(tokens))
    assert_close(plain.train()(tokens), plain.eval()(tokens))


@pytest.mark.parametrize("place", ["embedding", "attention", "attention output", "mlp output"])
def test_dropout_acts_at_each_of_its_places(place):
    dropping, tokens = random_gpt(replace(CONFIG, dropout=0.5)).train(), random_tokens(2, 6)
    if place != "embedding":
        dropping.drop.p = 0.0
    for block in dropping.h:
        if place != "attention":
            block.attn.dropout = 0.0
        if place != "attention output":
            block.attn.resid_dropout.p = 0.0
        if place != "mlp output":
            block.mlp.dropout.p = 0.0
    torch.manual_seed(0)
    assert not torch.allclose(dropping(tokens), dropping(tokens))


# the context length


def test_pads_do_not_count_towards_the_context_length():
    tokens = random_tokens(2, 8)
    for left, right in [(3, 0), (0, 3), (4, 4)]:
        padded, mask = pad(tokens, left, right)
        assert_close(MODEL(padded, mask)[:, left : left + 8], MODEL(tokens))
    padded, mask = pad(tokens, left=3)
    assert_close(read_in_chunks(MODEL, padded, mask, [6, 5])[:, 3:], MODEL(tokens))


def test_refused_lengths():
    too_long, mask = random_tokens(2, 9), bools(".xxxxxxxx", "xxxxxxxxx")
    for arguments in [(too_long,), (too_long, mask), (too_long, None, KVCache(CONFIG.n_layer))]:
        with pytest.raises(ValueError, match="9 tokens do not fit a context_length of 8"):
            MODEL(*arguments)
    cache = KVCache(CONFIG.n_layer)
    MODEL(too_long[:, :6], mask[:, :6], cache)
    for new_mask in (None, mask[:, 6:]):
        with pytest.raises(ValueError, match="9 tokens do not fit a context_length of 8"):
            MODEL(too_long[:, 6:], new_mask, cache)
    assert len(cache) == 6  # a refused call leaves the cache as it was


# refusals


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 0), (1, 2, 3)])
def test_refused_tokens(shape):
    with pytest.raises(
        ValueError, match=r"tokens must be \[B, S\] and not empty, got shape \[.*\]"
    ):
        MODEL(torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize(
    "mask, got",
    [
        (torch.ones(2, 4, dtype=torch.bool), r"torch.bool \[2, 4\]"),
        (torch.ones(1, 3, dtype=torch.bool), r"torch.bool \[1, 3\]"),
        (torch.ones(3, dtype=torch.bool), r"torch.bool \[3\]"),
        (torch.ones(2, 3, dtype=torch.long), r"torch.int64 \[2, 3\]"),
        (torch.ones(2, 3), r"torch.float32 \[2, 3\]"),
    ],
)
def test_refused_masks(mask, got):
    with pytest.raises(ValueError, match=rf"mask must be bool of shape \[2, 3\], got {got}"):
        MODEL(torch.zeros(2, 3, dtype=torch.long), mask)


@pytest.mark.parametrize("name", ["vocab_size", "context_length", "n_layer", "n_head", "n_embd"])
@pytest.mark.parametrize("bad", [0, -1, 8.0, "8", None])
def test_refused_sizes(name, bad):
    with pytest.raises(
        ValueError, match=f"{name} must be a whole number of at least 1, got {bad!r}"
    ):
        replace(CONFIG, **{name: bad})


def test_refused_head_counts_and_dropout():
    with pytest.raises(ValueError, match="n_embd must be a multiple of n_head, got 8 and 3"):
        replace(CONFIG, n_head=3)
    for bad in (-0.1, 1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"dropout must lie in \[0, 1\), got {bad}"):
            replace(CONFIG, dropout=bad)


def test_a_config_does_not_change():
    with pytest.raises(FrozenInstanceError):
        CONFIG.n_layer = 3


# the accelerator


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_logits_on_cuda():
    gpt, tokens, mask = random_gpt().float(), random_tokens(2, 8), bools("xxxxxxxx", "...xxxxx")
    wanted, wanted_unmasked = gpt(tokens, mask), gpt(tokens)
    gpt, tokens, mask = gpt.cuda(), tokens.cuda(), mask.cuda()
    pairs = [
        (gpt(tokens, mask), wanted),
        (gpt(tokens), wanted_unmasked),
        (read_in_chunks(gpt, tokens, mask, [5, 1, 1, 1]), wanted),
    ]
    for result, on_cpu in pairs:
        torch.testing.assert_close(result.cpu(), on_cpu, rtol=1e-4, atol=1e-4)
