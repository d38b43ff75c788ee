"""What the tests of reading share."""

import pytest
import torch

from minippo.commands.config import resolve
from minippo.gpt import GPT
from minippo.interchange.load import REPORT
from minippo.reward_head import RewardModel
from minippo.runs.folder import RunFolder
from minippo.tokenizer import WordTokenizer
from tests.hostile import SIZE, numbers_of_a_state


@pytest.fixture
def run(tmp_path):
    """A run with a model of every kind, a tokenizer, and the state after its second update."""
    folder, info = (
        RunFolder(tmp_path),
        {"seconds": {"sft": 1.0}, "report": dict.fromkeys(REPORT, 0.5)},
    )
    gpt = GPT(SIZE)
    tokenizer = WordTokenizer(["a", "b"]).to_dict()
    for stage, model in (("sft", gpt), ("reward_model", RewardModel(gpt))):
        folder.save_checkpoint(
            stage, model, model_config=vars(SIZE), tokenizer=tokenizer, info=info
        )
    for update in (1, 2):
        folder.append_metrics({"update": update, "objective/scores": 0.5, "objective/kl": 0.1})
    folder.save_state(2, {"x": torch.zeros(2)}, numbers_of_a_state(2))
    folder.save_config(resolve({"task": "capitals"}).to_dict() | {"versions": {"format": 1}})
    return folder
