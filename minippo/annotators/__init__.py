"""Who says which response is better, one record each. Adding one: a record, and its line here.

base.py      the record, its settings, and how a pair is judged
taste.py     one opinion: gold, length, confident
crowd.py     many, or unreliable: noisy, adversarial, panel
rules.py     AI feedback: rules
opinions.py  rankings and ratings instead of pairs
"""

from minippo.annotators import crowd, rules, taste
from minippo.annotators.base import Annotator

REGISTRY: dict[str, Annotator] = {
    annotator.name: annotator
    for annotator in (
        taste.GOLD,
        crowd.NOISY,
        taste.LENGTH,
        taste.CONFIDENT,
        crowd.ADVERSARIAL,
        crowd.PANEL,
        rules.AI,
    )
}
DEFAULT = taste.GOLD.name


def readers_of(setting: str) -> tuple[str, ...]:
    """Names of the annotators that read a setting; none when all of them do."""
    return tuple(name for name, annotator in REGISTRY.items() if setting in annotator.fields)
