"""Texts that hold the names of special tokens: what is written for transformers reads them as
minippo does."""

import json

import pytest

from minippo.interchange.hugging_face import tokenizer_files
from minippo.tokenizer import WordTokenizer

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
