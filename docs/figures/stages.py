"""Makes the figures of the stages' pages: python docs/figures/stages.py [OUT]

They are drawn from exact sums over small worlds, so they come out the same everywhere. The worlds
of stages 1 to 4 are those of python -m minippo.exact with seed 0: one prompt, three tokens, up to
four steps, 31 responses. Each function returns a figure and a line with the numbers that its page
quotes.
"""

import functools
import sys
from pathlib import Path

import torch

from minippo.exact.estimators import bias_and_variance, gradient_samples
from minippo.exact.ladder import (
    advantage_table,
    best_constant,
    make_world,
    minus_constant,
    minus_values,
    reward_functions,
    to_go,
    weighted,
    whole_returns,
)
from minippo.exact.oracle import (
    exact_gradient,
    objective,
    reach_probabilities,
    sequence_kl,
    values_and_action_values,
)
from minippo.exact.surrogates import exact_advantages, exact_surrogate, sampled_batch
from minippo.exact.world import GPTPolicy, TabularPolicy, World
from minippo.ppo import clipped_surrogate_loss, unclipped_surrogate_loss
from minippo.runs.figures.style import BLUE, DARK, DPI, ORANGE, PALE
from minippo.trpo import Effort, flat_gradient, trpo_step

FOLDER = Path(__file__).resolve().parent
KINDS = {"dense": "reward on every token", "outcome-only": "score at the end only"}
SUBTITLE = "medium"


