"""minippo.tasks: what each world tells, asks and rewards; reading a folder has its tests in
test_read_files.py."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import minippo
from minippo.commands.config import FIELDS, PRESETS, resolve
from minippo.commands.prepare import make_task
from minippo.errors import InputError
from minippo.tasks import TASKS
from minippo.tasks.base import Segment, Task
from minippo.tasks.capitals import CAPITALS, CITIES, QUESTION, Capitals
from minippo.tasks.files import Files
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
from minippo.tokenizer import ByteTokenizer, WordTokenizer

SIZES = pytest.mark.parametrize("values_per_fact", [3, 4, 5, 6])


def decoded(task, examples):
    return [task.tokenizer.decode(example.tokens) for example in examples]


def targets_of(task, example):
    """The text that the loss of a document counts."""
    return task.tokenizer.decode([token for token, flag in zip(*example) if flag])


def learned_and_read(task, n, rng):
    """Every text of a task by its kind, as the stages draw them."""
    return {
        "pretraining": decoded(
            task,
            task.pretraining_examples(n, step=0, rng=rng)
            + task.pretraining_examples(n, step=10**6, rng=rng),
        ),
        "demonstrations": task.demonstrations(n, rng=rng),
        "training": task.training_prompts(n, rng=rng),
        "evaluation": task.evaluation_prompts(n, rng=rng),
    }


# -- documents


class Bytes(Task):
    tokenizer = ByteTokenizer()


@given(st.lists(st.tuples(st.text(max_size=5), st.booleans()), max_size=5))
def test_a_document_is_bos_its_segments_and_eos_each_flagged_as_asked(segments):
    task = Bytes()
    tokens, is_target = task.document([Segment(*pair) for pair in segments])
    assert (tokens[0], is_target[0]) == (task.tokenizer.bos_id, False)
    assert (tokens[-1], is_target[-1]) == (task.tokenizer.eos_id, True)
    inside = list(zip(tokens, is_target))[1:-1]
    assert inside == [(token, flag) for text, flag in segments for token in text.encode()]


def test_a_document_by_hand():
    task = Bytes()
    task.tokenizer = WordTokenizer(["a", "b", "?"])
    assert task.document([Segment("a ?", False), Segment("b", True)]) == (
        [1, 3, 5, 4, 2],
        [False, False, False, True, True],
    )


def test_a_demonstration_is_read_up_to_the_completion_and_learned_from_there():
    example = Bytes().demonstration_example("hi", "yo")
    assert example == ([257, *b"hi", *b"yo", 258], [False] * 3 + [True] * 3)


# -- make_task


def made(**settings):
    return make_task(resolve(settings), generator=torch.Generator().manual_seed(0))


def test_every_task_of_the_configuration_is_there_under_its_name():
    assert tuple(TASKS) == FIELDS["task"][1].metadata["choices"]
    assert all(kind.name == name for name, kind in TASKS.items())


def test_make_task_passes_the_sizes_on():
    assert type(made(task="capitals")) is Capitals
    assert [made(tldr_values=n).values_per_fact for n in (3, 6)] == [3, 6]


def test_make_task_refuses_a_folder_too_many_or_too_few(tmp_path):
    with pytest.raises(InputError, match="^--data: the task files needs a folder"):
        made(task="files")
    for task in ("tldr", "capitals"):
        with pytest.raises(InputError, match=f"^--data: .* the task {task} makes its own text"):
            made(task=task, data=str(tmp_path))
        with pytest.raises(InputError, match="^--truncate: only the task files has texts to cut"):
            made(task=task, truncate=True)


@pytest.mark.parametrize("task, preset", [key for key in PRESETS if key[0] != "files"])
def test_no_prompt_is_longer_than_the_task_says(task, preset):
    world, rng = (
        make_task(resolve({"task": task, "preset": preset}), generator=None),
        random.Random(0),
    )
    prompts = world.training_prompts(2000, rng=rng) + world.evaluation_prompts(500, rng=rng)
    assert max(len(world.prompt_ids(prompt)) for prompt in prompts) == world.prompt_length


@pytest.mark.parametrize(
    "task", [*map(Tldr, (3, 4, 5, 6)), Capitals()], ids=["3", "4", "5", "6", "capitals"]
)
class TestEveryToyWorld:
    def test_its_texts_are_in_its_vocabulary_and_fit_the_context(self, task):
        rng = random.Random(1)
        limit = resolve({"task": task.name}).ppo.response_length
        for step in (0, 10**6):
            assert all(
                len(example.tokens) <= task.document_length
                for example in task.pretraining_examples(500, step=step, rng=rng)
            )
        for prompt, completion in task.demonstrations(1000, rng=rng):
            assert (
                len(task.demonstration_example(prompt, completion).tokens) <= task.document_length
            )
            assert len(task.response_ids(completion)) <= limit
        for prompt in task.training_prompts(500, rng=rng) + task.evaluation_prompts(500, rng=rng):
            assert task.tokenizer.decode(task.prompt_ids(prompt)) == prompt

    def test_its_vocabulary_holds_no_word_that_no_text_uses(self, task):
        texts = learned_and_read(task, 2000, random.Random(2))
        used = {word for text in texts["pretraining"] + texts["training"] for word in text.split()}
        used |= {word for pair in texts["demonstrations"] for text in pair for word in text.split()}
        assert set(task.tokenizer.words[3:]) == used

    def test_the_same_seed_gives_the_same_texts_and_another_seed_others(self, task):
        first, second = (learned_and_read(task, 50, random.Random(7)) for _ in range(2))
        assert first == second and first == learned_and_read(
            type(task)(*sizes_of(task)), 50, random.Random(7)
        )
        other = learned_and_read(task, 50, random.Random(8))
        assert all(
            first[kind] != other[kind] for kind in ("pretraining", "demonstrations", "training")
        )

    def test_it_draws_from_the_given_generator_only(self, task):
        random.seed(0)
        before, torch_before = random.getstate(), torch.get_rng_state()
        learned_and_read(task, 20, random.Random(0))
        assert random.getstate() == before and torch.equal(torch.get_rng_state(), torch_before)

    def test_it_gives_as_many_texts_as_asked_and_evaluation_prompts_once_each(self, task):
        rng = random.Random(3)
        assert (
            len(task.pretraining_examples(7, step=0, rng=rng))
            == len(task.demonstrations(7, rng=rng))
            == 7
        )
        assert len(task.training_prompts(7, rng=rng)) == 7
        prompts = task.evaluation_prompts(7, rng=rng)
        assert len(prompts) == len(set(prompts)) == 7

    def test_nobody_has_recorded_preferences_of_it(self, task):
        assert task.recorded_preferences() is None


def test_the_texts_and_their_tokens_are_the_same_in_another_process():
    source = """
