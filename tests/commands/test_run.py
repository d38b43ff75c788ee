"""What every stage of a run is given."""

from minippo.commands.run import stage_seed


def test_stages_draw_from_generators_of_their_own():
    seeds = {stage_seed(seed, name) for seed in range(50) for name in ("pretrain", "sft", "policy")}
    assert len(seeds) == 150