def panels_of(number, *, height=3.3, **options):
    """A figure 8 inches wide, and its panels side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, number, squeeze=False, **options).ravel()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def ladder_world(kind):
    """(world, policy, exact V, exact gradient) of a kind of reward."""
    world, policy, values, _ = make_world(reward_functions(0)[kind], 0)
    return world, policy, values, exact_gradient(world, policy)


# -- stage 0: the tree of states


def stage_0(seed=0):
    world = World(reward_functions(seed)["dense"], response_length=2)
    policy = TabularPolicy(world, generator=torch.Generator().manual_seed(seed))
    logits = policy().detach()
    pi = torch.softmax(logits, dim=-1)
    values, action_values = values_and_action_values(world, logits)
    figure, (axes,) = panels_of(1, height=4)
    axes.axis("off")
    axes.set_xlim(-0.2, 3.1)
    axes.set_ylim(-2.9, 2.5)
    heights = {(): 0.0, (1,): 1.5, (2,): -1.5}
    places = [(len(tokens), heights[tokens]) for _, tokens in world.states]
    for state, (x, y) in enumerate(places):
        for token in range(world.vocab_size):
            child = world.next_state[state, token].item()
            end = places[child] if child >= 0 else (x + 1, y + x * (0.8 - 0.8 * token))
            probability, value = pi[state, token].item(), action_values[state, token].item()
            axes.plot((x, end[0]), (y, end[1]), color=DARK, linewidth=0.6 + 6 * probability)
            chosen = "EOS" if token == 0 else token
            text = rf"$a_{x}$ = {chosen}: $\pi$ = {probability:.2f}, Q = {value:.2f}"
            if child < 0:
                axes.plot(*end, "s", color=ORANGE, markersize=8)
                axes.text(end[0] + 0.06, end[1], text, va="center", fontsize=9)
            else:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                axes.text(x + 0.5, (y + end[1]) / 2, text, ha="center", fontsize=9, bbox=box)
        text, box = f"$s_{x}$\nV = {values[state].item():.2f}", {"boxstyle": "round", "color": BLUE}
        axes.text(x, y, text, color="white", ha="center", va="center", bbox=box)
    axes.text(2, -2.8, "squares: the response is over, V = 0", va="center", ha="center")
    return figure, f"J {objective(world, logits).item():.3f}"


# -- stage 1: what one sample says about the gradient


def stage_1():
    world, policy, _, exact = ladder_world("dense")
    probabilities, samples = gradient_samples(world, policy, weighted(whole_returns))
    length = exact.norm().item()
    along = samples @ exact / length
    spread = ((probabilities * (along - length) ** 2).sum()).sqrt().item()
    total = bias_and_variance(world, policy, weighted(whole_returns), exact)[1]
    figure, (left, right) = panels_of(2, width_ratios=(1.35, 1))
    left.vlines(along, 0, probabilities, color=BLUE, linewidth=2.5)
    left.axhline(0, color=DARK, linewidth=0.8)
    left.axvline(length, color=ORANGE, linestyle="--", linewidth=1.6)
    top = 1.22 * probabilities.max().item()
    left.text(length + 0.15, 0.97 * top, f"mean: {length:.2f}", color=ORANGE, va="top")
    left.set_ylim(0, top)
    left.set_xlabel("estimate, along the true gradient")
    left.set_ylabel("probability of the response")
    left.set_title("What each of the 31 responses says", fontsize=SUBTITLE)
    sizes = [2**k for k in range(15)]
    noise = [(total / n) ** 0.5 for n in sizes]
    right.loglog(sizes, noise, color=BLUE, linewidth=1.8)
    right.axhline(length, color=ORANGE, linestyle="--", linewidth=1.6)
    right.text(2**14, length, "length of the\ntrue gradient", color=ORANGE, ha="right", va="bottom")
    right.text(14, 1.25 * (total / 14) ** 0.5, "root of the\ntotal variance", color=BLUE)
    right.set_xlabel("responses in the batch")
    right.set_title("Noise of a batch", fontsize=SUBTITLE)
    wrong = probabilities[along < 0].sum().item()
    return figure, (
        f"|grad J| {length:.3f}, std along it {spread:.3f}, total variance {total:.1f}, "
        f"P(wrong side) {wrong:.2f}, equal at {total / length**2:.0f} responses"
    )


# -- stage 2: where the variance is, before and after


def variance_by_step(world, policy, weights):
    """Total variance of each token's term, w_t grad log pi(a_t|s_t), [T]. In a table two steps
    share no parameter, so these add up to the total variance of the sum."""
    steps = []
    for step in range(world.response_length):

        def only_this(batch, step=step):
            here = torch.zeros_like(batch.rewards)
            here[:, step] = weights(batch)[:, step]
            return here

        probabilities, samples = gradient_samples(world, policy, weighted(only_this))
        mean = probabilities @ samples
        steps.append((probabilities @ ((samples - mean) ** 2).sum(dim=1)).item())
    return steps


def stage_2():
    titles = KINDS | {"cancelling": "the last token pays\nthe first one back"}
    figure, panels = panels_of(3, height=3.5)
    numbers = []
    for axes, (kind, title) in zip(panels, titles.items(), strict=True):
        world, policy, _, exact = ladder_world(kind)
        for shift, weights, name, colour, hatch in (
            (-0.2, whole_returns, "whole return", DARK, None),
            (0.2, to_go, "reward-to-go", PALE, "////"),
        ):
            steps = variance_by_step(world, policy, weights)
            total = bias_and_variance(world, policy, weighted(weights), exact)[1]
            assert abs(sum(steps) - total) < 1e-9
            axes.bar(
                [t + shift for t in range(len(steps))],
                steps,
                width=0.4,
                color=colour,
                hatch=hatch,
                edgecolor=DARK,
                linewidth=0.8,
                label=f"{name}: {0.0 if total < 5e-4 else total:.3g}",
            )
            numbers.append(f"{kind} {name} {[round(x, 3) for x in steps]}")
        axes.set_xticks(range(world.response_length))
        axes.set_xlabel("token t")
        axes.set_title(title if "\n" in title else f"{title}\n", fontsize=SUBTITLE)
        axes.set_ylim(0, 1.45 * max(axes.get_ylim()[1], 1e-3))
        axes.legend(frameon=False, fontsize=8.5, title="sum over t", title_fontsize=8.5, loc=1)
    panels[0].set_ylabel("variance of the term of token t")
    return figure, "; ".join(numbers)


# -- stage 3: the parabola of a constant baseline


def stage_3():
    figure, panels = panels_of(2)
    numbers = []
    for axes, (kind, title) in zip(panels, KINDS.items(), strict=True):
        world, policy, values, exact = ladder_world(kind)

        def variance(constant, world=world, policy=policy, exact=exact):
            return bias_and_variance(world, policy, weighted(minus_constant(constant)), exact)[1]

        best, mean = best_constant(world, policy).item(), objective(world, policy()).item()
        with_values = bias_and_variance(world, policy, weighted(minus_values), exact, values=values)
        reach = 1.25 * max(best, mean)
        constants = [best + reach * (k / 30 - 1) for k in range(61)]
        curve = [variance(constant) for constant in constants]
        axes.plot(constants, curve, color=DARK, linewidth=1.8)
        axes.axhline(with_values[1], color=BLUE, linestyle="--", linewidth=1.6)
        axes.text(
            constants[-1],
            with_values[1] - 0.02 * max(curve),
            "V(s)",
            color=BLUE,
            ha="right",
            va="top",
        )
        axes.set_ylim(-0.09 * max(curve), max(curve))
        for constant, name, marker, offset, side in (
            (0.0, "none", "o", (-8, -4), "right"),
            (mean, f"mean return\n{mean:.2f}", "s", (0, 30), "center"),
            (best, f"best\n{best:.2f}", "v", (-28, 62), "center"),
        ):
            height = variance(constant)
            axes.plot(constant, height, marker=marker, color=ORANGE, markersize=8)
            point_at(axes, name, (constant, height), offset, side)
            numbers.append(f"{kind} {name}: {height:.2f}".replace("\n", ", "))
        numbers.append(f"{kind} V: {with_values[1]:.2f}")
        axes.set_xlabel("constant b")
        axes.set_title(title, fontsize=SUBTITLE)
    panels[0].set_ylabel("total variance of one response")
    return figure, "; ".join(numbers)


def point_at(axes, text, point, offset, side="left"):
    """Write a name beside a point, with a thin line to it where it is further away."""
    line = {"arrowstyle": "-", "linewidth": 0.8, "shrinkB": 4} if abs(offset[1]) > 12 else None
    axes.annotate(text, point, offset, textcoords="offset points", ha=side, arrowprops=line)


# -- stage 4: bias and variance over lam


def stage_4():
    figure, (left, right) = panels_of(2)
    by_critic = advantage_table(0)["dense"]
    looks = {"exact V": (BLUE, "--", "^"), "wrong V": (ORANGE, "-", "o")}
    for critic, (colour, style, marker) in looks.items():
        lams = [row["lam"] for row in by_critic[critic]]
        for axes, quantity in ((left, "gradient bias"), (right, "gradient variance")):
            numbers = [row[quantity] for row in by_critic[critic]]
            axes.plot(lams, numbers, color=colour, linestyle=style, marker=marker, clip_on=False)
    for axes, heights in ((left, (0.165, 0.012)), (right, (2.62, 1.4))):
        for critic, height in zip(("wrong V", "exact V"), heights, strict=True):
            axes.text(0.42, height, critic, color=looks[critic][0])
        axes.set_xlabel(r"$\lambda$")
        axes.set_ylim(bottom=0)
    left.set_title("Bias of the gradient (largest entry)", fontsize=SUBTITLE)
    right.set_title("Total variance of one response", fontsize=SUBTITLE)
    return figure, "the table of the page"


# -- stage 5: along a step


def stage_5(seed=7, delta=0.1):
    world, policy = gpt_world(seed, n_embd=4)
    parameters, old_logits = list(policy.parameters()), policy().detach()
    tokens = reach_probabilities(world, old_logits).sum().item()
    loss = exact_surrogate(world, policy, old_logits)

    def kl():
        return sequence_kl(world, old_logits, policy()) / tokens

    before = [parameter.detach().clone() for parameter in parameters]
    start_loss, start_objective = loss().item(), objective(world, policy()).item()
    slope = flat_gradient(loss(), parameters)
    # solved to the last digits, so that the figure does not hang on their rounding
    effort = Effort(iterations=100, tolerance=1e-16)
    options = {"parameters": parameters, "delta": delta, "damping": 1e-3, "effort": effort}
    taken = trpo_step(loss=loss, kl=kl, **options)
    step = [(p.detach() - old) / taken for p, old in zip(parameters, before, strict=True)]
    linear = -(slope @ torch.cat([piece.reshape(-1) for piece in step])).item()
    shares, rows = [k / 100 for k in range(101)], []
    with torch.no_grad():
        for share in shares:
            for parameter, old, piece in zip(parameters, before, step, strict=True):
                parameter.copy_(old + share * piece)
            gain = (objective(world, policy()).item() - start_objective) / tokens
            rows.append((start_loss - loss().item(), gain, kl().item()))
    promised, real, kls = zip(*rows, strict=True)
    figure, (left, right) = panels_of(2)
    left.plot(shares, [linear * share for share in shares], color=DARK, linestyle=":")
    left.plot(shares, promised, color=BLUE, linewidth=1.8)
    left.plot(shares, real, color=ORANGE, linewidth=1.8, linestyle="--")
    left.text(0.42, 0.065, r"$-g^\top s$", va="top")
    left.text(0.7, 0.156, "surrogate", color=BLUE, ha="center", va="bottom")
    left.text(0.87, 0.08, "J", color=ORANGE)
    right.plot(shares, kls, color=BLUE, linewidth=1.8)
    right.plot(shares, [delta * share**2 for share in shares], color=DARK, linestyle=":")
    right.axhline(delta, color=ORANGE, linestyle="--", linewidth=1.2)
    right.text(0.6, kls[60], "KL", color=BLUE, ha="right", va="bottom")
    right.text(0.98, -0.03, r"$\frac{1}{2} s^\top F s$", ha="right")
    right.text(0.02, delta, r"$\delta$", color=ORANGE, va="bottom")
    index = round(100 * taken)
    left.plot(taken, promised[index], "o", color=DARK, markersize=7)
    right.plot(taken, kls[index], "o", color=DARK, markersize=7)
    point_at(right, "taken", (taken, kls[index]), (-8, 24), "right")
    point_at(left, "taken", (taken, promised[index]), (-10, 18), "right")
    for axes in (left, right):
        axes.set_xlabel("share of the full step")
    left.set_title("Gain per token", fontsize=SUBTITLE)
    right.set_title("KL(old, new) per token", fontsize=SUBTITLE)
    return figure, (
        f"taken {taken}; at the full step: linear {linear:.3f}, surrogate {promised[-1]:.3f}, "
        f"J {real[-1]:.3f}, KL {kls[-1]:.3f}; at the step taken: surrogate "
        f"{promised[index]:.3f}, J {real[index]:.3f}, KL {kls[index]:.3f}"
    )


def gpt_world(seed, **options):
    """A world with one score at the end, and a one-layer GPT in it."""
    world = World(reward_functions(seed)["outcome-only"], response_length=4)
    generator = torch.Generator().manual_seed(seed)
    return world, GPTPolicy(world, generator=generator, **options)


# -- stage 6: many steps on one batch


def stage_6(seed=0, steps=60):
    figure, (left, right) = panels_of(2)
    looks = {
        "without the clip": (unclipped_surrogate_loss, ORANGE),
        "with the clip": (functools.partial(clipped_surrogate_loss, cliprange=0.2), BLUE),
    }
    numbers = []
    for name, (loss, colour) in looks.items():
        promised, real, kls = gains_on_one_batch(loss, seed, steps)
        left.plot(promised, color=colour, linestyle="--", linewidth=1.6)
        left.plot(real, color=colour, linewidth=1.8)
        right.plot(kls, color=colour, linewidth=1.8)
        right.text(steps, kls[-1], name, color=colour, ha="right", va="bottom")
        top = max(promised[steps // 2 :])
        left.text(steps, top, f"promised, {name}", color=colour, ha="right", va="bottom")
        numbers.append(f"{name}: {promised[-1]:.2f}, {real[-1]:.2f}, {kls[-1]:.2f}")
    left.text(steps, 0.52, "J (solid), without and with", color=DARK, ha="right", va="top")
    left.set_ylim(0, 2.4)
    right.set_ylim(0, 9.5)
    for axes in (left, right):
        axes.set_xlabel("optimiser steps on one batch")
    left.set_title("Gain per response", fontsize=SUBTITLE)
    right.set_title("KL(old, new) per response", fontsize=SUBTITLE)
    return figure, "promised, J and KL at the end; " + "; ".join(numbers)


def gains_on_one_batch(loss, seed, steps):
    """([promised], [J], [KL]), gains since the start, before each of some steps of Adam on a batch
    of 64 responses with exact advantages; promised is the surrogate without a clip."""
    world, policy = gpt_world(seed)
    old_logits = policy().detach()
    index = sampled_batch(world, policy, 64, torch.Generator().manual_seed(seed))
    mask = world.response_mask[index]
    batch = {
        "old_logprobs": world.logprobs(old_logits)[index],
        "advantages": exact_advantages(world, old_logits)[index],
        "response_mask": mask,
    }
    start, tokens_per_row = objective(world, old_logits).item(), mask.sum().item() / len(mask)
    optimizer, rows = torch.optim.Adam(policy.parameters(), lr=1e-2), []
    for _ in range(steps + 1):
        logits = policy()
        logprobs = world.logprobs(logits)[index]
        surrogate = -unclipped_surrogate_loss(logprobs=logprobs, **batch).item() * tokens_per_row
        kl = sequence_kl(world, old_logits, logits).item()
        rows.append((surrogate, objective(world, logits).item() - start, kl))
        optimizer.zero_grad()
        loss(logprobs=logprobs, **batch).backward()
        optimizer.step()
    promised, real, kls = zip(*rows, strict=True)
    return [x - promised[0] for x in promised], real, kls


FIGURES = (stage_0, stage_1, stage_2, stage_3, stage_4, stage_5, stage_6)


def main(folder=FOLDER):
    torch.set_num_threads(1)
    for make in FIGURES:
        figure, numbers = make()
        name = make.__name__.replace("_", "-")
        figure.savefig(Path(folder) / f"{name}.png")
        print(f"{name}: {numbers}")


if __name__ == "__main__":
    main(*sys.argv[1:])
