"""Worlds so small that the right answer is known: what the tests of the policy's training share.

A probe is a pair of functions, one that draws prompts and one that scores responses, and the models
that are trained on them.
"""

import copy

import torch

from minippo.algorithms import DEFAULT, REGISTRY
from minippo.algorithms.base import PAIRS, PPOConfig
from minippo.critic_head import Critic
from minippo.gpt import GPT, GPTConfig
from minippo.rollout import Models, Responses, sample_responses
from minippo.stages.pairs import Pairs, judged_comparisons
from minippo.stages.policy import World, policy_updates

PAD, BOS, EOS = 0, 1, 2
NO_END = 999  # an EOS that no model can say: every response has full length


class Probe:
    """A policy, its reference and a critic, and their training with the settings of a probe."""

    def __init__(
        self, score_function, *, prompts=((BOS,),), eos_id=NO_END, vocab_size=6, seed=0, **settings
    ):
        config = GPTConfig(vocab_size, 12, 1, 2, 16)
        self.reference = GPT(config, generator=torch.Generator().manual_seed(seed))
        self.policy, self.critic = copy.deepcopy(self.reference), Critic(self.reference)
        self.score_function, self.eos_id = score_function, eos_id
        self.prompts = torch.tensor(prompts)
        defaults = dict(
            num_updates=40,
            batch_size=64,
            learning_rate=1e-2,
            kl_coef=1e-6,
            vf_coef=1.0,
            no_eos_score=None,
            response_length=1,
            cliprange_value=100.0,
        )
        self.config = PPOConfig(**defaults | settings)
        self.generator = torch.Generator().manual_seed(seed)

    def draw_prompts(self, n):
        tokens = self.prompts[torch.arange(n) % len(self.prompts)]
        return tokens, torch.ones_like(tokens, dtype=torch.bool)

    def models(self, algorithm=DEFAULT):
        """The models that the algorithm is given: no critic where it has none."""
        critic = self.critic if REGISTRY[algorithm].has_critic else None
        return Models(self.policy, self.reference, critic)

    def pairs(self):
        """Responses of the reference, and which of them the score prefers."""
        comparisons = judged_comparisons(
            self.reference,
            self.draw_prompts,
            self.score_function,
            config=self.config,
            samples=4,
            eos_id=self.eos_id,
            pad_id=PAD,
            generator=torch.Generator().manual_seed(5),
        )
        return Pairs(comparisons, 0.1)

    def updates(self, algorithm=DEFAULT, gold_function=None, draw_texts=None, **more):
        """policy_updates: yields each update when it is made."""
        world = World(
            self.draw_prompts,
            self.score_function,
            self.eos_id,
            PAD,
            gold_function,
            draw_texts,
            self.pairs() if REGISTRY[algorithm].learns_from == PAIRS else None,
        )
        settings = dict(config=self.config, generator=self.generator, algorithm=algorithm)
        return policy_updates(self.models(algorithm), world, **settings, **more)

    def train(self, algorithm=DEFAULT, **more):
        """All updates; returns their rows of metrics."""
        return [step.row for step in self.updates(algorithm, **more)]

    def sample(self, n=256):
        prompts = self.draw_prompts(n)
        tokens, mask, _ = sample_responses(
            self.policy,
            *prompts,
            response_length=self.config.response_length,
            temperature=1.0,
            generator=self.generator,
            eos_id=self.eos_id,
            pad_id=PAD,
        )
        return Responses(*prompts, tokens, mask)

    def probabilities(self, prompt):
        """The policy's and the reference's next-token distribution after a prompt."""
        tokens = torch.tensor([prompt])
        return [
            torch.softmax(model(tokens)[0, -1], dim=-1).detach()
            for model in (self.policy, self.reference)
        ]


def good_token(tokens, mask):
    """Ending with token 4 is good, with token 3 bad."""
    return (tokens[:, -1] == 4).float() - (tokens[:, -1] == 3).float()


def tiny(**settings):
    """A probe in which length and content both pay, with EOS."""
    defaults = dict(
        response_length=4, eos_id=EOS, prompts=((BOS, 3), (BOS, 5)), num_updates=3, batch_size=32
    )
    return Probe(lambda tokens, mask: tokens[:, -1].float(), **defaults | settings)


def ragged(**settings):
    """The same without whitening, and with a critic that says something other than 0."""
    probe = tiny(**dict(whiten_advantages=False) | settings)
    torch.nn.init.normal_(probe.critic.head.weight, generator=torch.Generator().manual_seed(3))
    return probe


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def padded_prompts(n=3, length=4, pads=0, seed=0):
    """n prompts of different lengths; `pads` more columns of padding on the left."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, 8, (n, length), generator=generator)
    mask = torch.arange(length) >= torch.arange(n).remainder(length).unsqueeze(1)
    tokens = torch.where(mask, tokens, 0)
    return torch.cat((torch.zeros(n, pads, dtype=torch.int64), tokens), 1), torch.cat(
        (torch.zeros(n, pads, dtype=torch.bool), mask), 1
    )
