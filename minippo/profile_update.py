"""python -m minippo.profile_update. What it does: commands/profile_update.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.profile_update"))