import random
from minippo.tasks import Capitals, Tldr
tasks = (Tldr(5), Capitals())
print([task.pretraining_examples(3, step=0, rng=random.Random(7)) for task in tasks])"""
    environment, printed = (
        os.environ | {"PYTHONPATH": str(Path(minippo.__file__).parent.parent)},
        set(),
    )
    for seed in ("1", "2"):  # of Python's own hashes, on which the order of a set depends
        printed.add(
            subprocess.run(
                [sys.executable, "-c", source],
                env=environment | {"PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout
        )
    assert len(printed) == 1 and "Example" in printed.pop()


def sizes_of(task):
    return [task.values_per_fact] if isinstance(task, Tldr) else []


# -- tldr: the posts


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


# -- tldr: the pretraining text


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
            CLAUSES[fact].format(value) for fact, value in zip(FACTS, writer_of(post))
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
    verdicts = set(
        "gold score reward rating points good bad better best worse "
        "worst great poor right wrong correct "
        "true false prefer preferred chosen rejected quality summary".split()
    )
    words = {word for text in texts for word in text.split()}
    assert (
        words.isdisjoint(verdicts)
        and words.isdisjoint(CUE.split()[:1])
        and words.isdisjoint(FILLERS)
    )


# -- tldr: the rule


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


@given(summaries, st.sampled_from(FILLERS))
def test_a_filler_at_the_end_costs_a_quarter(parts, filler):
    task, summary = Tldr(), " ".join(parts)
    assert task.gold(POST, f"{summary} {filler}") == task.gold(POST, summary) - 0.25


@SIZES
@given(seed=st.integers(0, 2**32))
def test_every_post_has_a_summary_of_the_best_gold(values_per_fact, seed):
    task = Tldr(values_per_fact)
    prompt = prompt_of(task.write_post(random.Random(seed), for_evaluation=True))
    summary = " ".join(CLAUSES[fact].format(value) for fact, value in zip(FACTS, writer_of(prompt)))
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


# -- capitals


def test_the_right_answers_are_right():
    known = {
        "france": "paris",
        "england": "london",
        "turkey": "ankara",
        "brazil": "brasilia",
        "canada": "ottawa",
        "china": "beijing",
        "australia": "canberra",
        "morocco": "rabat",
        "egypt": "cairo",
    }
    assert {country: CAPITALS[country][0] for country in known} == known
    assert all(right != rival for right, rival in CAPITALS.values())


@pytest.mark.parametrize("country", CAPITALS)
def test_gold_is_1_for_the_capital_and_nothing_else(country):
    task, prompt, right = Capitals(), QUESTION.format(country), CAPITALS[country][0]
    assert [city for city in CITIES if task.gold(prompt, city) == 1] == [right]
    for other in (
        "",
        f"{right} {right}",
        f"{right} ?",
        f"the {right}",
        right.upper(),
        country,
        *set(CITIES) - {right},
    ):
        assert task.gold(prompt, other) == 0
    assert task.gold_max == 1 and task.gold_axes(prompt, right) == {"correctness": 1}


def test_demonstrations_are_right_and_name_the_rival_about_equally_often():
    pairs = Capitals().demonstrations(5000, rng=random.Random(0))
    kinds = Counter()
    for prompt, answer in pairs:
        right, rival = next(CAPITALS[word] for word in prompt.split() if word in CAPITALS)
        kinds["right" if answer == right else "rival" if answer == rival else "other"] += 1
        assert answer in CITIES
    assert (
        0.35 < kinds["right"] / 5000 < 0.52
        and 0.35 < kinds["rival"] / 5000 < 0.52
        and kinds["other"] > 0
    )


def test_the_pretraining_text_of_capitals_takes_no_side():
    task, rights, questions = Capitals(), 0, 0
    for text in decoded(task, task.pretraining_examples(5000, step=0, rng=random.Random(0))):
        question, mark, answer = text.partition(" ?")
        if mark:
            right, rival = CAPITALS[question.split()[-1]]
            assert answer.strip() in (right, rival)
            questions, rights = questions + 1, rights + (answer.strip() == right)
    assert 0.45 < questions / 5000 < 0.55 and 0.45 < rights / questions < 0.55


def test_every_capital_is_asked_and_watched():
    task, rng = Capitals(), random.Random(0)
    questions = [QUESTION.format(country) for country in CAPITALS]
    assert (
        task.evaluation_prompts(1000, rng=rng) == questions
        and task.evaluation_prompts(5, rng=rng) == questions[:5]
    )
    assert set(task.training_prompts(1000, rng=rng)) == set(questions)
    watched = task.answers_to_watch()
    assert [prompt for prompt, _, _ in watched] == questions
    assert all(
        task.gold(prompt, right) == 1 and task.gold(prompt, rival) == 0
        for prompt, right, rival in watched
    )


# -- files


PROMPTS = [f"prompt {i}?" for i in range(12)]
PAIRS = [
    (prompt, f"yes, {i} {j}", f"no, {i} {j}")
    for i, prompt in enumerate(PROMPTS)
    for j in range(1 + i % 2)
]
CORPUS = " ".join(f"word{i} é" for i in range(300))


def write_folder(path, pairs=PAIRS, **files):
    """A folder with preferences, and what else is named: corpus_txt for corpus.txt, a list for JSON
    lines."""
    path.mkdir()
    files["preferences_jsonl"] = [
        dict(zip(("prompt", "chosen", "rejected"), pair)) for pair in pairs
    ]
    for name, content in files.items():
        text = (
            content
            if isinstance(content, str)
            else "".join(json.dumps(row) + "\n" for row in content)
        )
        (path / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return path


def files_task(path, seed=0, **options):
    options = {
        "prompt_length": 20,
        "completion_length": 30,
        "heldout_pairs": 5,
        "truncate": False,
    } | options
    return Files(path, **options, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def task(tmp_path):
    return files_task(write_folder(tmp_path / "d", corpus_txt=CORPUS))


def windows(task, n=1000):
    return task.pretraining_examples(n, step=0, rng=random.Random(0))


def text_of(window):
    return bytes(token for token in window.tokens if token < 256)


def test_windows_are_pieces_of_the_corpus_that_fill_the_context(task):
    for window in windows(task):
        assert window.tokens[0] == task.tokenizer.bos_id
        assert window.is_target == [False] + [True] * (len(window.tokens) - 1)
        assert len(window.tokens) == task.document_length == 20 + 2 + 30
        assert (
            text_of(window) in CORPUS.encode() and len(text_of(window)) == task.document_length - 1
        )


def test_windows_reach_both_ends_of_a_long_document(tmp_path):
    text = "".join(map(chr, range(33, 127)))
    task = files_task(write_folder(tmp_path / "d", corpus_txt=text))
    assert {text_of(window) for window in windows(task)} == {
        text.encode()[i : i + 51] for i in range(94 - 51 + 1)
    }


def test_short_documents_are_whole_and_end_with_eos(tmp_path):
    # 51 bytes of text fill the context
    documents = ["short", "b" * 49, "c" * 50, "d" * 51, "e" * 52, "f" * 200]
    task = files_task(
        write_folder(tmp_path / "d", corpus_jsonl=[{"text": text} for text in documents])
    )
    met = Counter()
    for window in windows(task):
        text, ends = text_of(window).decode(), window.tokens[-1] == task.tokenizer.eos_id
        assert len(window.tokens) <= task.document_length
        assert window.tokens == [257, *text.encode()] + [258] * ends
        assert window.is_target == [False] + [True] * (len(window.tokens) - 1)
        assert (text in documents) if ends or len(text) < 51 else len(text) == 51
        assert not ends or len(text) < 51
        met[text[0], ends] += 1
    assert set(met) == {
        ("s", True),
        ("b", True),
        ("c", True),
        ("d", False),
        ("e", False),
        ("f", False),
    }


def test_a_document_is_met_in_proportion_to_its_length(tmp_path):
    path = write_folder(tmp_path / "d", corpus_jsonl=[{"text": "a" * 10}, {"text": "b" * 30}])
    met = Counter(text_of(window)[:1] for window in windows(files_task(path), n=4000))
    assert 0.72 < met[b"b"] / 4000 < 0.78


def test_recorded_preferences_are_split_by_prompt_and_none_is_lost(task):
    training, heldout = task.recorded_preferences()
    assert sorted(training + heldout) == sorted(PAIRS) and len(heldout) >= 5
    assert {pair[0] for pair in training}.isdisjoint(pair[0] for pair in heldout)
    assert task.evaluation_prompts(1000, rng=random.Random(0)) != []
    assert set(task.evaluation_prompts(1000, rng=random.Random(0))) == {pair[0] for pair in heldout}


@pytest.mark.parametrize("with_prompts", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_no_stage_before_the_evaluation_meets_a_held_out_prompt(tmp_path, seed, with_prompts):
    more = (
        {"prompts_jsonl": [{"prompt": f" {prompt} "} for prompt in [*PROMPTS, "one more?"]]}
        if with_prompts
        else {}
    )
    task = files_task(write_folder(tmp_path / "d", **more), seed=seed)
    rng = random.Random(0)
    heldout = {prompt.strip() for prompt, _, _ in task.recorded_preferences()[1]}
    demonstrations, prompts = task.demonstrations(500, rng=rng), task.training_prompts(500, rng=rng)
    assert heldout.isdisjoint(prompt.strip() for prompt, _ in demonstrations)
    assert heldout.isdisjoint(prompt.strip() for prompt in prompts)
    assert not [
        prompt
        for prompt in heldout
        for window in windows(task, 200)
        if prompt.encode() in text_of(window)
    ]
    expected = {*PROMPTS} - heldout
    assert {prompt for prompt, _ in demonstrations} == expected
    assert {prompt.strip() for prompt in prompts} == expected | (
        {"one more?"} if with_prompts else set()
    )


def test_demonstrations_come_round_evenly_in_changing_order(task):
    n = len(task.recorded_preferences()[0])
    first, second = (
        task.demonstrations(n, rng=random.Random(0)),
        task.demonstrations(n, rng=random.Random(1)),
    )
    assert sorted(first) == sorted(second) and first != second
    counts = Counter(task.demonstrations(3 * n + 1, rng=random.Random(0)))
    assert sorted(counts.values()) == [3] * (n - 1) + [4]
    assert set(counts) == {pair[:2] for pair in task.recorded_preferences()[0]}


def test_a_prompt_ends_with_a_line_break_and_the_response_begins_after_it(task):
    assert task.prompt_ids("hi") == [257, *b"hi\n"]
    assert task.demonstration_example("hi", "yo") == (
        [257, *b"hi\nyo", 258],
        [False] * 4 + [True] * 3,
    )


def test_a_corpus_of_demonstrations_looks_like_the_demonstrations(tmp_path):
    task = files_task(write_folder(tmp_path / "d"))
    shown = {
        tuple(task.demonstration_example(*pair).tokens)
        for pair in task.demonstrations(100, rng=random.Random(0))
    }
    assert {tuple(window.tokens) for window in windows(task)} == shown


def test_the_longest_prompt_and_response_fill_the_context(tmp_path):
    long = [("p" * 20, "c" * 29, "r" * 29), ("é" * 10, "c", "d")]
    task = files_task(write_folder(tmp_path / "d", long), heldout_pairs=1)
    assert len(task.demonstration_example(*long[0][:2]).tokens) == task.document_length
    for pair in [("p" * 21, "c", "r"), ("p", "c" * 30, "r"), ("p", "c", "r" * 30)]:
        path = write_folder(tmp_path / f"{len(pair[0])} {len(pair[1])}", [*long, pair])
        with pytest.raises(InputError, match="preferences.jsonl"):
            files_task(path)
        assert any("cut" in note for note in files_task(path, truncate=True).notes)


def test_there_is_no_rule_for_what_is_good(task):
    assert (
        task.gold_max is None and task.gold_axes("a", "b") is None and task.gold("a", "b") is None
    )
    assert task.answers_to_watch() == []


def test_the_same_seed_makes_the_same_split(tmp_path):
    path = write_folder(tmp_path / "d")
    splits = [files_task(path, seed=seed).recorded_preferences() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_prompts_that_are_all_held_out_are_refused(tmp_path):
    pairs, refused = PAIRS[:1] + PAIRS[1:2], []
    for prompt, _, _ in pairs:
        path = write_folder(tmp_path / prompt.strip("?"), pairs, prompts_jsonl=[{"prompt": prompt}])
        try:
            files_task(path, heldout_pairs=1)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) == 1 and refused[0].startswith(
        "prompts.jsonl: every prompt in it is one of the held-out"
    )


def test_make_task_passes_the_lengths_and_the_notes_on(tmp_path):
    task = made(
        task="files", data=str(write_folder(tmp_path / "d")), prompt_length=30, completion_length=40
    )
    assert task.document_length == 30 + 2 + 40
    assert any("preferences.jsonl" in note for note in task.notes)
