"""A run's folder, figures, numbers and screen. Nothing here trains anything or knows what a policy
is.

files.py    a file is written whole or not at all
folder.py   where a run keeps its configuration, metrics, samples, figures and checkpoints
figures.py  the five figures of a run, each a function from plain numbers to a figure
kinds.py    what a file is that is not what was wanted
screen.py   what a run prints
text.py     how wide a text is, where it breaks, and what of it is shown as an escape
stats.py    an interval for a win rate, and the peak of memory
"""
