"""How good the best policy would be: the optimum of E[score] - kl_coef * KL(policy || reference),
and how near a run came.

The best policy is known: pi*(y|x) = pi_ref(y|x) exp(score(x,y) / c) / Z(x) with c = kl_coef, and
its objective is c log Z(x). Z is an average over responses, so it can be estimated from samples.
The reference alone hardly ever draws the responses that matter; half of the draws are therefore the
trained policy's, and each is weighted by what the reference would have given it against the mixture
of the two.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minippo.rollout import (
    Models,
    Responses,
    Sampling,
    ScoreFunction,
    logits_to_one_prompt,
    response_logprobs,
    score_responses,
)
from minippo.sampling import continue_prompts, read_prompts
from minippo.tokenizer import Tokenizer, used_columns

# times kl_coef; a lower price would need draws from further out
FRONTIER_FACTORS = tuple(1.3**k for k in range(18))
BEST_OF = (2, 4, 8, 16, 32, 64)
ROWS_AT_ONCE = 256  # responses rescored in one pass: more would cost memory and gain no time


@dataclass(frozen=True)
class Draws:
    """Responses to the same N prompts, half from the reference and half from the policy; 2M draws
    per prompt."""

    scores: Tensor  # [N,2M] after the EOS rule; the first M are the reference's draws
    logprobs: Tensor  # [N,2M] log pi(y|x), summed over the response
    ref_logprobs: Tensor  # [N,2M] log pi_ref(y|x)

    @property
    def half(self) -> int:
        return self.scores.shape[1] // 2


@torch.no_grad()
def draw_from_both(
    models: Models,
    score_function: ScoreFunction,
    prompts: tuple[Tensor, Tensor],
    *,
    draws: int,
    config: Sampling,
    generator: torch.Generator,
    tokenizer: Tokenizer,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Draws:
    """`draws` responses per prompt from each of the two, scored and rescored under both: Draws, in
    float64.

    Many draws are the same response; each different one is scored and rescored once.
    """
    parts = []
    for i in progress(range(len(prompts[0]))):
        prompt = [x[i : i + 1] for x in prompts]
        drawn = [
            continue_prompts(
                read_prompts(model, prompt[0], prompt[1], draws),
                response_length=config.response_length,
                temperature=config.temperature,
                generator=generator,
                eos_id=tokenizer.eos_id,
                pad_id=tokenizer.pad_id,
            )[:2]
            for model in (models.reference, models.policy)
        ]
        tokens, mask = (torch.cat(pair) for pair in zip(*drawn, strict=True))  # [2M,T]
        # Tokens and mask side by side, so that rows are equal only when both are.
        different, place = torch.unique(
            torch.cat((tokens, mask), dim=1), dim=0, return_inverse=True
        )
        about = [
            _score_and_rescore(
                models, score_function, responses_to(prompt, rows), config, tokenizer.eos_id
            )
            for rows in different.split(ROWS_AT_ONCE)
        ]
        parts.append([torch.cat(part)[place] for part in zip(*about, strict=True)])  # [2M] each
    return Draws(*(torch.stack(part).double().cpu() for part in zip(*parts, strict=True)))


def responses_to(prompt: Sequence[Tensor], rows: Tensor) -> Responses:
    """Responses to one prompt, from rows that hold tokens and mask side by side, [U,2T]; columns
    that are padding in every row are left out."""
    tokens, mask = rows.chunk(2, dim=1)
    mask = mask.bool()
    (T,) = used_columns(mask)
    prompt_tokens, prompt_mask = (x.expand(len(rows), -1) for x in prompt)
    return Responses(prompt_tokens, prompt_mask, tokens[:, :T], mask[:, :T])


def _score_and_rescore(
    models: Models, score_function: ScoreFunction, batch: Responses, config: Sampling, eos_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(scores, logprobs, ref_logprobs) of responses, [U]."""
    scores, _ = score_responses(score_function, batch, config=config, eos_id=eos_id)
    policy, reference = (
        response_logprobs(logits_to_one_prompt(model, batch, config.temperature), batch).sum(dim=1)
        for model in (models.policy, models.reference)
    )
    return scores, policy, reference


def log_weights(draws: Draws, kl_coef: float) -> Tensor:
    """log of pi_ref(y|x) exp(score / c) over the mixture's probability, [N,2M]; their mean
    estimates Z(x)."""
    mixture = torch.logaddexp(draws.logprobs, draws.ref_logprobs) - math.log(2)
    return draws.ref_logprobs - mixture + draws.scores / kl_coef


