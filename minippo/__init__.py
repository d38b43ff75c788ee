"""minippo: PPO for language models, from a toy GPT to a run of RLHF. A book in the form of code.

Reading order. Start at one_page, which is all of PPO and runs alone; then logprobs. The ground can
wait until a name is met.

    on one page      one_page     PPO for a language model, in half a minute
    ground           errors  interrupts  shapes  masked  settings
    the derivation   logprobs  kl  policy_gradient  reward_to_go  baseline  gae  trpo  ppo
                     ppo_statistics  shaped_reward
    the models       gpt  lora  reward_head  critic_head  tokenizer
    RLHF             sampling  rollout
                     algorithms/   the stages of the derivation as ways to train: one record each
                     stages/       pretrain  sft  preferences  reward  policy  evaluate  optimum
    beside it        tasks/        the worlds that a run can happen in
                     runs/         a run's folder, figures, screen, diagnostics
                     interchange/  models out of a run and into one
                     commands/     what the commands do; train.py is the whole run
    on top           exact/        a world whose responses can all be listed, to check the
                                   derivation against
                     exercises/    what the notebooks ask for; not to be read before
    commands         train_toy  compare  overoptimise  measure  talk  label  evaluate  report
                     export  diagnostics  profile_update: python -m minippo.NAME

Equations are numbered by stage of the derivation: (1.x) in policy_gradient, (2.1) in reward_to_go,
(3.x) in baseline, (4.x) in gae, (5.x) in trpo, (6.x) in ppo and ppo_statistics, (7.1) in
shaped_reward; (0.x) are the tools and losses around them.

The mathematics does not know that there is a transformer, the transformer does not know that there
is reinforcement learning, and only the modules of RLHF know both.
"""

from minippo.interrupts import is_being_run, while_importing

__version__ = "0.6.0"

if is_being_run():  # what is to be run is imported next
    while_importing()
