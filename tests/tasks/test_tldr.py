"""tldr: what its posts tell, what its pretraining text asks, and what its rule rewards."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minippo.tasks.tldr import (
    CLAUSES,
    CUE,
    FACTS,
    FILLERS,
    NOISE,
    RESTATEMENTS_FIRST,
    TRAPS,
    TRAPS_FROM,
    Tldr,
    facts_of,
    prompt_of,
)
from tests.tasks.test_base import decoded, learned_and_read, targets_of

SIZES = pytest.mark.parametrize("values_per_fact", [3, 4, 5, 6])


# -- the posts


def told_in(text):
    """{(fact, value, who)} of a post, read sentence by sentence without a look at how it was
    written."""
    told = set()
    for sentence in text.split(" ."):
        words = sentence.split()
        match words:
            case ["i", "am", "a", value]:
                told.add(("job", value, "me"))
            case ["i", "live", "in", value]:
                told.add(("city", value, "me"))
            case ["i", "love", value]:
                told.add(("hobby", value, "me"))
            case ["my", who, "lives", "in", value] | ["my", who, "is", "from", value]:
                told.add(("city", value, who))
            case ["my", who, "enjoys" | "loves", value]:
                told.add(("hobby", value, who))
    return told


def writer_of(text):
    """The post's (job, city, hobby)."""
    return tuple(
        next(value for name, value, who in told_in(text) if (name, who) == (fact, "me"))
        for fact in FACTS
    )


@SIZES
def test_evaluation_posts_are_about_people_whom_no_training_stage_has_met(values_per_fact):
    task, rng = Tldr(values_per_fact), random.Random(0)
    seen = {
        writer_of(text)
        for step in (0, 10**6)
        for text in decoded(task, task.pretraining_examples(3000, step=step, rng=rng))
    }
    seen |= {writer_of(prompt) for prompt, _ in task.demonstrations(3000, rng=rng)}
    seen |= {writer_of(prompt) for prompt in task.training_prompts(3000, rng=rng)}
    unseen = {writer_of(prompt) for prompt in task.evaluation_prompts(1000, rng=rng)}
    assert seen.isdisjoint(unseen)
    assert (
        len(unseen) == values_per_fact**2 and len(seen) == values_per_fact**3 - values_per_fact**2
    )
    for i in range(3):  # each single value, and each pair of two facts, is met in training
        rest = [j for j in range(3) if j != i]
        assert {tuple(person[j] for j in rest) for person in unseen} <= {
            tuple(p[j] for j in rest) for p in seen
        }


@SIZES
@given(seed=st.integers(0, 2**32), for_evaluation=st.booleans())
def test_a_post_tells_its_facts_its_trap_and_one_thing_that_does_not_matter(
    values_per_fact, seed, for_evaluation
):
    post = Tldr(values_per_fact).write_post(random.Random(seed), for_evaluation=for_evaluation)
    expected = {(fact, value, "me") for fact, value in post.facts.items()}
    if post.trap is not None:
        fact, who, value = post.trap
        expected.add((fact, value, who))
        assert value != post.facts[fact] and fact in TRAPS
    assert told_in(post.body) == expected and tuple(post.facts) == FACTS
    assert sum(noise in post.body for noise in NOISE) == 1
    assert post.body.count(" .") == len(expected) + 1
    assert prompt_of(post) == f"{post.body} {CUE}"


@SIZES
@given(seed=st.integers(0, 2**32), for_evaluation=st.booleans())
def test_the_rule_reads_a_posts_facts_back_whatever_the_trap(values_per_fact, seed, for_evaluation):
    post = Tldr(values_per_fact).write_post(random.Random(seed), for_evaluation=for_evaluation)
    assert facts_of(prompt_of(post)) == post.facts


def test_half_of_the_posts_hold_a_trap_and_sentences_come_in_any_order():
    task, rng = Tldr(), random.Random(0)
    posts = [task.write_post(rng) for _ in range(3000)]
    assert 0.46 < sum(post.trap is not None for post in posts) / len(posts) < 0.54
    assert {post.trap[:2] for post in posts if post.trap} == {
        (fact, who) for fact in TRAPS for who, _ in TRAPS[fact]
    }
    for opening in ("i am a", "i live in", "i love", "my sister", *NOISE):
        assert any(post.body.startswith(opening) for post in posts)
        assert any(opening in post.body and not post.body.startswith(opening) for post in posts)


