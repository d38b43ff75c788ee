"""Means, paired differences and what is said of them, by hand."""

import pytest

from minippo.algorithms import REGISTRY
from minippo.commands.comparison import Setting, as_json, check_summary, paired, table
from minippo.commands.config import resolve
from minippo.errors import InputError


def setting(name, judge="one", **settings):
    return Setting(name, f"1-{name}", {"x": name}, [], resolve(settings), judge)


def summary(gold=1.0, seconds=10.0, skill=0.5, draws=500.0, **more):
    policy = {"gold": gold, "score": 2.0, "kl": 3.0, "objective": 1.5}
    return {
        "policy": policy | more,
        "optimality": 0.9,
        "optimum": {"effective_sample_size": draws},
        "win_rate": {"value": 0.7},
        "reward_model": {"skill": skill},
        "seconds": {"total": seconds},
        "pretraining_loss": {"sft": 1.0, "policy": 1.25},
        "course": {
            "gold": {"mean": gold - 0.5, "end": gold - 0.25} if isinstance(gold, float) else None
        },
    }


A, B = setting("a"), setting("b")


def metrics(*arguments):
    return {row["metric"]: row for row in paired(*arguments)}


def test_a_difference_is_that_of_the_seeds_that_both_have():
    of_a = {0: summary(1.0), 1: summary(2.0), 2: summary(9.0)}
    of_b = {1: summary(1.5), 0: summary(0.0), 5: summary(-9.0)}
    row = metrics(A, B, of_a, of_b)["gold"]
    assert (row["a"], row["b"], row["difference"], row["n"]) == ("a", "b", 0.75, 2)
    # 1.0 and 0.5: deviation 0.35355, over sqrt(2) 0.25, times 12.7062
    assert (row["low"], row["high"]) == pytest.approx((0.75 - 3.17655, 0.75 + 3.17655), abs=1e-4)


def test_seeds_are_paired_and_not_pooled():
    """The spread from seed to seed that both have in common is no part of the interval."""
    of_a = {seed: summary(10.0 * seed + 1.0) for seed in range(3)}
    of_b = {seed: summary(10.0 * seed) for seed in range(3)}
    row = metrics(A, B, of_a, of_b)["gold"]
    assert (row["difference"], row["low"], row["high"]) == (1.0, 1.0, 1.0)


def test_wins_are_counted_and_ties_half():
    of_a = {seed: summary(gold) for seed, gold in enumerate([1.0, 2.0, 3.0, 4.0])}
    of_b = {seed: summary(gold) for seed, gold in enumerate([0.0, 2.0, 5.0, 3.0])}
    assert metrics(A, B, of_a, of_b)["gold"]["wins"] == 2.5
    assert metrics(B, A, of_b, of_a)["gold_at_the_end"]["wins"] == 1.5


def test_one_seed_has_no_interval_and_none_no_row():
    row = metrics(A, B, {0: summary(2.0)}, {0: summary(1.0)})["gold"]
    assert (row["difference"], row["low"], row["high"], row["n"]) == (1.0, None, None, 1)
    assert metrics(A, B, {0: summary()}, {1: summary()}) == {}
    assert "gold" not in metrics(A, B, {0: summary(None)}, {0: summary(1.0)})


@pytest.mark.parametrize(
    "other, left_out",
    [
        (setting("b"), {"skill"}),
        (setting("b", kl_coef=0.3), {"skill", "objective"}),
        (setting("b", kl_controller="double_halve"), {"skill", "objective"}),
        (setting("b", no_eos_score=-3.0), {"skill", "score", "objective"}),
        (setting("b", judge="other"), {"score", "objective"}),
        (
            setting("b", judge="other", task="capitals"),
            {
                "gold",
                "gold_while_learning",
                "gold_at_the_end",
                "policy_loss_on_pretraining_texts",
                "score",
                "objective",
            },
        ),
    ],
)
def test_numbers_of_two_units_are_not_compared(other, left_out):
    every = {"gold", "score", "kl", "objective", "optimality", "win_rate", "skill"}
    every |= {"gold_while_learning", "gold_at_the_end"}
    every |= {"policy_loss_on_pretraining_texts"}
    assert {*metrics(A, other, {0: summary()}, {0: summary()})} == every - left_out


def test_a_row_has_the_means_and_the_costs():
    algorithm = next(name for name, record in REGISTRY.items() if not record.has_critic)
    other = setting("b", num_updates=7, batch_size=16, algorithm=algorithm)
    done = [{3: summary(1.0, 10.0), 4: summary(2.0, 30.0)}, {3: summary(None)}]
    found = as_json([A, other], done)
    first, second = found["settings"]
    assert first["values"] == {"x": "a"} and first["runs"] == ["runs/1-a/seed-3", "runs/1-a/seed-4"]
    assert first["mean"]["gold"] == 1.5 and first["seconds"] == 20.0
    assert second["mean"]["gold"] is None and second["mean"]["win_rate"] == 0.7
    assert (first["models"], second["models"], second["samples"]) == (4, 3, 112)
    assert {(row["a"], row["b"]) for row in found["paired"]} == {("b", "a")}
    assert as_json([A], [{}])["settings"][0]["mean"]["gold"] is None  # nothing is done yet


