"""How cases are drawn."""

import torch

from minippo.exercises.draw import Draw, mask_of_lengths, rows_in_words


def make(seed):
    draw = Draw("name", seed)
    for n in range(6):
        mask = draw.mask(3, draw.longest(4), 7)
        draw.add(f"case {n}", mask=mask, x=draw.normal(*mask.shape))
    return draw.cases()


def test_a_seed_is_any_bytes_and_gives_other_numbers_and_another_order():
    fixed, again, one, other = make(None), make(None), make(b"\x00\xff"), make(b"")
    assert all(torch.equal(a["x"], b["x"]) for a, b in zip(fixed, again, strict=True))
    assert not torch.equal(one[0]["x"], other[0]["x"])
    assert [case.holds for case in fixed] == [f"case {n}" for n in range(6)]
    assert sorted(case.holds for case in one) == [case.holds for case in fixed]
    orders = {tuple(case.holds for case in make(bytes([n]))) for n in range(5)}
    assert len(orders) > 1
    assert fixed[2].where == "exercise.cases()[2]" and "not shown" in one[2].where


def test_two_exercises_do_not_share_their_numbers():
    assert not torch.equal(Draw("a", None).normal(3), Draw("b", None).normal(3))


def test_lengths_have_one_that_is_the_longest():
    draw = Draw("name", b"1")
    for _ in range(20):
        lengths = draw.lengths(4, 5)
        assert max(lengths) == 5 and lengths.count(5) == 1 and min(lengths) >= 1


def test_numbers_are_float32():
    draw = Draw("name", None)
    assert draw.normal(2).dtype == draw.uniform(0, 1, 2).dtype == torch.float32


def test_a_mask_and_its_words():
    mask = mask_of_lengths([2, 1, 3], 4)
    assert mask.sum(dim=1).tolist() == [2, 1, 3] and mask[:, 0].all()
    assert rows_in_words(mask) == "rows of 2, 1 and 3 tokens in 4 slots"
    assert rows_in_words(mask[:1]) == "rows of 2 tokens in 4 slots"
