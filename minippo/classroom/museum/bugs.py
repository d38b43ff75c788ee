"""Twelve bugs that were really made, each as a small change to this package.

A bug is data: the right lines and the wrong ones. Nothing here is broken when it is imported;
planting.py makes a copy of the package with one bug in it when it is asked to.
"""

from typing import NamedTuple


class Edit(NamedTuple):
    """Lines of a file of the package, right and wrong."""

    file: str
    right: str
    wrong: str


class Bug(NamedTuple):
    """One planted bug, and what there is to learn from it."""

    name: str
    what: str  # what is done wrong
    who: str  # whose it was
    curves: str  # what it does to the curves
    seen_by: str  # the diagnostic that fires, or the test that turns red
    edits: tuple[Edit, ...]


BUGS = (
    Bug(
        "ratio to the reference",
        "The ratio divides by the policy from before the training, not by the one that sampled.",
        "A long article on PPO for language models; beginners' code.",
        "The first minibatch of an update has ratios away from 1, further with every update; more "
        "and more tokens are clipped before anything was learned from them.",
        "P001",
        (
            Edit(
                "algorithms/base.py",
                "    old_logprobs = rollout.old_logprobs\n",
                "    old_logprobs = rollout.ref_logprobs\n",
            ),
        ),
    ),
    Bug(
        "another temperature",
        "Responses are sampled at the temperature, and scored as if it were 1.",
        "rlhf-book (samples at 0.6, log-probabilities at 1).",
        "The log-probabilities of sampling and of scoring differ from the first rollout on; the "
        "KL is wrong by the same amount.",
        "P002",
        (
            Edit(
                "rollout.py",
                "policy.logits(policy.hidden(*batch.whole(), read=read)) / temperature\n",
                "policy.logits(policy.hidden(*batch.whole(), read=read))\n",
            ),
            Edit(
                "rollout.py",
                "    return policy.logits(hidden) / temperature, zero_padding",
                "    return policy.logits(hidden), zero_padding",
            ),
        ),
    ),
    Bug(
        "reference off by one",
        "The reference's log-probabilities are read one position late.",
        "The missing shift by one of many tutorials, here in one of two places.",
        "The KL of the samples starts high instead of at 0, and disagrees with the exact KL.",
        "P003",
        (
            Edit(
                "rollout.py",
                "        ref_logprobs=response_logprobs(ref_logits, batch),\n",
                "        ref_logprobs=response_logprobs(ref_logits.roll(-1, dims=1), batch),\n",
            ),
        ),
    ),
    Bug(
        "EOS is not learned",
        "The loss of the supervised stages leaves EOS out, as it does where EOS is used as PAD and "
        "PAD is masked.",
        "Every collator that masks PAD, with PAD set to EOS.",
        "No response ends; all have the full length, and all get the score of those that do not "
        "end.",
        "P005",
        (
            Edit("tasks/base.py", "[*is_target, True])", "[*is_target, False])"),
            Edit(
                "tasks/base.py",
                "[False] * len(read) + [True] * len(learned))",
                "[False] * len(read) + [True] * (len(learned) - 1) + [False])",
            ),
        ),
    ),
    Bug(
        "critic is not trained",
        "The critic's parameters were never given to the optimiser.",
        "An old favourite wherever two models share one optimiser.",
        "The value loss does not fall, and the explained variance stays where it was.",
        "P006",
        (
            Edit(
                "algorithms/ppo.py",
                "[adam(config, policy=self.policy, critic=self.critic)]",
                "[adam(config, policy=self.policy)]",
            ),
        ),
    ),
    Bug(
        "old policy is the present one",
        "The old log-probabilities are taken anew in every minibatch, so each ratio is 1.",
        "open-instruct, the former ppo2.py, in its first pass over a batch.",
        "Nothing is ever clipped, however often the batch is used.",
        "P007",
        (
            Edit(
                "algorithms/base.py",
                "    old_logprobs = rollout.old_logprobs\n",
                "    old_logprobs = logprobs.detach()\n",
            ),
        ),
    ),
    Bug(
        "objective taken for a loss",
        "The mean of min(ratio A, clipped ratio A) is minimised: the sign is missing.",
        "A dialogue about PPO, further up in the same text it is right.",
        "Score and gold fall from the first update on.",
        "P014",
        (
            Edit(
                "algorithms/ppo.py",
                '            "policy_loss": self.surrogate(',
                '            "policy_loss": -self.surrogate(',
            ),
        ),
    ),
    Bug(
        "score read at the first token",
        "The reward model is read at the first position, where an encoder has its [CLS].",
        "Heads carried over from BERT; a text that counts BERT among language models.",
        "The reward model is hardly better than a coin; the policy learns nothing from it.",
        "tests/test_reward_head.py::test_the_score_is_the_head_at_the_last_real_token",
        (
            Edit(
                "reward_head.py",
                "        last = (rows.unsqueeze(1), last_real_token(tokens, mask).unsqueeze(1))\n",
                "        last = (rows.unsqueeze(1), torch.zeros_like(rows).unsqueeze(1))\n",
            ),
        ),
    ),
    Bug(
        "KL with the sign turned",
        "The KL is added to the reward, and not taken from it.",
        "rlhf-book (k1), and an overview that says that it is added.",
        "The KL is paid for: it grows faster than the score, and goes on when the score has "
        "stopped.",
        "P008",
        (
            Edit(
                "shaped_reward.py",
                "values=-kl_coef * (old_logprobs - ref_logprobs)",
                "values=kl_coef * (old_logprobs - ref_logprobs)",
            ),
        ),
    ),
    Bug(
        "whitening keeps the mean",
        "The mean is added back after the advantages were divided by their standard deviation.",
        "torchtune, whiten(shift_mean=True).",
        "Hardly anything in the score: once the critic is right the advantages have a mean near 0. "
        "That is what tests are for.",
        "tests/test_masked.py::test_whitened_values_have_mean_0_and_std_1",
        (
            Edit(
                "masked.py",
                "    return (_centred(wide, mask) / std).to(values.dtype)\n\n\n"
                "def scale_to_unit_std(",
                "    centred = _centred(wide, mask)\n"
                "    mean = masked_mean(values=wide, mask=mask)\n"
                "    return zero_padding(values=centred / std + mean, mask=mask).to(values.dtype)"
                "\n\n\n"
                "def scale_to_unit_std(",
            ),
        ),
    ),
    Bug(
        "value after the end",
        "What the critic says behind the last token is counted like a reward.",
        "minRLHF, buffer.py.",
        "The advantages of last tokens hold the critic's own guess; it follows itself.",
        "tests/test_gae.py::test_td_residuals_by_hand",
        (
            Edit("gae.py", "    values = zero_padding(values=values, mask=response_mask)\n", ""),
            Edit(
                "rollout.py",
                "        values=values, mask=batch.response_mask if value_mask is None else "
                "value_mask\n",
                "        values=values, mask=torch.ones_like(batch.response_mask)\n",
            ),
        ),
    ),
    Bug(
        "advantage without a return",
        "The advantage is the reward of one token less the value, and no return.",
        "The pseudocode of a long article on PPO, and a dialogue about it.",
        "Tokens before the last learn nothing of the score; it rises late and less.",
        "tests/test_gae.py::test_gae_by_hand",
        (
            Edit(
                "gae.py",
                "        advantages[:, t] = running\n    return advantages\n",
                "        advantages[:, t] = running\n"
                "    return zero_padding(values=rewards - values, mask=response_mask)\n",
            ),
        ),
    ),
)
