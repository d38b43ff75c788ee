"""python -m minippo.overoptimise. What it does: commands/overoptimise.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.overoptimise"))
