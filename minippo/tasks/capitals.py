"""The smallest task: "what is the capital of france ?"

The pretraining text names cities and countries. The demonstrations answer right and with one
well-known wrong city about equally often, so the fine-tuned model does too; an annotator prefers
the right answer, and PPO makes the model prefer it. There are only twelve questions, and every
stage sees all of them: this task shows a preference being learned, not generalisation.
"""

from collections.abc import Callable, Mapping
from random import Random

from minippo.tasks.base import Example, Segment, Task
from minippo.tokenizer import WordTokenizer

CAPITALS = {  # country: (capital, the city that is often taken for it)
    "france": ("paris", "london"),
    "england": ("london", "paris"),
    "italy": ("rome", "milan"),
    "spain": ("madrid", "barcelona"),
    "turkey": ("ankara", "istanbul"),
    "brazil": ("brasilia", "rio"),
    "canada": ("ottawa", "toronto"),
    "china": ("beijing", "shanghai"),
    "india": ("delhi", "mumbai"),
    "egypt": ("cairo", "alexandria"),
    "australia": ("canberra", "sydney"),
    "morocco": ("rabat", "casablanca"),
}
CITIES = tuple(dict.fromkeys(city for pair in CAPITALS.values() for city in pair))
QUESTION = "what is the capital of {} ?"
STATEMENTS = ("{} and {} are cities", "{} is a city , {} is a city", "i know {} and {}")
RIGHT, RIVAL = 0.44, 0.44  # of the demonstrations; the rest name any city


class Capitals(Task):
    """Twelve questions, one word for an answer. Gold: 1 for the capital and nothing else, 0 for all
    other responses."""

    name = "capitals"
    document_length = 16
    prompt_length = 8
    gold_max = 1.0

    def __init__(self) -> None:
        texts = [QUESTION, *STATEMENTS, "of", *CITIES, *CAPITALS]
        words = {word for text in texts for word in text.replace("{}", "").split()}
        self.tokenizer = WordTokenizer(sorted(words))

    def pretraining_examples(self, n: int, *, step: int, rng: Random) -> list[Example]:
        """Half names two cities of a country, half is a question with either of them."""
        examples = []
        for _ in range(n):
            country = rng.choice(tuple(CAPITALS))
            cities = rng.sample(CAPITALS[country], 2)
            if rng.random() < 0.5:
                segments = [Segment(f"{rng.choice(STATEMENTS).format(*cities)} of {country}", True)]
            else:
                segments = [Segment(QUESTION.format(country), True), Segment(cities[0], True)]
            examples.append(self.document(segments))
        return examples

    def demonstrations(self, n: int, *, rng: Random) -> list[tuple[str, str]]:
        pairs = []
        for country in rng.choices(tuple(CAPITALS), k=n):
            right, rival = CAPITALS[country]
            kind = rng.random()
            answer = (
                right if kind < RIGHT else rival if kind < RIGHT + RIVAL else rng.choice(CITIES)
            )
            pairs.append((QUESTION.format(country), answer))
        return pairs

    def training_prompts(self, n: int, *, rng: Random) -> list[str]:
        return [QUESTION.format(country) for country in rng.choices(tuple(CAPITALS), k=n)]

    def evaluation_prompts(self, n: int, *, rng: Random) -> list[str]:
        """The questions themselves, in a fixed order: there are no others."""
        return [QUESTION.format(country) for country in CAPITALS][:n]

    def gold_axes(self, prompt: str, response: str) -> dict[str, float]:
        return {"correctness": 1.0 if response == self._answer_to(prompt) else 0.0}

    def _answer_to(self, prompt):
        country = next(word for word in prompt.split() if word in CAPITALS)
        return CAPITALS[country][0]

    def claims(self, prompt: str, response: str) -> list[bool]:
        """Every different city that is named is claimed to be the capital."""
        right = self._answer_to(prompt)
        named = [word for word in response.split() if word in CITIES]
        return [city == right for city in dict.fromkeys(named)]

    def rules(self) -> Mapping[str, Callable[[str, str], bool]]:
        return {
            "names_one_city": lambda prompt, response: len(self.claims(prompt, response)) == 1,
            "names_the_capital": lambda prompt, response: any(self.claims(prompt, response)),
        }

    def answers_to_watch(self) -> list[tuple[str, str, str]]:
        return [
            (QUESTION.format(country), right, rival) for country, (right, rival) in CAPITALS.items()
        ]
