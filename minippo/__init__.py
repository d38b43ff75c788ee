"""minippo: PPO for language models, from a toy GPT to a run of RLHF. A book in the form of code.

Reading order. The ground floor can wait until a name is met; start at logprobs.

    ground floor     errors  shapes  masked  config
    the derivation   logprobs kl policy_gradient reward_to_go baseline gae trpo ppo shaped_reward
    the models       gpt  reward_head  critic_head  tokenizer
    RLHF             rollout train_sft preferences train_reward updates training_state train_policy
                     optimum  evaluate  load  hugging_face
    the whole        train_toy (its flags: command_line; afterwards: export, measure,
                     profile_update)
    beside them      tasks/  runs/
    the wings        exact/: a world whose responses can all be listed, to check the derivation
                     against exercises/: what the notebooks ask for; not to be read before

Equations are numbered by stage of the derivation: (1.x) in policy_gradient, (2.1) in reward_to_go,
(3.x) in baseline, (4.x) in gae, (5.x) in trpo, (6.x) in ppo, (7.1) in shaped_reward; (0.x) are the
tools and losses around them.

The mathematics does not know that there is a transformer, the transformer does not know that there
is reinforcement learning, and only the RLHF rooms know both.
"""
