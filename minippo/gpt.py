"""A small GPT: tokens in, next-token logits out, at every position.

The architecture and the parameter names are GPT-2's (learned positions, LayerNorm before each
block, tanh-approximated GELU, biases everywhere, the output layer tied to the token embedding), so
that weights can travel. Nothing here knows about rewards or policies.

Three things are worth a look before the code:

- `mask` says which tokens are real. A pad is never attended to and takes no position: the first
  real token of a row has position 0 wherever it is, so a prompt gives the same numbers with 0
  or 5 pads to its left.
- `cache` keeps the keys and values of the tokens already read. Sampling token t then costs one
  position, not t.
- `read` says at which positions the output is wanted. For the others the last block computes only
  their keys and values, which are all that the wanted ones need of them.

Shapes: B sequences, S positions, D width, H heads, V vocabulary, L positions already in the cache,
R positions that are read.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# an index into [B, S, ...] that leaves [B, R, ...]: two slices, or rows [B, 1] and columns [B, R]
Positions = tuple[slice | Tensor, slice | Tensor]
LAST: Positions = (slice(None), slice(-1, None))
ROOM = 16  # positions that a cache is prepared for, each time it is full
SHORT = 64  # positions up to which attention by hand is quicker on a CPU


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
        # each the same two, with room for what comes: [B, H, more than L, D/H]
        self._buffers: list[tuple[Tensor, Tensor] | None] = [None] * n_layer

    def __len__(self) -> int:
        return 0 if self.mask is None else self.mask.shape[1]

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new positions' keys and values of one layer; return those of all positions."""
        before = self.layers[layer]
        if before is not None and torch.is_grad_enabled():
            k, v = (torch.cat(pair, dim=2) for pair in zip(before, (k, v), strict=True))
            self._buffers[layer] = None
        elif before is not None:  # without a copy of all that is there
            L, end = before[0].shape[2], before[0].shape[2] + k.shape[2]
            buffers = self._buffers_of(layer, before, end)
            for buffer, new in zip(buffers, (k, v), strict=True):
                buffer[:, :, L:end] = new
            k, v = (buffer[:, :, :end] for buffer in buffers)
        self.layers[layer] = (k, v)  # [B, H, L+S, D/H]
        return k, v

    def _buffers_of(
        self, layer: int, before: tuple[Tensor, Tensor], length: int
    ) -> tuple[Tensor, Tensor]:
        buffers = self._buffers[layer]
        if buffers is None or buffers[0].shape[2] < length:
            extra = (0, 0, 0, length + ROOM - before[0].shape[2])
            buffers = F.pad(before[0], extra), F.pad(before[1], extra)
            self._buffers[layer] = buffers
        return buffers

    def repeat_rows(self, n: int) -> "KVCache":
        """A cache in which every row is repeated n times: n continuations that share one
        reading of the prompt."""
        return self._changed(lambda x: x.repeat_interleave(n, dim=0))

    def rows(self, index: Tensor) -> "KVCache":
        """A cache of some of the rows, each as often as it is named."""
        every = torch.arange(0 if self.mask is None else len(self.mask), device=index.device)
        if torch.equal(index, every):
            return self
        return self._changed(lambda x: x.index_select(0, index))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "KVCache":
        copy, L = KVCache(len(self.layers)), len(self)
        copy.mask = None if self.mask is None else change(self.mask)
        for layer, pair in enumerate(self.layers):
            if pair is not None:
                k, v = (change(x) for x in self._buffers[layer] or pair)
                copy.layers[layer], copy._buffers[layer] = (k[:, :, :L], v[:, :, :L]), (k, v)
        return copy


def attention_by_hand(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, dropout_p: float = 0.0
) -> Tensor:
    """Each position asks (its query q) what each position offers (its key k), and takes a mean of
    their values v, weighted by how well the two fit.

    q is [B, H, R, D/H], k and v are [B, H, L+S, D/H]. bias [B or 1, 1, R, L+S] is 0 where a
    position may look and -inf where it may not. The result is as q.
    """
    # the sum of D/H products grows with their number: without the root the softmax would be sharp
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(2, 3)  # [B, H, R, L+S]
    weights = (scores + bias).softmax(dim=-1)  # 0 where the bias is -inf
    return F.dropout(weights, dropout_p) @ v


