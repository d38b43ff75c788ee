"""What the figures share. That they are good to look at was judged by eye."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_no_figure_needs_or_touches_pyplot():
    code = (
        "import sys; from minippo.runs import figures; assert 'matplotlib' not in sys.modules; "
        "figures.response_lengths([1], [2], 2); assert 'matplotlib.pyplot' not in sys.modules"
    )
    # a fresh process: other tests may import it
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
