"""A tokenizer that anybody may have written, with a PAD, BOS and EOS that no text holds.

EOS ends a response, and all three are left out of decoded text. So none of them may be a token
that ordinary text is made of: as BOS or EOS such a token is refused, and in the place of such a PAD
a new one is added, as it is where there is none. (What a tokenizer makes of the name of a special
token in a text is seen when the text is read: HFTokenizer.encode.)
"""

import json
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from minippo.errors import InputError
from minippo.interchange.foreign_files import read_foreign_json
from minippo.interchange.hugging_face import OWN_TOKENIZER
from minippo.runs.read import first_words
from minippo.runs.text import counted
from minippo.tokenizer import HFTokenizer, Tokenizer, read_library_tokenizer, tokenizer_from_dict

KINDS = ("bos", "eos", "pad")
OTHER_FILES = ("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tokenizer.model")


def read_tokenizer(folder: Path, config: Mapping[str, Any], rows: int) -> Tokenizer:
    """The tokenizer of a model with so many rows in its embedding: one of ours, or one that the
    package tokenizers carries out."""
    path, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    own = read_foreign_json(settings).get(OWN_TOKENIZER) if settings.exists() else None
    try:
        if own is not None:
            tokenizer = tokenizer_from_dict(own)
        else:
            tokenizer = foreign_tokenizer(folder, config, rows)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path if own is None else settings}: {first_words(error)}") from error
    if not 0 <= tokenizer.vocab_size - rows <= (own is None):  # one more, for PAD
        raise InputError(f"{path}: has {counted(tokenizer.vocab_size, 'id')}, the model {rows}")
    return tokenizer


def foreign_tokenizer(folder: Path, config: Mapping[str, Any], rows: int) -> HFTokenizer:
    """tokenizer.json with the special tokens that config.json names. ValueError: the first cannot
    be carried out; InputError: the second do not fit it."""
    description = description_of(folder)
    library = read_library_tokenizer(json.dumps(description, ensure_ascii=False))
    size = max(rows, 1 + max(library.get_vocab(with_added_tokens=True).values(), default=-1))
    ids: dict[str, Any] = {kind: config.get(f"{kind}_token_id") for kind in KINDS}
    for kind in ("bos", "eos"):
        check_id(folder, kind, ids[kind], library, size)
        if is_ordinary(description, token := library.id_to_token(ids[kind])):
            raise InputError(
                f"{folder / 'config.json'}: {kind}_token_id: {ids[kind]} is {first_words(token)!r},"
                " an ordinary token, which would go missing from every text; name a token that no "
                "text holds, and declare it in tokenizer.json (added_tokens, special)"
            )
    note = why_new_pad(folder, ids, description, library, size)
    if note is not None:
        ids["pad"] = add_pad(library, description, taken=(ids["bos"], ids["eos"]))
        size = max(size, 1 + ids["pad"])
        note = f"PAD is {library.id_to_token(ids['pad'])!r}, a token of its own: {note}"
    tokenizer = HFTokenizer(
        library.to_str(), bos_id=ids["bos"], eos_id=ids["eos"], pad_id=ids["pad"], vocab_size=size
    )
    tokenizer.notes = () if note is None else (note,)
    return tokenizer


def description_of(folder: Path) -> dict[str, Any]:
    """What tokenizer.json says; it is not asked to cut or to pad, so what it says of that is left
    out."""
    path = folder / "tokenizer.json"
    if not path.exists():
        found = [name for name in OTHER_FILES if (folder / name).exists()]
        raise InputError(
            f"{folder}: there is no tokenizer.json in it"
            + (f", only {' and '.join(found)}" if found else "")
            + "; transformers writes one: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        )
    return read_foreign_json(path) | {"truncation": None, "padding": None}


def check_id(folder: Path, kind: str, value: Any, library: Any, size: int) -> None:
    """InputError unless this is the id of one token, with the name of it where a file has it."""
    if type(value) is int and 0 <= value < size and library.id_to_token(value) is not None:
        return
    what = (
        "is missing"
        if value is None
        else f"wanted one of the tokenizer's {size} ids, got {first_words(repr(value))}"
    )
    raise InputError(
        f"{folder / 'config.json'}: {kind}_token_id: {what}; write the id of the token there"
        f"{named_elsewhere(folder, kind, library)}"
    )


def named_elsewhere(folder: Path, kind: str, library: Any) -> str:
    """', which is 0 by tokenizer_config.json', or nothing."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if not (folder / name).exists():
            continue
        token = read_foreign_json(folder / name).get(f"{kind}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) and (found := library.token_to_id(token)) is not None:
            return f", which is {found} by {name}"
    return ""


def why_new_pad(
    folder: Path, ids: Mapping[str, Any], description: Mapping[str, Any], library: Any, size: int
) -> str | None:
    """Why the PAD of config.json cannot be used; None where it can."""
    pad = ids["pad"]
    if pad is None:
        return "config.json names none"
    check_id(folder, "pad", pad, library, size)
    token = library.id_to_token(pad)
    if pad in (ids["bos"], ids["eos"]):
        return f"config.json names {first_words(token)!r}, which has another use"
    if is_ordinary(description, token):
        return f"config.json names {first_words(token)!r}, which is an ordinary token"
    return None


def add_pad(library: Any, description: Mapping[str, Any], *, taken: tuple[int, ...]) -> int:
    """The id of a token that no text holds: "<pad>", or where that is something else "<pad1>" and
    so on."""
    for number in count():
        name = f"<pad{number or ''}>"
        found = library.token_to_id(name)
        if found is None or not (is_ordinary(description, name) or found in taken):
            library.add_special_tokens([name])
            return library.token_to_id(name)
    raise AssertionError  # count() has no end


def is_ordinary(description: Mapping[str, Any], token: str) -> bool:
    """Is this a token that a tokenizer makes of ordinary text?

    A byte-pair tokenizer reaches single characters and what its merges make; another one each piece
    of its vocabulary, so there it counts whether the piece is declared special.
    """
    declared = {
        added["content"]: added["special"] for added in description.get("added_tokens") or ()
    }
    model = description["model"]
    if declared.get(token) is False:
        return True
    if token not in _pieces(model.get("vocab") or ()):
        return False
    if "merges" not in model or model.get("ignore_merges"):
        return token not in declared
    return token in made_by_merges(model) or len(_bare(token, model)) <= 1 or _is_byte(token, model)


def _pieces(vocab):
    """The pieces of a vocabulary, {piece: id} or [[piece, score]]."""
    return vocab if isinstance(vocab, dict) else {piece for piece, _ in vocab}


def made_by_merges(model: Mapping[str, Any]) -> set[str]:
    """What the pairs of a byte-pair tokenizer become, each written "a b" or ["a", "b"]."""
    prefix = model.get("continuing_subword_prefix") or ""
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
    return {left + right.removeprefix(prefix) for left, right in pairs}


def _bare(token, model):
    start, end = model.get("continuing_subword_prefix"), model.get("end_of_word_suffix")
    return token.removeprefix(start or "").removesuffix(end or "")


def _is_byte(token, model):
    return bool(model.get("byte_fallback") and re.fullmatch("<0x[0-9A-F]{2}>", token))
