"""The classroom: grading a folder of answers, and seeing how far one's own are.

    python -m minippo.classroom grade FOLDER --out DIR
    python -m minippo.classroom status PATH
    python -m minippo.classroom museum --out DIR
    python -m minippo.classroom build --out DIR

submissions.py  what students have handed in, read into memory before anything runs
box/            what runs in other processes: the fork server, its walls, and the students' files
servers.py      this side of them: the processes that run answers, and what they return
judging.py      hidden cases from a secret seed, and the verdict on what came back
grading.py      all students, in order, on several servers at once; a run that was stopped goes on
sheets.py       grades.csv, the feedback and what a later run needs
summary.py      which mistakes the class made, as a table and as a figure
build.py        the notebooks to hand out, and those with the answers
handout.py      both versions of a notebook
recording.py    exercises written down as numbers, so that a check can travel without the answers
travelling.py   ... and read again: in the student's folder
gradescope.py   a zip that grades one submission, for Gradescope
nbgrader.py     assignments for nbgrader
museum/         trainings with a planted bug each, to be found by the class
"""
