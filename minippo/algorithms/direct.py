"""From pairs, without a reward model and without samples of its own: dpo and ipo.

    name   loss on a pair                      source
    dpo    -log sigmoid(price h)               Rafailov et al. 2023, arXiv:2305.18290
    ipo    (h - 1 / (2 price))^2               Azar et al. 2023, arXiv:2310.12036

h is how much more the policy than the reference prefers the chosen response to the rejected one, in
nats of whole responses: minippo.relatives.direct. The KL is in the loss, at a price; there is no
advantage, no ratio, and nothing that an old policy has said.

The responses to a prompt are read once for all the pairs that they are in.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from minippo.algorithms.base import PAIRS, Algorithm, PairBatch, Updated, adam, metrics_of_steps
from minippo.algorithms.config import PPOConfig
from minippo.logprobs import token_entropy
from minippo.masked import masked_mean
from minippo.relatives.direct import ipo_loss, label_smoothed_dpo_loss
from minippo.rollout import Models, response_logits, response_logprobs
from minippo.stages.optimise import take_step

Margins = dict[str, Tensor]  # chosen_logprobs, rejected_logprobs and the reference's, [pairs]
OF_RATIOS = (  # what has no meaning without an old policy
    "policy/approxkl_avg",
    "policy/clipfrac_avg",
    "val/ratio",
    "val/ratio_var",
    "val/ratio_max_deviation_first",
)


def logistic(pairs: Margins, price: float, config: PPOConfig) -> Tensor:
    return label_smoothed_dpo_loss(
        **pairs, beta=price, label_smoothing=config.label_smoothing
    )  # without smoothing that is DPO


def squared(pairs: Margins, price: float, config: PPOConfig) -> Tensor:
    return ipo_loss(**pairs, beta=price)


def compared(logprobs: Tensor, batch: PairBatch) -> Margins:
    """Chosen and rejected log-probabilities, [N,K] -> [pairs compared]: of the policy, and of the
    reference."""
    K = logprobs.shape[1]
    first, second = torch.triu_indices(K, K, 1, device=logprobs.device)  # all pairs i < j
    is_first, was_asked = batch.labels > 0, batch.labels != 0
    found = {}
    for prefix, x in (("", logprobs), ("ref_", batch.ref_logprobs)):
        a, b = x[:, first], x[:, second]
        found[f"{prefix}chosen_logprobs"] = torch.where(is_first, a, b)[was_asked]
        found[f"{prefix}rejected_logprobs"] = torch.where(is_first, b, a)[was_asked]
    return found


class PairsUpdate:
    """One optimiser step on each batch of pairs."""

    def __init__(
        self,
        models: Models,
        config: PPOConfig,
        generator: torch.Generator,
        *,
        loss: Callable[[Margins, float, PPOConfig], Tensor],
    ):
        self.policy, self.config, self.loss = models.policy, config, loss
        self.numbers: dict[str, float] = {}
        self.optimizers = [adam(config, policy=self.policy)]

    def __call__(
        self, experience: Sequence[PairBatch], *, learning_rate: float, where: str
    ) -> Updated:
        steps, norms = [], []
        for batch in experience:
            loss, statistics = self.loss_of(batch)
            norm = take_step(
                self.optimizers,
                loss,
                learning_rate,
                where=where,
                max_grad_norm=self.config.max_grad_norm,
            )
            steps.append(statistics)
            norms.append(norm)
        metrics = metrics_of_steps(steps) | {"policy/grad_norm": sum(norms) / len(norms)}
        return Updated(metrics | dict.fromkeys(OF_RATIOS), {"ratios": [], "advantages": []})

    def loss_of(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of pairs, and what is logged."""
        responses = batch.responses
        logits = response_logits(self.policy, responses, self.config.temperature)
        sums = response_logprobs(logits, responses).sum(dim=1)  # [N*K]
        pairs = compared(sums.view_as(batch.ref_logprobs), batch)
        loss = self.loss(pairs, batch.price, self.config)
        with torch.no_grad():
            chosen, rejected = (
                pairs[f"{name}_logprobs"] - pairs[f"ref_{name}_logprobs"]
                for name in ("chosen", "rejected")
            )
            entropy = token_entropy(logits=logits)
            statistics = {
                "loss/policy_avg": loss,
                "policy/entropy_avg": masked_mean(values=entropy, mask=responses.response_mask),
                "val/pair_margin": batch.price * (chosen - rejected).mean(),
                "val/pair_accuracy": ((chosen - rejected).sign().mean() + 1) / 2,
            }
        return loss, statistics

    def look_back(self, kl_old_to_policy: float) -> None:
        """Nothing changes."""


def no_weights(rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig) -> Tensor:
    """Nothing is learned from what is sampled."""
    return torch.zeros_like(rewards)


NOT_LEARNED_FROM = "what it learns from are pairs and not rollouts"
IGNORED: dict[str, str] = dict.fromkeys(
    (
        "gamma",
        "kl_reward",
        "kl_controller",
        "kl_target",
        "kl_horizon",
        "mask_unended",
        "old_logprobs",
        "score_place",
        "whiten_advantages",
        "whiten_rewards",
        "whiten_bessel",
    ),
    NOT_LEARNED_FROM,
)
FIELDS = ("num_mini_batches", "pair_passes")
DPO = Algorithm(
    name="dpo",
    summary="pairs: the policy's own log-ratios explain what was chosen",
    weights=no_weights,
    update=partial(PairsUpdate, loss=logistic),
    has_critic=False,
    samples_per_prompt=4,  # of the reference, where a rule says which is better
    settings={"whiten_advantages": False, "kl_reward": "none"},
    fields=(*FIELDS, "label_smoothing"),
    ignores=IGNORED,
    silent_diagnostics=("P001", "P007", "P009"),
    learns_from=PAIRS,
    needs_scores=False,
    ranges=None,
)
IPO = replace(
    DPO,
    name="ipo",
    summary="pairs: a margin that is enough, where dpo wants ever more",
    update=partial(PairsUpdate, loss=squared),
    fields=FIELDS,
)
