"""Tokenizers from elsewhere: no text loses anything to PAD, BOS or EOS, whatever the files say."""

import json

import pytest

from minippo.errors import InputError
from minippo.interchange.foreign_tokenizer import (
    description_of,
    foreign_tokenizer,
    is_ordinary,
    made_by_merges,
)
from minippo.interchange.hugging_face import byte_names

TEXT = "say two things! here are\nthree things"
UNKNOWN = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}


def added(token, i, special=True):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": i, "content": token, "special": special, **flags}


def byte_pairs(*, specials=("<|endoftext|>",), declared=True):
    """GPT-2's kind: the special tokens, the bytes, and what two merges make of them."""
    pieces = [*specials, *byte_names(), "Ġt", "Ġth"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return {
        "version": "1.0",
        "added_tokens": [added(name, i) for i, name in enumerate(specials)] if declared else [],
        "normalizer": None,
        "pre_tokenizer": level | {"use_regex": True},
        "post_processor": None,
        "decoder": level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": ["Ġ t", "Ġt h"],
        },
    }


def words(*, declared=True):
    pieces = ["<unk>", "<s>", "</s>", *TEXT.split()]
    return {
        "version": "1.0",
        "added_tokens": [added(pieces[i], i) for i in (1, 2)] if declared else [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {
            "type": "WordLevel",
            "vocab": {piece: i for i, piece in enumerate(dict.fromkeys(pieces))},
            "unk_token": "<unk>",
        },
    }


def unigram():
    pieces = ["<unk>", "<s>", "</s>", "▁", "▁say", "▁two", *"</s>aytwo"]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
    return {
        "version": "1.0",
        "added_tokens": [added(pieces[i], i) for i in range(3)],
        "pre_tokenizer": metaspace | {"split": True},
        "decoder": metaspace | {"split": True},
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [[piece, -1.0 - i / 8] for i, piece in enumerate(dict.fromkeys(pieces))],
        },
    }


@pytest.fixture
def made(tmp_path):
    """made(description, config): the tokenizer of such a folder."""
    pytest.importorskip("tokenizers")

    def make(description, *, rows=1, **ids):
        (tmp_path / "tokenizer.json").write_text(json.dumps(description))
        return foreign_tokenizer(tmp_path, UNKNOWN | ids, rows)

    return make


# PAD, BOS and EOS that are ordinary tokens


def test_a_pad_that_is_an_ordinary_token_is_replaced_and_that_is_said(made):
    description = byte_pairs()
    mark = description["model"]["vocab"]["!"]
    size = len(description["model"]["vocab"])
    tokenizer = made(description, pad_token_id=mark)
    assert (tokenizer.pad_id, tokenizer.vocab_size) == (size, size + 1)
    assert tokenizer.notes == (
        "PAD is '<pad>', a token of its own: config.json names '!', which is an ordinary token",
    )
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_a_pad_that_transformers_has_declared_special_is_ordinary_all_the_same(made):
    description = byte_pairs()
    mark = description["model"]["vocab"]["!"]
    description["added_tokens"].append(added("!", mark))
    tokenizer = made(description, pad_token_id=mark)
    assert tokenizer.pad_id != mark and tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


@pytest.mark.parametrize("piece", ["Ċ", "!", "Ġth", "Ġt"])
@pytest.mark.parametrize("kind", ["bos", "eos"])
def test_a_bos_or_eos_that_is_an_ordinary_token_is_refused(made, kind, piece):
    description = byte_pairs()
    with pytest.raises(InputError, match=f"config.json: {kind}_token_id: .* an ordinary token"):
        made(description, **{f"{kind}_token_id": description["model"]["vocab"][piece]})


def test_an_added_token_that_is_not_special_is_ordinary(made):
    description = byte_pairs()
    description["added_tokens"][0]["special"] = False
    with pytest.raises(InputError, match="bos_token_id: 0 is '<.endoftext.>', an ordinary token"):
        made(description)


def test_a_special_token_that_no_merge_makes_is_good_without_being_declared(made):
    tokenizer = made(byte_pairs(declared=False))
    assert tokenizer.eos_id == 0 and tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_a_pad_of_its_own_is_kept_and_nothing_is_said(made):
    tokenizer = made(byte_pairs(specials=("<|endoftext|>", "[PAD]")), pad_token_id=1)
    assert tokenizer.pad_id == 1 and tokenizer.notes == ()


