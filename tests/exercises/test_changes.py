"""The changes that give a function one mistake more."""

import torch

from minippo.exercises import changes


def total(x, response_mask, gamma=1.0):
    return gamma * (x * response_mask).sum()


CASE = {
    "x": torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]),
    "response_mask": torch.tensor([[True, False, False], [True, True, False]]),
}


def changed(change, **more):
    return change.apply(total)(**CASE, **more).item()


def test_masks():
    assert total(**CASE) == 25.0
    assert changed(changes.NO_MASK) == 63.0
    assert changed(changes.FIRST_ROW) == 9.0
    assert changed(changes.ONE_SLOT_MORE) == 1 + 2 + 8 + 16 + 32
    assert changed(changes.ROW_MEANS) == 12.5


def test_results_and_numbers():
    assert changed(changes.TURNED) == -25.0
    assert changed(changes.DOUBLED) == 50.0 and changed(changes.HALVED) == 12.5
    assert changed(changes.number("discount", "", gamma=3.0), gamma=9.0) == 75.0
    assert changed(changes.times("sum for mean", "", changes.tokens)) == 75.0
    swap = changes.swapped("sign", "", "x", "response_mask")
    assert changed(swap) == 25.0  # the product does not mind


def test_what_is_masked_too_late_has_its_padding_cleared():
    def doubled(x, response_mask):
        return torch.where(response_mask, x, 0.0).sum(dim=1, keepdim=True) + 0 * x

    found = changes.MASKED_TOO_LATE.apply(doubled)(**CASE)
    assert found.tolist() == [[7.0, 0.0, 0.0], [56.0, 56.0, 0.0]]


def test_counts():
    assert changes.responses(CASE) == 2 and changes.tokens(CASE) == 3 and changes.slots(CASE) == 6
