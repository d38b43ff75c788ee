"""python -m minippo.measure. What it does: commands/measure.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.measure"))
