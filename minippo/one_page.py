"""PPO for a language model on one page: a tiny GPT learns to answer five letters with an anagram.

`python -m minippo.one_page` runs it, in half a minute. Read it from the bottom up: `train` is the
loop, and the functions above are its steps. The package makes the same update, as
tests/test_one_page.py shows, and does these things besides:

 1. pretraining and fine-tuning, stages/pretrain.py, sft.py; here a GPT of random weights is steered
 2. a reward model learned from pairs of answers, reward_head.py; here a rule gives the score
 3. prompts of any length, a key/value cache, gpt.py; here all have P letters and are read again
 4. each step of the derivation that leads here, and TRPO, policy_gradient.py to ppo.py
 5. guards that name what is wrong, metrics, figures, runs that can be resumed, diagnostics, runs/
 6. the best policy that there can be, to measure the result against, stages/optimum.py
"""

import argparse
import copy
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

# B responses, P letters of a prompt, T slots of a response, S = P + T, V symbols, D width, H heads
P, T, EOS, V = 5, 7, 8, 9  # the symbols are eight letters and the end of a response


class Settings(NamedTuple):
    num_updates: int = 50
    batch_size: int = 128  # responses in a rollout
    num_ppo_epochs: int = 4  # passes over a rollout
    num_mini_batches: int = 2  # optimiser steps in a pass
    learning_rate: float = 1e-3
    kl_coef: float = 0.02  # price of a nat of KL from the reference
    gamma: float = 1.0
    lam: float = 0.95
    cliprange: float = 0.2  # of the ratio
    cliprange_value: float = 0.2
    vf_coef: float = 0.1
    max_grad_norm: float = 1.0


class Block(nn.Module):
    """Attention, then an MLP; each reads a normalised copy of the stream and adds to it."""

    def __init__(self, D: int, H: int) -> None:
        super().__init__()
        self.H, self.ln_1, self.ln_2 = H, nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(D, 3 * D), "c_proj": nn.Linear(D, D)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(D, 4 * D), "c_proj": nn.Linear(4 * D, D)})

    def forward(self, x: Tensor) -> Tensor:  # [B,S,D]
        heads = self.attn["c_attn"](self.ln_1(x)).unflatten(-1, (3, self.H, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # [B,H,S,D/H] each
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](seen.transpose(1, 2).flatten(2))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    """Tokens [B,S] -> logits [B,S,V] of the next token, at every position."""

    def __init__(self, rng: Generator, layers: int = 2, D: int = 64, H: int = 4):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, D), nn.Embedding(P + T, D)
        self.h, self.ln_f = nn.ModuleList(Block(D, H) for _ in range(layers)), nn.LayerNorm(D)
        for name, parameter in self.named_parameters():
            if "ln_" not in name:
                nn.init.normal_(parameter, std=0.07, generator=rng)

    def hidden(self, tokens: Tensor) -> Tensor:  # [B,S] -> [B,S,D]
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.h:
            x = block(x)
        return self.ln_f(x)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.hidden(tokens) @ self.wte.weight.T


class Critic(nn.Module):
    """Tokens [B,S] -> V(s) of every prefix, [B,S]: the return to be expected from there on."""

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        self.trunk, self.head = copy.deepcopy(gpt), nn.Linear(gpt.wte.embedding_dim, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.trunk.hidden(tokens)).squeeze(-1)


def score(tokens: Tensor) -> Tensor:
    """-1 for each letter missing or too many, -5 for a response without EOS; 0 is best. [B]"""
    wanted, got = (F.one_hot(x, V).sum(dim=1) for x in (tokens[:, :P], tokens[:, P:]))  # [B,V]
    return -(wanted - got)[:, :EOS].abs().sum(dim=1) - 5.0 * (got[:, EOS] == 0)


def response_logprobs(policy: GPT, tokens: Tensor) -> Tensor:
    """log pi(a_t | s_t) of the response, [B,T]. A token is chosen one position before its own."""
    log_pi = policy(tokens)[:, P - 1 : -1].log_softmax(dim=-1)  # [B,T,V]
    return log_pi.gather(-1, tokens[:, P:, None]).squeeze(-1)


class Rollout(NamedTuple):
    """What was sampled, and what each model said about it then. All of it is data."""

    tokens: Tensor  # [B,P+T]
    mask: Tensor  # [B,T], True up to EOS
    scores: Tensor  # [B]
    old_logprobs: Tensor  # [B,T] of the policy that sampled
    ref_logprobs: Tensor  # [B,T] of the reference
    old_values: Tensor  # [B,T] of the critic, 0 after the end