def test_a_new_pad_takes_no_name_that_means_something(made):
    description = words()
    description["model"]["vocab"]["<pad>"] = len(description["model"]["vocab"])
    tokenizer = made(description, bos_token_id=1, eos_token_id=2)
    assert tokenizer.token_text(tokenizer.pad_id) == "<pad1>"


def test_what_is_ordinary_by_kind_of_tokenizer():
    pairs, own_words = byte_pairs(), words(declared=False)
    assert [is_ordinary(pairs, token) for token in ("<|endoftext|>", "a", "Ġth", "nowhere")] == [
        False,
        True,
        True,
        False,
    ]
    assert is_ordinary(own_words, "</s>") and not is_ordinary(words(), "</s>")
    model = {"merges": ["a ##b", ["b", "c"]], "continuing_subword_prefix": "##"}
    assert made_by_merges(model) == {"ab", "bc"}
    fallback = {"model": {"merges": [], "vocab": {"<0x0A>": 0}, "byte_fallback": True}}
    assert is_ordinary(fallback, "<0x0A>")


# names of special tokens in a text


@pytest.mark.parametrize("description", [words(), unigram()], ids=["WordLevel", "Unigram"])
@pytest.mark.parametrize("text", ["say </s> two", "</s>", "<s> say two"])
def test_a_text_that_holds_a_special_token_is_refused_by_its_name(made, description, text):
    tokenizer = made(description, bos_token_id=1, eos_token_id=2)
    assert tokenizer.decode(tokenizer.encode("say two")) == "say two"
    kind = "EOS" if "</s>" in text else "BOS"
    with pytest.raises(InputError, match=f"the text holds '</?s>', which .* reads as its {kind}"):
        tokenizer.encode(text)


def test_an_unknown_word_that_becomes_eos_is_refused(made):
    description = words()
    description["model"]["unk_token"] = "</s>"
    tokenizer = made(description, bos_token_id=1, eos_token_id=2)
    with pytest.raises(InputError, match="the text holds 'never', which .* reads as its EOS"):
        tokenizer.encode("say never")


# ids


@pytest.mark.parametrize(
    "ids, message",
    [
        (dict(eos_token_id=None), "eos_token_id: is missing; write the id of the token there, wh"),
        (
            dict(bos_token_id=50256),
            "bos_token_id: wanted one of the tokenizer's 259 ids, got 50256",
        ),
        (dict(eos_token_id=[0, 5]), r"eos_token_id: wanted one of .* ids, got \[0, 5\]"),
        (dict(eos_token_id=-1), "eos_token_id: wanted one of .* ids, got -1"),
        (dict(eos_token_id=10**30), "eos_token_id: wanted one of .* ids, got 1000"),
        (dict(eos_token_id=float("nan")), "eos_token_id: wanted one of .* ids, got nan"),
        (dict(eos_token_id=True), "eos_token_id: wanted one of .* ids, got True"),
        (dict(pad_token_id="0"), "pad_token_id: wanted one of .* ids, got '0'"),
    ],
)
def test_ids_are_those_of_config_json(made, tmp_path, ids, message):
    token = {"content": "<|endoftext|>", "lstrip": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": token}))
    with pytest.raises(InputError, match=f"config.json: {message}"):
        made(byte_pairs(), **ids)


def test_a_missing_id_is_looked_up_for_the_message(made, tmp_path):
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "<|endoftext|>"}')
    with pytest.raises(InputError, match="write .* there, which is 0 by special_tokens_map.json"):
        made(byte_pairs(), eos_token_id=None)


def test_ids_that_leave_a_hole_count_up_to_the_last(made):
    description = byte_pairs()
    description["model"]["vocab"]["Ġth"] = 700
    assert made(description).vocab_size > 700


# files


def test_what_the_tokenizer_would_cut_or_pad_is_not_read(made):
    large = 1000000000000000019884624838656
    limits = {"truncation": {"max_length": large}, "padding": {"length": large}}
    assert made(byte_pairs() | limits).encode("a!") == made(byte_pairs()).encode("a!")


@pytest.mark.parametrize(
    "names, what",
    [
        (("vocab.json", "merges.txt"), "no tokenizer.json in it, only vocab.json and merges.txt; "),
        (("spiece.model",), "no tokenizer.json in it, only spiece.model; transformers writes one"),
        ((), "no tokenizer.json in it; transformers writes one: AutoTokenizer.from_pretrained"),
    ],
)
def test_a_tokenizer_in_other_files_is_named(tmp_path, names, what):
    for name in names:
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError) as caught:
        description_of(tmp_path)
    assert what in str(caught.value)
