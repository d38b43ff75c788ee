"""Models in Hugging Face's files: transformers computes the same numbers from them and reads the
same tokens, texts that hold the names of special tokens included.

The tests that need transformers or tokenizers are skipped where they are not installed.
"""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.interchange.hugging_face import byte_names, tokenizer_files
from minippo.interchange.load import load_critic, load_gpt, load_reward_model
from minippo.tasks import Capitals, Files, Tldr
from minippo.tokenizer import ByteTokenizer, WordTokenizer, pad_left, pad_right
from tests.tiny_runs import TOKENIZERS, WORDS, read_json

NAMES = ["a", "a <eos>", "<eos> a", "a<eos>", "<bos>", "<pad> <pad>", "x<eos>y a", "<unk>", "b"]


@pytest.mark.parametrize("words", [["a"], ["a", "x<eos>y", "<unk>"], ["a", "<", "eos>"]])
@pytest.mark.parametrize("text", NAMES)
def test_the_exported_words_are_read_and_refused_as_here(theirs, tmp_path, words, text):
    tokenizer = WordTokenizer(words)
    files = tokenizer_files(tokenizer, context_length=8, padding_side="left")
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    exported = theirs.AutoTokenizer.from_pretrained(tmp_path)
    assert exported.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "<bos>", "<eos>"]
    try:
        wanted = [tokenizer.bos_id, *tokenizer.encode(text)]
    except ValueError:
        with pytest.raises(Exception, match="Missing .UNK. token"):
            exported(text)
    else:
        assert exported(text)["input_ids"] == wanted


@pytest.mark.parametrize("side", [pad_left, pad_right])
def test_logits_are_the_same_in_transformers(exported, theirs, side):
    kind, run, folders = exported
    tokens, mask, positions = ragged(TOKENIZERS[kind], side)
    model = theirs.AutoModelForCausalLM.from_pretrained(folders["policy"])
    logits, ours = (
        model(tokens, attention_mask=mask.long(), position_ids=positions).logits,
        load_gpt(run),
    )
    torch.testing.assert_close(logits[mask], ours(tokens, mask)[mask], atol=1e-5, rtol=0)
    row = tokens[1:2]  # no padding: neither a mask nor positions are needed
    torch.testing.assert_close(model(row).logits, ours(row), atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [pad_left, pad_right])
def test_scores_are_the_same_in_transformers_after_the_offset(exported, theirs, side):
    kind, run, folders = exported
    tokens, mask, positions = ragged(TOKENIZERS[kind], side)
    model = theirs.AutoModelForSequenceClassification.from_pretrained(folders["reward_model"])
    positions = {} if side is pad_right else {"position_ids": positions}
    scores = (
        model(tokens, attention_mask=mask.long(), **positions).logits.squeeze(1)
        + model.config.minippo_score_offset
    )
    torch.testing.assert_close(scores, load_reward_model(run)(tokens, mask), atol=1e-5, rtol=0)


def test_values_are_the_same_in_transformers(exported, theirs):
    kind, run, folders = exported
    tokens, mask, positions = ragged(TOKENIZERS[kind])
    model = theirs.AutoModelForTokenClassification.from_pretrained(folders["critic"])
    values = model(tokens, attention_mask=mask.long(), position_ids=positions).logits.squeeze(2)
    torch.testing.assert_close(
        values[mask], load_critic(run)(tokens, mask)[mask], atol=1e-5, rtol=0
    )


def test_the_tokenizer_gives_the_prompts_of_the_task_files(bytes_folder, theirs, data):
    task = Files(
        data,
        prompt_length=20,
        completion_length=30,
        heldout_pairs=4,
        truncate=False,
        generator=torch.Generator().manual_seed(0),
    )
    tokenizer = theirs.AutoTokenizer.from_pretrained(bytes_folder)
    assert tokenizer("say 3 things\n")["input_ids"] == task.prompt_ids("say 3 things")
    batch = tokenizer(["say 3 things\n", "two\n"], padding=True, return_tensors="pt")
    tokens, mask = task.prompt_batch(["say 3 things", "two"])
    assert torch.equal(batch["input_ids"], tokens) and torch.equal(
        batch["attention_mask"].bool(), mask
    )