def test_the_best_of_n_of_the_reference_stands_under_the_table():
    runs = {3: summary(best_of_n=None), 4: summary()}
    runs[3]["best_of_n"] = [(2, 0.2, 1.0), (4, 0.6, 2.0), (8, 1.2, 9.0)]
    runs[4]["best_of_n"] = [(2, 0.2, 2.0), (4, 0.6, 2.5)]
    results = {"seeds": [3, 4]} | as_json([A], [runs])
    assert results["settings"][0]["best_of_n"] == [(2, 1.5), (4, 2.25)]
    assert "fine-tuned model (a): 2: 1.500, 4: 2.250" in "\n".join(table(results))
    without = {"seeds": [3]} | as_json([A], [{3: summary()}])
    assert "best of n" not in "\n".join(table(without))


def test_samples_are_those_that_were_drawn():
    runs = {3: summary() | {"samples": 100}, 4: summary() | {"samples": 300}}
    assert as_json([A], [runs])["settings"][0]["samples"] == 200


def shown(*golds):
    """The table of settings with these golds on seeds 0, 1, ..."""
    settings = [setting(f"s{i}") for i in range(len(golds))]
    done = [{seed: summary(gold) for seed, gold in enumerate(of_it)} for of_it in golds]
    seeds = list(range(len(golds[0])))
    return table({"seeds": seeds} | as_json(settings, done))


def test_the_table_says_what_the_seeds_can_and_cannot_tell():
    lines = shown([1.0, 1.1, 1.0], [2.0, 2.1, 2.1], [1.0, 1.2, 0.9])
    assert lines[0].startswith("| setting | runs | gold | score | kl |")
    assert lines[2].startswith("| s0 | 3 of 3 | 1.033 | 2.000 | 3.000 |")
    start = lines.index("s1 - s0")
    assert (
        lines[start + 2]
        == "    gold                              +1.033 (+0.890 to +1.177), ahead on 3 of 3"
    )
    start = lines.index("s2 - s0")
    gold = "    gold                              +0.000 (-0.248 to +0.248), ahead on 1.5 of 3"
    assert lines[start + 2] == f"{gold}   3 seeds can't tell these apart" and "s2 - s1" in lines
    assert "    gold                              +1.000   one seed has no interval" in shown(
        [1.0], [2.0]
    )


def test_of_many_settings_each_is_shown_against_the_first():
    lines = shown(*([float(i), i + 0.5] for i in range(5)))
    assert "s4 - s0" in lines and "s4 - s3" not in lines
    assert lines[-1] == "Each is against the first; compare.json has every pair."


def test_columns_without_a_number_are_left_out():
    lines = shown([None, None], [None, None])
    assert "gold" not in lines[0] and "kl" in lines[0]


def test_an_optimality_that_is_at_most_stays_at_most():
    many, few = {0: summary(), 1: summary()}, {0: summary(draws=49.0), 1: summary()}
    results = {"seeds": [0, 1]} | as_json([A, B, setting("c")], [many, few, many])
    assert [row["optimality_at_most"] for row in results["settings"]] == [False, True, False]
    bounds = {(row["a"], row["b"], row["metric"]) for row in results["paired"] if row["at_most"]}
    assert bounds == {("b", "a", "optimality"), ("c", "b", "optimality")}
    lines = table(results)
    cells = [line.split(" | ")[6] for line in lines[:5]]
    assert cells == ["optimality", "---:", "0.900", "<= 0.900", "0.900"]
    assert lines[6] == "<= at most: the optimum is estimated from few draws, and too low."
    assert sum(line.startswith("    optimality (<=)  ") for line in lines) == 2
    shown = table({"seeds": [0]} | as_json([A], [{0: summary() | {"optimality": None}}]))
    assert not any("<=" in line for line in shown)


def test_what_pays_for_no_kl_has_another_aim():
    results = {"seeds": [0]} | as_json([A, B], [{0: summary()}, {0: summary() | {"kl_in": "none"}}])
    assert "Optimality is not the aim of b: no KL is paid." in table(results)


def test_no_row_can_be_taken_for_the_loss_of_the_pretraining():
    (row,) = as_json([A], [{0: summary()}])["settings"]
    assert row["mean"]["policy_loss_on_pretraining_texts"] == 1.25
    assert not any("pretraining loss" in line for line in shown([1.0], [2.0]))


@pytest.mark.parametrize(
    "wrong",
    [{}, {"policy": 3}, summary(gold="much"), summary(draws="few"), summary() | {"seconds": None}],
)
def test_what_is_no_summary_is_refused(wrong):
    check_summary(summary(), "x")
    check_summary(summary() | {"reward_model": None, "optimality": None}, "x")
    with pytest.raises(InputError, match="x: not the summary of a run; remove it"):
        check_summary(wrong, "x")


def test_a_price_that_moves_is_another_for_each_seed():
    moving = [setting(name, kl_controller="double_halve") for name in "ab"]
    assert "objective" not in metrics(*moving, {0: summary()}, {0: summary()})
