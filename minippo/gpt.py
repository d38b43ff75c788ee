"""A small GPT: tokens in, next-token logits out, at every position.

The architecture and the parameter names are GPT-2's (learned positions, LayerNorm before each
block, tanh-approximated GELU, biases everywhere, the output layer tied to the token embedding), so
that weights can travel. Nothing here knows about rewards or policies.

Two things are worth a look before the code:

- `mask` says which tokens are real. A pad is never attended to and takes no position: the first
  real token of a row has position 0 wherever it is, so a prompt gives the same numbers with 0
  or 5 pads to its left.
- `cache` keeps the keys and values of the tokens already read. Sampling token t then costs one
  position, not t.

Shapes: B sequences, S positions, D width, H heads, V vocabulary, L positions already in the cache.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class GPTConfig:
    """The size of a GPT. `context_length` is the number of positions that it has an embedding
    for."""

    vocab_size: int
    context_length: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}"
                )
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd must be a multiple of n_head, got {self.n_embd} and {self.n_head}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout!r}")


class KVCache:
    """Keys and values of the tokens read so far, one pair per layer, and which of those tokens are
    real."""

    def __init__(self, n_layer: int) -> None:
        # each (k, v), [B, H, L, D/H]
        self.layers: list[tuple[Tensor, Tensor] | None] = [None] * n_layer
        self.mask: Tensor | None = None  # [B, L] bool

    def __len__(self) -> int:
        return 0 if self.mask is None else self.mask.shape[1]

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new positions' keys and values of one layer; return those of all positions."""
        before = self.layers[layer]
        if before is not None:
            old_k, old_v = before
            k, v = torch.cat((old_k, k), dim=2), torch.cat((old_v, v), dim=2)  # [B, H, L+S, D/H]
        self.layers[layer] = (k, v)
        return k, v

    def repeat_rows(self, n: int) -> "KVCache":
        """A cache in which every row is repeated n times: n continuations that share one
        reading of the prompt."""
        copy = KVCache(len(self.layers))
        if self.mask is not None:
            copy.mask = self.mask.repeat_interleave(n, dim=0)
        for layer, pair in enumerate(self.layers):
            if pair is not None:
                k, v = (x.repeat_interleave(n, dim=0) for x in pair)
                copy.layers[layer] = (k, v)
        return copy


def attention_by_hand(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
    """What attention computes, to be read: the layer below calls torch's fused version of it, which
    is faster and needs less memory.

    Each position asks (its query q) what each position offers (its key k), and takes a mean of
    their values v, weighted by how well the two fit. It may look only where `allowed` is True; None
    allows itself and what came before. q is [B, H, S, D/H], k and v are [B, H, L+S, D/H], allowed
    is [B, 1, S, L+S], and the result is as q.
    """
    if allowed is None:
        allowed = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    # the sum of D/H products grows with their number: without the root the softmax would be sharp
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])  # [B, H, S, L+S]
    weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=-1)  # 0 where not allowed
    return weights @ v


class Attention(nn.Module):
    """Causal self-attention with several heads: attention_by_hand, and a layer before and after."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, allowed: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        B, S, D = x.shape
        q, k, v = (
            part.view(B, S, self.n_head, D // self.n_head).transpose(1, 2)  # [B, H, S, D/H]
            for part in self.c_attn(x).split(D, dim=2)
        )
        if cache is not None:
            k, v = cache.extend(layer, k, v)  # [B, H, L+S, D/H]
        y = F.scaled_dot_product_attention(  # see attention_by_hand
            q,
            k,
            v,
            attn_mask=allowed,
            is_causal=allowed is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        y = y.transpose(1, 2).reshape(B, S, D)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    """Two linear layers with a GELU between them, four times as wide inside."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")))


