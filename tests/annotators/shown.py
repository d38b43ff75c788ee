"""Responses as annotators see them."""

import torch

from minippo.annotators.base import Shown
from minippo.tasks.tldr import Tldr

PROMPT = "i am a baker . i live in rome . i love chess . it rains today . tl;dr :"
TRUE, FALSE = "a baker in rome who loves chess", "a nurse in oslo who loves tennis"


def shown(*responses, gold=None, task=None):
    """Responses to one prompt of tldr; or, with `gold` [N,K] alone, texts that nobody reads."""
    task = task or Tldr()
    if gold is not None:
        texts = [[""] * gold.shape[1]] * len(gold)
        return Shown(task, [PROMPT] * len(gold), texts, torch.ones(gold.shape), gold)
    scores = torch.tensor([[task.gold(PROMPT, text) for text in responses]], dtype=torch.float64)
    lengths = torch.tensor([[len(text.split()) + 1 for text in responses]])
    return Shown(task, [PROMPT], [list(responses)], lengths, scores)
