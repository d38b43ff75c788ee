"""A second bank: answers that were written after the check had been tuned on the first one, and
judged once before anything was mended. The names are what their writer had in mind."""

import torch
from torch.autograd import grad
from torch.nn import functional as F

WRONG: dict = {}  # {exercise: {function: names}}
RIGHT: dict = {}  # {exercise: [functions]}


def wrong(exercise, names):
    def keep(function):
        WRONG.setdefault(exercise, {})[function] = names
        return function

    return keep


def right(exercise):
    def keep(function):
        RIGHT.setdefault(exercise, []).append(function)
        return function

    return keep


# -- token_logprobs
def lp(logits, tokens):
    return logits.log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)


@wrong("token_logprobs", "shift and detach")
def t1(logits, tokens, prompt_length, response_mask):
    with torch.no_grad():
        return lp(logits[:, prompt_length:], tokens[:, prompt_length:]) * response_mask


@wrong("token_logprobs", "mask")
def t2(logits, tokens, prompt_length, response_mask):
    return lp(logits[:, prompt_length - 1 : -1], tokens[:, prompt_length:]) * (~response_mask)


@wrong("token_logprobs", "shift and sign")
def t3(logits, tokens, prompt_length, response_mask):
    return (
        F.cross_entropy(
            logits[:, prompt_length:].flatten(0, 1),
            tokens[:, prompt_length:].flatten(),
            reduction="none",
        ).view(response_mask.shape)
        * response_mask
    )


@wrong("token_logprobs", "log")
def t4(logits, tokens, prompt_length, response_mask):
    p = torch.softmax(logits, -1)[:, prompt_length - 1 : -1].gather(
        -1, tokens[:, prompt_length:, None]
    )[..., 0]
    return torch.log(p + 1e-10) * response_mask


@wrong("token_logprobs", "mean for sum")
def t5(logits, tokens, prompt_length, response_mask):
    x = lp(logits[:, prompt_length - 1 : -1], tokens[:, prompt_length:]) * response_mask
    return x.sum(1) / response_mask.sum(1)


@wrong("token_logprobs", "log and shift")
def t6(logits, tokens, prompt_length, response_mask):
    return (
        logits.softmax(-1)[:, prompt_length:].gather(-1, tokens[:, prompt_length:, None])[..., 0]
        * response_mask
    )


@wrong("token_logprobs", "mask and log")
def t7(logits, tokens, prompt_length, response_mask):
    return logits.softmax(-1)[:, prompt_length - 1 : -1].gather(
        -1, tokens[:, prompt_length:, None]
    )[..., 0]


@wrong("token_logprobs", "mask")
def t8(logits, tokens, prompt_length, response_mask):
    return lp(logits[:, prompt_length - 1 : -1], tokens[:, prompt_length:]).masked_fill(
        ~response_mask, float("-inf")
    )


@right("token_logprobs")
def t9(logits, tokens, prompt_length, response_mask):
    out = []
    for b in range(len(tokens)):
        d = torch.distributions.Categorical(logits=logits[b, prompt_length - 1 : -1])
        out.append(d.log_prob(tokens[b, prompt_length:]))
    return torch.stack(out).masked_fill(~response_mask, 0)


@right("token_logprobs")
def t10(logits, tokens, prompt_length, response_mask):
    x = logits[:, prompt_length - 1 : -1]
    x = x - torch.logsumexp(x, -1, keepdim=True)
    return (
        torch.take_along_dim(x, tokens[:, prompt_length:].unsqueeze(-1), -1).squeeze(-1)
        * response_mask.float()
    )


# -- response_mask
@wrong("response_mask", "EOS")
def m1(tokens, eos_id):
    m = torch.ones_like(tokens)
    for b in range(len(tokens)):
        for t in range(tokens.shape[1]):
            if tokens[b, t] == eos_id:
                m[b, t:] = 0
                break
    return m


@wrong("response_mask", "off by one")
def m2(tokens, eos_id):
    m = torch.ones_like(tokens)
    for b in range(len(tokens)):
        h = (tokens[b] == eos_id).nonzero().flatten()
        if len(h):
            m[b, h[0] + 2 :] = 0
    return m