class Block(nn.Module):
    """Attention, then the MLP, each reading a normalised copy of the stream and adding to it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=1e-5)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=1e-5)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, allowed: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        x = x + self.attn(self.ln_1(x), allowed, cache, layer)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """GPT(config)(tokens [B,S], mask [B,S] bool or None) -> logits [B,S,V] at every position.

    Pass a `generator` to make the initial weights; without one, torch's global generator is used.
    """

    def __init__(self, config: GPTConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.context_length, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=1e-5)
        self._init_weights(generator)

    def _init_weights(self, generator: torch.Generator | None) -> None:
        """Normal, biases 0; what writes into the stream is scaled down by sqrt(2 n_layer), as in
        GPT-2.

        GPT-2's 0.02 belongs to its width of 768. The noise of a sum over D inputs grows with
        sqrt(D), so a narrower model starts with larger weights: 0.07 at D = 64. With 0.02 there,
        the layers add next to nothing to the stream and a small model spends its first hundreds of
        steps growing its weights.
        """
        std = 0.02 * math.sqrt(768 / self.config.n_embd)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "ln_" not in name:  # LayerNorm weights stay 1
                scale = (
                    1 / math.sqrt(2 * self.config.n_layer)
                    if name.endswith("c_proj.weight")
                    else 1.0
                )
                nn.init.normal_(parameter, std=std * scale, generator=generator)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        return self.logits(self.hidden(tokens, mask, cache))

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]; the output layer is the token embedding, transposed."""
        return hidden @ self.wte.weight.T

    def hidden(
        self, tokens: Tensor, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """The stream after the last LayerNorm, [B, S, D]: what the heads read.

        With a cache, `tokens` and `mask` are the new positions only, and the cache is extended in
        place.
        """
        self._check(tokens, mask, cache)
        positions, allowed = self._positions_and_allowed(tokens, mask, cache)
        x = self.drop(self.wte(tokens) + self.wpe(positions))  # [B, S, D]
        for layer, block in enumerate(self.h):
            x = block(x, allowed, cache, layer)
        return self.ln_f(x)

    def _positions_and_allowed(
        self, tokens: Tensor, mask: Tensor | None, cache: KVCache | None
    ) -> tuple[Tensor, Tensor | None]:
        """Which position each new token takes, [B, S] or [S], and which tokens it may read, [B, 1,
        S, L+S] or None."""
        B, S = tokens.shape
        if mask is None and cache is None:
            return torch.arange(S, device=tokens.device), None  # plain causal attention
        mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        L = 0
        if cache is not None:
            L = len(cache)
            mask = mask if cache.mask is None else torch.cat((cache.mask, mask), dim=1)  # [B, L+S]
            cache.mask = mask
        # [B, S]: real tokens before this one
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, L:]
        causal = torch.ones(S, L + S, dtype=torch.bool, device=tokens.device).tril(diagonal=L)
        columns = torch.arange(L + S, device=tokens.device)
        itself = columns[L:, None] == columns  # a pad reads itself: no empty softmax
        return positions, ((causal & mask[:, None, :]) | itself)[:, None]

    def _check(self, tokens: Tensor, mask: Tensor | None, cache: KVCache | None) -> None:
        if tokens.dim() != 2 or tokens.numel() == 0:
            raise ValueError(f"tokens must be [B, S] and not empty, got shape {list(tokens.shape)}")
        if mask is not None and (mask.shape != tokens.shape or mask.dtype != torch.bool):
            raise ValueError(
                f"mask must be bool of shape {list(tokens.shape)}, got {mask.dtype} "
                f"{list(mask.shape)}"
            )
        length = tokens.shape[1] + (0 if cache is None else len(cache))
        # pads take no position: count the real tokens before refusing
        if length > self.config.context_length:
            before = 0 if cache is None or cache.mask is None else cache.mask.sum(dim=1)
            real = tokens.shape[1] if mask is None else mask.sum(dim=1)
            longest = int(torch.as_tensor(real + before).max())
            if longest > self.config.context_length:
                raise ValueError(
                    f"{longest} tokens do not fit a context_length of {self.config.context_length}"
                )
