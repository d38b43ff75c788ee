"""A user's own text and preference pairs.

find.py       which files there are
container.py  what records a file holds, whatever it is packed in; parquet.py for Parquet
schema.py     which fields of a record are the prompt and the answers
turns.py      lists of messages and transcripts as one prompt and one answer
known.py      published schemas that are no pairs yet, and fields that must not be lost
rows.py       all records of a file: what can't be used, what was not read
read.py       a folder, with what is missing derived
messages.py   how a line about a fault is written
lengths.py    texts that are longer than the context
split.py      pairs that are held out, by prompt
task.py       the task
"""

from minippo.tasks.files.rows import Reading
from minippo.tasks.files.task import Files

__all__ = ["Files", "Reading"]
