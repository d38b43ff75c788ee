"""A world of a few tokens and a few steps, with all its states and all its responses in tensors.

Tokens are 0 ... V-1. A response is over after T tokens, or after token 0 (EOS) where the world has
one. A state is a prompt and the tokens so far; the states form a tree for each prompt. A reward
belongs to a state and the token chosen in it.

Shapes: M prompts, K states, N responses, T slots, V vocabulary, D parameters of a policy.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from minippo.gpt import GPT, GPTConfig
from minippo.logprobs import token_logprobs
from minippo.masked import zero_padding
from minippo.shapes import check_count

EOS = 0
Reward = Callable[[int, tuple[int, ...]], float]  # of a prompt and the response so far
MOST = 5  # of tokens and of steps: 5^5 responses are quickly listed, 6^6 are not


class World:
    """All states and responses of a small world, in float64.

    reward(prompt, tokens): a number, received after the last of `tokens`, the response so far (a
    tuple).

    states          list of (prompt, tokens so far), the shorter ones first
    rewards         [K,V] float    reward of choosing a token in a state
    next_state      [K,V] int64    the state that follows; -1 when the response is over
    depth           [K] int64      the number of tokens so far
    response_tokens [N,T] int64;  response_mask [N,T] bool; response_rewards [N,T] float;
                                  state_index [N,T] int64
    prompt_index    [N] int64      the prompt of each response
    prompt_probs    [M] float      how often each prompt is asked; equal unless given
    """

    def __init__(
        self,
        reward: Reward,
        *,
        vocab_size: int = 3,
        response_length: int = 3,
        prompts: int = 1,
        prompt_probs: Tensor | None = None,
        has_eos: bool = True,
    ) -> None:
        for name, value, least in (
            ("vocab_size", vocab_size, 2),
            ("response_length", response_length, 1),
        ):
            if not least <= value <= MOST:
                raise ValueError(f"{name}: got {value}, wanted {least} to {MOST}")
        check_count(vocab_size=vocab_size, response_length=response_length, prompts=prompts)
        self.vocab_size, self.response_length, self.prompts = vocab_size, response_length, prompts
        equal = torch.full((prompts,), 1 / prompts, dtype=torch.float64)
        self.prompt_probs = equal if prompt_probs is None else prompt_probs.double()
        if (
            self.prompt_probs.shape != (prompts,)
            or (self.prompt_probs < 0).any()
            or abs(self.prompt_probs.sum() - 1) > 1e-9
        ):
            raise ValueError(
                f"prompt_probs: got {self.prompt_probs.tolist()}, wanted "
                f"{prompts} probabilities with sum 1"
            )
        self._grow(reward, has_eos)
        self._list_responses()

    def _grow(self, reward, has_eos):
        """States level by level; a state's children follow when its level is done."""
        self.states = [(prompt, ()) for prompt in range(self.prompts)]
        rewards, next_state = [], []
        for prompt, tokens in self.states:  # the list grows while it is walked
            longer = [tokens + (token,) for token in range(self.vocab_size)]
            rewards.append([float(reward(prompt, response)) for response in longer])
            over = [
                len(response) == self.response_length or (has_eos and response[-1] == EOS)
                for response in longer
            ]
            first = len(self.states)
            self.states += [
                (prompt, response)
                for response, is_over in zip(longer, over, strict=True)
                if not is_over
            ]
            children = iter(range(first, len(self.states)))
            next_state.append([-1 if is_over else next(children) for is_over in over])
        self.rewards = torch.tensor(rewards, dtype=torch.float64)
        self.next_state = torch.tensor(next_state)
        self.depth = torch.tensor([len(tokens) for _, tokens in self.states])

    def _list_responses(self):
        """Every path from a prompt to an end, as a row."""
        paths = []
        for state in range(len(self.states)):
            for token in (self.next_state[state] == -1).nonzero().flatten().tolist():
                paths.append((state, token))
        shape = (len(paths), self.response_length)
        self.response_tokens, self.state_index = (
            torch.zeros(shape, dtype=torch.int64) for _ in range(2)
        )
        self.response_mask = torch.zeros(shape, dtype=torch.bool)
        self.prompt_index = torch.tensor([self.states[state][0] for state, _ in paths])
        number = {state: k for k, state in enumerate(self.states)}
        for row, (state, token) in enumerate(paths):
            prompt, before = self.states[state]
            for t, chosen in enumerate(before + (token,)):
                self.response_tokens[row, t], self.response_mask[row, t] = chosen, True
                self.state_index[row, t] = number[prompt, before[:t]]
        rewards = self.rewards[self.state_index, self.response_tokens]
        self.response_rewards = zero_padding(values=rewards, mask=self.response_mask)

    def levels(self) -> list[Tensor]:
        """The states by depth: a list of index tensors, the prompts first."""
        return [(self.depth == depth).nonzero().flatten() for depth in range(self.response_length)]

    def logprobs(self, logits: Tensor) -> Tensor:
        """log pi(a_t|s_t) of every response, [K,V] -> [N,T]; 0 where a response has ended."""
        chosen = token_logprobs(logits=logits[self.state_index], tokens=self.response_tokens)
        return zero_padding(values=chosen, mask=self.response_mask)

    def along_responses(self, per_state: Tensor) -> Tensor:
        """What belongs to the states, [K], written along every response, [N,T]; 0 where a response
        has ended."""
        return zero_padding(values=per_state[self.state_index], mask=self.response_mask)


class TabularPolicy(nn.Module):
    """A logit for every state and token: policy() -> [K,V]."""

    def __init__(self, world: World, *, generator: torch.Generator, scale: float = 1.0) -> None:
        super().__init__()
        shape = (len(world.states), world.vocab_size)
        self.table = nn.Parameter(
            scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        )

    def forward(self) -> Tensor:
        return self.table


class GPTPolicy(nn.Module):
    """A one-layer GPT that reads the prompt as one token of its own: policy() -> [K,V].

    Here states share parameters: what is learned in one changes the others.
    """

    def __init__(self, world: World, *, generator: torch.Generator, n_embd: int = 8) -> None:
        super().__init__()
        self.vocab_size = world.vocab_size
        config = GPTConfig(world.vocab_size + world.prompts, world.response_length, 1, 2, n_embd)
        self.gpt = GPT(config, generator=generator).double()
        rows = [[world.vocab_size + prompt, *tokens] for prompt, tokens in world.states]
        padded = [row + [0] * (world.response_length - len(row)) for row in rows]
        # [K,T]; pads on the right, which no real token reads
        self.register_buffer("tokens", torch.tensor(padded))
        # [K] the last of the prompt and `depth` tokens
        self.register_buffer("last", world.depth.clone())

    def forward(self) -> Tensor:
        # the fused attention has no second derivative, which TRPO takes
        with sdpa_kernel(SDPBackend.MATH):
            logits = self.gpt(self.tokens)  # [K,T,V+M]
        return logits[torch.arange(len(logits)), self.last, : self.vocab_size]
