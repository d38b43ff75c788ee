"""What the policy has forgotten of its pretraining: the next-token loss on fresh texts of it.

Fine-tuning and PPO are never asked for it, so it rises, unless PPO-ptx (--ptx_coef) pays for it. A
high price of the KL holds the policy to the fine-tuned model, which has forgotten already.
"""

import torch

from minippo.commands.run import Run
from minippo.gpt import GPT
from minippo.rollout import Models
from minippo.stages.pretrain import next_token_loss

TEXTS, AT_ONCE = 128, 16


@torch.no_grad()
def pretraining_losses(run: Run, models: Models) -> dict[str, float]:
    """{"sft", "policy"}: mean loss per learned token, in nats, on the same texts for both; texts as
    the last step of the pretraining saw them, drawn anew."""
    task, steps = run.task, run.config.pretrain.pretrain_steps
    texts = task.pretraining_examples(TEXTS, step=steps, rng=run.rng("texts to remember"))

    def loss(model: GPT) -> float:
        total, tokens = 0.0, 0
        for start in range(0, TEXTS, AT_ONCE):
            part = texts[start : start + AT_ONCE]
            learned = sum(sum(example.is_target) for example in part)
            total += learned * next_token_loss(model, part, task.tokenizer.pad_id).item()
            tokens += learned
        return total / tokens

    return {"sft": loss(models.reference), "policy": loss(models.policy)}
