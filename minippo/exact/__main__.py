"""The derivation in numbers: python -m minippo.exact. What it does: tables.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.exact.tables"))
