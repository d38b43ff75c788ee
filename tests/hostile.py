"""Content for the tests that read hostile files, and for the fuzzing."""

import hashlib
import json
import os
import random
import struct

import pytest

from minippo.errors import InputError
from minippo.gpt import GPTConfig


def numbers_of_a_state(update):
    """numbers.json of a training after this update."""
    version, words, gauss = random.Random(0).getstate()
    return {
        "update": update,
        "kl_coef": 0.05,
        "kl_old_coef": 1.0,
        "stage_seconds": 0.5,
        "rng": [version, list(words), gauss],
        "minibatch": {"ratios": [1.0, 0.9], "advantages": [0.5, -1]},
        "memory": {"gradients": 400, "optimiser": 800, "activations": 0},
    }


def safetensors_file(head, body=b"", length=None):
    """The bytes of a file with this head (an object, or bytes as they are) that claims to have a
    head of this length."""
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + body


def entry(shape=(2,), place=(0, 8), kind="F32"):
    """What a head says about one tensor."""
    return {"dtype": kind, "shape": list(shape), "data_offsets": list(place)}


def reseal(path):
    """What somebody does who changes a file of a checkpoint and knows the seal."""
    names = sorted(set(os.listdir(path)) - {"sha256.json"})
    (path / "sha256.json").write_text(
        json.dumps({name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names})
    )


SIZE = GPTConfig(vocab_size=5, context_length=4, n_layer=1, n_head=1, n_embd=2)


POSIX = pytest.mark.skipif(
    os.name != "posix", reason="pipes, links and limits of memory as POSIX has them"
)


def refusal(function, *arguments, names=""):
    """The one line with which it is refused."""
    with pytest.raises(InputError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and len(message) < 800 and str(names) in message
    return message
