"""The annotators: who there is, who reads which setting, and that each of them works."""

import dataclasses

import pytest
import torch

from minippo.annotators import DEFAULT, REGISTRY, readers_of
from minippo.annotators.base import AnnotatorConfig, judge
from tests.annotators.shown import FALSE, TRUE, shown


def test_each_record_stands_under_its_name_and_the_default_is_one_of_them():
    assert all(record.name == name for name, record in REGISTRY.items())
    assert DEFAULT == "gold" and len({r.summary for r in REGISTRY.values()}) == len(REGISTRY)


def test_what_a_record_names_are_settings_of_annotators():
    known = {item.name for item in dataclasses.fields(AnnotatorConfig)}
    named = [name for record in REGISTRY.values() for name in record.fields]
    assert {*named} == known - {"annotator_temperature", "rating_noise"}
    assert len({*named}) == len(named)
    assert readers_of("annotator_noise") == ("noisy",) and readers_of("annotator_temperature") == ()


@pytest.mark.parametrize("name", REGISTRY)
def test_each_of_them_says_something_about_every_pair(name):
    record = shown(TRUE, FALSE, "a baker", "")
    found = judge(REGISTRY[name], record, AnnotatorConfig(), torch.Generator().manual_seed(0))
    assert found.labels.shape == found.probabilities.shape == (1, 6)
    assert found.labels.abs().max() == 1 and found.labels.dtype == torch.int64
    assert (found.probabilities > 0).all() and (found.probabilities < 1).all()


@pytest.mark.parametrize("name", REGISTRY)
def test_the_same_generator_gives_the_same_labels(name):
    record = shown(TRUE, FALSE, "a baker", "")
    one, two = (
        judge(REGISTRY[name], record, AnnotatorConfig(), torch.Generator().manual_seed(3)).labels
        for _ in range(2)
    )
    assert torch.equal(one, two)