@wrong("response_mask", "EOS")
def m3(tokens, eos_id):
    m = torch.zeros_like(tokens)
    for b in range(len(tokens)):
        h = (tokens[b] == eos_id).nonzero().flatten()
        if len(h):
            m[b, : h[-1] + 1] = 1
        else:
            m[b] = 1
    return m


@wrong("response_mask", "EOS")
def m4(tokens, eos_id):
    m = torch.zeros_like(tokens)
    for b in range(len(tokens)):
        h = (tokens[b] == eos_id).nonzero().flatten()
        if len(h):
            m[b, : h[0] + 1] = 1
    return m


@wrong("response_mask", "batch")
def m5(tokens, eos_id):
    h = (tokens[0] == eos_id).nonzero().flatten()
    n = int(h[0]) + 1 if len(h) else tokens.shape[1]
    return (torch.arange(tokens.shape[1]) < n).expand(tokens.shape)


@wrong("response_mask", "EOS")
def m6(tokens, eos_id):
    return (tokens != eos_id).cumprod(1)


@wrong("response_mask", "sign")
def m7(tokens, eos_id):
    e = (tokens == eos_id).int()
    return ((e.cumsum(1) - e) > 0).int()


@right("response_mask")
def m8(tokens, eos_id):
    m = torch.ones_like(tokens).bool()
    for b in range(len(tokens)):
        for t in range(1, tokens.shape[1]):
            m[b, t] = m[b, t - 1] and tokens[b, t - 1] != eos_id
    return m


# -- policy_gradient_loss
@wrong("policy_gradient_loss", "sum for mean and mask")
def p1(logprobs, weights, response_mask):
    return -(logprobs * weights.detach()).sum()


@wrong("policy_gradient_loss", "sign and mean for sum")
def p2(logprobs, weights, response_mask):
    return (logprobs * weights.detach())[response_mask].mean()


@wrong("policy_gradient_loss", "detach")
def p3(logprobs, weights, response_mask):
    return (
        -(logprobs * response_mask).sum(1).mul((weights * response_mask).detach().sum(1)).mean()
        if False
        else -(logprobs.detach() * weights * response_mask).sum(1).mean()
    )


@wrong("policy_gradient_loss", "sign and sum for mean")
def p4(logprobs, weights, response_mask):
    return (logprobs * weights.detach() * response_mask).sum()


@wrong("policy_gradient_loss", "log and detach")
def p5(logprobs, weights, response_mask):
    return -(logprobs.exp() * weights * response_mask).sum(1).mean()


@wrong("policy_gradient_loss", "normalisation and detach")
def p6(logprobs, weights, response_mask):
    return -(logprobs * weights * response_mask).mean()


@wrong("policy_gradient_loss", "mean for sum and mask")
def p7(logprobs, weights, response_mask):
    return -(weights.detach() * logprobs).mean(dim=1).mean()


@wrong("policy_gradient_loss", "mask")
def p8(logprobs, weights, response_mask):
    return -(weights.detach() * logprobs * (~response_mask)).sum(1).mean()


@right("policy_gradient_loss")
def p9(logprobs, weights, response_mask):
    w = weights.detach().clone()
    w[~response_mask] = 0
    return -torch.mean(torch.sum(w * logprobs, dim=1))


@right("policy_gradient_loss")
def p10(logprobs, weights, response_mask):
    return -(logprobs * weights.detach() * response_mask).sum(0).sum() / logprobs.size(0)


# -- advantages
def tg(r, g):
    o = torch.zeros_like(r)
    run = torch.zeros(len(r), dtype=r.dtype)
    for t in range(r.shape[1] - 1, -1, -1):
        run = r[:, t] + g * run
        o[:, t] = run
    return o


@wrong("advantages", "sign and mask")
def a1(rewards, values, response_mask, gamma):
    return values.detach() - tg(rewards, gamma)


@wrong("advantages", "baseline and mask")
def a2(rewards, values, response_mask, gamma):
    return tg(rewards, gamma)


@wrong("advantages", "direction and detach")
def a3(rewards, values, response_mask, gamma):
    return ((rewards * response_mask).cumsum(1) - values) * response_mask


@wrong("advantages", "discount")
def a4(rewards, values, response_mask, gamma):
    T = rewards.shape[1]
    d = gamma ** torch.arange(T)
    r = (rewards * response_mask * d).flip(1).cumsum(1).flip(1)
    return (r - values.detach()) * response_mask