# -- the pretraining text


def questions_of(text):
    """[(fact, value, answer)] of a document with questions."""
    words, asked = text.partition(" questions : ")[2].split(), []
    while words:
        fact, length = {"a": ("job", 2), "in": ("city", 2), "who": ("hobby", 3)}[words[0]]
        asked.append((fact, words[length - 1], words[length]))
        words = words[length + 1 :]
    return asked


@SIZES
def test_the_answers_to_the_questions_are_true_of_the_post(values_per_fact):
    task = Tldr(values_per_fact)
    answers = Counter()
    for document in task.pretraining_examples(1500, step=TRAPS_FROM, rng=random.Random(0)):
        text = task.tokenizer.decode(document.tokens)
        if "questions" in text:
            told = {
                (fact, value): who
                for fact, value, who in told_in(text.partition(" questions :")[0])
            }
            asked = questions_of(text)
            assert [answer for *_, answer in asked] == [
                told.get(question[:2], "nobody") for question in asked
            ]
            assert targets_of(task, document).split() == [answer for *_, answer in asked]
            answers.update(answer for *_, answer in asked)
    assert set(answers) == {"me", "nobody", "sister", "boss", "brother"}
    assert all(0.3 < answers[who] / answers.total() < 0.6 for who in ("me", "nobody"))


@SIZES
def test_the_restatements_tell_all_facts_truly(values_per_fact):
    task = Tldr(values_per_fact)
    for document in task.pretraining_examples(300, step=0, rng=random.Random(0)):
        post, _, summary = task.tokenizer.decode(document.tokens).partition(" facts : ")
        assert summary == " ".join(
            CLAUSES[fact].format(value) for fact, value in zip(FACTS, writer_of(post), strict=True)
        )
        assert targets_of(task, document) == summary


def test_pretraining_begins_with_restatements_only_and_both_kinds_follow():
    task, rng = Tldr(), random.Random(0)
    questions = []
    for step in (0, RESTATEMENTS_FIRST - 1, RESTATEMENTS_FIRST, RESTATEMENTS_FIRST + 1000):
        texts = decoded(task, task.pretraining_examples(500, step=step, rng=rng))
        assert all(("questions :" in text) != ("facts :" in text) for text in texts)
        questions.append(sum("questions :" in text for text in texts))
    assert questions[:2] == [0, 0] and all(400 < number < 450 for number in questions[2:])


def test_traps_come_later_than_questions():
    task, rng = Tldr(), random.Random(0)
    somebody_else = [
        sum(
            any(f"my {who}" in text for who in ("sister", "boss", "brother"))
            for text in decoded(task, task.pretraining_examples(500, step=step, rng=rng))
        )
        for step in (TRAPS_FROM - 1, TRAPS_FROM)
    ]
    assert somebody_else[0] == 0 and 200 < somebody_else[1] < 300


@SIZES
def test_no_text_of_the_pretraining_judges_anything(values_per_fact):
    task, rng = Tldr(values_per_fact), random.Random(0)
    texts = learned_and_read(task, 1000, rng)["pretraining"]
    for noise in NOISE:
        texts = [text.replace(noise, "") for text in texts]  # "dinner was good ." is about dinner
    verdicts = {
        "gold",
        "score",
        "reward",
        "rating",
        "points",
        "good",
        "bad",
        "better",
        "best",
        "worse",
        "worst",
        "great",
        "poor",
        "right",
        "wrong",
        "correct",
        "true",
        "false",
        "prefer",
        "preferred",
        "chosen",
        "rejected",
        "quality",
        "summary",
    }
    words = {word for text in texts for word in text.split()}
    assert (
        words.isdisjoint(verdicts)
        and words.isdisjoint(CUE.split()[:1])
        and words.isdisjoint(FILLERS)
    )