def _less_the_best(draws: Draws) -> tuple[Draws, Tensor]:
    """(draws, best [N]): the best score of each prompt is taken out first, so that no price of KL,
    however small, makes an infinity of score / c."""
    best = draws.scores.amax(dim=1)
    return replace(draws, scores=draws.scores - best.unsqueeze(1)), best


def estimate_optimum(draws: Draws, kl_coef: float) -> dict[str, float]:
    """The best objective, with its 95 % interval, and how many draws it rests on.

    Equation (0.17) c log Z(x), Z(x) = mean over draws of [pi_ref(y|x) / mixture(y|x)] exp(score /
                    c); mean over prompts
    The interval is that of the sampling error for these prompts (delta method per prompt); it
    trusts the weights that were seen, so it is too narrow where the effective sample size is small.
    log Z is biased low by about half its variance: with few effective draws the best objective is
    more than is said here, and a policy is not as near to it as it seems. The effective sample size
    of a prompt is (sum w)^2 / sum w^2; the median over the prompts is reported, and the least
    beside it.
    """
    below, best = _less_the_best(draws)
    logs = log_weights(below, kl_coef)
    n = logs.shape[1]
    objectives = best + kl_coef * (torch.logsumexp(logs, dim=1) - math.log(n))  # [N]
    shares = torch.softmax(logs, dim=1)
    sizes = 1 / (shares**2).sum(dim=1)  # [N]
    # of c log Z, per prompt
    variances = kl_coef**2 * (1 / sizes - 1 / n)
    error = 1.96 * math.sqrt(variances.clamp(min=0).sum().item()) / len(logs)
    objective = objectives.mean().item()
    return {
        "objective": objective,
        "low": objective - error,
        "high": objective + error,
        "draws_per_prompt": n,
        "prompts": len(logs),
        "effective_sample_size": sizes.median().item(),
        "effective_sample_size_min": sizes.min().item(),
    }


def policy_and_reference(draws: Draws, kl_coef: float) -> tuple[dict[str, float], dict[str, float]]:
    """Score, KL and objective of the two policies, each from its own draws: (policy's,
    reference's)."""
    own = slice(draws.half, None)
    kl = (draws.logprobs - draws.ref_logprobs)[:, own].mean().item()
    score, reference_score = (
        draws.scores[:, own].mean().item(),
        draws.scores[:, : draws.half].mean().item(),
    )
    return (
        {"score": score, "kl": kl, "objective": score - kl_coef * kl},
        {"score": reference_score, "kl": 0.0, "objective": reference_score},
    )


def optimal_frontier(draws: Draws, kl_coef: float) -> list[tuple[float, float]]:
    """[(kl, score)] of the best policies for several prices of KL, kl_coef and above, by increasing
    KL."""
    points, (below, best) = [], _less_the_best(draws)
    for factor in FRONTIER_FACTORS:
        logs = log_weights(below, factor * kl_coef)
        shares = torch.softmax(logs, dim=1)
        score = (best + (shares * below.scores).sum(dim=1)).mean().item()
        log_z = torch.logsumexp(logs, dim=1, keepdim=True) - math.log(logs.shape[1])
        # KL = E[log pi* - log pi_ref] = E[score / c - log Z]; what is never drawn adds nothing
        log_ratios = torch.where(shares > 0, below.scores / (factor * kl_coef) - log_z, 0.0)
        kl = (shares * log_ratios).sum(dim=1).mean().item()
        points.append((max(0.0, kl), score))
    return sorted(points)


def best_of_n(draws: Draws) -> list[tuple[int, float, float]]:
    """[(n, bound on its KL, score)]: take the best-scored of n samples of the reference."""
    scores = draws.scores[:, : draws.half]
    sizes = [n for n in BEST_OF if n <= draws.half // 4]
    return [(n, math.log(n) - (n - 1) / n, _mean_of_best(scores, n)) for n in sizes]


def _mean_of_best(scores: Tensor, n: int) -> float:
    """The mean over disjoint groups of n draws of the group's highest score."""
    groups = scores.shape[1] // n
    return scores[:, : groups * n].view(len(scores), groups, n).amax(dim=2).mean().item()
