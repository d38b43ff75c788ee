"""What a file is that is not what was wanted, by its first bytes: one phrase with what to do."""

import re

POINTER = "is a git-lfs pointer and not the file itself; fetch it with: git lfs pull"
KINDS = (  # how a file begins, what it is
    (rb"version https://git-lfs\.github\.com/spec/", POINTER),
    (rb"\x1f\x8b", "is compressed with gzip; unpack it first, with gunzip"),
    (rb"BZh\d1AY&SY", "is compressed with bzip2; unpack it first, with bunzip2"),
    (rb"\xfd7zXZ\0", "is compressed with xz; unpack it first, with unxz"),
    (rb"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first, with unzstd"),
    (rb"PK\x03\x04|PK\x05\x06", "is a zip archive; unpack it first, with unzip"),
    (rb"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it first"),
    (rb"PAR1", "is a Parquet file; write it as text first, one JSON object a line"),
    (
        rb"ARROW1|\xff\xff\xff\xff",
        "is an Arrow file; write it as text first, one JSON object a line",
    ),
    (rb"SQLite format 3\0", "is a SQLite database; write it as text first"),
    (rb"\x89HDF\r\n", "is an HDF5 file, which is not read here"),
    (rb"GGUF", "is a GGUF file, which is not read here"),
    (rb"%PDF-", "is a PDF; write its text into a file of its own"),
    (rb"\xff\xfe|\xfe\xff", "is UTF-16 text; save the file as UTF-8"),
    (rb"\x80[\x02-\x05]", "is a pickle, and nothing is unpickled here"),
    (rb"(?i)\s*<(!doctype html|html)\b", "is a web page, so its download went wrong"),
)
LONGEST_START = 64  # bytes that are enough to know any of them


def known_kind(data: bytes) -> str | None:
    """'is compressed with gzip; ...' for the first bytes of a file, None where they say nothing."""
    start = data[:LONGEST_START]
    return next((what for pattern, what in KINDS if re.match(pattern, start)), None)
