"""The algorithms that can train the policy, one record each. Adding one: a file, and its line here.

base.py             the record, and what the updates are made of
policy_gradient.py  stages 1 to 4: pg, rtg, baseline, gae
trpo.py             stage 5: trpo
ppo.py              stage 6: ppo, ppo_unclipped, ppo_kl, ppo_adaptive_kl
group.py            without a critic: rloo, grpo, dr_grpo, gspo, cispo, dapo
direct.py           from pairs: dpo, ipo
selection.py        fine-tuning on the best of n: rft
"""

from minippo.algorithms import direct, group, policy_gradient, ppo, selection, trpo
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
        group.RLOO,
        group.GRPO,
        group.DR_GRPO,
        group.GSPO,
        group.CISPO,
        group.DAPO,
        direct.DPO,
        direct.IPO,
        selection.RFT,
    )
}
DEFAULT = ppo.PPO.name


def readers_of(setting: str) -> tuple[str, ...]:
    """Names of the algorithms that read a setting; none when all of them do."""
    named = [name for name, algorithm in REGISTRY.items() if setting in algorithm.fields]
    ignoring = {name for name, algorithm in REGISTRY.items() if setting in algorithm.ignores}
    if not ignoring:
        return tuple(named)
    return tuple(name for name in named or REGISTRY if name not in ignoring)
