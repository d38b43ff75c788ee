"""The models of a finished run, for sampling, for an exercise, for a look inside.

    import torch
    from minippo.load import load_gpt
    from minippo.rollout import sample_responses
    from minippo.tasks import Capitals

    task, policy = Capitals(), load_gpt("runs/capitals-ppo-default-0", "policy")
    tokens, mask = task.prompt_batch(["what is the capital of france ?"])  # BOS, the words, pads on the left
    responses, _, _ = sample_responses(policy, tokens, mask, response_length=4, temperature=1.0, samples_per_prompt=5,
                                       generator=torch.Generator().manual_seed(0),
                                       eos_id=task.tokenizer.eos_id, pad_id=task.tokenizer.pad_id)
    print([task.tokenizer.decode(row) for row in responses.tolist()])

A prompt begins with BOS (in the task files it also ends with a line break): a model asked without it answers another
question. response_length and temperature of a run stand in its config.json, under "ppo".
"""

from pathlib import Path

from minippo.critic_head import Critic
from minippo.errors import InputError
from minippo.gpt import GPT, GPTConfig
from minippo.reward_head import RewardModel
from minippo.runs.folder import load_checkpoint
from minippo.tokenizer import tokenizer_from_dict


def load_gpt(run, stage="policy"):
    """The GPT of a stage: pretrain, sft or policy. InputError, with the file, when it cannot be read."""
    return _load(run, stage, lambda gpt: gpt)


def load_reward_model(run):
    """The reward model, with its zero and its unit."""
    return _load(run, "reward_model", RewardModel)


def load_critic(run):
    """The critic as it stood after the last update."""
    return _load(run, "critic", Critic)


def load_tokenizer(run, stage="policy"):
    """The tokenizer that the run's models were trained with."""
    path = Path(run) / "checkpoints" / stage
    try:
        return tokenizer_from_dict(load_checkpoint(path)[2])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}/tokenizer.json: not a tokenizer ({error})") from error


def _load(run, stage, wrap):
    path = Path(run) / "checkpoints" / stage
    tensors, config, _ = load_checkpoint(path)
    try:
        model = wrap(GPT(GPTConfig(**config)))
        model.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not a checkpoint of this stage ({str(error).splitlines()[0]})") from error
    return model.eval()
