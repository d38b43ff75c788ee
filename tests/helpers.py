"""What the tests of the mathematics share: one tolerance, ragged batches, and the two checks on
padding."""

import pytest
import torch
from hypothesis import strategies as st

from minippo.runs.read import load_tensors, read_json

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def f64(rows):
    return torch.tensor(rows, dtype=torch.float64)


def assert_close(actual, expected):
    """Equal up to the one tolerance of the dtype of `actual` (plain numbers: float64), absolute and
    relative."""
    actual = actual if isinstance(actual, torch.Tensor) else f64(actual)
    tolerance = TOLERANCE[actual.dtype]
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def mask_of_lengths(lengths, width=None):
    return torch.arange(width or max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def batch_of(names, mask, seed):
    """One [B,T] float64 tensor for each name, and the mask."""
    generator = torch.Generator().manual_seed(seed)
    batch = {
        name: torch.randn(mask.shape, generator=generator, dtype=torch.float64)
        for name in names.split()
    }
    return batch | {"response_mask": mask}


@st.composite
def ragged_masks(draw):
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    return mask_of_lengths(lengths, max(lengths) + draw(st.integers(0, 2)))


@st.composite
def ragged_batches(draw, names):
    return batch_of(names, draw(ragged_masks()), draw(st.integers(0, 2**31)))


def weighted_total(result):
    """A scalar that gives each slot of a result its own weight, so that its gradient sees them
    all."""
    return (
        result * (1 + torch.arange(result.numel(), dtype=result.dtype)).reshape(result.shape)
    ).sum()


def value_and_gradients(function, batch, gradient_of=()):
    """The result of function(**batch), and the gradient of its weighted total to each named
    argument."""
    batch = {
        name: x.clone().requires_grad_() if name in gradient_of else x for name, x in batch.items()
    }
    result = function(**batch)
    gradients = (
        torch.autograd.grad(weighted_total(result), [batch[name] for name in gradient_of])
        if gradient_of
        else ()
    )
    return result.detach(), dict(zip(gradient_of, gradients, strict=True))


def check_padding_is_never_read(function, batch, gradient_of=()):
    """NaN or inf in the padding changes neither value nor gradient, and both are exactly 0
    there."""
    mask = batch["response_mask"]
    wanted, wanted_gradients = value_and_gradients(function, batch, gradient_of)
    for filler in (float("nan"), float("inf"), 1e6):
        filled = {
            name: x.masked_fill(~mask, filler)
            if x.is_floating_point() and x.shape == mask.shape
            else x
            for name, x in batch.items()
        }
        result, gradients = value_and_gradients(function, filled, gradient_of)
        assert torch.equal(result, wanted)
        for x in [result] * (result.shape == mask.shape) + list(gradients.values()):
            assert (x[~mask] == 0).all()
        for name in gradient_of:
            assert torch.equal(gradients[name], wanted_gradients[name])


def check_layout_does_not_matter(function, batch, gradient_of=()):
    """Two more columns of padding change nothing, and neither does the order of the rows."""
    mask = batch["response_mask"]
    batch_size, width = mask.shape
    wider = {
        name: torch.cat(
            [x, x.new_ones(batch_size, 2) if x.is_floating_point() else x.new_zeros(batch_size, 2)],
            dim=1,
        )
        if x.dim() == 2
        else x
        for name, x in batch.items()
    }
    order = torch.arange(batch_size).flip(0)
    permuted = {name: x[order] for name, x in batch.items()}

    # a scalar is spread over the slots, so that one comparison serves both kinds of result
    def per_slot(result):
        return result if result.dim() == 2 else result.expand(batch_size, width)

    def run(arguments):
        arguments = {
            name: x.clone().requires_grad_() if name in gradient_of else x
            for name, x in arguments.items()
        }
        result = function(**arguments)
        gradients = (
            torch.autograd.grad(result.sum(), [arguments[name] for name in gradient_of])
            if gradient_of
            else ()
        )
        return result.detach(), gradients

    result, gradients = run(batch)
    wide_result, wide_gradients = run(wider)
    permuted_result, permuted_gradients = run(permuted)
    assert_close(
        per_slot(wide_result[..., :width] if wide_result.dim() == 2 else wide_result),
        per_slot(result),
    )
    assert_close(per_slot(permuted_result), per_slot(result)[order])
    for wide, permuted_one, plain in zip(
        wide_gradients, permuted_gradients, gradients, strict=True
    ):
        assert_close(wide[:, :width], plain)
        assert_close(permuted_one, plain[order])


BAD_MASKS = [
    (torch.ones(2, 3), r"response_mask: got dtype torch.float32, wanted bool"),
    (torch.ones(2, 3, dtype=torch.int64), r"response_mask: got dtype torch.int64, wanted bool"),
    (
        torch.tensor([[True, True, False], [False, False, False]]),
        r"response_mask: row 1 has no True",
    ),
    (
        torch.tensor([[True, False, True], [True, True, True]]),
        r"response_mask: row 0 is True at t=2 after a False",
    ),
    (
        torch.tensor([[True, True, True], [False, True, True]]),
        r"response_mask: row 1 is True at t=1 after a False",
    ),
    (
        torch.ones(2, 1, dtype=torch.bool),
        r"response_mask: got shape \[2, 1\], wanted \[B, T\].*T = 3",
    ),
    (torch.ones(3, dtype=torch.bool), r"response_mask: got shape \[3\], wanted \[B, T\]"),
]


def check_common_refusals(function, batch, data=()):
    """The refusals that every function with a response_mask shares, each by its message."""
    mask = torch.ones(2, 3, dtype=torch.bool)
    good = {
        name: torch.ones(2, 3, dtype=torch.float64) if x.dim() == 2 else x[:1].expand(2)
        for name, x in batch.items()
    }
    good["response_mask"] = mask
    function(**good)
    for bad_mask, message in BAD_MASKS:
        with pytest.raises(ValueError, match=message):
            function(**good | {"response_mask": bad_mask})
    for name in set(good) - {"response_mask"}:
        for bad in (good[name][..., :1], good[name][:1], good[name].unsqueeze(0)):
            with pytest.raises(ValueError, match=rf"{name}\b.*"):
                function(**good | {name: bad})
        with pytest.raises(ValueError, match=rf"{name}: got dtype torch.int64, wanted float"):
            function(**good | {name: good[name].long()})
        with pytest.raises(ValueError, match=rf"{name}: got list, wanted a tensor"):
            function(**good | {name: good[name].tolist()})
    for name in data:
        with pytest.raises(
            ValueError, match=rf"{name}: got a tensor that requires grad, wanted data"
        ):
            function(**good | {name: good[name].clone().requires_grad_()})
    with pytest.raises(ValueError, match="at least one element in every dimension"):
        function(**{name: x[:0] for name, x in good.items()})
    with pytest.raises(ValueError, match="at least one element in every dimension"):
        function(**{name: x[:, :0] if x.dim() == 2 else x for name, x in good.items()})


def small_gpt(
    vocab_size=8, context_length=16, n_layer=2, n_head=2, n_embd=8, seed=0, dtype=torch.float64
):
    """A GPT with random weights, large enough that its outputs differ from position to position."""
    from minippo.gpt import GPT, GPTConfig

    config = GPTConfig(vocab_size, context_length, n_layer, n_head, n_embd)
    return GPT(config, generator=torch.Generator().manual_seed(seed)).to(dtype)


def load_checkpoint(path):
    """(tensors by name, config, tokenizer) of a folder that RunFolder.save_checkpoint made."""
    return (
        load_tensors(path / "model.safetensors"),
        read_json(path / "config.json"),
        read_json(path / "tokenizer.json"),
    )