@wrong("advantages", "off by one")
def a5(rewards, values, response_mask, gamma):
    r = tg(rewards * response_mask, gamma)
    return (
        torch.cat([r[:, 1:], torch.zeros(len(r), 1)], 1) * gamma - values.detach()
    ) * response_mask


@wrong("advantages", "scale")
def a6(rewards, values, response_mask, gamma):
    a = (tg(rewards * response_mask, gamma) - values.detach()) * response_mask
    m = a[response_mask]
    return ((a - m.mean()) / (m.std() + 1e-8)) * response_mask


@wrong("advantages", "shift and detach")
def a7(rewards, values, response_mask, gamma):
    return (tg(rewards * response_mask, gamma) - values.roll(-1, 1)) * response_mask


@wrong("advantages", "mask")
def a8(rewards, values, response_mask, gamma):
    return (tg(rewards * response_mask, gamma) - values.detach()) * (~response_mask)


@right("advantages")
def a9(rewards, values, response_mask, gamma):
    r = rewards * response_mask
    T = r.shape[1]
    M = torch.tensor([[gamma ** (k - t) if k >= t else 0.0 for t in range(T)] for k in range(T)])
    return (r @ M - values.detach()) * response_mask


# -- reward_score
def last(o, m):
    return torch.stack([o[i][m[i]][-1] for i in range(len(o))])


