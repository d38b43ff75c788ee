"""Exercise of notebook 13: the best policy there can be, over all responses that are listed."""

import torch
from torch import Tensor

from minippo.exercises.changes import ANY, all_true, comes_out, first_row, goes_in, number
from minippo.exercises.draw import Draw
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.masked import zero_padding


def reference(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    """ref_logprobs [M,N,T] and response_mask [M,N,T] of N responses to each of M prompts, scores
    [M,N] -> log pi* [M,N]."""
    log_ref = zero_padding(values=ref_logprobs, mask=response_mask).sum(dim=-1)  # [M,N,T] -> [M,N]
    return torch.log_softmax(log_ref + scores / kl_coef, dim=-1)


LARGE_SCORES = (
    "log",
    "right until score / kl_coef is large: its exponential overflows; stay with logarithms "
    "(logsumexp, log_softmax)",
)
NAN = (
    None,
    "where the padding holds NaN it comes through: a product with 0 is NaN still, torch.where and "
    "masked_fill are not",
)


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged responses; in the last but one score / kl_coef is larger than exp can take, in the
    last the padding holds NaN."""
    draw = Draw("optimal_policy", seed)
    for M, N, longest, kl_coef, slip in (
        (2, 3, 3, draw.one(0.4, 0.6), None),
        (3, 5, 4, draw.one(1.7, 2.3), None),
        (4, 4, 5, draw.one(0.7, 0.8), None),
        (2, 3, 2, 0.001, LARGE_SCORES),
        (2, 3, 3, draw.one(0.4, 0.6), NAN),
    ):
        T = draw.longest(longest)
        mask = torch.stack([draw.mask(N, T, T + (slip is None and M == 3)) for _ in range(M)])
        scores = draw.normal(M, N)
        padding = torch.where(mask, 0.0, torch.nan) if slip is NAN else torch.zeros(mask.shape)
        draw.add(
            f"{M} prompts with {N} answers of 1 to {T} tokens, kl_coef {kl_coef}"
            f"{', NaN in the padding' if slip is NAN else ''}",
            slip,
            ref_logprobs=draw.uniform(-3.1, -0.1, *mask.shape) + padding,
            response_mask=mask,
            scores=1.0 + scores.abs() / 500 if slip is LARGE_SCORES else scores,
            kl_coef=kl_coef,
        )
    return draw.cases()


def whole_logprobs(ref_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    return torch.where(response_mask, ref_logprobs, 0.0).sum(dim=-1)


def without_mask(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    return torch.log_softmax(ref_logprobs.sum(dim=-1) + scores / kl_coef, dim=-1)


def mean_logprob(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    mean = whole_logprobs(ref_logprobs, response_mask) / response_mask.sum(dim=-1)
    return torch.log_softmax(mean + scores / kl_coef, dim=-1)


def without_reference(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    return torch.log_softmax(scores / kl_coef, dim=-1)


def without_normalisation(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    return whole_logprobs(ref_logprobs, response_mask) + scores / kl_coef


def over_all_prompts(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    logits = whole_logprobs(ref_logprobs, response_mask) + scores / kl_coef
    return torch.log_softmax(logits.flatten(), dim=0).view_as(logits)


def over_the_prompts(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    return torch.log_softmax(whole_logprobs(ref_logprobs, response_mask) + scores / kl_coef, dim=0)


def product_of_two_policies(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    whole = whole_logprobs(ref_logprobs, response_mask)
    return torch.log_softmax(whole, dim=-1) + torch.log_softmax(scores / kl_coef, dim=-1)


def probability_plus_score(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    return torch.log_softmax(
        whole_logprobs(ref_logprobs, response_mask).exp() + scores / kl_coef, dim=-1
    )


def times_coef(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    return torch.log_softmax(whole_logprobs(ref_logprobs, response_mask) + scores * kl_coef, dim=-1)


def without_coef(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    return torch.log_softmax(whole_logprobs(ref_logprobs, response_mask) + scores, dim=-1)


def wrong_sign(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    return reference(ref_logprobs, response_mask, -scores, kl_coef)


def probabilities(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    return reference(ref_logprobs, response_mask, scores, kl_coef).exp()


def everything_divided(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    return torch.log_softmax(
        (whole_logprobs(ref_logprobs, response_mask) + scores) / kl_coef, dim=-1
    )


def objective_of_it(
    ref_logprobs: Tensor, response_mask: Tensor, scores: Tensor, kl_coef: float
) -> Tensor:
    """kl_coef log Z of each prompt, [M]: what the best policy reaches, not what it is."""
    return kl_coef * torch.logsumexp(
        whole_logprobs(ref_logprobs, response_mask) + scores / kl_coef, dim=-1
    )


MISTAKES = (
    Mistake(
        "mask",
        "slots after the end of a response are in its log-probability: use the mask before the sum",
        without_mask,
    ),
    Mistake(
        "mean for sum",
        "the log-probability of a response is the sum over its tokens; with a mean a long response "
        "is taken for likelier than it is",
        mean_logprob,
    ),
    Mistake(
        "formula",
        "the reference has no part in it: with the same score, an answer that the reference gives "
        "more often is more frequent in the best policy too",
        without_reference,
    ),
    Mistake(
        "normalisation",
        "Z is missing: the probabilities of the responses to a prompt have to add up to 1",
        without_normalisation,
    ),
    Mistake(
        "normalisation",
        "the two factors are normalised one by one; their product has to be",
        product_of_two_policies,
    ),
    Mistake(
        "log",
        "a probability is used beside score / kl_coef; both have to be logarithms",
        probability_plus_score,
    ),
    Mistake(
        "batch",
        "Z is one number over all prompts; each prompt has its own, over the responses to it",
        over_all_prompts,
    ),
    Mistake(
        "batch",
        "the normalisation runs over the prompts; it has to run over the responses to one prompt",
        over_the_prompts,
    ),
    Mistake(
        "scale",
        "the score is multiplied by kl_coef; a cheaper KL must make the score count for more, not "
        "for less",
        times_coef,
    ),
    Mistake(
        "scale",
        "kl_coef has no part in it: the price of KL decides how far the policy goes",
        without_coef,
    ),
    Mistake(
        "scale",
        "the log-probability of the reference is divided by kl_coef as well; only the score is",
        everything_divided,
    ),
    Mistake(
        "sign",
        "the sign of the score is turned: a higher score makes a response more probable",
        wrong_sign,
    ),
    Mistake("log", "these are probabilities; wanted are their logarithms", probabilities),
    Mistake(
        "formula",
        "this is the objective of the best policy, kl_coef log Z; wanted is the policy, log pi* of "
        "every response",
        objective_of_it,
    ),
    Mistake(
        "normalisation",
        "this is log Z of each prompt, not yet the policy",
        lambda ref_logprobs, response_mask, scores, kl_coef: torch.logsumexp(
            whole_logprobs(ref_logprobs, response_mask) + scores / kl_coef, dim=-1
        ),
    ),
    Mistake(
        "sign",
        "the log-probability of the reference is subtracted; the two factors are multiplied, so "
        "their logarithms are added",
        lambda ref_logprobs, response_mask, scores, kl_coef: torch.log_softmax(
            scores / kl_coef - whole_logprobs(ref_logprobs, response_mask), dim=-1
        ),
    ),
    Mistake(
        "formula",
        "the log-probability multiplies the score; the factors are multiplied, so their logarithms "
        "are added",
        lambda ref_logprobs, response_mask, scores, kl_coef: torch.log_softmax(
            scores / kl_coef * whole_logprobs(ref_logprobs, response_mask), dim=-1
        ),
    ),
    Mistake(
        "formula",
        "the score has no part in it: this is the reference, over the responses listed",
        lambda ref_logprobs, response_mask, scores, kl_coef: torch.log_softmax(
            whole_logprobs(ref_logprobs, response_mask), dim=-1
        ),
    ),
    Mistake(
        "normalisation",
        "Z is the sum of the scores' factors alone, without the reference",
        lambda ref_logprobs, response_mask, scores, kl_coef: (
            whole_logprobs(ref_logprobs, response_mask) + torch.log_softmax(scores / kl_coef, -1)
        ),
    ),
    Mistake(
        "normalisation",
        "the largest is subtracted; the probabilities still do not add up to 1",
        lambda ref_logprobs, response_mask, scores, kl_coef: (
            (x := whole_logprobs(ref_logprobs, response_mask) + scores / kl_coef)
            - x.max(dim=-1, keepdim=True).values
        ),
    ),
    Mistake(
        "normalisation",
        "the sum of the logarithms is subtracted; Z is the sum of what they are logarithms of",
        lambda ref_logprobs, response_mask, scores, kl_coef: (
            (x := whole_logprobs(ref_logprobs, response_mask) + scores / kl_coef)
            - x.sum(dim=-1, keepdim=True)
        ),
    ),
    Mistake(
        "mean for sum",
        "Z is a mean over the responses; the probabilities then add up to their number",
        lambda ref_logprobs, response_mask, scores, kl_coef: (
            reference(ref_logprobs, response_mask, scores, kl_coef)
            + torch.tensor(scores.shape[-1]).log()
        ),
    ),
    Mistake(
        "wrong token",
        "the log-probability of the last token is taken for that of the response",
        lambda ref_logprobs, response_mask, scores, kl_coef: torch.log_softmax(
            ref_logprobs.gather(-1, response_mask.sum(-1, keepdim=True) - 1)[..., 0]
            + scores / kl_coef,
            dim=-1,
        ),
    ),
    Mistake(
        "wrong token",
        "the log-probability of the first token is taken for that of the response",
        lambda ref_logprobs, response_mask, scores, kl_coef: torch.log_softmax(
            ref_logprobs[..., 0] + scores / kl_coef, dim=-1
        ),
    ),
    Mistake(
        "mean for sum",
        "the log-probability of a response is the sum over its tokens; this is the mean over all "
        "slots",
        lambda ref_logprobs, response_mask, scores, kl_coef: torch.log_softmax(
            whole_logprobs(ref_logprobs, response_mask) / ref_logprobs.shape[-1] + scores / kl_coef,
            dim=-1,
        ),
    ),
)

CHANGES = (
    goes_in(
        "mask",
        "slots after the end of a response are in its log-probability: use the mask",
        response_mask=all_true,
    ),
    goes_in("batch", "the masks of the first prompt are used for all", response_mask=first_row),
    number("scale", "kl_coef has no part in it", kl_coef=1.0),
    goes_in(
        "mean for sum",
        "the log-probability of a response is the sum over its tokens, not the mean",
        ref_logprobs=lambda case: (
            case["ref_logprobs"] / case["response_mask"].sum(dim=-1, keepdim=True)
        ),
    ),
    goes_in(
        "formula",
        "the score has no part in it",
        scores=lambda case: torch.zeros_like(case["scores"]),
    ),
    goes_in(
        "scale", "the score is multiplied by kl_coef", kl_coef=lambda case: 1 / case["kl_coef"]
    ),
    goes_in("sign", "the sign of the score is turned", scores=lambda case: -case["scores"]),
    comes_out("log", "these are probabilities", lambda value, case: value.exp()),
    *ANY,
)

exercise = Exercise(
    "optimal_policy", reference, cases, MISTAKES, changes=CHANGES, hints=HINTS["optimal_policy"]
)
