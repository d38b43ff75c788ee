"""A GPT-2 in Hugging Face's files to a GPT of ours, for --start_from and for `export --from hf`.

The files may be anybody's: nothing in them is executed, and what is not a GPT-2 of our kind is
refused with a line that says why.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minippo.errors import InputError
from minippo.gpt import GPT, GPTConfig
from minippo.interchange.foreign_files import check_folder, load_weights, read_foreign_json
from minippo.interchange.foreign_tokenizer import read_tokenizer
from minippo.interchange.hugging_face import ALIKE, SIZES, turned
from minippo.runs.read import first_words
from minippo.runs.text import counted
from minippo.tokenizer import Tokenizer

# causal masks that older files carry along
BUFFERS = (".attn.bias", ".attn.masked_bias")
# other names of the function gelu_new
SAME_ACTIVATION = ("gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate")
LANGUAGE_MODELS = ("GPT2LMHeadModel", "GPT2Model")


def read_gpt2(folder: str | Path) -> tuple[GPT, Tokenizer]:
    """(GPT, tokenizer) of a folder that transformers or minippo.export wrote. InputError where it
    does not fit.

    A tokenizer without a PAD other than EOS gets one, and the embedding a row for it: the mean of
    the others. PAD is never attended to; as an output its logit is the mean of the logits, so its
    probability is at most 1 / vocabulary.
    """
    folder = Path(folder)
    check_folder(folder)
    config = read_foreign_json(folder / "config.json")
    sizes = check_config(folder / "config.json", config)
    tensors = read_tensors(folder, sizes)
    tokenizer = read_tokenizer(folder, config, rows=sizes["vocab_size"])
    sizes["vocab_size"] = tokenizer.vocab_size
    if tokenizer.vocab_size > len(tensors["wte.weight"]):  # by one, for PAD
        embedding = tensors["wte.weight"]
        tensors["wte.weight"] = torch.cat((embedding, embedding.mean(dim=0, keepdim=True)))
    try:
        model = GPT(GPTConfig(**sizes))
        model.load_state_dict(tensors)
    # the second line of torch's message is the first that names a tensor
    except (ValueError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise InputError(
            f"{folder}: is not the GPT-2 of its config.json ({first_words(' '.join(lines[:2]))})"
        ) from error
    return model.eval(), tokenizer


def check_config(path: Path, config: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of the model, as GPTConfig calls them. InputError names what a GPT of minippo
    cannot be."""
    if config.get("model_type") != "gpt2":
        raise InputError(f"{path}: model_type: wanted 'gpt2', got {_shown(config, 'model_type')}")
    architectures = config.get("architectures") or []
    for name in architectures if isinstance(architectures, list) else [architectures]:
        if name not in LANGUAGE_MODELS:
            raise InputError(
                f"{path}: architectures: wanted GPT2LMHeadModel, got {first_words(name)}"
            )
    sizes: dict[str, Any] = {ours: config.get(theirs) for theirs, ours in SIZES.items()}
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise InputError(
                f"{path}: {name}: wanted a whole number of at least 1, got "
                f"{first_words(repr(size))}"
            )
    for name, wanted in ALIKE.items():
        found = config.get(name, wanted)
        if found != wanted and not (name == "activation_function" and found in SAME_ACTIVATION):
            raise InputError(
                f"{path}: {name}: a GPT of minippo has {wanted!r}, got {_shown(config, name)}"
            )
    if config.get("n_inner") not in (None, 4 * sizes["n_embd"]):
        raise InputError(
            f"{path}: n_inner: a GPT of minippo has 4 * n_embd, {4 * sizes['n_embd']}, "
            f"got {_shown(config, 'n_inner')}"
        )
    return sizes


def _shown(config, name):
    return first_words(repr(config.get(name)))


def read_tensors(folder: Path, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The trunk's tensors under our names, in float32."""
    path, tensors = load_weights(folder)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(BUFFERS)}
    output = tensors.pop("lm_head.weight", None)
    check_tensors(path, tensors, sizes)
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    check_finite_weights(path, tensors)
    if output is not None and not torch.equal(output.float(), tensors["wte.weight"]):
        raise InputError(
            f"{path}: lm_head.weight: differs from wte.weight; a GPT "
            "of minippo has a tied output layer"
        )
    return {name: turned(name, tensor).contiguous() for name, tensor in tensors.items()}


def check_tensors(path: Path, tensors: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """Refuse a file of another size than its configuration, before a model of that size is made."""
    for name, shape in (
        ("wte.weight", ("vocab_size", "n_embd")),
        ("wpe.weight", ("context_length", "n_embd")),
    ):
        wanted, found = [sizes[size] for size in shape], tensors.get(name)
        if found is None or list(found.shape) != wanted:
            raise InputError(
                f"{path}: {name}: wanted {wanted}, got "
                f"{None if found is None else list(found.shape)}"
            )
    layers = {name.split(".")[1] for name in tensors if name.startswith("h.")}
    if layers != {str(layer) for layer in range(min(sizes["n_layer"], 1 + len(layers)))}:
        raise InputError(
            f"{path}: wanted the {counted(sizes['n_layer'], 'layer')} of config.json, got "
            f"{len(layers)}"
        )
    if not all(tensor.is_floating_point() for tensor in tensors.values()):
        raise InputError(f"{path}: holds whole numbers where weights should be")


def check_finite_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinite weights, which would be blamed on the training later."""
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise InputError(
                f"{path}: {name}: holds NaN or infinite weights (in float32), so nothing can be "
                "computed with this model; take a copy from before they came in"
            )
