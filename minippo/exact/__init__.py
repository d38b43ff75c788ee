"""A world so small that every response can be listed: what is an estimate elsewhere is a sum here.

    world            the states, the responses, the rewards, and two kinds of policy
    oracle           the objective, V, Q, A, state distribution, entropy, KL, Fisher matrix and the
                     best policy, exactly
    estimators       the exact mean and covariance of any gradient estimator, and bias and variance
                     of advantage estimates
    ladder           the stages of the derivation as estimators, in one table: python -m
                     minippo.exact
    surrogates       the data of one step of stages 5 and 6, exact or sampled
    training         gradient ascent without sampling noise: where does a choice of reward lead?
    groups           all groups of responses, and the mean of what a method does with them
    methods          the stages and PPO's relatives as records: advantages, loss, place of the KL
    first_step       bias, variance, and whom a step favours
    ends             where a method ends
    pairs            losses on infinitely many pairs
    samplers         samples of another policy and their weights; the best of n at its KL
    rare             clip-higher: a rare token's gradient ends, a rare response is kept or not
    long_responses   how much of a score a first token hears of, by lam and critic
    relatives        the rows of the family's table: python -m minippo.exact.family
    qualifications   what the textbooks say and what the sums say: python -m
                     minippo.exact.qualifications

The oracle uses of the derivation only the log-probabilities: it goes backwards through the tree of
states, with sums over the vocabulary. So the one can be checked against the other.
"""
