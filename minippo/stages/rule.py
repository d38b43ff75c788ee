"""A rule in the place of the reward model: responses are scored by their texts, by something that
can check them.

Nothing is learned here, so nothing is scaled or centred either: the score is what the rule says.
What is known as RLVR is this and nothing more; all the rest of the training is the same.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.rollout import Responses, ResponseScore
from minippo.tokenizer import Tokenizer

Rule = Callable[[str, str], float]  # (prompt, response), texts without EOS -> score


class RuleScore(ResponseScore):
    """The scores of a rule; it reads decoded texts, so whatever stands after EOS is not there."""

    def __init__(self, rule: Rule, tokenizer: Tokenizer) -> None:
        self.rule, self.tokenizer = rule, tokenizer

    def of(self, batch: Responses) -> Tensor:
        """One call of the rule for each response, [B] float32."""
        decode = self.tokenizer.decode
        scores = [
            self.rule(decode(prompt), decode(response))
            for prompt, response in zip(
                batch.prompt_tokens.tolist(), batch.response_tokens.tolist(), strict=True
            )
        ]
        return torch.tensor(scores, dtype=torch.float32, device=batch.prompt_tokens.device)
