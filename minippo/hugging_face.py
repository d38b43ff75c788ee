"""GPT-2 in the files of Hugging Face's transformers, and back: tensors, configuration, tokenizer.

The parameters of minippo.gpt have GPT-2's names already. What differs in the files:

- GPT-2 keeps the weights of a linear layer as [in, out], nn.Linear as [out, in];
- the names of the trunk begin with "transformer."; the output layer is the token embedding and is
  not written twice;
- a tokenizer is a description in JSON, which the package tokenizers carries out. Ours is written
  without that package.

A reward model becomes a GPT2ForSequenceClassification, whose head has no bias and no unit. The unit
goes into the weight; what is left is one number, which the configuration keeps: score = logit +
minippo_score_offset. A critic becomes a GPT2ForTokenClassification as it is.
"""

import json
from pathlib import Path

import torch

from minippo.critic_head import Critic
from minippo.errors import InputError
from minippo.gpt import GPT, GPTConfig
from minippo.reward_head import RewardModel
from minippo.runs.read import LARGEST_TOKENIZER, first_words, parse_object, reason
from minippo.tokenizer import HFTokenizer, tokenizer_from_dict

LINEAR = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # [in, out] in a file
# causal masks that older files carry along
BUFFERS = (".attn.bias", ".attn.masked_bias")
LANGUAGE_MODELS = ("GPT2LMHeadModel", "GPT2Model")
SIZES = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
}  # theirs: ours
ALIKE = {  # what a GPT of ours is; a configuration that leaves one of them out means the same
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
}
OFFSET, OWN_TOKENIZER = "minippo_score_offset", "minippo_tokenizer"


# -- a model in their files


def to_files(model, tokenizer):
    """(tensors by name, config) of a GPT, a RewardModel or a Critic."""
    gpt = getattr(model, "trunk", model)
    tensors = {
        f"transformer.{name}": turned(name, tensor) for name, tensor in gpt.state_dict().items()
    }
    tensors |= head_tensors(model)
    return {
        name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()
    }, config_of(gpt.config, tokenizer) | head_config(model)


def turned(name, tensor):
    """The weights of a linear layer the other way round, everything else as it is: there and
    back."""
    return tensor.T if name.endswith(LINEAR) else tensor


def head_tensors(model):
    """What a model has beside its trunk, under their names."""
    if isinstance(model, RewardModel):
        return {"score.weight": model.head.weight / model.scale}
    if isinstance(model, Critic):
        return {"classifier.weight": model.head.weight, "classifier.bias": model.head.bias}
    return {}


def head_config(model):
    """The name of their class, and what it has to know about its head."""
    one_number = {"id2label": {"0": "score"}, "label2id": {"score": 0}}  # one label: num_labels 1
    if isinstance(model, RewardModel):
        return {
            "architectures": ["GPT2ForSequenceClassification"],
            **one_number,
            OFFSET: score_offset(model),
        }
    if isinstance(model, Critic):
        return {
            "architectures": ["GPT2ForTokenClassification"],
            **one_number,
            "classifier_dropout": 0.0,
        }
    return {"architectures": ["GPT2LMHeadModel"]}


def score_offset(reward_model):
    """What their logit lacks: score = (head - center) / scale = logit + offset."""
    return ((reward_model.head.bias - reward_model.center) / reward_model.scale).item()


def config_of(config, tokenizer):
    """config.json, but for the head."""
    return {
        "model_type": "gpt2",
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        **ALIKE,
        "n_inner": None,
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), config.dropout),
        **special_ids(tokenizer),
    }


def special_ids(tokenizer):
    return {f"{kind}_token_id": getattr(tokenizer, f"{kind}_id") for kind in ("bos", "eos", "pad")}


def generation_config(tokenizer, *, temperature=1.0, max_new_tokens=None):
    """generation_config.json: sample as minippo does, from the whole distribution (their default
    takes 50 tokens of it)."""
    length = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    return {
        **special_ids(tokenizer),
        "do_sample": True,
        "temperature": temperature,
        "top_k": 0,
        "top_p": 1.0,
        **length,
    }


# -- a tokenizer in their files


def tokenizer_files(tokenizer, *, context_length, padding_side):
    """{file name: JSON} of a tokenizer. Its texts begin with BOS, as the prompts of minippo do."""
    names = special_names(tokenizer)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "model_max_length": context_length,
        "padding_side": padding_side,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        "split_special_tokens": True,  # "<eos>" in a text is a text, and no end
        "model_input_names": ["input_ids", "attention_mask"],
    }
    if not isinstance(tokenizer, HFTokenizer):
        # so that reading it back needs no other package
        settings[OWN_TOKENIZER] = tokenizer.to_dict()
    return {
        "tokenizer.json": tokenizer_json(tokenizer),
        "tokenizer_config.json": settings,
        "special_tokens_map.json": names,
    }


