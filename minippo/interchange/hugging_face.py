"""GPT-2 in the files of Hugging Face's transformers, and back: tensors, configuration, tokenizer.

The parameters of minippo.gpt have GPT-2's names already. What differs in the files:

- GPT-2 keeps the weights of a linear layer as [in, out], nn.Linear as [out, in];
- the names of the trunk begin with "transformer."; the output layer is the token embedding and is
  not written twice;
- a tokenizer is a description in JSON, which the package tokenizers runs. Ours is written
  without that package.

A reward model becomes a GPT2ForSequenceClassification, whose head has no bias and no unit. The unit
goes into the weight; what is left is one number, which the configuration keeps: score = logit +
minippo_score_offset. A critic becomes a GPT2ForTokenClassification as it is.
"""

import json
from typing import Any

from torch import Tensor

from minippo.critic_head import Critic
from minippo.gpt import GPT, GPTConfig
from minippo.reward_head import RewardModel
from minippo.tokenizer import HFTokenizer, Tokenizer

LINEAR = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # [in, out] in a file
ALIKE = {  # what a GPT of ours is; a configuration that leaves one of them out means the same
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
}
SIZES = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
}  # theirs: ours
OFFSET, OWN_TOKENIZER = "minippo_score_offset", "minippo_tokenizer"


def to_files(
    model: GPT | RewardModel | Critic, tokenizer: Tokenizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors by name, config) of a GPT, a RewardModel or a Critic."""
    gpt = model if isinstance(model, GPT) else model.trunk
    tensors = {
        f"transformer.{name}": turned(name, tensor) for name, tensor in gpt.state_dict().items()
    }
    tensors |= head_tensors(model)
    return {
        name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()
    }, config_of(gpt.config, tokenizer) | head_config(model)


def turned(name: str, tensor: Tensor) -> Tensor:
    """The weights of a linear layer the other way round, everything else as it is: there and
    back."""
    return tensor.T if name.endswith(LINEAR) else tensor


def head_tensors(model: GPT | RewardModel | Critic) -> dict[str, Tensor]:
    """What a model has beside its trunk, under their names."""
    if isinstance(model, RewardModel):
        return {"score.weight": model.head.weight / model.scale}
    if isinstance(model, Critic):
        return {"classifier.weight": model.head.weight, "classifier.bias": model.head.bias}
    return {}


def head_config(model: GPT | RewardModel | Critic) -> dict[str, Any]:
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


def score_offset(reward_model: RewardModel) -> float:
    """What their logit lacks: score = (head - center) / scale = logit + offset."""
    return ((reward_model.head.bias - reward_model.center) / reward_model.scale).item()


def config_of(config: GPTConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json, but for the head."""
    return {
        "model_type": "gpt2",
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        **ALIKE,
        "n_inner": None,
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), config.dropout),
        **special_ids(tokenizer),
    }


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    return {f"{kind}_token_id": getattr(tokenizer, f"{kind}_id") for kind in ("bos", "eos", "pad")}


def generation_config(
    tokenizer: Tokenizer, *, temperature: float = 1.0, max_new_tokens: int | None = None
) -> dict[str, Any]:
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


def tokenizer_files(
    tokenizer: Tokenizer, *, context_length: int, padding_side: str
) -> dict[str, Any]:
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


def special_names(tokenizer: Tokenizer) -> dict[str, str]:
    return {
        f"{kind}_token": tokenizer.token_text(getattr(tokenizer, f"{kind}_id"))
        for kind in ("bos", "eos", "pad")
    }


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
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


def word_level(tokenizer: Tokenizer) -> dict[str, Any]:
    """Words between white space. A word without an id is refused there as here, and so are the
    names of PAD, BOS and EOS in a text: they have to be in the vocabulary to have their ids, so in
    a text they are replaced by such a word before it is read.
    """
    vocabulary = {tokenizer.token_text(i): i for i in range(tokenizer.vocab_size)}
    unknown = "<unk>"
    while unknown in vocabulary:
        unknown += ">"
    name_alone = r"(?<!\S)<(pad|bos|eos)>(?!\S)"
    return {
        "normalizer": {"type": "Replace", "pattern": {"Regex": name_alone}, "content": unknown},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": unknown},
    }


def byte_level(tokenizer: Tokenizer) -> dict[str, Any]:
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


def byte_names() -> list[str]:
    """GPT-2's visible character for each byte: itself where Latin-1 has one, the others from U+0100
    on, in their order."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(256 + hidden.index(byte)) for byte in range(256)]
