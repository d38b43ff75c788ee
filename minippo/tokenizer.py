"""Text to token ids and back: words of a toy world, or the bytes of any text.

PAD, BOS and EOS are three different ids in both. (Where PAD is EOS, masking the padding out of the loss also masks the
one token that teaches a model to stop.)
"""

import torch


class WordTokenizer:
    """One id per word of a fixed list; words are what stands between spaces."""

    PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"

    def __init__(self, words):
        if len(set(words)) != len(words):
            raise ValueError("words: a word stands twice")
        for word in words:
            if word.split() != [word] or word in (self.PAD, self.BOS, self.EOS):
                raise ValueError(f"words: {word!r} is not one word, or the name of a special token")
        self.words = [self.PAD, self.BOS, self.EOS, *words]
        self.ids = {word: i for i, word in enumerate(self.words) if i > 2}  # no text can hold a special token
        self.pad_id, self.bos_id, self.eos_id = 0, 1, 2
        self.vocab_size = len(self.words)

    def encode(self, text):
        """'a baker' -> [17, 4]. A word that is not in the list is refused by name."""
        try:
            return [self.ids[word] for word in text.split()]
        except KeyError as unknown:
            raise ValueError(f"the word {unknown} is not in this tokenizer's list") from None

    def decode(self, ids):
        """[17, 4] -> 'a baker'; PAD, BOS and EOS are left out."""
        return " ".join(self.words[i] for i in ids if i > 2)

    def token_text(self, token_id):
        """What one token looks like in a figure."""
        return self.words[token_id]

    def to_dict(self):
        return {"kind": "word", "words": self.words[3:]}


class ByteTokenizer:
    """The 256 bytes of UTF-8, and three more ids for PAD, BOS and EOS."""

    def __init__(self):
        self.pad_id, self.bos_id, self.eos_id = 256, 257, 258
        self.vocab_size = 259

    def encode(self, text):
        return list(text.encode("utf-8"))

    def decode(self, ids):
        """Bytes that are not UTF-8 become the replacement character; PAD, BOS and EOS are left out."""
        return bytes(i for i in ids if i < 256).decode("utf-8", errors="replace")

    def token_text(self, token_id):
        if token_id >= 256:
            return ("<pad>", "<bos>", "<eos>")[token_id - 256]
        return chr(token_id) if 33 <= token_id < 127 else f"{token_id:02x}"

    def to_dict(self):
        return {"kind": "byte"}


def tokenizer_from_dict(description):
    """The tokenizer that `to_dict` described."""
    if description.get("kind") == "word":
        return WordTokenizer(description["words"])
    if description.get("kind") == "byte":
        return ByteTokenizer()
    raise ValueError(f"kind: a tokenizer is 'word' or 'byte', got {description.get('kind')!r}")


def pad_left(rows, pad_id):
    """Lists of ids -> (tokens [B, longest] int64, mask bool), pads on the left: prompts, which end at one column."""
    return _pad(rows, pad_id, on_the_left=True)


def pad_right(rows, pad_id):
    """The same with the pads on the right: responses and documents, which begin at one column."""
    return _pad(rows, pad_id, on_the_left=False)


def _pad(rows, pad_id, on_the_left):
    length = max(len(row) for row in rows)
    tokens = torch.full((len(rows), length), pad_id)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(length - len(row), length) if on_the_left else slice(0, len(row))
        tokens[i, place], mask[i, place] = torch.tensor(row), True
    return tokens, mask