# -- the rule


POST = (
    "dinner was good . i love chess . my sister lives in oslo . i am a baker . i live in rome . "
    "tl;dr :"
)
PERFECT = "a baker in rome who loves chess"


@pytest.mark.parametrize(
    "summary, coverage, accuracy, coherence, brevity",
    [
        (PERFECT, 3, 0, 0, 0),
        ("", 0, 0, -1, 0),
        ("a baker", 1, 0, 0, 0),
        ("in rome who loves chess", 2, 0, 0, 0),
        ("a pilot in rome who loves chess", 3, -2, 0, 0),  # one fact wrong
        ("a pilot in rome who loves films", 3, -4, 0, 0),  # two facts wrong
        ("a nurse in lima who loves films", 3, -6, 0, 0),
        ("a baker in oslo who loves chess", 3, -2, 0, 0),  # the sister's city
        ("a pilot a nurse", 1, -2, -1, -0.5),  # one fact wrong twice
        ("a baker a nurse", 1, -2, -1, -0.5),  # and once right
        ("in rome a baker who loves chess", 3, 0, -1, 0),  # jumbled
        ("who loves chess in rome a baker", 3, 0, -1, 0),
        ("so a baker in rome who loves chess", 3, 0, 0, -0.25),  # fillers
        ("a baker really in rome just who loves chess well", 3, 0, 0, -0.75),
        ("a baker in rome who loves chess in rome", 3, 0, -1, -0.5),  # a clause twice
        ("a baker a baker", 1, 0, -1, -0.5),
        ("a baker in rome who loves chess today", 3, 0, -1, -0.25),  # a word that belongs nowhere
        ("a baker in atlantis who loves chess", 2, 0, -1, -0.5),  # words that there are not
        ("xyzzy", 0, 0, -1, -0.25),
        ("so", 0, 0, -1, -0.25),
        # a filler inside a clause breaks it
        ("a really baker", 0, 0, -1, -0.75),
        ("a rome in baker who loves", 0, 0, -1, -1.5),  # values of another fact
        # the clause stands in the post's sentence
        ("i am a baker .", 1, 0, -1, -0.75),
        ("a baker in rome who loves chess " * 2, 3, 0, -1, -1.75),
    ],
)
def test_gold_by_hand(summary, coverage, accuracy, coherence, brevity):
    axes = Tldr().gold_axes(POST, summary)
    assert axes == {
        "coverage": coverage,
        "accuracy": accuracy,
        "coherence": coherence,
        "brevity": brevity,
    }
    assert Tldr().gold(POST, summary) == coverage + accuracy + coherence + brevity


pieces = st.sampled_from(
    [CLAUSES[fact].format(value) for fact in FACTS for value in Tldr().values[fact]]
    + list(FILLERS)
    + Tldr().tokenizer.words[3:]
)
summaries = st.one_of(
    st.lists(pieces, max_size=8),
    st.permutations(PERFECT.split()),
    st.permutations(["a baker", "in rome", "who loves chess"]),
    st.tuples(
        st.sampled_from(["a baker", "a pilot"]),
        st.sampled_from(["in rome", "in oslo"]),
        st.sampled_from(["who loves chess", "who loves films"]),
    ),
)


@given(summaries)
@example(PERFECT.split())
@example(["a baker", "in rome", "who loves chess", "so"])
def test_the_best_gold_is_reached_by_the_three_true_clauses_alone(parts):
    task, summary = Tldr(), " ".join(parts)
    gold, axes = task.gold(POST, summary), task.gold_axes(POST, summary)
    assert gold == sum(axes.values()) <= task.gold_max
    assert (gold == task.gold_max) == (summary == PERFECT)
    assert (
        0 <= axes["coverage"] <= 3
        and max(axes["accuracy"], axes["coherence"], axes["brevity"]) <= 0
    )


