"""The stages of a run, each with its data, and what is kept of the policy's training."""

import json
import random

from minippo.commands.pipeline import as_tuples


def test_the_random_state_survives_json():
    rng = random.Random(3)
    rng.gauss(0, 1)
    other = random.Random()
    other.setstate(as_tuples(json.loads(json.dumps(rng.getstate()))))
    assert [rng.gauss(0, 1) for _ in range(5)] == [other.gauss(0, 1) for _ in range(5)]
