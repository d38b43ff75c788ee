"""Three hints for each exercise."""

import importlib
from pathlib import Path

from minippo import exercises
from minippo.exercises.hints import HINTS


def test_every_exercise_has_its_three_hints():
    folder = Path(exercises.__file__).parent
    for name, hints in HINTS.items():
        assert (folder / f"{name}.py").exists()
        exercise = importlib.import_module(f"minippo.exercises.{name}").exercise
        assert exercise.hints == hints and len({*hints}) == 3
    modules = {path.stem for path in folder.glob("*.py")}
    assert len(HINTS) == 18 and {*HINTS} < modules
