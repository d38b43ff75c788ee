"""The ways a run ends early, each told to the user in one line and never as a traceback."""


class InputError(Exception):
    """The arguments or the input files are wrong; the message names the flag, or the file, line and
    field. Exit status 2."""


class TrainingError(Exception):
    """The training itself failed (a non-finite loss, say); the message says where and what to try.
    Exit status 1."""


class Interrupted(Exception):
    """The user has asked to stop; the message says how to go on. Exit status 130."""
