"""python -m minippo.report. What it does: commands/report.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.report"))
