"""Exercise 14, `ppo_loss`: answers as people write them, with the names of the mistakes."""

import torch


def written_out(**wrong):
    """The whole way, with one thing or two done otherwise."""

    def answer(
        logprobs,
        values,
        old_logprobs,
        ref_logprobs,
        old_values,
        scores,
        response_mask,
        kl_coef,
        gamma,
        lam,
        cliprange,
        vf_coef,
    ):
        mask = torch.ones_like(response_mask) if wrong.get("mask") == "none" else response_mask
        B, T = mask.shape
        kl = (old_logprobs - ref_logprobs).masked_fill(~mask, 0.0)
        rewards = wrong.get("kl", -1.0) * kl_coef * kl
        last = mask.sum(dim=1) - 1
        if wrong.get("score") == "all":
            rewards = (rewards + scores[:, None]) * mask
        rewards[torch.arange(B), last] += scores
        V = old_values.masked_fill(~mask, 0.0)
        gamma, lam = wrong.get("gamma", gamma), wrong.get("lam", lam)
        advantages, running = torch.zeros_like(V), torch.zeros(B)
        for t in reversed(range(T)):
            following = V[:, t + 1] if t + 1 < T else torch.zeros(B)
            delta = rewards[:, t] + gamma * following - V[:, t]
            running = delta + gamma * lam * running
            advantages[:, t] = running
        targets = advantages + V
        real = advantages[mask]
        white = (advantages - real.mean()) / real.std(correction=0)
        white = {"raw": advantages, "kept": white + real.mean()}.get(wrong.get("white"), white)
        targets = {"rewards": rewards, "advantages": advantages, "white": white + V}.get(
            wrong.get("targets"), targets
        )
        ratio = (logprobs - old_logprobs).exp()
        gain = ratio * white
        if not wrong.get("free"):
            gain = torch.minimum(gain, ratio.clamp(1 - cliprange, 1 + cliprange) * white)
        error = (values - targets).pow(2)[mask].mean() * wrong.get("half", 0.5)
        vf = wrong.get("vf", vf_coef)
        return wrong.get("sign", -1.0) * gain[mask].mean() + vf * error

    answer.__name__ = " ".join(f"{key} {value}" for key, value in wrong.items()) or "written_out"
    return answer


right = written_out()


def by_rows(
    logprobs,
    values,
    old_logprobs,
    ref_logprobs,
    old_values,
    scores,
    response_mask,
    kl_coef,
    gamma,
    lam,
    cliprange,
    vf_coef,
):
    rows, targets = [], []
    for b in range(len(scores)):
        n = int(response_mask[b].sum())
        V = old_values[b, :n]
        r = -kl_coef * (old_logprobs[b, :n] - ref_logprobs[b, :n])
        r = r + torch.nn.functional.one_hot(torch.tensor(n - 1), n) * scores[b]
        following = torch.cat((V[1:], torch.zeros(1)))
        delta = r + gamma * following - V
        A = [sum((gamma * lam) ** k * delta[t + k] for k in range(n - t)) for t in range(n)]
        rows.append(torch.stack(A))
        targets.append(torch.stack(A) + V)
    A, y = torch.cat(rows), torch.cat(targets)
    A = (A - A.mean()) / A.std(unbiased=False)
    ratio = torch.exp(logprobs - old_logprobs)[response_mask]
    policy = torch.max(-A * ratio, -A * ratio.clamp(1 - cliprange, 1 + cliprange)).mean()
    return policy + vf_coef * 0.5 * (values[response_mask] - y).square().mean()


def with_no_grad(logprobs, values, response_mask, cliprange, vf_coef, **rest):
    with torch.no_grad():
        still = right(
            logprobs=logprobs.detach(),
            values=values.detach(),
            response_mask=response_mask,
            cliprange=cliprange,
            vf_coef=vf_coef,
            **rest,
        )
    again = right(
        logprobs=logprobs,
        values=values,
        response_mask=response_mask,
        cliprange=cliprange,
        vf_coef=vf_coef,
        **rest,
    )
    return again + 0 * still


def in_double(**given):
    return right(
        **{
            key: x.double() if torch.is_tensor(x) and x.is_floating_point() else x
            for key, x in given.items()
        }
    )


def detached_data(**given):
    data = ("old_logprobs", "ref_logprobs", "old_values", "scores")
    return right(**given | {key: given[key].detach().clone() for key in data})


def the_package(**given):
    from minippo.baseline import value_loss
    from minippo.gae import gae_advantages, value_targets
    from minippo.masked import whiten
    from minippo.ppo import clipped_surrogate_loss
    from minippo.shaped_reward import shaped_rewards

    mask = given["response_mask"]
    rewards = shaped_rewards(
        scores=given["scores"],
        old_logprobs=given["old_logprobs"],
        ref_logprobs=given["ref_logprobs"],
        response_mask=mask,
        kl_coef=given["kl_coef"],
    )
    V = {"values": given["old_values"], "response_mask": mask}
    advantages = gae_advantages(rewards=rewards, gamma=given["gamma"], lam=given["lam"], **V)
    targets = value_targets(advantages=advantages, **V)
    policy = clipped_surrogate_loss(
        logprobs=given["logprobs"],
        old_logprobs=given["old_logprobs"],
        advantages=whiten(values=advantages, mask=mask),
        response_mask=mask,
        cliprange=given["cliprange"],
    )
    critic = value_loss(values=given["values"], value_targets=targets, response_mask=mask)
    return policy + given["vf_coef"] * critic


def blind_policy(**given):
    return right(**given | {"logprobs": given["logprobs"].detach()})


def blind_critic(**given):
    return right(**given | {"values": given["values"].detach()})


def values_of_now(**given):
    return right(**given | {"old_values": given["values"].detach()})


def negative(**given):
    return -right(**given)


RIGHT = [right, by_rows, with_no_grad, in_double, detached_data, the_package]
WRONG = {
    written_out(kl=0.0): "formula",
    written_out(kl=1.0): "direction",
    written_out(score="all"): "formula",
    written_out(white="raw"): "normalisation",
    written_out(white="kept"): "centring",
    written_out(targets="white"): "normalisation",
    written_out(targets="rewards"): "baseline",
    written_out(targets="advantages"): "baseline",
    written_out(free=True): "clip",
    written_out(vf=1.0): "scale",
    written_out(half=1.0): "scale",
    written_out(half=0.0): "formula",
    written_out(sign=1.0): "sign",
    written_out(gamma=1.0): "discount",
    written_out(lam=1.0): "discount",
    written_out(lam=0.0): "discount",
    written_out(mask="none"): "mask",
    written_out(kl=0.0, gamma=1.0): "formula and discount",
    written_out(free=True, lam=1.0): "clip and discount",
    blind_policy: "detach",
    blind_critic: "detach",
    values_of_now: "old for new",
    negative: "sign",
}
