"""python -m minippo.talk. What it does: commands/talk.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.talk"))