@wrong("reward_score", "sign and sum for mean")
def r1(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return -F.logsigmoid(
        last(rejected_outputs, rejected_mask) - last(chosen_outputs, chosen_mask)
    ).sum()


@wrong("reward_score", "mask and sign")
def r2(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return F.logsigmoid(chosen_outputs[:, -1] - rejected_outputs[:, -1]).mean()


@wrong("reward_score", "wrong token and log")
def r3(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    c = (chosen_outputs * chosen_mask).sum(1) / chosen_mask.sum(1)
    r = (rejected_outputs * rejected_mask).sum(1) / rejected_mask.sum(1)
    return -torch.sigmoid(c - r).mean()


@wrong("reward_score", "log")
def r4(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return F.binary_cross_entropy(
        torch.sigmoid(last(chosen_outputs, chosen_mask) - last(rejected_outputs, rejected_mask)),
        torch.ones(len(chosen_mask)),
    )


@wrong("reward_score", "formula")
def r5(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return (
        (last(chosen_outputs, chosen_mask) - last(rejected_outputs, rejected_mask) - 1) ** 2
    ).mean()


@wrong("reward_score", "off by one and sum for mean")
def r6(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    def f(o, m):
        return torch.stack([o[i][m[i]][-2] for i in range(len(o))])

    return -F.logsigmoid(f(chosen_outputs, chosen_mask) - f(rejected_outputs, rejected_mask)).sum()


@wrong("reward_score", "scale")
def r7(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return (
        -0.5
        * F.logsigmoid(
            last(chosen_outputs, chosen_mask) - last(rejected_outputs, rejected_mask)
        ).mean()
    )


@wrong("reward_score", "log and sum for mean")
def r8(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return -torch.log(
        torch.sigmoid(last(chosen_outputs, chosen_mask) - last(rejected_outputs, rejected_mask))
    ).sum()


@right("reward_score")
def r9(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    def s(o, m):
        return (o * ((m.flip(1).cumsum(1) == 1).flip(1) & m)).sum(1)

    return F.binary_cross_entropy_with_logits(
        s(chosen_outputs, chosen_mask) - s(rejected_outputs, rejected_mask),
        torch.ones(len(chosen_mask)),
    )


# -- value_loss
@wrong("value_loss", "scale and sum for mean")
def v1(head_outputs, value_targets, response_mask, prompt_length):
    return (
        (head_outputs[:, prompt_length - 1 : -1] - value_targets.detach())[response_mask] ** 2
    ).sum()


@wrong("value_loss", "mask and detach")
def v2(head_outputs, value_targets, response_mask, prompt_length):
    return 0.5 * ((head_outputs[:, prompt_length - 1 : -1] - value_targets) ** 2).mean()


@wrong("value_loss", "sign and shift")
def v3(head_outputs, value_targets, response_mask, prompt_length):
    return (
        -0.5
        * ((head_outputs[:, prompt_length:] - value_targets.detach())[response_mask] ** 2).mean()
    )


@wrong("value_loss", "normalisation and scale")
def v4(head_outputs, value_targets, response_mask, prompt_length):
    e = ((head_outputs[:, prompt_length - 1 : -1] - value_targets.detach()) ** 2) * response_mask
    return (e.sum(1) / response_mask.sum(1)).mean()


@wrong("value_loss", "mask and scale")
def v5(head_outputs, value_targets, response_mask, prompt_length):
    return (
        ((head_outputs[:, prompt_length - 1 : -1] - value_targets.detach()) * response_mask) ** 2
    ).mean()


@wrong("value_loss", "scale and detach")
def v6(head_outputs, value_targets, response_mask, prompt_length):
    return F.mse_loss(
        head_outputs[:, prompt_length - 1 : -1].detach()[response_mask],
        value_targets.detach()[response_mask],
    )


@wrong("value_loss", "centring")
def v7(head_outputs, value_targets, response_mask, prompt_length):
    return 0.5 * (head_outputs[:, prompt_length - 1 : -1] - value_targets.detach())[
        response_mask
    ].var(unbiased=False)


@wrong("value_loss", "batch")
def v8(head_outputs, value_targets, response_mask, prompt_length):
    return (
        0.5
        * (
            ((head_outputs[:, prompt_length - 1 : -1] - value_targets.detach()) * response_mask)
            ** 2
        ).sum(1)
        / response_mask.sum(1)
    )


@right("value_loss")
def v9(head_outputs, value_targets, response_mask, prompt_length):
    v = torch.narrow(head_outputs, 1, prompt_length - 1, response_mask.shape[1])
    return torch.masked_select((v - value_targets.detach()).pow(2), response_mask).mean().div(2)


# -- gae
def gg(d, k):
    o = torch.zeros_like(d)
    run = torch.zeros(len(d), dtype=d.dtype)
    for t in range(d.shape[1] - 1, -1, -1):
        run = d[:, t] + k * run
        o[:, t] = run
    return o


def nx(v):
    return torch.cat([v[:, 1:], torch.zeros(len(v), 1, dtype=v.dtype)], 1)


@wrong("gae", "mask and sign")
def g1(rewards, values, response_mask, gamma, lam):
    return -gg(rewards + gamma * nx(values) - values, gamma * lam)


@wrong("gae", "discount and mask")
def g2(rewards, values, response_mask, gamma, lam):
    return gg(rewards + nx(values) - values, lam)


@wrong("gae", "discount")
def g3(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    return gg(r + gamma * nx(v) - v, 1.0) * response_mask


@wrong("gae", "baseline and mask")
def g4(rewards, values, response_mask, gamma, lam):
    return gg(rewards + gamma * nx(values) - values, gamma * lam) + values


@wrong("gae", "formula")
def g5(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    return (r + gamma * nx(v) - v) * response_mask


@wrong("gae", "value after the end and discount")
def g6(rewards, values, response_mask, gamma, lam):
    return gg((rewards + gamma * nx(values) - values) * response_mask, gamma)


@wrong("gae", "shift")
def g7(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    return gg((r + gamma * v - nx(v)) * response_mask, gamma * lam) * response_mask


@wrong("gae", "scale and sign")
def g8(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    return -2 * gg((r + gamma * nx(v) - v) * response_mask, gamma * lam)


@right("gae")
def g9(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    d = r + gamma * nx(v) - v
    T = d.shape[1]
    return (
        torch.stack(
            [sum((gamma * lam) ** k * d[:, t + k] for k in range(T - t)) for t in range(T)], 1
        )
        * response_mask
    )


# -- shaped_rewards
def endp(s, m):
    z = torch.zeros(m.shape)
    z[torch.arange(len(s)), m.sum(1) - 1] = s
    return z


@wrong("shaped_rewards", "wrong token and sign")
def s1(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return (scores[:, None] + kl_coef * (logprobs.detach() - ref_logprobs)) * response_mask


@wrong("shaped_rewards", "mask and sign")
def s2(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return kl_coef * (logprobs.detach() - ref_logprobs) + endp(scores, response_mask)


@wrong("shaped_rewards", "scale and sign")
def s3(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return (logprobs.detach() - ref_logprobs) * response_mask + endp(scores, response_mask)


@wrong("shaped_rewards", "mask and detach")
def s4(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return kl_coef * (ref_logprobs - logprobs) + endp(scores, response_mask)


@wrong("shaped_rewards", "sum for mean and detach")
def s5(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return endp(scores, response_mask) - endp(
        kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1), response_mask
    )


@wrong("shaped_rewards", "formula and detach")
def s6(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return -kl_coef * (logprobs - ref_logprobs) * response_mask


@wrong("shaped_rewards", "off by one")
def s7(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    z = -kl_coef * (logprobs.detach() - ref_logprobs) * response_mask
    z[torch.arange(len(scores)), (response_mask.sum(1) - 2).clamp(min=0)] += scores
    return z


@wrong("shaped_rewards", "ratio and mask")
def s8(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return -kl_coef * (logprobs.detach().exp() - ref_logprobs.exp()) + endp(scores, response_mask)


@right("shaped_rewards")
def s9(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    out = []
    for b in range(len(scores)):
        n = int(response_mask[b].sum())
        row = -kl_coef * (logprobs[b, :n].detach() - ref_logprobs[b, :n])
        row[n - 1] = row[n - 1] + scores[b]
        out.append(F.pad(row, (0, response_mask.shape[1] - n)))
    return torch.stack(out)


# -- kl_estimators
@wrong("kl_estimators", "detach and mask")
def k1(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs).detach()
    return torch.stack([d, d**2 / 2, torch.exp(-d) - 1 + d])


@wrong("kl_estimators", "formula")
def k2(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, d.abs() / 2, torch.exp(-d) - 1 + d])


@wrong("kl_estimators", "scale and direction")
def k3(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, d**2, torch.exp(d) - 1 - d])


@wrong("kl_estimators", "mean for sum")
def k4(logprobs, ref_logprobs, response_mask):
    d = logprobs - ref_logprobs
    return torch.stack([x[response_mask].mean() for x in (d, d**2 / 2, torch.exp(-d) - 1 + d)])


@wrong("kl_estimators", "sign")
def k5(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([-d, d**2 / 2, torch.exp(-d) - 1 + d])


@wrong("kl_estimators", "mask and sign")
def k6(logprobs, ref_logprobs, response_mask):
    d = logprobs - ref_logprobs
    return torch.stack([d, d**2 / 2, torch.exp(-d) - 1 - d])


@wrong("kl_estimators", "formula")
def k7(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, d**2 / 2, torch.exp(-d) + d])


@wrong("kl_estimators", "sum for mean")
def k8(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d.sum(), (d**2 / 2).sum(), (torch.exp(-d) - 1 + d).sum()])


@right("kl_estimators")
def k9(logprobs, ref_logprobs, response_mask):
    d = torch.where(response_mask, logprobs - ref_logprobs, 0.0)
    out = torch.empty(3, *d.shape)
    out[0] = d
    out[1] = 0.5 * d * d
    out[2] = torch.exp(-d) - 1 + d
    return out


# -- objective
@wrong("objective", "EOS and sign")
def o1(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return (scores + kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1)).mean()


@wrong("objective", "EOS and sum for mean")
def o2(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return (scores - kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1)).sum()


@wrong("objective", "mask and scale")
def o3(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return (torch.where(ended, scores, no_eos_score) - (logprobs - ref_logprobs).sum(1)).mean()


@wrong("objective", "formula and mask")
def o4(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    d = logprobs - ref_logprobs
    return (torch.where(ended, scores, no_eos_score) - kl_coef * (d**2 / 2).sum(1)).mean()


@wrong("objective", "EOS")
def o5(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return (
        scores
        - no_eos_score * (~ended)
        - kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1)
    ).mean()


@wrong("objective", "batch and mask")
def o6(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return torch.where(ended, scores, no_eos_score) - kl_coef * (logprobs - ref_logprobs).sum(1)


@wrong("objective", "mean for sum and sign")
def o7(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return (
        torch.where(ended, scores, no_eos_score).mean()
        + kl_coef * (logprobs - ref_logprobs)[response_mask].mean()
    )


@wrong("objective", "EOS and scale")
def o8(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return scores.mean()


@right("objective")
def o9(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    s = scores.clone()
    s[~ended] = no_eos_score
    t = 0.0
    for b in range(len(s)):
        t = (
            t
            + s[b]
            - kl_coef
            * (logprobs[b][response_mask[b]].sum() - ref_logprobs[b][response_mask[b]].sum())
        )
    return t / len(s)


# -- optimal_policy
def who(ref_logprobs, response_mask):
    return torch.where(response_mask, ref_logprobs, 0.0).sum(-1)


@wrong("optimal_policy", "scale and mask")
def q1(ref_logprobs, response_mask, scores, kl_coef):
    return F.log_softmax(ref_logprobs.sum(-1) + scores * kl_coef, -1)


@wrong("optimal_policy", "sign and log")
def q2(ref_logprobs, response_mask, scores, kl_coef):
    return F.softmax(who(ref_logprobs, response_mask) - scores / kl_coef, -1)


@wrong("optimal_policy", "batch and scale")
def q3(ref_logprobs, response_mask, scores, kl_coef):
    return F.log_softmax(who(ref_logprobs, response_mask) + scores, 0)


@wrong("optimal_policy", "normalisation and scale")
def q4(ref_logprobs, response_mask, scores, kl_coef):
    return who(ref_logprobs, response_mask) + scores


@wrong("optimal_policy", "log and mask")
def q5(ref_logprobs, response_mask, scores, kl_coef):
    return F.softmax(ref_logprobs.sum(-1) + scores / kl_coef, -1)


@wrong("optimal_policy", "log")
def q6(ref_logprobs, response_mask, scores, kl_coef):
    z = (who(ref_logprobs, response_mask).exp() * (scores / kl_coef).exp()).sum(-1, keepdim=True)
    return who(ref_logprobs, response_mask) + scores / kl_coef - z.log()


@wrong("optimal_policy", "mean for sum and normalisation")
def q7(ref_logprobs, response_mask, scores, kl_coef):
    return who(ref_logprobs, response_mask) / response_mask.sum(-1) + scores / kl_coef


@wrong("optimal_policy", "formula and scale")
def q8(ref_logprobs, response_mask, scores, kl_coef):
    return F.log_softmax(scores * kl_coef, -1)


@right("optimal_policy")
def q9(ref_logprobs, response_mask, scores, kl_coef):
    x = (ref_logprobs * response_mask).sum(-1) + scores / kl_coef
    return torch.stack([torch.log_softmax(row, 0) for row in x])


# -- clipped_loss
def br(logprobs, old_logprobs, advantages, cliprange):
    r = (logprobs - old_logprobs).exp()
    return r * advantages, r.clamp(1 - cliprange, 1 + cliprange) * advantages


@wrong("clipped_loss", "mask and old for new")
def c1(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return -torch.min(*br(old_logprobs, logprobs, advantages, cliprange)).mean()


@wrong("clipped_loss", "clip and mask")
def c2(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return -br(logprobs, old_logprobs, advantages, cliprange)[1].mean()


@wrong("clipped_loss", "min for max and sign|sign")  # the message says that either may be
def c3(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return torch.max(*br(logprobs, old_logprobs, advantages, cliprange))[response_mask].mean()


@wrong("clipped_loss", "ratio and mask")
def c4(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = logprobs - old_logprobs
    return -torch.min(r * advantages, r.clamp(1 - cliprange, 1 + cliprange) * advantages).mean()


@wrong("clipped_loss", "normalisation and sign")
def c5(logprobs, old_logprobs, advantages, response_mask, cliprange):
    m = torch.min(*br(logprobs, old_logprobs, advantages, cliprange)) * response_mask
    return (m.sum(1) / response_mask.sum(1)).mean()


@wrong("clipped_loss", "sum for mean and mask")
def c6(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return -torch.min(*br(logprobs, old_logprobs, advantages, cliprange)).sum()


@wrong("clipped_loss", "detach and mask")
def c7(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return -torch.min(*br(logprobs.detach(), old_logprobs, advantages, cliprange)).mean()


@wrong("clipped_loss", "clip")
def c8(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp()
    return -torch.min(r * advantages, r.clamp(0, 1 + cliprange) * advantages)[response_mask].mean()


@right("clipped_loss")
def c9(logprobs, old_logprobs, advantages, response_mask, cliprange):
    a, b = br(logprobs, old_logprobs, advantages, cliprange)
    return (
        torch.where(response_mask, torch.where(a < b, -a, -b), 0.0).sum()
        / response_mask.float().sum()
    )


# -- clip_fraction
@wrong("clip_fraction", "mask and min for max")
def f1(logprobs, old_logprobs, advantages, response_mask, cliprange):
    a, b = br(logprobs, old_logprobs, advantages, cliprange)
    return (b > a).float().mean()


@wrong("clip_fraction", "clip and mask")
def f2(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp()
    return ((r > 1 + cliprange) | (r < 1 - cliprange)).float().mean()


@wrong("clip_fraction", "clip and sum for mean")
def f3(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp()
    return (((r - 1).abs() > cliprange) & response_mask).sum()


@wrong("clip_fraction", "clip and mask")
def f4(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return ((logprobs - old_logprobs).abs() > cliprange).float().mean()


@wrong("clip_fraction", "clip")
def f5(logprobs, old_logprobs, advantages, response_mask, cliprange):
    a, b = br(logprobs, old_logprobs, advantages, cliprange)
    return (a != b)[response_mask].float().mean()


@wrong("clip_fraction", "mask")
def f6(logprobs, old_logprobs, advantages, response_mask, cliprange):
    a, b = br(logprobs, old_logprobs, advantages, cliprange)
    return (b < a)[~response_mask].float().mean()


@wrong("clip_fraction", "normalisation and mask|mask")  # pads are in the divisor, as is said
def f7(logprobs, old_logprobs, advantages, response_mask, cliprange):
    a, b = br(logprobs, old_logprobs, advantages, cliprange)
    return ((b < a) & response_mask).float().mean(1).mean()


@wrong("clip_fraction", "clip")
def f8(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp()[response_mask]
    return (r > 1 + cliprange).float().mean()


@right("clip_fraction")
def f9(logprobs, old_logprobs, advantages, response_mask, cliprange):
    a, b = br(logprobs, old_logprobs, advantages, cliprange)
    return (
        torch.tensor(
            [x for x, m in zip((b < a).flatten().tolist(), response_mask.flatten().tolist()) if m]
        )
        .float()
        .mean()
    )


# -- fisher
def fv(kl, theta, v):
    x = theta.clone().requires_grad_()
    (g,) = grad(kl(x), x, create_graph=True)
    return grad((g * v).sum(), x)[0]


@wrong("fisher_vector_product", "damping and sign")
def h1(kl, theta, vector, damping):
    return -fv(kl, theta, vector)


@wrong("fisher_vector_product", "scale and damping")
def h2(kl, theta, vector, damping):
    return fv(kl, theta, vector) / 2


@wrong("fisher_vector_product", "damping")
def h3(kl, theta, vector, damping):
    return fv(kl, theta, vector) * damping + vector


@wrong("fisher_vector_product", "formula and damping")
def h4(kl, theta, vector, damping):
    return vector @ fv(kl, theta, vector)


@wrong("fisher_vector_product", "formula")
def h5(kl, theta, vector, damping):
    x = theta.clone().requires_grad_()
    (g,) = grad(kl(x), x)
    return g * vector + damping * vector


@wrong("fisher_vector_product", "damping")
def h6(kl, theta, vector, damping):
    return fv(kl, theta, vector) * (1 + damping)


@wrong("fisher_vector_product", "fault")
def h7(kl, theta, vector, damping):
    x = theta.clone().requires_grad_()
    (g,) = grad(kl(x), x)
    return grad((g * vector).sum(), x)[0] + damping * vector


@wrong("fisher_vector_product", "formula")
def h8(kl, theta, vector, damping):
    x = theta.clone().requires_grad_()
    (g,) = grad(kl(x), x, create_graph=True)
    return grad(g.sum(), x)[0] * vector + damping * vector


@right("fisher_vector_product")
def h9(kl, theta, vector, damping):
    F_ = torch.zeros(len(theta), len(theta))
    x = theta.clone().requires_grad_()
    (g,) = grad(kl(x), x, create_graph=True)
    for i in range(len(theta)):
        F_[i] = grad(g[i], x, retain_graph=True)[0]
    return F_ @ vector + damping * vector


@right("fisher_vector_product")
def h10(kl, theta, vector, damping):
    slope = torch.func.grad(kl)
    return torch.func.jvp(slope, (theta,), (vector,))[1] + damping * vector
