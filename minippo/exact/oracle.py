"""The exact answers: every function here is a sum over the tree of states, and none is an estimate.

All take the logits of a policy in every state, [K,V], and are differentiable in them where a
gradient makes sense.
"""

import torch
from torch import Tensor, nn

from minippo.exact.world import World
from minippo.trpo import flat_gradient


def reach_probabilities(world: World, logits: Tensor) -> Tensor:
    """d(s), the probability that a response passes through a state, [K]. Its sum is the expected
    length of a response."""
    pi = torch.softmax(logits, dim=-1)
    reach = [world.prompt_probs]
    for level in world.levels()[:-1]:
        goes_on = world.next_state[level] >= 0
        # children are in the order of their parents
        reach.append((reach[-1].unsqueeze(1) * pi[level])[goes_on])
    return torch.cat(reach)


def response_probabilities(world: World, logits: Tensor) -> Tensor:
    """p(tau) of every response, its prompt's probability included, [N]."""
    return world.prompt_probs[world.prompt_index] * world.logprobs(logits).sum(dim=1).exp()


def objective(world: World, logits: Tensor, gamma: float = 1.0) -> Tensor:
    """J = E[sum_t gamma^t r_t] = sum_s d(s) gamma^depth(s) sum_a pi(a|s) r(s,a); autograd gives its
    exact gradient."""
    pi = torch.softmax(logits, dim=-1)
    expected_reward = (pi * world.rewards).sum(dim=-1)  # [K,V] -> [K]
    return (
        reach_probabilities(world, logits) * gamma ** world.depth.double() * expected_reward
    ).sum()


def exact_gradient(world: World, policy: nn.Module, gamma: float = 1.0) -> Tensor:
    """grad J, flat, [D]."""
    return flat_gradient(objective(world, policy(), gamma), list(policy.parameters()))


def values_and_action_values(
    world: World, logits: Tensor, gamma: float = 1.0
) -> tuple[Tensor, Tensor]:
    """V(s) [K] and Q(s,a) [K,V], by backward recursion: Q = r + gamma V(next), V = sum_a pi Q, and
    V = 0 at the end."""
    pi = torch.softmax(logits, dim=-1)
    values, action_values = (
        world.rewards.new_zeros(len(world.states) + 1),
        torch.zeros_like(world.rewards),
    )
    # the entry beyond the last state, which next_state -1 points at, stays 0
    for level in reversed(world.levels()):
        action_values[level] = world.rewards[level] + gamma * values[world.next_state[level]]
        values[level] = (pi[level] * action_values[level]).sum(dim=-1)
    return values[:-1].detach(), action_values.detach()


def entropy(world: World, logits: Tensor) -> Tensor:
    """Entropy of the distribution of responses given the prompt, nats: the states' entropies,
    weighted by d(s)."""
    log_pi = torch.log_softmax(logits, dim=-1)
    return -(reach_probabilities(world, logits) * (log_pi.exp() * log_pi).sum(dim=-1)).sum()


def sequence_kl(world: World, logits: Tensor, other_logits: Tensor) -> Tensor:
    """KL(pi || other) of whole responses, nats: the states' KLs, weighted by how often pi is
    there."""
    log_pi, log_other = (torch.log_softmax(x, dim=-1) for x in (logits, other_logits))
    per_state = (log_pi.exp() * (log_pi - log_other)).sum(dim=-1)
    return (reach_probabilities(world, logits) * per_state).sum()


def total_variation(world: World, logits: Tensor, other_logits: Tensor) -> Tensor:
    """Half the sum over responses of |p - q|."""
    p, q = (response_probabilities(world, x) for x in (logits, other_logits))
    return 0.5 * (p - q).abs().sum()


def score_vectors(policy: nn.Module) -> Tensor:
    """grad log pi(a|s) of every state and token, [K,V,D]."""
    log_pi, parameters = torch.log_softmax(policy(), dim=-1), list(policy.parameters())
    rows = [flat_gradient(x, parameters, retain_graph=True) for x in log_pi.flatten()]
    return torch.stack(rows).view(*log_pi.shape, -1)


def fisher_matrix(world: World, policy: nn.Module) -> Tensor:
    """F = sum_s d(s) sum_a pi(a|s) score score^T, dense, [D,D]: summed over the tokens of a
    response, mean over responses.

    It is the second derivative of sequence_kl(old, new) in the new policy at new = old. The mean
    over tokens is this divided by the expected length. Singular for a tabular policy: adding a
    number to all logits of a state changes nothing.
    """
    scores, logits = score_vectors(policy), policy().detach()
    # [K,V]
    weights = reach_probabilities(world, logits).unsqueeze(1) * torch.softmax(logits, dim=-1)
    return torch.einsum("ka,kad,kae->de", weights, scores, scores)


def optimal_policy(world: World, ref_logits: Tensor, kl_coef: float) -> tuple[Tensor, Tensor]:
    """(logits [K,V], objective) of the policy that maximises E[return] - kl_coef KL(pi || ref),
    gamma = 1.

    Backwards:  U(s) = kl_coef log sum_a pi_ref(a|s) exp((r(s,a) + U(next)) / kl_coef), U = 0 at the
                end;
    pi*(a|s) is the summand divided by the sum. The objective is the mean of U over the prompts.
    """
    log_ref = torch.log_softmax(ref_logits, dim=-1)
    soft_values, logits = world.rewards.new_zeros(len(world.states) + 1), torch.zeros_like(log_ref)
    for level in reversed(world.levels()):
        logits[level] = (
            log_ref[level] + (world.rewards[level] + soft_values[world.next_state[level]]) / kl_coef
        )
        soft_values[level] = kl_coef * torch.logsumexp(logits[level], dim=-1)
    return logits, (world.prompt_probs * soft_values[: world.prompts]).sum()
