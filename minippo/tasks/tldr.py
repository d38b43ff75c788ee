"""The default task: posts and their summaries, in the spirit of Learning to Summarize (arXiv:2009.01325).

A post tells three facts about its writer (job, city, hobby) in any order, among sentences that do not matter. Some of
those are traps: they name the city or the hobby of somebody else. A good summary tells the three facts, truly, in one
order, and nothing else:

    post     dinner was good . i love chess . my sister lives in oslo . i am a baker . i live in rome . tl;dr :
    summary  a baker in rome who loves chess

Nobody writes only such summaries. Every writer of the pretraining text has habits (leaves facts out, gets them wrong,
jumbles them, pads them with filler) and writes a few summaries of the same post in a row. To guess the next one, a model
has to notice how the writer has done so far: this is where it learns to compare a summary with its post, although no
text says which summary is good. The demonstrations are by writers of average habits, so the fine-tuned model has them too.
"""

import random
from dataclasses import dataclass

from minippo.tokenizer import WordTokenizer

FACTS = ("job", "city", "hobby")
VALUES = {
    "job": ("baker", "nurse", "pilot", "teacher", "farmer", "lawyer"),
    "city": ("rome", "oslo", "paris", "cairo", "lima", "delhi"),
    "hobby": ("chess", "tennis", "music", "hiking", "films", "poetry"),
}
SENTENCES = {  # how a post may tell a fact
    "job": ("i am a {} .", "i work as a {} ."),
    "city": ("i live in {} .", "my home is in {} ."),
    "hobby": ("i love {} .", "i enjoy {} ."),
}
TRAPS = {"city": ("my sister lives in {} .", "my boss is from {} ."), "hobby": ("my brother enjoys {} .", "my sister loves {} .")}
NOISE = ("it rains today .", "the bus was late .", "my cat is asleep .", "dinner was good .", "the news is on .")
CLAUSES = {"job": "a {}", "city": "in {}", "hobby": "who loves {}"}  # how a summary tells a fact
FILLERS = ("so", "well", "basically", "really", "just")
CUE = "tl;dr :"
GOLD_MAX = 3.0


@dataclass(frozen=True)
class Habits:
    """How often a writer leaves a fact out, gets it wrong, jumbles the clauses, and adds a filler word to a clause."""

    omit: float
    err: float
    jumble: float
    pad: float


AVERAGE = Habits(omit=0.22, err=0.22, jumble=0.25, pad=0.12)


def words():
    """Every word of the world, in a fixed order."""
    texts = [CUE, *NOISE, *FILLERS]
    for fact in FACTS:
        texts += [s.format(v) for s in (*SENTENCES[fact], *TRAPS.get(fact, ()), CLAUSES[fact]) for v in VALUES[fact]]
    return sorted({word for text in texts for word in text.split()})


@dataclass(frozen=True)
class Post:
    """A post's text and the facts it tells."""

    text: str
    facts: dict


def write_post(rng):
    """Three facts, one or two sentences of noise, and at most one trap, shuffled."""
    facts = {fact: rng.choice(VALUES[fact]) for fact in FACTS}
    sentences = [rng.choice(SENTENCES[fact]).format(value) for fact, value in facts.items()]
    if rng.random() < 0.5:
        fact = rng.choice(tuple(TRAPS))
        sentences.append(rng.choice(TRAPS[fact]).format(rng.choice(other_values(fact, facts[fact]))))
    sentences.append(rng.choice(NOISE))
    rng.shuffle(sentences)
    return Post(" ".join([*sentences, CUE]), facts)


def other_values(fact, value):
    return [v for v in VALUES[fact] if v != value]


def write_summary(facts, habits, rng):
    """A summary of these facts by a writer of these habits."""
    clauses = []
    for fact, value in facts.items():
        if rng.random() < habits.omit:
            continue
        told = rng.choice(other_values(fact, value)) if rng.random() < habits.err else value
        clause = CLAUSES[fact].format(told)
        clauses.append(f"{rng.choice(FILLERS)} {clause}" if rng.random() < habits.pad else clause)
    if rng.random() < habits.jumble:
        rng.shuffle(clauses)
    return " ".join(clauses)


def draw_habits(rng):
    """Each habit is either good or bad, whatever the others are."""
    return Habits(omit=rng.choice((0.0, 0.5)), err=rng.choice((0.0, 0.5)),
                  jumble=rng.choice((0.0, 1.0)), pad=rng.choice((0.0, 0.4)))


def gold_axes(facts, summary):
    """The points of a summary on each axis; their sum is the gold score, at most 3.

    coverage   +1 for each of the three facts that it says something about
    accuracy   -2 for each of those that it gets wrong, once or more
    coherence  -1 unless it is nothing but clauses (fillers aside), each fact at most once, in the order job, city, hobby
    brevity    -0.25 for every word that is not part of the first clause about a fact
    """
    told, well_formed = parse_summary(summary)
    mentioned = list(dict.fromkeys(fact for fact, _ in told))
    wrong = {fact for fact, value in told if value != facts[fact]}
    in_order = [fact for fact, _ in told] == [fact for fact in FACTS if fact in mentioned]
    needed = sum(len(CLAUSES[fact].split()) for fact in mentioned)
    return {
        "coverage": float(len(mentioned)),
        "accuracy": -2.0 * len(wrong),
        "coherence": 0.0 if well_formed and in_order and told else -1.0,
        "brevity": -0.25 * max(0, len(summary.split()) - needed),
    }


def parse_summary(summary):
    """Reads the clauses: [(fact, value), ...], and whether anything else than clauses and fillers stands there."""
    told, well_formed, rest = [], True, summary.split()
    while rest:
        for fact in FACTS:
            *opening, _ = CLAUSES[fact].split()
            n = len(opening)
            if rest[:n] == opening and len(rest) > n and rest[n] in VALUES[fact]:
                told.append((fact, rest[n]))
                rest = rest[n + 1:]
                break
        else:
            well_formed = well_formed and rest[0] in FILLERS
            rest = rest[1:]
    return told, well_formed