def special_names(tokenizer):
    return {
        f"{kind}_token": tokenizer.token_text(getattr(tokenizer, f"{kind}_id"))
        for kind in ("bos", "eos", "pad")
    }


def tokenizer_json(tokenizer):
    """tokenizer.json, in the format of the package tokenizers."""
    bos = tokenizer.token_text(tokenizer.bos_id)
    begin = {
        "type": "TemplateProcessing",
        "single": [_special(bos), _sequence("A")],
        "pair": [_special(bos), _sequence("A"), _sequence("B")],
        "special_tokens": {bos: {"id": bos, "ids": [tokenizer.bos_id], "tokens": [bos]}},
    }
    if isinstance(tokenizer, HFTokenizer):
        return json.loads(tokenizer.text) | {"post_processor": begin}
    kind = byte_level if tokenizer.to_dict()["kind"] == "byte" else word_level
    special = [
        {
            "id": getattr(tokenizer, f"{kind}_id"),
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for kind, name in (("pad", "<pad>"), ("bos", "<bos>"), ("eos", "<eos>"))
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        **kind(tokenizer),
        "post_processor": begin,
    }


def _special(name):
    return {"SpecialToken": {"id": name, "type_id": 0}}


def _sequence(name):
    return {"Sequence": {"id": name, "type_id": 0}}


def word_level(tokenizer):
    """Words between white space. There is no unknown word: "<unk>" has no id, and such a text is
    refused there as here."""
    return {
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: i for i, word in enumerate(tokenizer.words)},
            "unk_token": "<unk>",
        },
    }


def byte_level(tokenizer):
    """Bytes, each under the character that GPT-2 writes it as; a vocabulary of pairs that merges
    none."""
    level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    names = [*byte_names(), *(tokenizer.token_text(i) for i in range(256, 259))]
    return {
        "pre_tokenizer": level,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": [],
        },
    }


def byte_names():
    """GPT-2's visible character for each byte: itself where Latin-1 has one, the others from U+0100
    on, in their order."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(256 + hidden.index(byte)) for byte in range(256)]


# -- and back


def read_gpt2(folder):
    """(GPT, tokenizer) of a folder that transformers or minippo.export wrote. InputError where it
    does not fit.

    A tokenizer without a PAD other than EOS gets one, and the embedding a row for it: the mean of
    the others. PAD is never attended to; as an output its logit is the mean of the logits, so its
    probability is at most 1 / vocabulary.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
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


def read_json(path):
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


def load_tensors(path):
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


def check_config(path, config):
    """The sizes of the model, as GPTConfig calls them. InputError names what a GPT of minippo
    cannot be."""
    if config.get("model_type") != "gpt2":
        raise InputError(f"{path}: model_type: wanted 'gpt2', got {config.get('model_type')!r}")
    for name in config.get("architectures") or ():
        if name not in LANGUAGE_MODELS:
            raise InputError(f"{path}: architectures: wanted GPT2LMHeadModel, got {name}")
    sizes = {ours: config.get(theirs) for theirs, ours in SIZES.items()}
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


def read_tensors(folder, sizes):
    """The trunk's tensors under our names, in float32."""
    path = folder / "model.safetensors"
    if not path.exists():
        raise InputError(f"{folder}: {_why_no_weights(folder)}")
    tensors = {
        name.removeprefix("transformer."): tensor for name, tensor in load_tensors(path).items()
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


def check_tensors(path, tensors, sizes):
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


def read_tokenizer(folder, config, sizes):
    """The tokenizer of the folder: one of ours, or one that the package tokenizers carries out."""
    path, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    own = read_json(settings).get(OWN_TOKENIZER) if settings.exists() else None
    try:
        if own is not None:
            tokenizer = tokenizer_from_dict(own)
        else:
            ids = {
                name: config.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
            }
            text = json.dumps(read_json(path), ensure_ascii=False)
            tokenizer = HFTokenizer.from_file(text, rows=sizes["vocab_size"], **ids)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path if own is None else settings}: {error}") from error
    if not 0 <= tokenizer.vocab_size - sizes["vocab_size"] <= (own is None):
        raise InputError(f"{path}: has {tokenizer.vocab_size} ids, the model {sizes['vocab_size']}")
    return tokenizer
