"""Text to token ids and back: words of a toy world, the bytes of any text, or a tokenizer that
somebody else has made.

PAD, BOS and EOS are three different ids in the first two. (Where PAD is EOS, masking the padding
out of the loss also masks the one token that teaches a model to stop.) In the third BOS may be EOS,
as in GPT-2: BOS is only ever read and EOS only ever looked for in responses, so nothing takes one
for the other. PAD is neither.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from minippo.errors import InputError

MOST_SHOWN = 40  # characters of a text in a message


class Tokenizer(Protocol):
    """What a task needs to know of its tokenizer; the three below have it."""

    pad_id: int
    bos_id: int
    eos_id: int

    @property
    def vocab_size(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def token_text(self, token_id: int) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...


class WordTokenizer:
    """One id per word of a fixed list; words are what spaces separate."""

    PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"

    def __init__(self, words: Sequence[str]) -> None:
        if isinstance(words, str) or not all(isinstance(word, str) for word in words):
            raise ValueError("words: wanted a list of texts")
        if len(set(words)) != len(words):
            raise ValueError("words: a word is in the list twice")
        for word in words:
            if word.split() != [word] or word in (self.PAD, self.BOS, self.EOS):
                raise ValueError(f"words: {word!r} is not one word, or the name of a special token")
        self.words = [self.PAD, self.BOS, self.EOS, *words]
        # no text can hold a special token
        self.ids = {word: i for i, word in enumerate(self.words) if i > 2}
        self.pad_id, self.bos_id, self.eos_id = 0, 1, 2
        self.vocab_size = len(self.words)

    def encode(self, text: str) -> list[int]:
        """'a baker' -> [17, 4]. A word that is not in the list is refused by name."""
        try:
            return [self.ids[word] for word in text.split()]
        except KeyError as unknown:
            raise ValueError(f"the word {unknown} is not in this tokenizer's list") from None

    def decode(self, ids: Iterable[int]) -> str:
        """[17, 4] -> 'a baker'; PAD, BOS and EOS are left out."""
        return " ".join(self.words[i] for i in ids if i > 2)

    def token_text(self, token_id: int) -> str:
        """What one token looks like in a figure."""
        return self.words[token_id]

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "word", "words": self.words[3:]}


class ByteTokenizer:
    """The 256 bytes of UTF-8, and three more ids for PAD, BOS and EOS."""

    unit = "bytes"
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.pad_id, self.bos_id, self.eos_id = 256, 257, 258
        self.vocab_size = 259

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def encode_long(self, text: str) -> Sequence[int]:
        """The same ids in a sequence that takes a byte for each: a corpus may be long."""
        return text.encode("utf-8")

    def decode(self, ids: Iterable[int]) -> str:
        """Bytes that are not UTF-8 become the replacement character; PAD, BOS and EOS are left
        out."""
        return bytes(i for i in ids if i < 256).decode("utf-8", errors="replace")

    def token_text(self, token_id: int) -> str:
        if token_id >= 256:
            return ("<pad>", "<bos>", "<eos>")[token_id - 256]
        return chr(token_id) if 33 <= token_id < 127 else f"{token_id:02x}"

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "byte"}


class HFTokenizer:
    """A tokenizer.json of Hugging Face, carried out by the package tokenizers, which nothing else
    here needs.

    `text` is the file; `vocab_size` is the number of rows of the model, which may have some to
    spare. `notes` are lines for the screen.
    """

    unit = "tokens"
    notes: tuple[str, ...] = ()

    def __init__(
        self, text: str, *, bos_id: int, eos_id: int, pad_id: int, vocab_size: int
    ) -> None:
        self.text, self.vocab_size = text, vocab_size
        self.bos_id, self.eos_id, self.pad_id = bos_id, eos_id, pad_id
        self._library = read_library_tokenizer(text)
        self._library.no_truncation()
        self._library.no_padding()
        # "<|endoftext|>" in a text is a text, and no end
        self._library.encode_special_tokens = True
        for name, i in (
            ("bos_token_id", bos_id),
            ("eos_token_id", eos_id),
            ("pad_token_id", pad_id),
        ):
            if (
                type(i) is not int
                or not 0 <= i < vocab_size
                or self._library.id_to_token(i) is None
            ):
                raise ValueError(
                    f"{name}: wanted one of the tokenizer's {vocab_size} ids, got {i!r}"
                )
        if pad_id in (bos_id, eos_id):
            raise ValueError(f"pad_token_id: {pad_id} has another use already")
        self._special = {pad_id: "PAD", bos_id: "BOS", eos_id: "EOS"}

    def encode(self, text: str) -> list[int]:
        """The ids of a text. InputError where the text itself holds PAD, BOS or EOS, which would
        cut it or go missing."""
        found = self._library.encode(text, add_special_tokens=False)
        if not self._special.keys().isdisjoint(found.ids):
            place = next(k for k, i in enumerate(found.ids) if i in self._special)
            piece = text[slice(*found.offsets[place])][:MOST_SHOWN]
            raise InputError(
                f"the text holds {piece!r}, which the tokenizer of the model reads as its "
                f"{self._special[found.ids[place]]}; take it out"
            )
        return found.ids

    def encode_long(self, text: str) -> Sequence[int]:
        """The same ids in a sequence that takes four bytes for each: a corpus may be long."""
        return array("I", self.encode(text))

    def decode(self, ids: Iterable[int]) -> str:
        """PAD, BOS and EOS are left out, and so are ids to spare."""
        special = (self.pad_id, self.bos_id, self.eos_id)
        return self._library.decode([i for i in ids if i not in special], skip_special_tokens=False)

    def token_text(self, token_id: int) -> str:
        """As it is in a text; what a font may not have, as an escape. An unescaped $ would
        begin a formula."""
        if token_id in (self.pad_id, self.bos_id, self.eos_id):
            return self._library.id_to_token(token_id)
        return ascii(self.decode([token_id]))[1:-1].replace("$", r"\$")

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "hf",
            "json": self.text,
            "vocab_size": self.vocab_size,
            **{name: getattr(self, name) for name in ("bos_id", "eos_id", "pad_id")},
        }


def read_library_tokenizer(text: str) -> Any:
    """A tokenizers.Tokenizer. InputError: the package is not there; ValueError: it cannot read the
    text."""
    try:
        from tokenizers import Tokenizer  # pyright: ignore[reportMissingImports] (an extra)
    except ImportError as error:
        raise InputError(
            "a tokenizer of Hugging Face needs a package that is not here: pip install tokenizers"
        ) from error
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the package raises nothing more special
        raise ValueError(
            f"not a tokenizer that can be read ({str(error).splitlines()[0]})"
        ) from error


def tokenizer_from_dict(description: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `to_dict` described."""
    if description.get("kind") == "word":
        return WordTokenizer(description["words"])
    if description.get("kind") == "byte":
        return ByteTokenizer()
    if description.get("kind") == "hf":
        return HFTokenizer(
            description["json"],
            **{name: description[name] for name in ("bos_id", "eos_id", "pad_id", "vocab_size")},
        )
    raise ValueError(
        f"kind: a tokenizer is 'word', 'byte' or 'hf', got {description.get('kind')!r}"
    )


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Lists of ids -> (tokens [B, longest] int64, mask bool), pads on the left: prompts, which end
    at one column."""
    return _pad(rows, pad_id, on_the_left=True)


def pad_right(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """The same with the pads on the right: responses and documents, which begin at one column."""
    return _pad(rows, pad_id, on_the_left=False)


def used_columns(*masks: Tensor) -> list[int]:
    """Of each mask [..., S], how many columns are not padding in every row: the longest row."""
    counts = [mask.flatten(0, -2).any(dim=0).sum() for mask in masks]
    return torch.stack(counts).tolist()  # the one look at the device


def _pad(rows: Sequence[Sequence[int]], pad_id: int, on_the_left: bool) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows]).unsqueeze(1)  # [B,1]
    S = int(lengths.max())
    pads = ([pad_id] * (S - len(row)) for row in rows)
    both = zip(pads, rows, strict=True) if on_the_left else zip(rows, pads, strict=True)
    tokens = torch.tensor([[*first, *second] for first, second in both], dtype=torch.int64)
    columns = torch.arange(S)  # [S]
    return tokens, columns >= S - lengths if on_the_left else columns < lengths
