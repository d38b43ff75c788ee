"""How far something is that takes a while, told now and then on a line of its own: for a log, where
no bar can be drawn.

    pretrain       step 210 of 600, about 18 s left
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

EVERY = 10.0  # seconds, at first; what takes long is told of less often
SHARE = 6  # from 60 s on a line for each sixth of the time so far


def told(
    items: Iterable[Any],
    *,
    total: int | None,
    name: str,
    unit: str,
    say: Callable[[str], None],
    done: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Any]:
    """The items; `say` is given a line when it is time for one, and none at the end. `done` of the
    `total` were there before."""
    begin = last = clock()
    for number, item in enumerate(items, start=done + 1):
        yield item
        now = clock()
        if number == total or now - last < max(EVERY, (now - begin) / SHARE):
            continue
        last = now
        of = ""
        if total is not None:
            remaining = (now - begin) / (number - done) * (total - number)
            of = f" of {total}, about {duration(remaining)} left"
        say(f"{name:<14} {unit} {number}{of}")


def duration(seconds: float) -> str:
    """'18 s', '3 min', '2 h 5 min'."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
