"""python -m minippo.label. What it does: commands/label.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.label"))
