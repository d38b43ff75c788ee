"""The path of the policy: when it is looked at. What is seen is in tests/commands/test_train.py."""

import pytest

from minippo.commands.path import is_on_path


@pytest.mark.parametrize(
    "updates, wanted",
    [
        (1, []),
        (2, [1]),
        (9, [1, 2, 3, 4, 5, 6, 7, 8]),
        (20, [2, 4, 6, 8, 10, 12, 14, 16, 18]),
        (105, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
    ],
)
def test_about_ten_updates_are_on_the_path_and_the_last_is_not(updates, wanted):
    found = [update for update in range(1, updates + 1) if is_on_path(update, updates)]
    assert found == wanted
