"""Folders of the task files, written by tests."""

import json

from minippo.tasks.files import schema
from minippo.tasks.files.read import FolderData

PAIRS = [("Is it hot?", "Yes, very.", "Go away."), ("And cold?", "No, not at all.", "no")]


GOOD = json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"})


def json_lines(name, items):
    return "\n".join(
        json.dumps(
            dict(zip(schema.FIELDS[name.split(".")[0]], item, strict=True)), ensure_ascii=False
        )
        for item in items
    )


def folder(path, **files):
    """Write files into a folder; the key corpus_txt stands for corpus.txt."""
    path.mkdir(exist_ok=True)
    for key, content in files.items():
        content = content.encode() if isinstance(content, str) else content
        (path / key.replace("_", ".")).write_bytes(content)
    return path


def pairs_folder(path, pairs=PAIRS, **files):
    return folder(path, preferences_jsonl=json_lines("preferences.jsonl", pairs), **files)


def assert_whole(data):
    """Every list is filled, every item is a text with a source, every text can be written."""
    assert isinstance(data, FolderData)
    for kind in ("corpus", "demonstrations", "preferences", "prompts"):
        items = getattr(data, kind)
        assert items and len(items) == len(data.sources[kind])
        for item in items:
            for text in (item,) if isinstance(item, str) else item:
                assert text.strip() and text.encode()
    assert all(note.isprintable() for note in data.notes)
