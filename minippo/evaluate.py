"""python -m minippo.evaluate. What it does: commands/evaluate.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.evaluate"))