@pytest.mark.parametrize(("cap", "best"), [(3, 1), (4, 1), (5, 2), (7, 2), (8, 3), (14, 3)])
def test_a_cap_on_the_length_takes_away_the_facts_that_do_not_fit(cap, best):
    clauses = ["a baker", "in rome", "who loves chess"]
    written = (" ".join(order[:n]) for order in itertools.permutations(clauses) for n in (1, 2, 3))
    gold = {  # of what fits with its EOS
        Tldr().gold(POST, summary) for summary in written if len(summary.split()) + 1 <= cap
    }
    assert max(gold) == best


@given(summaries, st.sampled_from(FILLERS))
def test_a_filler_at_the_end_costs_a_quarter(parts, filler):
    task, summary = Tldr(), " ".join(parts)
    assert task.gold(POST, f"{summary} {filler}") == task.gold(POST, summary) - 0.25


@SIZES
@given(seed=st.integers(0, 2**32))
def test_every_post_has_a_summary_of_the_best_gold(values_per_fact, seed):
    task = Tldr(values_per_fact)
    prompt = prompt_of(task.write_post(random.Random(seed), for_evaluation=True))
    summary = " ".join(
        CLAUSES[fact].format(value) for fact, value in zip(FACTS, writer_of(prompt), strict=True)
    )
    assert task.gold(prompt, summary) == task.gold_max == 3


def test_the_gold_of_a_response_does_not_change_on_its_way_through_tokens():
    task = Tldr()
    for pair in task.demonstrations(200, rng=random.Random(0)):
        ids = task.prompt_ids(pair[0]), task.response_ids(pair[1])
        assert task.gold(*map(task.tokenizer.decode, ids)) == task.gold(*pair)


@SIZES
def test_demonstrations_leave_room_above_them(values_per_fact):
    task = Tldr(values_per_fact)
    gold = [task.gold(*pair) for pair in task.demonstrations(3000, rng=random.Random(0))]
    assert 0.2 < sum(gold) / len(gold) / task.gold_max < 0.6
    assert max(gold) == task.gold_max and min(gold) < 0


def test_demonstrations_have_every_habit_of_people():
    task = Tldr()
    axes = [task.gold_axes(*pair) for pair in task.demonstrations(2000, rng=random.Random(0))]
    share = {
        name: sum(item[name] < (3 if name == "coverage" else 0) for item in axes) / len(axes)
        for name in axes[0]
    }
    assert all(0.1 < value < 0.7 for value in share.values()), share


# -- what a summary claims


POST = "i am a baker . my sister lives in oslo . i live in rome . i love chess . tl;dr :"


@pytest.mark.parametrize(
    "summary, claims",
    [
        ("", []),
        ("a baker", [True]),
        ("a baker in oslo who loves chess", [True, False, True]),  # the sister's city
        ("a baker a baker", [True]),  # said twice, claimed once
        ("a baker a nurse", [True, False]),
        ("so baker rome", []),  # no clause
    ],
)
def test_every_different_clause_is_a_claim(summary, claims):
    assert Tldr().claims(POST, summary) == claims


def test_unfamiliar_posts_tell_the_same_people_in_other_forms():
    task = Tldr()
    found = task.unfamiliar_prompts(40, rng=random.Random(0))
    assert {kind: len(prompts) for kind, prompts in found.items()} == {
        "words turned round": 40,
        "two traps": 40,
        "more noise": 40,
    }
    familiar = ("i am a", "i live in")
    for kind, prompts in found.items():
        for prompt in prompts:
            facts = facts_of(prompt)
            numbers = [task.values[fact].index(value) for fact, value in facts.items()]
            assert sum(numbers) % task.values_per_fact == 0  # people of the evaluation
            assert all((words in prompt) == (kind != "words turned round") for words in familiar)
            assert all(word in task.tokenizer.ids for word in prompt.split())
            best = "a {job} in {city} who loves {hobby}".format(**facts)
            assert task.gold(prompt, best) == 3.0
    traps = ("my sister", "my boss", "my brother")
    assert all(sum(prompt.count(who) for who in traps) == 2 for prompt in found["two traps"])
    assert all(sum(one in prompt for one in NOISE) == 2 for prompt in found["more noise"])
    assert found == task.unfamiliar_prompts(40, rng=random.Random(0))
    assert found["two traps"] != found["more noise"]
