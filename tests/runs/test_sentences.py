"""What a run came to, in three sentences, from its summary alone."""

import pytest

from minippo.runs.sentences import percent, sentences

SUMMARY = {
    "sft": {"gold": 1.034, "score": -0.356},
    "policy": {"gold": 2.887, "score": 0.883},
    "gold_max": 3.0,
    "reward_model": {"heldout_accuracy": 0.887},
    "optimum": {"effective_sample_size": 131.0},
    "optimality": 0.989,
    "win_rate": {"value": 0.89, "judge": "gold"},
    "diagnostics": [{"code": "P007", "name": "clip-idle"}],
}
HACKED = [{"code": "P011", "name": "gold-falls"}]


def test_a_run_that_went_well():
    assert sentences(SUMMARY) == [
        "gold 1.03 -> 2.89 of 3",
        "wins 89 %",
        "99 % of what the reward model allows",
    ]


@pytest.mark.parametrize(
    "changed, number, sentence",
    [
        ({"gold_max": None}, 0, "gold 1.03 -> 2.89"),
        ({"gold_max": 0.5}, 0, "gold 1.03 -> 2.89 of 0.5"),
        (
            {"diagnostics": HACKED},
            0,
            "hacked: gold 1.03 -> 2.89 of 3 while the score -0.36 -> 0.88",
        ),
        ({"diagnostics": None}, 0, "gold 1.03 -> 2.89 of 3"),
        ({"win_rate": {"value": None, "judge": "gold"}}, 1, "no answers were compared"),
        ({"reward_model": None}, 2, "99 % of what the rule allows"),
        ({"optimum": {"effective_sample_size": 49.0}}, 2, "at most 99 % of what the reward model"),
        ({"optimum": {"effective_sample_size": None}}, 2, "at most 99 % of what the reward model"),
        ({"optimality": -0.2}, 2, "worse than before, by the reward model and the price of KL"),
        ({"optimality": None}, 2, "the reward model leaves no room that could be measured"),
        ({"optimality": None, "reward_model": None}, 2, "the rule leaves no room that could be"),
    ],
)
def test_what_is_otherwise_is_said_in_other_words(changed, number, sentence):
    found = sentences(SUMMARY | changed)
    assert found[number].startswith(sentence) and len(found) == 3
    others = [found[n] == sentences(SUMMARY)[n] for n in range(3) if n != number]
    assert others == [True, True]


def test_texts_of_ones_own_have_no_gold_and_the_judge_is_the_reward_model():
    own = SUMMARY | {"gold_max": None, "win_rate": {"value": 0.7, "judge": "reward model"}}
    own |= {stage: SUMMARY[stage] | {"gold": None} for stage in ("sft", "policy")}
    first, second, _ = sentences(own)
    assert first == "no gold score here; by the reward model, score -0.36 -> 0.88"
    assert second == "wins 70 % by the judgement of the reward model itself"


@pytest.mark.parametrize(
    "share, text",
    [(1.0, "100 %"), (0.991, "over 99 %"), (0.99, "99 %"), (0.0, "0 %"), (0.004, "under 1 %")]
    + [(0.5, "50 %"), (1.02, "102 %")],
)
def test_nearly_all_is_not_all_and_little_is_not_nothing(share, text):
    assert percent(share) == text
