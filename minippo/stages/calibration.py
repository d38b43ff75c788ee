"""Does the reward model mean what it says? Its probabilities against how often they come true.

Bradley-Terry training makes sigmoid(difference of raw scores) a probability. On held-out pairs it
can be checked: of the pairs that were given 0.7, the annotator should choose the predicted one in
70 %. Above the line the model is too careful, below it too sure of itself.
"""

from typing import Any

import torch
from torch import Tensor

from minippo.runs.stats import clustered_interval, mean
from minippo.stages.preferences import Comparisons, pair_indices
from minippo.stages.reward import prompt_numbers

BINS = 5  # of equal width between 1/2 and 1


def calibration_table(
    scores: Tensor, comparisons: Comparisons, *, unit: float = 1.0
) -> list[dict[str, float]]:
    """A row for each bin of predicted probabilities with a pair in it.

    scores: raw scores [N,K] of the responses, before zero and unit; unit: what difference makes
    sigmoid(1), which is 1 after training on choices, and the annotator's temperature after training
    on ratings. A pair is predicted for the response that scores higher, so all lie in [1/2, 1].

    predicted     mean probability of the bin
    chosen        share in which the annotator chose the predicted response; equal scores count half
    low, high     its 95 % interval, clustered by prompt
    pairs, prompts how many
    """
    first, second = pair_indices(scores.shape[1])
    margins = (scores[:, first] - scores[:, second]).double().cpu() / unit  # [N,pairs]
    compared = comparisons.labels != 0
    predicted = torch.sigmoid(margins.abs())[compared]
    right = ((1 + margins.sign() * comparisons.labels) / 2)[compared]
    prompts = prompt_numbers(comparisons).unsqueeze(1).expand_as(compared)[compared]
    bins = ((predicted - 0.5) * 2 * BINS).long().clamp(max=BINS - 1)
    return [
        _row(*(x[bins == number].tolist() for x in (predicted, right, prompts)))
        for number in sorted({*bins.tolist()})
    ]


def _row(predicted: list[float], right: list[float], prompts: list[int]) -> dict[str, Any]:
    low, high = clustered_interval(right, prompts)
    return {
        "predicted": mean(predicted),
        "chosen": mean(right),
        "low": low,
        "high": high,
        "pairs": len(right),
        "prompts": len({*prompts}),
    }