@pytest.mark.parametrize(
    "task, prompt",
    [
        (Capitals(), "what is the capital of france ?"),
        (Tldr(), "i am a baker . i love chess . i live in rome . tl;dr :"),
    ],
)
def test_the_tokenizer_gives_the_prompts_of_the_toy_worlds(theirs, tmp_path, task, prompt):
    for name, content in tokenizer_files(
        task.tokenizer, context_length=64, padding_side="left"
    ).items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert theirs.AutoTokenizer.from_pretrained(tmp_path)(prompt)["input_ids"] == task.prompt_ids(
        prompt
    )


@pytest.fixture(scope="module")
def library(exported):
    """(our tokenizer, theirs) of the exported policy, as the package tokenizers reads it."""
    from_file = pytest.importorskip("tokenizers").Tokenizer.from_file
    tokenizer = from_file(str(exported[2]["policy"] / "tokenizer.json"))
    # what split_special_tokens in tokenizer_config.json stands for
    tokenizer.encode_special_tokens = True
    return TOKENIZERS[exported[0]], tokenizer


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(),
    words=st.lists(st.sampled_from(WORDS.words[3:])),
    space=st.sampled_from((" ", "\n", " \t  ", "\u2003")),
    ids=st.lists(st.integers(0, 258)),
)
def test_tokenizers_agree_on_any_text_and_on_any_ids(library, text, words, space, ids):
    ours, other = library
    if ours is WORDS:
        text, ids = space.join(words), [i % ours.vocab_size for i in ids]
    assert other.encode(text).ids == [ours.bos_id, *ours.encode(text)]
    assert other.decode(ids) == ours.decode(ids)


@pytest.mark.parametrize(
    "text", ["a 😀\r\n\tb", "<eos>", "<bos> <pad>", "e\u0301 \u00e9", "\x00\x7f\u0080", " a  b "]
)
def test_bytes_are_bytes_in_transformers_too(bytes_folder, theirs, text):
    tokenizer, ours = theirs.AutoTokenizer.from_pretrained(bytes_folder), ByteTokenizer()
    assert tokenizer(text)["input_ids"] == [ours.bos_id, *ours.encode(text)]
    assert tokenizer.decode([*ours.encode(text), ours.eos_id], skip_special_tokens=True) == text


def test_the_visible_characters_of_the_bytes_are_those_of_gpt2():
    names = byte_names()
    assert (
        len(set(names)) == 256
        and names[ord("a")] == "a"
        and names[ord(" ")] == "Ġ"
        and names[ord("\n")] == "Ċ"
    )
    assert names[0] == "Ā" and names[0xAD] == chr(0x143) and names[0xFF] == "ÿ"


def ragged(tokenizer, side=pad_left):
    """Rows of several lengths, each ending in EOS: (tokens, mask, positions that count real
    tokens)."""
    rows = [[tokenizer.bos_id, *(3 + i % 4 for i in range(n)), tokenizer.eos_id] for n in (1, 7, 4)]
    tokens, mask = side(rows, tokenizer.pad_id)
    return tokens, mask, (mask.cumsum(dim=1) - 1).clamp(min=0)


def test_the_configuration_says_what_the_model_is(exported):
    kind, run, folders = exported
    tokenizer, config = TOKENIZERS[kind], read_json(folders["policy"] / "config.json")
    wanted = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": tokenizer.vocab_size,
        "n_layer": 2,
        "n_positions": 96,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    assert config.items() >= wanted.items()
    generation = read_json(folders["policy"] / "generation_config.json")
    # their default of 50 would cut the distribution
    assert generation["do_sample"] and generation["top_k"] == 0
    assert (generation["temperature"], generation["max_new_tokens"]) == (
        (1.0, 240) if kind == "byte" else (0.7, 14)
    )


def test_the_score_is_the_head_without_bias_and_the_offset(exported):
    from safetensors.torch import load_file

    kind, run, folders = exported
    tokens, mask, _ = ragged(TOKENIZERS[kind])
    reward_model, config = (
        load_reward_model(run),
        read_json(folders["reward_model"] / "config.json"),
    )
    weight = load_file(folders["reward_model"] / "model.safetensors")["score.weight"]
    logits = reward_model.trunk.hidden(tokens, mask)[:, -1] @ weight.T
    scores = logits.squeeze(1) + config["minippo_score_offset"]
    torch.testing.assert_close(scores, reward_model(tokens, mask), atol=1e-5, rtol=0)
