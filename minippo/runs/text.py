"""Texts for a screen: harmless, as wide as a terminal shows them, and numbers with their nouns."""

import re
import unicodedata

JOINERS = "\u200c\u200d"  # they join or part the letters around them, and show nothing themselves
TO_COLOUR = "\ufe0f"  # asks for the coloured, wide form of a sign
SKIN_TONES = range(0x1F3FB, 0x1F400)
HANGUL_MARKS = range(0x1160, 0x1200)  # vowels and finals, written into the syllable before them


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """'1 pair', '2 pairs'."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def said(answer: str) -> str:
    """An answer as it is shown to people: that there is none, or nothing to be seen, is said."""
    return answer if answer.strip() else "(nothing)" if not answer else "(blanks)"


def printable(text: str) -> str:
    r"""The text on one line; a character that could move the cursor or hide others becomes an
    escape: \x1b."""
    return "".join(
        c if is_harmless(c) else c.encode("unicode_escape").decode("ascii") for c in text
    )


def is_harmless(c: str) -> bool:
    """What can be seen, and what belongs into it: all kinds of blanks within a line, and the
    joiners."""
    return c.isprintable() or c in JOINERS or unicodedata.category(c) == "Zs"


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(width_of(cluster) for cluster in clusters(text))


def clusters(text: str) -> list[str]:
    """The characters of a text, each with the marks that are written onto it and with what is
    joined to it."""
    found: list[str] = []
    for c in text:
        is_joined = bool(found) and found[-1].endswith(JOINERS[1]) and is_sign(c)
        if found and (is_mark(c) or is_joined):
            found[-1] += c
        else:
            found.append(c)
    return found


def is_mark(c: str) -> bool:
    """Does this take no column of its own?"""
    return (
        c in JOINERS
        or unicodedata.category(c) in ("Mn", "Me")
        or ord(c) in SKIN_TONES
        or ord(c) in HANGUL_MARKS
    )


def is_sign(c: str) -> bool:
    """Emoji are among these."""
    return unicodedata.category(c) == "So"


def width_of(cluster: str) -> int:
    """The columns of one cluster: Chinese, Japanese and Korean characters and most emoji take
    two."""
    first = cluster[0]
    if is_mark(first):
        return 0
    is_wide = unicodedata.east_asian_width(first) in ("W", "F")
    return 2 if is_wide or (is_sign(first) and TO_COLOUR in cluster) else 1


def padded(text: str, width: int) -> str:
    """The text with blanks behind it, so many columns wide."""
    return text + " " * (width - columns(text))


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most so many columns, broken at blanks; a word is only cut where it
    is longer than a line."""
    lines, line, used = [], "", 0
    for word in re.findall(" +|[^ ]+", text):
        fits = used + columns(word) <= width
        for part in [word] if fits or columns(word) <= width else clusters(word):
            if used + columns(part) > width:
                lines.append(line.rstrip(" "))
                line, used = "", 0
            if line or not lines or part.strip(" "):  # a line does not begin with the blanks
                line, used = line + part, used + columns(part)
    return [*lines, line.rstrip(" ")]
