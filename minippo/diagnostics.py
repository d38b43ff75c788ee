"""python -m minippo.diagnostics RUN. What it does: commands/diagnostics.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.diagnostics"))
