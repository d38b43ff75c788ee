"""A GPT-2 in Hugging Face's files to a GPT of ours, for --start_from and for `export --from hf`.

The files may be anybody's: nothing in them is executed, and what is not a GPT-2 of our kind is
refused with a line that says why.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minippo.errors import InputError
from minippo.gpt import GPT, GPTConfig
from minippo.interchange.hugging_face import ALIKE, OWN_TOKENIZER, SIZES, turned
from minippo.runs.read import LARGEST_TOKENIZER, first_words, parse_object, reason
from minippo.tokenizer import HFTokenizer, Tokenizer, tokenizer_from_dict

# causal masks that older files carry along
BUFFERS = (".attn.bias", ".attn.masked_bias")
LANGUAGE_MODELS = ("GPT2LMHeadModel", "GPT2Model")


def read_gpt2(folder: str | Path) -> tuple[GPT, Tokenizer]:
    """(GPT, tokenizer) of a folder that transformers or minippo.export wrote. InputError where it
    does not fit.

    A tokenizer without a PAD other than EOS gets one, and the embedding a row for it: the mean of
    the others. PAD is never attended to; as an output its logit is the mean of the logits, so its
    probability is at most 1 / vocabulary.
    """
    folder = Path(folder)
    config = read_foreign_json(folder / "config.json")
    sizes = check_config(folder / "config.json", config)
    tensors = read_tensors(folder, sizes)
    tokenizer = read_tokenizer(folder, config, sizes)
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


def read_foreign_json(path: Path) -> dict[str, Any]:
    """One JSON object. A link is followed here: a download cache of Hugging Face is made of
    them."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: there is no such file")
        if path.stat().st_size > LARGEST_TOKENIZER:
            raise InputError(
                f"{path}: has more than the {LARGEST_TOKENIZER} bytes that are read of such a file"
            )
        return parse_object(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error


def load_foreign_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, of any type of number."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{path}: not a file of tensors that can be read ({first_words(error)})"
        ) from error


def check_config(path: Path, config: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of the model, as GPTConfig calls them. InputError names what a GPT of minippo
    cannot be."""
    if config.get("model_type") != "gpt2":
        raise InputError(f"{path}: model_type: wanted 'gpt2', got {config.get('model_type')!r}")
    for name in config.get("architectures") or ():
        if name not in LANGUAGE_MODELS:
            raise InputError(f"{path}: architectures: wanted GPT2LMHeadModel, got {name}")
    sizes: dict[str, Any] = {ours: config.get(theirs) for theirs, ours in SIZES.items()}
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise InputError(f"{path}: {name}: wanted a whole number of at least 1, got {size!r}")
    for name, wanted in ALIKE.items():
        if config.get(name, wanted) != wanted:
            raise InputError(
                f"{path}: {name}: a GPT of minippo has {wanted!r}, got {config[name]!r}"
            )
    if config.get("n_inner") not in (None, 4 * sizes["n_embd"]):
        raise InputError(
            f"{path}: n_inner: a GPT of minippo has 4 * n_embd, {4 * sizes['n_embd']}, "
            f"got {config['n_inner']!r}"
        )
    return sizes


def read_tensors(folder: Path, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The trunk's tensors under our names, in float32."""
    path = folder / "model.safetensors"
    if not path.exists():
        raise InputError(f"{folder}: {_why_no_weights(folder)}")
    tensors = {
        name.removeprefix("transformer."): tensor
        for name, tensor in load_foreign_tensors(path).items()
    }
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(BUFFERS)}
    output = tensors.pop("lm_head.weight", None)
    check_tensors(path, tensors, sizes)
    if output is not None and not torch.equal(output, tensors["wte.weight"]):
        raise InputError(
            f"{path}: lm_head.weight: differs from wte.weight; a GPT "
            "of minippo has a tied output layer"
        )
    return {name: turned(name, tensor).float().contiguous() for name, tensor in tensors.items()}


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
            f"{path}: wanted the {sizes['n_layer']} layers of config.json, got {len(layers)}"
        )
    if not all(tensor.is_floating_point() for tensor in tensors.values()):
        raise InputError(f"{path}: holds whole numbers where weights should be")


def _why_no_weights(folder):
    if (folder / "model.safetensors.index.json").exists():
        return "the weights are split over several files; save them as one model.safetensors"
    if (folder / "pytorch_model.bin").exists():
        return (
            "pytorch_model.bin is a pickle, and nothing is unpickled here; save the weights as "
            "model.safetensors"
        )
    return "there is no model.safetensors in it"


def read_tokenizer(folder: Path, config: Mapping[str, Any], sizes: Mapping[str, int]) -> Tokenizer:
    """The tokenizer of the folder: one of ours, or one that the package tokenizers carries out."""
    path, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    own = read_foreign_json(settings).get(OWN_TOKENIZER) if settings.exists() else None
    try:
        if own is not None:
            tokenizer = tokenizer_from_dict(own)
        else:
            ids = {
                name: config.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
            }
            text = json.dumps(read_foreign_json(path), ensure_ascii=False)
            tokenizer = HFTokenizer.from_file(text, rows=sizes["vocab_size"], **ids)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path if own is None else settings}: {error}") from error
    if not 0 <= tokenizer.vocab_size - sizes["vocab_size"] <= (own is None):
        raise InputError(f"{path}: has {tokenizer.vocab_size} ids, the model {sizes['vocab_size']}")
    return tokenizer
