"""All of RLHF with one command: python -m minippo.train_toy. What it does: commands/train.py."""

import sys

from minippo.commands.wrapper import door

if __name__ == "__main__":
    sys.exit(door("minippo.commands.train"))
