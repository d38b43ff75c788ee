"""What runs in other processes than the grader's: a server that forks, its walls, and the students'
files.

Nothing here imports the rest of minippo but `exercises.observe`: the server gets a copy of this
folder and of that module, and never sees another file of the package.
"""
