"""python -m minippo.compare. What it does: commands/compare.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.compare"))
