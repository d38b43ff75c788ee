"""The default task: posts and their summaries, in the spirit of Learning to Summarize
(arXiv:2009.01325).

A post tells three facts about its writer (job, city, hobby) in any order, next to a sentence that
does not matter, and half of the posts hold a trap: the city or the hobby of somebody else. A good
summary tells the three facts, truly, in one order, and nothing else:

    post     dinner was good . i love chess . my sister lives in oslo . i am a baker . i live in
             rome . tl;dr :
    summary  a baker in rome who loves chess

The demonstrations leave facts out, get them wrong, jumble them and add filler words, so the
fine-tuned model does too.

The pretraining text has two kinds of documents. One restates a post's facts, all and truly ("facts
:"): a small GPT learns from it where a fact is. The other asks whom things are true of
("questions : in rome me who loves tennis nobody"): this teaches to look a thing up in the post and
to tell the writer from a trap, which is what a reward model has to do for every clause of a
summary. No text of any stage says which summary is good.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from minippo.tasks.base import Example, Segment, Task
from minippo.tokenizer import WordTokenizer

FACTS = ("job", "city", "hobby")
VALUES = {
    "job": ("baker", "nurse", "pilot", "teacher", "farmer", "lawyer"),
    "city": ("rome", "oslo", "paris", "cairo", "lima", "delhi"),
    "hobby": ("chess", "tennis", "music", "hiking", "films", "poetry"),
}
# how a post tells a fact
SENTENCES = {"job": "i am a {} .", "city": "i live in {} .", "hobby": "i love {} ."}
# the same in an order of words that no training stage shows
TURNED_ROUND = {"job": "a {} i am .", "city": "in {} i live .", "hobby": "{} i love ."}
# how a summary tells it
CLAUSES = {"job": "a {}", "city": "in {}", "hobby": "who loves {}"}
TRAPS = {  # the same about somebody else: (who, sentence)
    "city": (("sister", "my sister lives in {} ."), ("boss", "my boss is from {} .")),
    "hobby": (("brother", "my brother enjoys {} ."), ("sister", "my sister loves {} .")),
}
NOISE = (
    "it rains today .",
    "the bus was late .",
    "my cat is asleep .",
    "dinner was good .",
    "the news is on .",
)
FILLERS = ("so", "well", "basically", "really", "just")
CUE = "tl;dr :"
TRAP_SHARE = 0.5
QUESTIONS_PER_DOCUMENT = 4
QUESTION_SHARE = 0.85  # of the documents, after the first steps
TRAPS_FROM = 100  # step of pretraining; before it no post holds a trap
# steps of pretraining with restatements only: finding facts comes before doubting them
RESTATEMENTS_FIRST = 40


@dataclass(frozen=True)
class Habits:
    """How often a writer leaves a fact out, gets it wrong, adds a filler word to a clause, and
    jumbles the clauses."""

    omit: float
    err: float
    pad: float
    jumble: float


AVERAGE = Habits(omit=0.2, err=0.15, pad=0.12, jumble=0.2)
PERFECT = Habits(omit=0.0, err=0.0, pad=0.0, jumble=0.0)


@dataclass(frozen=True)
class Post:
    """The facts about the writer; about somebody else, (fact, who, value) or None; and the
    sentences, in their order."""

    facts: dict
    trap: tuple | None
    body: str


class Tldr(Task):
    """Posts and summaries with `values_per_fact` jobs, cities and hobbies.

    One in `values_per_fact` combinations of job, city and hobby (the three numbers of which sum to
    a multiple of it) is in no training post: evaluation posts are about those people only.
    """

    name = "tldr"
    document_length = 64
    prompt_length = 28
    gold_max = 3.0

    def __init__(self, values_per_fact: int = 5) -> None:
        self.values = {fact: VALUES[fact][:values_per_fact] for fact in FACTS}
        self.values_per_fact = values_per_fact
        self.tokenizer = WordTokenizer(self._words())

    # -- the texts

    def pretraining_examples(self, n: int, *, step: int, rng: Random) -> list[Example]:
        share = 0.0 if step < RESTATEMENTS_FIRST else QUESTION_SHARE
        trap_share = 0.0 if step < TRAPS_FROM else TRAP_SHARE
        posts = [self.write_post(rng, trap_share=trap_share) for _ in range(n)]
        return [
            self.document(
                self._questions(post, rng) if rng.random() < share else self._restatement(post, rng)
            )
            for post in posts
        ]

    def demonstrations(self, n: int, *, rng: Random) -> list[tuple[str, str]]:
        posts = [self.write_post(rng) for _ in range(n)]
        return [(prompt_of(post), self.write_summary(post.facts, AVERAGE, rng)) for post in posts]

    def training_prompts(self, n: int, *, rng: Random) -> list[str]:
        return [prompt_of(self.write_post(rng)) for _ in range(n)]

    def evaluation_prompts(self, n: int, *, rng: Random) -> list[str]:
        prompts = {}
        for _ in range(20 * n):  # a small world has fewer different posts than one may ask for
            prompts[prompt_of(self.write_post(rng, for_evaluation=True))] = None
            if len(prompts) == n:
                break
        return list(prompts)

    def unfamiliar_prompts(self, n: int, *, rng: Random) -> dict[str, list[str]]:
        """Posts about the people of the evaluation whose sentences are told the other way round, or
        that hold more than training posts do: two traps, or two sentences of noise."""
        found: dict[str, list[str]] = {"words turned round": [], "two traps": [], "more noise": []}
        for _ in range(n):
            facts = self._draw_facts(rng, for_evaluation=True)
            plain = [SENTENCES[fact].format(value) for fact, value in facts.items()]
            turned = [TURNED_ROUND[fact].format(value) for fact, value in facts.items()]
            noise = rng.sample(NOISE, 2)
            traps = [
                rng.choice(TRAPS[fact])[1].format(rng.choice(self._others(fact, facts[fact])))
                for fact in TRAPS
            ]
            posts = ([*turned, noise[0]], [*plain, noise[0], *traps], [*plain, *noise])
            for kind, sentences in zip(found, posts, strict=True):
                rng.shuffle(sentences)
                found[kind].append(f"{' '.join(sentences)} {CUE}")
        return found

    def write_post(
        self, rng: Random, for_evaluation: bool = False, trap_share: float = TRAP_SHARE
    ) -> Post:
        """Three facts, a trap in `trap_share` of the posts, and one sentence of noise, in any
        order."""
        facts = self._draw_facts(rng, for_evaluation)
        sentences = [SENTENCES[fact].format(value) for fact, value in facts.items()]
        trap = None
        if rng.random() < trap_share:
            fact = rng.choice(tuple(TRAPS))
            who, sentence = rng.choice(TRAPS[fact])
            trap = (fact, who, rng.choice(self._others(fact, facts[fact])))
            sentences.append(sentence.format(trap[2]))
        sentences.append(rng.choice(NOISE))
        rng.shuffle(sentences)
        return Post(facts, trap, " ".join(sentences))

    def write_summary(self, facts: Mapping[str, str], habits: Habits, rng: Random) -> str:
        """A summary of these facts by a writer of these habits."""
        clauses = []
        for fact, value in facts.items():
            if rng.random() < habits.omit:
                continue
            told = rng.choice(self._others(fact, value)) if rng.random() < habits.err else value
            clause = CLAUSES[fact].format(told)
            clauses.append(
                f"{rng.choice(FILLERS)} {clause}" if rng.random() < habits.pad else clause
            )
        if rng.random() < habits.jumble:
            rng.shuffle(clauses)
        return " ".join(clauses)

    def _restatement(self, post, rng):
        return [
            Segment(f"{post.body} facts :", False),
            Segment(self.write_summary(post.facts, PERFECT, rng), True),
        ]

    def _questions(self, post, rng):
        segments = [Segment(f"{post.body} questions :", False)]
        for _ in range(QUESTIONS_PER_DOCUMENT):
            fact, value, who = self._draw_question(post, rng)
            segments += [Segment(CLAUSES[fact].format(value), False), Segment(who, True)]
        return segments

    def _draw_question(self, post, rng):
        """(fact, value, whom it is true of): the writer, the person of the trap, or nobody."""
        kind, fact = rng.random(), rng.choice(FACTS)
        if kind < 0.4:
            return fact, post.facts[fact], "me"
        if kind < 0.55 and post.trap is not None:
            fact, who, value = post.trap
            return fact, value, who
        value = rng.choice(self._others(fact, post.facts[fact]))
        if post.trap is not None and (fact, value) == (post.trap[0], post.trap[2]):
            return fact, value, post.trap[1]
        return fact, value, "nobody"

    # -- the rule

    def gold_axes(self, prompt: str, response: str) -> dict[str, float]:
        """The points of a summary on each axis; their sum is the gold score, at most 3.

        coverage   +1 for each of the three facts that it says something about
        accuracy   -2 for each of those that it gets wrong, once or more
        coherence  -1 unless it is nothing but clauses (fillers aside), each fact at most once, in
                   the order of FACTS, and none that is not wanted
        brevity    -0.25 for every word that is not part of the first clause about a fact
        """
        facts, (told, is_well_formed) = facts_of(prompt), self._parse_summary(response)
        mentioned = [fact for fact in self._wanted(prompt) if fact in dict(told)]
        wrong = {fact for fact, value in told if value != facts[fact]}
        in_order = [fact for fact, _ in told] == mentioned
        needed = sum(len(CLAUSES[fact].split()) for fact in mentioned)
        return {
            "coverage": float(len(mentioned)),
            "accuracy": -2.0 * len(wrong),
            "coherence": 0.0 if is_well_formed and in_order and told else -1.0,
            "brevity": -0.25 * (len(response.split()) - needed),
        }

    def _wanted(self, prompt):
        """The facts that a summary is to tell, in their order."""
        return FACTS

    def claims(self, prompt: str, response: str) -> list[bool]:
        """Every different clause of a summary is a claim about the post's writer."""
        facts = facts_of(prompt)
        told, _ = self._parse_summary(response)
        return [facts[fact] == value for fact, value in dict.fromkeys(told)]

    def rules(self) -> Mapping[str, Callable[[str, str], bool]]:
        """What a good summary does, one rule for each thing."""

        def tells(fact: str) -> Callable[[str, str], bool]:
            return lambda prompt, response: any(
                name == fact for name, _ in self._parse_summary(response)[0]
            )

        return {f"tells_the_{fact}": tells(fact) for fact in FACTS} | {
            "tells_nothing_false": lambda prompt, response: all(self.claims(prompt, response)),
            "only_clauses": lambda prompt, response: self._parse_summary(response)[1],
        }

    def _parse_summary(self, summary):
        """The clauses, [(fact, value), ...], and whether nothing else than clauses and fillers
        stands there."""
        told, is_well_formed, rest = [], True, summary.split()
        while rest:
            for fact in FACTS:
                *opening, _ = CLAUSES[fact].split()
                n = len(opening)
                if rest[:n] == opening and len(rest) > n and rest[n] in self.values[fact]:
                    told.append((fact, rest[n]))
                    rest = rest[n + 1 :]
                    break
            else:
                is_well_formed = is_well_formed and rest[0] in FILLERS
                rest = rest[1:]
        return told, is_well_formed

    # -- the world

    def _draw_facts(self, rng, for_evaluation):
        while True:
            numbers = [rng.randrange(self.values_per_fact) for _ in FACTS]
            if (sum(numbers) % self.values_per_fact == 0) == for_evaluation:
                return {
                    fact: self.values[fact][number]
                    for fact, number in zip(FACTS, numbers, strict=True)
                }

    def _others(self, fact, value):
        return [other for other in self.values[fact] if other != value]

    def _words(self):
        """Every word of the world, in a fixed order."""
        texts = [CUE, "facts questions : me nobody", *NOISE, *FILLERS]
        for fact in FACTS:
            patterns = [
                SENTENCES[fact],
                CLAUSES[fact],
                *(sentence for _, sentence in TRAPS.get(fact, ())),
            ]
            texts += [pattern.format(value) for pattern in patterns for value in self.values[fact]]
        texts += [who for traps in TRAPS.values() for who, _ in traps]
        return sorted({word for text in texts for word in text.split()})


def prompt_of(post: Post) -> str:
    return f"{post.body} {CUE}"


def facts_of(prompt: str) -> dict[str, str]:
    """What a post says about its writer, {fact: value}."""
    return {fact: _value_in(prompt, fact) for fact in FACTS}


def _value_in(prompt: str, fact: str) -> str:
    for sentence in (SENTENCES[fact], TURNED_ROUND[fact]):
        pattern = r"\b" + re.escape(sentence).replace(r"\{\}", r"(\w+)")
        if match := re.search(pattern, prompt):
            return match[1]
    raise ValueError(f"the prompt does not tell its writer's {fact}")
