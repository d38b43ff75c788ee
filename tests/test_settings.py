"""A field of a configuration refuses what does not fit it, by name."""

from dataclasses import dataclass, fields

import pytest

from minippo.settings import Checked, count, kind_of, may_be_none, positive, setting


@dataclass(frozen=True)
class Section(Checked):
    """One field of every kind."""

    steps: int = count(3, "steps", high=10)
    rate: float = positive(0.5, "rate")
    share: float = setting(1.0, "share", low=0.0, high=1.0)
    name: str = setting("a", "name", choices=("a", "b"))
    on: bool = setting(False, "on")
    limit: float | None = setting(None, "limit", low=0.0, open_low=True)


def test_kinds_and_none_are_read_from_the_annotations():
    found = {item.name: (kind_of(item), may_be_none(item)) for item in fields(Section)}
    assert found == {
        "steps": (int, False),
        "rate": (float, False),
        "share": (float, False),
        "name": (str, False),
        "on": (bool, False),
        "limit": (float, True),
    }


@pytest.mark.parametrize(
    "settings",
    [{"steps": 10}, {"rate": 1}, {"share": 0.0}, {"name": "b"}, {"on": True}, {"limit": 2.0}],
)
def test_what_fits_is_taken(settings):
    Section(**settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": 0}, r"steps: wanted a number in \[1, 10\], got 0"),
        ({"steps": 11}, r"steps: wanted a number in \[1, 10\], got 11"),
        ({"steps": True}, "steps: wanted a whole number, got True"),
        ({"steps": 2.0}, r"steps: wanted a whole number, got 2\.0"),
        ({"steps": None}, "steps: needs a value"),
        ({"rate": 0.0}, "rate: wanted more than 0.0, got 0.0"),
        ({"rate": float("nan")}, "rate: wanted a finite number, got nan"),
        ({"rate": 10**400}, "rate: wanted a finite number, got inf"),
        ({"share": -0.1}, r"share: wanted a number in \[0\.0, 1\.0\], got -0\.1"),
        ({"name": "c"}, "name: wanted one of a, b, got 'c'"),
        ({"on": 1}, "on: wanted true or false, got 1"),
        ({"limit": 0.0}, "limit: wanted more than 0.0, got 0.0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Section(**settings)
