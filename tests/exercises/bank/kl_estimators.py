"""Exercise 09, `kl_estimators`: answers as people write them, with the names of the mistakes."""

import torch


def vectorised(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, 0.5 * d.square(), (-d).exp() - 1 + d])


def with_a_loop(logprobs, ref_logprobs, response_mask):
    out = torch.zeros(3, *logprobs.shape, dtype=logprobs.dtype)
    for b in range(logprobs.shape[0]):
        for t in range(int(response_mask[b].sum())):
            log_r = ref_logprobs[b, t] - logprobs[b, t]
            out[0, b, t], out[1, b, t], out[2, b, t] = -log_r, log_r**2 / 2, log_r.exp() - 1 - log_r
    return out


def in_float32(logprobs, ref_logprobs, response_mask):
    d = logprobs.float() - ref_logprobs.float()
    return torch.stack([d, d**2 / 2, 1 / d.exp() + d - 1]).masked_fill(~response_mask, 0.0)


def reference_minus_policy(logprobs, ref_logprobs, response_mask):
    return vectorised(ref_logprobs, logprobs, response_mask)


def k3_with_the_policy_on_top(logprobs, ref_logprobs, response_mask):
    log_ratio = (logprobs - ref_logprobs) * response_mask
    ratio = log_ratio.exp()
    return torch.stack([log_ratio, log_ratio**2 / 2, (ratio - 1) - log_ratio])


def k3_minus(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, d**2 / 2, torch.exp(-d) - 1 - d])


def no_half(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, d**2, torch.exp(-d) - 1 + d])


def no_minus_one(logprobs, ref_logprobs, response_mask):
    d = logprobs - ref_logprobs
    return torch.stack([d, d**2 / 2, torch.exp(-d) + d]) * response_mask


def no_mask(logprobs, ref_logprobs, response_mask):
    d = logprobs - ref_logprobs
    return torch.stack([d, d**2 / 2, torch.exp(-d) - 1 + d])


def absolute_k1(logprobs, ref_logprobs, response_mask):
    k1, k2, k3 = vectorised(logprobs, ref_logprobs, response_mask)
    return torch.stack([torch.abs(k1), k2, k3])


def term_of_the_sum(logprobs, ref_logprobs, response_mask):
    k1, k2, k3 = vectorised(logprobs, ref_logprobs, response_mask)
    return torch.stack([logprobs.exp() * k1, k2, k3])


@torch.no_grad()
def without_gradient(logprobs, ref_logprobs, response_mask):
    return vectorised(logprobs, ref_logprobs, response_mask)


def as_three_means(logprobs, ref_logprobs, response_mask):
    return torch.stack(
        [x[response_mask].mean() for x in no_mask(logprobs, ref_logprobs, response_mask)]
    )


def with_where(logprobs, ref_logprobs, response_mask):
    d = torch.where(response_mask, logprobs - ref_logprobs, torch.zeros_like(logprobs))
    return torch.stack((d, d.pow(2) / 2, torch.expm1(-d) + d), dim=0)


def in_float64(logprobs, ref_logprobs, response_mask):
    return vectorised(logprobs.double(), ref_logprobs.double(), response_mask)


def with_ratios(logprobs, ref_logprobs, response_mask):
    ratio = torch.exp(ref_logprobs - logprobs)
    k3 = ratio - 1 - ratio.log()
    k1 = -ratio.log()
    return torch.stack([k1, 0.5 * k1 * k1, k3]).masked_fill(~response_mask, 0)


def turned_without_mask(logprobs, ref_logprobs, response_mask):
    d = ref_logprobs - logprobs
    return torch.stack([d, d**2 / 2, torch.exp(-d) - 1 + d])


def detached_turned(logprobs, ref_logprobs, response_mask):
    return vectorised(ref_logprobs, logprobs.detach(), response_mask)


def no_half_no_mask(logprobs, ref_logprobs, response_mask):
    d = logprobs - ref_logprobs
    return torch.stack([d, d**2, torch.exp(-d) - 1 + d])


def two_slips(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, d**2, torch.exp(-d) - 1 - d])


def k1_turned(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([-d, d**2 / 2, torch.exp(-d) - 1 + d])


def k3_turned_without_mask(logprobs, ref_logprobs, response_mask):
    d = logprobs - ref_logprobs
    return torch.stack([d, d**2 / 2, torch.exp(d) - 1 - d])


def other_order(logprobs, ref_logprobs, response_mask):
    k1, k2, k3 = vectorised(logprobs, ref_logprobs, response_mask)
    return torch.stack([k3, k2, k1])


def stacked_last(logprobs, ref_logprobs, response_mask):
    return torch.stack([*vectorised(logprobs, ref_logprobs, response_mask)], dim=-1)


def of_probabilities(logprobs, ref_logprobs, response_mask):
    return vectorised(logprobs.exp(), ref_logprobs.exp(), response_mask)


def expm1_alone(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, d**2 / 2, torch.expm1(-d)])


def square_of_the_half(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, (d / 2) ** 2, torch.expm1(-d) + d])


def half_detached(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, d**2 / 2, torch.expm1(-d.detach()) + d])


def in_bfloat16(logprobs, ref_logprobs, response_mask):
    return vectorised(logprobs.bfloat16(), ref_logprobs.bfloat16(), response_mask).float()


RIGHT = [vectorised, with_a_loop, in_float32, with_where, in_float64, with_ratios]
WRONG = {
    reference_minus_policy: "direction",
    k3_with_the_policy_on_top: "direction",
    k3_minus: "sign",
    no_half: "scale",
    no_minus_one: "formula",
    no_mask: "mask",
    absolute_k1: "sign",
    term_of_the_sum: "formula",
    without_gradient: "detach",
    as_three_means: "mean for sum",
    turned_without_mask: "direction and mask",
    detached_turned: "direction and detach",
    no_half_no_mask: "scale and mask",
    two_slips: "scale and sign",
    k1_turned: "sign",
    k3_turned_without_mask: "direction and mask",
    other_order: "formula",
    stacked_last: "batch",
    of_probabilities: "log",
    expm1_alone: "formula",
    square_of_the_half: "scale",
    half_detached: "detach",
    in_bfloat16: "precision",
}
