"""The pure functions of PPO's relatives and variants, in the same form as the ladder's.

reductions  from one number per token to one loss: four ways
ratios      other ways to hold a ratio
kl_losses   a KL to the reference as a loss term: which forms have its gradient
"""
