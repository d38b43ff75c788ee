"""A user's own text and preference pairs.

read.py      the files of a folder, and one clear line for whatever is wrong with them
messages.py  how such a line is written
lengths.py   texts that are longer than the context
split.py     pairs that are held out, by prompt
task.py      the task
"""

from minippo.tasks.files.task import Files

__all__ = ["Files"]
