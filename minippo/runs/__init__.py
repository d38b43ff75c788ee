"""A run's folder, figures, numbers and screen. Nothing here trains anything or knows what a policy
is.

files.py        a file is written whole or not at all
place.py        which folder a run gets
folder.py       where a run keeps its configuration, metrics, samples, figures and checkpoints
checkpoints.py  folders that are whole or not there
seals.py        which run a checkpoint belongs to, and what it was made from
read.py         the files of a run, read as data of a stranger
moments.py      which updates are moments, and the rows of samples_over_time.jsonl
lock.py         one process at a time works in a folder
report/         report.html
figures/        the five figures of a run, each a function from plain numbers to a figure
kinds.py        what a file is that is not what was wanted
screen.py       what a run prints
text.py         how wide a text is, where it breaks, and what of it is shown as an escape
stats.py        an interval for a win rate, the peak of memory, how busy the machine is
diagnostics.py  what a row of metrics says about a run's health
tensorboard.py  the metrics as TensorBoard's events
"""
