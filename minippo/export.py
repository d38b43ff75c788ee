"""python -m minippo.export. What it does: commands/export.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.export"))