@torch.no_grad()
def sample(policy: GPT, reference: GPT, critic: Critic, tokens: Tensor, rng: Generator) -> Rollout:
    """Go on from the prompts, tokens [B,P], one token at a time; ask every model about it."""
    for _ in range(T):
        pi = policy(tokens)[:, -1].softmax(dim=-1)  # [B,V]
        goes_on = ~(tokens == EOS).any(dim=1)
        action = torch.full((len(tokens), 1), EOS)
        action[goes_on] = torch.multinomial(pi[goes_on], 1, generator=rng)
        tokens = torch.cat((tokens, action), dim=1)
    mask = F.pad(tokens[:, P:-1] == EOS, (1, 0)).cumsum(dim=1) == 0  # no EOS before this slot
    old, ref = response_logprobs(policy, tokens), response_logprobs(reference, tokens)
    values = torch.where(mask, critic(tokens)[:, P - 1 : -1], 0.0)
    return Rollout(tokens, mask, score(tokens), old, ref, values)


def shaped_rewards(rollout: Rollout, kl_coef: float) -> Tensor:
    """The price of leaving the reference on every token, the score on the last. [B,T]"""
    price = -kl_coef * (rollout.old_logprobs - rollout.ref_logprobs)
    last = rollout.mask.sum(dim=1, keepdim=True) - 1
    return torch.where(rollout.mask, price, 0.0).scatter_add(1, last, rollout.scores[:, None])


def gae_advantages(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """A_t = delta_t + gamma lam A_{t+1} with delta_t = r_t + gamma V_{t+1} - V_t. [B,T]"""
    A, advantages = torch.zeros(len(values)), torch.zeros_like(values)
    deltas = rewards + gamma * F.pad(values[:, 1:], (0, 1)) - values  # V is 0 after the end
    for t in reversed(range(T)):
        advantages[:, t] = A = deltas[:, t] + gamma * lam * A
    return advantages


def ppo_update(
    policy: GPT, critic: Critic, optimizer: Adam, rollout: Rollout, config: Settings, rng: Generator
) -> None:
    """Some passes of minibatches over one rollout, each a step of the optimiser."""
    rewards = shaped_rewards(rollout, config.kl_coef)
    advantages = gae_advantages(rewards, rollout.old_values, config.gamma, config.lam)
    targets = advantages + rollout.old_values
    real = advantages[rollout.mask]
    advantages = (advantages - real.mean()) / real.std(correction=0)
    for _ in range(config.num_ppo_epochs):
        order = torch.randperm(len(advantages), generator=rng)
        for rows in order.tensor_split(config.num_mini_batches):
            tokens, mask = rollout.tokens[rows], rollout.mask[rows]  # after EOS, nothing counts
            data = (rollout.old_logprobs, advantages, rollout.old_values, targets)
            old_logprobs, A, V_old, y = (x[rows][mask] for x in data)
            ratio = (response_logprobs(policy, tokens)[mask] - old_logprobs).exp()
            clipped = ratio.clamp(1 - config.cliprange, 1 + config.cliprange)
            policy_loss = -torch.minimum(ratio * A, clipped * A).mean()
            V_new = critic(tokens)[:, P - 1 : -1][mask]
            V_near = V_new.clamp(V_old - config.cliprange_value, V_old + config.cliprange_value)
            value_loss = 0.5 * torch.maximum((V_new - y) ** 2, (V_near - y) ** 2).mean()
            optimizer.zero_grad()
            (policy_loss + config.vf_coef * value_loss).backward()
            nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], config.max_grad_norm)
            optimizer.step()


def train(config: Settings, seed: int) -> list[float]:
    """The mean score of each rollout."""
    rng, means = torch.Generator().manual_seed(seed), []
    policy = GPT(rng)
    reference, critic = copy.deepcopy(policy), Critic(policy)
    optimizer = Adam([*policy.parameters(), *critic.parameters()], config.learning_rate, eps=1e-5)
    for update in range(1, config.num_updates + 1):
        prompts = torch.randint(EOS, (config.batch_size, P), generator=rng)
        rollout = sample(policy, reference, critic, prompts, rng)
        ppo_update(policy, critic, optimizer, rollout, config, rng)
        means.append(rollout.scores.mean().item())
        text = "".join("abcdefgh."[token] for token in rollout.tokens[0])
        print(f"update {update:3}  score {means[-1]:6.2f}  {text[:P]} -> {text[P:].rstrip('.')}")
    return means


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("minippo.one_page", description=str(__doc__).split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    means = train(Settings(), parser.parse_args(arguments).seed)
    print(f"mean score, first 5 updates {sum(means[:5]) / 5:.2f}, last 5 {sum(means[-5:]) / 5:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
