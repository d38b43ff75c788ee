"""Three hints for each exercise: where to begin, what is easily missed, and all but the answer."""

HINTS: dict[str, tuple[str, str, str]] = {
    "objective": (
        "Two numbers per response: its score after the EOS rule, and the sum over its real tokens "
        "of how much more the policy likes them than the reference does.",
        "torch.where(ended, ...) replaces the scores; torch.where(response_mask, ...) makes the "
        "padding 0 before the sum over a row.",
        "The score of each row minus kl_coef times the row's sum of logprobs - ref_logprobs; the "
        "mean over the rows is the answer.",
    ),
    "token_logprobs": (
        "Position i of the logits says what comes at i + 1. Which positions say what comes in the "
        "response?",
        "log_softmax goes over the vocabulary, the last dimension; gather with the token ids (one "
        "dimension more, and away with it afterwards) picks one number per position.",
        "The logits from prompt_length - 1 up to the last but one, their log_softmax, gathered at "
        "tokens[:, prompt_length:]; torch.where makes the padding 0.",
    ),
    "response_mask": (
        "A slot belongs to the response if no EOS was drawn before it. Before, not at it.",
        "cumsum along a row counts the EOS up to and including a slot; take the slot's own off.",
        "is_eos = tokens == eos_id; the count before a slot is is_eos.cumsum(dim=1) minus is_eos "
        "as numbers; the mask is True where that is 0.",
    ),
    "policy_gradient_loss": (
        "Per token: weight times log-probability. Then a sum along each row, and one mean over "
        "rows. A loss is what is minimised.",
        "The weights are numbers: .detach() them. The padding is chosen away before the sum.",
        "torch.where(response_mask, weights.detach() * logprobs, 0.0), a sum over dim 1, a mean, a "
        "minus.",
    ),
    "advantages": (
        "Two parts: what is paid from each token on, and what was expected there. Make the padding "
        "0 before you sum, and once more at the end.",
        "The sum from a token to the end obeys G_t = r_t + gamma G_{t+1}: go through the columns "
        "from the last to the first, with one running number per row.",
        "running = reward[:, t] * mask[:, t] + gamma * running for t downwards; stack the columns, "
        "subtract the values after a detach, and set what is masked to 0.",
    ),
    "reward_score": (
        "Each text has one score: what the head says at its last real token. With pads on both "
        "sides that is neither the last column nor the number of tokens minus one.",
        "The place of the last True in a row: the largest slot number where the mask is True, or "
        "an argmax of the mask turned round. The loss needs the difference of two scores.",
        "places = (arange(S) * mask).max(dim=1); gather the two scores; the mean over pairs of "
        "-logsigmoid(chosen - rejected), which softplus can write as well.",
    ),
    "value_loss": (
        "V(s_t) is what is expected before token t is drawn: at the position before the token.",
        "The first of these positions is prompt_length - 1, and there are T of them. The mean is "
        "over real tokens only: select with the mask, then average.",
        "head_outputs[:, prompt_length - 1 : prompt_length - 1 + T], minus the targets after a "
        "detach; squared, selected with [response_mask], averaged, halved.",
    ),
    "gae": (
        "Go through the columns from the last to the first with one running number per row. Make "
        "rewards and values 0 in the padding first.",
        "What follows the last token is worth 0: the next value is the values moved one slot to "
        "the left, with a 0 at the end, after the padding was set to 0.",
        "delta = r + gamma * next_value - v; running = delta[:, t] + gamma * lam * running for t "
        "downwards. Where the mask is False, delta has to be 0 too.",
    ),
    "shaped_rewards": (
        "Every real token pays kl_coef times its log-ratio; on top of that the last real token of "
        "each row is paid the score.",
        "The last real token is in slot response_mask.sum(dim=1) - 1. The score is added there, "
        "beside the penalty. Rewards are data: detach.",
        "rewards = torch.where(response_mask, -kl_coef * (logprobs.detach() - ref_logprobs), 0.0); "
        "then rewards[arange(B), last] is raised by the scores.",
    ),
    "kl_estimators": (
        "All three are made of one tensor, d: how much more the policy likes a token than the "
        "reference does. Check the sign of k1 at a token that has become more likely.",
        "d is logprobs - ref_logprobs. In k3 the exponential has -d, the logarithm of the ratio "
        "reference / policy; all three are 0 where d is.",
        "Stack d, d squared over 2 and the third along a new first dimension, and put 0 where the "
        "mask is False with torch.where; nothing is detached.",
    ),
    "fisher_vector_product": (
        "The first derivative of the KL is a vector that depends on theta. Its product with the "
        "given vector is one number, and that number can be differentiated again.",
        "theta.clone().requires_grad_() makes a copy that asks for a gradient. The first call of "
        "torch.autograd.grad needs create_graph=True, or there is nothing left to differentiate.",
        "slope = grad of kl(copy) with a graph; then grad of (slope * vector).sum() to the same "
        "copy. The damping comes last, times the vector.",
    ),
    "clipped_loss": (
        "Per token: a ratio, and the same ratio kept in a range around 1. Each is multiplied by "
        "the advantage, and the objective takes the smaller product.",
        "The ratio is the exponential of logprobs - old_logprobs; torch.clamp keeps it, "
        "torch.minimum compares. A loss is minimised and the objective is not.",
        "The minimum of ratio * A and clamped * A, chosen with [response_mask]; its mean, with a "
        "minus in front. Nothing is detached.",
    ),
    "clip_fraction": (
        "For every token there are two products with the advantage: that of the ratio and that of "
        "the clipped ratio. Compare them.",
        "The ratio is the exponential of a difference of log-probabilities. The comparison gives "
        "bools; keep those of the real tokens.",
        "clipped * advantages < ratio * advantages, chosen with [response_mask], as floats; the "
        "mean.",
    ),
    "optimal_policy": (
        "Take logarithms: a product becomes a sum, and dividing by Z becomes subtracting log Z. "
        "What is left is a softmax over the answers to one prompt.",
        "The log-probability of an answer is the sum over its real tokens. score / kl_coef can be "
        "1,000: never take its exponential yourself.",
        "The masked sum over the last dimension plus scores / kl_coef; log_softmax of that over "
        "the N answers.",
    ),
    "first_ratio": (
        "Only real tokens count. Which numbers do you have for them, and which do you need?",
        "The ratio is the exponential of logprobs - old_logprobs; one that is below 1 is away from "
        "1 as well.",
        "Select the differences with the mask, exp, minus 1, abs, max.",
    ),
    "leave_one_out": (
        "Make one row per prompt first: view(-1, group_size).",
        "The sum of the others is the sum of the row less the own score. How many others are "
        "there?",
        "rows - (rows.sum(dim=1, keepdim=True) - rows) / (group_size - 1), and flatten.",
    ),
    "dpo_loss": (
        "For each pair one number: how much more the policy prefers the chosen response to the "
        "rejected one than the reference does.",
        "It is a difference of two differences of log-probabilities; beta times it is a logit.",
        "h = (chosen - ref_chosen) - (rejected - ref_rejected); the mean of -logsigmoid(beta * h).",
    ),
    "ppo_loss": (
        "Five steps, each of which you have written: shaped rewards, GAE, targets, whitening, the "
        "two losses. What belongs to the rollout has old_ in its name.",
        "Targets are advantages + old_values, made before the advantages are whitened; only "
        "logprobs and values carry a gradient.",
        "clipped loss of the whitened advantages + vf_coef * half the mean squared error of values "
        "from targets, both means over the True tokens.",
    ),
}
