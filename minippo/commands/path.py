"""The path of the policy through the plane of KL and score: looked at now and then during the
training, on the prompts on which the optimum is estimated."""

from collections.abc import Sequence

from minippo.commands.run import Run
from minippo.rollout import Models, ScoreFunction, make_rollout

POINTS = 10  # of a run's path, about
Point = tuple[int, float, float]  # update, KL in nats per response, score


def is_on_path(update: int, updates: int) -> bool:
    """Is this one of the updates after which the policy is looked at? The last is not: the
    evaluation knows better where the policy has ended."""
    return update < updates and update % max(1, updates // POINTS) == 0


def point_of_path(run: Run, models: Models, score_function: ScoreFunction, update: int) -> Point:
    """KL and score of a rollout on the prompts on which the optimum is estimated. Its generator is
    its own: the training draws what it would draw without."""
    config, tokenizer = run.config, run.task.tokenizer
    different = run.task.evaluation_prompts(
        config.eval.eval_prompts, rng=run.rng("evaluation prompts")
    )
    prompts = enough(different[: config.eval.optimum_prompts], config.ppo.batch_size)
    rollout = make_rollout(
        models._replace(critic=None),
        run.prompt_tensors(prompts),
        score_function=score_function,
        config=config.ppo,
        generator=run.generator(f"path {update}", run.device),
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
    )
    kl = rollout.exact_kl.sum().item() / len(rollout)
    return update, kl, rollout.scores.mean().item()


def enough(prompts: Sequence[str], n: int) -> list[str]:
    """The prompts, over and over until there are n: a task with few prompts is asked each of them
    more than once."""
    return [prompts[i % len(prompts)] for i in range(n)]
