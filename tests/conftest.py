"""What pytest gives to every test.

Hypothesis draws the same examples in every run, so that a red test is red again the next time.
"""

import json
import os
import warnings

import pytest
import torch
from hypothesis import settings

from minippo.commands.export import main
from tests.tiny_runs import LANGUAGE_MODELS, TOKENIZERS, make_run, nothing_drawn, run

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
torch.set_num_threads(1)  # a worker has one core

settings.register_profile(
    "minippo", derandomize=True, deadline=None, max_examples=50, database=None
)
settings.load_profile("minippo")


@pytest.fixture(scope="session", autouse=True)
def quick_endings():
    """Only what tests/commands/test_train.py runs is drawn."""
    with nothing_drawn():
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A tiny run that is over, for tests that only read it."""
    return run(tmp_path_factory.mktemp("finished") / "run", "--quiet")


@pytest.fixture(scope="session", params=sorted(TOKENIZERS))
def exported(request, tmp_path_factory):
    """(kind of tokenizer, run, {stage: its folder in their files})."""
    root = tmp_path_factory.mktemp(request.param)
    made = make_run(root / "run", request.param)
    folders = {stage: root / stage for stage in (*LANGUAGE_MODELS, "reward_model", "critic")}
    for stage, folder in folders.items():
        assert main(["--run", str(made), "--stage", stage, "--to", "hf", str(folder)]) == 0
    return request.param, made, folders


@pytest.fixture(scope="session")
def bytes_folder(tmp_path_factory):
    """The policy of such a run, with bytes for tokens, in their files."""
    root = tmp_path_factory.mktemp("start")
    assert (
        main(["--run", str(make_run(root / "run", "byte")), "--to", "hf", str(root / "DIR2")]) == 0
    )
    return root / "DIR2"


@pytest.fixture
def theirs(monkeypatch):
    """The package transformers; what it has to warn of when it is imported is its own affair."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers")


@pytest.fixture
def data(tmp_path):
    """A user's own folder: a text and preferences."""
    folder = tmp_path / "DIR"
    folder.mkdir()
    (folder / "corpus.txt").write_text("the sea is wide and the boat is small . " * 40)
    pairs = [
        {"prompt": f"say {i} things", "chosen": f"here are {i} of them", "rejected": "no"}
        for i in range(12)
    ]
    (folder / "preferences.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return folder
