"""The pure functions of PPO's relatives and variants, in the same form as the ladder's.

groups      what a response is worth beside others to the same prompt
reductions  from one number per token to one loss: four ways
ratios      other ways to hold a ratio
direct      losses on pairs, without a reward model and without sampling
selection   choosing the best of n in the place of learning by gradient
kl_losses   a KL to the reference as a loss term: which forms have its gradient
"""
