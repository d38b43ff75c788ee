"""One PPO update at a given size, without a run: its seconds, and how much of them the matrix
products need.

An update is everything from drawing prompts to the row of metrics: sampling, the readings of
policy, reference, critic and a reward model of the same size, advantages, all optimiser steps. The
weights are random and no response ends before its last slot, so that every update is the same work.
With critic "shared" the critic is a head on the policy's trunk, and a trunk less is read and moved.

The products are counted in an update apart: a dispatch mode sees each that is executed, those of
the backward pass included. Then each of them is timed alone, on the same machine and in the same
call. Their sum is the least time that an update of these products can take here.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minippo.algorithms import DEFAULT
from minippo.algorithms.base import PPOConfig
from minippo.critic_head import Critic
from minippo.gpt import GPT, GPTConfig
from minippo.reward_head import RewardModel
from minippo.rollout import Models
from minippo.runs.stats import peak_memory_mib
from minippo.settings import Checked, count, setting
from minippo.stages.policy import World, policy_updates

Product = tuple[int, int, int, int]  # (b, m, n, k): b products [m,k] x [k,n], 2 b m n k operations
TRIALS = 15  # of each product alone; the median counts
BUDGET = 2.0  # seconds for all of them together
aten = torch.ops.aten


@dataclass(frozen=True)
class Size(Checked):
    """The size of an update, with the names of the command's flags."""

    layers: int = count(2, "of the GPT")
    width: int = count(64, "of its stream")
    heads: int = count(4, "of its attention")
    vocab: int = count(57, "tokens")
    prompt: int = count(23, "tokens of each prompt")
    response: int = count(12, "tokens of each response")
    batch: int = count(128, "responses of a rollout")
    minibatches: int = count(2, "optimiser steps per pass")
    epochs: int = count(4, "passes over a rollout")
    updates: int = count(12, "that are timed, after one that is not")
    threads: int = count(2, "of torch")
    critic: str = setting("own", "trunk of the critic: own or shared", choices=("own", "shared"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"width: wanted a multiple of heads {self.heads}, got {self.width}")
        if self.minibatches > self.batch:
            raise ValueError(f"minibatches: wanted at most batch {self.batch}")


def measure_update(size: Size) -> dict[str, float | None]:
    """The line that the command prints: see the module's docstring."""
    torch.set_num_threads(size.threads)
    update = updates_of(size)
    update()  # the first one makes buffers and the optimiser's averages
    seconds = [timed(update) for _ in range(size.updates)]
    with Products() as products:
        update()
    operations = sum(number * operations_of(product) for product, number in products.seen.items())
    alone = seconds_alone(products.seen)
    typical = median(seconds)
    return {
        "seconds_per_update": typical,
        "matmul_gflops": operations / typical / 1e9,
        "machine_gflops": operations / alone / 1e9,
        "share": alone / typical,
        "peak_memory_mib": peak_memory_mib(),
        "wall_seconds": sum(seconds),
        "updates": size.updates,
    }


def updates_of(size: Size) -> Callable[[], Any]:
    """A function that makes the next update, from random models of this size."""
    generator = torch.Generator().manual_seed(0)
    gpt = GPT(
        GPTConfig(size.vocab, size.prompt + size.response, size.layers, size.heads, size.width),
        generator=generator,
    )
    reward_model = RewardModel(gpt, generator=generator).requires_grad_(False)
    reference = GPT(gpt.config, generator=generator).requires_grad_(False)
    shared = size.critic == "shared"
    critic = Critic.sharing(gpt) if shared else Critic(reward_model.trunk)
    models = Models(gpt, reference, critic)
    every = torch.ones(size.batch, size.prompt, dtype=torch.bool)
    world = World(
        lambda n: (torch.randint(size.vocab, (n, size.prompt), generator=generator), every[:n]),
        score_function=reward_model,
        eos_id=size.vocab,  # never drawn
        pad_id=0,
    )
    config = PPOConfig(
        num_updates=size.updates + 2,
        batch_size=size.batch,
        num_ppo_epochs=size.epochs,
        num_mini_batches=size.minibatches,
        response_length=size.response,
        critic=size.critic,
        no_eos_score=None,  # or all scores would be equal
    )
    steps = policy_updates(models, world, config=config, generator=generator, algorithm=DEFAULT)
    return lambda: next(steps)


def timed(work: Callable[[], Any]) -> float:
    """The seconds that it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


class Products(TorchDispatchMode):
    """While it is open, counts the matrix products that are executed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[Product] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        self.seen.update(products_of(func.overloadpacket, args))
        return func(*args, **(kwargs or {}))


def products_of(operator: Any, args: tuple) -> dict[Product, int]:
    """{product: how often} of one operator; nothing for one that makes none."""
    if operator in (aten.mm, aten.addmm):
        a, b = args[-2:]
        return {(1, a.shape[0], b.shape[1], a.shape[1]): 1}
    if operator in (aten.bmm, aten.baddbmm):
        a, b = args[-2:]
        return {(a.shape[0], a.shape[1], b.shape[2], a.shape[2]): 1}
    flash = aten._scaled_dot_product_flash_attention_for_cpu
    if operator in (flash, aten._scaled_dot_product_flash_attention_for_cpu_backward):
        q, k = args[:2] if operator is flash else args[1:3]
        B, H, S, d = q.shape
        L = k.shape[2]
        # forward: scores and their values; backward: the scores again, and two for each of the two
        scores, values = (1, 1) if operator is flash else (2, 3)
        return {(B * H, S, L, d): scores, (B * H, S, d, L): values}
    return {}


def operations_of(product: Product) -> int:
    """Multiplications and additions."""
    b, m, n, k = product
    return 2 * b * m * n * k


def seconds_alone(products: Mapping[Product, int]) -> float:
    """The seconds that the products take when nothing else is done."""
    most = BUDGET / max(1, len(products))
    return sum(number * seconds_of(product, most) for product, number in products.items())


def seconds_of(product: Product, most: float) -> float:
    """The median seconds of one product, of TRIALS or as many as `most` seconds allow."""
    b, m, n, k = product
    shapes = ((m, k), (k, n)) if b == 1 else ((b, m, k), (b, k, n))
    left, right = (torch.randn(shape) for shape in shapes)
    out: Tensor = left @ right
    trials, begin = [], time.perf_counter()
    while len(trials) < TRIALS and (len(trials) < 3 or time.perf_counter() - begin < most):
        trials.append(timed(lambda: torch.matmul(left, right, out=out)))
    return median(trials)
