"""A museum of bugs: twelve trainings, each of a copy of this package with one planted bug.

bugs.py      what the bugs are: right lines, wrong lines, whose they were, what sees them
planting.py  a copy of the package with one bug in it, and the fix as a diff
exhibits.py  the recorded trainings, as dashboards without names
hunt.py      a student's guesses: right or wrong, and why
data/        the recorded trainings
"""
