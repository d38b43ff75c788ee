"""The stages of RLHF. Each module holds its section of the configuration and what the stage does.

optimise.py        one step of an optimiser, and what must be finite for it
pretrain.py        next-token training on a task's text
sft.py             the same on its demonstrations
preferences.py     responses in pairs, and an annotator who chooses
reward.py          the reward model learns what the annotator prefers
policy.py          rollout, rewards, advantages, update; then again
training_state.py  what the rest of the policy's training depends on
evaluate.py        before and after on prompts of their own
optimum.py         how good the best policy would be
"""