def where_to_look(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """`allowed`, True where a position may look, in the form that the quicker way of `attention`
    takes: a bias for short texts on a CPU, and else as it is."""
    if allowed.device.type == "cpu" and allowed.shape[-1] <= SHORT:
        return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, -math.inf)
    return allowed


def attention(q: Tensor, k: Tensor, v: Tensor, look: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Attention by hand where `look` is a bias, and where it is of True and False by torch's fused
    version, which never holds all the weights at once."""
    if look.dtype != torch.bool:
        return attention_by_hand(q, k, v, look, dropout_p)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=look, dropout_p=dropout_p)


class Linear(nn.Linear):
    """A linear layer of which a part of the outputs can be asked for alone."""

    def part(self, x: Tensor, outputs: slice) -> Tensor:
        """forward(x)[..., outputs], and no other output is computed."""
        return F.linear(x, self.weight[outputs], self.bias[outputs])


class Attention(nn.Module):
    """Self-attention with several heads: `attention`, and a linear layer before and after."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, look: Tensor, cache: KVCache | None, layer: int, read: Positions | None
    ) -> Tensor:
        q, k, v = (self._heads(part) for part in self._queries_keys_values(x, read))
        if cache is not None:
            k, v = cache.extend(layer, k, v)  # [B, H, L+S, D/H]
        y = attention(q, k, v, look, self.dropout if self.training else 0.0)
        y = y.transpose(1, 2).flatten(2)  # [B, R, D]
        return self.resid_dropout(self.c_proj(y))

    def _queries_keys_values(self, x: Tensor, read: Positions | None) -> tuple[Tensor, ...]:
        """What the positions that are read ask, [B, R, D], and what all offer, [B, S, D]."""
        D = x.shape[2]
        if read is None:
            return self.c_attn(x).split(D, dim=2)
        # the outputs are q, k and v, side by side
        queries = self.c_attn.part(x[read], slice(D))
        return queries, *self.c_attn.part(x, slice(D, None)).split(D, dim=2)

    def _heads(self, x: Tensor) -> Tensor:
        """[B, S, D] -> [B, H, S, D/H]."""
        return x.unflatten(2, (self.n_head, -1)).transpose(1, 2)


class MLP(nn.Module):
    """Two linear layers with a GELU between them, four times as wide inside."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)
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
        self,
        x: Tensor,
        look: Tensor,
        cache: KVCache | None,
        layer: int,
        read: Positions | None = None,
    ) -> Tensor:
        stream = x if read is None else x[read]
        stream = stream + self.attn(self.ln_1(x), look, cache, layer, read)  # [B, R, D]
        return stream + self.mlp(self.ln_2(stream))


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
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        read: Positions | None = None,
    ) -> Tensor:
        """The stream after the last LayerNorm, [B, S, D]: what the heads read.

        With a cache, `tokens` and `mask` are the new positions only, and the cache is extended in
        place. With `read` the output is [B, R, D], the same numbers as hidden(...)[read].
        """
        self._check(tokens, mask, cache)
        positions, allowed = self._positions_and_allowed(tokens, mask, cache)
        x = self.drop(self.wte(tokens) + self.wpe(positions))  # [B, S, D]
        look = where_to_look(allowed, x.dtype)
        for layer, block in enumerate(self.h[:-1]):
            x = block(x, look.unsqueeze(1), cache, layer)
        if read is not None:
            look = look.expand(len(tokens), -1, -1)[read]  # [B, R, L+S]
        return self.ln_f(self.h[-1](x, look.unsqueeze(1), cache, len(self.h) - 1, read))

    def _positions_and_allowed(
        self, tokens: Tensor, mask: Tensor | None, cache: KVCache | None
    ) -> tuple[Tensor, Tensor]:
        """Which position each new token takes, [B, S] or [1, S], and which tokens it may read,
        [B, S, L+S] or [1, S, S]."""
        B, S = tokens.shape
        L = 0 if cache is None else len(cache)
        columns = torch.arange(L + S, device=tokens.device)
        causal = columns <= columns[L:, None]  # [S, L+S]: itself and what came before
        if mask is None and cache is None:
            return columns.unsqueeze(0), causal.unsqueeze(0)
        mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        if cache is not None:
            mask = mask if cache.mask is None else torch.cat((cache.mask, mask), dim=1)  # [B, L+S]
            cache.mask = mask
        # [B, S]: real tokens before this one
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, L:]
        itself = columns == columns[L:, None]  # a pad reads itself: no empty softmax
        return positions, (causal & mask[:, None, :]) | itself

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
