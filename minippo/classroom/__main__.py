"""The classroom: python -m minippo.classroom. The list of its commands: table.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.classroom.table"))
