"""The algorithms that can train the policy, one record each. Adding one: a file, and its line here.

base.py             the record, and what the updates are made of
policy_gradient.py  stages 1 to 4: pg, rtg, baseline, gae
trpo.py             stage 5: trpo
ppo.py              stage 6: ppo, ppo_unclipped, ppo_kl, ppo_adaptive_kl
"""

from minippo.algorithms import policy_gradient, ppo, trpo
from minippo.algorithms.base import Algorithm

REGISTRY: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        policy_gradient.PG,
        policy_gradient.RTG,
        policy_gradient.BASELINE,
        policy_gradient.GAE,
        trpo.TRPO,
        ppo.PPO,
        ppo.PPO_UNCLIPPED,
        ppo.PPO_KL,
        ppo.PPO_ADAPTIVE_KL,
    )
}
DEFAULT = ppo.PPO.name


def readers_of(setting: str) -> tuple[str, ...]:
    """Names of the algorithms that read a setting; none when all of them do."""
    return tuple(name for name, algorithm in REGISTRY.items() if setting in algorithm.fields)
